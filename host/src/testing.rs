//! What tests of this crate share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aral_contract::event::{RoomFuture, SinkUnavailable};
use aral_contract::{AuditSink, Clock, Event, EventKind};

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

/// A second passes whenever somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Fast(AtomicU64);

impl Clock for Fast {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
