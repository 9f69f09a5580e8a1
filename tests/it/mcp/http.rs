//! What `/mcp` answers: tools, calls, news, and when it ends.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ECHO, LOOP, SLEEP, desk, entry};
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::*;
use crate::support::server::Server;
use crate::support::setup;

fn tools(server: &Server) -> Vec<Value> {
    let reply = ask_newest(server.address(), &[], "tools/list", json!({}));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["result"]["tools"].as_array().expect("a list").clone()
}

#[test]
fn a_tool_is_shown_with_its_schemas_and_what_it_may_do() {
    let mut writes = entry(RUNTIME_SLEEP);
    writes["description"] = json!("writes\nfiles\u{202e}");
    writes["input_schema"] = json!({ "type": "object", "properties": { "wait_ms": { "type": "integer", "description": "how long\u{200b}" } } });
    writes["output_schema"] = json!({ "type": "string" });
    let mut old = setup::entry(RUNTIME_ECHO_TOOL);
    old["version"] = json!("0.9.0");
    let desk = desk(&[setup::entry(RUNTIME_ECHO_TOOL), old, writes], |_| ());
    let server = Server::start(&desk);
    let shown = tools(&server);
    let names: Vec<&Value> = shown.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, [ECHO, SLEEP], "one of each, in its newest version");
    assert_eq!(shown[0]["_meta"]["aral/version"], "1.0.0");
    assert_eq!(
        shown[0]["inputSchema"]["required"],
        json!(["input"]),
        "it takes anything"
    );
    assert_eq!(shown[1]["title"], "runtime_sleep");
    assert_eq!(shown[1]["description"], "writes\nfiles");
    assert_eq!(
        shown[1]["inputSchema"]["properties"]["wait_ms"]["description"],
        "how long"
    );
    assert_eq!(shown[1]["outputSchema"], json!({ "type": "string" }));
    let hints = json!({
        "title": "runtime_sleep",
        "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false,
    });
    assert_eq!(shown[1]["annotations"], hints);
    // Older revisions know no output that is no object.
    let session = Session::begin(server.address(), &[]);
    let older = session.result("tools/list", json!({}));
    assert_eq!(older["tools"][1]["outputSchema"], Value::Null, "{older}");
}

#[test]
fn permissions_are_told_as_hints() {
    let mut writes = entry(RUNTIME_SLEEP);
    writes["permissions"] = json!({ "memory:write": { "namespaces": ["notes"], "bytes_max": 1000, "records_max": 10 }, "network:read": { "hosts": ["https://a.example"] } });
    let desk = desk(&[writes], |_| ());
    let server = Server::start(&desk);
    let tool = &tools(&server)[0];
    assert_eq!(
        tool["_meta"]["aral/permissions"],
        json!(["network:read", "memory:write"])
    );
    let hints = &tool["annotations"];
    assert_eq!(
        (
            &hints["readOnlyHint"],
            &hints["destructiveHint"],
            &hints["openWorldHint"]
        ),
        (&json!(false), &json!(true), &json!(true))
    );
}

#[test]
fn tools_come_page_by_page() {
    let entries: Vec<Value> = (0..250)
        .map(|number| {
            let mut entry = entry(RUNTIME_ECHO_TOOL);
            entry["id"] = json!(format!("echo-{number:03}"));
            entry
        })
        .collect();
    let server = Server::start(&desk(&entries, |_| ()));
    let (mut names, mut cursor, mut pages) = (Vec::new(), json!({}), 0);
    loop {
        let page = ask_newest(server.address(), &[], "tools/list", cursor).json();
        let tools = page["result"]["tools"].as_array().expect("a list").clone();
        names.extend(
            tools
                .iter()
                .map(|tool| tool["name"].as_str().expect("a name").to_owned()),
        );
        pages += 1;
        match page["result"]["nextCursor"].as_str() {
            Some(next) => cursor = json!({ "cursor": next }),
            None => break,
        }
    }
    let expected: Vec<String> = (0..250).map(|number| format!("echo-{number:03}")).collect();
    assert_eq!((names, pages), (expected, 2));
}

#[test]
fn a_call_is_answered_as_a_value_and_as_text() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL), setup::entry(RUNTIME_TRAP)], |_| ());
    let server = Server::start(&desk);
    let input = json!({ "still": ["here", 1, null] });
    let reply = ask_newest(server.address(), &[], "tools/call", call(ECHO, input.clone()));
    assert_eq!(reply.field("content-type"), Some("application/json"));
    let result = &reply.json()["result"];
    assert_eq!(result["structuredContent"], input, "{reply:?}");
    assert_eq!(result["content"][0]["text"], input.to_string());
    assert_eq!(result["isError"], false);
    assert_eq!(result["_meta"]["aral/version"], "1.0.0");
    assert!(result["_meta"]["aral/usage"]["fuel"].is_number(), "{result}");
    let receipt = result["_meta"]["aral/receipt"].as_str().expect("a receipt");
    assert!(receipt.contains("input_salt="), "{receipt}");
    assert_eq!(result["_meta"]["aral/trace_id"].as_str(), reply.field("aral-trace-id"));
    let session = Session::begin(server.address(), &[]);
    let older = session.result("tools/call", call(ECHO, input.clone()));
    assert_eq!(older["structuredContent"], input);
    // What the capability fails with is for the model to read.
    let failed = ask_newest(
        server.address(),
        &[],
        "tools/call",
        call("runtime-trap", json!({ "input": { "trap": true } })),
    );
    let result = &failed.json()["result"];
    assert_eq!(result["isError"], true, "{failed:?}");
    let error = &result["_meta"]["aral/error"];
    assert_eq!(error["code"], "guest.trap");
    let text = result["content"][0]["text"].as_str().expect("a text");
    let trace = failed.field("aral-trace-id").expect("a trace id");
    assert!(text.starts_with("guest.trap: ") && text.contains(trace), "{text}");
    assert_recorded(&desk, "invocation", &["guest.trap", trace]);
    // Arguments that are not those of the tool are its failure too.
    let failed = ask_newest(
        server.address(),
        &[],
        "tools/call",
        call("runtime-trap", json!({ "trap": true })),
    );
    let result = &failed.json()["result"];
    assert_eq!(result["_meta"]["aral/error"]["code"], "input.invalid", "{failed:?}");
}

#[test]
fn limits_of_calls_are_told_with_what_to_do() {
    let mut short = entry(RUNTIME_SLEEP);
    short["limits"] = json!({ "wall_ms": 300 });
    let server = Server::start(&desk(&[short], |_| ()));
    let reply = ask_newest(server.address(), &[], "tools/call", call(SLEEP, json!({})));
    assert_eq!(
        reply.json()["result"]["_meta"]["aral/error"]["code"],
        "limit.wall",
        "{reply:?}"
    );
    let server = Server::start(&desk(&[entry(RUNTIME_SLEEP)], |config| {
        config["serve"]["limits"] = json!({ "handler_ms": 300 });
    }));
    let reply = ask_newest(server.address(), &[], "tools/call", call(SLEEP, json!({})));
    let error = &reply.json()["result"]["_meta"]["aral/error"];
    assert_eq!(error["code"], "limit.wall", "{reply:?}");
    let hint = error["hint"].as_str().expect("a hint");
    assert!(
        hint.starts_with("aral.toml, [serve.limits]: handler_ms = N, N above "),
        "{hint}"
    );
}

#[test]
fn whoever_wants_to_know_is_told_that_a_call_goes_on() {
    let server = Server::start(&desk(&[entry(RUNTIME_SLEEP)], |_| ()));
    let mut params = call(SLEEP, json!({ "wait_ms": 2500 }));
    params["_meta"] = json!({ "progressToken": "mine" });
    let mut newest = send_newest(server.address(), &[], "tools/call", params.clone());
    let session = Session::begin(server.address(), &[]);
    let mut older = session.send(&message(7, "tools/call", params));
    for wire in [&mut newest, &mut older] {
        let head = wire.head().expect("an answer");
        assert_eq!(head.field("content-type"), Some("text/event-stream"), "{head:?}");
        let (mut told, mut last) = (Vec::new(), -1.0);
        let answer = loop {
            let message = wire.event().expect("a message");
            if message["method"] != "notifications/progress" {
                break message;
            }
            let params = &message["params"];
            assert_eq!(params["progressToken"], "mine");
            let progress = params["progress"].as_f64().expect("a number");
            assert!(progress > last, "{message}");
            last = progress;
            told.push(params["message"].as_str().expect("a text").to_owned());
        };
        assert_eq!(answer["result"]["content"][0]["text"], "\"awake\"", "{answer}");
        assert!(told.iter().filter(|word| *word == "running").count() >= 2, "{told:?}");
    }
}

#[test]
fn a_request_that_is_given_up_ends_its_guest() {
    let desk = desk(&[entry(RUNTIME_INFINITE_LOOP)], |config| {
        config["policy"]["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
    });
    // Long enough that only giving up ends it.
    let mut endless = entry(RUNTIME_INFINITE_LOOP);
    endless["limits"] = json!({ "fuel": 1_u64 << 50, "compute_ms": 600_000, "wall_ms": 600_000 });
    desk.manifest(&[endless]);
    let server = Server::start(&desk);
    // In the newest revision, whoever goes away gives up.
    let mut params = call(LOOP, json!({}));
    params["_meta"] = json!({ "progressToken": 1 });
    let mut wire = send_newest(server.address(), &[], "tools/call", params.clone());
    let trace = wire
        .head()
        .expect("an answer")
        .field("aral-trace-id")
        .expect("a trace id")
        .to_owned();
    drop(wire);
    assert_recorded(&desk, "invocation", &[&trace, "call.cancelled"]);
    // In the older ones, one says so.
    let session = Session::begin(server.address(), &[]);
    let mut wire = session.send(&message(7, "tools/call", params));
    let trace = wire
        .head()
        .expect("an answer")
        .field("aral-trace-id")
        .expect("a trace id")
        .to_owned();
    assert_eq!(wire.event().expect("news")["method"], "notifications/progress");
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    assert_eq!(session.send(&cancelled).reply().status, 202);
    assert_recorded(&desk, "invocation", &[&trace, "call.cancelled"]);
    // Whoever ends the session ends what it does.
    let mut wire = session.send(&message(8, "tools/call", call(LOOP, json!({}))));
    let trace = wire
        .head()
        .expect("an answer")
        .field("aral-trace-id")
        .expect("a trace id")
        .to_owned();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(session.end().status, 204);
    assert_recorded(&desk, "invocation", &[&trace, "call.cancelled"]);
}

#[test]
fn one_id_has_one_request_at_a_time() {
    let desk = desk(&[entry(RUNTIME_SLEEP)], |config| {
        config["serve"]["limits"] = json!({ "handler_ms": 3000 });
    });
    let server = Server::start(&desk);
    let session = Session::begin(server.address(), &[]);
    let endless = message(7, "tools/call", call(SLEEP, json!({})));
    let short = |id: u64| message(id, "tools/call", call(SLEEP, json!({ "wait_ms": 1 })));
    let mut first = session.send(&endless);
    assert_eq!(first.head().expect("an answer").status, 200);
    let refused = session.send(&endless).reply();
    assert_eq!(refused.status, 400, "{refused:?}");
    let error = refused.json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(7), &json!(-32600)));
    assert!(first.event().is_some(), "the first has its answer");
    assert!(first.event().is_none(), "and its stream ends");
    let ask = |message: &Value| {
        let mut wire = session.send(message);
        let status = wire.head().expect("an answer").status;
        (status, (status == 200).then(|| wire.event().expect("an answer")))
    };
    // Once answered, and once given up, the id is free.
    for _ in 0..3 {
        let (status, answer) = ask(&short(7));
        assert_eq!(status, 200);
        assert_eq!(answer.expect("an answer")["result"]["content"][0]["text"], "\"awake\"");
    }
    let mut given_up = session.send(&endless);
    assert_eq!(given_up.head().expect("an answer").status, 200);
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    assert_eq!(session.send(&cancelled).reply().status, 202);
    assert_eq!(ask(&short(7)).0, 200);
    // Also once it is answered to somebody who has gone away.
    let mut gone = session.send(&message(8, "tools/call", call(SLEEP, json!({}))));
    assert_eq!(gone.head().expect("an answer").status, 200);
    drop(gone);
    assert_eq!(ask(&short(8)).0, 400, "going away does not end it");
    let start = Instant::now();
    while ask(&short(8)).0 != 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "the id is free again");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn whoever_begins_without_a_session_is_told_how_to() {
    let server = Server::start(&desk(&[entry(RUNTIME_ECHO_TOOL)], |_| ()));
    let text = message(1, "tools/list", json!({})).to_string();
    let problem = send(server.address(), &[], &text)
        .reply()
        .assert_problem("no session", 400, "request.invalid");
    let hint = problem["hint"].as_str().expect("a hint");
    assert!(
        hint.contains("`initialize`") && hint.contains(&format!("`MCP-Protocol-Version: {NEWEST}`")),
        "{hint}"
    );
}

#[test]
fn a_session_is_not_begun_again_and_listens_by_get_alone() {
    let server = Server::start(&desk(&[entry(RUNTIME_ECHO_TOOL)], |_| ()));
    let session = Session::begin(server.address(), &[]);
    // Without a field that says what is spoken, the session decides.
    let fields = [("Mcp-Session-Id", session.id.as_str())];
    let client = json!({ "name": "a", "version": "1" });
    let again = json!({ "protocolVersion": NEWEST, "capabilities": {}, "clientInfo": client });
    let listen = json!({ "notifications": { "toolsListChanged": true } });
    for (id, method, params, code) in [
        (7, "initialize", again, -32600),
        (8, "subscriptions/listen", listen, -32601),
    ] {
        let reply = send(server.address(), &fields, &message(id, method, params).to_string()).reply();
        assert_eq!(reply.status, 400, "{method}: {reply:?}");
        let answer = reply.json();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(code)),
            "{method}: {answer}"
        );
    }
    let list = session.result("tools/list", json!({}));
    assert_eq!(list["tools"][0]["name"], ECHO, "it goes on as it was");
}

#[test]
fn what_is_spoken_is_told() {
    let server = Server::start(&desk(&[entry(RUNTIME_ECHO_TOOL)], |_| ()));
    let told = ask_newest(server.address(), &[], "server/discover", json!({})).json();
    let versions = told["result"]["supportedVersions"].as_array().expect("a list");
    for version in [NEWEST, WITH_SESSIONS, "2025-06-18", "2025-03-26", "2024-11-05"] {
        assert!(versions.contains(&json!(version)), "{told}");
    }
    assert_eq!(
        told["result"]["capabilities"],
        json!({ "tools": { "listChanged": true } })
    );
    for version in ["2025-06-18", "2025-03-26", "2024-11-05"] {
        let params =
            json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "a", "version": "1" } });
        let mut wire = send(server.address(), &[], &message(0, "initialize", params).to_string());
        assert_eq!(wire.head().expect("an answer").status, 200);
        assert_eq!(wire.event().expect("an answer")["result"]["protocolVersion"], version);
    }
}

#[test]
fn a_stream_of_news_may_be_silent_and_ends_with_the_server() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["limits"] =
            json!({ "write_ms": 500, "idle_ms": 500, "requests_max": 2, "requests_per_caller_max": 2 });
    });
    let server = Server::start(&desk);
    let session = Session::begin(server.address(), &[]);
    let (mut older, head) = session.news();
    assert_eq!(
        (head.status, head.field("content-type")),
        (200, Some("text/event-stream"))
    );
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut newest = send_newest(server.address(), &[], "subscriptions/listen", wanted);
    assert_eq!(newest.head().expect("an answer").status, 200);
    let acknowledged = newest.event().expect("an answer");
    assert_eq!(
        acknowledged["method"], "notifications/subscriptions/acknowledged",
        "{acknowledged}"
    );
    // They take no place of a request, and nothing cuts them off.
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..3 {
        assert_eq!(server.invoke(ECHO, "{}").status, 200);
    }
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert!(older.event().is_none());
    assert!(newest.event().is_none_or(|last| last["result"].is_object()));
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    assert!(start.elapsed() < Duration::from_secs(20), "nobody waits for news");
}

#[test]
fn a_server_that_ends_waits_for_calls_of_sessions_as_for_all_others() {
    let begin = |server: &Server| {
        let session = Session::begin(server.address(), &[]);
        // Compiled before, so that the call takes no longer than it says.
        session.result("tools/call", call(SLEEP, json!({ "wait_ms": 1 })));
        let mut wire = session.send(&message(7, "tools/call", call(SLEEP, json!({ "wait_ms": 5000 }))));
        let head = wire.head().expect("an answer");
        let trace = head.field("aral-trace-id").expect("a trace id").to_owned();
        (session, wire, trace)
    };
    let end = |desk: &Desk, server: Server, trace: &str| {
        let (code, words) = server.wait();
        assert_eq!(code, Some(0), "{words}");
        assert!(!words.contains("cut off"), "{words}");
        let query = ["audit", "query", "--json", "--type", "invocation", "--trace", trace];
        let event = desk.aral(&query).object()["records"][0]["event"].to_string();
        assert!(
            event.contains("runtime-sleep") && !event.contains("call.cancelled"),
            "{event}"
        );
    };
    // Without a connection.
    let desk = desk(&[entry(RUNTIME_SLEEP)], |_| ());
    let server = Server::start(&desk);
    let (_session, wire, trace) = begin(&server);
    drop(wire);
    server.signal(Signal::TERM);
    end(&desk, server, &trace);
    // On a stream that was taken up again, which carries no news.
    let server = Server::start(&desk);
    let (session, mut wire, trace) = begin(&server);
    let last = wire.event_id();
    drop(wire);
    let (mut resumed, head) = session.resume(&last);
    assert_eq!(head.status, 200, "{last}");
    let (mut news, _) = session.news();
    server.signal(Signal::TERM);
    assert!(news.event().is_none(), "there will be none");
    let answer = resumed.event().expect("an answer");
    assert_eq!(answer["result"]["content"][0]["text"], "\"awake\"", "{answer}");
    end(&desk, server, &trace);
}

#[test]
fn a_call_that_ends_without_a_connection_is_answered_to_who_comes_back() {
    let desk = desk(&[entry(RUNTIME_SLEEP)], |_| ());
    let server = Server::start(&desk);
    let session = Session::begin(server.address(), &[]);
    // Compiled before, so that the call takes no longer than it says.
    session.result("tools/call", call(SLEEP, json!({ "wait_ms": 1 })));
    let mut wire = session.send(&message(7, "tools/call", call(SLEEP, json!({ "wait_ms": 3000 }))));
    let head = wire.head().expect("an answer");
    let trace = head.field("aral-trace-id").expect("a trace id").to_owned();
    let last = wire.event_id();
    drop(wire);
    assert_recorded(&desk, "invocation", &[&trace]);
    let (mut resumed, head) = session.resume(&last);
    assert_eq!(head.status, 200, "{last}");
    let answer = resumed.event().expect("an answer");
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&json!(7), &json!("\"awake\""))
    );
    assert!(resumed.event().is_none(), "and its stream ends");
}

/// Changes `aral.toml` and has the server read it again.
fn reload(desk: &Desk, server: &Server, change: impl FnOnce(&mut Value)) {
    desk.configure_more(change);
    server.signal(Signal::HUP);
}

#[test]
fn a_configuration_that_is_read_again_holds_in_sessions_too() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL), entry(RUNTIME_SLEEP)], |config| {
        config["serve"]["limits"] = json!({ "mcp_streams_max": 2 });
    });
    let server = Server::start(&desk);
    let [session, other] = [(); 2].map(|()| Session::begin(server.address(), &[]));
    let (_others, head) = other.news();
    assert_eq!(head.status, 200);
    // Its client opens it again, and the connection of the one before is still there.
    let (mut before, _) = session.news();
    let (mut news, _) = session.news();
    let names = || {
        let list = session.result("tools/list", json!({}));
        let tools = list["tools"].as_array().expect("a list").clone();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), [ECHO, SLEEP]);
    reload(&desk, &server, |config| {
        config["policy"]["capabilities"] = json!(["runtime-echo-*"]);
        config["serve"]["limits"] = json!({ "mcp_sessions_max": 1, "mcp_streams_max": 1 });
    });
    let told = news.event().expect("news");
    assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
    assert!(before.event().is_none(), "it has ended");
    assert_eq!(names(), [ECHO]);
    let mut hidden = session.send(&message(2, "tools/call", call(SLEEP, json!({ "wait_ms": 1 }))));
    assert_eq!(hidden.head().expect("an answer").status, 200);
    assert_eq!(hidden.event().expect("an answer")["error"]["code"], -32602);
    assert_eq!(
        Session::try_begin(server.address(), &[])
            .map(drop)
            .map_err(|head| head.status),
        Err(503)
    );
    let listen = json!({ "notifications": {} });
    let listening = ask_newest(server.address(), &[], "subscriptions/listen", listen);
    assert_eq!(listening.status, 503);
}

#[test]
fn mcp_sessions_max_and_mcp_session_idle_ms() {
    let start = |limits: Value| {
        Server::start(&desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
            config["serve"]["limits"] = limits
        }))
    };
    let status = |session: &Session| {
        let mut wire = session.send(&message(1, "tools/list", json!({})));
        wire.head().expect("an answer").status
    };
    let idle = || std::thread::sleep(Duration::from_millis(1500));
    let server = start(json!({ "mcp_sessions_max": 2 }));
    let [first, second] = [(); 2].map(|()| Session::begin(server.address(), &[]));
    let refused = Session::try_begin(server.address(), &[]).map(drop);
    assert_eq!(refused.map_err(|refused| refused.status), Err(503));
    assert_eq!([&first, &second].map(status), [200, 200]);
    assert_eq!(first.end().status, 204);
    let place = Session::begin(server.address(), &[]);
    assert_ne!(place.id, first.id);
    let server = start(json!({ "mcp_session_idle_ms": 300 }));
    let [first, _second] = [(); 2].map(|()| Session::begin(server.address(), &[]));
    idle();
    assert_eq!(status(&first), 404, "a session in which nothing is said ends");
}

#[test]
fn a_session_does_not_end_while_somebody_waits_in_it() {
    let server = Server::start(&desk(&[entry(RUNTIME_SLEEP)], |config| {
        config["serve"]["limits"] = json!({ "mcp_session_idle_ms": 2000 });
    }));
    let session = Session::begin(server.address(), &[]);
    // Without a token nothing is said until it ends.
    let mut wire = session.send(&message(7, "tools/call", call(SLEEP, json!({ "wait_ms": 5000 }))));
    assert_eq!(wire.head().expect("an answer").status, 200);
    let answer = wire.event().expect("an answer");
    assert_eq!(answer["result"]["content"][0]["text"], "\"awake\"", "{answer}");
    session.result("tools/list", json!({}));
}

#[test]
fn mcp_streams_max() {
    let desk = desk(&[entry(RUNTIME_ECHO_TOOL)], |config| {
        config["serve"]["limits"] = json!({ "mcp_streams_max": 1 });
    });
    let server = Server::start(&desk);
    let [session, other] = [(); 2].map(|()| Session::begin(server.address(), &[]));
    let (mut before, head) = session.news();
    assert_eq!(head.status, 200);
    // Its client opens it again, and the connection of the one before is still there.
    let (wire, head) = session.news();
    assert_eq!(head.status, 200);
    assert!(before.event().is_none(), "it has ended");
    assert_eq!(other.news().1.status, 503);
    drop((before, wire));
    let start = Instant::now();
    while other.news().1.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "the place is given back");
        std::thread::sleep(Duration::from_millis(100));
    }
}
