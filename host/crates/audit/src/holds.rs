//! What keeps records from being removed: copies of the log that do not have them yet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where sinks stand: what they have not delivered is not removed.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    positions: Mutex<Vec<Weak<AtomicU64>>>,
    /// Those of sinks that are not at work: they move no more while the log is open.
    kept: Mutex<Vec<Arc<AtomicU64>>>,
    /// There will be sinks that have not said yet where they stand.
    awaited: AtomicBool,
}

impl Holds {
    /// Of sinks that are about to start.
    pub(crate) fn awaited() -> Self {
        Self {
            awaited: AtomicBool::new(true),
            ..Self::default()
        }
    }

    /// All of them have said where they stand.
    pub(crate) fn complete(&self) {
        self.awaited.store(false, Ordering::Release);
    }

    pub(crate) fn are_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// A sink that needs the records from `seq` on, until it moves the number or drops it.
    pub(crate) fn add(&self, seq: u64) -> Arc<AtomicU64> {
        let hold = Arc::new(AtomicU64::new(seq));
        let mut holds = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Arc::downgrade(&hold));
        hold
    }

    /// Nobody moves this one any more, and it is not dropped before the log is closed.
    pub(crate) fn keep(&self, hold: Arc<AtomicU64>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(hold);
    }

    /// The first record that some sink needs.
    pub(crate) fn lowest(&self) -> u64 {
        let holds = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = holds.iter().filter_map(Weak::upgrade);
        positions
            .map(|hold| hold.load(Ordering::Acquire))
            .min()
            .unwrap_or(u64::MAX)
    }
}
