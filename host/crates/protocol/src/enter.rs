//! The first and the last thing that happens to a request: it gets its trace id, a panic on the way fails it alone, every
//! refusal becomes a problem document, and every answer carries the fields that keep browsers from misusing it.

use std::panic::AssertUnwindSafe;

use aral_contract::{Failure, TraceId};
use aral_runtime::entropy;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::door::Trace;
use crate::problem::Problem;

/// Names the request to its caller.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("aral-trace-id");

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

/// Around everything else.
pub(crate) async fn enter(mut request: Request, next: Next) -> Response {
    let trace = entropy::trace_id();
    request.extensions_mut().insert(Trace(trace));
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
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
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        headers.entry(TRACE_ID).or_insert(value);
    }
    response
}

fn is_plain(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}
