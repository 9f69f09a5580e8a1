//! Segments: the files that a log is kept in. Each begins with a line that says which records come in it and holds the
//! roots of the whole subtrees of the Merkle tree over all that came before, so that it can be read, proven from and
//! gone on with when the files before it are gone. It believes nothing that it reads.

use std::io::BufReader;

use aral_contract::{Digest, LogId};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Head;
use crate::line::{self, Line, Lines, Next};
use crate::merkle::Tree;

/// Most entries that the folder of a log may have, and so most segments. Stops a folder full of strange files from holding up whoever lists it.
pub const SEGMENTS_MAX: usize = 100_000;
/// Where a segment may begin at most: numbers of signed documents stay below 2^53. Stops a forged segment from leaving no number
/// for the next record, or none that can be signed for.
const RECORDS_MAX: u64 = 1 << 52;
/// The version of the format. A reader refuses any other one.
const SCHEMA: &str = "aral.audit/v3";
const SUFFIX: &str = ".jsonl";
const DIGITS: usize = 20;
const READ_BYTES: usize = 1 << 20;
/// `O_NOFOLLOW`, and `O_NONBLOCK`: no link that somebody put there is followed, and no pipe waited for.
const OPEN_FLAGS: i32 = (rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits()).cast_signed();

/// What the first line of a segment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// The version of the format.
    pub(crate) schema: String,
    /// Of which log.
    pub(crate) log: LogId,
    /// The first record in it.
    pub(crate) first: u64,
    /// The leaf of the record before that.
    pub(crate) prev: Digest,
    /// The roots of the whole subtrees over the records before.
    pub(crate) peaks: Vec<Digest>,
    /// When it was begun.
    pub(crate) opened_at: Timestamp,
}

impl Header {
    /// The header of a segment that goes on after `tree`.
    pub(crate) fn after(log: LogId, tree: &Tree, prev: Digest, opened_at: Timestamp) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            log,
            first: tree.size(),
            prev,
            peaks: tree.peaks().to_vec(),
            opened_at,
        }
    }

    /// Whether a segment with this header goes on from what a checkpoint says.
    pub(crate) fn goes_on_from(&self, head: &Head) -> bool {
        let is_root = || self.tree().is_some_and(|tree| tree.root() == head.root);
        head.log == self.log && head.size == self.first && head.last == self.prev && is_root()
    }

    /// The line with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        // Writing to memory fails only for maps with keys that are not text, and there are none here.
        let header = serde_json::to_vec(self).unwrap_or_default();
        let mut line = Vec::new();
        line::write_segment(&header, &mut line);
        line
    }

    /// The tree over the records before.
    pub(crate) fn tree(&self) -> Option<Tree> {
        Tree::from_peaks(self.first, self.peaks.clone())
    }

    fn parse(header: &[u8], name: &str) -> Result<Self, SegmentError> {
        let damaged = || SegmentError::Header { name: name.to_owned() };
        let schema = serde_json::from_slice::<serde_json::Value>(header).map_err(|_| damaged())?;
        let found = schema
            .get("schema")
            .and_then(serde_json::Value::as_str)
            .ok_or_else(damaged)?;
        if found != SCHEMA {
            return Err(SegmentError::Version {
                name: name.to_owned(),
                found: found.chars().take(32).collect(),
            });
        }
        let header: Self = serde_json::from_slice(header).map_err(|_| damaged())?;
        if header.tree().is_none() || file_name(header.first) != name || header.first >= RECORDS_MAX {
            return Err(damaged());
        }
        Ok(header)
    }
}

/// Why a segment is not read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The folder or a file cannot be opened.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file cannot be read.
    #[error("cannot read `{name}`")]
    Read {
        /// Which.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The first line is not that of a segment, or of another one.
    #[error("the first line of `{name}` is not that of this segment")]
    Header {
        /// Which.
        name: String,
    },
    /// Another version wrote it.
    #[error(
        "`{name}` has format `{}`, and this version reads `{SCHEMA}`; use the version that wrote it or a newer one, or move the log away to begin a new one",
        .found.escape_debug()
    )]
    Version {
        /// Which.
        name: String,
        /// What it has.
        found: String,
    },
    /// There is so much in the folder that some of it was not looked at.
    #[error(
        "the folder of the audit log has more than {SEGMENTS_MAX} entries; move away what is not of the log, or let it keep less: [audit] segment_bytes_max, retain_bytes_max"
    )]
    TooMany,
}

impl SegmentError {
    /// There is no such file, or not any more.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Files(error) => error.is_not_found(),
            Self::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Header { .. } | Self::Version { .. } | Self::TooMany => false,
        }
    }
}

/// The name of the segment that begins with this record.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:0DIGITS$}{SUFFIX}")
}

/// Which record the segment of this name begins with; none if it is no such name.
fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// One segment in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) first: u64,
    pub(crate) bytes: u64,
}

/// The segments of a folder, in the order of their records.
pub(crate) fn list(dir: &Dir) -> Result<Vec<Listed>, SegmentError> {
    let listing = files::list(dir, SEGMENTS_MAX)?;
    if !listing.is_whole {
        return Err(SegmentError::TooMany);
    }
    let mut segments: Vec<Listed> = listing
        .files
        .into_iter()
        .filter_map(|file| {
            first_of(&file.name).map(|first| Listed {
                first,
                bytes: file.bytes,
            })
        })
        .collect();
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Whether something still has the name of the segment that begins with this record.
pub(crate) fn is_there(dir: &Dir, first: u64) -> Result<bool, SegmentError> {
    let name = file_name(first);
    match dir.symlink_metadata(&name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SegmentError::Read { name, source }),
    }
}

/// A segment that is being read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) name: String,
    pub(crate) header: Header,
    pub(crate) lines: Lines<BufReader<std::fs::File>>,
}

impl SegmentReader {
    /// Opens a segment and reads its first line.
    pub(crate) fn open(dir: &Dir, first: u64) -> Result<Self, SegmentError> {
        let name = file_name(first);
        let file = open(dir, &name, OpenOptions::new().read(true))?;
        let mut lines = Lines::new(BufReader::with_capacity(READ_BYTES, file.into_std()), 0);
        let whole = lines.advance().map_err(|source| SegmentError::Read {
            name: name.clone(),
            source,
        })? == Next::Whole;
        let header = match Line::parse(lines.line()) {
            Line::Segment(header) if whole => Header::parse(header, &name)?,
            Line::Segment(_) | Line::Record(_) | Line::Checkpoint(_) | Line::Unknown => {
                return Err(SegmentError::Header { name });
            }
        };
        // It has one form, so that nothing can be hidden in it.
        if header.line().strip_suffix(b"\n") != Some(lines.line()) {
            return Err(SegmentError::Header { name });
        }
        Ok(Self { name, header, lines })
    }

    /// Opens a segment and goes on at `offset`, where a line begins.
    pub(crate) fn resume(dir: &Dir, first: u64, offset: u64) -> Result<Self, SegmentError> {
        let mut reader = Self::open(dir, first)?;
        reader.lines.seek(offset).map_err(|source| SegmentError::Read {
            name: reader.name.clone(),
            source,
        })?;
        Ok(reader)
    }

    /// The length of the file.
    pub(crate) fn length(&self) -> Result<u64, SegmentError> {
        let metadata = self.lines.reader().get_ref().metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|source| SegmentError::Read {
                name: self.name.clone(),
                source,
            })
    }

    /// Goes to the next line.
    pub(crate) fn advance(&mut self) -> Result<Next, SegmentError> {
        self.lines.advance().map_err(|source| SegmentError::Read {
            name: self.name.clone(),
            source,
        })
    }
}

/// Opens a regular file of the folder.
pub(crate) fn open(dir: &Dir, name: &str, options: &mut OpenOptions) -> Result<File, SegmentError> {
    let failed = |source| SegmentError::Read {
        name: name.to_owned(),
        source,
    };
    let file = dir
        .open_with(name, options.mode(0o600).custom_flags(OPEN_FLAGS))
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        Ok(file)
    } else {
        Err(FilesError::NotAFile { path: name.into() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_records_and_strange_names_are_left_alone() {
        for first in [0, 1, 10, u64::MAX] {
            assert_eq!(first_of(&file_name(first)), Some(first));
        }
        assert!(file_name(9) < file_name(10));
        for strange in [
            "0.jsonl",
            "checkpoints.jsonl",
            "00000000000000000000.json",
            "+0000000000000000000.jsonl",
        ] {
            assert_eq!(first_of(strange), None, "{strange}");
        }
        assert_eq!(first_of("99999999999999999999.jsonl"), None);
    }

    #[test]
    fn a_header_of_another_version_name_or_shape_is_refused() {
        let header = Header::after(
            LogId::from_bytes([1; 16]),
            &Tree::default(),
            Digest::of(b""),
            Timestamp::UNIX_EPOCH,
        );
        let text = serde_json::to_string(&header).unwrap();
        let parse = |text: &str| Header::parse(text.as_bytes(), &file_name(0));
        assert_eq!(parse(&text).unwrap(), header);
        let newer = parse(&text.replace("audit/v3", "audit/v4")).unwrap_err();
        assert!(newer.to_string().contains("use the version that wrote it"), "{newer}");
        assert!(matches!(
            parse(&text.replace("\"first\":0", "\"first\":1")),
            Err(SegmentError::Header { .. })
        ));
        assert!(matches!(
            parse(&text.replace('{', "{\"more\":1,")),
            Err(SegmentError::Header { .. })
        ));
        assert!(matches!(
            Header::parse(text.as_bytes(), &file_name(1)),
            Err(SegmentError::Header { .. })
        ));
        let none = "\"0000000000000000000000000000000000000000000000000000000000000000\"";
        let last = format!("\"peaks\":[{}]", vec![none; 64].join(","));
        let beyond = text.replace("\"first\":0", "\"first\":18446744073709551615");
        let beyond = beyond.replace("\"peaks\":[]", &last);
        assert!(matches!(
            Header::parse(beyond.as_bytes(), &file_name(u64::MAX)),
            Err(SegmentError::Header { .. })
        ));
    }
}
