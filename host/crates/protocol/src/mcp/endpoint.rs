//! `/mcp`: one message of MCP in a request, checked before the library sees it; and its answer, which may be a stream.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::{CapabilityId, Code, Failure, TraceId, rule};
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::Full;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

use super::handler::Handler;
use super::message::Fault;
use super::sessions::OwnSessions;
use super::{LAST_EVENT_ID, SESSION, message};
use crate::body;
use crate::bounds;
use crate::caller::Caller;
use crate::connection::Streaming;
use crate::door::{Door, Peer, Trace};
use crate::listener::ListenerOptions;
use crate::meters;
use crate::problem::Problem;
use crate::request_place::{Ran, RequestPlace};
use crate::tally::Beyond;

/// How the library says that a message of an older revision belongs to no session, and what helps.
const NO_SESSION: &str = "Session ID is required";
const BEGIN: &str = "send `initialize` first and the `Mcp-Session-Id` of its answer from then on, or send `MCP-Protocol-Version: \
                     2026-07-28` and `Mcp-Method`";

/// How long the answer to a call may be on its way once the call has to have ended.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// What the library says of a request that it does not take is no longer than this, in bytes.
const WORDS_BYTES_MAX: usize = 1 << 10;

/// The tool that a request calls.
#[derive(Debug, Clone)]
pub(crate) struct Called(pub(crate) CapabilityId);

/// What a request says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// Its message, without the arguments of a call.
    bytes: Bytes,
    /// Its answer has no end of its own.
    listens: bool,
    /// Its method is not there.
    unknown: Option<Fault>,
}

/// Before the limits of the caller, which depend on what the request calls: reads its message, or says what is answered to it.
pub(crate) async fn read(door: &Door, trace: TraceId, request: Request) -> Result<Request, Response> {
    let (mut parts, body) = request.into_parts();
    let mut said = Said::default();
    if parts.method == Method::POST {
        body::check_json(&parts.headers).map_err(Problem::into_response)?;
        let bytes = body::read(&parts.headers, body, &door.shared.bounds).await;
        match message::read(&bytes.map_err(Problem::into_response)?) {
            Ok(message::Read {
                message,
                text,
                arguments,
            }) => {
                said.bytes = text.into();
                said.listens = listens(&message);
                said.unknown = Fault::unknown(&message);
                if let Some(arguments) = arguments {
                    parts.extensions.insert(arguments);
                }
                if let Some(id) = called(message) {
                    parts.extensions.insert(Called(id));
                }
            }
            Err(fault) => return Err(faulty(StatusCode::BAD_REQUEST, fault, trace)),
        }
    }
    parts.extensions.insert(said);
    Ok(Request::from_parts(parts, Body::empty()))
}

/// A request of MCP that was read.
pub(crate) async fn serve(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Arc<Caller>>,
    Extension(Trace(trace)): Extension<Trace>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    let (mcp, bounds) = (&door.shared.mcp, &door.shared.bounds);
    let (mut parts, _read) = request.into_parts();
    // Taken away, since the library keeps what it does not read for as long as it answers.
    let said = parts.extensions.remove::<Said>().unwrap_or_default();
    let session = parts.headers.get(SESSION).and_then(|id| id.to_str().ok());
    if session.is_some_and(|id| mcp.sessions.is_of_another(id, &caller.name)) {
        // It gets the answer for a session that is not there.
        door.shared
            .record_security(Some(trace), peer, rule::MCP_SESSION, caller.name.to_string());
    }
    if let Some(fault) = said.unknown {
        // In a session, 404 says that the session is gone.
        let status = session.map_or(StatusCode::NOT_FOUND, |_| StatusCode::OK);
        return Ok(faulty(status, fault, trace));
    }
    let is_end = parts.method == Method::DELETE;
    let is_news = parts.method == Method::GET && !continues_answer(&parts.headers);
    let has_no_end = is_news || said.listens;
    let mut place = None;
    if has_no_end {
        // It has a place of its own, and gives that of a request back.
        parts.extensions.remove::<RequestPlace>();
        let max = bounds.mcp_streams_max;
        let take = || mcp.streams.take_of(&caller.name, max, bounds::of_all(max));
        let taken = match session.filter(|_| is_news) {
            Some(id) => mcp.sessions.news_place(id, &caller.name, take),
            None => take().map(RequestPlace::of),
        };
        place = Some(taken.map_err(|beyond| full("mcp_streams_max", max, &beyond))?);
    }
    let max = bounds.mcp_sessions_max;
    let sessions = Arc::new(OwnSessions::new(Arc::clone(&mcp.sessions), caller.name.clone(), max));
    parts.extensions.insert(door.shared.toolbox());
    let own = parts.extensions.get::<RequestPlace>().cloned();
    let calls = parts.extensions.get::<Called>().is_some();
    let news = mcp.news.clone();
    let service = StreamableHttpService::new(
        move || Ok(Handler::new(news.clone())),
        Arc::clone(&sessions),
        options(&door),
    );
    let answer = service.handle(Request::from_parts(parts, Full::new(said.bytes))).await;
    if let (Some(own), Some(other)) = (own, sessions.taken_up()) {
        own.keep(other.clone());
    }
    if let Some(beyond) = sessions.was_full() {
        return Err(full("mcp_sessions_max", max, beyond));
    }
    if let Some(fault) = sessions.refused() {
        return Ok(faulty(StatusCode::BAD_REQUEST, fault.clone(), trace));
    }
    if sessions.was_gone() {
        // Also where the library still saw it: its client begins another one at this answer, and at no other.
        return Err(Problem::request(StatusCode::NOT_FOUND, "session not found"));
    }
    let mut response = refusal(answer.map(Body::new)).await?;
    if calls {
        response.extensions_mut().insert(Ran);
    }
    if is_end && response.status() == StatusCode::ACCEPTED {
        // It has ended; clients that are told that it will, say that it failed.
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    if is_stream(response.headers()) {
        response.extensions_mut().insert(if has_no_end {
            Streaming::Endless
        } else {
            Streaming::Ends
        });
        let end: BoxFuture<'static, ()> = if is_news {
            Box::pin(mcp.news.draining.clone().cancelled_owned())
        } else if has_no_end {
            Box::pin(std::future::pending())
        } else {
            // Should the library never answer, nobody waits for ever.
            let most = bounds::call_max(bounds.handler_ms).saturating_add(AFTERWARDS);
            Box::pin(tokio::time::sleep(most))
        };
        response = response.map(|body| Body::from_stream(body.into_data_stream().take_until(end)));
        if let Some(place) = place {
            response.extensions_mut().insert(place);
        }
    }
    Ok(response)
}

fn called(message: ClientJsonRpcMessage) -> Option<CapabilityId> {
    match message {
        ClientJsonRpcMessage::Request(request) => match request.request {
            ClientRequest::CallToolRequest(call) => call.params.name.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn listens(message: &ClientJsonRpcMessage) -> bool {
    match message {
        ClientJsonRpcMessage::Request(request) => {
            matches!(request.request, ClientRequest::SubscriptionsListenRequest(_))
        }
        _ => false,
    }
}

/// Whether a stream that is taken up again carries the answer to a request, and not news: its events are named by their number
/// and, behind a `/`, by that of the request. To the library what is no text names nothing, and then the stream is one of news.
fn continues_answer(headers: &HeaderMap) -> bool {
    let last = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok());
    last.is_some_and(|last| last.contains('/'))
}

/// Hosts and pages have been checked before; the library checks them again by the same list. That of a listener on all addresses
/// cannot be written down, and to the library an empty one means any host.
fn options(door: &Door) -> StreamableHttpServerConfig {
    let ListenerOptions {
        address,
        hosts,
        origins,
        ..
    } = &door.listener;
    let mut known: Vec<String> = hosts.iter().map(|host| host.as_str().to_owned()).collect();
    known.push(address.ip().to_string());
    if address.ip().is_loopback() {
        known.push("localhost".to_owned());
    }
    if address.ip().is_unspecified() {
        known.clear();
    }
    StreamableHttpServerConfig::default()
        .with_allowed_hosts(known)
        .with_allowed_origins(origins.iter().map(|origin| origin.with_port()))
        .enforce_origin_validation()
        .with_max_request_body_bytes(bounds::size(door.shared.bounds.body_bytes_max))
        .with_json_response(true)
        .with_cancellation_token(door.shared.mcp.ended.child_token())
}

fn full(bound: &'static str, max: u64, beyond: &Beyond) -> Problem {
    meters::rate_limited(bound);
    let (message, hint) = match beyond {
        Beyond::Own { .. } => (
            format!("the caller has {max} of these at once"),
            format!("end one, or aral.toml, [serve.limits]: {bound}"),
        ),
        // It is not for this caller to end those of others, and a larger bound would be one for each of them.
        Beyond::All => (
            format!(
                "all callers together have {} of these at once, or more",
                bounds::of_all(max)
            ),
            "try again later".to_owned(),
        ),
    };
    Problem::from(Failure::new(Code::Unavailable, message).with_hint(hint))
}

fn faulty(status: StatusCode, fault: Fault, trace: TraceId) -> Response {
    let body = serde_json::to_vec(&fault.error(trace)).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body).into_response()
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// What the library refuses in plain words becomes a problem, as everywhere else; what it says in JSON-RPC stays.
async fn refusal(response: Response) -> Result<Response, Problem> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if status.is_success() || is_json {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let words = axum::body::to_bytes(body, WORDS_BYTES_MAX).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    if status.is_server_error() {
        return Err(Problem::from(Failure::internal(words)));
    }
    // `Bad Request: Session ID is required`
    let words = words.split_once(": ").map_or(&*words, |(_, words)| words);
    let mut problem = Problem::request(status, words.to_lowercase());
    if words == NO_SESSION {
        problem = problem.with_hint(BEGIN);
    }
    let mut response = problem.into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_stream_continues_an_answer_where_the_library_sees_one() {
        let continues = |last: &[u8]| {
            let last = HeaderValue::from_bytes(last).unwrap();
            continues_answer(&HeaderMap::from_iter([(LAST_EVENT_ID, last)]))
        };
        let cases: [(&[u8], bool); 5] = [
            (b"0/1", true),
            (b"1", false),
            (b"", false),
            (b"/\xff", false),
            (b"0/1\xff", false),
        ];
        for (last, expected) in cases {
            assert_eq!(continues(last), expected, "{last:?}");
        }
        assert!(!continues_answer(&HeaderMap::new()));
    }
}
