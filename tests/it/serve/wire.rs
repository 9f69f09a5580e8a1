//! Requests that no library would send: wrong framing, two ends, two hosts, no media type, no HTTP.

use std::time::Duration;

use serde_json::json;

use crate::support::guests::*;
use crate::support::server::{Server, desk};

fn server() -> Server {
    let desk = desk(|config| config["serve"]["limits"] = json!({ "body_ms": 500 }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    Server::start(&desk)
}

const INVOKE: &str =
    "POST /v1/invoke/runtime-echo-tool HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
/// What an attacker wants to be taken for a request of somebody else.
const HIDDEN: &str = "GET /v1/capabilities HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_request_with_two_ends_has_none() {
    let server = server();
    let chunked = format!("1\r\n1\r\n0\r\n\r\n{HIDDEN}");
    let body = format!("1{HIDDEN}");
    for (case, request, status) in [
        (
            "chunks",
            format!("{INVOKE}Transfer-Encoding: chunked\r\n\r\n{chunked}"),
            411,
        ),
        (
            "a length and chunks",
            format!("{INVOKE}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
            411,
        ),
        (
            "chunks and a length",
            format!("{INVOKE}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n{chunked}"),
            411,
        ),
        (
            "chunks in other words",
            format!("{INVOKE}Transfer-Encoding: identity, chunked\r\n\r\n{chunked}"),
            411,
        ),
        (
            "an encoding that is not the last",
            format!("{INVOKE}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}"),
            400,
        ),
        (
            "an encoding with a tab",
            format!("{INVOKE}Transfer-Encoding:\tchunked\r\n\r\n{chunked}"),
            411,
        ),
        (
            "an encoding of HTTP/1.0",
            format!(
                "{}Transfer-Encoding: chunked\r\n\r\n{chunked}",
                INVOKE.replace("/1.1", "/1.0")
            ),
            400,
        ),
        (
            "two lengths",
            format!("{INVOKE}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{body}"),
            400,
        ),
        (
            "a list of lengths",
            format!("{INVOKE}Content-Length: 1, 2\r\n\r\n{body}"),
            400,
        ),
        (
            "a signed length",
            format!("{INVOKE}Content-Length: +1\r\n\r\n{body}"),
            400,
        ),
        (
            "a negative length",
            format!("{INVOKE}Content-Length: -1\r\n\r\n{body}"),
            400,
        ),
        (
            "a length in hex",
            format!("{INVOKE}Content-Length: 0x1\r\n\r\n{body}"),
            400,
        ),
        (
            "a length beyond all numbers",
            format!("{INVOKE}Content-Length: 99999999999999999999\r\n\r\n{body}"),
            400,
        ),
        (
            "a space before the colon",
            format!("{INVOKE}Content-Length : 1\r\n\r\n{body}"),
            400,
        ),
        (
            "a folded field",
            format!("{INVOKE}Content-Length: 1\r\n X: 2\r\n\r\n{body}"),
            400,
        ),
        ("a field without a name", format!("{INVOKE}: 1\r\n\r\n{body}"), 400),
        (
            "a bare carriage return",
            format!("{INVOKE}X: a\rContent-Length: 1\r\n\r\n{body}"),
            400,
        ),
        ("a null", format!("{INVOKE}X: a\0b\r\n\r\n{body}"), 400),
    ] {
        let mut wire = server.wire();
        wire.send(&request);
        let reply = wire.reply();
        assert_eq!(reply.status, status, "{case}: {reply:?}");
        if status == 411 {
            reply.assert_problem(case, 411, "request.invalid");
        }
        assert!(wire.is_closed(), "{case}: what is hidden behind it is not answered");
    }
    assert_eq!(
        server.invoke("runtime-echo-tool", "1").status,
        200,
        "the server goes on"
    );
}

#[test]
fn what_is_no_http_is_refused() {
    let server = server();
    for (case, bytes) in [
        ("noise", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n".to_owned()),
        ("HTTP/2 by itself", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("no version", "GET /health\r\n\r\n".to_owned()),
        (
            "a version to come",
            "GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n".to_owned(),
        ),
    ] {
        let mut wire = server.wire();
        wire.send(&bytes);
        if let Some(reply) = wire.try_reply() {
            assert_eq!(reply.status, 400, "{case}: {reply:?}");
            assert!(wire.is_closed(), "{case}");
        }
    }
    assert_eq!(
        server.invoke("runtime-echo-tool", "1").status,
        200,
        "the server goes on"
    );
}

#[test]
fn every_refusal_is_a_problem() {
    let server = server();
    let json = ("Content-Type", "application/json");
    for (case, method, path, fields, body, status, code) in [
        ("nothing there", "GET", "/v2", &[][..], "", 404, "request.invalid"),
        (
            "above the root",
            "GET",
            "/v1/../health",
            &[],
            "",
            404,
            "request.invalid",
        ),
        (
            "an encoded slash",
            "GET",
            "/v1/capabilities/a%2Fb",
            &[],
            "",
            404,
            "capability.unknown",
        ),
        (
            "not UTF-8",
            "GET",
            "/v1/capabilities/%FF",
            &[],
            "",
            404,
            "request.invalid",
        ),
        (
            "no name",
            "GET",
            "/v1/capabilities/A",
            &[],
            "",
            404,
            "capability.unknown",
        ),
        (
            "another method",
            "DELETE",
            "/v1/capabilities",
            &[],
            "",
            405,
            "request.invalid",
        ),
        ("TRACE", "TRACE", "/health", &[], "", 405, "request.invalid"),
        (
            "an unknown query",
            "GET",
            "/v1/capabilities?limit=1",
            &[],
            "",
            400,
            "request.invalid",
        ),
        (
            "a query twice",
            "GET",
            "/v1/capabilities?after=a&after=b",
            &[],
            "",
            400,
            "request.invalid",
        ),
        (
            "no versions",
            "GET",
            "/v1/capabilities/a?version=!",
            &[],
            "",
            400,
            "request.invalid",
        ),
        (
            "no media type",
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[],
            "1",
            415,
            "request.invalid",
        ),
        (
            "what a page can send",
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[("Content-Type", "text/plain")],
            "1",
            415,
            "request.invalid",
        ),
        (
            "no JSON",
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[json],
            "{",
            400,
            "input.invalid",
        ),
        (
            "no body",
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[json],
            "",
            400,
            "input.invalid",
        ),
        (
            "a key twice",
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[json],
            "{\"a\":1,\"a\":2}",
            400,
            "input.invalid",
        ),
        (
            "two hosts",
            "GET",
            "/health",
            &[("Host", "localhost"), ("Host", "localhost")],
            "",
            400,
            "request.invalid",
        ),
        (
            "a host with a user",
            "GET",
            "/health",
            &[("Host", "a@localhost")],
            "",
            421,
            "request.invalid",
        ),
        (
            "two names of the host",
            "GET",
            "http://localhost/health",
            &[("Host", "evil.example")],
            "",
            400,
            "request.invalid",
        ),
    ] {
        let reply = server.wire().ask(method, path, fields, body);
        reply.assert_problem(case, status, code);
    }
    let mut wire = server.wire();
    wire.send("GET /health HTTP/1.1\r\n\r\n");
    wire.reply().assert_problem("no host", 400, "request.invalid");
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    server
        .invoke("runtime-echo-tool", &deep)
        .assert_problem("nested deeply", 400, "input.invalid");
}

#[test]
fn a_failing_capability_fails_its_call_alone() {
    let desk = desk(|_| ());
    let trap = crate::support::setup::entry(RUNTIME_TRAP);
    let error = crate::support::setup::entry(RUNTIME_TOOL_ERROR);
    desk.component(&RUNTIME_TRAP.bytes());
    desk.component(&RUNTIME_TOOL_ERROR.bytes());
    desk.manifest(&[trap, error]);
    let server = Server::start(&desk);
    let mut wire = server.wire();
    wire.invoke("runtime-trap", &[], "{\"trap\":true}")
        .assert_problem("a trap", 502, "guest.trap");
    let reply = wire.invoke("runtime-tool-error", &[], "\"internal\"");
    reply.assert_problem("an error of its own", 422, "guest.error");
    assert_eq!(reply.field("aral-capability-version"), Some("1.0.0"));
    assert_eq!(wire.invoke("runtime-tool-error", &[], "\"fine\"").body, "\"fine\"");
}

#[test]
fn a_body_that_ends_early_or_never_comes_is_not_waited_for() {
    let server = server();
    let mut wire = server.wire();
    wire.send(&format!("{INVOKE}Content-Length: 10\r\n\r\n12"));
    wire.reply().assert_problem("half a body", 408, "request.invalid");
    assert!(wire.is_closed());
    assert!(server.wire().is_silent_for(Duration::from_millis(300)));
}
