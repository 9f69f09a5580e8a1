//! One HTTP exchange over `wasi:http`, without any check of its own: what it is told to send it tries to send.

use serde_json::{Value, json};

use crate::imports::wasi::http::outgoing_handler;
use crate::imports::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use crate::imports::wasi::io::streams::StreamError;

/// Why an exchange failed, and where.
#[derive(Debug)]
pub enum Failed {
    /// The request could not be built: the part that was refused.
    Build(&'static str, String),
    /// The host refused to send it, or the exchange broke.
    Exchange(ErrorCode),
    /// The body broke after so many bytes: the code, and what else the host says.
    Body(usize, Option<ErrorCode>, String),
}

/// Sends `{"method","url","headers":[[name,value]…],"body"}` and returns `{"status","headers","body"}`.
pub fn send(request: &Value) -> Result<Value, Failed> {
    send_changed(request, |_| ())
}

/// The same with a request that `change` has been at before it is sent.
pub fn send_changed(request: &Value, change: impl FnOnce(&OutgoingRequest)) -> Result<Value, Failed> {
    let response = exchange(request, change)?;
    let status = response.status();
    let headers: Vec<Value> = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    let body = read_body(&response)?;
    Ok(
        json!({ "status": status, "headers": headers, "bytes": body.len(), "body": String::from_utf8_lossy(&body[..body.len().min(1024)]) }),
    )
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

/// Builds the request from its URL, and from `authority` where the URL should not have the last word.
fn build(request: &Value) -> Result<OutgoingRequest, Failed> {
    let url = request["url"].as_str().expect("a URL");
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let fields = Fields::new();
    for header in request["headers"].as_array().into_iter().flatten() {
        let (name, value) = (
            header[0].as_str().expect("a name"),
            header[1].as_str().expect("a value"),
        );
        fields
            .append(name, value.as_bytes())
            .map_err(|error| Failed::Build("header", format!("{name}: {error:?}")))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let refused = |part| move |()| Failed::Build(part, url.to_owned());
    outgoing
        .set_method(&method(request["method"].as_str().unwrap_or("GET")))
        .map_err(refused("method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(refused("scheme"))?;
    outgoing.set_authority(Some(authority)).map_err(refused("authority"))?;
    outgoing.set_path_with_query(Some(path)).map_err(refused("path"))?;
    Ok(outgoing)
}

fn write_body(body: OutgoingBody, request: &Value) {
    let text = request["body"].as_str().unwrap_or_default();
    let repeat = request["body_repeat"].as_u64().unwrap_or(1);
    if !text.is_empty() {
        let stream = body.write().expect("the first stream of a body");
        for _ in 0..repeat {
            for chunk in text.as_bytes().chunks(4096) {
                // A host that has read enough closes the stream; the answer then says why.
                if stream.blocking_write_and_flush(chunk).is_err() {
                    return;
                }
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn exchange(request: &Value, change: impl FnOnce(&OutgoingRequest)) -> Result<IncomingResponse, Failed> {
    let outgoing = build(request)?;
    change(&outgoing);
    let body = outgoing.body().expect("the first body of a request");
    let options = RequestOptions::new();
    if let Some(patience_ms) = request["timeout_ms"].as_u64() {
        options
            .set_first_byte_timeout(Some(patience_ms * 1_000_000))
            .expect("a timeout");
        options
            .set_between_bytes_timeout(Some(patience_ms * 1_000_000))
            .expect("a timeout");
    }
    let future = outgoing_handler::handle(outgoing, Some(options)).map_err(Failed::Exchange)?;
    write_body(body, request);
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it was not taken");
    response.map_err(Failed::Exchange)
}

fn read_body(response: &IncomingResponse) -> Result<Vec<u8>, Failed> {
    let body: IncomingBody = response.consume().expect("the first body of a response");
    let stream = body.stream().expect("the first stream of a body");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(Failed::Body(
                    bytes.len(),
                    http_error_code(&error),
                    error.to_debug_string(),
                ));
            }
        }
    }
}
