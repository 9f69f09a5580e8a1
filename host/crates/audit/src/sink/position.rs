//! Where a sink stands, in a file beside the log. It is written after each delivery, so that after a crash a batch may be
//! delivered again, and none is left out.

use std::path::Path;

use aral_contract::LogId;
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use super::SinkName;
use crate::AuditLog;
use crate::segment::SegmentError;

const POSITION_BYTES_MAX: u64 = 4096;

/// Why a position cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The log cannot be listed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The file holds something else, or the position in another log.
    #[error("`{file}` is not the position of a sink in this log")]
    Damaged {
        /// Which.
        file: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    log: LogId,
    next: u64,
}

fn file(name: &str) -> String {
    format!("sink-{name}.json")
}

/// The next record to deliver; none: nothing was delivered yet. Of a log that was not begun there is no position.
pub(super) fn read(dir: &Dir, name: &str, log: Option<LogId>) -> Result<Option<u64>, PositionError> {
    let file = file(name);
    let bytes = match files::read_capped(dir, &file, POSITION_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    match serde_json::from_slice::<Position>(&bytes) {
        Ok(position) if Some(position.log) == log => Ok(Some(position.next)),
        Ok(_) | Err(_) => Err(PositionError::Damaged { file }),
    }
}

/// Whether a sink could go on in the log of a folder; none: a host has to begin it. It changes nothing.
///
/// # Errors
/// As [`Shipper::new`](super::Shipper::new), as far as reading the position shows it.
pub fn check_position(directory: &Path, name: &SinkName, log: Option<LogId>) -> Result<(), PositionError> {
    read(&files::open_root(directory)?, name.as_str(), log).map(drop)
}

/// The next record to deliver in a log that was opened. A position beyond what was in it then stood in a longer one: this is a copy, or was
/// cut back, and other records get the numbers in between.
pub(super) fn of(log: &AuditLog, name: &SinkName) -> Result<Option<u64>, PositionError> {
    let (dir, id, end) = (log.dir(), log.id(), log.size_before());
    match read(dir, name.as_str(), Some(id))? {
        Some(next) if next > end => {
            tracing::error!(sink = %name, next, end, "the audit log ends before the position of this sink, which goes on at its end");
            write(dir, name.as_str(), id, end)?;
            Ok(Some(end))
        }
        stood => Ok(stood),
    }
}

/// Everything before `next` was delivered.
pub(super) fn write(dir: &Dir, name: &str, log: LogId, next: u64) -> Result<(), PositionError> {
    // Writing to memory fails only for maps with keys that are not text, and there are none here.
    let bytes = serde_json::to_vec(&Position { log, next }).unwrap_or_default();
    Ok(files::write_atomic(dir, file(name), &bytes, 0o600)?)
}
