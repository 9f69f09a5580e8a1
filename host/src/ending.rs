//! How a host ends: with its last clone, or when whoever ends the process says so, who may not know what still holds one.

use std::sync::PoisonError;

use aral_contract::event::LifecycleChange;
use aral_contract::{AuditSink as _, Code, Event, EventKind, Failure};

use crate::host::{Host, Parts, SUBJECT};

impl Host {
    /// Ends it in order although others may still hold it, such as a thread that waits for a disk that hangs: what agents have used
    /// up is kept, its store is closed and its audit log ends, whose copies are waited for a few seconds. It calls nothing afterwards. For
    /// a process that is about to end. It waits for a disk; in async code call it where blocking is allowed. Once more does nothing,
    /// and whoever asks meanwhile waits, too.
    pub fn end(&self) {
        // Whoever ends it as well waits, so that the log has what the first one says of it.
        let _one_after_the_other = self.0.end.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.leave();
        // Before the log, which its upkeep writes to.
        if let Some(store) = &self.0.store {
            store.end();
        }
        if let Some(audit) = self.audit() {
            audit.end();
        }
    }
}

impl Parts {
    /// Nothing is taken once the host has ended: it would be on no record. Ask after the last wait for anything.
    pub(crate) fn check_here(&self) -> Result<(), Failure> {
        if self.events.has_ended() {
            return Err(Failure::new(Code::Unavailable, "the host has ended"));
        }
        Ok(())
    }

    /// Keeps what was used, and says that the host is gone, once.
    fn leave(&self) {
        if !self.events.end() {
            return;
        }
        if self.serials.is_some() {
            self.keep_used();
        }
        self.events.record(Event {
            at: self.clock.now(),
            trace: None,
            kind: EventKind::Lifecycle {
                change: LifecycleChange::Stopped,
                subject: SUBJECT.to_owned(),
                digest: None,
            },
        });
    }
}

impl Drop for Parts {
    /// The last clone is gone; the log ends after this.
    fn drop(&mut self) {
        self.leave();
    }
}
