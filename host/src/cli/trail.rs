//! Where verbs that touch data themselves, without a host, record what the operator did: in the audit log of the
//! configuration, and in the log on standard error.

use std::sync::Arc;

use aral_contract::event::SinkUnavailable;
use aral_contract::{AuditSink, Clock, Event, Failure};
use aral_host::{Audit, Config, LogSink};

/// The open log, if the configuration has a place for one.
#[derive(Debug)]
pub(crate) struct Trail(Option<Audit>);

impl Trail {
    /// Nothing is done that cannot be recorded.
    pub(crate) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let mut config = config.clone();
        for_a_verb(&mut config);
        let audit = Audit::open(&config, clock)?;
        audit.as_ref().map_or(Ok(()), |audit| audit.available())?;
        Ok(Self(audit))
    }
}

impl AuditSink for Trail {
    fn record(&self, event: Event) {
        LogSink.record(event.clone());
        if let Some(audit) = &self.0 {
            audit.record(event);
        }
    }

    fn available(&self) -> Result<(), SinkUnavailable> {
        self.0.as_ref().map_or(Ok(()), |audit| audit.available())
    }
}

/// Standard output is for the answer of the verb; what is in the log goes there from a host that serves.
pub(crate) fn for_a_verb(config: &mut Config) {
    if let Some(audit) = &mut config.audit {
        audit.stdout = false;
    }
}
