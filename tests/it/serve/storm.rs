//! Callers that leave in the middle of everything, many beside each other: when they are gone the server holds nothing of theirs.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::metrics::{metrics, number};
use super::reload::until;
use crate::support::guests::*;
use crate::support::mcp::{Session, call, message, send_newest};
use crate::support::server::{Server, desk};
use crate::support::wire::{Wire, request};

/// Callers beside each other: more than have a place at once, so that some leave while they wait for one.
const CALLERS: u64 = 24;
/// What each of them does one after the other.
const TURNS: u64 = 24;
/// What is zero where nothing goes on.
const HELD: [&str; 4] = [
    "aral_calls_running",
    "aral_calls_waiting",
    "aral_http_connections",
    "aral_pool_instances",
];

/// A call that sleeps for longer than its caller stays.
fn long_call() -> String {
    call_of(60_000, &[])
}

fn call_of(wait_ms: u32, fields: &[(&str, &str)]) -> String {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(fields);
    let input = json!({ "wait_ms": wait_ms }).to_string();
    request("POST", "/v1/invoke/runtime-sleep", &all, &input)
}

/// One caller that leaves too early, in one of these ways.
fn leave(server: &Server, turn: u64) {
    let stay = Duration::from_millis(turn * 7 % 60);
    let with = |bytes: &str| {
        let mut wire = server.wire();
        wire.send(bytes);
        wire
    };
    let left: Vec<Wire> = match turn % 8 {
        0 => vec![with(&long_call())],
        1 => {
            let whole = long_call();
            vec![with(&whole[..whole.len() * (turn as usize % 20) / 20])]
        }
        // These two go on without their caller.
        2 => vec![with(&call_of(5, &[]).repeat(3))],
        3 => {
            let key = format!("key-{}", turn % 5);
            vec![with(&call_of(50, &[("Idempotency-Key", &key)]))]
        }
        4 => vec![with(
            "POST /v1/invoke/runtime-sleep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: \
             chunked\r\n\r\n5\r\n{\"wai",
        )],
        5 => vec![with("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{7f}")],
        6 => {
            let arguments = json!({ "wait_ms": 60_000 });
            let asked = json!({ "name": "runtime-sleep", "arguments": arguments });
            vec![send_newest(server.address(), &[], "tools/call", asked)]
        }
        _ => match Session::try_begin(server.address(), &[]) {
            Ok(session) => {
                let running = session.send(&message(
                    9,
                    "tools/call",
                    call("runtime-sleep", json!({ "wait_ms": 60_000 })),
                ));
                let (news, _) = session.news();
                sleep(stay);
                session.end();
                vec![running, news]
            }
            Err(_) => Vec::new(),
        },
    };
    sleep(stay);
    drop(left);
}

#[test]
fn of_callers_that_leave_in_the_middle_nothing_is_left() {
    let desk = desk(|config| config["serve"]["listener"][0]["mcp"] = json!(true));
    desk.guest(RUNTIME_SLEEP, |entry| entry["limits"] = json!({ "wall_ms": 120_000 }));
    let server = Server::start(&desk);
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.id()))
            .expect("it runs")
            .count()
    };
    let awake = || server.invoke("runtime-sleep", "{\"wait_ms\":1}").status == 200;
    assert!(awake(), "it works before");
    let before = descriptors();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let server = &server;
            scope.spawn(move || (0..TURNS).for_each(|turn| leave(server, caller * 5 + turn)));
        }
    });
    let mut last = String::new();
    until("nothing is held", || {
        last = metrics(&desk);
        HELD.iter().all(|name| number(&last, name) == 0.0)
    });
    until("their descriptors are closed", || descriptors() <= before + 2);
    assert!(awake(), "every place is free: {last}");
}
