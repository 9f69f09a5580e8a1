//! sled's file as it lies on the disk, read before sled opens it: whether all is whole that sled is about to replay. Below the
//! end of what it believes to be written sled leaves out the rest of a segment where a message is torn, and says nothing. It
//! changes nothing: at most it writes once more what is there.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use cap_std::fs::Dir;

use super::file::{open_file, open_to_read};
use super::tree::{self, SEGMENT_BYTES};

const SIZE: u64 = SEGMENT_BYTES as u64;
pub(super) const HEADER_BYTES: usize = 20;
/// A segment ends where fewer bytes are left: the longest head of a message.
const HEAD_BYTES_MAX: usize = 32;
/// The kind of the message that fills up a segment.
const CAP: u8 = 2;
/// Every kind there is, but that of what is not whole.
const KINDS: std::ops::RangeInclusive<u8> = 1..=11;
/// Threads that read segments. Opening a store must not take all processors of a large machine.
const READERS_MAX: usize = 8;
/// What sled's snapshots are called, before the number that says up to where they have the log.
const SNAPSHOT: &str = "snap.";

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Where its messages lie in the order of all; a multiple of the size of a segment.
    lsn: u64,
    /// Up to where sled believed everything to be on the disk when the segment was begun.
    stable: u64,
}

impl Header {
    /// None: sled does not take it for one either.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        if !u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
            return None;
        }
        let (lsn, stable) = rest.split_first_chunk::<8>()?;
        let number = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes) ^ i64::MAX;
        let lsn = u64::try_from(number(lsn)).ok().filter(|lsn| lsn.is_multiple_of(SIZE))?;
        // Before the first byte was written it was -1.
        let stable = u64::try_from(number(stable.first_chunk()?)).unwrap_or(0);
        Some(Self { lsn, stable })
    }

    fn read(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether all is whole that sled replays when it opens the database of a store that was closed. Where it cannot be told it is
/// not: then the slots have to tell.
pub(super) fn are_whole(dir: &Dir) -> bool {
    let whole = || -> io::Result<bool> {
        let file = open_to_read(dir, tree::file())?;
        tree::lock_when_closed(&file)?;
        is_whole(&file, newest_snapshot(dir)?)
    };
    whole().unwrap_or_else(|error| {
        tracing::warn!(%error, "the database of the store cannot be looked at before it is opened");
        false
    })
}

/// Writes once more what sled is about to replay, after a sync that failed: the system may show what the disk does not have, and
/// count it as written. Nothing may be built on that. It is on stable storage when sled has opened the file.
pub(super) fn write_again(dir: &Dir) -> io::Result<()> {
    let file = open_file(dir, tree::file())?;
    tree::lock_when_closed(&file)?;
    write_again_from(&file, newest_snapshot(dir)?)
}

fn write_again_from(file: &File, snapshot: u64) -> io::Result<()> {
    let replayed = snapshot - snapshot % SIZE;
    let mut segment = vec![0; SEGMENT_BYTES];
    for index in 0..file.metadata()?.len().div_ceil(SIZE) {
        let offset = index.saturating_mul(SIZE);
        if Header::read(file, offset)?.is_some_and(|header| header.lsn >= replayed) {
            let length = read_into(file, offset, &mut segment)?;
            file.write_all_at(segment.get(..length).unwrap_or_default(), offset)?;
        }
    }
    Ok(())
}

/// Up to where the newest snapshot has the log: what is below is not replayed. sled takes the last one by name.
fn newest_snapshot(dir: &Dir) -> io::Result<u64> {
    let mut newest = 0;
    for entry in dir.read_dir(tree::NAME)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(SNAPSHOT));
        let lsn = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        newest = newest.max(lsn.unwrap_or(0));
    }
    Ok(newest)
}

fn is_whole(file: &File, snapshot: u64) -> io::Result<bool> {
    let begin = |lsn: u64| lsn - lsn % SIZE;
    let replayed = begin(snapshot);
    let mut stable = replayed;
    let mut segments = Vec::new();
    for index in 0..file.metadata()?.len().div_ceil(SIZE) {
        let offset = index.saturating_mul(SIZE);
        let header = Header::read(file, offset)?;
        if let Some(header) = header.filter(|header| header.lsn >= replayed) {
            stable = stable.max(header.stable);
        }
        segments.push((offset, header));
    }
    // From here on sled looks for the end of what was written, and takes the first tear for that.
    let replayed = replayed..begin(stable);
    let is_read = |header: &Option<Header>| header.is_none_or(|header| replayed.contains(&header.lsn));
    segments.retain(|(_, header)| is_read(header));
    are_all_whole(file, &segments, &replayed)
}

/// Segments by where they lie, each with its header if it has one.
type Segments = [(u64, Option<Header>)];

fn are_all_whole(file: &File, segments: &Segments, replayed: &Range<u64>) -> io::Result<bool> {
    let look = |part: &Segments| -> io::Result<bool> {
        let mut segment = vec![0; if part.is_empty() { 0 } else { SEGMENT_BYTES }];
        for (offset, header) in part {
            let length = read_into(file, *offset, &mut segment)?;
            let found = segment.get(..length).unwrap_or_default();
            let is_whole = match header {
                Some(header) => is_whole_to_its_end(found, header.lsn / SIZE),
                None => is_free(found, replayed),
            };
            if !is_whole {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // sled reads the same once more: together they must not take twice as long.
    let readers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let each = segments.len().div_ceil(readers.min(READERS_MAX)).max(1);
    std::thread::scope(|scope| {
        let mut reading = Vec::new();
        for part in segments.chunks(each) {
            let reader = std::thread::Builder::new().name("aral-store-read".to_owned());
            reading.push(reader.spawn_scoped(scope, move || look(part))?);
        }
        let gone = || Err(io::Error::other("a thread that reads is gone"));
        let parts = reading
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| gone()));
        parts
            .collect::<io::Result<Vec<bool>>>()
            .map(|whole| !whole.contains(&false))
    })
}

pub(super) fn read_into(file: &File, offset: u64, segment: &mut [u8]) -> io::Result<usize> {
    let mut length = 0_usize;
    loop {
        let rest = segment.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, offset.saturating_add(length as u64)) {
            Ok(0) => return Ok(length),
            Ok(more) => length = length.saturating_add(more),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a segment without a header, which sled takes for one that is free, is so: it was never used, or filled with zeros
/// since, or what was in it is reached through the snapshot.
fn is_free(segment: &[u8], replayed: &Range<u64>) -> bool {
    let lsn = || message(segment, HEADER_BYTES).and_then(|first| first.number.checked_mul(SIZE));
    segment.iter().all(|byte| *byte == 0) || lsn().is_some_and(|lsn| lsn < replayed.start)
}

/// Whether all messages are whole of a segment that was written to its end.
fn is_whole_to_its_end(segment: &[u8], number: u64) -> bool {
    let mut at = HEADER_BYTES;
    while at <= SEGMENT_BYTES - HEAD_BYTES_MAX {
        match message(segment, at).filter(|found| found.number == number) {
            Some(found) if found.kind == CAP => return true,
            Some(found) => at = found.end,
            None => return false,
        }
    }
    true
}

/// What a message begins with: a checksum of all that follows it, its kind, the length of its body, the number of the segment
/// that it was written for, and that of its page.
#[derive(Debug)]
pub(super) struct Head {
    crc: u32,
    pub(super) kind: u8,
    pub(super) number: u64,
    pub(super) page: u64,
    /// Where its body begins and ends.
    pub(super) body: usize,
    pub(super) end: usize,
}

impl Head {
    /// None: it does not fit.
    fn parse(segment: &[u8], at: usize) -> Option<Self> {
        let (crc, rest) = segment.get(at..)?.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first()?;
        let (length, rest) = varint(rest)?;
        let (number, rest) = varint(rest)?;
        let (page, rest) = varint(rest)?;
        let body = segment.len().checked_sub(rest.len())?;
        Some(Self {
            crc: u32::from_le_bytes(*crc),
            kind: *kind,
            number,
            page,
            body,
            end: body.checked_add(usize::try_from(length).ok()?)?,
        })
    }
}

/// The message that begins there; none: what is there is not one, or not whole.
pub(super) fn message(segment: &[u8], at: usize) -> Option<Head> {
    let head = Head::parse(segment, at).filter(|head| KINDS.contains(&head.kind))?;
    // sled puts the head behind the body when it adds up.
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(segment.get(head.body..head.end)?);
    hasher.update(segment.get(at.checked_add(4)?..head.body)?);
    (hasher.finalize() == !head.crc).then_some(head)
}

/// Of how many bytes [`message`] takes the checksum there.
pub(super) fn checked_bytes(segment: &[u8], at: usize) -> usize {
    let head = Head::parse(segment, at).filter(|head| KINDS.contains(&head.kind) && head.end <= segment.len());
    head.map_or(0, |head| head.end.saturating_sub(at))
}

/// A number of sled's, and what follows it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    let byte = |index: usize| rest.get(index).copied().map(u64::from);
    let (number, taken) = match first {
        0..=240 => (first, 0),
        241..=248 => (240 + 256 * (first - 241) + byte(0)?, 1),
        249 => (2288 + 256 * byte(0)? + byte(1)?, 2),
        _ => {
            let taken = usize::try_from(first - 247).ok()?;
            let little = rest.get(..taken)?.iter().rev();
            (little.fold(0, |number, byte| (number << 8) | u64::from(*byte)), taken)
        }
    };
    Some((number, rest.get(taken..)?))
}

#[cfg(test)]
mod tests;
