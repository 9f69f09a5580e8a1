//! What can still be read of sled's log where sled itself makes nothing of it: every message that is whole, wherever it lies, and of
//! what is by a key the newest. sled gives all of it up for one page that it misses, and leaves out what lies behind the first tear.
//! What of it is worth anything, whoever asks says: the keys of the records do. What was removed is not told apart: its key is gone. It
//! changes nothing in the log.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use sled::IVec;

use super::segments::{HEADER_BYTES, Head, checked_bytes, message, read_into, varint};
use super::tree::{SEGMENT_BYTES, prefix};
use crate::store::StoreError;

const SIZE: u64 = SEGMENT_BYTES as u64;
/// The kinds of messages that say what a page of the tree holds, and how that changes.
pub(super) const NODE: u8 = 8;
const LINK: u8 = 10;
/// What a node is that holds entries, and what a change is that adds one.
const LEAF: u8 = 0;
const SET: u8 = 0;
/// How many bytes are checked in vain in a segment, as a multiple of its size, before what is left of it is given up: what is sealed
/// looks like noise, and takes some fifty times. What was made for it would take a million times.
const VAIN_SIZES_MAX: u64 = 256;
/// What is given up where the disk cannot read.
const BLOCK_BYTES: usize = 4096;

/// What is newest by a key.
struct Newest {
    /// Where it was said in the order of all.
    lsn: u64,
    /// Where the value lies in the file.
    offset: u64,
    length: usize,
}

/// Of each page, with what all of its keys begin, and since when. It is not said again with each of them.
type Prefixes = HashMap<u64, Vec<(u64, Vec<u8>)>>;

/// What is known of a key of the log.
#[derive(Debug, Clone, Copy)]
pub(super) enum LogKey<'a> {
    Whole(&'a [u8]),
    /// Its end: with what it begins only the nodes of its page say.
    End(&'a [u8]),
}

/// Says by which key something of the log is kept, of its own key and its value; none: it is not.
pub(super) type Keep<'a> = &'a dyn Fn(LogKey<'_>, &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

/// What can be read of a log: records, their values and the names of namespaces, as far as they are kept. Takes memory for each of
/// them, and none for what they hold: that stays where it is.
pub(super) struct Carved {
    log: File,
    newest: BTreeMap<Vec<u8>, Newest>,
    /// How much of the log was not looked through, in bytes.
    pub(super) skipped_bytes: u64,
}

impl Carved {
    /// Looks through a log.
    pub(super) fn from(log: File, keep: Keep<'_>) -> Result<Self, StoreError> {
        let reading = |error: io::Error| StoreError::io("read what is left of its records", error);
        let prefixes = prefixes(&log).map_err(reading)?;
        let mut newest: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
        let mut noted = Ok(());
        let skipped_bytes = each_message(&log, &mut |found| {
            let part = |range: &Range<usize>| found.segment.get(range.clone()).unwrap_or_default();
            // Whether it is kept.
            let mut note = |key: LogKey<'_>, value: &Range<usize>| {
                if noted.is_err() {
                    return false;
                }
                match keep(key, part(value)) {
                    Ok(Some(key)) => {
                        if newest.get(&key).is_none_or(|known| known.lsn <= found.lsn) {
                            let one = Newest {
                                lsn: found.lsn,
                                offset: found.offset.saturating_add(value.start as u64),
                                length: value.len(),
                            };
                            newest.insert(key, one);
                        }
                        true
                    }
                    Ok(None) => false,
                    Err(error) => {
                        noted = Err(error);
                        false
                    }
                }
            };
            let whole = |prefix: &[u8], end: &[u8]| Some([prefix, end].concat()).filter(|key| is_known(key));
            match found.head.kind {
                NODE => {
                    if let Some(node) = Node::parse(found) {
                        for (end, value) in node.entries {
                            if let Some(key) = whole(node.prefix, part(&end)) {
                                note(LogKey::Whole(&key), &value);
                            }
                        }
                    }
                }
                LINK => {
                    let Some((end, value)) = link(found) else { return };
                    // A record says itself in which slot its key is, and that whose it is.
                    if note(LogKey::End(part(&end)), &value) {
                        return;
                    }
                    let known = prefixes.get(&found.head.page).and_then(|known| {
                        let before = known.iter().rev().find(|(since, _)| *since <= found.lsn);
                        before.or(known.first())
                    });
                    // Of a page that no whole node says anything of it may be all.
                    let prefix = known.map_or(&b""[..], |(_, prefix)| prefix.as_slice());
                    if let Some(key) = whole(prefix, part(&end)) {
                        note(LogKey::Whole(&key), &value);
                    }
                }
                _ => {}
            }
        })
        .map_err(reading)?;
        noted?;
        Ok(Self {
            log,
            newest,
            skipped_bytes,
        })
    }

    /// What is by a key; none: nothing, or the disk does not read it any more.
    pub(super) fn get(&self, key: &[u8]) -> Option<IVec> {
        let Newest { offset, length, .. } = self.newest.get(key)?;
        let mut value = vec![0; *length];
        self.log.read_exact_at(&mut value, *offset).ok()?;
        Some(value.into())
    }

    /// The keys that begin with this one.
    pub(super) fn keys<'a>(&'a self, with: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let from = self.newest.range(with.to_vec()..);
        from.map(|(key, _)| key.as_slice())
            .take_while(move |key| key.starts_with(with))
    }
}

fn prefixes(log: &File) -> io::Result<Prefixes> {
    let mut prefixes = Prefixes::new();
    each_message(log, &mut |found| {
        let Some(node) = (found.head.kind == NODE).then(|| Node::parse(found)).flatten() else {
            return;
        };
        let known = prefixes.entry(found.head.page).or_default();
        known.push((found.lsn, node.prefix.to_vec()));
    })?;
    for known in prefixes.values_mut() {
        // They lie in the file in any order.
        known.sort_unstable();
        known.dedup_by(|(_, later), (_, before)| later == before);
    }
    Ok(prefixes)
}

/// Whether it is the key of a record, of a part of a value or of the name of a namespace.
fn is_known(key: &[u8]) -> bool {
    match key.first() {
        Some(&prefix::RECORD) => key.len() == 50,
        Some(&prefix::CHUNK) => key.len() == 17,
        Some(&prefix::NAMESPACE) => key.len() == 18,
        _ => false,
    }
}

/// A whole message.
struct Message<'a> {
    segment: &'a [u8],
    /// Where the segment lies in the file.
    offset: u64,
    head: Head,
    lsn: u64,
}

/// Shows each whole message, and says how many bytes were given up.
fn each_message(log: &File, show: &mut dyn FnMut(&Message<'_>)) -> io::Result<u64> {
    let mut segment = vec![0; SEGMENT_BYTES];
    let mut skipped_bytes = 0_u64;
    for index in 0..log.metadata()?.len().div_ceil(SIZE) {
        let offset = index.saturating_mul(SIZE);
        let length = read(log, offset, &mut segment);
        let segment = segment.get(..length).unwrap_or_default();
        let (mut at, mut vain_bytes) = (HEADER_BYTES, 0_u64);
        while at < segment.len() {
            if vain_bytes > VAIN_SIZES_MAX.saturating_mul(SIZE) {
                skipped_bytes = skipped_bytes.saturating_add(segment.len().saturating_sub(at) as u64);
                break;
            }
            let Some(head) = message(segment, at) else {
                // What is behind damage begins somewhere.
                vain_bytes = vain_bytes.saturating_add(checked_bytes(segment, at) as u64);
                at = at.saturating_add(1);
                continue;
            };
            // What a segment held before it was used again may still lie behind what it holds now.
            let lsn = head.number.saturating_mul(SIZE).saturating_add(at as u64);
            at = head.end;
            show(&Message {
                segment,
                offset,
                head,
                lsn,
            });
        }
    }
    Ok(skipped_bytes)
}

/// Reads a segment, with zeros for what the disk does not read.
fn read(log: &File, offset: u64, segment: &mut [u8]) -> usize {
    if let Ok(length) = read_into(log, offset, segment) {
        return length;
    }
    let mut at = offset;
    for block in segment.chunks_mut(BLOCK_BYTES) {
        let length = read_into(log, at, block).unwrap_or(0);
        block.get_mut(length..).unwrap_or_default().fill(0);
        at = at.saturating_add(BLOCK_BYTES as u64);
    }
    segment.len()
}

/// A node of the tree, with its entries if it is a leaf: where their keys, less the prefix, and their values lie.
struct Node<'a> {
    prefix: &'a [u8],
    entries: Vec<(Range<usize>, Range<usize>)>,
}

impl<'a> Node<'a> {
    fn parse(found: &Message<'a>) -> Option<Self> {
        let mut cursor = Cursor::of(found);
        let (_next, _merging_child) = (cursor.number()?, cursor.number()?);
        let (_merging, prefix_bytes) = (cursor.byte()?, cursor.byte()?);
        let (low, _high) = (cursor.bytes()?, cursor.bytes()?);
        let prefix = found.segment.get(low)?.get(..usize::from(prefix_bytes))?;
        let mut entries = Vec::new();
        if cursor.byte()? == LEAF {
            let count = cursor.number()?;
            let keys: Vec<Range<usize>> = (0..count).map(|_| cursor.bytes()).collect::<Option<_>>()?;
            for key in keys {
                entries.push((key, cursor.bytes()?));
            }
        }
        Some(Self { prefix, entries })
    }
}

/// Where the key, less the prefix, and the value of a change lie.
fn link(found: &Message<'_>) -> Option<(Range<usize>, Range<usize>)> {
    let mut cursor = Cursor::of(found);
    (cursor.byte()? == SET).then_some(())?;
    Some((cursor.bytes()?, cursor.bytes()?))
}

/// Goes through the body of a message.
struct Cursor<'a> {
    segment: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn of(found: &Message<'a>) -> Self {
        Self {
            segment: found.segment,
            at: found.head.body,
            end: found.head.end,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.segment.get(self.at..self.end)?.first().copied()?;
        self.at = self.at.checked_add(1)?;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = varint(self.segment.get(self.at..self.end)?)?;
        self.at = self.end.checked_sub(rest.len())?;
        Some(number)
    }

    fn bytes(&mut self) -> Option<Range<usize>> {
        let length = usize::try_from(self.number()?).ok()?;
        let from = self.at;
        self.at = from.checked_add(length).filter(|end| *end <= self.end)?;
        Some(from..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message for a segment, all numbers of which are small.
    fn made(kind: u8, number: u8, page: u8, body: &[u8]) -> Vec<u8> {
        assert!(body.len() <= 240 && number <= 240 && page <= 240);
        let head = [kind, body.len() as u8, number, page];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(&head);
        [&(!hasher.finalize()).to_le_bytes()[..], &head, body].concat()
    }

    /// A leaf without entries, the keys of which begin with all of this.
    fn node(number: u8, page: u8, prefix: &[u8]) -> Vec<u8> {
        let length = prefix.len() as u8;
        let body = [&[0, 0, 0, length, length][..], prefix, &[0, LEAF, 0]].concat();
        made(NODE, number, page, &body)
    }

    fn set(number: u8, page: u8, end: &[u8], value: &[u8]) -> Vec<u8> {
        let (key, held) = ([SET, end.len() as u8], [value.len() as u8]);
        made(LINK, number, page, &[&key[..], end, &held, value].concat())
    }

    /// A log of these segments.
    fn log(segments: &[Vec<u8>]) -> File {
        let log = tempfile::tempfile().unwrap();
        for (offset, segment) in (0..).step_by(SEGMENT_BYTES).zip(segments) {
            log.write_all_at(segment, offset + HEADER_BYTES as u64).unwrap();
        }
        log.set_len(SIZE * segments.len() as u64).unwrap();
        log
    }

    #[test]
    fn what_keys_begin_with_is_known_by_when_it_was_said_and_not_by_where_that_lies() {
        let log = log(&[node(3, 7, b"rm"), node(2, 7, b"rm"), node(1, 7, b"r"), node(1, 8, b"c")]);
        let known = prefixes(&log).unwrap();
        let at = |number: u64| number * SIZE + HEADER_BYTES as u64;
        assert_eq!(known[&7], [(at(1), b"r".to_vec()), (at(2), b"rm".to_vec())]);
        assert_eq!(known[&8], [(at(1), b"c".to_vec())]);
    }

    #[test]
    fn changes_of_a_page_without_a_whole_node_are_kept_by_what_they_say_themselves() {
        let (place, namespace) = ([5; 49], [b'n'; 18]);
        let log = log(&[
            set(1, 7, &place[20..], b"a record"),
            set(2, 7, &namespace, b"a name"),
            set(3, 7, b"of another kind", b"nothing"),
        ]);
        let keep = |key: LogKey<'_>, value: &[u8]| {
            Ok(match key {
                LogKey::End(end) => (value == b"a record").then(|| [&b"kept "[..], end].concat()),
                LogKey::Whole(key) => Some(key.to_vec()),
            })
        };
        let carved = Carved::from(log, &keep).unwrap();
        let value = |key: &[u8]| carved.get(key).map(|value| value.to_vec());
        assert_eq!(value(&[&b"kept "[..], &place[20..]].concat()).unwrap(), b"a record");
        assert_eq!(value(&namespace).unwrap(), b"a name");
        assert_eq!(carved.newest.len(), 2);
    }

    #[test]
    fn a_log_that_is_made_to_be_checked_for_ever_is_given_up_in_parts() {
        let log = tempfile::tempfile().unwrap();
        // A kind and a length of half a megabyte at every second byte.
        log.write_all_at(&[8, 0xfa].repeat(SEGMENT_BYTES / 2), 0).unwrap();
        let carved = Carved::from(log, &|_, _| Ok(None)).unwrap();
        assert!(carved.skipped_bytes > SIZE / 2, "{}", carved.skipped_bytes);
        // What is sealed is looked through.
        let log = tempfile::tempfile().unwrap();
        let mut noise = vec![0; SEGMENT_BYTES];
        aral_runtime::entropy::fill(&mut noise).unwrap();
        log.write_all_at(&noise, 0).unwrap();
        assert_eq!(Carved::from(log, &|_, _| Ok(None)).unwrap().skipped_bytes, 0);
    }
}
