//! How much a call does with files at once: each thing that may wait for a disk takes a thread that may block, and a call has few
//! of those. It knows no file.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

/// Things that one call does with files at once. Stops a call from holding all threads of the host that may block, which a
/// slow disk or mount does not give back: files of other calls, the audit log and the store want them too.
pub(super) const FILE_WORK_PER_CALL_MAX: usize = 8;

/// What one call does with files.
#[derive(Debug)]
pub(super) struct Work {
    own: Arc<Semaphore>,
}

/// The right to one thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
}

impl Work {
    pub(super) fn new() -> Self {
        Self {
            own: Arc::new(Semaphore::new(FILE_WORK_PER_CALL_MAX)),
        }
    }

    /// Waits for a turn; none: there will be none any more, which nobody brings about.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        Some(Turn { _own: own })
    }

    /// A turn, if there is one now.
    pub(super) fn turn_now(&self) -> Option<Turn> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        Some(Turn { _own: own })
    }

    /// Waits for a turn, and for `act` in a thread that may block. If nobody waits any more, what has not begun does not begin.
    pub(super) async fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> FsResult<T> {
        let turn = self.turn().await;
        let turn = turn.ok_or_else(|| FsError::trap(wasmtime::format_err!("files are worked on no more")))?;
        let mut done = turn.start(act);
        (&mut *done).await.map_err(FsError::trap)
    }
}

impl Turn {
    /// Does `act` in a thread that may block. The turn lasts as long as the thread is at it, also where nobody waits any more.
    pub(super) fn start<T: Send + 'static>(self, act: impl FnOnce() -> T + Send + 'static) -> AbortOnDropJoinHandle<T> {
        spawn_blocking(move || {
            let _turn = self;
            act()
        })
    }
}

#[cfg(test)]
impl Work {
    /// Turns that are left.
    pub(super) fn left(&self) -> usize {
        self.own.available_permits()
    }
}
