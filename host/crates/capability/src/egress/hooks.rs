//! What `wasi:http/outgoing-handler` does when a guest sends: ask the grant, count, exchange, record.

use std::sync::Arc;

use aral_contract::host_pattern::{Origin, without_user};
use aral_contract::limits::{HTTP_FIELD_BYTES_MAX, HTTP_REQUESTS_UNSENT_MAX};
use aral_contract::scope::SecretScope;
use aral_contract::{Permission, SpanId};
use aral_runtime::entropy;
use http::uri::Scheme;
use http::{Request, Response};
use tracing::{Instrument as _, Span, field};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::address::Forbidden;
use super::exchange::{Driver, ExchangeError, exchange};
use super::inject::{self, Injection, Marks};
use super::rules::{self, Refusal};
use super::trace::TraceFields;
use crate::call::CallRecord;

/// Writes of a guest that wait in a body. The library keeps one more than it is told.
const CHUNKS_MAX: usize = 2;
/// Writes of a guest into a request body, in bytes at once. What waits in the body of a request that is never sent is no more
/// than its fields may have.
const CHUNK_BYTES_MAX: usize = HTTP_FIELD_BYTES_MAX / CHUNKS_MAX;

type Sent = Result<(Response<WasiBody>, Driver), Error>;

/// The hooks of one call.
pub(crate) struct Hooks {
    call: Arc<CallRecord>,
    marks: Marks,
    /// The secrets of the request that is being handed over, for the moment that this takes.
    sending: Vec<SecretScope>,
    /// Requests that are in the resource table.
    unsent: usize,
}

impl Hooks {
    pub(crate) fn new(call: Arc<CallRecord>) -> Self {
        Self {
            call,
            marks: Marks::default(),
            sending: Vec::new(),
            unsent: 0,
        }
    }

    /// Marks a request, by its index in the resource table; an error says why not.
    pub(crate) fn attach(&mut self, request: u32, secret: SecretScope) -> Result<(), String> {
        self.marks.attach(request, secret)
    }

    /// A request is to be made. False: the call has as many as it may have.
    pub(crate) fn make_room(&mut self) -> bool {
        let room = self.unsent < HTTP_REQUESTS_UNSENT_MAX;
        self.unsent = self.unsent.saturating_add(usize::from(room));
        room
    }

    /// A request is gone. Whatever gets its index next is not marked.
    pub(crate) fn forget(&mut self, request: u32) {
        self.unsent = self.unsent.saturating_sub(1);
        let _forgotten = self.marks.take(request);
    }

    /// A request is handed over: its secrets go to whatever `send` sends, and to nothing after that.
    pub(crate) fn sending<T>(&mut self, request: u32, send: impl FnOnce(&mut Self) -> T) -> T {
        self.unsent = self.unsent.saturating_sub(1);
        self.sending = self.marks.take(request);
        let sent = send(self);
        self.sending.clear();
        sent
    }

    /// Around an exchange, which is known outside under this name.
    fn span(&self, checked: Option<&(Origin, Permission)>) -> (SpanId, Span) {
        let span_id = entropy::span_id();
        let Some((origin, permission)) = checked else {
            return (span_id, Span::none());
        };
        let span = self.call.span(*permission);
        span.record("span_id", field::display(span_id));
        span.record("server", field::display(origin));
        (span_id, span)
    }

    /// Asks the grant. A refusal is recorded with the line that would allow it.
    fn check(&self, request: &Request<WasiBody>, secrets: &[SecretScope]) -> Result<(Origin, Permission), Error> {
        let permission = rules::permission_of(request.method()).unwrap_or(Permission::NetworkWrite);
        let refused = |target: String, refusal: Refusal| {
            let reason = rules::reason(&refusal, &self.call.frame.grant);
            self.call.denied(permission, &target, &reason);
            Error::HttpRequestDenied
        };
        let origin = rules::origin_of(request.uri()).map_err(|refusal| {
            let scheme = request.uri().scheme_str().unwrap_or_default();
            let authority = request.uri().authority().map_or("", |authority| authority.as_str());
            refused(without_user(&format!("{scheme}://{authority}")), refusal)
        })?;
        rules::check(&self.call.frame.grant.permissions, request.method(), &origin)
            .map_err(|refusal| refused(origin.to_string(), refusal))?;
        inject::check(&self.call.frame.grant, secrets, &origin, request.headers()).map_err(|denial| {
            self.call.denied(Permission::SecretRead, &denial.secret, &denial.reason);
            Error::HttpRequestDenied
        })?;
        if !self.call.take_http_request() {
            let max = self.call.frame.grant.limits.http_requests;
            let reason = format!(
                "the call has sent its {max} requests: raise http_requests under [limits] in capability.toml, and in the policy"
            );
            self.call.denied(permission, &origin.to_string(), &reason);
            return Err(Error::ConnectionLimitReached);
        }
        self.call.allowed(permission, &origin.to_string());
        Ok((origin, permission))
    }
}

fn forbidden_address(call: &CallRecord, permission: Permission, target: &str, forbidden: &Forbidden) -> Error {
    let reason = format!(
        "`{target}` leads to an address that is not public, {forbidden}: if that is meant, add to aral.toml, [policy.network]: networks = [\"{}\"]",
        forbidden.network()
    );
    call.denied(permission, target, &reason);
    Error::DestinationIpProhibited
}

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(rules::is_forbidden)
    }

    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        rules::is_forbidden(name)
    }

    fn is_supported_scheme(&mut self, scheme: &Scheme) -> bool {
        *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
    }

    fn set_host_header(&mut self) -> bool {
        // Set from the checked origin, not from the guest's text.
        false
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        CHUNKS_MAX.saturating_sub(1)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let secrets = std::mem::take(&mut self.sending);
        let checked = self.check(&request, &secrets);
        let call = Arc::clone(&self.call);
        let (span_id, span) = self.span(checked.as_ref().ok());
        let sending = async move {
            let (origin, permission) = checked?;
            let trace = TraceFields::new(&call, &origin, span_id);
            let injection = Injection::fetch(&call, secrets, &origin).await?;
            let sent = exchange(&call, &origin, request, options, injection, trace).await;
            sent.map_err(|error| match error {
                ExchangeError::Forbidden(forbidden) => {
                    forbidden_address(&call, permission, &origin.to_string(), &forbidden)
                }
                ExchangeError::Http(error) => error,
            })
        };
        Box::new(sending.instrument(span))
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_timeout() {
            ErrorCode::HttpResponseTimeout
        } else if error.is_incomplete_message() || error.is_closed() {
            ErrorCode::HttpResponseIncomplete
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    // The library's own write a warning for each request.

    fn p2_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        tracing::debug!(%error, "a guest's request found no connection");
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode {
        tracing::debug!(%error, "a guest's request found no connection over TLS");
        ErrorCode::TlsProtocolError
    }
}
