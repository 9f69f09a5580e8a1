//! Which segments go, and what stays of them: the checkpoint at their end. It vouches for the roots that the next segment
//! begins with, so that what is kept can be verified without what is gone.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use aral_contract::LogId;
use aral_contract::document::{DocumentError, TrustStore};
use aral_contract::failure::chain;
use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, OpenOptions};
use jiff::Timestamp;

use crate::age::{CLOCK_DOUBT, CLOCK_LEAP_MAX, Moment};
use crate::checkpoint::{Checkpoint, dangerous_unverified_head, is_in_one_form};
use crate::holds::Holds;
use crate::line::{self, LINE_BYTES_MAX, Line};
use crate::segment::{self, Header, Listed, SegmentError, SegmentReader};

/// The file of the checkpoints at the ends of segments that are gone.
pub(crate) const CHECKPOINTS_FILE: &str = "checkpoints.jsonl";
/// Most checkpoints in it; the newest ones stay.
const KEPT_MAX: usize = 10_000;
/// Largest such file, in bytes: more than so many checkpoints take.
pub(crate) const CHECKPOINTS_BYTES_MAX: u64 = 128 << 20;
/// Segments that are removed with one write of that file. Fewer than it keeps: a host that is killed before they are gone must find
/// the checkpoints of all of them.
const REMOVED_AT_ONCE: usize = 1000;
const _: () = assert!(REMOVED_AT_ONCE < KEPT_MAX, "what is still there is vouched for");

/// Why a segment stays that would have to go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// It cannot be read, or not the one after it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The checkpoints cannot be kept.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nothing at its end says that it is.
    #[error(
        "`{name}` does not end with a checkpoint that says so; it stays, and all that follows: run `aral audit verify`"
    )]
    NotEnded {
        /// Which.
        name: String,
    },
    /// The checkpoint at its end is not by a key that counts.
    #[error(
        "the end of `{name}` is not signed by this host; it stays, and all that follows: run `aral audit verify`, and if a key signed it that this host had before, add to aral.toml, [[trust]]: public_key = \"OLD.pub.pem\" and kinds = [\"checkpoint\"]"
    )]
    NotSigned {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: DocumentError,
    },
    /// The checkpoint at its end says another length, or another beginning of the next one.
    #[error(
        "`{name}` is not as long as its end was signed for, or another segment follows; it stays, and all that follows: run `aral audit verify`"
    )]
    Differs {
        /// Which.
        name: String,
    },
}

/// What is signed of a segment that was ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    at: Timestamp,
    bytes: u64,
    /// The first record of the one that follows.
    next: u64,
}

/// What is kept of a log.
#[derive(Debug, Default)]
struct Kept {
    /// The first record of it; none: nothing is to go.
    from: Option<u64>,
    /// Why the first segment stays that will never go as it is.
    stopped: Option<KeptError>,
    /// What the clock is doubted for.
    doubt: Doubt,
}

/// Why segments count for younger than the clock says, or than they say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Doubt {
    /// Some would go if a leap of the clock counted.
    leap: bool,
    /// Some ended in the future, or before what stands before them.
    ahead: bool,
}

/// How much is kept. What decides is signed: the folder may be in reach of somebody who wants the host to remove records, and
/// to sign that it did. A segment of which nothing is known under a signature is never removed, and counts for nothing.
#[derive(Debug)]
pub(crate) struct Retention {
    bytes_max: u64,
    age_max: Option<Duration>,
    log: LogId,
    trust: TrustStore,
    /// What was seen of segments that were ended, by their first records. It does not change any more.
    ended: BTreeMap<u64, Ended>,
    /// What the log of the host was told last.
    told: Doubt,
}

impl Retention {
    pub(crate) fn new(bytes_max: u64, age_max: Option<Duration>, log: LogId, trust: TrustStore) -> Self {
        Self {
            bytes_max,
            age_max,
            log,
            trust,
            ended: BTreeMap::new(),
            told: Doubt::default(),
        }
    }

    /// The first record that is kept; none: nothing is to go. The log of the host says what will never go as it is.
    pub(crate) fn kept_from(&mut self, dir: &Dir, holds: &Holds, moment: &Moment) -> Option<u64> {
        let kept = self.kept(dir, holds, moment);
        self.tell(kept.doubt);
        if let Some(error) = kept.stopped {
            tracing::error!(error = chain(&error), "the retention of the audit log stops");
        }
        kept.from
    }

    /// Says once what the clock is doubted for.
    fn tell(&mut self, doubt: Doubt) {
        let days = CLOCK_DOUBT.as_secs() / 86_400;
        if doubt.leap && !self.told.leap {
            tracing::error!(
                "the clock went further ahead than the audit log was written; segments that are too old only by that stay, and go {days} days after it: set the clock if it is wrong, and do nothing if it is right"
            );
        }
        if doubt.ahead && !self.told.ahead {
            tracing::warn!(
                "segments of the audit log end later than it is now, or than some that follow them, and some go later than they should: set the clock if it is wrong; if it was set since the host started, start that again, or wait {days} days"
            );
        }
        self.told = doubt;
    }

    /// What is kept. The last segment always is.
    fn kept(&mut self, dir: &Dir, holds: &Holds, moment: &Moment) -> Kept {
        let mut kept = Kept::default();
        let segments = match segment::list(dir) {
            Ok(segments) => segments,
            Err(error) => {
                kept.stopped = Some(error.into());
                return kept;
            }
        };
        let pairs = || segments.iter().zip(segments.iter().skip(1));
        let mut ended = Vec::with_capacity(segments.len());
        for (segment, next) in pairs() {
            ended.push(match self.ended(dir, segment, next) {
                Ok(ended) => Some(ended),
                Err(error) => {
                    kept.stopped.get_or_insert(error);
                    None
                }
            });
        }
        let sizes = ended.iter().flatten().map(|ended| ended.bytes);
        let mut bytes = sizes.fold(0u64, u64::saturating_add);
        let needed = holds.lowest();
        let ends: Vec<Timestamp> = ended.iter().flatten().map(|ended| ended.at).collect();
        let leap_max = self.leap_max();
        let ages = moment.ages(&ends, leap_max);
        kept.doubt.ahead = self.age_max.is_some() && ages.iter().any(|age| age.ahead > leap_max);
        for (((_, next), ended), age) in pairs().zip(ended).zip(ages) {
            let Some(ended) = ended else { break };
            let too_old = self.is_too_old(age.counted);
            kept.doubt.leap |= !too_old && self.is_too_old(age.said);
            let over = bytes > self.bytes_max || too_old;
            if !over || next.first > needed {
                break;
            }
            bytes = bytes.saturating_sub(ended.bytes);
            kept.from = Some(next.first);
        }
        kept
    }

    fn is_too_old(&self, age: Duration) -> bool {
        self.age_max.is_some_and(|age_max| age > age_max)
    }

    /// The longest leap that counts at once: no step of the clock makes what is new too old.
    fn leap_max(&self) -> Duration {
        let half = self.age_max.and_then(|age_max| age_max.checked_div(2));
        half.map_or(CLOCK_LEAP_MAX, |half| half.min(CLOCK_LEAP_MAX))
    }

    fn ended(&mut self, dir: &Dir, segment: &Listed, next: &Listed) -> Result<Ended, KeptError> {
        // Another one follows if those between were taken away.
        if let Some(ended) = self.ended.get(&segment.first).filter(|ended| ended.next == next.first) {
            return Ok(*ended);
        }
        let end = signed_end(dir, segment, next, self.log, &self.trust)?;
        let ended = Ended {
            at: end.issued_at,
            bytes: segment.bytes,
            next: end.head.size,
        };
        self.ended.insert(segment.first, ended);
        Ok(ended)
    }

    /// Removes the segments whose records are all before `kept_from`, oldest first, and keeps the checkpoints at their ends.
    pub(crate) fn remove_before(&mut self, dir: &Dir, kept_from: u64) -> Result<(), KeptError> {
        let segments = segment::list(dir)?;
        let pairs: Vec<_> = segments.iter().zip(segments.iter().skip(1)).collect();
        let gone = pairs.partition_point(|(_, next)| next.first <= kept_from);
        for part in pairs.get(..gone).unwrap_or_default().chunks(REMOVED_AT_ONCE) {
            self.remove(dir, part)?;
        }
        Ok(())
    }

    fn remove(&mut self, dir: &Dir, part: &[(&Listed, &Listed)]) -> Result<(), KeptError> {
        let mut kept = read_kept(dir)?;
        let mut lines = kept.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut size = lines.next_back().and_then(size_of).unwrap_or(0);
        for (oldest, next) in part {
            let checkpoint = signed_end(dir, oldest, next, self.log, &self.trust)?;
            // It is there already if a host was killed before the segment was gone.
            if checkpoint.head.size > size {
                line::write_checkpoint(&checkpoint.document, &mut kept);
                size = checkpoint.head.size;
            }
        }
        files::write_atomic(dir, CHECKPOINTS_FILE, newest_lines(&kept, KEPT_MAX), 0o600)?;
        for (oldest, _) in part {
            let name = segment::file_name(oldest.first);
            dir.remove_file(&name)
                .map_err(|source| SegmentError::Read { name, source })?;
            self.ended.remove(&oldest.first);
        }
        Ok(())
    }
}

/// How many records the checkpoint in a line is about.
fn size_of(line: &[u8]) -> Option<u64> {
    match Line::parse(line) {
        Line::Checkpoint(document) => dangerous_unverified_head(document).map(|head| head.size),
        Line::Record(_) | Line::Segment(_) | Line::Unknown => None,
    }
}

/// The checkpoint that a segment ends with, if it says that it does, when, how long the segment is, and what the next one
/// begins with.
pub(crate) fn signed_end(
    dir: &Dir,
    segment: &Listed,
    next: &Listed,
    log: LogId,
    trust: &TrustStore,
) -> Result<Checkpoint, KeptError> {
    let name = segment::file_name(segment.first);
    let Some(last) = last_checkpoint(dir, segment)? else {
        return Err(KeptError::NotEnded { name });
    };
    let checkpoint = match Checkpoint::verify(&last.document, trust) {
        Ok(checkpoint) => checkpoint,
        Err(source) => return Err(KeptError::NotSigned { name, source }),
    };
    let head = &checkpoint.head;
    if !head.ends {
        // Somebody took away what followed.
        return Err(KeptError::NotEnded { name });
    }
    // Of the segment as a whole, and not of a part of it that somebody made a segment of.
    let is_whole = (head.first, Some(head.offset)) == (segment.first, last.offset) && is_in_one_form(&last.document);
    let goes_on = SegmentReader::open(dir, next.first)?.header.goes_on_from(head);
    if head.log == log && is_whole && goes_on {
        Ok(checkpoint)
    } else {
        Err(KeptError::Differs { name })
    }
}

/// The last lines of a text, at most so many.
fn newest_lines(text: &[u8], lines_max: usize) -> &[u8] {
    let ends = memchr::memrchr_iter(b'\n', text);
    let from = ends.skip(1).nth(lines_max.saturating_sub(1));
    from.and_then(|end| text.get(end.saturating_add(1)..)).unwrap_or(text)
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

/// The last line of a segment, if it is a checkpoint.
pub(crate) struct Last {
    /// What it says.
    pub(crate) document: Vec<u8>,
    /// Where it begins in a segment of the length that was listed; none: it does not fit in.
    pub(crate) offset: Option<u64>,
}

/// The checkpoint that stands last in a segment, as in every one that was ended.
pub(crate) fn last_checkpoint(dir: &Dir, segment: &Listed) -> Result<Option<Last>, SegmentError> {
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
    let line = end.split_inclusive(|byte| *byte == b'\n').next_back();
    let Some(line) = line.and_then(|line| line.strip_suffix(b"\n")) else {
        return Ok(None);
    };
    let Line::Checkpoint(document) = Line::parse(line) else {
        return Ok(None);
    };
    let before_end = segment.bytes.checked_sub(1);
    Ok(Some(Last {
        document: document.to_vec(),
        offset: before_end.and_then(|bytes| bytes.checked_sub(line.len() as u64)),
    }))
}
