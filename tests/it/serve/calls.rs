//! What is answered: calls, lists, descriptions, and answers for whoever asks again.

use std::io::Write as _;
use std::time::Duration;

use aral_contract::Digest;
use aral_fuzzing::http2;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::assert_recorded;
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::tls::Authority;
use crate::support::wire::{Wire, request};

const ECHO: &str = "runtime-echo-tool";

#[test]
fn a_call_is_answered_with_the_output_as_it_is() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let mut wire = server.wire();
    let input = json!({ "still": ["here", 1, null] });
    let reply = wire.invoke(ECHO, &[], &input.to_string());
    assert_eq!((reply.status, reply.json()), (200, input));
    assert_eq!(reply.field("content-type"), Some("application/json"));
    assert_eq!(reply.field("aral-capability-version"), Some("1.0.0"));
    assert_eq!(reply.field("aral-trace-id").map(str::len), Some(32));
    assert!(
        reply
            .field("aral-usage")
            .is_some_and(|usage| usage.contains("fuel=") && usage.contains("wall_us=")),
        "{reply:?}"
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
    ] {
        assert_eq!(reply.field(name), Some(value), "{name}");
    }
    assert_eq!(reply.field("server"), None);
    // The same connection goes on, and each request has a name of its own.
    let again = wire.invoke(&format!("{ECHO}?version=%5E1"), &[], "1");
    assert_eq!((again.status, again.body.as_str()), (200, "1"));
    assert_ne!(again.field("aral-trace-id"), reply.field("aral-trace-id"));
    wire.invoke(&format!("{ECHO}?version=2"), &[], "1")
        .assert_problem("no such version", 404, "capability.unknown");
}

#[test]
fn a_whole_version_is_called_alone_though_there_is_a_newer_compatible_one() {
    let desk = desk(|_| ());
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let entries = ["1.0.0", "1.0.1"].map(|version| {
        let mut entry = setup::entry(RUNTIME_ECHO_TOOL);
        entry["version"] = json!(version);
        entry
    });
    desk.manifest(&entries);
    let server = Server::start(&desk);
    for (query, version) in [
        ("1.0.0", "1.0.0"),
        ("%3D1.0.0", "1.0.0"),
        ("%5E1.0.0", "1.0.1"),
        ("1.0", "1.0.1"),
    ] {
        let reply = server.invoke(&format!("{ECHO}?version={query}"), "1");
        assert_eq!(reply.field("aral-capability-version"), Some(version), "{query}");
        let shown = server.get(&format!("/v1/capabilities/{ECHO}?version={query}")).json();
        assert_eq!(shown["version"], version, "{query}");
    }
}

#[test]
fn the_description_says_how_to_call_and_nothing_of_this_machine() {
    let desk = desk(|_| ());
    let root = desk.root();
    desk.guest(FILESYSTEM_READ, |entry| {
        entry["permissions"] = json!({ "file:read": { "paths": [{ "guest": "/data", "host": root }] } });
        entry["input_schema"] = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
        entry["limits"] = json!({ "wall_ms": 1234 });
    });
    let server = Server::start(&desk);
    let list = server.get("/v1/capabilities").json();
    assert_eq!(
        list,
        json!({ "capabilities": [{
            "id": "filesystem-read", "version": "1.0.0", "title": "filesystem_read",
            "description": "a guest of the tests", "permissions": ["file:read"],
        }] })
    );
    let shown = server.get("/v1/capabilities/filesystem-read?version=1");
    assert!(!shown.body.contains(&desk.root()), "{shown:?}");
    let shown = shown.json();
    assert_eq!(shown["input_schema"]["properties"]["path"]["type"], "string");
    assert_eq!(shown["limits"]["wall_ms"], 1234);
    assert_eq!(shown["title"], "filesystem_read");
}

#[test]
fn a_granted_folder_that_is_not_there_is_no_fault_of_the_caller() {
    let desk = desk(|_| ());
    let folder = desk.path("data");
    desk.guest(FILESYSTEM_READ, |entry| {
        entry["permissions"] = json!({ "file:read": { "paths": [{ "guest": "/data", "host": folder }] } });
    });
    let server = Server::start(&desk);
    let ask = || server.invoke("filesystem-read", r#"{"paths":["/data/a.txt"]}"#);
    ask().assert_problem("no folder", 403, "permission.denied");
    desk.write("data", b"a file");
    ask().assert_problem("a file in its place", 403, "permission.denied");
    // Once it is there the call is as any other.
    std::fs::remove_file(desk.path("data")).expect("it was there");
    desk.write("data/a.txt", b"here");
    let reply = ask();
    assert_eq!((reply.status, &reply.json()[0]["text"]), (200, &json!("here")));
}

#[test]
fn a_list_comes_page_by_page() {
    let desk = desk(|_| ());
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let entries: Vec<Value> = (0..250)
        .map(|number| {
            let mut entry = setup::entry(RUNTIME_ECHO_TOOL);
            entry["id"] = json!(format!("echo-{number:03}"));
            entry["version"] = json!(if number % 2 == 0 { "1.0.0" } else { "1.0.0-rc.1" });
            entry
        })
        .collect();
    desk.manifest(&entries);
    let server = Server::start(&desk);
    let (mut ids, mut path, mut pages) = (Vec::new(), "/v1/capabilities".to_owned(), 0);
    loop {
        let page = server.get(&path).json();
        let found = page["capabilities"].as_array().expect("a list").clone();
        ids.extend(found.iter().map(|one| one["id"].as_str().expect("an id").to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/capabilities?after={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..250).map(|number| format!("echo-{number:03}")).collect();
    assert_eq!((ids, pages), (expected, 2));
}

#[test]
fn health_readiness_and_the_description_are_for_everybody() {
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    for path in ["/health", "/ready"] {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.json()), (200, json!({ "status": "ok" })), "{path}");
    }
    let document = server.get("/openapi.json").json();
    assert!(document["paths"]["/v1/invoke/{capability}"]["post"].is_object());
}

#[test]
fn a_request_that_is_repeated_happens_once() {
    let desk = desk(|config| {
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json" },
            { "name": "other", "persona": "persona.json", "keys": [Digest::of(b"aral_other").to_string()] },
        ]);
    });
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let entries = [ECHO, "another"].map(|id| {
        let mut entry = setup::entry(RUNTIME_ECHO_TOOL);
        entry["id"] = json!(id);
        entry
    });
    desk.manifest(&entries);
    let server = Server::start(&desk);
    let mut wire = server.wire();
    let key = [("Idempotency-Key", "order-1")];
    let first = wire.invoke(ECHO, &key, "[1]");
    assert_eq!((first.status, first.field("idempotency-replayed")), (200, None));
    let again = wire.invoke(ECHO, &key, "[1]");
    assert_eq!((again.status, again.body.as_str()), (200, "[1]"));
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(again.field("aral-trace-id"), first.field("aral-trace-id"));
    let versioned = format!("{ECHO}?version=%5E1");
    for (case, call, input) in [
        ("another input", ECHO, "[2]"),
        ("another version", versioned.as_str(), "[1]"),
        ("another capability", "another", "[1]"),
    ] {
        wire.invoke(call, &key, input)
            .assert_problem(case, 422, "request.conflict");
        assert_eq!(wire.invoke(call, &[], input).status, 200, "{case}");
    }
    let other = [key[0], ("Authorization", "Bearer aral_other")];
    let others = wire.invoke(ECHO, &other, "[2]");
    assert_eq!(
        (others.status, others.field("idempotency-replayed")),
        (200, None),
        "{others:?}"
    );
    // What did not run is not kept.
    wire.invoke("none", &[("Idempotency-Key", "k2")], "1")
        .assert_problem("unknown", 404, "capability.unknown");
    assert_eq!(wire.invoke(ECHO, &[("Idempotency-Key", "k2")], "1").status, 200);
    // What the guest never saw is not kept either.
    assert_eq!(wire.invoke(ECHO, &[("Idempotency-Key", "k3")], "{").status, 400);
    assert_eq!(wire.invoke(ECHO, &[("Idempotency-Key", "k3")], "1").status, 200);
    for bad in ["", "a b", &"k".repeat(129)] {
        wire.invoke(ECHO, &[("Idempotency-Key", bad)], "1")
            .assert_problem(bad, 400, "request.invalid");
    }
    let two = [("Idempotency-Key", "two-1"), ("Idempotency-Key", "two-2")];
    wire.invoke(ECHO, &two, "1")
        .assert_problem("two keys", 400, "request.invalid");
}

#[test]
fn replay_ms() {
    let desk = desk(|config| config["serve"]["limits"] = json!({ "replay_ms": 300 }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let ask = || {
        let reply = server.wire().invoke(ECHO, &[("Idempotency-Key", "order-1")], "[1]");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.field("idempotency-replayed").is_some()
    };
    assert!(!ask());
    until("it is a call again", || !ask());
}

#[test]
fn what_there_was_no_room_for_is_tried_again() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |entry| {
        entry["limits"] = json!({ "table_elements": 0 });
    });
    let server = Server::start(&desk);
    let mut wire = server.wire();
    for _ in 0..2 {
        let reply = wire.invoke(ECHO, &[("Idempotency-Key", "k")], "1");
        assert!(reply.body.contains("limit.table"), "{reply:?}");
        assert_eq!(reply.field("idempotency-replayed"), None, "the guest never ran");
    }
}

#[test]
fn a_call_with_a_key_outlives_its_connection() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_SLEEP, |_| ());
    let server = Server::start(&desk);
    let key = [("Idempotency-Key", "k")];
    // Compiled once, so that the calls below take as long as they sleep.
    assert_eq!(server.invoke("runtime-sleep", "{\"wait_ms\":1}").status, 200);
    let send = |fields: &[(&str, &str)]| {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(fields);
        let mut wire = server.wire();
        let text = request("POST", "/v1/invoke/runtime-sleep", &all, "{\"wait_ms\":1500}");
        wire.send(&text);
        std::thread::sleep(Duration::from_millis(500));
    };
    send(&key);
    let repeat = || Wire::open(server.address()).invoke("runtime-sleep", &key, "{\"wait_ms\":1500}");
    repeat().assert_problem("under way", 409, "request.conflict");
    let mut reply = repeat();
    for _ in 0..100 {
        if reply.status == 200 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        reply = repeat();
    }
    assert_eq!(reply.field("idempotency-replayed"), Some("true"), "{reply:?}");
}

/// Those of a call in the trace of its caller.
fn fields(parent: &str) -> [(&str, &str); 2] {
    [("content-type", "application/json"), ("traceparent", parent)]
}

/// Waits for the record of the end of the call in this trace.
fn assert_cancelled(desk: &Desk, trace: &str) {
    let mut found = Value::Null;
    until("the call is on record", || {
        let query = ["audit", "query", "--json", "--type", "invocation", "--trace", trace];
        found = desk.aral(&query).object()["records"][0]["event"].clone();
        !found.is_null()
    });
    assert!(found.to_string().contains("call.cancelled"), "{found}");
}

#[test]
fn a_call_without_a_key_ends_with_its_request() {
    // Long enough that only giving up ends it.
    let limits = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
    let authority = Authority::new();
    let desk = desk(|config| {
        let listener = &mut config["serve"]["listener"];
        let mut secured = listener[0].clone();
        secured["tls"] = json!({ "certificate_file": "chain.pem", "key_file": "key.pem" });
        *listener = json!([listener[0], secured]);
        config["serve"]["limits"] = json!({ "handler_ms": 3_600_000 });
        config["policy"]["limits"] = limits.clone();
    });
    authority.install(&desk);
    desk.guest(RUNTIME_INFINITE_LOOP, |entry| entry["limits"] = limits);
    let server = Server::start(&desk);
    let path = "/v1/invoke/runtime-infinite-loop";
    let (first, second) = ("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319d");
    let parent = |trace: &str| format!("00-{trace}-b7ad6b7169203331-01");

    let mut wire = server.wire();
    wire.send(&request("POST", path, &fields(&parent(first)), "{}"));
    assert_recorded(&desk, "invocation_started", &[first]);
    drop(wire);
    assert_cancelled(&desk, first);

    // Over HTTP/2 the connection goes on.
    let mut stream = authority.client().http2(server.at(1));
    let asked = http2::request("POST", path, &fields(&parent(second)), "{}");
    stream
        .write_all(&[http2::PREFACE, &asked].concat())
        .expect("it takes it");
    assert_recorded(&desk, "invocation_started", &[second]);
    stream.write_all(&http2::reset()).expect("it takes it");
    assert_cancelled(&desk, second);
}

#[test]
fn replay_bounds_hold() {
    let outcome = |limits: Value| {
        let desk = desk(|config| config["serve"]["limits"] = limits);
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let server = Server::start(&desk);
        let mut wire = server.wire();
        for key in ["1", "2"] {
            assert_eq!(
                wire.invoke(ECHO, &[("Idempotency-Key", key)], "\"0123456789\"").status,
                200
            );
        }
        let again = wire.invoke(ECHO, &[("Idempotency-Key", "1")], "\"0123456789\"");
        again.field("idempotency-replayed").is_some()
    };
    assert!(outcome(json!({})));
    assert!(!outcome(json!({ "replay_entries_max": 1 })));
    assert!(!outcome(json!({ "replay_bytes_max": 600 })));
}

#[test]
fn a_call_whose_answer_has_no_room_does_not_happen_again() {
    let desk = desk(|config| config["serve"]["limits"] = json!({ "replay_bytes_max": 520 }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let once = |input: &str| server.wire().invoke(ECHO, &[("Idempotency-Key", "k")], input);
    assert_eq!(once("\"0123456789\"").status, 200);
    let problem = once("\"0123456789\"").assert_problem("no answer", 409, "request.conflict");
    assert_eq!(problem["hint"], "aral.toml, [serve.limits]: replay_bytes_max");
    once("1").assert_problem("another request", 422, "request.conflict");
}

/// How many requests of agents are kept as used.
fn requests_kept(desk: &Desk) -> u64 {
    let path = desk.path(&format!("{}/used.json", setup::STATE));
    let kept = std::fs::read(path).unwrap_or_else(|_| b"{}".to_vec());
    let kept: Value = serde_json::from_slice(&kept).expect("it is replaced as a whole");
    let agents = kept.as_object().expect("agents").values();
    let amounts = agents.flat_map(|spent| spent["requests"].as_array().expect("amounts"));
    amounts.map(|amount| amount[1].as_u64().expect("a number")).sum()
}

#[test]
fn what_was_used_outlives_a_server_that_is_killed() {
    let desk = desk(|config| config["policy"]["agent"]["requests_per_hour"] = json!(2));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    until("what was used is kept", || requests_kept(&desk) == 2);
    server.signal(Signal::KILL);
    let _killed = server.wait();
    let next = Server::start(&desk);
    next.invoke(ECHO, "1").assert_problem("used up", 429, "limit.rate");
}
