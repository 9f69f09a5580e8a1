//! Records the end of a call exactly once, also when the caller gives it up half-way.

use std::sync::Arc;

use aral_contract::{Code, EventKind, Grant, TraceId, Usage};

use super::Dispatcher;

/// Records the end when dropped. Until told otherwise, the end is that the caller gave up.
pub(super) struct Ended<'a> {
    dispatcher: &'a Dispatcher,
    trace: TraceId,
    grant: &'a Arc<Grant>,
    code: Option<Code>,
    usage: Usage,
}

impl<'a> Ended<'a> {
    pub(super) fn new(dispatcher: &'a Dispatcher, trace: TraceId, grant: &'a Arc<Grant>) -> Self {
        Self {
            dispatcher,
            trace,
            grant,
            code: Some(Code::Cancelled),
            usage: Usage::default(),
        }
    }

    pub(super) fn with(&mut self, code: Option<Code>, usage: &Usage) {
        self.code = code;
        self.usage = usage.clone();
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let usage = std::mem::take(&mut self.usage);
        self.dispatcher.record(Some(self.trace), || EventKind::InvocationEnded {
            capability: self.grant.capability.clone(),
            code: self.code,
            usage,
            evidence: None,
        });
    }
}
