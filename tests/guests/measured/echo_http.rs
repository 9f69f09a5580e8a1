//! Answers each request over `wasi:http` with the JSON of its body, read and written anew as the capability `echo` does.
//! `wasmtime serve` runs it in a fresh instance: what a call of `aral serve` is measured beside. The host never runs it.

use serde_json::Value;

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use bindings::wasi::io::streams::StreamError;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/1.0.0",
        inline: r#"
            package aral:test-guests;
            world proxy {
                export wasi:http/incoming-handler@0.2.12;
            }
        "#,
        world: "aral:test-guests/proxy",
        generate_all,
    });
}

/// The most that one write may carry.
const WRITE_BYTES_MAX: usize = 4096;

struct Echo;

impl Guest for Echo {
    fn handle(request: IncomingRequest, answered: ResponseOutparam) {
        let body = request.consume().expect("the first body of a request");
        let input: Value = serde_json::from_slice(&read(&body)).expect("the body is JSON");
        let output = serde_json::to_vec(&input).expect("JSON can be written");
        let fields = Fields::new();
        let length = output.len().to_string();
        for (name, value) in [("content-type", "application/json"), ("content-length", &length)] {
            fields.append(name, value.as_bytes()).expect("a good field");
        }
        let response = OutgoingResponse::new(fields);
        let body = response.body().expect("the first body of a response");
        ResponseOutparam::set(answered, Ok(response));
        let stream = body.write().expect("the first stream of a body");
        for chunk in output.chunks(WRITE_BYTES_MAX) {
            stream.blocking_write_and_flush(chunk).expect("the caller reads");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("as long as announced");
    }
}

fn read(body: &IncomingBody) -> Vec<u8> {
    let stream = body.stream().expect("the first stream of a body");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return bytes,
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
}

bindings::export!(Echo with_types_in bindings);
