//! One HTTP exchange: HTTP/1.1 on a connection of its own, within one deadline from the look-up to the last byte. It
//! follows no redirect and keeps nothing for the next request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::Limits;
use aral_contract::host_pattern::{Origin, Scheme};
use aral_contract::limits::HTTP_FIELD_BYTES_MAX;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::address::Forbidden;
use super::body::{RequestBody, ResponseBody};
use super::connect::{self, Stream};
use super::inject::{self, Carried, Injection};
use super::mask;
use super::resolve::ResolveError;
use super::rules;
use super::trace::TraceFields;
use crate::call::CallRecord;
use crate::places::Place;

/// Fields of one response.
const FIELDS_MAX: usize = 128;

/// What drives the connection after the head of the response is there.
pub(super) type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Why an exchange failed.
pub(super) enum ExchangeError {
    /// The address must not be dialled: a denial.
    Forbidden(Forbidden),
    /// Anything else.
    Http(Error),
}

impl From<Error> for ExchangeError {
    fn from(error: Error) -> Self {
        Self::Http(error)
    }
}

impl From<ResolveError> for ExchangeError {
    fn from(error: ResolveError) -> Self {
        let dns = |rcode: &str| {
            Self::Http(Error::DnsError {
                rcode: Some(rcode.to_owned()),
                info_code: None,
            })
        };
        match error {
            ResolveError::Forbidden(forbidden) => Self::Forbidden(forbidden),
            ResolveError::NoAddress => dns("NXDOMAIN"),
            ResolveError::Servers(source) => {
                tracing::debug!(%source, "the name servers did not answer");
                dns("SERVFAIL")
            }
            ResolveError::TooMany => dns("too many addresses"),
        }
    }
}

/// The moments by which things must have happened. The guest may ask for less time than it has, never for more.
struct Deadlines {
    connected: Instant,
    end: Instant,
    first_byte: Option<Duration>,
    between_bytes: Option<Duration>,
}

impl Deadlines {
    fn new(limits: &Limits, options: Option<RequestOptions>) -> Self {
        let now = Instant::now();
        // A limit too far away to be a moment is cut to a year.
        let end = now.checked_add(Duration::from_millis(limits.http_ms));
        let end = end.unwrap_or_else(|| now + Duration::from_secs(31_536_000));
        let options = options.unwrap_or_default();
        Self {
            connected: no_later(end, options.connect_timeout),
            end,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        }
    }

    /// By when the head of the response is there, on a connection that is there now.
    fn head(&self) -> Instant {
        no_later(self.end, self.first_byte)
    }
}

/// So long from now on, and no later than `end`.
fn no_later(end: Instant, wait: Option<Duration>) -> Instant {
    let until = wait.and_then(|wait| Instant::now().checked_add(wait));
    until.map_or(end, |until| until.min(end))
}

/// Sends a request that the grant covers, with the secrets that were fetched for it, and waits for the head of the response.
pub(super) async fn exchange(
    call: &Arc<CallRecord>,
    origin: &Origin,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
    injection: Option<Injection>,
    trace: TraceFields,
) -> Result<(Response<WasiBody>, Driver), ExchangeError> {
    let (egress, grant) = (&call.frame.services.egress, &call.frame.grant);
    let (limits, networks) = (&grant.limits, &grant.networks);
    let deadlines = Deadlines::new(limits, options);
    let place = timeout_at(deadlines.connected, egress.places.take(&grant.persona)).await;
    let place = place.ok().flatten().ok_or(Error::ConnectionLimitReached)?;
    let resolving = egress.resolver.resolve(&origin.host, networks);
    let addresses = timeout_at(deadlines.connected, resolving)
        .await
        .map_err(|_| Error::DnsTimeout)??;
    let injection = match injection {
        Some(secret) if origin.scheme == Scheme::Http && !addresses.iter().all(IpAddr::is_loopback) => {
            return Err(secret.refuse_clear_text(origin).into());
        }
        other => other,
    };
    let stream = connect::connect(&egress.tls, origin, &addresses, deadlines.connected).await?;
    let mut request = prepare(request, origin, call)?;
    trace.fill(request.headers_mut());
    let carried = injection.map(|injection| {
        injection.fill(request.headers_mut());
        injection.sent()
    });
    let (response, driver) = send(stream, request, &deadlines, place).await?;
    let response = response
        .map(|body| ResponseBody::bounded(body, limits.http_response_bytes, deadlines.end, deadlines.between_bytes));
    match carried {
        Some(carried) => Ok((without_echoes(response, &carried)?, driver)),
        None => Ok((response, driver)),
    }
}

/// The response to a request that carried secrets, as the guest may see it.
fn without_echoes(response: Response<WasiBody>, carried: &Carried) -> Result<Response<WasiBody>, Error> {
    let (mut parts, body) = response.into_parts();
    if let Some((reason, error)) = inject::unsearchable(parts.status, &parts.headers) {
        carried.refuse_answer(&reason);
        return Err(error);
    }
    parts.headers = carried.echoes.mask_fields(&parts.headers);
    // What stands behind the status code, word for word.
    parts.extensions.clear();
    Ok(Response::from_parts(
        parts,
        mask::masked(body, Arc::clone(&carried.echoes)),
    ))
}

/// The request as it goes out: origin form, with a Host that comes from the checked origin alone.
fn prepare(request: Request<WasiBody>, origin: &Origin, call: &Arc<CallRecord>) -> Result<Request<RequestBody>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    parts.uri = Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    // wasi-http refused these when the guest set them; what is not there cannot be wrong.
    rules::take_out(&mut parts.headers, rules::is_forbidden);
    let text = origin.to_string();
    let host = text.split_once("://").map_or(text.as_str(), |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.headers.insert(header::HOST, host);
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Request::from_parts(parts, RequestBody::new(body, call)))
}

async fn send(
    stream: Box<dyn Stream>,
    request: Request<RequestBody>,
    deadlines: &Deadlines,
    place: Place,
) -> Result<(Response<hyper::body::Incoming>, Driver), Error> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HTTP_FIELD_BYTES_MAX).max_headers(FIELDS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(connection);
    let (until, end) = (deadlines.head(), deadlines.end);
    let head = async {
        let mut response = std::pin::pin!(sender.send_request(request));
        let mut running = true;
        loop {
            tokio::select! {
                biased;
                response = &mut response => return response.map(|response| (response, running)),
                ended = &mut connection, if running => {
                    ended?;
                    running = false;
                }
            }
        }
    };
    let (response, running) = timeout_at(until, head)
        .await
        .map_err(|_| Error::ConnectionReadTimeout)?
        .map_err(error_of)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::HttpUpgradeFailed);
    }
    let driver: Driver = Box::new(async move {
        // Ends with the exchange: a guest that never reads its response does not keep the connection, nor its place.
        let _place = place;
        let driving = async { if running { connection.await } else { Ok(()) } };
        // Whoever reads the body is told. The library has nobody else to tell, and would write a warning for each exchange.
        match timeout_at(end, driving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection of a guest broke"),
            Err(_) => tracing::debug!("an exchange of a guest was cut off at its deadline"),
        }
        Ok(())
    });
    Ok((response, driver))
}

fn error_of(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(u32::try_from(HTTP_FIELD_BYTES_MAX).ok());
    }
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(Error::HttpRequestBodySize(limit)) = inner.downcast_ref::<Error>() {
            return Error::HttpRequestBodySize(*limit);
        }
        source = inner.source();
    }
    Error::Hyper(error)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{advance, sleep};
    use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};

    use super::*;
    use crate::bound::stdio::StandardStreams;
    use crate::places::Places;
    use crate::state::State;
    use crate::testing::{self, Trial};

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_first_byte_begins_when_the_connection_is_there() {
        let limits = Limits {
            http_ms: 60_000,
            ..Limits::default()
        };
        let options = RequestOptions {
            first_byte_timeout: Some(Duration::from_secs(2)),
            ..RequestOptions::default()
        };
        let origin: Origin = "http://a.example".parse().unwrap();
        let Trial { call, .. } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        for (answered_after, connected_after, arrives) in [(1, 5, true), (3, 0, false), (1, 60, false)] {
            let deadlines = Deadlines::new(&limits, Some(options));
            advance(Duration::from_secs(connected_after)).await;
            let (client, mut server) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let _length = server.read(&mut [0; 1024]).await.unwrap();
                sleep(Duration::from_secs(answered_after)).await;
                // Whoever asked may be gone.
                let _ = server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            });
            let place = Places::new(1, 1).take_now(&"tester".parse().unwrap()).unwrap();
            let body: WasiBody = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let request = prepare(Request::new(body), &origin, &call).unwrap();
            let sent = send(Box::new(client), request, &deadlines, place).await;
            assert_eq!(sent.is_ok(), arrives, "{answered_after} {connected_after}");
        }
    }

    /// How a guest leaves the body of a request.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Left {
        Finished,
        WithItsState,
        WithItsFiles,
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_a_guest_left_unfinished_reaches_no_server_as_a_whole_one() {
        let origin: Origin = "http://a.example".parse().unwrap();
        for left in [Left::Finished, Left::WithItsState, Left::WithItsFiles] {
            let Trial { call, .. } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
            let mut state = State::new(Arc::clone(&call), StandardStreams::Log);
            let (mut body, sent) = HostOutgoingBody::new(StreamContext::Request, None, 1, 4096);
            let mut stream = body.take_output_stream().unwrap();
            stream.write(Bytes::from_static(b"half")).unwrap();
            let request = prepare(Request::post("/").body(sent).unwrap(), &origin, &call).unwrap();
            if left == Left::Finished {
                drop(stream);
                body.finish(None).unwrap();
            } else {
                // In the order in which a guest makes them.
                let _body = state.table.push(body).unwrap();
                let _stream = state.table.push(stream).unwrap();
            }
            match left {
                Left::Finished => {}
                Left::WithItsState => drop(state),
                Left::WithItsFiles => {
                    let _files = state.files();
                    state.close_files().await;
                }
            }
            let (client, mut server) = tokio::io::duplex(4096);
            let server = tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(b"0\r\n\r\n") && server.read_buf(&mut seen).await.unwrap() > 0 {}
                // Whoever asked may be gone.
                let _ = server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                String::from_utf8(seen).unwrap()
            });
            let place = Places::new(1, 1).take_now(&"tester".parse().unwrap()).unwrap();
            let deadlines = Deadlines::new(&Limits::default(), None);
            let is_answered = send(Box::new(client), request, &deadlines, place).await.is_ok();
            let seen = server.await.unwrap();
            let is_whole = seen.ends_with("\r\n4\r\nhalf\r\n0\r\n\r\n");
            assert_eq!(
                (is_answered, is_whole),
                (left == Left::Finished, left == Left::Finished),
                "{left:?}: {seen}"
            );
        }
    }
}
