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
    /// A line that is no record where one should be.
    #[error("record {seq} is damaged; run `aral audit verify`")]
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
    /// Where in a segment a line began that was not whole yet.
    torn: Option<(u64, u64)>,
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
            torn: None,
            leaves_out: false,
        }
    }

    /// Before another record. Its segment is opened anew.
    pub(crate) fn go_to(&mut self, seq: u64) {
        (self.next, self.reader, self.torn) = (seq, None, None);
    }

    /// The number of the next record.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next record; none: there is none yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(mut reader) = self.current()? else {
                return Ok(None);
            };
            match reader.advance()? {
                Next::Whole => {}
                Next::Torn => {
                    self.torn = Some((reader.header.first, reader.lines.offset()));
                    return Ok(None);
                }
                Next::End => {
                    if !self.goes_on(reader.header.first)? {
                        self.reader = Some(reader);
                        return Ok(None);
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
        if let Some((first, offset)) = self.torn.take() {
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

    /// Whether there is something behind the segment that was read: the next one, or, if retention removed both, a later one.
    fn goes_on(&self, current: u64) -> Result<bool, ReadError> {
        let segments = segment::list(&self.dir)?;
        let next = segments.iter().any(|segment| segment.first == self.next);
        let is_removed = segments.first().is_some_and(|oldest| oldest.first > self.next);
        Ok(is_removed || (next && current != self.next))
    }
}

impl Iterator for Cursor {
    type Item = Result<Entry, ReadError>;

    /// Ends where the log ends now; asked again, it goes on with what was written since.
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
