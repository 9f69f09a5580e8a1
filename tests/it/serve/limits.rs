//! Every key of `[serve.limits]`: what it bounds fails, and the same goes through where the key says more. Those of
//! answers that are kept are in `calls`, that of what asks nobody is in `denials`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use aral_contract::metric;
use aral_fuzzing::http2;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::metrics::{metrics, number};
use super::reload::until;
use crate::support::desk::{Desk, Running};
use crate::support::guests::*;
use crate::support::mcp::assert_recorded;
use crate::support::server::{Server, desk};
use crate::support::tls::Authority;
use crate::support::wire::{Wire, frame, request};

const ECHO: &str = "runtime-echo-tool";

/// A server with these limits, and both capabilities.
fn server(limits: Value) -> Server {
    server_with(limits, json!({ "concurrent_calls_max": 8 }))
}

fn server_with(limits: Value, runtime: Value) -> Server {
    watched(limits, runtime).1
}

/// The same with its folder, where it can be asked what goes on.
fn watched(limits: Value, runtime: Value) -> (Desk, Server) {
    let desk = desk(|config| {
        config["serve"]["limits"] = limits;
        config["runtime"] = runtime;
    });
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    desk.component(&RUNTIME_SLEEP.bytes());
    let entry = crate::support::setup::entry;
    desk.manifest(&[entry(RUNTIME_ECHO_TOOL), entry(RUNTIME_SLEEP)]);
    let server = Server::start(&desk);
    // Compiled and linked, so that the calls below take no longer than they say.
    warm(&server, "runtime-sleep", "{\"wait_ms\":1}");
    warm(&server, ECHO, "1");
    (desk, server)
}

/// The first calls of a capability may take longer than a limit lets them: they compile it.
pub(super) fn warm(server: &Server, capability: &str, input: &str) {
    let mut statuses = Vec::new();
    while statuses.last() != Some(&200) {
        assert!(statuses.len() < 5, "`{capability}` never answers: {statuses:?}");
        statuses.push(server.invoke(capability, input).status);
        settle();
    }
}

/// Who has the last byte of an answer knows of it a moment before the server does.
fn settle() {
    std::thread::sleep(Duration::from_millis(200));
}

/// A connection on which a call sleeps.
fn sleeping(server: &Server, wait_ms: u64) -> Wire {
    let mut wire = server.wire();
    let input = json!({ "wait_ms": wait_ms }).to_string();
    let fields = [("Content-Type", "application/json")];
    wire.send(&request("POST", "/v1/invoke/runtime-sleep", &fields, &input));
    wire
}

/// How long it took until the other side ended the connection.
fn until_closed(mut wire: Wire) -> Duration {
    let start = Instant::now();
    assert!(wire.is_closed());
    start.elapsed()
}

#[test]
fn connections_max() {
    let server = server(json!({ "connections_max": 2, "connections_per_address_max": 3 }));
    let mut first = server.wire();
    assert_eq!(first.invoke(ECHO, &[], "1").status, 200);
    let mut second = server.wire();
    assert_eq!(second.invoke(ECHO, &[], "1").status, 200);
    let mut third = server.wire();
    third.send(&request("GET", "/ready", &[], ""));
    assert!(third.is_silent_for(Duration::from_millis(500)), "there is no place");
    drop(first);
    assert_eq!(third.reply().status, 200);
}

#[test]
fn connections_per_address_max() {
    let ask = |wire: &mut Wire| wire.ask("GET", "/ready", &[], "").status;
    let server = server(json!({ "connections_per_address_max": 2 }));
    let (mut first, mut second) = (server.wire(), server.wire());
    assert_eq!((ask(&mut first), ask(&mut second)), (200, 200));
    assert!(server.wire().is_closed());
    drop(first);
    until("a place is free again", || {
        let mut wire = server.wire();
        wire.send(&request("GET", "/ready", &[], ""));
        wire.try_reply().is_some_and(|reply| reply.status == 200)
    });
    // A proxy connects for many.
    let desk = desk(|config| {
        config["serve"]["limits"] = json!({ "connections_per_address_max": 1 });
        config["serve"]["trusted_proxies"] = json!(["127.0.0.1/32"]);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let mut wires = [server.wire(), server.wire(), server.wire()];
    for wire in &mut wires {
        assert_eq!(ask(wire), 200);
    }
}

#[test]
fn requests_max() {
    let server = server(json!({ "requests_max": 1 }));
    let mut sleeper = sleeping(&server, 2000);
    std::thread::sleep(Duration::from_millis(500));
    let refused = server.invoke(ECHO, "1");
    refused.assert_problem("no place", 503, "host.unavailable");
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(server.get("/ready").status, 200, "whoever watches is answered");
    assert_eq!(sleeper.reply().status, 200);
    settle();
    assert_eq!(server.invoke(ECHO, "1").status, 200);
}

#[test]
fn requests_per_caller_max() {
    one_caller_has_two_places(json!({ "requests_max": 4, "requests_per_caller_max": 2 }));
    // A quarter, where nobody says.
    one_caller_has_two_places(json!({ "requests_max": 8 }));
    // One place of all is none of anybody's share.
    let all = server(json!({ "requests_per_caller_max": 1 }));
    let mut sleeper = sleeping(&all, 2000);
    settle();
    let refused = all.invoke(ECHO, "1");
    refused.assert_problem("the call has it", 503, "host.unavailable");
    assert_eq!(sleeper.reply().status, 200);
}

fn one_caller_has_two_places(limits: Value) {
    let desk = desk(|config| {
        config["serve"]["limits"] = limits;
        config["serve"]["listener"] = json!([
            { "address": "127.0.0.1:0", "anonymous": "tester" },
            { "address": "127.0.0.1:0", "anonymous": "other" },
        ]);
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json" },
            { "name": "other", "persona": "persona.json" },
        ]);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let list = |listener| Wire::open(server.at(listener)).ask("GET", "/v1/capabilities", &[], "");
    let fields = [("Content-Type", "application/json"), ("Content-Length", "3")];
    let half = request("POST", "/v1/invoke/none", &fields, "");
    let mut slow = [server.wire(), server.wire()];
    for wire in &mut slow {
        wire.send(&half);
    }
    settle();
    let refused = list(0);
    refused.assert_problem("no place of its own", 503, "host.unavailable");
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(list(1).status, 200, "another caller has some");
    for wire in &mut slow {
        wire.send("123");
        assert_eq!(wire.reply().status, 404);
    }
    until("its places are free again", || list(0).status == 200);
}

#[test]
fn calls_beyond_those_that_run_and_wait_are_refused_at_once() {
    let runtime = json!({ "concurrent_calls_max": 1, "waiting_calls_max": 1, "wait_ms": 20_000 });
    let (desk, server) = watched(json!({}), runtime);
    let is_one = |series| number(&metrics(&desk), series) > 0.0;
    let running = sleeping(&server, 25_000);
    until("one runs", || is_one(metric::CALLS_RUNNING.name));
    let mut waiting = sleeping(&server, 1);
    until("one waits", || is_one(metric::CALLS_WAITING.name));
    let refused = server.invoke(ECHO, "1");
    refused.assert_problem("the queue is full", 503, "host.unavailable");
    assert_eq!(refused.field("retry-after"), Some("1"));
    // Whoever goes away gives the place back.
    drop(running);
    assert_eq!(waiting.reply().status, 200);
}

#[test]
fn header_bytes_max() {
    let long = "x".repeat(12 << 10);
    let ask = |limits| server(limits).wire().ask("GET", "/ready", &[("X", &long)], "").status;
    assert_eq!(ask(json!({ "header_bytes_max": 8 << 10 })), 431);
    assert_eq!(ask(json!({})), 200);
    let many: Vec<(&str, &str)> = (0..200).map(|_| ("X", "y")).collect();
    assert_eq!(server(json!({})).wire().ask("GET", "/ready", &many, "").status, 431);
}

#[test]
fn uri_bytes_max() {
    let path = format!("/v1/capabilities?after={}", "a".repeat(3000));
    let get = |limits| server(limits).get(&path);
    let long = get(json!({ "uri_bytes_max": 2000 })).assert_problem("long", 414, "request.invalid");
    assert_eq!(
        long["hint"],
        "aral.toml, [serve.limits]: uri_bytes_max = N, N above 2000"
    );
    assert_eq!(get(json!({})).status, 200);
}

#[test]
fn body_bytes_max() {
    let input = format!("\"{}\"", "x".repeat(5000));
    let small = server(json!({ "body_bytes_max": 5000 }));
    let large = small
        .invoke(ECHO, &input)
        .assert_problem("too large", 413, "request.invalid");
    assert_eq!(
        large["hint"],
        "aral.toml, [serve.limits]: body_bytes_max = N, N above 5000"
    );
    // Who only says that it is too large is not listened to.
    let mut wire = small.wire();
    let fields = [("Content-Type", "application/json"), ("Content-Length", "5001")];
    wire.send(&request("POST", "/v1/invoke/runtime-echo-tool", &fields, ""));
    wire.reply().assert_problem("announced", 413, "request.invalid");
    assert!(wire.is_closed());
    assert_eq!(server(json!({})).invoke(ECHO, &input).status, 200);
}

#[test]
fn header_ms() {
    let server = server(json!({ "header_ms": 500 }));
    let mut wire = server.wire();
    wire.send("GET /ready HTTP/1.1\r\n");
    assert!(until_closed(wire) < Duration::from_secs(20));
    // One byte now and then does not help.
    let mut slow = server.wire();
    let start = Instant::now();
    for byte in "GET /ready HTTP/1.1\r\nHost: localhost\r\nX: 0123456789".chars() {
        slow.send(&byte.to_string());
        std::thread::sleep(Duration::from_millis(50));
        if start.elapsed() > Duration::from_millis(1500) {
            break;
        }
    }
    assert!(slow.is_closed());
    // A connection on which nothing was asked may stay, and so may one between two requests.
    let mut patient = server.wire();
    assert!(patient.is_silent_for(Duration::from_millis(1200)));
    assert_eq!(patient.invoke(ECHO, &[], "1").status, 200);
    assert!(patient.is_silent_for(Duration::from_millis(1200)));
    assert_eq!(patient.invoke(ECHO, &[], "1").status, 200);
}

#[test]
fn body_ms() {
    let half = format!(
        "{}12",
        request(
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[("Content-Type", "application/json"), ("Content-Length", "3")],
            ""
        )
    );
    let server = server(json!({ "body_ms": 500 }));
    let mut wire = server.wire();
    wire.send(&half);
    let slow = wire.reply().assert_problem("slow", 408, "request.invalid");
    assert_eq!(slow["hint"], "aral.toml, [serve.limits]: body_ms = N, N above 500");
    assert!(wire.is_closed());
    let patient = self::server(json!({}));
    let mut wire = patient.wire();
    wire.send(&half);
    assert!(wire.is_silent_for(Duration::from_millis(1200)));
    wire.send("3");
    assert_eq!(wire.reply().body, "123");
}

#[test]
fn handler_ms() {
    let hurried = server(json!({ "handler_ms": 700 }));
    let ended = hurried.invoke("runtime-sleep", "{\"wait_ms\":3000}");
    let slow = ended.assert_problem("slow", 504, "limit.wall");
    let hint = slow["hint"].as_str().expect("a hint");
    assert!(
        hint.starts_with("aral.toml, [serve.limits]: handler_ms = N, N above "),
        "{hint}"
    );
    // Whoever waited for it is told what it used, and where that is on record, as with every other end.
    for field in ["aral-capability-version", "aral-usage", "aral-receipt"] {
        assert!(ended.field(field).is_some(), "{field}: {ended:?}");
    }
    // It runs, and does not run again for the same key.
    let key = [("Idempotency-Key", "k")];
    let once = || hurried.wire().invoke("runtime-sleep", &key, "{\"wait_ms\":3000}");
    let first = once();
    first.assert_problem("slow", 504, "limit.wall");
    let again = once();
    again.assert_problem("the same", 504, "limit.wall");
    assert_eq!(first.field("idempotency-replayed"), None);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(again.field("aral-trace-id"), first.field("aral-trace-id"));
    assert_eq!(
        server(json!({})).invoke("runtime-sleep", "{\"wait_ms\":1000}").status,
        200
    );
}

#[test]
fn write_ms() {
    let desk = desk(|config| {
        config["serve"]["limits"] = json!({ "write_ms": 700, "body_bytes_max": 32 << 20, "requests_max": 1 });
        config["policy"]["limits"] =
            json!({ "input_bytes": 32 << 20, "output_bytes": 32 << 20, "memory_bytes": 512 << 20 });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |entry| {
        entry["limits"] = json!({ "input_bytes": 32 << 20, "output_bytes": 32 << 20, "memory_bytes": 512 << 20 });
    });
    let server = Server::start(&desk);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    settle();
    // More than the system keeps for a reader that does not read.
    let input = format!("\"{}\"", "x".repeat(16 << 20));
    let fields = [("Content-Type", "application/json")];
    let mut wire = server.wire();
    wire.send(&request("POST", "/v1/invoke/runtime-echo-tool", &fields, &input));
    // While nobody reads the answer it keeps its place, and then loses it.
    let mut refused = 0;
    let start = Instant::now();
    loop {
        match server.invoke(ECHO, "1").status {
            200 if refused > 0 => break,
            status => refused += usize::from(status == 503),
        }
        let waited = start.elapsed();
        assert!(
            waited < Duration::from_secs(60),
            "refused {refused} times, and for ever"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    settle();
    // Who reads gets all of it.
    let mut wire = server.wire();
    let reply = wire.ask("POST", "/v1/invoke/runtime-echo-tool", &fields, &input);
    assert_eq!((reply.status, reply.body.len()), (200, input.len()));
}

#[test]
fn idle_ms() {
    let server = server(json!({ "idle_ms": 500 }));
    assert!(until_closed(server.wire()) < Duration::from_secs(20));
    let mut wire = server.wire();
    assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    assert!(until_closed(wire) < Duration::from_secs(20));
    // A call is not idle.
    assert_eq!(sleeping(&server, 1500).reply().status, 200);
}

/// A connection on which nothing is asked for a second gives back what it needs for requests, and nobody notices.
#[test]
fn a_connection_that_rested_goes_on_where_it_was() {
    let rest = || std::thread::sleep(Duration::from_millis(2500));
    let server = server(json!({}));
    let (mut wire, other) = (server.wire(), server.wire());
    rest();
    for round in 0..3 {
        assert_eq!(wire.invoke(ECHO, &[], "1").status, 200, "{round}");
        rest();
    }
    // What comes in parts is one request, however long that takes.
    wire.send("G");
    rest();
    wire.send("ET /ready HTTP/1.1\r\nHost: loc");
    rest();
    wire.send("alhost\r\n\r\n");
    assert_eq!(wire.reply().status, 200);
    rest();
    // What comes at once is two.
    wire.send(&request("GET", "/ready", &[], "").repeat(2));
    assert_eq!((wire.reply().status, wire.reply().status), (200, 200));
    // What comes with a request before it, and in parts, is one too; an empty line is none.
    wire.send(&format!("{}GET /ready HT", request("GET", "/ready", &[], "")));
    assert_eq!(wire.reply().status, 200);
    rest();
    wire.send("TP/1.1\r\nHost: localhost\r\n\r\n\r\n");
    assert_eq!(wire.reply().status, 200);
    rest();
    assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    // A call is no rest.
    assert_eq!(sleeping(&server, 2500).reply().status, 200);
    // Who ends a connection that rests ends it, and so does a server that stops.
    rest();
    drop(other);
    server.signal(Signal::TERM);
    assert!(wire.is_closed());
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn drain_ms() {
    let end = |drain_ms: u64| {
        let server = server(json!({ "drain_ms": drain_ms }));
        let mut idle = server.wire();
        assert_eq!(idle.invoke(ECHO, &[], "1").status, 200);
        let mut sleeper = sleeping(&server, 2000);
        std::thread::sleep(Duration::from_millis(500));
        server.signal(Signal::TERM);
        assert!(idle.is_closed(), "nobody misses it");
        let status = sleeper.try_reply().map(|reply| reply.status);
        let refused = std::net::TcpStream::connect(server.address()).is_err();
        let (code, words) = server.wait();
        assert_eq!(code, Some(0), "{words}");
        assert!(refused, "an ended server takes no connection");
        status
    };
    assert_eq!(end(20_000), Some(200), "a call that is under way ends");
    assert_eq!(end(100), None, "and is not waited for longer than it may be");
}

#[test]
fn a_server_that_is_told_to_end_says_at_once_what_it_waits_for() {
    // Longer than anybody waits: what is said comes before the end, or not at all.
    let patience = 3_600_000;
    let desk = desk(|config| {
        config["serve"]["limits"] = json!({ "drain_ms": patience, "handler_ms": patience });
    });
    desk.guest(RUNTIME_SLEEP, |_| ());
    let mut command = desk.command(&["serve"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Running(command.spawn().expect("the program starts"));
    let mut stdout = BufReader::new(server.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("listening on http://");
    let address: SocketAddr = address.expect("it listens").parse().expect("an address");
    let mut wire = Wire::open(address);
    let fields = [("Content-Type", "application/json")];
    let input = "{\"wait_ms\":60000}";
    wire.send(&request("POST", "/v1/invoke/runtime-sleep", &fields, input));
    assert_recorded(&desk, "invocation_started", &["runtime-sleep"]);
    let id = i32::try_from(server.0.id()).expect("a process id");
    kill_process(Pid::from_raw(id).expect("a process"), Signal::TERM).expect("it runs");
    let words = BufReader::new(server.0.stderr.take().expect("a pipe")).lines();
    let said = words
        .map(|line| line.expect("text"))
        .find(|line| line.starts_with("ending"));
    let said = said.expect("it is said");
    assert!(said.starts_with("ending: 1 request is under way"), "{said}");
    assert_eq!(server.0.try_wait().expect("a child"), None, "it waits for it");
}

#[test]
fn drain_ms_warns_where_a_caller_waits() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    // Whether the server warns of a connection whose other end does not say that it knows of the end, with a request on it that
    // was answered, or was not.
    let warns = |capability: &str, input: &str, answered: bool| {
        let authority = Authority::new();
        let desk = desk(|config| {
            let files = json!({ "certificate_file": "chain.pem", "key_file": "key.pem" });
            config["serve"]["listener"][0]["tls"] = files;
            config["serve"]["limits"] = json!({ "drain_ms": 500 });
        });
        authority.install(&desk);
        desk.component(&RUNTIME_ECHO_TOOL.bytes());
        desk.component(&RUNTIME_SLEEP.bytes());
        let entry = crate::support::setup::entry;
        desk.manifest(&[entry(RUNTIME_ECHO_TOOL), entry(RUNTIME_SLEEP)]);
        let server = Server::start(&desk);
        let mut stream = authority.client().http2(server.address());
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let fields = [("content-type", "application/json"), ("traceparent", parent.as_str())];
        let asked = http2::request("POST", &format!("/v1/invoke/{capability}"), &fields, input);
        stream
            .write_all(&[http2::PREFACE, &asked].concat())
            .expect("it takes it");
        if answered {
            read_answer(&mut stream);
        } else {
            assert_recorded(&desk, "invocation_started", &[TRACE]);
        }
        server.signal(Signal::TERM);
        let (code, words) = server.wait();
        assert_eq!(code, Some(0), "{words}");
        words.contains("connections were cut off")
    };
    assert!(!warns(ECHO, "1", true), "nobody misses anything");
    assert!(warns("runtime-sleep", "{\"wait_ms\":20000}", false));
}

/// Reads frames of HTTP/2 to the end of an answer.
fn read_answer(stream: &mut impl Read) {
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    loop {
        let (kind, flags, _) = frame(stream);
        if kind == DATA && flags & END_STREAM != 0 {
            return;
        }
    }
}

#[test]
fn drain_ms_is_for_what_operators_have_asked_for_too() {
    // What the server says at its end, while a secret is on its way to a server that says nothing, or nothing until then, and whoever
    // asked for it is gone.
    let end = |drain_ms: u64, says_nothing: bool| {
        let vault = TcpListener::bind("127.0.0.1:0").expect("a port");
        vault.set_nonblocking(true).expect("it need not wait");
        let address = format!("http://{}", vault.local_addr().expect("an address"));
        let desk = desk(|config| {
            config["serve"]["limits"] = json!({ "drain_ms": drain_ms });
            config["secrets"] = json!({
                "names": { "remote": "vault://secret/a#b" },
                "vault": { "address": address, "token_file": "token", "timeout_ms": 60_000 },
            });
        });
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        desk.write("token", b"t0ken");
        desk.private("token");
        let server = Server::start(&desk);
        let socket = desk.path("state/admin.sock");
        let mut operator = UnixStream::connect(&socket).expect("it listens");
        let put = r#"{"name":"remote","value":"AA==","rotate":false}"#;
        let put = request("POST", "/v1/secrets/put", &[], put);
        operator.write_all(put.as_bytes()).expect("it takes it");
        let mut asked = None;
        until("it is on its way", || {
            asked = vault.accept().ok();
            asked.is_some()
        });
        drop(operator);
        server.signal(Signal::TERM);
        if !says_nothing {
            until("the management has ended", || UnixStream::connect(&socket).is_err());
            drop((vault, asked));
        }
        let (code, words) = server.wait();
        assert_eq!(code, Some(0), "{words}");
        words
    };
    let cut_off = "acts of operators were cut off";
    let words = end(20_000, false);
    assert!(!words.contains(cut_off), "an act that is under way ends: {words}");
    let words = end(0, true);
    assert!(
        words.contains(cut_off),
        "and is not waited for longer than it may be: {words}"
    );
}

#[test]
fn drain_delay_ms() {
    let desk = desk(|config| config["serve"]["limits"] = json!({ "drain_delay_ms": 600_000 }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let patient = Server::start(&desk);
    let mut wire = patient.wire();
    assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    let told = || desk.aral(&["status", "--json"]).object()["status"].clone();
    assert_eq!(told(), "ok");
    patient.signal(Signal::TERM);
    // On new connections, as a balancer looks.
    until("it is not ready", || patient.get("/ready").status == 503);
    assert_eq!(patient.get("/ready").json(), json!({ "status": "draining" }));
    assert_eq!(told(), "draining");
    assert_eq!(patient.invoke(ECHO, "1").status, 200, "everything else goes on");
    assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    // Another configuration makes it no readier.
    desk.configure_more(|config| config["serve"]["limits"]["uri_bytes_max"] = json!(100));
    patient.signal(Signal::HUP);
    let long = format!("/v1/capabilities?after={}", "a".repeat(100));
    until("it is read again", || patient.get(&long).status == 414);
    assert_eq!(patient.get("/ready").json(), json!({ "status": "draining" }));
    let short = server(json!({ "drain_delay_ms": 100 }));
    assert_eq!(short.get("/ready").status, 200);
    short.signal(Signal::TERM);
    let (code, words) = short.wait();
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn a_call_that_outlives_its_connection_has_its_place_and_is_waited_for() {
    let server = server(json!({ "requests_max": 1 }));
    let mut wire = server.wire();
    let fields = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    wire.send(&request(
        "POST",
        "/v1/invoke/runtime-sleep",
        &fields,
        "{\"wait_ms\":4000}",
    ));
    std::thread::sleep(Duration::from_millis(500));
    drop(wire);
    settle();
    server
        .invoke(ECHO, "1")
        .assert_problem("its place", 503, "host.unavailable");
    let start = Instant::now();
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    assert!(start.elapsed() > Duration::from_secs(1), "it is not waited for");
    assert!(!words.contains("cut off"), "{words}");
}
