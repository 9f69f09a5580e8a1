//! A capability that keeps failing for one persona: what its callers are told, who goes on, and what operators see.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::limits::warm;
use super::metrics::{metrics, number};
use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::{ask_newest, call};
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::wire::{Reply, Wire};

const ECHO: &str = "runtime-echo-tool";
const TRAPS: &str = r#"{"trap":true}"#;
const WORKS: &str = r#"{"trap":false}"#;

/// A server with two callers, a persona each, and this section `[policy.breaker]`.
fn start(breaker: Value) -> (Desk, Server) {
    let desk = desk(|config| {
        config["policy"]["breaker"] = breaker;
        config["serve"]["listener"] = json!([
            { "address": "127.0.0.1:0", "anonymous": "tester", "mcp": true },
            { "address": "127.0.0.1:0", "anonymous": "other" },
        ]);
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json" },
            { "name": "other", "persona": "other.json" },
        ]);
    });
    let guests = [RUNTIME_ECHO_TOOL, RUNTIME_TRAP];
    guests.iter().for_each(|guest| drop(desk.component(&guest.bytes())));
    desk.manifest(&guests.map(setup::entry));
    let mut persona = setup::persona();
    persona["id"] = json!("other");
    let document = setup::sign(aral_contract::document::signed::Kind::Persona, &persona, &setup::key());
    desk.write("other.json", document.to_string().as_bytes());
    let server = Server::start(&desk);
    (desk, server)
}

fn trap(server: &Server, listener: usize, input: &str) -> Reply {
    Wire::open(server.at(listener)).invoke(&RUNTIME_TRAP.id(), &[], input)
}

fn fails(server: &Server, count: usize) {
    for _ in 0..count {
        trap(server, 0, TRAPS).assert_problem("it fails", 502, "guest.trap");
    }
}

/// How often a word is in the log of a server that ends with this.
fn recorded(desk: &Desk, server: Server, words: [&str; 2]) -> [usize; 2] {
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let log = desk.audit();
    words.map(|word| log.matches(word).count())
}

#[test]
fn what_keeps_failing_is_answered_503_with_the_rest_of_the_pause_and_for_this_persona_alone() {
    let (desk, server) = start(json!({ "failures": 3, "open_ms": 60_000 }));
    fails(&server, 3);
    let refused = trap(&server, 0, WORKS);
    let problem = refused.assert_problem("open", 503, "capability.open_circuit");
    let wait: u64 = refused.field("retry-after").expect("a time").parse().expect("a number");
    assert!((2..=61).contains(&wait), "{wait}");
    assert_eq!(problem["title"], "the capability failed");
    let hint = problem["hint"].as_str().expect("a text");
    assert!(hint.starts_with("call again in "), "{hint}");
    assert_eq!(refused.field("aral-capability-version"), None, "nothing ran");
    // The same as a tool.
    let arguments = json!({ "input": { "trap": false } });
    let told = ask_newest(server.address(), &[], "tools/call", call(&RUNTIME_TRAP.id(), arguments));
    let result = &told.json()["result"];
    assert_eq!(result["isError"], true, "{told:?}");
    let error = &result["_meta"]["aral/error"];
    assert_eq!(error["code"], "capability.open_circuit", "{told:?}");
    assert!(
        error["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 60_000),
        "{error}"
    );

    trap(&server, 1, TRAPS).assert_problem("another persona", 502, "guest.trap");
    assert_eq!(server.invoke(ECHO, "1").status, 200, "another capability");

    let text = metrics(&desk);
    for (series, expected) in [
        ("aral_breakers_open", 1.0),
        ("aral_breaker_opened_total", 1.0),
        (
            "aral_calls_total{capability=\"runtime-trap\",code=\"capability.open_circuit\"}",
            2.0,
        ),
    ] {
        assert_eq!(number(&text, series), expected, "{series}");
    }
    let words = ["breaker.opened", "\"capability.open_circuit\""];
    assert_eq!(recorded(&desk, server, words), [1, 2]);
}

#[test]
fn a_guest_that_runs_until_the_server_ends_it_counts() {
    let desk = desk(|config| {
        config["policy"]["breaker"] = json!({ "failures": 2, "open_ms": 300_000 });
        config["serve"]["limits"] = json!({ "handler_ms": 700 });
    });
    desk.guest(RUNTIME_SLEEP, |_| ());
    let server = Server::start(&desk);
    // What is compiled for all of its time or too much of it counts for nothing.
    warm(&server, &RUNTIME_SLEEP.id(), "{\"wait_ms\":1}");
    let mut ended = 0;
    until("it is not called any more", || {
        let code = server.invoke(&RUNTIME_SLEEP.id(), "{\"wait_ms\":20000}").json()["code"].clone();
        ended += usize::from(code == "limit.wall");
        code == "capability.open_circuit"
    });
    // One more where the host was busy once.
    assert!((2..=3).contains(&ended), "{ended}");
    let [opened, recorded] = recorded(&desk, server, ["breaker.opened", "\"limit.wall\""]);
    assert_eq!(opened, 1);
    assert!(recorded >= ended, "{recorded} of {ended} calls");
}

#[test]
fn a_call_that_is_answered_after_the_pause_closes_it() {
    let (desk, server) = start(json!({ "failures": 2, "open_ms": 1, "open_max_ms": 1 }));
    fails(&server, 2);
    until("the pause is over", || trap(&server, 0, WORKS).status == 200);
    let text = metrics(&desk);
    assert_eq!(number(&text, "aral_breakers_open"), 0.0);
    assert_eq!(number(&text, "aral_breaker_opened_total"), 1.0);
    // It counts from the beginning.
    fails(&server, 1);
    assert_eq!(trap(&server, 0, WORKS).status, 200);
    assert_eq!(recorded(&desk, server, ["breaker.opened", "breaker.closed"]), [1, 1]);
}

#[test]
fn a_configuration_that_is_read_again_has_its_numbers_hold_for_what_is_open() {
    let (desk, server) = start(json!({ "failures": 2, "open_ms": 300_000 }));
    fails(&server, 2);
    trap(&server, 0, WORKS).assert_problem("open", 503, "capability.open_circuit");
    desk.configure_more(|config| {
        config["policy"]["breaker"] = json!({ "failures": 4, "open_ms": 1, "open_max_ms": 1 });
    });
    server.signal(Signal::HUP);
    until("the pause is shorter", || trap(&server, 0, WORKS).status == 200);
    fails(&server, 3);
    assert_eq!(trap(&server, 0, WORKS).status, 200, "three are not enough now");
}
