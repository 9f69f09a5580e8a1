//! What one call has open. It is closed in threads that may block, as some file systems write only then what was written before.
//! Handles of the granted folders themselves are closed wherever the last who has them is: closing a folder writes nothing.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::places::Place;

/// A reference to each file and folder that a call opened, so that whoever else lets go of one never closes it.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    files: Vec<One>,
    /// The call has ended, and nobody looks at this any more.
    is_over: bool,
}

/// An open file or folder.
#[derive(Debug)]
pub(super) struct One {
    file: Arc<File>,
    /// Behind the file: it is given back once that is closed.
    _room: Place,
}

impl One {
    /// Whether somebody else has it, too.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.file) > 1
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds one more, and its room for as long as it is open. Of a call that has ended, nobody takes what was opened, and the thread
    /// that opened it closes it.
    pub(super) fn hold(&self, file: &Arc<File>, room: Place) {
        let mut open = self.lock();
        if !open.is_over {
            open.files.push(One {
                file: Arc::clone(file),
                _room: room,
            });
        }
    }

    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().files.is_empty()
    }

    /// How many somebody else has, too: a handle or stream of the guest, or a thread that is at it.
    pub(super) fn used(&self) -> usize {
        let open = self.lock();
        open.files.iter().filter(|one| one.is_used()).count()
    }

    /// Closes what nobody else has. May block for as long as the file system does.
    pub(super) fn close_unused(&self) {
        let unused: Vec<_> = self.lock().files.extract_if(.., |one| !one.is_used()).collect();
        // Not under the lock, which is also taken on the threads of the executor.
        drop(unused);
    }

    /// All of it, and it is over.
    pub(super) fn end(&self) -> Vec<One> {
        let mut open = self.lock();
        open.is_over = true;
        std::mem::take(&mut open.files)
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Work;
    use super::*;

    #[test]
    fn what_is_opened_for_a_call_that_has_ended_is_left_to_who_opened_it() {
        let (held, work) = (Held::default(), Work::alone());
        let open = || {
            let file = Arc::new(tempfile::tempfile().unwrap());
            held.hold(&file, work.room().unwrap());
            file
        };
        let (before, ended) = (open(), held.end());
        assert_eq!((Arc::strong_count(&before), ended.len()), (2, 1));
        assert_eq!(Arc::strong_count(&open()), 1);
        assert!(held.is_empty());
    }
}
