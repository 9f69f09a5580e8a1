//! Reads a log record by record, from any number on, while it is being written too. It verifies nothing.

use aral_contract::Digest;
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;
use std::path::Path;

use crate::line::{Line, Next};
use crate::schema::Record;
use crate::segment::{self, SegmentError, SegmentReader};

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The folder cannot be opened.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Retention removed what comes next.
    #[error("record {wanted} is gone: the log begins with record {first}")]
    Gone {
        /// What was wanted.
        wanted: u64,
        /// What there is.
        first: u64,
    },
    /// A line that is no record where one should be, or nothing where others follow.
    #[error("record {seq} is damaged or gone; run `aral audit verify`")]
    Damaged {
        /// Which.
        seq: u64,
    },
}

impl ReadError {
    /// Nothing brings the record back: to ask again is of no use.
    pub(crate) fn is_for_good(&self) -> bool {
        match self {
            Self::Gone { .. }
            | Self::Damaged { .. }
            | Self::Segment(SegmentError::Header { .. } | SegmentError::Version { .. }) => true,
            Self::Files(_)
            | Self::Segment(SegmentError::Files(_) | SegmentError::Read { .. } | SegmentError::TooMany) => false,
        }
    }
}

/// One record, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// The line, without its end.
    pub line: Vec<u8>,
}

impl Entry {
    /// What it says.
    ///
    /// # Errors
    /// It is none, or one of a newer version.
    pub fn record(&self) -> Result<Record, ReadError> {
        serde_json::from_slice(&self.line).map_err(|_| ReadError::Damaged { seq: self.seq })
    }

    /// Its leaf in the Merkle tree.
    pub fn leaf(&self) -> Digest {
        crate::merkle::leaf_hash(&self.line)
    }
}

/// A place in a log.
#[derive(Debug)]
pub struct Cursor {
    dir: Dir,
    next: u64,
    /// The segment that is being read.
    reader: Option<SegmentReader>,
    /// The segment that is opened anew before anything else is read, and where a line begins in it.
    resume: Option<(u64, u64)>,
    /// What retention removes before it is read is left out; else that is an error.
    leaves_out: bool,
}

impl Cursor {
    /// Before record `seq` of the log in a folder.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn open(directory: &Path, seq: u64) -> Result<Self, ReadError> {
        Ok(Self::new(files::open_root(directory)?, seq))
    }

    /// Far enough before the end of the log in a folder that at least `count` records follow, if there are as many. What retention
    /// removes before it is read is left out.
    ///
    /// # Errors
    /// The folder cannot be opened or listed.
    pub fn last(directory: &Path, count: u64) -> Result<Self, ReadError> {
        let mut cursor = Self::oldest(directory)?;
        let segments = segment::list(&cursor.dir)?;
        // How many records are in the last segment nobody knows; those before it begin where the next one does.
        let newest = segments.last().map_or(0, |segment| segment.first);
        let from = segments
            .iter()
            .rev()
            .find(|segment| newest.saturating_sub(segment.first) >= count);
        cursor.next = from.map_or(cursor.next, |segment| segment.first);
        Ok(cursor)
    }

    /// Before the oldest record of the log in a folder. What retention removes before it is read is left out.
    ///
    /// # Errors
    /// The folder cannot be opened or listed.
    pub fn oldest(directory: &Path) -> Result<Self, ReadError> {
        let dir = files::open_root(directory)?;
        let first = segment::list(&dir)?.first().map_or(0, |segment| segment.first);
        Ok(Self {
            leaves_out: true,
            ..Self::new(dir, first)
        })
    }

    pub(crate) fn new(dir: Dir, seq: u64) -> Self {
        Self {
            dir,
            next: seq,
            reader: None,
            resume: None,
            leaves_out: false,
        }
    }

    /// Before another record. Its segment is opened anew.
    pub(crate) fn go_to(&mut self, seq: u64) {
        (self.next, self.reader, self.resume) = (seq, None, None);
    }

    /// The number of the next record.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next record; none: there is none yet.
    ///
    /// # Errors
    /// [`ReadError`]. Retention removes the oldest segments first, and a segment is complete before the next one is begun. So a
    /// record is gone, and not removed or yet to come, if nothing whole stands where it should be, in a segment that is there, and
    /// a later segment is there as well.
    pub fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        // The segment that is complete, since a later one was there before it was read to its end.
        let mut complete = None;
        loop {
            let Some(mut reader) = self.current()? else {
                return Ok(None);
            };
            let first = reader.header.first;
            let read = reader.advance()?;
            // What is read again: a line that is not whole yet, and one that nobody gets past.
            let place = Some((first, reader.lines.offset()));
            match read {
                Next::Whole => {}
                Next::Torn | Next::End => {
                    if reader.lines.is_too_long() {
                        self.resume = place;
                        return Err(ReadError::Damaged { seq: self.next });
                    }
                    match self.behind(first)? {
                        Behind::Next => {}
                        Behind::Nothing if read == Next::Torn => {
                            self.resume = place;
                            return Ok(None);
                        }
                        Behind::Nothing => {
                            self.reader = Some(reader);
                            return Ok(None);
                        }
                        // Some of it may have come since it was read, and nothing more comes to it.
                        Behind::Later if complete != Some(first) => {
                            (complete, self.resume) = (Some(first), place);
                        }
                        Behind::Later => {
                            // Retention may have removed it while the folder was listed, and others behind it.
                            if segment::is_there(&self.dir, first)? {
                                self.resume = place;
                                return Err(ReadError::Damaged { seq: self.next });
                            }
                        }
                    }
                    continue;
                }
            }
            let line = reader.lines.line();
            let entry = match Line::parse(line) {
                Line::Record(link) if link.seq == self.next => Some(Entry {
                    seq: link.seq,
                    line: line.to_vec(),
                }),
                Line::Record(link) if link.seq < self.next => None,
                Line::Checkpoint(_) => None,
                Line::Record(_) | Line::Segment(_) | Line::Unknown => {
                    self.resume = place;
                    return Err(ReadError::Damaged { seq: self.next });
                }
            };
            self.reader = Some(reader);
            if let Some(entry) = entry {
                self.next = self.next.saturating_add(1);
                return Ok(Some(entry));
            }
        }
    }

    /// The segment that the next record is or will be in. None: there is no log yet.
    fn current(&mut self) -> Result<Option<SegmentReader>, ReadError> {
        if let Some(reader) = self.reader.take() {
            return Ok(Some(reader));
        }
        if let Some((first, offset)) = self.resume.take() {
            match SegmentReader::resume(&self.dir, first, offset) {
                // Retention removed it since.
                Err(error) if error.is_not_found() => {}
                other => return Ok(Some(other?)),
            }
        }
        let mut before = None;
        loop {
            let segments = segment::list(&self.dir)?;
            let Some(oldest) = segments.first().map(|segment| segment.first) else {
                return Ok(None);
            };
            if oldest > self.next {
                if !self.leaves_out {
                    return Err(ReadError::Gone {
                        wanted: self.next,
                        first: oldest,
                    });
                }
                self.next = oldest;
            }
            let first = segments.iter().rfind(|segment| segment.first <= self.next);
            match SegmentReader::open(&self.dir, first.map_or(oldest, |segment| segment.first)) {
                // Retention removed it since it was listed, and that takes the oldest first.
                Err(error) if error.is_not_found() && before != Some(oldest) => before = Some(oldest),
                other => return Ok(Some(other?)),
            }
        }
    }

    /// What there is behind the segment that was read. A listing is no picture of one moment: of segments that are begun or removed
    /// meanwhile, it may have a later one without an earlier one.
    fn behind(&self, current: u64) -> Result<Behind, ReadError> {
        let segments = segment::list(&self.dir)?;
        let is_next = current != self.next && segments.iter().any(|segment| segment.first == self.next);
        let is_removed = segments.first().is_some_and(|oldest| oldest.first > self.next);
        let is_later = segments.last().is_some_and(|newest| newest.first > self.next);
        Ok(if is_next || is_removed {
            Behind::Next
        } else if is_later {
            Behind::Later
        } else {
            Behind::Nothing
        })
    }
}

/// What there is behind a segment that was read as far as it goes.
#[derive(Debug)]
enum Behind {
    /// No segment yet.
    Nothing,
    /// The one with the next record, or, if retention removed both, the oldest one that is left.
    Next,
    /// One that begins later.
    Later,
}

impl Iterator for Cursor {
    type Item = Result<Entry, ReadError>;

    /// Ends where the log ends now; asked again, it goes on with what was written since.
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
