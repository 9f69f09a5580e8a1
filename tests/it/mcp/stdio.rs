//! `aral mcp` as a client meets it that has started it: lines in, lines out, and nothing else on standard output.

use std::io::Write as _;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ECHO, LOOP, SLEEP, desk, entry, only_echo};
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::*;

fn all() -> Desk {
    let mut endless = entry(RUNTIME_INFINITE_LOOP);
    endless["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
    desk(&[entry(RUNTIME_ECHO_TOOL), entry(RUNTIME_SLEEP), endless], |config| {
        config["policy"]["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
        config["serve"]["limits"] = json!({ "body_bytes_max": 20_000, "handler_ms": 20_000 });
        // Not on the standard output of a verb.
        config["audit"]["stdout"] = json!(true);
    })
}

fn beginning(id: u64, version: &str) -> Value {
    let client = json!({ "name": "a", "version": "1" });
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client });
    message(id, "initialize", params)
}

fn initialize(process: &mut Process) -> Value {
    process.send(&beginning(0, WITH_SESSIONS));
    let answer = process.receive();
    process.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    answer
}

#[test]
fn tools_are_listed_and_called_in_both_ways_of_speaking() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    let names = |answer: &Value| {
        let tools = answer["result"]["tools"].as_array().expect("a list").clone();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&process.ask("tools/list", json!({}))), [ECHO, LOOP, SLEEP]);
    let called = process.ask("tools/call", call(ECHO, json!({ "a": 1 })));
    assert_eq!(called["result"]["structuredContent"], json!({ "a": 1 }), "{called}");
    process.close();
    assert_eq!(process.wait(), Some(0), "a client that goes is no failure");

    let mut process = Process::start(&desk, &["-v"]);
    let answer = initialize(&mut process);
    assert_eq!(answer["result"]["protocolVersion"], WITH_SESSIONS);
    assert_eq!(answer["result"]["serverInfo"]["name"], "aral");
    process.send(&message(1, "tools/list", json!({})));
    assert_eq!(names(&process.receive()), [ECHO, LOOP, SLEEP]);
    process.send(&message(2, "tools/call", call(ECHO, json!({ "a": 2 }))));
    assert_eq!(process.receive()["result"]["structuredContent"], json!({ "a": 2 }));
    process.signal(Signal::TERM);
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_call_is_told_of_and_given_up() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    initialize(&mut process);
    let mut params = call(LOOP, json!({}));
    params["_meta"] = json!({ "progressToken": "mine" });
    process.send(&message(7, "tools/call", params));
    let told = process.receive();
    assert_eq!(told["method"], "notifications/progress", "{told}");
    assert_eq!(told["params"]["progressToken"], "mine");
    process.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } }));
    assert_recorded(&desk, "invocation", &["call.cancelled"]);
    // The conversation goes on, without an answer to what was given up.
    process.send(&message(8, "tools/call", call(ECHO, json!({ "a": 1 }))));
    let answer = loop {
        let message = process.receive();
        if message["method"] != "notifications/progress" {
            break message;
        }
    };
    assert_eq!(answer["id"], 8, "{answer}");
}

#[test]
fn a_client_that_goes_takes_its_calls_along() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    initialize(&mut process);
    let mut params = call(LOOP, json!({}));
    params["_meta"] = json!({ "progressToken": "mine" });
    process.send(&message(7, "tools/call", params));
    while process.receive()["params"]["message"] != "running" {}
    process.close();
    process.hear_out();
    assert_eq!(process.wait(), Some(0));
    assert_recorded(&desk, "invocation", &["call.cancelled"]);
}

#[test]
fn a_process_ends_though_its_client_does_not_read() {
    for by_signal in [true, false] {
        let desk = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
            config["serve"]["limits"] = json!({ "body_bytes_max": 200_000 });
        });
        let (mut process, _unread) = Process::start_unread(&desk, &[]);
        // Its answer is longer than what a pipe takes.
        let long = call(ECHO, json!({ "a": "x".repeat(100_000) }));
        process.send(&newest(1, "tools/call", long));
        assert_recorded(&desk, "invocation", &[ECHO]);
        if by_signal {
            process.signal(Signal::TERM);
        } else {
            process.close();
        }
        assert_eq!(process.wait(), Some(0), "by signal: {by_signal}");
    }
}

#[test]
fn what_is_no_message_is_answered_and_the_conversation_goes_on() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    initialize(&mut process);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let one = message(1, "tools/list", json!({})).to_string();
    for (line, code) in [
        ("{".to_owned(), -32700),
        (deep, -32700),
        (format!("[{one}]"), -32600),
        ("{}".to_owned(), -32600),
        (format!("\"{}\"", "x".repeat(20_000)), -32600),
    ] {
        process.write(&line);
        let answer = process.receive();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["error"]["data"]["code"], "request.invalid", "{answer}");
    }
    process.write("");
    process.send(&message(1, "tools/call", call(ECHO, json!({ "a": 1 }))));
    assert_eq!(process.receive()["result"]["structuredContent"], json!({ "a": 1 }));
}

#[test]
fn a_conversation_is_not_begun_again() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    let begun = initialize(&mut process);
    assert_eq!(begun["result"]["protocolVersion"], WITH_SESSIONS, "{begun}");
    process.send(&beginning(1, "2025-06-18"));
    let refused = process.receive();
    assert_eq!(
        (
            &refused["id"],
            &refused["error"]["code"],
            &refused["error"]["data"]["code"]
        ),
        (&json!(1), &json!(-32600), &json!("request.invalid")),
        "{refused}"
    );
    process.send(&message(2, "tools/call", call(ECHO, json!({ "a": 1 }))));
    assert_eq!(process.receive()["result"]["structuredContent"], json!({ "a": 1 }));
}

#[test]
fn a_method_that_is_not_there_is_answered_in_words() {
    let desk = all();
    let mut process = Process::start(&desk, &[]);
    initialize(&mut process);
    let completes = json!({ "ref": { "type": "ref/prompt", "name": "a" }, "argument": { "name": "a", "value": "" } });
    let long = "x".repeat(100);
    let asked = [
        ("foo", json!({})),
        (&long, json!({})),
        ("completion/complete", completes),
        ("logging/setLevel", json!({ "level": "info" })),
        ("prompts/get", json!({ "name": "a" })),
        ("prompts/list", json!({})),
        ("resources/list", json!({})),
        ("resources/read", json!({ "uri": "a:b" })),
        ("resources/subscribe", json!({ "uri": "a:b" })),
        ("resources/templates/list", json!({})),
        ("resources/unsubscribe", json!({ "uri": "a:b" })),
        ("skills/list", json!({})),
        ("tasks/get", json!({ "taskId": "a" })),
    ];
    for (id, (method, params)) in (1..).zip(asked) {
        process.send(&message(id, method, params));
        let error = process.receive()["error"].clone();
        let shown: String = method.chars().take(64).collect();
        assert_eq!(error["code"], -32601, "{error}");
        assert_eq!(error["message"], format!("there is no method `{shown}`"));
        assert_eq!(error["data"]["code"], "request.invalid", "{error}");
        assert!(error["data"]["trace_id"].is_string(), "{error}");
    }
}

#[test]
fn a_tool_that_the_persona_may_not_call_is_not_there() {
    let desk = all();
    desk.persona(&only_echo());
    let mut process = Process::start(&desk, &[]);
    let answer = process.ask("tools/list", json!({}));
    assert_eq!(answer["result"]["tools"].as_array().map(Vec::len), Some(1), "{answer}");
    let answer = process.ask("tools/call", call(SLEEP, json!({})));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["data"]["code"], "capability.unknown", "{answer}");
}

#[test]
fn a_persona_that_nobody_signed_needs_development() {
    let desk = all();
    let persona = crate::support::setup::unsigned_persona();
    desk.write("unsigned.json", persona.to_string().as_bytes());
    desk.aral(&["mcp", "--persona", "unsigned.json"])
        .assert("unsigned", 7, &["--development"]);
    let mut process = Process::start(&desk, &["--persona", "unsigned.json", "--development"]);
    assert!(process.ask("tools/list", json!({}))["result"].is_object());
    drop(process);
    desk.aral(&["mcp", "--persona", "none.json"])
        .assert("none", 2, &["there is no persona at `none.json`"]);
}

#[test]
fn a_client_that_is_gone_before_it_has_read_anything_is_no_failure() {
    let desk = all();
    let mut command = desk.command(&["mcp"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{}", beginning(0, WITH_SESSIONS)).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
}

#[test]
fn an_answer_that_finds_no_room_is_told() {
    let desk = all();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = desk.command(&["mcp"]);
    command
        .stdin(Stdio::piped())
        .stdout(full.expect("a device"))
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{}", beginning(0, WITH_SESSIONS)).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{words}");
    assert!(
        words.contains("the answers cannot be written: No space left"),
        "{words}"
    );
}

#[test]
fn whoever_speaks_something_else_is_told_so() {
    let run = all().feed(
        &["mcp"],
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n",
    );
    run.assert("no greeting", 6, &["the client does not speak MCP", "docs/clients.md"]);
}
