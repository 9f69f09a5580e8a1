//! What one call has open. It is closed in threads that may block, as some file systems write only then what was written before.
//! Handles of the granted folders themselves are closed wherever the last who has them is: closing a folder writes nothing.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A reference to each file and folder that a call opened, so that whoever else lets go of one never closes it.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<Arc<File>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<File>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds one more.
    pub(super) fn hold(&self, file: &Arc<File>) {
        self.lock().push(Arc::clone(file));
    }

    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// How many somebody else has, too: a handle or stream of the guest, or a thread that is at it.
    pub(super) fn used(&self) -> usize {
        self.lock().iter().filter(|file| Arc::strong_count(file) > 1).count()
    }

    /// Closes what nobody else has. May block for as long as the file system does.
    pub(super) fn close_unused(&self) {
        let unused: Vec<_> = self
            .lock()
            .extract_if(.., |file| Arc::strong_count(file) == 1)
            .collect();
        // Not under the lock, which is also taken on the threads of the executor.
        drop(unused);
    }

    /// All of it.
    pub(super) fn take(&self) -> Vec<Arc<File>> {
        std::mem::take(&mut *self.lock())
    }
}
