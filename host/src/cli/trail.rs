//! Where verbs that touch data themselves, without a host, record what the operator did: in the audit log of the
//! configuration, and in the log on standard error.

use std::sync::Arc;

use aral_contract::event::{RecordFuture, RoomFuture, SinkUnavailable};
use aral_contract::{AuditSink, Clock, Event, Failure};
use aral_host::{Audit, Config, LogSink};

/// The open log, if the configuration has a place for one.
#[derive(Debug)]
pub(crate) struct Trail(Option<Box<dyn AuditSink>>);

impl Trail {
    /// Nothing is done that cannot be recorded.
    pub(crate) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let mut config = config.clone();
        for_a_verb(&mut config);
        let audit = Audit::open(&config, clock)?;
        audit.as_ref().map_or(Ok(()), |audit| audit.available())?;
        Ok(Self(audit.map(|audit| Box::new(audit) as Box<dyn AuditSink>)))
    }
}

impl AuditSink for Trail {
    fn record(&self, event: Event) {
        LogSink.record(event.clone());
        if let Some(audit) = &self.0 {
            audit.record(event);
        }
    }

    fn append(&self, event: Event) -> RecordFuture {
        let told = LogSink.append(event.clone());
        match &self.0 {
            Some(audit) => audit.append(event),
            None => told,
        }
    }

    fn available(&self) -> Result<(), SinkUnavailable> {
        self.0.as_ref().map_or(Ok(()), |audit| audit.available())
    }

    fn room(&self) -> Option<RoomFuture> {
        self.0.as_ref()?.room()
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
    use aral_contract::EventKind;
    use aral_contract::event::AppendOutcome;
    use aral_runtime::SystemClock;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test writes a configuration")]
    fn what_a_verb_waits_for_is_kept_by_the_log_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aral.toml");
        std::fs::write(&file, "state_dir = \"state\"\n[audit]\nreserve_bytes = 0\n").unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let trail = Trail::open(&Config::load(&file).unwrap(), &clock).unwrap();
        let event = Event {
            at: clock.now(),
            trace: None,
            kind: EventKind::DevelopmentOnly {
                subject: "something".to_owned(),
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let kept = runtime.block_on(trail.append(event.clone())).unwrap();
        assert!(matches!(kept, AppendOutcome::Recorded(_)), "{kept:?}");
        let nowhere = runtime.block_on(Trail(None).append(event));
        assert_eq!(nowhere, Ok(AppendOutcome::Unreferenced));
    }

    #[test]
    fn a_verb_waits_for_the_room_of_the_log_of_the_configuration() {
        /// Has no room for now.
        #[derive(Debug)]
        struct Crowded;
        impl AuditSink for Crowded {
            fn record(&self, _event: Event) {}
            fn room(&self) -> Option<RoomFuture> {
                Some(Box::pin(std::future::pending()))
            }
        }
        assert!(Trail(Some(Box::new(Crowded))).room().is_some());
        assert!(Trail(None).room().is_none());
    }

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
