//! Clients that nobody here wrote: the package `mcp` of Python over HTTP and over standard input, in the newest revision and
//! in the older ones; the command line of the MCP inspector; and the conformance scenarios of the protocol that apply here.

use std::process::{Command, Output};

use aral_contract::Digest;
use serde_json::{Value, json};

use super::{desk, entry};
use crate::support::desk::{Desk, program};
use crate::support::guests::*;
use crate::support::mcp::{NEWEST, WITH_SESSIONS, assert_recorded};
use crate::support::server::Server;

const SCRIPT: &str = include_str!("client.py");
const KEY: &str = "aral_a-key-of-the-tests";

fn installed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable}: run `cargo xtask test --services`"))
}

/// What all clients find: something that works, something that fails, something slow and something endless.
fn everything(change: impl FnOnce(&mut Value)) -> Desk {
    let mut echo = entry(RUNTIME_ECHO_TOOL);
    let list = json!({ "type": "object", "properties": { "a": { "type": "array" } }, "required": ["a"] });
    echo["input_schema"] = list.clone();
    echo["output_schema"] = list;
    let mut endless = entry(RUNTIME_INFINITE_LOOP);
    endless["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
    let entries = [echo, entry(RUNTIME_TRAP), entry(RUNTIME_SLEEP), endless];
    desk(&entries, |config| {
        config["policy"]["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0", "mcp": true });
        config["serve"]["caller"][0]["keys"] = json!([Digest::of(KEY.as_bytes()).to_string()]);
        change(config);
    })
}

/// What Python saw.
fn python(asked: &Value) -> Value {
    crate::support::python::ask(SCRIPT, asked)
}

fn assert_saw_everything(desk: &Desk, seen: &Value, version: &str) {
    assert_eq!(seen["version"], version, "{seen}");
    assert_eq!(
        seen["tools"],
        json!([
            ["runtime-echo-tool", "object", true, true],
            ["runtime-infinite-loop", "object", true, version == NEWEST],
            ["runtime-sleep", "object", true, version == NEWEST],
            ["runtime-trap", "object", true, version == NEWEST],
        ])
    );
    let value = json!({ "a": [1, "ä"] });
    assert_eq!(seen["called"]["value"], value);
    assert_eq!(seen["called"]["is_error"], false);
    let text = seen["called"]["text"].as_str().expect("a text");
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), value);
    for (case, code) in [("failed", "guest.trap"), ("invalid", "input.invalid")] {
        let failed = &seen[case];
        assert_eq!(failed["is_error"], true, "{case}: {seen}");
        assert_eq!(failed["meta"]["aral/error"]["code"], code, "{case}: {seen}");
        assert!(
            failed["text"].as_str().is_some_and(|text| text.starts_with(code)),
            "{case}: {seen}"
        );
    }
    assert_eq!(seen["unknown"]["code"], -32602, "{seen}");
    assert_eq!(seen["unknown"]["data"]["code"], "capability.unknown", "{seen}");
    let told = seen["progress"].as_array().expect("a list");
    assert!(told.len() >= 3 && told.iter().all(|one| one[1].is_null()), "{seen}");
    assert_eq!(seen["cancelled"], true, "{seen}");
    assert_eq!(seen["again"], json!({ "a": [] }), "{seen}");
    assert_recorded(desk, "invocation", &["runtime-infinite-loop", "call.cancelled"]);
}

#[test]
fn python_over_http() {
    for (mode, version) in [("auto", NEWEST), ("legacy", WITH_SESSIONS)] {
        let desk = everything(|_| ());
        let server = Server::start(&desk);
        let url = format!("http://{}/mcp", server.address());
        let seen = python(&json!({ "url": url, "key": KEY, "mode": mode }));
        assert_saw_everything(&desk, &seen, version);
    }
}

#[test]
fn python_takes_a_long_answer_over_http_as_the_page_says() {
    const BYTES: usize = 600_000;
    let desk = everything(|_| ());
    let server = Server::start(&desk);
    let url = format!("http://{}/mcp", server.address());
    for (mode, progress, is_event) in [
        ("auto", false, false),
        ("auto", true, true),
        ("legacy", false, true),
        ("legacy", true, true),
    ] {
        let ask = |event_bytes: Value| {
            python(&json!({
                "url": url, "key": KEY, "mode": mode, "long": BYTES, "progress": progress, "event_bytes": event_bytes,
            }))
        };
        let arrived = json!({ "arrived": BYTES });
        assert_eq!(ask(json!(16_000_000)), arrived, "{mode} {progress}");
        let usual = ask(Value::Null);
        if is_event {
            let refused = usual["refused"].as_str().unwrap_or_default();
            assert!(
                refused.contains("exceeded the 1048576 byte limit"),
                "{mode} {progress}: {usual}"
            );
        } else {
            assert_eq!(usual, arrived, "{mode} {progress}");
        }
    }
}

#[test]
fn python_over_standard_input() {
    for (mode, version) in [("auto", NEWEST), ("legacy", WITH_SESSIONS)] {
        let desk = everything(|_| ());
        let asked = json!({ "command": program(), "arguments": ["mcp"], "folder": desk.root(), "mode": mode });
        let seen = python(&asked);
        assert_saw_everything(&desk, &seen, version);
    }
}

fn node(package: &str, script: &str, arguments: &[&str]) -> Output {
    Command::new(installed("ARAL_SERVICE_NODE"))
        .arg(format!("{}/{package}/{script}", installed("ARAL_SERVICE_NPM")))
        .args(arguments)
        .output()
        .expect("Node starts")
}

#[test]
fn the_inspector_lists_and_calls() {
    let desk = everything(|_| ());
    let server = Server::start(&desk);
    let url = format!("http://{}/mcp", server.address());
    let key = format!("Authorization: Bearer {KEY}");
    let inspect = |arguments: &[&str]| {
        let mut all = vec![url.as_str(), "--transport", "http", "--header", &key];
        all.extend_from_slice(arguments);
        let output = node("@modelcontextprotocol/inspector", "cli/build/index.js", &all);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let tools = inspect(&["--method", "tools/list"]);
    let names: Vec<&Value> = tools["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(
        names,
        [
            "runtime-echo-tool",
            "runtime-infinite-loop",
            "runtime-sleep",
            "runtime-trap"
        ]
    );
    let called = inspect(&[
        "--method",
        "tools/call",
        "--tool-name",
        "runtime-echo-tool",
        "--tool-arg",
        "a=[1,2]",
    ]);
    assert_eq!(called["structuredContent"], json!({ "a": [1, 2] }), "{called}");
    let failed = inspect(&[
        "--method",
        "tools/call",
        "--tool-name",
        "runtime-trap",
        "--tool-arg",
        "trap=true",
    ]);
    assert_eq!(failed["isError"], true, "{failed}");
    let wrong = node(
        "@modelcontextprotocol/inspector",
        "cli/build/index.js",
        &[
            &url,
            "--transport",
            "http",
            "--header",
            "Authorization: Bearer aral_wrong",
            "--method",
            "tools/list",
        ],
    );
    assert!(!wrong.status.success(), "{wrong:?}");
}

/// Whether a scenario says that it checked something and that all of it is as it should be.
fn has_passed(words: &str) -> bool {
    words.lines().any(|line| {
        let checked = line.strip_prefix("Passed: ");
        let checked = checked.and_then(|rest| rest.strip_suffix(", 0 failed, 0 warnings"));
        checked
            .and_then(|counts| counts.split_once('/'))
            .is_some_and(|(passed, all)| passed == all && all != "0")
    })
}

/// The scenarios of the protocol's own suite that are about what this server has: tools, and no prompts, resources, sampling,
/// elicitation or logging; and no content but text.
#[test]
fn conformance() {
    let named = |guest, name: &str| {
        let mut entry = entry(guest);
        entry["id"] = json!(name);
        entry
    };
    let mut failing = named(RUNTIME_ECHO_TOOL, "test_error_handling");
    failing["input_schema"] = json!({ "type": "object", "required": ["what_nobody_sends"] });
    let mut slow = named(RUNTIME_SLEEP, "test_tool_with_progress");
    slow["limits"] = json!({ "wall_ms": 2500 });
    let mut schema = named(RUNTIME_ECHO_TOOL, "json_schema_2020_12_tool");
    schema["input_schema"] = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": { "type": "object", "properties": { "street": { "type": "string" }, "city": { "type": "string" } } } },
        "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
        "additionalProperties": false,
    });
    let entries = [named(RUNTIME_ECHO_TOOL, "test_simple_text"), failing, slow, schema];
    let desk = desk(&entries, |_| ());
    let server = Server::start(&desk);
    let port = server.address().port();
    desk.configure_more(|config| {
        config["serve"]["listener"][0]["origins"] =
            json!([format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}")]);
    });
    desk.aral(&["reload"]).assert("its origins", 0, &[]);
    let url = format!("http://{}/mcp", server.address());
    for scenario in [
        "server-initialize",
        "ping",
        "tools-list",
        "tools-call-simple-text",
        "tools-call-error",
        "tools-call-with-progress",
        "json-schema-2020-12",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    ] {
        let folder = desk.path("conformance");
        let arguments = ["server", "--url", &url, "--scenario", scenario, "--output-dir", &folder];
        let output = node("@modelcontextprotocol/conformance", "dist/index.js", &arguments);
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{scenario}: {words}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(has_passed(&words), "{scenario}: {words}");
    }
}
