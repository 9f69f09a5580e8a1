//! What one call has open. It is closed in threads that may block, as some file systems write only then what was written before.
//! Handles of the granted folders themselves are closed wherever the last who has them is: closing a folder writes nothing.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A reference to each file and folder that a call opened, so that whoever else lets go of one never closes it.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    files: Vec<Arc<File>>,
    /// The call has ended, and nobody looks at this any more.
    is_over: bool,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds one more. Of a call that has ended, nobody takes what was opened, and the thread that opened it closes it.
    pub(super) fn hold(&self, file: &Arc<File>) {
        let mut open = self.lock();
        if !open.is_over {
            open.files.push(Arc::clone(file));
        }
    }

    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().files.is_empty()
    }

    /// How many somebody else has, too: a handle or stream of the guest, or a thread that is at it.
    pub(super) fn used(&self) -> usize {
        let open = self.lock();
        open.files.iter().filter(|file| Arc::strong_count(file) > 1).count()
    }

    /// Closes what nobody else has. May block for as long as the file system does.
    pub(super) fn close_unused(&self) {
        let unused: Vec<_> = self
            .lock()
            .files
            .extract_if(.., |file| Arc::strong_count(file) == 1)
            .collect();
        // Not under the lock, which is also taken on the threads of the executor.
        drop(unused);
    }

    /// All of it, and it is over.
    pub(super) fn end(&self) -> Vec<Arc<File>> {
        let mut open = self.lock();
        open.is_over = true;
        std::mem::take(&mut open.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_for_a_call_that_has_ended_is_left_to_who_opened_it() {
        let held = Held::default();
        let open = || {
            let file = Arc::new(tempfile::tempfile().unwrap());
            held.hold(&file);
            file
        };
        let (before, ended) = (open(), held.end());
        assert_eq!((Arc::strong_count(&before), ended.len()), (2, 1));
        assert_eq!(Arc::strong_count(&open()), 1);
        assert!(held.is_empty());
    }
}
