//! Where a log goes on: where it ended, if it was closed. Else the last segment is read from end to end; what is no whole
//! record in its place was being written when the host died, is cut off, and is kept beside the log, because it could also
//! be the trace of somebody who tried.

use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use aral_contract::document::TrustStore;
use aral_contract::{Clock, Digest, LogId};
use aral_runtime::entropy::{self, EntropyError};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, OpenOptions};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::LogOptions;
use crate::age::SegmentAge;
use crate::checkpoint::{Head, dangerous_unverified_head};
use crate::ending::Ending;
use crate::keepsake;
use crate::line::{Line, Next};
use crate::merkle::{Tree, leaf_hash};
use crate::output::Output;
use crate::schema::LogOpened;
use crate::segment::{self, Header, Listed, SegmentError, SegmentReader};
use crate::text::Text;

const COPY_BYTES: usize = 64 << 10;
/// Most of what was cut off that is kept, in bytes: more than a crash leaves. Stops a file that only seems to be long from filling
/// the disk.
pub(crate) const CUT_KEPT_BYTES_MAX: u64 = 64 << 20;

/// Where what is cut off is copied to, until all of it is there: of starts that are killed meanwhile, one part is left.
const CUT_PART: &str = "cut.part";

/// Why a log is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it.
    #[error("the audit log `{directory}` is open in another process")]
    Held {
        /// Which log.
        directory: String,
    },
    /// It was removed, cut back or made anew since this host signed for it.
    #[error(
        "the audit log `{directory}` is not the one that this host signed for: its first {size} records are others or gone, or another log was put behind them"
    )]
    NotGoneOn {
        /// Which log.
        directory: String,
        /// How many records it had.
        size: u64,
    },
    /// A segment is damaged where no crash damages one, or of a newer version.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The folder, a file in it, or the file that keeps the newest checkpoint elsewhere cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The system has no randomness for the id of a new log.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// There is no thread to write with.
    #[error("the thread that writes the audit log cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A log, ready to go on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) output: Output,
    pub(crate) tree: Tree,
    pub(crate) prev: Digest,
    /// The first record of the current segment.
    pub(crate) first: u64,
    pub(crate) segment_age: SegmentAge,
    /// The last line is a checkpoint.
    pub(crate) clean: bool,
    /// It ends the current segment, and the next one was not begun.
    pub(crate) ended: bool,
    pub(crate) opened: LogOpened,
}

/// Finds the end of the log in a folder, or begins one. `head` is what this host signed last, as far as it knows: a log that
/// does not go on from there is left as it is.
pub(crate) fn recover(
    options: &LogOptions,
    dir: &Dir,
    clock: &dyn Clock,
    trust: &TrustStore,
    head: Option<&Head>,
) -> Result<Recovered, OpenError> {
    let newest = newest(&options.directory, dir, head)?;
    let last = match &newest {
        Some(last) => last.first,
        None => begin(dir, clock.now()).map_err(|error| match error {
            OpenError::Files(error) => OpenError::Files(error.below(&options.directory)),
            other => other,
        })?,
    };
    let End {
        log,
        opened_at,
        is_noted,
        found,
    } = end(dir, last, newest, trust)?;
    check_goes_on(&options.directory, dir, log, &found, head, trust)?;
    let cut = match found.end.checked_sub(found.good) {
        Some(cut_bytes) if cut_bytes > 0 => Some(cut(dir, last, found.good)?),
        Some(_) | None => None,
    };
    if !is_noted {
        settle(dir, last)?;
    }
    Ok(Recovered {
        output: Output::open(dir, last, found.good)?,
        prev: found.prev,
        first: last,
        segment_age: SegmentAge::found(opened_at, clock),
        clean: found.clean,
        ended: found.ended,
        opened: LogOpened {
            log,
            clean: found.clean && cut.is_none(),
            cut_bytes: found.end.saturating_sub(found.good),
            cut_digest: cut.as_ref().map(|cut| cut.digest),
            cut_file: cut.map(|cut| Text::new(&cut.file)),
        },
        tree: found.tree,
    })
}

/// The log in a folder, which it refuses if [`recover`] would; none: there is none. It changes nothing, so that another process may write to the
/// log meanwhile: `head` was read before.
pub(crate) fn check(
    directory: &Path,
    dir: &Dir,
    trust: &TrustStore,
    head: Option<&Head>,
) -> Result<Option<LogId>, OpenError> {
    let Some(newest) = newest(directory, dir, head)? else {
        return Ok(None);
    };
    let End { log, found, .. } = end(dir, newest.first, Some(newest), trust)?;
    check_goes_on(directory, dir, log, &found, head, trust)?;
    Ok(Some(log))
}

/// The newest segment; none: there is no log, and this host did not sign for one.
fn newest(directory: &Path, dir: &Dir, head: Option<&Head>) -> Result<Option<Listed>, OpenError> {
    match (segment::list(dir)?.pop(), head) {
        (None, Some(head)) => Err(not_gone_on(directory, head)),
        (newest, _) => Ok(newest),
    }
}

fn not_gone_on(directory: &Path, head: &Head) -> OpenError {
    OpenError::NotGoneOn {
        directory: directory.display().to_string(),
        size: head.size,
    }
}

fn check_goes_on(
    directory: &Path,
    dir: &Dir,
    log: LogId,
    found: &Found,
    head: Option<&Head>,
    trust: &TrustStore,
) -> Result<(), OpenError> {
    match head {
        Some(head) if !keepsake::goes_on(dir, log, (&found.tree, found.prev), head, trust)? => {
            Err(not_gone_on(directory, head))
        }
        Some(_) | None => Ok(()),
    }
}

/// Where a log ends.
struct End {
    log: LogId,
    opened_at: Timestamp,
    /// A file beside it said where, and it need not be read.
    is_noted: bool,
    found: Found,
}

/// Finds the end in the segment that begins with the record `first`. `newest` is what was there of it before anybody opened the log; none:
/// it was begun just now.
fn end(dir: &Dir, first: u64, newest: Option<Listed>, trust: &TrustStore) -> Result<End, OpenError> {
    let reader = SegmentReader::open(dir, first)?;
    let Header {
        log, opened_at, prev, ..
    } = reader.header;
    let tree = reader.header.tree().unwrap_or_default();
    let ending = newest.and_then(|newest| Some((Ending::read(dir, &newest, log, trust)?, newest.bytes)));
    let is_noted = ending.is_some();
    let found = match ending {
        Some(((tree, head), bytes)) => Found {
            tree,
            prev: head.last,
            clean: true,
            ended: head.ends,
            good: bytes,
            end: bytes,
        },
        None => scan(reader, tree, prev)?,
    };
    Ok(End {
        log,
        opened_at,
        is_noted,
        found,
    })
}

fn begin(dir: &Dir, now: Timestamp) -> Result<u64, OpenError> {
    let mut id = [0; 16];
    entropy::fill(&mut id)?;
    let tree = Tree::default();
    let header = Header::after(LogId::from_bytes(id), &tree, Digest::from_bytes([0; 32]), now);
    files::write_atomic(dir, segment::file_name(0), &header.line(), 0o600)?;
    Ok(tree.size())
}

struct Found {
    tree: Tree,
    prev: Digest,
    clean: bool,
    ended: bool,
    /// Length of what is good.
    good: u64,
    /// Length of the file.
    end: u64,
}

/// Reads as far as every line is a record in its place, or a checkpoint that says what the records before it come to, and up to
/// one that ends the segment.
fn scan(mut reader: SegmentReader, mut tree: Tree, mut prev: Digest) -> Result<Found, SegmentError> {
    let log = reader.header.log;
    let (mut clean, mut ended) = (true, false);
    let mut good = reader.lines.next_offset();
    while !ended && reader.advance()? == Next::Whole {
        let line = reader.lines.line();
        match Line::parse(line) {
            Line::Record(link) if link.seq == tree.size() && link.prev == prev => {
                prev = leaf_hash(line);
                tree.push(prev);
                clean = false;
            }
            Line::Checkpoint(document) => {
                let fits = |head: &Head| {
                    head.log == log && head.size == tree.size() && head.root == tree.root() && head.last == prev
                };
                let Some(head) = dangerous_unverified_head(document).filter(fits) else {
                    break;
                };
                (clean, ended) = (true, head.ends);
            }
            Line::Record(_) | Line::Segment(_) | Line::Unknown => break,
        }
        good = reader.lines.next_offset();
    }
    let end = reader.length()?;
    Ok(Found {
        tree,
        prev,
        clean,
        ended,
        good,
        end,
    })
}

struct Cut {
    digest: Digest,
    file: String,
}

/// Copies what follows `good` to a file of its own, at least its beginning, and cuts it off.
fn cut(dir: &Dir, first: u64, good: u64) -> Result<Cut, OpenError> {
    let name = segment::file_name(first);
    let failed = |source| SegmentError::Read {
        name: name.clone(),
        source,
    };
    let mut from = segment::open(dir, &name, OpenOptions::new().read(true).write(true))?.into_std();
    from.seek(SeekFrom::Start(good)).map_err(failed)?;
    let part = segment::open(
        dir,
        CUT_PART,
        OpenOptions::new().write(true).create(true).truncate(true),
    )?;
    let mut to = part.into_std();
    let copied = copy(&mut from, &mut to).map_err(failed);
    let kept = copied.and_then(|digest| Ok((digest, keep(dir, first, good)?)));
    let (digest, file) = kept.inspect_err(|_| {
        let _stays = dir.remove_file(CUT_PART);
    })?;
    let cut_off = sync_folder(dir).and_then(|()| from.set_len(good).map_err(failed));
    cut_off.inspect_err(|_| {
        // Nothing was cut off: it is copied again by whoever tries next, who would not replace this one.
        let _stays = dir.remove_file(&file);
    })?;
    from.sync_all().map_err(failed)?;
    Ok(Cut { digest, file })
}

/// Gives the copy, which is whole, a name that was not there. What was cut off before at the same place may have nothing but its
/// file to say so: where the power failed right then, the record about it is gone. Whoever has the log open is alone here.
fn keep(dir: &Dir, first: u64, good: u64) -> Result<String, SegmentError> {
    let mut number = 1u64;
    loop {
        let more = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let name = format!("cut-{first:020}-{good}{more}.bin");
        match dir.symlink_metadata(&name) {
            Ok(_) => number = number.saturating_add(1),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match dir.rename(CUT_PART, dir, &name) {
                    Ok(()) => Ok(name),
                    Err(source) => Err(SegmentError::Read { name, source }),
                };
            }
            Err(source) => return Err(SegmentError::Read { name, source }),
        }
    }
}

/// At most the first 64 MiB, to stable storage.
fn copy(from: &mut std::fs::File, to: &mut std::fs::File) -> std::io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut from_start = from.take(CUT_KEPT_BYTES_MAX);
    loop {
        let read = from_start.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hash.update(bytes);
        to.write_all(bytes)?;
    }
    to.sync_all()?;
    Ok(Digest::from_bytes(hash.finalize().into()))
}

/// Brings a segment to stable storage that a killed host may have left in memory alone: what was read of it is about to be called
/// durable, and copies of it to be made.
fn settle(dir: &Dir, first: u64) -> Result<(), SegmentError> {
    let name = segment::file_name(first);
    segment::open(dir, &name, OpenOptions::new().read(true))?
        .sync_all()
        .map_err(|source| SegmentError::Read { name, source })?;
    sync_folder(dir)
}

/// So that the names in it survive a power failure.
fn sync_folder(dir: &Dir) -> Result<(), SegmentError> {
    let synced = dir.open(".").and_then(|folder| folder.sync_all());
    synced.map_err(|source| SegmentError::Read {
        name: ".".to_owned(),
        source,
    })
}
