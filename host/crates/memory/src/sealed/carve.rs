//! What can still be read of sled's log where sled itself makes nothing of it: every message that is whole, wherever it lies, and of
//! each key the newest. sled gives all of it up for one page that it misses. Nothing here says what of it is worth anything: the keys of
//! the records do. It changes nothing in the log.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::segments::{HEADER_BYTES, Head, message, read_into, varint};
use super::tree::{SEGMENT_BYTES, Tree, prefix};
use crate::store::StoreError;

const SIZE: u64 = SEGMENT_BYTES as u64;
/// The kinds of messages that say what a page of the tree holds, and how that changes.
const NODE: u8 = 8;
const LINK: u8 = 10;
/// What a node is that holds entries, and what a change is.
const LEAF: u8 = 0;
const SET: u8 = 0;
const REMOVE: u8 = 1;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;
/// What is given up where the disk cannot read.
const BLOCK_BYTES: usize = 4096;

/// What is known of a key.
struct Newest {
    /// Where it was said in the order of all.
    lsn: u64,
    /// Where the value lies in the file; none: it was removed.
    value: Option<(u64, usize)>,
}

/// Of each page, with what all of its keys begin, and since when. It is not said again with each of them.
type Prefixes = HashMap<u64, Vec<(u64, Vec<u8>)>>;

/// Puts what can be read of a log into a database: records, their values and the names of namespaces, each if `is_wanted` says so
/// of its key. Takes memory for each key.
pub(super) fn carve(log: &File, into: &Tree, is_wanted: &dyn Fn(&[u8]) -> bool) -> Result<(), StoreError> {
    let reading = |error: io::Error| StoreError::io("read what is left of its records", error);
    let newest = newest(log).map_err(reading)?;
    let (mut together, mut bytes) = (Vec::new(), 0_usize);
    for (key, Newest { value, .. }) in newest {
        let Some((offset, length)) = value.filter(|_| is_wanted(&key)) else {
            continue;
        };
        let mut value = vec![0; length];
        if log.read_exact_at(&mut value, offset).is_err() {
            // A disk that has just read it.
            continue;
        }
        bytes = bytes.saturating_add(key.len()).saturating_add(length);
        together.push((key, value));
        if bytes > BATCH_BYTES {
            put(into, std::mem::take(&mut together));
            bytes = 0;
        }
    }
    put(into, together);
    Ok(())
}

/// Puts entries into a database that may itself be damaged: where one does not go in, the others do.
fn put(into: &Tree, entries: Vec<(Vec<u8>, Vec<u8>)>) {
    let mut all = sled::Batch::default();
    for (key, value) in &entries {
        all.insert(key.as_slice(), value.as_slice());
    }
    if into.apply(all).is_ok() {
        return;
    }
    for (key, value) in entries {
        let mut one = sled::Batch::default();
        one.insert(key, value);
        let _or_it_is_missing = into.apply(one);
    }
}

fn newest(log: &File) -> io::Result<BTreeMap<Vec<u8>, Newest>> {
    let mut prefixes = Prefixes::new();
    each_message(log, &mut |found| {
        let Some(node) = (found.head.kind == NODE).then(|| Node::parse(found)).flatten() else {
            return;
        };
        let known = prefixes.entry(found.head.page).or_default();
        if known.last().is_none_or(|(_, last)| last != node.prefix) {
            known.push((found.lsn, node.prefix.to_vec()));
        }
    })?;
    prefixes.values_mut().for_each(|known| known.sort_unstable());
    let mut newest: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
    each_message(log, &mut |found| {
        let mut note = |prefix: &[u8], key: Range<usize>, value: Option<Range<usize>>| {
            let key = [prefix, found.segment.get(key).unwrap_or_default()].concat();
            let is_newer = newest.get(&key).is_none_or(|known| known.lsn <= found.lsn);
            if is_known(&key) && is_newer {
                let lsn = found.lsn;
                let value = value.map(|value| (found.offset.saturating_add(value.start as u64), value.len()));
                newest.insert(key, Newest { lsn, value });
            }
        };
        match found.head.kind {
            NODE => {
                if let Some(node) = Node::parse(found) {
                    node.entries
                        .into_iter()
                        .for_each(|(key, value)| note(node.prefix, key, Some(value)));
                }
            }
            LINK => {
                let prefix = prefixes.get(&found.head.page).and_then(|known| {
                    let before = known.iter().rev().find(|(since, _)| *since <= found.lsn);
                    before.or(known.first())
                });
                if let (Some((_, prefix)), Some((key, value))) = (prefix, link(found)) {
                    note(prefix, key, value);
                }
            }
            _ => {}
        }
    })?;
    Ok(newest)
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

fn each_message(log: &File, show: &mut dyn FnMut(&Message<'_>)) -> io::Result<()> {
    let mut segment = vec![0; SEGMENT_BYTES];
    for index in 0..log.metadata()?.len().div_ceil(SIZE) {
        let offset = index.saturating_mul(SIZE);
        let length = read(log, offset, &mut segment);
        let segment = segment.get(..length).unwrap_or_default();
        let mut at = HEADER_BYTES;
        while at < segment.len() {
            let Some(head) = message(segment, at) else {
                // What is behind damage begins somewhere.
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
    Ok(())
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

/// Where the key, less the prefix, and the value of a change lie; no value: it was removed.
fn link(found: &Message<'_>) -> Option<(Range<usize>, Option<Range<usize>>)> {
    let mut cursor = Cursor::of(found);
    match cursor.byte()? {
        SET => Some((cursor.bytes()?, Some(cursor.bytes()?))),
        REMOVE => Some((cursor.bytes()?, None)),
        _ => None,
    }
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
