//! What happens during a call, shown to the person who made it: log lines of the guest and warnings as they come,
//! refused attempts afterwards. It keeps a bounded number of events and never blocks.

use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::{AuditSink, Event, EventKind};

use super::output::Output;
use super::text;

/// Events kept of one process. Stops a guest from filling memory through what it does.
const EVENTS_MAX: usize = 4096;

/// Takes the events of the host.
#[derive(Debug)]
pub(crate) struct Watch {
    output: Output,
    kept: Mutex<Vec<EventKind>>,
}

impl Watch {
    pub(crate) fn new(output: &Output) -> Arc<Self> {
        Arc::new(Self {
            output: *output,
            kept: Mutex::new(Vec::new()),
        })
    }

    /// What happened so far; it is not kept any longer.
    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditSink for Watch {
    fn record(&self, event: Event) {
        if let EventKind::GuestLog { level, message, .. } = &event.kind {
            let line = format!("log {level}: {}", text::line(message));
            match *level {
                "warn" | "error" => self.output.warn(&line),
                _ => self.output.note(&line),
            }
            return;
        }
        if let EventKind::DevelopmentOnly { subject } = &event.kind {
            self.output.warn(&format!("only development allows this: {subject}"));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < EVENTS_MAX {
            kept.push(event.kind);
        }
    }
}
