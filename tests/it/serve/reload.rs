//! The configuration read again while calls are made: all of the old or all of the new, and nothing of a bad one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aral_contract::Digest;
use aral_contract::document::signed::{self, Header, Kind};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::admin::over;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::issuer::{AUDIENCE, ISSUER, IssuerKey, key_set};
use crate::support::mcp::ask_newest;
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

/// What a client of one side sees: its list, which must be whole, and which of both sides answer.
struct Seen {
    listed: usize,
    answers: [bool; 2],
}

/// Whoever goes on until it is told to end ends also with a test that fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const SIDES: [&str; 2] = ["left", "right"];

fn look(wire: &mut Wire) -> Seen {
    let list = wire.ask("GET", "/v1/capabilities", &[], "");
    assert_eq!(list.status, 200, "{list:?}");
    let list = list.json();
    let list = list["capabilities"].as_array().expect("a list");
    let ids: Vec<&str> = list.iter().filter_map(|one| one["id"].as_str()).collect();
    // A persona of one side under the policy or the manifests of the other could call nothing.
    let listed = SIDES.iter().position(|side| ids == [*side]);
    let listed = listed.unwrap_or_else(|| panic!("some of both: {ids:?}"));
    let answers = SIDES.map(|id| {
        let reply = wire.invoke(id, &[], "1");
        // Of the other side there is nothing at all, rather than something that is denied.
        match reply.status {
            200 => assert_eq!(reply.body, "1"),
            _ => drop(reply.assert_problem(id, 404, "capability.unknown")),
        }
        reply.status == 200
    });
    Seen { listed, answers }
}

#[test]
fn thousands_of_calls_see_the_old_or_the_new_and_never_both() {
    let desk = server::desk(|config| {
        let often = json!({ "per_second": 1_000_000 });
        config["serve"]["rates"] = json!({ "address": often, "persona": often, "caller": often });
        config["audit"]["repeats_max"] = json!(100_000);
    });
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let sides = SIDES.map(|name| side(&desk, name));
    desk.replace_config(&sides[0]);
    std::fs::copy(desk.path("aral.toml"), desk.path("good.toml")).expect("a file");
    let server = Server::start(&desk);
    let recorded = || {
        ["configuration_changed", "security"].map(|kind| {
            let run = desk.aral(&["--config", "good.toml", "audit", "query", "--type", kind, "--json"]);
            run.stdout.matches("\"subject\":\"configuration\"").count()
        })
    };
    let before = recorded();
    let (ended, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counts = || [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (listed, answered) = (counts(), counts());
    let least = |counts: &[AtomicUsize; 2]| counts.iter().map(|count| count.load(Ordering::Relaxed)).min();
    let (mut taken, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = server.wire();
                while !ended.load(Ordering::Relaxed) {
                    let seen = look(&mut wire);
                    listed[seen.listed].fetch_add(1, Ordering::Relaxed);
                    for (count, answers) in answered.iter().zip(seen.answers) {
                        count.fetch_add(usize::from(answers), Ordering::Relaxed);
                    }
                    calls.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        let _end = End(&ended);
        let socket = desk.path("state/admin.sock");
        let mut wire = server.wire();
        let start = Instant::now();
        while taken < 40 || calls.load(Ordering::Relaxed) < 3000 || least(&answered) < Some(500) {
            assert!(
                start.elapsed() < 4 * SOON,
                "{calls:?} calls, {answered:?} answered, {taken} changes"
            );
            for next in [1, 0] {
                desk.replace_config(&sides[next]);
                server.signal(Signal::HUP);
                until("it is taken", || look(&mut wire).listed == next);
                taken += 1;
                let before = calls.load(Ordering::Relaxed);
                until("calls go on", || calls.load(Ordering::Relaxed) > before + 20);
            }
            desk.write("next.toml", b"policy = nonsense");
            std::fs::rename(desk.path("next.toml"), desk.path("aral.toml")).expect("a file");
            let (status, problem) = over(&socket, "POST", "/v1/reload", "{}");
            assert_eq!((status, &problem["code"]), (400, &json!("config.invalid")));
            refused += 1;
        }
    });
    assert!(least(&listed) > Some(0), "{listed:?}");
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    // Each of them happened, and is on record.
    let after = recorded();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [taken, refused]);
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
fn what_a_listener_gives_and_the_name_of_the_server_are_those_of_the_file() {
    let key = IssuerKey::new("one", 1);
    let closed = |config: &mut Value, resource: &str| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["resource"] = json!(resource);
    };
    let desk = server::desk(|config| {
        closed(config, "https://one.example");
        config["serve"]["issuer"] = json!([{
            "issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["EdDSA"], "jwks_file": "jwks.json",
            "scope": [{ "scope": "aral:agent", "persona": "persona.json" }],
        }]);
    });
    desk.write("jwks.json", key_set(&[&key]).as_bytes());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let bearer = format!("Bearer {}", key.token(|_, _| ()));
    let list = |fields: &[(&str, &str)]| server.wire().ask("GET", "/v1/capabilities", fields, "");
    let tools = || {
        let fields = [("Authorization", bearer.as_str())];
        ask_newest(server.address(), &fields, "tools/list", json!({})).status
    };
    let page = |origin: &str| {
        let reply = list(&[("Authorization", bearer.as_str()), ("Origin", origin)]);
        let shown = reply.field("access-control-allow-origin").map(str::to_owned);
        (reply.status, shown)
    };
    let described = || server.get("/.well-known/oauth-protected-resource").json()["resource"].clone();
    let assert_closed = |resource: &str| {
        let stranger = list(&[]);
        stranger.assert_problem("nobody", 401, "authentication.failed");
        let challenge = format!("Bearer resource_metadata=\"{resource}/.well-known/oauth-protected-resource\"");
        assert_eq!(stranger.field("www-authenticate"), Some(challenge.as_str()));
        assert_eq!(described(), resource);
        assert_eq!(tools(), 404, "there is no MCP");
        assert_eq!(page("https://app.example"), (403, None));
    };
    assert_closed("https://one.example");
    let mut kept = server.wire();
    assert_eq!(kept.ask("GET", "/v1/capabilities", &[], "").status, 401);
    desk.configure_more(|config| {
        config["serve"]["listener"][0] = json!({
            "address": "127.0.0.1:0", "anonymous": "tester", "mcp": true, "origins": ["https://app.example"],
        });
        config["serve"]["resource"] = json!("https://two.example");
    });
    server.signal(Signal::HUP);
    until("there is MCP", || tools() == 200);
    // The same connection goes on, and whoever says nothing is somebody.
    assert_eq!(kept.ask("GET", "/v1/capabilities", &[], "").status, 200);
    assert_eq!(described(), "https://two.example");
    assert_eq!(
        page("https://app.example"),
        (200, Some("https://app.example".to_owned()))
    );
    assert_eq!(page("https://evil.example"), (403, None));
    desk.configure_more(|config| closed(config, "https://three.example"));
    server.signal(Signal::HUP);
    until("there is no MCP", || tools() == 404);
    assert_eq!(kept.ask("GET", "/v1/capabilities", &[], "").status, 401);
    assert_closed("https://three.example");
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
    desk.configure_more(|config| {
        config["serve"]["limits"] = json!({ "requests_max": 2, "requests_per_caller_max": 2 });
    });
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
    let cases: [Change; 9] = [
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
        (
            "a key in clear",
            |config| config["serve"]["caller"][0]["keys"] = json!(["aral_5ec2e7"]),
            "`keys` has what is not shown",
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
    assert!(!words.contains("5ec2e7"), "{words}");
    let recorded = desk.aral(&["--config", "good.toml", "audit", "query", "--json"]).stdout;
    assert!(recorded.contains("`keys` has what is not shown"), "{recorded}");
    assert!(!recorded.contains("5ec2e7"), "{recorded}");
}

#[test]
fn a_configuration_that_is_refused_is_logged_whoever_asks_for_it() {
    let desk = server::desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start_with(&desk, &["--log-format", "json"]);
    std::fs::copy(desk.path("aral.toml"), desk.path("good.toml")).expect("a file");
    let query = [
        "--config",
        "good.toml",
        "audit",
        "query",
        "--type",
        "security",
        "--json",
    ];
    let refusals = || {
        let run = desk.aral(&query);
        run.stdout.matches("\"subject\":\"configuration\"").count()
    };
    let personas = ["by-verb.json", "by-signal.json"];
    let name = |persona: &str| desk.configure_more(|config| config["serve"]["caller"][0]["persona"] = json!(persona));
    let [by_verb, by_signal] = personas;
    name(by_verb);
    desk.aral(&["reload"]).assert("by a verb", 2, &[by_verb]);
    name(by_signal);
    server.signal(Signal::HUP);
    until("by a signal", || refusals() == 2);
    let lines = server.end_and_read_log();
    for persona in personas {
        let told = lines
            .iter()
            .filter(|line| line["message"] == "the configuration was not taken")
            .filter(|line| line["fields"]["failure"].to_string().contains(persona))
            .count();
        assert_eq!(told, 1, "{persona}: {lines:?}");
    }
}

#[test]
fn what_a_signal_came_to_is_logged_at_any_level_and_on_a_line_of_its_own() {
    let mut forged = setup::sign(Kind::Persona, &setup::persona(), &setup::key());
    forged["signature"]["\u{1b}[2J\nforged"] = json!(1);
    for (format, shown) in [("text", "\\u{1b}[2J\\nforged"), ("json", "\\\\u{1b}[2J\\\\nforged")] {
        let desk = server::desk(|_| ());
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        desk.write("forged.json", forged.to_string().as_bytes());
        let mut command = desk.command(&["serve", "--json", "--log-format", format]);
        command.env("ARAL_LOG", "off");
        let server = Server::from(command);
        assert_eq!(server.invoke(ECHO, "1").status, 200, "{format}");
        desk.configure_more(|config| config["policy"]["capabilities"] = json!([]));
        server.signal(Signal::HUP);
        until("what is taken", || server.invoke(ECHO, "1").status != 200);
        std::fs::copy(desk.path("aral.toml"), desk.path("good.toml")).expect("a file");
        desk.configure_more(|config| config["serve"]["caller"][0]["persona"] = json!("forged.json"));
        server.signal(Signal::HUP);
        until("what is refused", || {
            let query = [
                "--config",
                "good.toml",
                "audit",
                "query",
                "--type",
                "security",
                "--json",
            ];
            desk.aral(&query).stdout.contains("\"subject\":\"configuration\"")
        });
        server.signal(Signal::TERM);
        let (code, log) = server.wait();
        assert_eq!(code, Some(0), "{format}: {log}");
        for part in ["was read again and holds", "was not taken", shown] {
            assert!(log.contains(part), "{format}: {part} is not in {log:?}");
        }
        assert!(!log.contains('\u{1b}'), "{format}: {log:?}");
        assert!(!log.lines().any(|line| line.starts_with("forged")), "{format}: {log:?}");
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

#[test]
fn a_caller_has_the_newer_issue_of_its_persona_once_that_was_read() {
    let desk = server::desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    let once = || server.wire().invoke(ECHO, &[("Idempotency-Key", "k")], "1");
    assert_eq!(once().status, 200);
    for (serial, allowed, status) in [(2, json!([]), 403), (3, json!([ECHO]), 200)] {
        let header = Header {
            schema: Kind::Persona.schema().to_owned(),
            serial,
            issued_at: "2025-01-01T00:00:00Z".parse().expect("a time"),
            expires_at: "2100-01-01T00:00:00Z".parse().expect("a time"),
        };
        let mut persona = setup::persona();
        persona["constraints"]["allowed_capabilities"] = allowed;
        let issue = signed::sign(Kind::Persona, &header, &persona, &setup::key()).expect("a document");
        desk.write("persona.json", issue.to_string().as_bytes());
        desk.aral(&["reload"]).assert("reload", 0, &[]);
        assert_eq!(server.invoke(ECHO, "1").status, status, "{serial}");
        // What was done for the issue of before is not done again, and is no other request.
        let again = once();
        assert_eq!(
            (again.status, again.field("idempotency-replayed")),
            (200, Some("true")),
            "{serial}"
        );
    }
}
