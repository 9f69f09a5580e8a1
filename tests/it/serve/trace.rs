//! To which trace a request belongs, in every place that names it; and log lines that say so too.

use serde_json::{Value, json};

use crate::support::guests::*;
use crate::support::server::{Server, desk};

const ECHO: &str = "runtime-echo-tool";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn server() -> (crate::support::desk::Desk, Server) {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    (desk, server)
}

#[test]
fn a_request_belongs_to_the_trace_that_it_names() {
    let (desk, server) = server();
    let answered = server
        .wire()
        .invoke(ECHO, &[("traceparent", PARENT), ("tracestate", "a=1")], "1");
    assert_eq!((answered.status, answered.field("aral-trace-id")), (200, Some(TRACE)));
    let refused = server.wire().ask("GET", "/none", &[("Traceparent", PARENT)], "");
    let problem = refused.assert_problem("nothing there", 404, "request.invalid");
    assert_eq!(problem["trace_id"], TRACE);
    // A list that is malformed is left out, and no reason not to take the rest.
    let odd = server
        .wire()
        .invoke(ECHO, &[("traceparent", PARENT), ("tracestate", "A B")], "1");
    assert_eq!(odd.field("aral-trace-id"), Some(TRACE));
    server.signal(rustix::process::Signal::TERM);
    server.wait();
    let found = desk.aral(&["audit", "query", "--trace", TRACE, "--json"]);
    assert_eq!(found.code, 0, "{found:?}");
    let records = found.object()["records"].as_array().cloned().unwrap_or_default();
    let types: Vec<&Value> = records.iter().map(|record| &record["event"]["type"]).collect();
    assert!(types.contains(&&json!("invocation")), "{records:?}");
    assert!(records.iter().all(|record| record["trace"] == TRACE), "{records:?}");
}

#[test]
fn what_is_malformed_or_said_twice_begins_a_new_trace() {
    let (_desk, server) = server();
    for fields in [
        &[][..],
        &[("traceparent", "00")],
        &[("traceparent", &PARENT.to_uppercase())],
        &[("traceparent", &PARENT.replace(TRACE, &"0".repeat(32)))],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("tracestate", "a=1")],
    ] {
        let reply = server.wire().invoke(ECHO, fields, "1");
        assert_eq!(reply.status, 200, "{fields:?}");
        let trace = reply.field("aral-trace-id").expect("a trace id");
        assert!(
            trace.len() == 32 && trace != TRACE && !trace.starts_with("0000"),
            "{fields:?}: {trace}"
        );
    }
}

#[test]
fn log_lines_of_a_call_name_its_trace_and_hold_nothing_of_it() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start_with(&desk, &["--log-format", "json", "-vv"]);
    let input = json!({ "marker": "marker-4711" }).to_string();
    let key = ("Authorization", "Bearer aral_marker-4712");
    assert_eq!(
        server.wire().invoke(ECHO, &[("traceparent", PARENT)], &input).status,
        200
    );
    assert_eq!(
        server
            .wire()
            .invoke(ECHO, &[("traceparent", PARENT), key], &input)
            .status,
        401
    );
    server.signal(rustix::process::Signal::TERM);
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let of_call: Vec<&Value> = lines.iter().filter(|line| line["trace_id"] == TRACE).collect();
    assert!(
        of_call
            .iter()
            .any(|line| line["span"] == "call" || line["span"] == "audit" || line["span"] == "run"),
        "{log}"
    );
    assert!(of_call.iter().any(|line| line["span"] == "request"), "{log}");
    assert!(!log.contains("marker-47"), "{log}");
}
