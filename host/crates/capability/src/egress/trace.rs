//! What a request says of the trace that it belongs to (W3C Trace Context): the name of the trace and of the exchange, drawn
//! by the host. A guest can neither set nor read it.

use aral_contract::SpanId;
use aral_contract::host_pattern::{HostPattern, Origin};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::call::CallRecord;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The fields of one request.
#[derive(Debug, Default)]
pub(super) struct TraceFields {
    parent: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

impl TraceFields {
    /// Random names go to every host that the grant names, unless the policy says to which. What systems before this one said
    /// for themselves is theirs: it goes only to hosts that the policy names.
    pub(super) fn new(call: &CallRecord, origin: &Origin, span: SpanId) -> Self {
        let covers = |pattern: &HostPattern| pattern.covers(origin);
        let hosts = call.frame.services.trace_hosts.as_ref();
        let named = hosts.map(|hosts| hosts.iter().any(covers));
        let value = |text: &str| HeaderValue::from_str(text).ok();
        if named == Some(false) {
            return Self::default();
        }
        let state = call.context.state.as_ref().filter(|_| named == Some(true));
        Self {
            parent: value(&call.context.traceparent(span).to_string()),
            state: state.and_then(|state| value(state.as_str())),
        }
    }

    /// Adds them to a request from which those of the guest are gone.
    pub(super) fn fill(self, headers: &mut HeaderMap) {
        let fields = [(TRACEPARENT, self.parent), (TRACESTATE, self.state)];
        for (name, value) in fields {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}
