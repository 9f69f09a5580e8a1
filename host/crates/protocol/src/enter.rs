//! The first and the last thing that happens to a request: it gets its trace id, a panic on the way fails it alone, every
//! refusal becomes a problem document, and every answer carries the fields that keep browsers from misusing it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use aral_contract::{Clock, Failure, Sampling, TraceContext, TraceId};
use aral_runtime::entropy;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tracing::Instrument as _;

use crate::door::Trace;
use crate::meters::{self, Requests};
use crate::problem::Problem;
use crate::traces::Traces;

/// Names the request to its caller.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("aral-trace-id");

/// To which trace the request belongs (W3C Trace Context).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What systems before this one said for themselves.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// On every answer: it is data for the caller alone, and no page.
const FIELDS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; sandbox",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the first step needs.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    clock: Arc<dyn Clock>,
    traces: Traces,
    requests: Arc<Requests>,
}

impl Entrance {
    /// `sampling` says which traces are kept.
    pub(crate) fn new(clock: &Arc<dyn Clock>, sampling: Sampling) -> Self {
        Self {
            clock: Arc::clone(clock),
            traces: Traces::new(sampling),
            requests: Arc::new(Requests::new()),
        }
    }

    /// The same one, which keeps other traces from now on. What was counted goes on.
    pub(crate) fn renewed(&self, sampling: Sampling) -> Self {
        Self {
            clock: Arc::clone(&self.clock),
            traces: self.traces.renewed(sampling),
            requests: Arc::clone(&self.requests),
        }
    }
}

/// Around everything else, which is what `inside` makes of the request and its name. `from` is where it comes from; none: from
/// this machine.
pub(crate) async fn enter<A: Future<Output = Response>>(
    entrance: &Entrance,
    from: Option<IpAddr>,
    mut request: Request,
    inside: impl FnOnce(TraceId, Request) -> A,
) -> Response {
    let _present = entrance.requests.begin();
    let begun = entrance.clock.elapsed();
    let context = context(request.headers()).unwrap_or_else(|| TraceContext::begin(entropy::trace_id()));
    let context = entrance.traces.decide(context, from);
    let trace = context.trace;
    let method = meters::method(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = meters::route(matched.as_ref());
    let span = tracing::info_span!(
        target: "aral::call",
        "request",
        trace_id = %trace,
        parent_span_id = context.parent.map(tracing::field::display),
        sampled = context.sampled,
        method,
        route,
        status = tracing::field::Empty,
    );
    let extensions = request.extensions_mut();
    extensions.insert(Trace(trace));
    extensions.insert(context);
    let answering = async {
        let answered = AssertUnwindSafe(async { inside(trace, request).await })
            .catch_unwind()
            .await;
        let response = answer(answered, trace);
        tracing::Span::current().record("status", response.status().as_u16());
        response
    };
    let response = answering.instrument(span).await;
    let took = entrance.clock.elapsed().saturating_sub(begun);
    entrance.requests.answered(method, route, response.status(), took);
    response
}

/// What the request says of its trace; none: nothing, or something malformed, or two things.
fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (parent, None) = (parents.next()?, parents.next()) else {
        return None;
    };
    let states: Option<Vec<&str>> = headers
        .get_all(TRACESTATE)
        .iter()
        .map(|one| one.to_str().ok())
        .collect();
    TraceContext::parse(parent.to_str().ok()?, &states.unwrap_or_default())
}

fn answer(answered: std::thread::Result<Response>, trace: TraceId) -> Response {
    let response = answered.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let failure = Failure::internal(format_args!("panicked: {}", text.unwrap_or("without a message")));
        Problem::from(failure).into_response()
    });
    finish(response, trace)
}

fn finish(mut response: Response, trace: TraceId) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let is_document = response.headers().contains_key(header::CONTENT_TYPE);
    let problem = match problem {
        // The router refuses with a bare status.
        None if !is_document && (status.is_client_error() || status.is_server_error()) => {
            Some(Problem::of_status(status))
        }
        // It also refuses in plain text, which only a handler here writes as JSON.
        None if is_plain(&response) && status != StatusCode::OK => Some(Problem::of_status(status)),
        other => other,
    };
    if let Some(problem) = problem {
        if let Some(detail) = problem.internal() {
            tracing::error!(%trace, %detail, "a request failed");
        }
        response = problem.render(response, trace);
    }
    let headers = response.headers_mut();
    for (name, value) in FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(TRACE_ID)
        && let Ok(value) = HeaderValue::try_from(trace.to_string())
    {
        headers.insert(TRACE_ID, value);
    }
    response
}

fn is_plain(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

#[cfg(test)]
mod tests {
    use aral_runtime::SystemClock;
    use axum::body::Body;

    use super::*;

    async fn is_sampled(entrance: &Entrance, parent: &str) -> bool {
        let request = Request::builder().header(TRACEPARENT, parent);
        let request = request.body(Body::empty()).unwrap();
        let inside = |_trace, request: Request| async move {
            let context = request.extensions().get::<TraceContext>().unwrap();
            let status = if context.sampled {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            status.into_response()
        };
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        enter(entrance, from, request, inside).await.status() == StatusCode::OK
    }

    #[tokio::test]
    async fn names_that_a_stranger_chose_to_be_kept_are_kept_for_a_while_also_if_the_configuration_is_read_again() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let sampling = Sampling::ratio(0.01).unwrap();
        let mut entrance = Entrance::new(&clock, sampling);
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut count = 0;
            for _ in 0..2000 {
                let chosen = "00-0af7651916cd43dd0000000000000000-b7ad6b7169203331-01";
                count += u64::from(is_sampled(&entrance, chosen).await);
            }
            kept.push(count);
            entrance = entrance.renewed(sampling);
        }
        assert!(kept[0] < 1100 && (19..=21).contains(&kept[1]), "{kept:?}");
    }
}
