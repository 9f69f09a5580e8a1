//! What can be wrong with a log, in words.

use std::fmt;

use aral_contract::LogId;
use aral_contract::document::DocumentError;

use crate::segment::SegmentError;

/// The first thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The record that it is about: the first bad one, or the first of those of which one is bad.
    pub seq: u64,
    /// In which file.
    pub file: String,
    /// What is wrong.
    pub what: What,
}

impl Finding {
    pub(super) fn in_file(file: &str, seq: u64, what: What) -> Self {
        Self {
            seq,
            file: file.to_owned(),
            what,
        }
    }
}

impl Finding {
    /// What is wrong with the first line of the segment that begins with this record, if the line is.
    pub(super) fn of_first_line(error: SegmentError, seq: u64) -> Result<Self, SegmentError> {
        match error {
            SegmentError::Header { name } => Ok(Self::in_file(&name, seq, What::SegmentStart)),
            SegmentError::Version { name, found } => Ok(Self::in_file(&name, seq, What::Format(found))),
            other => Err(other),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} in `{}`: {}", self.seq, self.file, self.what)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The record is not as it was written: the next one was chained to another text.
    Edited,
    /// This record and those up to the given one are not there.
    Removed {
        /// The next one that is there.
        next: u64,
    },
    /// The record is there, but not in its place.
    Reordered,
    /// The record was put in: nothing is chained to it, or its number is taken.
    Inserted,
    /// The chain is whole, but not the one that the checkpoint after it was signed for: records from this one up to the
    /// checkpoint were changed, and the chain was made anew.
    Rewritten {
        /// How many records the checkpoint is about.
        checkpoint: u64,
    },
    /// So many records from this one on have no checkpoint after them as no log leaves unsigned: the checkpoints were taken
    /// away, and the records may be anything.
    Unsigned,
    /// The records from this one on have no checkpoint after them, and span more time than a log leaves unsigned: the checkpoints
    /// were taken away, and the records may be anything.
    UnsignedFor {
        /// From the first to the last of them, in seconds.
        seconds: i64,
    },
    /// The records from this one on have no checkpoint after them, and a host that opened the log behind them found one.
    OpenedSigned {
        /// The record in which it says so.
        opened: u64,
    },
    /// There is no checkpoint at all.
    NothingSigned,
    /// The checkpoint after this record stands elsewhere in its file than where it was signed for.
    CheckpointMoved,
    /// The checkpoint after this record is not signed by a trusted key.
    CheckpointForged(DocumentError),
    /// The checkpoint after this record is not in the one form that the log writes.
    CheckpointEdited,
    /// The checkpoint after this record is about another number of records.
    CheckpointOrder,
    /// A checkpoint or a segment is of another log.
    OtherLog(LogId),
    /// The records before this one are gone, and no checkpoint vouches for what they came to.
    StartNotVouched,
    /// The records before this one are gone, and the log does not say that retention removed them.
    StartNotRetired,
    /// The segment begins in another state than the one before it ended in, or its first line is none.
    SegmentStart,
    /// The segment does not end with a checkpoint that says so, and another one follows: what came after was taken away or put
    /// elsewhere.
    NotEnded,
    /// The checkpoint before it ends the segment, and no host writes behind one.
    AfterEnd,
    /// The segment says that it has another format than the one that this version reads.
    Format(String),
    /// There is a line that the log does not write.
    NotALine,
    /// The log ends here, and a checkpoint that was kept elsewhere is about more records.
    CutBack {
        /// How many records that one is about.
        anchor: u64,
    },
    /// A checkpoint that was kept elsewhere is about other records than those up to this one.
    AnchorDiffers {
        /// How many records it is about.
        anchor: u64,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => f.write_str("edited: the next record is chained to another text"),
            Self::Removed { next } => write!(f, "removed: the next record that is there is {next}"),
            Self::Reordered => f.write_str("reordered: it is there, but not in its place"),
            Self::Inserted => f.write_str("inserted: no record is chained to it, or its number is taken"),
            Self::Rewritten { checkpoint } => write!(
                f,
                "rewritten: the records from this one to {checkpoint} are not those that the checkpoint there was signed for"
            ),
            Self::Unsigned => f.write_str(
                "unsigned: more records from this one on have no checkpoint than a log leaves without, so that anybody may have written them",
            ),
            Self::UnsignedFor { seconds } => write!(
                f,
                "unsigned: the records from this one on have no checkpoint and span {seconds} seconds, where a log leaves one without, so that anybody may have written them"
            ),
            Self::OpenedSigned { opened } => write!(
                f,
                "unsigned: the records from this one to {opened} have no checkpoint, and record {opened} says that there was one"
            ),
            Self::NothingSigned => f.write_str(
                "unsigned: there is no checkpoint, so that anybody may have written all of it; a host signs as soon as it has begun a log",
            ),
            Self::CheckpointMoved => {
                f.write_str("the checkpoint after it stands elsewhere in its file than where it was signed for")
            }
            Self::CheckpointForged(error) => write!(f, "the checkpoint after it is forged: {error}"),
            Self::CheckpointEdited => {
                f.write_str("the checkpoint after it was edited: its signature holds, and the log does not write it like that")
            }
            Self::CheckpointOrder => f.write_str("the checkpoint after it is about another number of records"),
            Self::OtherLog(log) => write!(f, "what follows is of another log, `{log}`"),
            Self::StartNotVouched => f.write_str("the records before it are gone, and no checkpoint vouches for them"),
            Self::StartNotRetired => {
                f.write_str("the records before it are gone, and the log does not say that retention removed them")
            }
            Self::SegmentStart => f.write_str(
                "the segment begins in another state than the one before it ended in, or its first line is not that of a segment",
            ),
            Self::NotEnded => f.write_str(
                "the segment stops before it, without a checkpoint that ends it, and another one follows: lines were taken away or put elsewhere",
            ),
            Self::AfterEnd => f.write_str("it stands behind the checkpoint that ends the segment, where no host writes"),
            Self::Format(found) => write!(
                f,
                "the segment says that it has the format `{}`: another version wrote it, or somebody changed that",
                found.escape_debug()
            ),
            Self::NotALine => f.write_str("there is a line that the log does not write"),
            Self::CutBack { anchor } => {
                write!(
                    f,
                    "cut back: the log ends here, and the anchor is about {anchor} records"
                )
            }
            Self::AnchorDiffers { anchor } => write!(
                f,
                "rewritten: the first {anchor} records are not those that the anchor was signed for"
            ),
        }
    }
}
