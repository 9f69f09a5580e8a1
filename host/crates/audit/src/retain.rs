//! Which segments go, and what stays of them: the checkpoint at their end. It vouches for the roots that the next segment
//! begins with, so that what is kept can be verified without what is gone.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aral_contract::document::TrustStore;
use aral_runtime::files;
use cap_std::fs::{Dir, OpenOptions};
use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::line::{self, LINE_BYTES_MAX, Line};
use crate::recover::OpenError;
use crate::segment::{self, Header, Listed, SegmentError, SegmentReader};

/// The file of the checkpoints at the ends of segments that are gone.
pub(crate) const CHECKPOINTS_FILE: &str = "checkpoints.jsonl";
/// Largest such file, in bytes: checkpoints of more segments than a log may have.
pub(crate) const CHECKPOINTS_BYTES_MAX: u64 = 128 << 20;

/// Where sinks stand: what they have not delivered is not removed.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Weak<AtomicU64>>>);

impl Holds {
    /// A sink that needs the records from `seq` on, until it moves the number or drops it.
    pub(crate) fn add(&self, seq: u64) -> Arc<AtomicU64> {
        let hold = Arc::new(AtomicU64::new(seq));
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Arc::downgrade(&hold));
        hold
    }

    /// The first record that some sink needs.
    fn lowest(&self) -> u64 {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = holds.iter().filter_map(Weak::upgrade);
        positions
            .map(|hold| hold.load(Ordering::Acquire))
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) bytes_max: u64,
    pub(crate) age_max: Option<Duration>,
}

impl Retention {
    /// The first record that is kept, if any are to go. The last segment always stays.
    pub(crate) fn kept_from(&self, dir: &Dir, holds: &Holds, now: Timestamp) -> Result<Option<u64>, SegmentError> {
        let segments = segment::list(dir)?;
        let mut bytes = segments
            .iter()
            .fold(0u64, |sum, segment| sum.saturating_add(segment.bytes));
        let needed = holds.lowest();
        let mut kept_from = None;
        for (oldest, next) in segments.iter().zip(segments.iter().skip(1)) {
            // A segment is as old as its last record, which is about as old as the next segment.
            let over = bytes > self.bytes_max || self.is_too_old(dir, next, now)?;
            if !over || next.first > needed {
                break;
            }
            bytes = bytes.saturating_sub(oldest.bytes);
            kept_from = Some(next.first);
        }
        Ok(kept_from)
    }

    fn is_too_old(&self, dir: &Dir, next: &Listed, now: Timestamp) -> Result<bool, SegmentError> {
        let Some(age_max) = self.age_max else { return Ok(false) };
        let opened_at = SegmentReader::open(dir, next.first)?.header.opened_at;
        Ok(Duration::try_from(now.duration_since(opened_at)).is_ok_and(|age| age > age_max))
    }
}

/// Removes the segments whose records are all before `kept_from`, oldest first, and keeps the checkpoints at their ends.
pub(crate) fn remove_before(dir: &Dir, kept_from: u64) -> Result<(), OpenError> {
    let segments = segment::list(dir)?;
    let mut kept = read_kept(dir)?;
    let mut gone = Vec::new();
    for (oldest, next) in segments.iter().zip(segments.iter().skip(1)) {
        if next.first > kept_from {
            break;
        }
        if let Some(line) = last_checkpoint(dir, oldest)? {
            kept.extend_from_slice(&line);
        }
        gone.push(oldest.first);
    }
    if gone.is_empty() {
        return Ok(());
    }
    files::write_atomic(dir, CHECKPOINTS_FILE, &kept, 0o600)?;
    for first in gone {
        let name = segment::file_name(first);
        dir.remove_file(&name)
            .map_err(|source| SegmentError::Read { name, source })?;
    }
    Ok(())
}

/// The checkpoints that are kept, line by line.
pub(crate) fn read_kept(dir: &Dir) -> Result<Vec<u8>, SegmentError> {
    match files::read_capped(dir, CHECKPOINTS_FILE, CHECKPOINTS_BYTES_MAX) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Whether a kept checkpoint says that the log came to what a segment begins with.
pub(crate) fn vouches(dir: &Dir, header: &Header, trust: &TrustStore) -> Result<bool, SegmentError> {
    let kept = read_kept(dir)?;
    let mut documents = kept.split(|byte| *byte == b'\n').map(Line::parse);
    Ok(documents.any(|line| {
        let Line::Checkpoint(document) = line else { return false };
        Checkpoint::verify(document, trust).is_ok_and(|checkpoint| header.goes_on_from(&checkpoint.head))
    }))
}

/// The last line of a segment with its end, if it is a checkpoint, as in every segment that was ended.
pub(crate) fn last_checkpoint(dir: &Dir, segment: &Listed) -> Result<Option<Vec<u8>>, SegmentError> {
    let name = segment::file_name(segment.first);
    let failed = |source| SegmentError::Read {
        name: name.clone(),
        source,
    };
    let mut file = segment::open(dir, &name, OpenOptions::new().read(true))?.into_std();
    let start = segment.bytes.saturating_sub(LINE_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut end = Vec::new();
    file.take(LINE_BYTES_MAX as u64).read_to_end(&mut end).map_err(failed)?;
    let last = end
        .strip_suffix(b"\n")
        .and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    Ok(match last.map(Line::parse) {
        Some(Line::Checkpoint(document)) => {
            let mut line = Vec::new();
            line::write_checkpoint(document, &mut line);
            Some(line)
        }
        Some(Line::Record(_) | Line::Segment(_) | Line::Unknown) | None => None,
    })
}
