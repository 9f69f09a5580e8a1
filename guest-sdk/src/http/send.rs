//! A checked request over `wasi:http`: the only module that talks to it. It waits for one request at a time.

use super::Response;
use super::request::{Method, Overflow, Request, Target};
use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method as WasiMethod, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::StreamError;
use crate::{Error, Result, log};

/// What is asked for at once: large enough to keep calls few, small enough for the host's cap on one read.
const READ_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn send(request: &Request<'_>, target: &Target, headers: &[(String, Vec<u8>)]) -> Result<Response> {
    let deadline = Deadline::after(request.timeout_ms);
    let outgoing = outgoing_request(request.method, target, headers)?;
    if let Some(attachment) = &request.attachment {
        attachment.apply(&outgoing)?;
    }
    let body = outgoing
        .body()
        .map_err(|()| broken("the request has no body to write"))?;
    let pending = outgoing_handler::handle(outgoing, Some(options(request.timeout_ms)?)).map_err(from_code)?;
    // A host that refuses the request closes the body first: the answer below says why.
    let written = write_body(body, request.body.as_deref().unwrap_or_default(), &deadline);
    let in_time = deadline.wait(&pending.subscribe());
    let answer = pending
        .get()
        .transpose()
        .map_err(|()| broken("the answer was taken twice"))?;
    // Why the host gave up says more than that the time is over.
    let response = answer.transpose().map_err(from_code)?;
    in_time?;
    let response = response.ok_or_else(|| broken("the answer was not there when it was announced"))?;
    written?;
    read_response(response, request, &deadline)
}

fn outgoing_request(method: Method, target: &Target, headers: &[(String, Vec<u8>)]) -> Result<OutgoingRequest> {
    let fields = Fields::from_list(headers)
        .map_err(|error| Error::denied(format!("the host refuses a header of the request: {error}")))?;
    let outgoing = OutgoingRequest::new(fields);
    let method = match method {
        Method::Get => WasiMethod::Get,
        Method::Head => WasiMethod::Head,
        Method::Options => WasiMethod::Options,
        Method::Post => WasiMethod::Post,
        Method::Put => WasiMethod::Put,
        Method::Patch => WasiMethod::Patch,
        Method::Delete => WasiMethod::Delete,
    };
    let scheme = if target.secure { Scheme::Https } else { Scheme::Http };
    let refused =
        |part: &'static str| move |()| Error::invalid_input(format!("the host refuses the {part} of the URL"));
    outgoing.set_method(&method).map_err(refused("method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(refused("scheme"))?;
    outgoing
        .set_authority(Some(&target.authority))
        .map_err(refused("host"))?;
    outgoing
        .set_path_with_query(Some(&target.path_with_query))
        .map_err(refused("path"))?;
    Ok(outgoing)
}

/// The host shares the time to connect among the addresses that it tries. It is less than the whole, so that the host says first why
/// there is no connection. All later steps end with the deadline here.
fn options(timeout_ms: u64) -> Result<RequestOptions> {
    let options = RequestOptions::new();
    options
        .set_connect_timeout(Some(nanoseconds(timeout_ms) / 10 * 9))
        .map_err(|()| broken("the host knows no timeouts"))?;
    Ok(options)
}

fn nanoseconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(1_000_000)
}

fn write_body(body: OutgoingBody, bytes: &[u8], deadline: &Deadline) -> Result<()> {
    if !bytes.is_empty() {
        let stream = body.write().map_err(|()| broken("the body was opened twice"))?;
        // Declared after its stream, and so dropped before it: the other way round may end the guest.
        let writable = stream.subscribe();
        let mut left = bytes;
        while !left.is_empty() {
            deadline.wait(&writable)?;
            let permitted = stream.check_write().map_err(from_stream)?;
            let permitted = usize::try_from(permitted).unwrap_or(usize::MAX);
            let (chunk, rest) = left.split_at(left.len().min(permitted));
            stream.write(chunk).map_err(from_stream)?;
            left = rest;
        }
    }
    OutgoingBody::finish(body, None).map_err(from_code)
}

fn read_response(response: IncomingResponse, request: &Request<'_>, deadline: &Deadline) -> Result<Response> {
    let status = response.status();
    let headers = response.headers().entries();
    let incoming = response.consume().map_err(|()| broken("the body was read twice"))?;
    let (body, truncated) = read_body(&incoming, request, deadline)?;
    Ok(Response {
        status,
        headers,
        body,
        truncated,
    })
}

fn read_body(incoming: &IncomingBody, request: &Request<'_>, deadline: &Deadline) -> Result<(Vec<u8>, bool)> {
    let stream = incoming.stream().map_err(|()| broken("the body was opened twice"))?;
    // Declared after its stream, and so dropped before it: the other way round may end the guest.
    let readable = stream.subscribe();
    let mut body = Vec::new();
    loop {
        deadline.wait(&readable)?;
        match stream.read(READ_BYTES_MAX) {
            Ok(chunk) => {
                let room = request.body_bytes_max.saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    return match request.overflow {
                        Overflow::Cut => Ok((body, true)),
                        Overflow::Fail => Err(Error::limit(format!(
                            "the answer is longer than {} bytes",
                            request.body_bytes_max
                        ))),
                    };
                }
            }
            Err(StreamError::Closed) => return Ok((body, false)),
            Err(error) => return Err(from_stream(error)),
        }
    }
}

/// The one moment by which all of an exchange has happened: timeouts of single steps, one after the other, would add up.
struct Deadline {
    timer: Pollable,
    timeout_ms: u64,
}

impl Deadline {
    fn after(timeout_ms: u64) -> Self {
        Self {
            timer: monotonic_clock::subscribe_duration(nanoseconds(timeout_ms)),
            timeout_ms,
        }
    }

    /// Waits for the next step of the exchange. A step that comes when the time is over is too late.
    fn wait(&self, step: &Pollable) -> Result<()> {
        const TIMER: u32 = 0;
        if poll(&[&self.timer, step]).contains(&TIMER) {
            let timeout_ms = self.timeout_ms;
            return Err(Error::unavailable(format!(
                "the answer did not end within {timeout_ms} ms"
            )));
        }
        Ok(())
    }
}

fn broken(text: &str) -> Error {
    Error::internal(text)
}

fn from_stream(error: StreamError) -> Error {
    match error {
        StreamError::Closed => Error::unavailable("the connection closed before everything was sent"),
        StreamError::LastOperationFailed(error) => match http_error_code(&error) {
            Some(code) => from_code(code),
            None => {
                // What the host knows of it may name its insides: that is for the operator, not for the caller.
                log::debug(error.to_debug_string());
                Error::unavailable("the connection broke before the answer was complete")
            }
        },
    }
}

/// By what the caller can do: ask for a permission, send something else, ask for less, or come again.
fn from_code(code: ErrorCode) -> Error {
    let text = describe(&code);
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited | ErrorCode::HttpRequestMethodInvalid => {
            Error::Denied(text)
        }
        ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_) => Error::InvalidInput(text),
        ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpResponseHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSize(_)
        | ErrorCode::HttpResponseBodySize(_)
        | ErrorCode::HttpResponseTrailerSectionSize(_)
        | ErrorCode::HttpResponseTrailerSize(_)
        | ErrorCode::ConnectionLimitReached => Error::Limit(text),
        ErrorCode::InternalError(_) | ErrorCode::ConfigurationError | ErrorCode::LoopDetected => Error::Internal(text),
        ErrorCode::DnsTimeout
        | ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_)
        | ErrorCode::HttpResponseIncomplete
        | ErrorCode::HttpResponseTransferCoding(_)
        | ErrorCode::HttpResponseContentCoding(_)
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::HttpUpgradeFailed
        | ErrorCode::HttpProtocolError => Error::Unavailable(text),
    }
}

fn describe(code: &ErrorCode) -> String {
    match code {
        ErrorCode::InternalError(Some(text)) => text.clone(),
        ErrorCode::HttpRequestDenied => {
            "the host does not allow this request: the manifest entry must list its scheme, host and port under \
             `network:read` or `network:write`, and the policy must allow it; or a secret that the request carries \
             cannot be sent with it"
                .to_owned()
        }
        ErrorCode::DestinationUnavailable => {
            "the server does not answer, or a secret that the request carries cannot be had now".to_owned()
        }
        ErrorCode::DestinationIpProhibited => "the name leads to an address that the host does not allow".to_owned(),
        // The debug form names the case and its values, nothing else.
        other => format!("the request failed: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_by_what_the_caller_can_do() {
        fn check(code: ErrorCode, expected: fn(String) -> Error) {
            let error = from_code(code);
            assert_eq!(error, expected(error.text().to_owned()));
        }
        check(ErrorCode::HttpRequestDenied, Error::Denied);
        check(ErrorCode::DestinationIpProhibited, Error::Denied);
        check(ErrorCode::HttpRequestUriInvalid, Error::InvalidInput);
        check(ErrorCode::HttpResponseBodySize(Some(9)), Error::Limit);
        check(ErrorCode::ConnectionTimeout, Error::Unavailable);
        check(ErrorCode::DestinationUnavailable, Error::Unavailable);
        for code in [ErrorCode::HttpRequestDenied, ErrorCode::DestinationUnavailable] {
            assert!(from_code(code).text().contains("secret"), "it may be what is missing");
        }
        check(ErrorCode::InternalError(None), Error::Internal);
        assert_eq!(
            from_code(ErrorCode::InternalError(Some("why".to_owned()))).text(),
            "why"
        );
    }
}
