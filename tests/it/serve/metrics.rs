//! What a server counts, as an operator reads it: `GET /metrics` on the management socket, and `aral top`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use aral_contract::Digest;
use aral_contract::metric::{self, MetricKind};
use serde_json::{Value, json};

use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::{Session, ask_newest};
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::wire::request;

const ECHO: &str = "runtime-echo-tool";
const KEY: &str = "aral_a-key-of-the-tests";

/// A server with a capability that works, one that fails and one that the persona may not call; its copies of the log go to
/// standard output.
fn start() -> (Desk, Server) {
    let desk = desk(|config| {
        config["serve"]["limits"] = json!({ "public_per_second": 1 });
        config["serve"]["caller"][0]["keys"] = json!([Digest::of(KEY.as_bytes()).to_string()]);
    });
    let guests = [RUNTIME_ECHO_TOOL, RUNTIME_TRAP, RUNTIME_SLEEP];
    guests.iter().for_each(|guest| drop(desk.component(&guest.bytes())));
    desk.manifest(&guests.map(setup::entry));
    let mut persona = setup::persona();
    persona["constraints"]["allowed_capabilities"] = json!([ECHO, RUNTIME_TRAP.id()]);
    desk.persona(&persona);
    let server = Server::start(&desk);
    (desk, server)
}

#[test]
fn refusals_of_what_a_caller_may_hold_are_counted() {
    let desk = desk(|config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["serve"]["limits"] = json!({ "mcp_sessions_max": 1, "mcp_streams_max": 1, "replay_entries_max": 1 });
    });
    desk.guest(RUNTIME_SLEEP, |_| ());
    desk.persona(&setup::persona());
    let server = Server::start(&desk);
    let session = Session::begin(server.address(), &[]);
    let (_news, head) = session.news();
    let second = Session::try_begin(server.address(), &[]).map(drop);
    assert_eq!(second.map_err(|refused| refused.status), Err(503));
    let listen = json!({ "notifications": {} });
    let listening = ask_newest(server.address(), &[], "subscriptions/listen", listen);
    assert_eq!((head.status, listening.status), (200, 503));
    let path = "/v1/invoke/runtime-sleep";
    let fields = [("Content-Type", "application/json"), ("Idempotency-Key", "first")];
    let mut running = server.wire();
    running.send(&request("POST", path, &fields, "{\"wait_ms\":5000}"));
    let mut keys = 0..;
    // Whichever of two comes first has the only place for a key.
    until("one of two keys is refused", || {
        let key = keys.next().unwrap_or(0).to_string();
        let fields = [("Idempotency-Key", key.as_str())];
        server.wire().invoke("runtime-sleep", &fields, "{\"wait_ms\":1}");
        metrics(&desk).contains("aral_rate_limited_total{limit=\"replay_entries_max\"}")
    });
    let counted = metrics(&desk);
    for limit in ["mcp_sessions_max", "mcp_streams_max", "replay_entries_max"] {
        assert!(
            number(&counted, &format!("aral_rate_limited_total{{limit=\"{limit}\"}}")) > 0.0,
            "{limit}"
        );
    }
}

#[cfg(feature = "services")]
#[test]
fn a_server_whose_log_has_no_room_is_not_well_until_there_is_some() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    // The disk of the log is there for the server alone, so that somebody beside it fills and empties it.
    let script = r#"
        set -e
        mkdir -m 700 audit
        mount -t tmpfs -o size=80m,mode=700 tmpfs audit
        beside() {
            until [ -e fill ]; do kill -0 $$ || exit; sleep 0.1; done
            dd if=/dev/zero of=audit/filler bs=65536 || true
            until [ -e empty ]; do kill -0 $$ || exit; sleep 0.1; done
            rm audit/filler
        }
        beside >/dev/null 2>&1 &
        exec "$ARAL" serve --quiet --json
    "#;
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", script])
        .current_dir(desk.root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", desk.root())
        .env("ARAL", crate::support::desk::program());
    let server = Server::from(command);
    let is_writable = || number(&metrics(&desk), "aral_audit_writable") > 0.0;
    assert_eq!((server.get("/health").status, is_writable()), (200, true));
    desk.write("fill", b"");
    until("what is new is refused", || server.invoke(ECHO, "1").status == 503);
    until("it is not well", || server.get("/health").status == 503);
    assert!(!is_writable());
    let (_, status) = super::admin::over(&socket(&desk), "GET", "/v1/status", "");
    let checks = status["checks"].as_array().expect("a list");
    let wrong: Vec<&Value> = checks
        .iter()
        .filter(|check| !check["fault"].is_null())
        .map(|check| &check["name"])
        .collect();
    assert_eq!(wrong, ["audit", "disk"], "{status}");
    desk.write("empty", b"");
    until("it is well", || server.get("/health").status == 200);
    assert!(is_writable());
    assert_eq!(server.invoke(ECHO, "1").status, 200);
}

fn socket(desk: &Desk) -> String {
    desk.path(&format!("{}/admin.sock", setup::STATE))
}

/// What `GET /metrics` answers.
pub(super) fn metrics(desk: &Desk) -> String {
    let mut stream = UnixStream::connect(socket(desk)).expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

/// The number of a series, as it stands in the text.
pub(super) fn number(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("`{series}` is not in {text}"))
        .parse()
        .expect("a number")
}

/// Does a bit of everything.
fn use_it(server: &Server) {
    let mut wire = server.wire();
    for _ in 0..3 {
        assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    }
    wire.invoke(&RUNTIME_TRAP.id(), &[], r#"{"trap":true}"#)
        .assert_problem("trap", 502, "guest.trap");
    wire.invoke(&RUNTIME_SLEEP.id(), &[], "{}")
        .assert_problem("denied", 403, "permission.denied");
    wire.invoke("no-such-capability", &[], "1")
        .assert_problem("unknown", 404, "capability.unknown");
    assert_eq!(
        wire.invoke(ECHO, &[("Authorization", "Bearer aral_wrong")], "1").status,
        401
    );
    assert_eq!(wire.ask("BREW", "/coffee", &[], "").status, 404);
    while server.get("/ready").status != 429 {}
}

#[test]
fn what_happens_is_counted_once_under_names_that_are_documented() {
    let (desk, server) = start();
    use_it(&server);
    let text = metrics(&desk);
    for (series, expected) in [
        ("aral_calls_total{capability=\"runtime-echo-tool\",code=\"ok\"}", 3.0),
        ("aral_calls_total{capability=\"runtime-trap\",code=\"guest.trap\"}", 1.0),
        (
            "aral_calls_total{capability=\"runtime-sleep\",code=\"permission.denied\"}",
            1.0,
        ),
        ("aral_calls_total{capability=\"none\",code=\"capability.unknown\"}", 1.0),
        ("aral_call_seconds_count{capability=\"runtime-echo-tool\"}", 3.0),
        ("aral_call_stage_seconds_count{stage=\"run\"}", 4.0),
        ("aral_call_stage_seconds_count{stage=\"instantiate\"}", 4.0),
        ("aral_call_stage_seconds_count{stage=\"authorize\"}", 6.0),
        ("aral_denials_total{code=\"permission.denied\",by=\"persona\"}", 1.0),
        ("aral_authentication_failures_total{method=\"api_key\"}", 1.0),
        (
            "aral_http_requests_total{method=\"POST\",route=\"/v1/invoke/{capability}\",status=\"200\"}",
            3.0,
        ),
        (
            "aral_http_requests_total{method=\"other\",route=\"none\",status=\"404\"}",
            1.0,
        ),
        (
            "aral_http_request_seconds_count{route=\"/v1/invoke/{capability}\"}",
            7.0,
        ),
        // The one that asks for this.
        ("aral_http_requests_running", 1.0),
        ("aral_rate_limited_total{limit=\"public_per_second\"}", 1.0),
        // The address, and its wrong credential.
        ("aral_rates_keys{table=\"strangers\"}", 2.0),
        ("aral_rates_keys_max", 100_000.0),
        ("aral_breakers_open", 0.0),
        ("aral_breaker_opened_total", 0.0),
        ("aral_calls_running", 0.0),
        ("aral_calls_running_max", 8.0),
        ("aral_calls_waiting", 0.0),
        ("aral_audit_writable", 1.0),
    ] {
        assert_eq!(number(&text, series), expected, "{series}");
    }
    for positive in [
        "aral_fuel_total{capability=\"runtime-echo-tool\"}",
        "aral_memory_peak_bytes_count",
        "aral_pool_instances_max",
        "aral_rates_keys{table=\"callers\"}",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(number(&text, positive) > 0.0, "{positive}");
    }
    let all: BTreeMap<&str, &metric::Metric> = metric::ALL.iter().map(|one| (one.name, one)).collect();
    let mut told = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let (name, kind) = line["# TYPE ".len()..].split_once(' ').expect("a kind");
        let metric = all.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(kind, metric.kind.as_str(), "{name}");
        assert!(text.contains(&format!("# HELP {name} {}\n", metric.help)), "{name}");
        told.insert(name);
        let suffix = if metric.kind == MetricKind::Histogram {
            "_count"
        } else {
            ""
        };
        let begins = format!("{name}{suffix}");
        let series = text.lines().filter_map(|line| line.strip_prefix(begins.as_str()));
        // The name of one may be the beginning of another's.
        for series in series.filter(|rest| rest.starts_with(['{', ' '])) {
            let labels = series
                .strip_prefix('{')
                .and_then(|rest| rest.rsplit_once('}'))
                .map_or("", |(labels, _)| labels);
            let labels: BTreeSet<&str> = labels
                .split("\",")
                .filter_map(|one| Some(one.split_once('=')?.0))
                .collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{name}: {series}");
        }
    }
    // What is missing is about a collector, copies of the log and things that this server was spared.
    let missing: BTreeSet<&str> = all.keys().copied().filter(|name| !told.contains(name)).collect();
    let spared = [
        metric::SPANS_EXPORTED,
        metric::SPANS_DROPPED,
        metric::METRIC_EXPORTS_FAILED,
        metric::TRACES_REFUSED,
        metric::SERIES_REFUSED,
        metric::LOG_LINES_DROPPED,
        metric::AUDIT_SINK_LAG,
        metric::AUDIT_SINK_REFUSED,
        metric::AUDIT_SINK_STOPPED,
        metric::HOST_CALLS,
        metric::RATES_REDIS_UP,
    ];
    assert!(
        missing.iter().all(|name| spared.iter().any(|one| one.name == *name)),
        "{missing:?}"
    );
    for word in ["no-such-capability", "coffee", "BREW", "aral_wrong", "tester"] {
        assert!(!text.contains(word), "`{word}` came from outside");
    }
}

#[test]
fn what_a_server_holds_right_now_is_told() {
    let desk = desk(|config| {
        config["runtime"] = json!({ "concurrent_calls_max": 8, "waiting_calls_max": 5 });
        // A copy of the log where nobody answers.
        config["audit"]["otlp"] = json!({ "address": "http://127.0.0.1:1" });
    });
    let guests = [RUNTIME_ECHO_TOOL, RUNTIME_SLEEP];
    guests.iter().for_each(|guest| drop(desk.component(&guest.bytes())));
    desk.manifest(&guests.map(setup::entry));
    let server = Server::start(&desk);
    let told = |series: &str| number(&metrics(&desk), series);
    let (mut one, mut other) = (server.wire(), server.wire());
    for wire in [&mut one, &mut other] {
        assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
        assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    }
    assert_eq!(told("aral_calls_waiting_max"), 5.0);
    assert_eq!(told("aral_http_connections"), 2.0);
    drop(other);
    until("one connection is left", || told("aral_http_connections") == 1.0);
    assert!(told("aral_audit_sink_lag_records{sink=\"otlp\"}") >= 4.0);
    for series in ["aral_audit_sink_refused_records", "aral_audit_sink_stopped"] {
        assert_eq!(told(&format!("{series}{{sink=\"otlp\"}}")), 0.0, "{series}");
    }
    until("no instance is taken", || told("aral_pool_instances") == 0.0);
    let fields = [("Content-Type", "application/json")];
    one.send(&request(
        "POST",
        "/v1/invoke/runtime-sleep",
        &fields,
        "{\"wait_ms\":5000}",
    ));
    until("an instance is taken", || told("aral_pool_instances") > 0.0);
}

#[test]
fn metrics_are_for_operators() {
    let (_desk, server) = start();
    let refused = server
        .wire()
        .ask("GET", "/metrics", &[("Authorization", &format!("Bearer {KEY}"))], "");
    refused.assert_problem("callers have no metrics", 404, "request.invalid");
}

#[test]
fn top_shows_what_the_server_does() {
    let (desk, server) = start();
    use_it(&server);
    let seen = desk.aral(&["top", "--once", "--interval-ms", "50", "--json"]);
    assert_eq!(seen.code, 0, "{seen:?}");
    let seen: Value = seen.object();
    assert_eq!((&seen["calls"], &seen["failed"]), (&json!(6), &json!(3)), "{seen}");
    let echo = seen["capabilities"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["capability"] == ECHO);
    assert_eq!(echo.expect("it was called")["calls"], 3);
    let denied = &seen["denials"][0];
    assert_eq!(
        (&denied["reason"], &denied["by"]),
        (&json!("permission.denied"), &json!("persona"))
    );
    assert_eq!(seen["gauges"]["aral_calls_running_max"], 8);
    let shown = desk.aral(&["top", "--once", "--interval-ms", "50", "--socket", &socket(&desk)]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for word in ["calls/s", "whole", ECHO, "permission.denied", "writable"] {
        assert!(shown.stdout.contains(word), "{word} is not in {}", shown.stdout);
    }
    // Where nobody reads what has no end, it ends.
    assert_eq!(desk.unread(&["top", "--json", "--interval-ms", "50"]), Some(0));
    drop(server);
    desk.aral(&["top", "--once"])
        .assert("no server", 8, &["no server answers", "aral serve"]);
    desk.aral(&["top"]).assert("no terminal", 2, &["no terminal", "--once"]);
}

/// Runs a program on a terminal of this size, presses `q` after a while or sends it a signal, and prints what it drew.
#[cfg(feature = "services")]
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, subprocess, sys, termios, time
rows, columns, end, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
terminal, inner = pty.openpty()
fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
before = termios.tcgetattr(inner)
child = subprocess.Popen(program, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
drawn, begun, told = b"", time.monotonic(), False
while time.monotonic() - begun < 60:
    if select.select([terminal], [], [], 0.1)[0]:
        drawn += os.read(terminal, 65536)
    elif child.poll() is not None:
        break
    if not told and (b"calls" in drawn or len(drawn) > 200) and time.monotonic() - begun > 1:
        os.write(terminal, b"q") if end == "q" else child.send_signal(getattr(signal, end))
        told = True
sys.stdout.buffer.write(drawn)
sys.stdout.flush()
if child.poll() is None:
    child.kill()
    sys.exit("it does not end")
if termios.tcgetattr(inner)[:4] != before[:4]:
    sys.exit("the terminal is not as it was")
sys.exit(child.returncode)
"#;

/// `aral top` on a terminal that this script makes, as its arguments say.
#[cfg(feature = "services")]
fn top_on_a_terminal(desk: &Desk, script: &[&str]) -> std::process::Output {
    std::process::Command::new("python3")
        .arg("-c")
        .args(script)
        .arg(crate::support::desk::program())
        .args(["top", "--interval-ms", "100", "--socket", &socket(desk)])
        .output()
        .expect("python3 is there: `cargo xtask test --services` needs it")
}

#[cfg(feature = "services")]
#[test]
fn top_draws_on_a_terminal_of_any_size_and_leaves_it_as_it_was() {
    let (desk, server) = start();
    use_it(&server);
    for (rows, columns, end) in [
        ("24", "80", "q"),
        ("60", "200", "q"),
        ("3", "10", "q"),
        ("24", "80", "SIGTERM"),
        ("24", "80", "SIGINT"),
        ("24", "80", "SIGHUP"),
    ] {
        let ran = top_on_a_terminal(&desk, &[ON_A_TERMINAL, rows, columns, end]);
        let drawn = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{rows}x{columns}, {end}: {ran:?}");
        // The alternate screen, and the cursor.
        for (enter, leave) in [("\u{1b}[?1049h", "\u{1b}[?1049l"), ("\u{1b}[?25l", "\u{1b}[?25h")] {
            assert!(drawn.contains(enter), "{end}: {drawn:?}");
            assert!(drawn.rfind(leave) > drawn.rfind(enter), "{end}: {drawn:?}");
        }
        assert!(rows == "3" || drawn.contains("calls/s"), "{rows}x{columns}: {drawn:?}");
    }
}

/// Runs a program on a terminal that controls it, as a window does. Then that terminal is gone, as where a connection breaks; or it takes
/// nothing from the beginning, as after ctrl-s, and a signal comes. Prints the exit code.
#[cfg(feature = "services")]
const ON_A_TERMINAL_THAT_FAILS: &str = r#"
import fcntl, os, pty, signal, struct, subprocess, sys, termios, time
how, program = sys.argv[1], sys.argv[2:]
terminal, inner = pty.openpty()
fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
if how == "full":
    termios.tcflow(inner, termios.TCOOFF)
control = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = subprocess.Popen(program, stdin=inner, stdout=inner, stderr=inner, start_new_session=True, preexec_fn=control)
def takes_signals():
    tasks = f"/proc/{child.pid}/task"
    return any(open(f"{tasks}/{task}/comm").read() == "aral-signals\n" for task in os.listdir(tasks))
if how == "full":
    begun = time.monotonic()
    while not takes_signals() and time.monotonic() - begun < 60:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
else:
    os.close(inner)
    drawn = b""
    while b"calls/s" not in drawn:
        drawn += os.read(terminal, 65536)
    # Behind a drawing, so that it waits for keys and not in the middle of a write.
    for _ in range(5):
        os.read(terminal, 65536)
    time.sleep(0.01)
    os.close(terminal)
try:
    print(child.wait(60))
except subprocess.TimeoutExpired:
    child.kill()
    sys.exit("it does not end")
"#;

#[cfg(feature = "services")]
#[test]
fn top_ends_where_its_terminal_is_gone_or_takes_nothing() {
    let (desk, server) = start();
    use_it(&server);
    for how in ["gone", "full"] {
        let ran = top_on_a_terminal(&desk, &[ON_A_TERMINAL_THAT_FAILS, how]);
        assert!(ran.status.success(), "{how}: {ran:?}");
        // Where the terminal is gone, a write to it may fail first.
        assert!(how == "gone" || ran.stdout == b"143\n", "{how}: {ran:?}");
    }
}
