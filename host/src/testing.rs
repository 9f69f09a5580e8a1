//! What tests of this crate share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use aral_contract::event::{RoomFuture, SinkUnavailable};
use aral_contract::{AuditSink, Event, EventKind};

/// Keeps what was recorded.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    events: Mutex<Vec<EventKind>>,
    /// Whether it says that it has no room.
    full: AtomicBool,
}

impl Kept {
    /// What was recorded since this was asked last.
    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// Says from now on that it has no room.
    pub(crate) fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }
}

impl AuditSink for Kept {
    fn record(&self, event: Event) {
        self.events.lock().unwrap().push(event.kind);
    }

    fn room(&self) -> Option<RoomFuture> {
        let reason = "full".to_owned();
        let is_full = self.full.load(Ordering::Relaxed);
        is_full.then(|| Box::pin(std::future::ready(Err(SinkUnavailable { reason }))) as RoomFuture)
    }
}
