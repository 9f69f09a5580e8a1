//! Receipts over HTTP: each caller proves its own calls, offline, and learns nothing of those of others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aral_contract::Digest;
use serde_json::{Value, json};

use super::metrics::{metrics, number};
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::wire::Reply;

const ECHO: &str = "runtime-echo-tool";
const KEYS: [&str; 2] = ["aral_one", "aral_two"];

/// Two callers with one persona: what is theirs is told apart by who asked.
fn two(change: impl FnOnce(&mut Value)) -> Desk {
    let desk = desk(|config| {
        let caller = |name: &str, key: &str| json!({ "name": name, "persona": "persona.json", "keys": [Digest::of(key.as_bytes()).to_string()] });
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"] = json!([caller("one", KEYS[0]), caller("two", KEYS[1])]);
        change(config);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn invoke(server: &Server, key: &str, id: &str, input: &str) -> Reply {
    server.wire().invoke(id, &[("Authorization", &bearer(key))], input)
}

fn get(server: &Server, key: &str, seq: &str) -> Reply {
    let path = format!("/v1/receipts/{seq}");
    server.wire().ask("GET", &path, &[("Authorization", &bearer(key))], "")
}

/// The number in the field, and a parameter of it.
pub(super) fn reference(reply: &Reply) -> (String, impl Fn(&str) -> String) {
    let field = reply.field("aral-receipt").expect("a reference").to_owned();
    let seq = field.split(';').next().expect("a number").to_owned();
    let parameter = move |name: &str| {
        let start = format!("{name}=\"");
        let (_, rest) = field.split_once(&start).expect("a parameter");
        rest.split('"').next().expect("a text").to_owned()
    };
    (seq, parameter)
}

/// Comes again as it is told to, until the record is signed.
pub(super) fn signed(server: &Server, key: &str, seq: &str) -> Reply {
    let start = Instant::now();
    loop {
        let reply = get(server, key, seq);
        if reply.status != 503 {
            return reply;
        }
        reply.assert_problem("not yet", 503, "host.unavailable");
        assert_eq!(reply.field("retry-after"), Some("1"));
        assert!(start.elapsed() < Duration::from_secs(30), "it is never signed");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_caller_proves_its_call_without_the_server() {
    let desk = two(|_| ());
    let server = Server::start(&desk);
    let answer = invoke(&server, KEYS[0], ECHO, "[1]");
    let (seq, parameter) = reference(&answer);
    let receipt = signed(&server, KEYS[0], &seq);
    assert_eq!(
        (receipt.status, receipt.field("content-type")),
        (200, Some("application/json"))
    );
    drop(server);
    desk.write("receipt.json", receipt.body.as_bytes());
    desk.write("input", b"[1]");
    desk.write("output", answer.body.as_bytes());
    desk.write("other", b"[2]");
    let public = desk.path("state/audit.pub.pem");
    let check = |input: &str, output: &str| {
        let (input_salt, output_salt) = (parameter("input_salt"), parameter("output_salt"));
        desk.aral(&[
            "audit",
            "check",
            "receipt.json",
            "--json",
            "--trust",
            &public,
            "--input",
            input,
            "--input-salt",
            &input_salt,
            "--output",
            output,
            "--output-salt",
            &output_salt,
        ])
    };
    let good = check("input", "output");
    assert_eq!(good.code, 0, "{good:?}");
    let good = good.object();
    assert_eq!(good["log"], parameter("log"));
    assert_eq!(good["record"]["event"]["user"], "one");
    assert_eq!(good["record"]["seq"].to_string(), seq);
    assert_eq!(check("input", "other").code, 11);
    // It is the very receipt that the operator makes.
    let proven = desk.aral(&["audit", "prove", &seq]);
    assert_eq!(proven.stdout.trim_end(), receipt.body);
    let changed = receipt.body.replacen("\\\"one\\\"", "\\\"two\\\"", 1);
    assert_ne!(changed, receipt.body);
    desk.write("receipt.json", changed.as_bytes());
    assert_eq!(check("input", "output").code, 11, "a receipt that was changed");
}

#[test]
fn a_call_of_another_is_as_absent_as_none() {
    let desk = two(|_| ());
    let server = Server::start(&desk);
    let (theirs, _) = reference(&invoke(&server, KEYS[0], ECHO, "1"));
    // Neither before it is signed nor after.
    let absent = |case: &str, seq: &str| {
        let mut problem = get(&server, KEYS[1], seq).assert_problem(case, 404, "record.unknown");
        problem["trace_id"].take();
        problem
    };
    let early = absent("theirs, not signed", &theirs);
    assert_eq!(signed(&server, KEYS[0], &theirs).status, 200);
    for (case, seq) in [
        ("theirs", theirs.as_str()),
        ("a record that is no call", "0"),
        ("one that is not there", "999999"),
        ("the largest", "18446744073709551615"),
        ("too large", "18446744073709551616"),
        ("no number", "x"),
        ("a sign", "-1"),
    ] {
        assert_eq!(absent(case, seq), early, "{case}");
    }
}

#[test]
fn what_was_denied_or_failed_is_proven_too() {
    let desk = two(|_| ());
    let server = Server::start(&desk);
    let reply = invoke(&server, KEYS[0], "none-such", "1");
    assert_eq!(reply.status, 404);
    let (seq, _) = reference(&reply);
    let receipt = signed(&server, KEYS[0], &seq).json();
    assert!(
        receipt["record"]
            .as_str()
            .expect("a line")
            .contains("capability.unknown"),
        "{receipt}"
    );
}

#[test]
fn a_call_that_is_answered_again_has_the_receipt_of_the_first() {
    let desk = two(|_| ());
    let server = Server::start(&desk);
    let once = || {
        let fields = [("Authorization", &*bearer(KEYS[0])), ("Idempotency-Key", "k")];
        let reply = server.wire().invoke(ECHO, &fields, "1");
        reply.field("aral-receipt").expect("a reference").to_owned()
    };
    assert_eq!(once(), once());
}

#[test]
fn records_that_wait_for_the_disk_are_written_first() {
    let desk = two(|config| config["audit"]["durability"] = json!("async"));
    let server = Server::start(&desk);
    for _ in 0..5 {
        let (seq, _) = reference(&invoke(&server, KEYS[0], ECHO, "1"));
        assert_ne!(get(&server, KEYS[0], &seq).status, 404, "it is there at once");
        assert_eq!(signed(&server, KEYS[0], &seq).status, 200);
    }
}

#[test]
fn so_many_receipts_are_made_at_once() {
    let most = |receipts_max: u64| {
        let desk =
            two(|config| config["serve"]["limits"] = json!({ "receipts_max": receipts_max, "requests_max": 100 }));
        let server = Server::start(&desk);
        let (seq, _) = reference(&invoke(&server, KEYS[0], ECHO, "1"));
        assert_eq!(signed(&server, KEYS[0], &seq).status, 200);
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let reply = get(&server, KEYS[0], &seq);
                        if reply.status == 503 {
                            let problem = reply.assert_problem("busy", 503, "host.unavailable");
                            assert_eq!(
                                problem["detail"],
                                format!("{receipts_max} receipts of this caller are being made")
                            );
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let refused = refused.into_inner();
        if refused > 0 {
            assert!(number(&metrics(&desk), "aral_rate_limited_total{limit=\"receipts_max\"}") > 0.0);
        }
        refused
    };
    assert!(most(1) > 0);
    assert_eq!(most(8), 0);
}

#[test]
fn a_caller_that_asks_for_receipts_all_the_time_keeps_no_other_caller_from_its_own() {
    let desk = two(|config| {
        let often = json!({ "per_second": 1_000_000, "burst": 1_000_000 });
        config["serve"]["rates"] = json!({ "global": often, "address": often, "persona": often, "caller": often });
        config["serve"]["limits"] = json!({ "receipts_max": 1, "requests_max": 100 });
    });
    let server = Server::start(&desk);
    let [busy, other] = KEYS.map(|key| reference(&invoke(&server, key, ECHO, "1")).0);
    for (key, seq) in [(KEYS[0], &busy), (KEYS[1], &other)] {
        assert_eq!(signed(&server, key, seq).status, 200);
    }
    let refused = AtomicUsize::new(0);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if get(&server, KEYS[0], &busy).status == 503 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // Until it was seen that the first one has all that it may.
        let mut statuses = Vec::new();
        while statuses.len() < 50 || refused.load(Ordering::Relaxed) == 0 {
            statuses.push(get(&server, KEYS[1], &other).status);
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
}
