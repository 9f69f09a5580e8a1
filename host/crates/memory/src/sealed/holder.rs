//! The file `lock`: one process has the store, and whoever comes second is told which.

use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aral_contract::Clock;
use aral_runtime::files;
use cap_std::fs::Dir;

use super::file::open_to_read;
use crate::store::StoreError;

pub(super) const NAME: &str = "lock";
/// What is read of what the holder wrote.
const TEXT_BYTES_MAX: usize = 256;

/// Takes the lock and writes down who has it. Held until the file is closed, however the process ends.
pub(super) fn take(dir: &Dir, path: &Path, holder: &str, clock: &dyn Clock) -> Result<File, StoreError> {
    let file = files::open_lock(dir, NAME).map_err(|error| error.below(path))?;
    held_by_none(file.try_lock(), &file, path)?;
    note(&file, holder, clock).map_err(|error| StoreError::io("write its lock", error))?;
    Ok(file)
}

/// The same for who writes nothing else: where the file cannot be written, nobody is kept out but who writes.
pub(super) fn take_to_read(dir: &Dir, path: &Path, holder: &str, clock: &dyn Clock) -> Result<File, StoreError> {
    match files::open_lock(dir, NAME) {
        Ok(file) => {
            held_by_none(file.try_lock(), &file, path)?;
            if let Err(error) = note(&file, holder, clock) {
                tracing::warn!(%error, "the lock of the store does not say who has it");
            }
            Ok(file)
        }
        Err(refused) => {
            let file = open_to_read(dir, NAME).map_err(|_| refused.below(path))?;
            held_by_none(file.try_lock_shared(), &file, path)?;
            Ok(file)
        }
    }
}

fn held_by_none(locked: Result<(), TryLockError>, file: &File, path: &Path) -> Result<(), StoreError> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Held {
            path: path.to_owned(),
            holder: read(file),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock its folder", error)),
    }
}

fn note(file: &File, holder: &str, clock: &dyn Clock) -> std::io::Result<()> {
    let text = format!(
        "process {} (`{}`), since {}",
        std::process::id(),
        plain(holder),
        clock.now()
    );
    file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0))
}

fn read(file: &File) -> String {
    let mut bytes = [0; TEXT_BYTES_MAX];
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    if text.is_empty() {
        "one that has just begun".to_owned()
    } else {
        plain(&text)
    }
}

/// On one line, whoever wrote it.
fn plain(text: &str) -> String {
    text.chars()
        .take(TEXT_BYTES_MAX / 2)
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect()
}
