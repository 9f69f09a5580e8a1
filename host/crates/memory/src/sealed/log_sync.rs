//! How far sled's log is on stable storage. sled writes over a segment once what it moved out of it was handed to the system,
//! which is not yet the disk; also for who only reads, whom it has divide and join leaves. It knows no entry.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cap_std::fs::Dir;

use super::open::mark_unsynced;
use super::tree::SEGMENT_BYTES;
use crate::store::StoreError;

/// What cannot be done where the disk does not take it.
const SYNC: &str = "sync its records";

/// A position in the log, in bytes from its beginning. The log is cut into segments, which lie anywhere in the file.
pub(super) type Position = i64;

/// Keeps the log synced up to the segment that it is written in, for two reasons. What was moved into one segment frees its old place
/// when the log was handed to the system up to the end of that one, and the place is written over later. And a segment says at its
/// begin up to where the log was handed to the system then: sled takes that for on the disk, and throws everything away that it would
/// replay, also what is whole, if a segment below it is not there.
pub(super) struct LogSync {
    /// The folder of the store.
    dir: Dir,
    synced: AtomicI64,
    one_at_a_time: Mutex<()>,
    failed: AtomicBool,
}

impl LogSync {
    pub(super) fn new(dir: Dir, synced: Position) -> Self {
        Self {
            dir,
            synced: AtomicI64::new(synced),
            one_at_a_time: Mutex::default(),
            failed: AtomicBool::default(),
        }
    }

    /// Syncs if a segment has ended since that was done. `handed` is up to where the log was handed to the system. Who comes
    /// meanwhile waits: it would write on.
    ///
    /// # Errors
    /// A sync has failed, now or before. Nobody knows what the disk has, and whoever goes on would have more written over.
    pub(super) fn keep_up(&self, file: &File, handed: impl Fn() -> Position) -> Result<(), StoreError> {
        if !self.is_behind(handed()) {
            return self.check();
        }
        let turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_behind(handed()) {
            return self.sync_in(turn, file, handed());
        }
        self.check()
    }

    /// Syncs in any case.
    ///
    /// # Errors
    /// As [`LogSync::keep_up`].
    pub(super) fn sync(&self, file: &File, handed: impl Fn() -> Position) -> Result<(), StoreError> {
        let turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_in(turn, file, handed())
    }

    fn sync_in(&self, _turn: MutexGuard<'_, ()>, file: &File, handed: Position) -> Result<(), StoreError> {
        self.check()?;
        if let Err(error) = file.sync_all() {
            self.failed.store(true, Ordering::Release);
            mark_unsynced(&self.dir);
            return Err(StoreError::io(SYNC, error));
        }
        self.synced.fetch_max(handed, Ordering::AcqRel);
        Ok(())
    }

    /// # Errors
    /// A sync has failed. The system tells that once; whoever asks again is told that all is well.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            let told = "an earlier sync failed; the store is neither read nor written until it is opened again";
            return Err(StoreError::io(SYNC, told));
        }
        Ok(())
    }

    /// Whether a segment has ended since.
    pub(super) fn is_behind(&self, at: Position) -> bool {
        let segment = |position: Position| position.div_euclid(SEGMENT_BYTES as Position);
        segment(self.synced.load(Ordering::Acquire)) < segment(at)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes a folder and looks into it")]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    const SEGMENT: Position = SEGMENT_BYTES as Position;

    fn log(folder: &tempfile::TempDir, synced: Position) -> LogSync {
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        LogSync::new(dir, synced)
    }

    #[test]
    fn each_segment_that_has_ended_is_synced_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        let log = log(&folder, SEGMENT + 5);
        let synced = || log.synced.load(Ordering::Relaxed);
        log.keep_up(&file, || 2 * SEGMENT - 1).unwrap();
        assert_eq!(synced(), SEGMENT + 5, "none has ended");
        log.keep_up(&file, || 2 * SEGMENT).unwrap();
        assert_eq!(synced(), 2 * SEGMENT);
        log.sync(&file, || 4 * SEGMENT + 7).unwrap();
        log.sync(&file, || 3 * SEGMENT).unwrap();
        log.keep_up(&file, || 4 * SEGMENT + 9).unwrap();
        assert_eq!(synced(), 4 * SEGMENT + 7, "somebody else has");
    }

    #[test]
    fn a_sync_that_failed_is_told_from_then_on_and_leaves_word() {
        let folder = tempfile::tempdir().unwrap();
        // A pipe has nothing to sync.
        let (_reads, writes) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writes));
        let log = log(&folder, 0);
        log.keep_up(&file, || SEGMENT - 1).unwrap();
        let is_marked = || folder.path().read_dir().unwrap().next().is_some();
        assert!(!is_marked(), "nothing was asked of it");
        log.keep_up(&file, || SEGMENT).unwrap_err();
        assert!(is_marked());
        let file = tempfile::tempfile().unwrap();
        for told in [log.check(), log.keep_up(&file, || 0), log.sync(&file, || 0)] {
            let told = format!("{:?}", told.unwrap_err());
            assert!(told.contains("an earlier sync failed"), "{told}");
        }
    }
}
