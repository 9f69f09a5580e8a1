//! `POST /v1/invoke/{capability}`: one call on the one path. The body is the input as it is, the answer is the output as it
//! is; everything else travels in fields.

use std::error::Error as _;
use std::sync::Arc;

use aral_contract::{CapabilityId, Code, Digest, Failure, TraceContext, TraceId, Usage, version};
use aral_orchestration::dispatch::{CallPhase, ReceiptReference};
use aral_orchestration::{Outcome, Request};
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use semver::{Version, VersionReq};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;
use utoipa::IntoParams;

use crate::body;
use crate::bounds;
use crate::caller::Caller;
use crate::door::{Door, Shared};
use crate::enter::TRACE_ID;
use crate::limit::Reservation;
use crate::meters;
use crate::openapi::Fields;
use crate::problem::Problem;
use crate::receipts;
use crate::replay::{Begun, ReplayKey, Weighed};
use crate::request_place::{Ran, RequestPlace};

/// Names a request that must not happen twice.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The version that ran.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("aral-capability-version");
/// What the call used.
pub(crate) const USAGE: HeaderName = HeaderName::from_static("aral-usage");

/// Where the end of the call is recorded, and what opens the commitments in that record.
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("aral-receipt");

/// Which version.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Versions {
    /// Which versions will do: `1.2.0` is that one alone, `^1.2` the newest compatible one; without it the newest release.
    #[param(
        pattern = r"^(\*|(=|>=?|<=?|~|\^)? ?(0|[1-9][0-9]{0,17})(\.(0|[1-9][0-9]{0,17})){0,2}(, ?(=|>=?|<=?|~|\^)? ?(0|[1-9][0-9]{0,17})(\.(0|[1-9][0-9]{0,17})){0,2}){0,7})$"
    )]
    pub(crate) version: Option<String>,
}

impl Versions {
    pub(crate) fn requirement(&self) -> Result<Option<VersionReq>, Problem> {
        let parse = |text: &String| {
            version::asked(text).map_err(|error| {
                let message = format!("`{}` names no versions: {error}", text.escape_debug());
                Problem::request(StatusCode::BAD_REQUEST, message).with_hint("write it like `^1.2` or `1.2.3`")
            })
        };
        self.version.as_ref().map(parse).transpose()
    }
}

/// Call a capability.
///
/// The body is the input, a JSON text; the answer is the output, a JSON text that satisfies the output schema. A caller that
/// goes away cancels its call, unless the request has an `Idempotency-Key`: then the call goes on to its end, and the same
/// request gets the same answer for some time.
#[utoipa::path(
    post,
    path = "/v1/invoke/{capability}",
    tag = "capabilities",
    params(
        ("capability" = String, Path, description = "Name of the capability"),
        Versions,
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,128}$", description = "1 to 128 visible characters: the call happens once, and a repeated request gets its answer"),
        Fields,
    ),
    request_body(content = serde_json::Value, description = "The input"),
    responses(
        (status = 200, description = "The output", body = serde_json::Value, headers(
            ("Aral-Trace-Id" = String, description = "Names the call in the records of the host"),
            ("Aral-Capability-Version" = String, description = "The version that ran"),
            ("Aral-Usage" = String, description = "What the call used"),
            ("Aral-Receipt" = String, description = "Number of the record of the call, for `/v1/receipts/{seq}`, with the salts that open it"),
            ("Idempotency-Replayed" = bool, description = "There and `true` if this is the answer of an earlier request"),
            ("RateLimit" = String, description = "What is left of the limits of this caller"),
            ("RateLimit-Policy" = String, description = "What there is of them"),
        )),
        (status = "4XX", response = crate::problem::ProblemResponse),
        (status = "5XX", response = crate::problem::ProblemResponse),
    )
)]
#[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
pub(crate) async fn invoke(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Arc<Caller>>,
    Extension(context): Extension<TraceContext>,
    Extension(reservation): Extension<Arc<Reservation>>,
    Extension(place): Extension<RequestPlace>,
    capability: Result<Path<String>, PathRejection>,
    versions: Result<Query<Versions>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let capability = capability_of(capability)?;
    let version = query(versions)?.requirement()?;
    body::check_json(&headers)?;
    let key = replay_key(&headers)?;
    let input = body::read(&headers, body, &door.shared.bounds).await?;
    let call = Call {
        shared: Arc::clone(&door.shared),
        caller,
        context,
        reservation,
        _place: place,
        capability,
        version,
        input,
    };
    match key {
        None => {
            let answer = call.run().await;
            Ok(answer.into_response(Told::Once))
        }
        Some(key) => call.run_once(key).await,
    }
}

/// The name in the address.
pub(crate) fn capability_of(path: Result<Path<String>, PathRejection>) -> Result<CapabilityId, Problem> {
    let text = match path {
        Ok(Path(text)) => text,
        Err(_not_text) => return Err(Problem::of_status(StatusCode::NOT_FOUND)),
    };
    text.parse().map_err(|error: aral_contract::id::IdError| {
        Problem::from(Failure::new(Code::CapabilityUnknown, error.to_string()))
    })
}

/// The query, which has no other members than it may have.
pub(crate) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    match query {
        Ok(Query(query)) => Ok(query),
        // Without what the library says before the reason.
        Err(error) => {
            let reason = error.source().map_or_else(String::new, |reason| format!(": {reason}"));
            let message = format!("the query is not taken{reason}");
            Err(Problem::request(StatusCode::BAD_REQUEST, message))
        }
    }
}

fn replay_key(headers: &HeaderMap) -> Result<Option<ReplayKey>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(one), None) => one.to_str().ok().and_then(ReplayKey::new),
        (Some(_), Some(_)) => None,
    };
    let wrong = || {
        Problem::request(StatusCode::BAD_REQUEST, "`Idempotency-Key` is no key")
            .with_hint("send one with 1 to 128 visible characters of ASCII")
    };
    key.map(Some).ok_or_else(wrong)
}

/// One call with all that it needs.
struct Call {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    context: TraceContext,
    reservation: Arc<Reservation>,
    /// It is a request under way until it ends, also without a connection.
    _place: RequestPlace,
    capability: CapabilityId,
    version: Option<VersionReq>,
    input: Bytes,
}

impl Call {
    /// How it ended. Dropping the future ends the call.
    async fn run(&self) -> Answer {
        let request = Request {
            capability: &self.capability,
            version: self.version.as_ref(),
            input: &self.input,
            trace: Some(&self.context),
        };
        let handler_ms = self.shared.bounds.handler_ms;
        let phase = watch::Sender::new(CallPhase::default());
        // What takes too long is ended by the path, which knows what to say of it; here, what takes too long to say.
        let until = Instant::now().checked_add(bounds::ms(handler_ms));
        let call = self
            .shared
            .dispatcher
            .invoke_watched(&self.caller.session, request, &phase, until);
        self.reservation.begin(phase.subscribe());
        let most = bounds::call_max(handler_ms);
        let answer = match tokio::time::timeout(most, call).await {
            Ok(outcome) => {
                self.reservation.settle(outcome.cost_micro);
                Answer::of(outcome)
            }
            Err(_elapsed) => Answer::too_late(self.context.trace, handler_ms),
        };
        // Also the host may fail in the middle of a call: what the guest had done by then is not to be done again.
        let ran = *phase.borrow() == CallPhase::Running;
        Answer { ran, ..answer }
    }

    /// The call happens once for this key. It goes on if the caller goes away, because the caller will ask again.
    async fn run_once(self, key: ReplayKey) -> Result<Response, Problem> {
        let fingerprint = self.fingerprint();
        let place = match self.shared.replays.begin(&self.caller.name, key, fingerprint) {
            Begun::First(place) => place,
            Begun::Again(answer) => return Ok(answer.as_ref().clone().into_response(Told::Again)),
            Begun::Gone => {
                let problem =
                    conflict("the call with this `Idempotency-Key` has ended, and there was no room for its answer");
                return Err(problem.with_hint("aral.toml, [serve.limits]: replay_bytes_max"));
            }
            Begun::Running => {
                return Err(conflict(
                    "the first request with this `Idempotency-Key` is still under way",
                ));
            }
            Begun::Other => {
                let problem = conflict("this `Idempotency-Key` was another request");
                return Err(problem.with_status(StatusCode::UNPROCESSABLE_ENTITY));
            }
            Begun::Full => {
                meters::rate_limited("replay_entries_max");
                let failure = Failure::new(
                    Code::Unavailable,
                    "too many requests with an `Idempotency-Key` are under way, or remembered",
                );
                return Err(Problem::from(failure));
            }
        };
        let running = async move {
            let answer = self.run().await;
            // What did not run may run the next time.
            if answer.ran {
                place.keep(Arc::new(answer.clone()));
            }
            answer
        };
        let task = tokio::spawn(running.in_current_span());
        match task.await {
            Ok(answer) => Ok(answer.into_response(Told::First)),
            Err(error) => Err(Problem::from(Failure::internal(error))),
        }
    }

    /// Two requests are one if this is the same.
    fn fingerprint(&self) -> Digest {
        let version = self.version.as_ref().map(VersionReq::to_string).unwrap_or_default();
        // A caller whose persona is another one since is somebody else; a newer issue is the same one, for whom the call has been made.
        let persona = &self.caller.session.persona().body.id;
        let mut text = format!("{persona}\n{}\n{version}\n", self.capability).into_bytes();
        text.extend_from_slice(&self.input);
        Digest::of(&text)
    }
}

fn conflict(message: &str) -> Problem {
    Problem::from(Failure::new(Code::RequestConflict, message))
}

/// Whether an answer is told for the first time.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// And the last: nobody keeps it.
    Once,
    First,
    Again,
}

/// How a call ended, as far as its caller is told.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    trace: TraceId,
    /// None: nothing ran, or it was ended from outside.
    version: Option<Version>,
    result: Result<Bytes, Failure>,
    usage: Usage,
    receipt: Option<ReceiptReference>,
    /// Whether the guest ran.
    ran: bool,
}

impl Weighed for Answer {
    fn bytes(&self) -> usize {
        match &self.result {
            Ok(output) => output.len(),
            Err(failure) => failure
                .message
                .len()
                .saturating_add(failure.hint.as_ref().map_or(0, String::len)),
        }
    }
}

impl Answer {
    /// The call was ended because it took too long.
    fn too_late(trace: TraceId, handler_ms: u64) -> Self {
        let message = format!("the call did not end within {handler_ms} ms");
        let failure = Failure::new(Code::LimitWall, message).with_hint(bounds::raise("handler_ms", handler_ms));
        Self {
            trace,
            version: None,
            result: Err(failure.with_trace(trace)),
            usage: Usage::default(),
            receipt: None,
            ran: false,
        }
    }

    fn of(outcome: Outcome) -> Self {
        Self {
            trace: outcome.trace,
            version: outcome.version,
            // The dispatch path has logged what only the operator may read.
            result: outcome.result.map(Bytes::from).map_err(|failure| Failure {
                internal: None,
                ..failure
            }),
            usage: outcome.usage,
            receipt: outcome.receipt,
            ran: false,
        }
    }

    fn into_response(self, told: Told) -> Response {
        let is_kept = self.ran && !matches!(told, Told::Once);
        let mut response = match self.result {
            Ok(output) => {
                let kind = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, kind)], output).into_response()
            }
            // Whoever is told when to come again may do so unasked, and what the guest did is not to be done again. One that says
            // itself that something is unavailable has no output; of one that has, the answer was not checked. What is kept stays as
            // it is for whoever asks again.
            Err(failure) => match failure.code {
                _ if is_kept => Problem::from(failure).for_good(),
                Code::AuditUnavailable if self.ran => Problem::from(failure).for_good(),
                Code::Unavailable if self.usage.output_bytes > 0 => Problem::from(failure).for_good(),
                _ => Problem::from(failure),
            }
            .into_response(),
        };
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, text: String| {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        set(TRACE_ID, self.trace.to_string());
        if let Some(version) = &self.version {
            set(VERSION, version.to_string());
            set(USAGE, usage(&self.usage));
        }
        if let Some(reference) = &self.receipt {
            set(RECEIPT, receipts::reference(reference));
        }
        match told {
            Told::Once if self.ran => {
                response.extensions_mut().insert(Ran);
            }
            Told::Again => set(REPLAYED, "true".to_owned()),
            Told::Once | Told::First => {}
        }
        response
    }
}

/// A dictionary of RFC 9651.
fn usage(usage: &Usage) -> String {
    let fuel = usage.fuel.map(|fuel| format!("fuel={fuel}, ")).unwrap_or_default();
    format!(
        "{fuel}memory_bytes_peak={}, compute_ms={}, wall_us={}, http_requests={}",
        usage.memory_bytes_peak, usage.compute_ms, usage.wall_us, usage.http_requests
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::places::Places;
    use crate::unsent::{Unsent, Weight};

    #[test]
    fn a_query_that_is_not_taken_is_told_what_is_wrong_with_it() {
        let uri: http::Uri = "/?foo=1".parse().unwrap();
        let refused = query(Query::<Versions>::try_from_uri(&uri)).unwrap_err();
        let told = format!("{refused:?}");
        assert!(
            told.contains("the query is not taken: ") && told.contains("unknown field `foo`"),
            "{told}"
        );
        assert!(!told.contains("deserialize"), "{told}");
    }

    #[test]
    fn nobody_is_told_to_repeat_what_ran_and_whose_answer_finds_no_room() {
        let bounds = Bounds {
            unsent_bytes_max: 1,
            ..Bounds::default()
        };
        let (places, all) = (Places::new(2), Unsent::default());
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&all, &bounds));
        let (unread, own) = (place(), place());
        unread.weigh(1).unwrap();
        let retry_after = |told, ran| {
            let trace = TraceId::from_bytes([7; 16]);
            let answer = Answer {
                ran,
                result: Ok(Bytes::from_static(b"1")),
                ..Answer::too_late(trace, 1)
            };
            let mut response = own.bear(answer.into_response(told));
            let problem = response.extensions_mut().remove::<Problem>().unwrap();
            let rendered = problem.render(response, trace);
            (
                rendered.status().as_u16(),
                rendered.headers().contains_key(header::RETRY_AFTER),
            )
        };
        assert_eq!(retry_after(Told::Once, true), (503, false));
        assert_eq!(retry_after(Told::Once, false), (503, true));
        // The same request gets the answer, which is kept.
        assert_eq!(retry_after(Told::First, true), (503, true));
        assert_eq!(retry_after(Told::Again, true), (503, true));
    }

    #[test]
    fn nobody_is_told_to_repeat_what_ran_and_is_not_on_record_not_checked_or_kept() {
        let retry_after = |told, code, ran, output_bytes| {
            let trace = TraceId::from_bytes([7; 16]);
            let usage = Usage {
                output_bytes,
                ..Usage::default()
            };
            let answer = Answer {
                ran,
                usage,
                result: Err(Failure::new(code, "it failed")),
                ..Answer::too_late(trace, 1)
            };
            let response = answer.into_response(told);
            let problem = response.extensions().get::<Problem>().unwrap().clone();
            let rendered = problem.render(Response::default(), trace);
            (
                rendered.status().as_u16(),
                rendered.headers().contains_key(header::RETRY_AFTER),
            )
        };
        for told in [Told::Once, Told::First] {
            assert_eq!(retry_after(told, Code::AuditUnavailable, true, 0), (503, false));
            assert_eq!(retry_after(told, Code::AuditUnavailable, false, 0), (503, true));
            assert_eq!(retry_after(told, Code::Unavailable, false, 0), (503, true));
            assert_eq!(retry_after(told, Code::Unavailable, true, 65_536), (503, false));
            assert_eq!(retry_after(told, Code::Internal, true, 65_536), (500, false));
        }
        assert_eq!(retry_after(Told::Once, Code::Unavailable, true, 0), (503, true));
        // The same key gets the same answer: asking again does not help.
        assert_eq!(retry_after(Told::First, Code::Unavailable, true, 0), (503, false));
        assert_eq!(retry_after(Told::Again, Code::Unavailable, true, 0), (503, false));
    }
}
