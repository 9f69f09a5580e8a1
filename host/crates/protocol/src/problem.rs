//! How a failure is told over HTTP: the one function that knows which status a code has, and the problem document of
//! RFC 9457. What only the operator may read stays in the log.

use aral_contract::{Blame, Code, Failure, TraceId};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::{ToResponse, ToSchema};

/// When a caller who found the host busy may come again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why a request has no other answer. It becomes a document once the request's trace id is known, in `enter`.
#[derive(Debug, Clone)]
pub struct Problem {
    failure: Box<Failure>,
    status: StatusCode,
    retry_after: Option<u32>,
    /// The limit that is used up.
    violated: Option<&'static str>,
    /// What follows on the connection cannot be told from the rest of this request.
    close: bool,
}

impl Problem {
    /// A request that is not one that this host takes.
    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            ..Self::from(Failure::new(Code::RequestInvalid, message))
        }
    }

    /// A request whose body is not understood.
    pub fn malformed_body(message: impl Into<String>) -> Self {
        Self::request(StatusCode::BAD_REQUEST, message)
    }

    /// A request whose body has more bytes than are taken. The rest of it is not read.
    pub fn body_too_large(bytes_max: usize) -> Self {
        let message = format!("the body has more than {bytes_max} bytes");
        Self::request(StatusCode::PAYLOAD_TOO_LARGE, message).closing()
    }

    /// Another status than the code usually has.
    #[must_use]
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With the step that would repair it.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            failure: Box::new(self.failure.with_hint(hint)),
            ..self
        }
    }

    /// Because this limit is used up.
    #[must_use]
    pub(crate) fn violating(self, limit: &'static str) -> Self {
        Self {
            violated: Some(limit),
            ..self
        }
    }

    /// Which does not pass with time, or is not to be tried again without a look.
    #[must_use]
    pub(crate) fn for_good(self) -> Self {
        Self {
            retry_after: None,
            ..self
        }
    }

    /// After which the connection ends.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// What an answer without a document means that has an error's status: what the router says by itself.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let message = match status {
            StatusCode::NOT_FOUND => "there is nothing at this address",
            StatusCode::METHOD_NOT_ALLOWED => "this address does not take this method",
            other => other.canonical_reason().unwrap_or("the request was refused"),
        };
        if status.is_server_error() {
            Self::from(Failure::internal(format_args!("an answer {status} without a problem"))).with_status(status)
        } else {
            Self::request(status, message)
        }
    }

    /// What the operator must know.
    pub(crate) fn internal(&self) -> Option<&str> {
        self.failure.internal.as_deref()
    }

    /// The document, in an answer that may have been given fields already.
    pub(crate) fn render(self, mut response: Response, trace: TraceId) -> Response {
        let document = Document::new(&self, self.failure.trace.unwrap_or(trace));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        *response.body_mut() = Body::from(serde_json::to_vec(&document).unwrap_or_default());
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = status(failure.code);
        let busy = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        // Whoever comes a moment too early is refused again.
        let wait = failure
            .retry_after
            .map(|wait| u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX));
        Self {
            status,
            retry_after: wait.or(busy.then_some(RETRY_AFTER_SECONDS)),
            failure: Box::new(with_hint_of_http(failure)),
            violated: None,
            close: false,
        }
    }
}

/// Whoever calls over HTTP has no command line of this host.
fn with_hint_of_http(failure: Failure) -> Failure {
    match failure.code {
        Code::CapabilityUnknown => failure.with_hint("list what you may call: `GET /v1/capabilities`"),
        _ => failure,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status of a code.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::RequestInvalid | Code::InputInvalid => StatusCode::BAD_REQUEST,
        Code::AuthenticationFailed => StatusCode::UNAUTHORIZED,
        Code::RequestConflict | Code::RecordConflict => StatusCode::CONFLICT,
        Code::RateLimited | Code::LimitRate | Code::LimitCost => StatusCode::TOO_MANY_REQUESTS,
        Code::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::CapabilityUnknown | Code::RecordUnknown | Code::PersonaUnknown => StatusCode::NOT_FOUND,
        Code::PermissionDenied | Code::SignatureInvalid | Code::DocumentStale | Code::LimitDepth => {
            StatusCode::FORBIDDEN
        }
        Code::GuestError => StatusCode::UNPROCESSABLE_ENTITY,
        Code::LimitWall => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::CapabilityOpenCircuit | Code::Unavailable | Code::AuditUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        other => match other.blame() {
            Blame::Caller => StatusCode::BAD_REQUEST,
            Blame::Denial => StatusCode::FORBIDDEN,
            Blame::Guest | Blame::Limit => StatusCode::BAD_GATEWAY,
            Blame::Admission | Blame::Host => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    /// Names the kind of problem: `urn:aral:error:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What failed this time.
    detail: &'a str,
    /// The stable code.
    code: &'static str,
    /// The line or step that would repair it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    /// The limits that are used up, by the names of `RateLimit`.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'static str; 1]>,
    /// The request, in the records of the host too.
    trace_id: String,
}

impl<'a> Document<'a> {
    fn new(problem: &'a Problem, trace: TraceId) -> Self {
        let code = problem.failure.code;
        Self {
            kind: format!("urn:aral:error:{code}"),
            title: match code.blame() {
                Blame::Caller => "the request cannot be taken",
                Blame::Denial => "the call is not allowed",
                Blame::Guest => "the capability failed",
                Blame::Limit => "a limit was hit",
                Blame::Admission => "a document or component is not admitted",
                Blame::Host => "the host failed",
            },
            status: problem.status.as_u16(),
            detail: &problem.failure.message,
            code: code.as_str(),
            hint: problem.failure.hint.as_deref(),
            violated_policies: problem.violated.map(|limit| [limit]),
            trace_id: trace.to_string(),
        }
    }
}

/// For the description of the interface alone.
#[derive(ToResponse)]
#[response(
    description = "Why there is no other answer",
    content_type = "application/problem+json",
    headers(
        ("Aral-Trace-Id" = String, description = "Names the request in the records of the host"),
        ("Retry-After" = u32, description = "With 429, and with 503 that passes with time: after how many seconds to come again"),
        ("WWW-Authenticate" = String, description = "With 401: where it is written how to be let in"),
        ("RateLimit" = String, description = "What is left of the limits of this caller; with 429, of the one that is used up"),
        ("RateLimit-Policy" = String, description = "What there is of them"),
    )
)]
#[expect(dead_code, reason = "names a schema")]
pub(crate) struct ProblemResponse(Document<'static>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_documented_status() {
        let document = include_str!("../../../../docs/http.md");
        for code in Code::ALL {
            let line = format!("\n| `{code}` | {} |", status(*code).as_u16());
            assert!(document.contains(&line), "docs/http.md has no line{line}");
        }
        let lines = document
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains(".") && line.ends_with('|'))
            .filter(|line| Code::ALL.iter().any(|code| line.starts_with(&format!("| `{code}` |"))));
        assert_eq!(lines.count(), Code::ALL.len());
        let sdk = include_str!("../../../../guest-sdk/README.md");
        for code in [
            Code::InputInvalid,
            Code::PermissionDenied,
            Code::Unavailable,
            Code::LimitHostCall,
            Code::GuestError,
        ] {
            let blame = format!("{:?}", code.blame()).to_lowercase();
            let cells = format!("| `{code}` | {blame} | {} |", status(code).as_u16());
            assert!(sdk.contains(&cells), "guest-sdk/README.md has no row with {cells}");
        }
    }

    #[test]
    fn a_problem_holds_no_internals() {
        let failure = Failure::internal("/etc/shadow").with_hint("report it");
        let trace = TraceId::from_bytes([7; 16]);
        let rendered = Problem::from(failure).render(Response::default(), trace);
        assert_eq!(rendered.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let document =
            serde_json::to_value(Document::new(&Problem::from(Failure::internal("/etc/shadow")), trace)).unwrap();
        assert_eq!(document["type"], "urn:aral:error:host.internal");
        assert_eq!(document["trace_id"], "07".repeat(16));
        assert!(!document.to_string().contains("shadow"));
    }
}
