//! What tests of this crate share.

use std::sync::Mutex;

use aral_contract::{AuditSink, Event, EventKind};

/// Keeps what was recorded.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<EventKind>>);

impl Kept {
    /// What was recorded since this was asked last.
    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl AuditSink for Kept {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event.kind);
    }
}
