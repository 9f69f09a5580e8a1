//! The configuration read again while calls are made: all of the old or all of the new, and nothing of a bad one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aral_contract::Digest;
use aral_contract::document::signed::Kind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{self, Server};
use crate::support::setup;
use crate::support::wire::Wire;

const ECHO: &str = "runtime-echo-tool";
/// A change that is asked for holds within this, on a machine that is busy.
const SOON: Duration = Duration::from_secs(30);

/// Asks until the answer is as wanted.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "{what}: it never holds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One of two configurations that have nothing in common but the address: capability, persona, key and policy.
fn side(desk: &Desk, name: &str) -> Value {
    let mut entry = setup::entry(RUNTIME_ECHO_TOOL);
    entry["id"] = json!(name);
    let manifest = json!({ "capabilities": [entry] });
    desk.write(
        &format!("{name}.manifest.json"),
        setup::sign(Kind::Manifest, &manifest, &setup::key())
            .to_string()
            .as_bytes(),
    );
    let persona = json!({
        "id": name, "name": name, "clearance": "secret",
        "constraints": { "allowed_permissions": ["*"], "allowed_capabilities": [name], "allowed_domains": ["*"] },
    });
    desk.write(
        &format!("{name}.persona.json"),
        setup::sign(Kind::Persona, &persona, &setup::key())
            .to_string()
            .as_bytes(),
    );
    let mut config = desk.config();
    config["manifests"]["files"] = json!([format!("{name}.manifest.json")]);
    config["policy"]["capabilities"] = json!([name]);
    config["serve"]["caller"][0]["persona"] = json!(format!("{name}.persona.json"));
    config
}

#[test]
fn thousands_of_calls_see_the_old_or_the_new_and_never_both() {
    let desk = server::desk(|config| {
        let often = json!({ "per_second": 1_000_000 });
        config["serve"]["rates"] = json!({ "address": often, "persona": often, "caller": often });
    });
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let (left, right) = (side(&desk, "left"), side(&desk, "right"));
    desk.replace_config(&left);
    let server = Server::start(&desk);
    let (ended, calls, seen) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        [AtomicUsize::new(0), AtomicUsize::new(0)],
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = server.wire();
                while !ended.load(Ordering::Relaxed) {
                    let list = wire.ask("GET", "/v1/capabilities", &[], "");
                    assert_eq!(list.status, 200, "{list:?}");
                    let list = list.json();
                    let ids: Vec<&str> = list["capabilities"]
                        .as_array()
                        .expect("a list")
                        .iter()
                        .filter_map(|one| one["id"].as_str())
                        .collect();
                    // A persona of one side under the policy or the manifests of the other could call nothing.
                    match ids[..] {
                        ["left"] => seen[0].fetch_add(1, Ordering::Relaxed),
                        ["right"] => seen[1].fetch_add(1, Ordering::Relaxed),
                        _ => panic!("some of both: {ids:?}"),
                    };
                    for id in ["left", "right"] {
                        let reply = wire.invoke(id, &[], "1");
                        // Of the other side there is nothing at all, rather than something that is denied.
                        match reply.status {
                            200 => assert_eq!(reply.body, "1"),
                            _ => drop(reply.assert_problem(id, 404, "capability.unknown")),
                        }
                    }
                    calls.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        let mut round = 0;
        while round < 60 || calls.load(Ordering::Relaxed) < 3000 {
            assert!(start.elapsed() < 4 * SOON, "{calls:?} calls in {round} rounds");
            match round % 3 {
                0 => desk.replace_config(&right),
                1 => desk.replace_config(&left),
                _ => desk.write("aral.toml", b"policy = nonsense"),
            }
            server.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(30));
            round += 1;
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(seen.iter().all(|side| side.load(Ordering::Relaxed) > 0), "{seen:?}");
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn callers_keys_names_and_bounds_are_those_of_the_file() {
    let desk = server::desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let mut wire = server.wire();
    assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    let (key, other) = ("aral_first", "aral_second");
    let digest = |key: &str| Digest::of(key.as_bytes()).to_string();
    desk.configure_more(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0", "hosts": ["aral.example"] });
        config["serve"]["caller"][0]["keys"] = json!([digest(key)]);
        config["serve"]["limits"] = json!({ "body_bytes_max": 10, "uri_bytes_max": 100 });
    });
    server.signal(Signal::HUP);
    // The same connection goes on, under the new configuration.
    until("nobody is somebody", || wire.invoke(ECHO, &[], "1").status == 401);
    let bearer = |key: &str| format!("Bearer {key}");
    let ask = |key: &str, host: &str, body: &str| {
        let fields = [("Authorization", &*bearer(key)), ("Host", host)];
        Wire::open(server.address()).invoke(ECHO, &fields, body)
    };
    assert_eq!(ask(key, "localhost", "1").status, 200);
    assert_eq!(ask(key, "aral.example", "1").status, 200);
    ask(key, "localhost", "\"0123456789\"").assert_problem("a body", 413, "request.invalid");
    server
        .get(&format!("/v1/capabilities?after={}", "a".repeat(100)))
        .assert_problem("an address", 414, "request.invalid");
    ask(other, "localhost", "1").assert_problem("a key", 401, "authentication.failed");
    desk.configure_more(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"][0]["keys"] = json!([digest(other)]);
        config["serve"]["limits"] = json!({});
    });
    server.signal(Signal::HUP);
    until("the new key", || {
        ask(other, "localhost", "\"0123456789\"").status == 200
    });
    ask(key, "localhost", "1").assert_problem("the old key", 401, "authentication.failed");
    ask(other, "aral.example", "1").assert_problem("the old name", 421, "request.invalid");
}

#[test]
fn a_bound_on_requests_and_connections_changes_while_they_are_taken() {
    let desk = server::desk(|config| {
        config["serve"]["limits"] = json!({ "requests_max": 1, "idle_ms": 60_000 });
    });
    desk.guest(RUNTIME_SLEEP, |_| ());
    let server = Server::start(&desk);
    let mut busy = server.wire();
    busy.send(&crate::support::wire::request(
        "POST",
        "/v1/invoke/runtime-sleep",
        &[("Content-Type", "application/json")],
        &json!({ "wait_ms": 5000 }).to_string(),
    ));
    // It has its place before anybody else asks for one.
    std::thread::sleep(Duration::from_millis(500));
    until("it is full", || server.get("/v1/capabilities").status == 503);
    desk.configure_more(|config| config["serve"]["limits"] = json!({ "requests_max": 2 }));
    server.signal(Signal::HUP);
    until("there is room", || server.get("/v1/capabilities").status == 200);
    let reply = busy.reply();
    assert_eq!(reply.status, 200, "what was under way ends: {reply:?}");
}

#[test]
fn what_is_wrong_is_told_on_record_and_changes_nothing() {
    let desk = server::desk(|config| config["audit"]["repeats_max"] = json!(100));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let good = desk.config();
    std::fs::copy(desk.path("aral.toml"), desk.path("good.toml")).expect("a file");
    type Change = (&'static str, fn(&mut Value), &'static str);
    let mut newcomer = setup::persona();
    newcomer["id"] = json!("newcomer");
    let newcomer = setup::sign(Kind::Persona, &newcomer, &setup::key());
    desk.write("newcomer.json", newcomer.to_string().as_bytes());
    let cases: [Change; 8] = [
        (
            "an address",
            |config| config["serve"]["listener"][0]["address"] = json!("127.0.0.1:1"),
            "[[serve.listener]]",
        ),
        (
            "one more",
            |config| {
                let one = config["serve"]["listener"][0].clone();
                config["serve"]["listener"] = json!([one, one]);
            },
            "[[serve.listener]]",
        ),
        (
            "no server",
            |config| drop(config.as_object_mut().map(|config| config.remove("serve"))),
            "no [serve]",
        ),
        (
            "a caller that is none",
            |config| config["serve"]["listener"][0]["anonymous"] = json!("ghost"),
            "ghost",
        ),
        (
            "a persona that is not there",
            |config| config["serve"]["caller"][0]["persona"] = json!("none.json"),
            "none.json",
        ),
        (
            "a newcomer beside an address",
            |config| {
                let mut newcomer = config["serve"]["caller"][0].clone();
                newcomer["name"] = json!("newcomer");
                newcomer["persona"] = json!("newcomer.json");
                newcomer["keys"] = json!([]);
                config["serve"]["caller"]
                    .as_array_mut()
                    .expect("callers")
                    .push(newcomer);
                config["serve"]["listener"][0]["address"] = json!("127.0.0.1:1");
            },
            "[[serve.listener]]",
        ),
        (
            "the pool",
            |config| config["runtime"]["concurrent_calls_max"] = json!(9),
            "[runtime]",
        ),
        (
            "an unknown key",
            |config| config["serve"]["limits"] = json!({ "body": 1 }),
            "unknown field `body`",
        ),
    ];
    let refusals = || {
        let run = desk.aral(&[
            "--config",
            "good.toml",
            "audit",
            "query",
            "--type",
            "security",
            "--json",
        ]);
        run.stdout.matches("\"subject\":\"configuration\"").count()
    };
    let before = refusals();
    for (count, (case, change, _)) in cases.iter().enumerate() {
        let mut config = good.clone();
        // With something that would show.
        config["policy"]["capabilities"] = json!([]);
        change(&mut config);
        desk.replace_config(&config);
        server.signal(Signal::HUP);
        until(case, || refusals() > before + count);
        assert_eq!(server.invoke(ECHO, "1").status, 200, "{case}");
    }
    let known = desk.aral(&[
        "--config",
        &desk.path("good.toml"),
        "audit",
        "query",
        "--type",
        "authentication",
        "--json",
    ]);
    assert!(
        known.stdout.contains("\"success\":true") && !known.stdout.contains("newcomer"),
        "{known:?}"
    );
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0));
    for (case, _, part) in cases {
        assert!(words.contains(part), "{case}: {words}");
    }
}

#[test]
fn an_answer_that_was_kept_is_not_for_another_persona() {
    let desk = server::desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let once = |fields: &[(&str, &str)]| server.wire().invoke(ECHO, fields, "1");
    let key = [("Idempotency-Key", "k")];
    assert_eq!(once(&key).status, 200);
    assert_eq!(once(&key).field("idempotency-replayed"), Some("true"));
    let mut persona = setup::persona();
    persona["id"] = json!("another");
    desk.write(
        "another.json",
        setup::sign(Kind::Persona, &persona, &setup::key())
            .to_string()
            .as_bytes(),
    );
    desk.configure_more(|config| config["serve"]["caller"][0]["persona"] = json!("another.json"));
    server.signal(Signal::HUP);
    until("another persona", || once(&key).status == 422);
    assert_eq!(once(&[("Idempotency-Key", "l")]).status, 200);
    assert!(Path::new(&desk.path("another.json")).is_file());
}
