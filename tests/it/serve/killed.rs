//! A server that is killed in the middle of everything: what it acknowledged is there, what it did not is there whole or not at all,
//! and its store and its log are whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{self, Server};
use crate::support::wire::{Wire, request};

const NOTES_ID: &str = "notes";
/// How often a server is killed.
const ROUNDS: u32 = 5;
/// Callers beside each other. Each has names of its own, so that it knows what it wrote last.
const WRITERS: u32 = 4;
/// Names of each of them.
const NAMES: u32 = 5;
/// Writes that are acknowledged before the server is killed.
const ACKNOWLEDGED: u32 = 150;

/// What may stand under a name: what was acknowledged last, and what was asked for after that without an answer. `None`: no note.
type Known = HashMap<String, Vec<Option<String>>>;

fn desk() -> Desk {
    let desk = server::desk(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } });
    });
    desk.guest(NOTES, |entry| {
        entry["permissions"] = json!({
            "memory:read": { "namespaces": ["notes"] },
            "memory:write": { "namespaces": ["notes"], "bytes_max": 1_048_576, "records_max": 1000 },
        });
    });
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    desk
}

/// The number of the record that an answer names.
fn record(receipt: &str) -> u64 {
    let (number, _) = receipt.split_once(';').expect("a receipt");
    number.parse().expect("a number")
}

/// Writes and deletes until the server is gone; says how many were acknowledged to `count`, and the newest record of the log that it
/// was told of.
fn write(mut wire: Wire, writer: u32, round: u32, known: &mut Known, count: &AtomicU32) -> u64 {
    let mut newest = 0;
    for turn in 0.. {
        let name = format!("w{writer}-{}", turn % NAMES);
        let wanted = (turn % 7 != 6).then(|| format!("{round}-{turn}-{}", "x".repeat(turn as usize * 37 % 3000)));
        let input = match &wanted {
            Some(text) => json!({ "action": "add", "name": name, "text": text, "replace": true }),
            None => json!({ "action": "delete", "name": name }),
        };
        let may = known.entry(name).or_insert_with(|| vec![None]);
        may.push(wanted.clone());
        wire.send(&request(
            "POST",
            "/v1/invoke/notes",
            &[("Content-Type", "application/json")],
            &input.to_string(),
        ));
        let Some(reply) = wire.try_reply() else {
            return newest;
        };
        assert_eq!(reply.status, 200, "{reply:#?}");
        *may = vec![wanted];
        newest = record(reply.field("aral-receipt").expect("a receipt"));
        count.fetch_add(1, Ordering::Relaxed);
    }
    newest
}

/// What the server has under each name is one of what may be there; from then on it is what is known.
fn assert_kept(server: &Server, known: &mut Known) {
    let mut wire = server.wire();
    for (name, may) in known {
        let input = json!({ "action": "get", "name": name });
        let reply = wire.invoke(NOTES_ID, &[], &input.to_string());
        assert_eq!(reply.status, 200, "{name}: {reply:#?}");
        let text = reply.json()["text"].as_str().map(str::to_owned);
        assert!(may.contains(&text), "{name}: {text:?} is not one of {may:?}");
        *may = vec![text];
    }
}

/// Has the server read its file again, right or wrong, and store what operators store.
fn disturb(desk: &Desk, server: &Server, good: &Value, turn: u32) {
    match turn % 3 {
        0 => desk.write("aral.toml", b"half an edit = ["),
        _ => {
            let mut config = good.clone();
            config["serve"]["limits"] = json!({ "body_bytes_max": 100_000 + turn });
            desk.replace_config(&config);
        }
    }
    server.signal(Signal::HUP);
    desk.replace_config(good);
    let name = format!("operator-{turn}");
    desk.feed(&["memory", "put", "operators", &name], b"a value")
        .assert("an operator writes", 0, &[]);
}

#[test]
fn what_a_server_acknowledged_outlives_that_it_is_killed_under_load() {
    let desk = desk();
    let good = desk.config();
    let mut turns = 0;
    let mut known: Vec<Known> = vec![Known::new(); WRITERS as usize];
    for round in 0..ROUNDS {
        let server = Server::start(&desk);
        known.iter_mut().for_each(|known| assert_kept(&server, known));
        let count = AtomicU32::new(0);
        let newest = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .zip(&mut known)
                .map(|(writer, known)| {
                    let (wire, count) = (server.wire(), &count);
                    scope.spawn(move || write(wire, writer, round, known, count))
                })
                .collect();
            until("writes are acknowledged", || {
                disturb(&desk, &server, &good, turns);
                turns += 1;
                count.load(Ordering::Relaxed) >= ACKNOWLEDGED
            });
            server.signal(Signal::KILL);
            let newest = writers.into_iter().map(|writer| writer.join().expect("a writer"));
            newest.max().expect("writers")
        });
        let (code, words) = server.wait();
        assert_eq!(code, None, "it was killed: {words}");
        assert!(!words.contains("panicked"), "{words}");
        let checked = desk.aral(&["memory", "check"]);
        assert!(
            checked.code == 0 && checked.stdout.contains("damaged  0"),
            "{checked:#?}"
        );
        desk.aral(&["audit", "verify"]).assert("the log", 0, &[]);
        // Whoever was answered has a record that anybody can prove.
        desk.aral(&["invoke", NOTES_ID, "--input", r#"{"action":"list"}"#])
            .assert("a host opens both", 0, &[]);
        desk.aral(&["audit", "prove", &newest.to_string(), "--out", &format!("{round}.json")])
            .assert("the newest record", 0, &[]);
    }
    let operators = desk.aral(&["memory", "list", "operators"]);
    assert_eq!(operators.stdout.lines().count(), turns as usize, "{operators:#?}");
    let server = Server::start(&desk);
    known.iter_mut().for_each(|known| assert_kept(&server, known));
}
