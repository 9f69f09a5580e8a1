//! Who is not let in to `/mcp`, what is no message, and what is hidden from whom.

use aral_contract::Digest;
use serde_json::{Value, json};

use super::{ECHO, SLEEP, desk, entry, only_echo};
use crate::support::guests::*;
use crate::support::mcp::*;
use crate::support::server::Server;
use crate::support::wire::{Wire, request};

const KEY: &str = "aral_a-key-of-the-tests";
const OTHER: &str = "aral_another-key-of-the-tests";

fn digest(key: &str) -> String {
    Digest::of(key.as_bytes()).to_string()
}

/// Two callers with a key each, and nobody without.
fn two() -> crate::support::desk::Desk {
    desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0", "mcp": true });
        config["serve"]["caller"] = json!([
            { "name": "one", "persona": "persona.json", "keys": [digest(KEY)] },
            { "name": "other", "persona": "persona.json", "keys": [digest(OTHER)] },
        ]);
    })
}

#[test]
fn a_listener_answers_mcp_only_if_it_says_so() {
    let silent = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["listener"][0]["mcp"] = json!(false);
    });
    let server = Server::start(&silent);
    ask_newest(server.address(), &[], "tools/list", json!({})).assert_problem("off", 404, "request.invalid");
}

#[test]
fn without_a_key_nothing_is_reached() {
    let server = Server::start(&two());
    for method in ["POST", "GET", "DELETE", "PUT"] {
        for fields in [&[][..], &[("Authorization", "Bearer aral_unknown")]] {
            let mut wire = Wire::open(server.address());
            let reply = wire.ask(method, "/mcp", fields, if method == "POST" { "{}" } else { "" });
            reply.assert_problem(method, 401, "authentication.failed");
            assert_eq!(reply.field("www-authenticate"), Some("Bearer"));
        }
    }
    let key = format!("Bearer {KEY}");
    let fields = [("Authorization", key.as_str())];
    assert_eq!(
        ask_newest(server.address(), &fields, "tools/list", json!({})).status,
        200
    );
}

#[test]
fn a_session_is_there_only_for_who_began_it() {
    let desk = two();
    let server = Server::start(&desk);
    let (one, other) = (format!("Bearer {KEY}"), format!("Bearer {OTHER}"));
    let own = Session::begin(server.address(), &[("Authorization", &one)]);
    let list = message(1, "tools/list", json!({})).to_string();
    let ask = |method: &str, session: &str, key: &str| {
        let mut wire = Wire::open(server.address());
        let fields = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", WITH_SESSIONS),
            ("Mcp-Session-Id", session),
            ("Authorization", key),
        ];
        wire.send(&request(
            method,
            "/mcp",
            &fields,
            if method == "POST" { &list } else { "" },
        ));
        wire.head().expect("an answer").status
    };
    for method in ["POST", "GET"] {
        assert_eq!(ask(method, &own.id, &other), 404, "{method}: it is somebody else's");
        assert_eq!(ask(method, "no-such-session", &other), 404, "{method}: it is not there");
    }
    // Ending it says nothing, and ends nothing.
    assert_eq!(ask("DELETE", &own.id, &other), ask("DELETE", "no-such-session", &other));
    assert_eq!(ask("POST", &own.id, &one), 200, "it goes on for who began it");
    assert_recorded(&desk, "security", &["mcp.session", "other"]);
    assert_eq!(own.end().status, 204);
    assert_eq!(ask("POST", &own.id, &one), 404);
}

#[test]
fn a_tool_that_the_persona_may_not_call_is_not_there() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL), entry(RUNTIME_SLEEP)], |_| ());
    desk.persona(&only_echo());
    let server = Server::start(&desk);
    let ask = |method: &str, params: Value| ask_newest(server.address(), &[], method, params);
    let list = ask("tools/list", json!({})).json();
    let tools = list["result"]["tools"].as_array().expect("a list").clone();
    assert_eq!(tools.iter().map(|tool| &tool["name"]).collect::<Vec<_>>(), [ECHO]);
    // The same answer but for the name and the trace id, also with arguments that no tool takes.
    let refused = |name: &str, arguments: Value| {
        let reply = ask("tools/call", call(name, arguments));
        let answer = reply.json();
        let trace = answer["error"]["data"]["trace_id"]
            .as_str()
            .expect("a trace id")
            .to_owned();
        assert_recorded(&desk, "invocation", &[&trace]);
        (
            reply.status,
            answer.to_string().replace(name, "NAME").replace(&trace, "TRACE"),
        )
    };
    let hidden = refused(SLEEP, json!({ "wait_ms": 1 }));
    let unknown = refused("runtime-nothing", json!({ "wait_ms": 1 }));
    assert_eq!(hidden, unknown);
    assert!(
        hidden.1.contains("-32602") && !hidden.1.contains("allowed_capabilities"),
        "{hidden:?}"
    );
    let no_name = ask("tools/call", call("NO NAME", json!({})));
    assert_eq!(no_name.json()["error"]["code"], -32602);
}

#[test]
fn arguments_do_not_tell_what_is_hidden() {
    let desk = desk(
        &[entry(RUNTIME_ECHO_TOOL), crate::support::setup::entry(RUNTIME_SLEEP)],
        |_| (),
    );
    desk.persona(&only_echo());
    let server = Server::start(&desk);
    // It would want one argument, `input`.
    let hidden = ask_newest(
        server.address(),
        &[],
        "tools/call",
        call(SLEEP, json!({ "no": "input" })),
    )
    .json();
    assert_eq!(hidden["error"]["code"], -32602, "{hidden}");
    assert_eq!(hidden["error"]["data"]["code"], "capability.unknown", "{hidden}");
}

#[test]
fn only_known_hosts_and_listed_pages_reach_it() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["listener"][0]["origins"] = json!(["https://app.example"]);
    });
    let server = Server::start(&desk);
    let ask = |fields: &[(&str, &str)]| ask_newest(server.address(), fields, "tools/list", json!({}));
    ask(&[("Host", "evil.example")]).assert_problem("rebinding", 421, "request.invalid");
    ask(&[("Origin", "https://evil.example")]).assert_problem("page", 403, "request.invalid");
    ask(&[("Origin", "null")]).assert_problem("page", 403, "request.invalid");
    let listed = ask(&[("Origin", "https://app.example")]);
    assert_eq!(listed.status, 200, "{listed:?}");
    assert_eq!(listed.field("access-control-allow-origin"), Some("https://app.example"));
    assert!(
        listed
            .field("access-control-expose-headers")
            .is_some_and(|names| names.contains("mcp-session-id"))
    );
    let preflight = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "DELETE"),
        ("Access-Control-Request-Headers", "mcp-session-id,mcp-protocol-version"),
    ];
    let allowed = Wire::open(server.address()).ask("OPTIONS", "/mcp", &preflight, "");
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.field("access-control-allow-methods"), Some("GET,POST,DELETE"));
}

#[test]
fn what_is_no_message_is_refused() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["limits"] = json!({ "body_bytes_max": 20_000 });
    });
    let server = Server::start(&desk);
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let one = message(1, "tools/list", json!({})).to_string();
    for (case, body, code) in [
        ("no JSON", "{".to_owned(), -32700),
        ("a name twice", one.replace('{', "{\"jsonrpc\":\"2.0\","), -32700),
        ("nested deeply", one.replace("{}", &deep), -32700),
        ("a batch", format!("[{one}]"), -32600),
        ("an empty batch", "[]".to_owned(), -32600),
        ("no object", "1".to_owned(), -32600),
        ("another version", one.replace("2.0", "1.0"), -32600),
        ("no method", "{\"jsonrpc\":\"2.0\",\"id\":1}".to_owned(), -32600),
        (
            "wrong parameters",
            message(1, "tools/call", json!({ "name": 7 })).to_string(),
            -32602,
        ),
        (
            "much beside arguments",
            message(
                1,
                "tools/list",
                json!({ "_meta": { "a": vec![json!({ "": 0 }); 200] } }),
            )
            .to_string(),
            -32600,
        ),
        (
            "a long id",
            json!({ "jsonrpc": "2.0", "id": "x".repeat(300), "method": "ping" }).to_string(),
            -32600,
        ),
    ] {
        let reply = send(server.address(), &[], &body).reply();
        assert_eq!(reply.status, 400, "{case}: {reply:?}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["code"], code, "{case}: {reply:?}");
        assert_eq!(error["data"]["code"], "request.invalid", "{case}");
        assert_eq!(
            error["data"]["trace_id"].as_str(),
            reply.field("aral-trace-id"),
            "{case}"
        );
    }
    let long = message(1, "tools/call", call(ECHO, json!({ "a": "x".repeat(20_000) }))).to_string();
    let reply = send(server.address(), &[], &long).reply();
    reply.assert_problem("too long", 413, "request.invalid");
    for (case, fields, status) in [
        ("chunks", vec![("Transfer-Encoding", "chunked")], 411),
        ("not declared", vec![("Content-Type", "text/plain")], 415),
        ("no session", vec![], 400),
        ("an unknown session", vec![("Mcp-Session-Id", "none")], 404),
        ("an unknown revision", vec![("MCP-Protocol-Version", "1999-01-01")], 400),
    ] {
        let mut wire = Wire::open(server.address());
        let mut all = vec![("Accept", "application/json, text/event-stream")];
        if !fields.iter().any(|(name, _)| *name == "Content-Type") {
            all.push(("Content-Type", "application/json"));
        }
        all.extend(fields);
        let reply = wire.ask("POST", "/mcp", &all, &one);
        reply.assert_problem(case, status, "request.invalid");
    }
    for accepts in [None, Some("*/*"), Some("application/json")] {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(accepts.map(|kinds| ("Accept", kinds)));
        let reply = Wire::open(server.address()).ask("POST", "/mcp", &all, &one);
        reply.assert_problem("accepts too little", 406, "request.invalid");
    }
    let reply = Wire::open(server.address()).ask("PUT", "/mcp", &[], "");
    reply.assert_problem("another method", 405, "request.invalid");
    assert_eq!(
        ask_newest(server.address(), &[], "tools/list", json!({})).status,
        200,
        "the server goes on"
    );
}

#[test]
fn no_method_changes_anything() {
    let server = Server::start(&desk(&[entry(RUNTIME_ECHO_TOOL)], |_| ()));
    for (method, params) in [
        ("logging/setLevel", json!({})),
        ("resources/list", json!({})),
        ("prompts/list", json!({})),
        ("tasks/get", json!({})),
        ("aral/set_policy", json!({})),
        ("sampling/createMessage", json!({})),
        // With the parameters that such methods have where they are there.
        ("tasks/get", json!({ "taskId": "a" })),
        ("tasks/cancel", json!({ "taskId": "a" })),
        ("skills/list", json!({})),
        ("resources/subscribe", json!({ "uri": "a:b" })),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "a" }, "argument": { "name": "a", "value": "" } }),
        ),
        // Of the older revisions alone.
        ("ping", json!({})),
    ] {
        let reply = ask_newest(server.address(), &[], method, params);
        assert_eq!(reply.status, 404, "{method}: {reply:?}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["code"], -32601, "{method}");
        assert_eq!(error["message"], format!("there is no method `{method}`"));
        assert_eq!(error["data"]["code"], "request.invalid", "{error}");
        assert!(error["data"]["trace_id"].is_string(), "{error}");
    }
    let session = Session::begin(server.address(), &[]);
    session.result("ping", json!({}));
    let reply = session.send(&message(2, "skills/list", json!({}))).reply();
    assert_eq!(reply.status, 200, "404 is for a session that is gone: {reply:?}");
    let answer = reply.json();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(2), &json!(-32601)));
    assert_eq!(answer["error"]["message"], "there is no method `skills/list`");
}
