//! A thread that syncs the slot file while the writer writes records. It lives as long as the store is open, because starting
//! one takes as long as a sync.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A file that is synced on a thread of its own, asked by one at a time.
pub(super) struct Beside {
    asked: SyncSender<()>,
    done: Receiver<std::io::Result<()>>,
}

impl Beside {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(file: File) -> std::io::Result<Self> {
        let (asked, asks) = sync_channel(1);
        let (answer, done) = sync_channel(1);
        let work = move || {
            while asks.recv().is_ok() {
                if answer.send(file.sync_data()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("aral-store-sync".to_owned())
            .spawn(work)?;
        Ok(Self { asked, done })
    }

    /// Begins to sync what was written before. Whoever begins waits with [`Beside::wait`].
    pub(super) fn begin(&self) -> std::io::Result<()> {
        self.asked.send(()).map_err(|_| gone())
    }

    /// Waits for the sync that was begun.
    pub(super) fn wait(&self) -> std::io::Result<()> {
        self.done.recv().map_err(|_| gone())?
    }
}

fn gone() -> std::io::Error {
    std::io::Error::other("the thread that syncs is gone")
}
