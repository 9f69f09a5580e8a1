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

/// Standard output is for the answer of the verb; what is in the log goes there from a host that serves, which may be behind.
pub(crate) fn for_a_verb(config: &mut Config) {
    if let Some(audit) = &mut config.audit {
        audit.stdout_elsewhere |= std::mem::take(&mut audit.stdout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_leaves_standard_output_alone_and_what_a_server_writes_there_in_the_log() {
        let mut config = Config::closed().unwrap();
        let mut shown = |stdout| {
            config.audit.as_mut().unwrap().stdout = stdout;
            for_a_verb(&mut config);
            for_a_verb(&mut config);
            let audit = config.audit.as_ref().unwrap();
            (audit.stdout, audit.stdout_elsewhere)
        };
        assert_eq!(shown(false), (false, false));
        assert_eq!(shown(true), (false, true));
    }
}
