//! The first and the last thing that happens to a request: it gets its trace id, a panic on the way fails it alone, every
//! refusal becomes a problem document, and every answer carries the fields that keep browsers from misusing it.

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
    sampling: Sampling,
    requests: Arc<Requests>,
}

impl Entrance {
    /// `sampling` says which traces are kept.
    pub(crate) fn new(clock: &Arc<dyn Clock>, sampling: Sampling) -> Self {
        Self {
            clock: Arc::clone(clock),
            sampling,
            requests: Arc::new(Requests::new()),
        }
    }
}

/// Around everything else, which is what `inside` makes of the request and its name.
pub(crate) async fn enter<A: Future<Output = Response>>(
    entrance: &Entrance,
    mut request: Request,
    inside: impl FnOnce(TraceId, Request) -> A,
) -> Response {
    let _present = entrance.requests.begin();
    let begun = entrance.clock.elapsed();
    let context = context(request.headers()).unwrap_or_else(|| TraceContext::begin(entropy::trace_id()));
    let context = entrance.sampling.decide(context);
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
