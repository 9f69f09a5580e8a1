//! How a call ended, and what was heard meanwhile.

use std::time::Duration;

use aral_contract::{Event, EventKind, Failure, Permission, Usage};
use serde_json::Value;

/// From the moment when the component was ready to run to the end of the call: compiling is not the guest's time.
pub(super) fn elapsed(events: &[Event]) -> Duration {
    let at = |wanted: fn(&EventKind) -> bool| events.iter().find(|event| wanted(&event.kind)).map(|event| event.at);
    let started = at(|kind| matches!(kind, EventKind::InvocationStarted { .. }));
    let ended = at(|kind| matches!(kind, EventKind::InvocationEnded { .. }));
    let elapsed = started.zip(ended).map(|(started, ended)| ended.duration_since(started));
    elapsed.map_or(Duration::ZERO, |elapsed| {
        Duration::try_from(elapsed).unwrap_or_default()
    })
}

/// How a call ended, and what was heard meanwhile.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Value, Failure>,
    pub(crate) usage: Usage,
    pub(crate) elapsed: Duration,
    pub(super) events: Vec<Event>,
}

impl Outcome {
    /// The answer; a failure ends the test.
    pub(crate) fn answer(&self) -> &Value {
        match &self.result {
            Ok(answer) => answer,
            Err(failure) => panic!(
                "{failure} (hint {:?}, internal {:?}; log {:?})",
                failure.hint,
                failure.internal,
                self.logs()
            ),
        }
    }

    /// The failure; an answer ends the test.
    pub(crate) fn failure(&self) -> &Failure {
        match &self.result {
            Err(failure) => failure,
            Ok(answer) => panic!(
                "it answered {}",
                answer.to_string().chars().take(600).collect::<String>()
            ),
        }
    }

    /// The guest's log lines.
    pub(crate) fn logs(&self) -> Vec<String> {
        let message = |event: &Event| match &event.kind {
            EventKind::GuestLog { message, .. } => Some(message.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    /// The guest said that the attacking line comes next.
    pub(crate) fn assert_marker(&self, text: &str) {
        let marker = format!("marker: {text}");
        let logs = self.logs();
        assert!(
            logs.iter().any(|line| line.contains(&marker)),
            "no line `{marker}` among {:?}",
            logs.iter().take(20).collect::<Vec<_>>()
        );
    }

    /// What was recorded of records and secrets.
    pub(crate) fn accesses(&self) -> Vec<EventKind> {
        let accesses = self.events.iter().map(|event| &event.kind);
        accesses
            .filter(|kind| matches!(kind, EventKind::MemoryAccess { .. } | EventKind::SecretAccess { .. }))
            .cloned()
            .collect()
    }

    /// Everything that was recorded, as text.
    pub(crate) fn recorded(&self) -> String {
        format!("{:?}", self.events)
    }

    /// Why host functions refused something under this permission, each time.
    pub(crate) fn denials(&self, wanted: Permission) -> Vec<&str> {
        let events = self.events.iter();
        events
            .filter_map(|event| match &event.kind {
                EventKind::HostCall {
                    permission,
                    allowed: false,
                    reason: Some(reason),
                    ..
                } if *permission == wanted => Some(reason.as_str()),
                _ => None,
            })
            .collect()
    }

    /// A host function refused something under this permission, and said why.
    pub(crate) fn assert_denied(&self, wanted: Permission) {
        assert!(
            self.denials(wanted).iter().any(|reason| !reason.is_empty()),
            "no denial under {wanted} among {:?}",
            self.events
        );
    }
}
