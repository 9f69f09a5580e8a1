//! Every key of `[serve.rates]`: what it limits is refused beyond it, with the name of the limit, and goes through where the
//! key says more. What several servers count together is in `rates_shared`.

use aral_contract::{Digest, metric};
use serde_json::{Value, json};

use super::metrics::{metrics, number};
use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::mcp::{self, NEWEST, ask_newest, newest};
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::wire::{Reply, request};

const ECHO: &str = "runtime-echo-tool";
const KEY: &str = "aral_a-key-of-the-tests";

/// Two at once, and no more while a test runs.
fn two() -> Value {
    json!({ "per_minute": 1, "burst": 2 })
}

/// A desk with these rates, two capabilities, and two callers with a persona each.
fn limited(rates: Value, change: impl FnOnce(&mut Value)) -> Desk {
    let desk = desk(|config| {
        config["serve"]["rates"] = rates;
        config["serve"]["listener"] = json!([
            { "address": "127.0.0.1:0", "anonymous": "tester" },
            { "address": "127.0.0.1:0", "anonymous": "other" },
        ]);
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json", "keys": [Digest::of(KEY.as_bytes()).to_string()] },
            { "name": "other", "persona": "other.json" },
        ]);
        change(config);
    });
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    let other = crate::support::guests::RUNTIME_TOOL_ERROR;
    desk.component(&other.bytes());
    desk.manifest(&[setup::entry(RUNTIME_ECHO_TOOL), setup::entry(other)]);
    let mut persona = setup::persona();
    persona["id"] = json!("other");
    let document = setup::sign(aral_contract::document::signed::Kind::Persona, &persona, &setup::key());
    desk.write("other.json", document.to_string().as_bytes());
    desk
}

fn server(rates: Value) -> Server {
    Server::start(&limited(rates, |_| ()))
}

/// A call on a connection of its own, at a listener and with fields.
fn call(server: &Server, listener: usize, id: &str, fields: &[(&str, &str)]) -> Reply {
    crate::support::wire::Wire::open(server.at(listener)).invoke(id, fields, "1")
}

fn list(server: &Server, fields: &[(&str, &str)]) -> Reply {
    server.wire().ask("GET", "/v1/capabilities", fields, "")
}

fn assert_refused(reply: &Reply, limit: &str) -> Value {
    let problem = reply.assert_problem(limit, 429, "rate.limited");
    assert_eq!(problem["violated-policies"], json!([limit]), "{reply:?}");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains(&format!("the limit `{limit}` is used up")), "{detail}");
    let wait: u64 = reply.field("retry-after").expect("a time").parse().expect("a number");
    assert!((1..=601).contains(&wait), "{limit}: {wait}");
    problem
}

#[test]
fn each_rate_stops_what_goes_beyond_it() {
    // The limit, and requests of which the third is beyond it: listener, capability. No capability: a list.
    let grep = "runtime-tool-error";
    type Refused = (usize, Option<&'static str>);
    let cases: [(&str, [Refused; 3], [Refused; 2]); 5] = [
        (
            "global",
            [(0, None), (1, Some(ECHO)), (0, Some(ECHO))],
            [(0, None), (1, None)],
        ),
        (
            "address",
            [(0, None), (1, Some(ECHO)), (0, Some(ECHO))],
            [(0, None), (1, None)],
        ),
        (
            "persona",
            [(0, None), (0, Some(ECHO)), (0, Some(grep))],
            [(0, None), (0, Some(ECHO))],
        ),
        (
            "capability",
            [(0, Some(ECHO)), (1, Some(ECHO)), (0, Some(ECHO))],
            [(0, Some(ECHO)), (1, Some(ECHO))],
        ),
        (
            "caller",
            [(0, Some(ECHO)), (0, Some(ECHO)), (0, Some(ECHO))],
            [(0, Some(ECHO)), (0, Some(ECHO))],
        ),
    ];
    let ask = |server: &Server, (listener, id): (usize, Option<&str>)| match id {
        Some(id) => call(server, listener, id, &[]),
        None => crate::support::wire::Wire::open(server.at(listener)).ask("GET", "/v1/capabilities", &[], ""),
    };
    for (limit, requests, more) in cases {
        let server = server(json!({ limit: two() }));
        let replies: Vec<Reply> = requests.into_iter().map(|request| ask(&server, request)).collect();
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200, 200, 429], "{limit}");
        let problem = assert_refused(&replies[2], limit);
        let hint = problem["hint"].as_str().expect("a line");
        let line = format!("aral.toml, [serve.rates]: {limit} = {{ per_minute = N, burst = M }}, N above 1");
        assert_eq!(hint, line);
        for request in more {
            assert_refused(&ask(&server, request), limit);
        }
        assert_eq!(server.get("/ready").status, 200, "{limit}: whoever watches is answered");
    }
    let open = server(json!({}));
    let reply = |_| (call(&open, 0, ECHO, &[]).status, list(&open, &[]).status);
    assert!(
        (0..10).map(reply).all(|both| both == (200, 200)),
        "nothing of that by default"
    );
}

#[test]
fn what_is_limited_for_one_is_not_for_another() {
    let persona = server(json!({ "persona": two() }));
    assert_eq!(
        (call(&persona, 0, ECHO, &[]).status, call(&persona, 0, ECHO, &[]).status),
        (200, 200)
    );
    assert_refused(&call(&persona, 0, ECHO, &[]), "persona");
    assert_eq!(call(&persona, 1, ECHO, &[]).status, 200);

    let capability = server(json!({ "capability": two(), "caller": two() }));
    assert_eq!(
        (
            call(&capability, 0, ECHO, &[]).status,
            call(&capability, 0, ECHO, &[]).status
        ),
        (200, 200)
    );
    assert_eq!(call(&capability, 0, ECHO, &[]).status, 429);
    assert_eq!(call(&capability, 0, "runtime-tool-error", &[]).status, 200);
    assert_eq!(list(&capability, &[]).status, 200);
}

#[test]
fn tiers_and_single_capabilities_have_rates_of_their_own() {
    let desk = limited(
        json!({ "persona": two(), "tiers": { "gold": { "per_minute": 1, "burst": 4 } } }),
        |config| config["policy"]["tier"] = json!({ "gold": {} }),
    );
    let mut persona = setup::persona();
    persona["tier"] = json!("gold");
    desk.persona(&persona);
    let server = Server::start(&desk);
    let gold: Vec<u16> = (0..5).map(|_| call(&server, 0, ECHO, &[]).status).collect();
    assert_eq!(gold, [200, 200, 200, 200, 429]);
    let problem = assert_refused(&call(&server, 0, ECHO, &[]), "persona");
    assert!(
        problem["hint"]
            .as_str()
            .expect("a line")
            .contains("[serve.rates.tiers]: gold = ")
    );
    let others: Vec<u16> = (0..3).map(|_| call(&server, 1, ECHO, &[]).status).collect();
    assert_eq!(others, [200, 200, 429]);

    let server = self::server(json!({ "capabilities": { ECHO: two() } }));
    let echo: Vec<u16> = (0..3).map(|_| call(&server, 0, ECHO, &[]).status).collect();
    assert_eq!(echo, [200, 200, 429]);
    assert_eq!(call(&server, 0, "runtime-tool-error", &[]).status, 200);
}

#[test]
fn the_cost_of_a_capability_is_put_aside_and_given_back() {
    let start = |price: Value, burst: u64| {
        let desk = limited(json!({ "cost": { "per_minute": 1, "burst": burst } }), |config| {
            config["policy"]["price"] = price;
            config["policy"]["agent"]["cost_per_hour_micro"] = json!(1_u64 << 40);
        });
        Server::start(&desk)
    };
    // A call costs ten, whatever it does.
    let server = start(json!({ "call_micro": 10 }), 25);
    let statuses: Vec<u16> = (0..3).map(|_| call(&server, 0, ECHO, &[]).status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_refused(&call(&server, 1, ECHO, &[]), "cost");
    assert_eq!(
        call(&server, 0, "runtime-tool-error", &[]).status,
        200,
        "each capability has its own"
    );
    assert_eq!(list(&server, &[]).status, 200);

    // What it can take is put aside, 30 s of it; what it took is little, and the rest comes back.
    let server = start(json!({ "second_micro": 10 }), 400);
    for _ in 0..10 {
        assert_eq!(call(&server, 0, ECHO, &[]).status, 200);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // A request that is no call costs nothing.
    let server = start(json!({ "call_micro": 10 }), 10);
    server
        .wire()
        .ask(
            "POST",
            "/v1/invoke/runtime-echo-tool",
            &[("Content-Type", "text/plain")],
            "1",
        )
        .assert_problem("no JSON", 415, "request.invalid");
    assert_eq!(call(&server, 0, ECHO, &[]).status, 200);
    // More than there ever is does not pass with time.
    let server = start(json!({ "call_micro": 10 }), 9);
    let reply = call(&server, 0, ECHO, &[]);
    let problem = reply.assert_problem("too dear", 429, "rate.limited");
    assert_eq!(reply.field("retry-after"), None);
    assert!(
        problem["hint"]
            .as_str()
            .expect("a line")
            .contains("cost = { …, burst = 10 }"),
        "{problem}"
    );
}

/// One call at a time, and a capability may cost what one call does.
fn one_call() -> Desk {
    let desk = limited(json!({ "cost": { "per_minute": 1, "burst": 10 } }), |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["runtime"] = json!({ "concurrent_calls_max": 1, "waiting_calls_max": 8, "wait_ms": 60_000 });
        config["policy"]["price"] = json!({ "call_micro": 10 });
        config["policy"]["agent"]["cost_per_hour_micro"] = json!(1_u64 << 40);
    });
    desk.component(&RUNTIME_SLEEP.bytes());
    desk.manifest(&[setup::entry(RUNTIME_ECHO_TOOL), setup::entry(RUNTIME_SLEEP)]);
    desk
}

#[test]
fn a_call_that_is_given_up_costs_others_something_only_if_its_guest_ran() {
    let desk = one_call();
    let server = Server::start(&desk);
    let mut params = mcp::call("runtime-sleep", json!({ "input": { "wait_ms": 25_000 } }));
    params["_meta"] = json!({ "progressToken": 1 });
    let mut running = mcp::send_newest(server.address(), &[], "tools/call", params);
    assert_eq!(running.head().expect("an answer").status, 200);
    while running.event().expect("news")["params"]["message"] != "running" {}

    let load = |series: &str| number(&metrics(&desk), series);
    let mut waiting = server.wire();
    let fields = [("Content-Type", "application/json")];
    waiting.send(&request("POST", &format!("/v1/invoke/{ECHO}"), &fields, "1"));
    until("a call waits for the place", || load(metric::CALLS_WAITING.name) > 0.0);
    assert_refused(&call(&server, 1, ECHO, &[]), "cost");
    drop(waiting);
    until("it waits no longer", || load(metric::CALLS_WAITING.name) == 0.0);

    drop(running);
    until("the place is free", || load(metric::CALLS_RUNNING.name) == 0.0);
    until("what only waited is given back", || {
        call(&server, 1, ECHO, &[]).status == 200
    });
    assert_refused(&call(&server, 1, "runtime-sleep", &[]), "cost");
}

#[test]
fn a_body_that_does_not_come_keeps_nobody_from_a_capability() {
    let server = Server::start(&one_call());
    let mut slow = server.wire();
    let fields = [
        ("Content-Type", "application/json"),
        ("Content-Length", "1"),
        ("Expect", "100-continue"),
    ];
    slow.send(&request("POST", &format!("/v1/invoke/{ECHO}"), &fields, ""));
    // It is told so once the server waits for the body.
    assert_eq!(slow.head().expect("an answer").status, 100);
    assert_eq!(call(&server, 1, ECHO, &[]).status, 200);
    slow.send("1");
    assert_refused(&slow.reply(), "cost");
}

#[test]
fn a_body_is_not_waited_for_where_a_limit_is_used_up() {
    for limit in ["capability", "caller", "persona", "global"] {
        let server = server(json!({ limit: two() }));
        let path = format!("/v1/invoke/{ECHO}");
        let begin = || {
            let fields = [
                ("Content-Type", "application/json"),
                ("Content-Length", "1"),
                ("Expect", "100-continue"),
            ];
            let mut slow = server.wire();
            slow.send(&request("POST", &path, &fields, ""));
            slow
        };
        assert_eq!(call(&server, 0, ECHO, &[]).status, 200, "{limit}");
        assert_eq!(begin().head().expect("an answer").status, 100, "{limit}");
        let used_up = || call(&server, 0, ECHO, &[]).status == 429;
        until("it is used up", used_up);
        assert_eq!(begin().head().expect("an answer").status, 429, "{limit}");
    }
}

#[test]
fn a_call_that_does_not_say_it_is_json_uses_up_nothing_of_its_capability() {
    let server = server(json!({ "capability": two() }));
    for _ in 0..3 {
        let fields = [("Content-Type", "text/plain"), ("Content-Length", "1")];
        let mut wire = server.wire();
        wire.send(&request("POST", &format!("/v1/invoke/{ECHO}"), &fields, "1"));
        assert_eq!(wire.reply().status, 415);
    }
    assert_eq!(call(&server, 0, ECHO, &[]).status, 200);
}

#[test]
fn a_caller_whose_body_is_refused_is_on_record_and_counts_for_its_persona() {
    let desk = limited(json!({ "persona": two() }), |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
    });
    let server = Server::start(&desk);
    let key = format!("Bearer {KEY}");
    let too_much = |path: &str| {
        let fields = [
            ("Authorization", key.as_str()),
            ("Content-Type", "application/json"),
            ("Content-Length", "2000000"),
        ];
        let mut wire = server.wire();
        wire.send(&request("POST", path, &fields, ""));
        wire.reply()
    };
    let invoke = format!("/v1/invoke/{ECHO}");
    for path in [invoke.as_str(), "/mcp"] {
        let reply = too_much(path);
        assert_eq!(reply.status, 413, "{path}: {reply:?}");
        let left = reply.field("ratelimit").expect("a field");
        assert!(
            left.contains("\"persona\"") && !left.contains("\"caller\""),
            "{path}: {left}"
        );
    }
    assert_refused(&too_much(&invoke), "persona");
    server.signal(rustix::process::Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    let found = desk.aral(&["audit", "query", "--json", "--type", "authentication"]);
    let found = found.object();
    let records = found["records"].as_array().expect("records");
    let by_key = records.iter().filter(|record| record["event"]["method"] == "api_key");
    assert_eq!(by_key.count(), 2, "{records:?}");
}

/// Two calls of a tool pass this limit.
fn two_tools(limit: &str) -> Desk {
    limited(json!({ limit: { "per_minute": 1, "burst": 20 } }), |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["policy"]["price"] = json!({ "call_micro": 10 });
        config["policy"]["agent"]["cost_per_hour_micro"] = json!(1_u64 << 40);
        if limit != "cost" {
            config["serve"]["rates"][limit] = two();
        }
    })
}

#[test]
fn a_query_changes_nothing_of_what_a_tool_counts() {
    for limit in ["capability", "caller", "cost"] {
        let server = Server::start(&two_tools(limit));
        let tool = |query: &str| {
            let fields = [
                ("Content-Type", "application/json"),
                ("Accept", "application/json, text/event-stream"),
                ("MCP-Protocol-Version", NEWEST),
                ("Mcp-Method", "tools/call"),
                ("Mcp-Name", ECHO),
            ];
            let params = json!({ "name": ECHO, "arguments": { "input": 1 } });
            let body = newest(1, "tools/call", params).to_string();
            server.wire().ask("POST", &format!("/mcp{query}"), &fields, &body)
        };
        for query in ["?x=1", "?version=%3D9.9.9"] {
            let reply = tool(query);
            assert_eq!(reply.json()["result"]["isError"], false, "{limit}: {reply:?}");
        }
        assert_refused(&tool("?x=1"), limit);
    }
}

#[test]
fn a_tool_that_is_called_counts_like_any_call() {
    for limit in ["capability", "caller", "cost"] {
        let server = Server::start(&two_tools(limit));
        let tool = |name: &str| {
            ask_newest(
                server.address(),
                &[],
                "tools/call",
                json!({ "name": name, "arguments": { "input": 1 } }),
            )
        };
        // What is not there, or is no call, uses nothing up.
        for _ in 0..3 {
            assert_eq!(tool("nothing").json()["error"]["code"], -32602);
            let list = ask_newest(server.address(), &[], "tools/list", json!({}));
            assert_eq!(list.status, 200, "{list:?}");
        }
        assert_eq!(call(&server, 0, ECHO, &[]).status, 200);
        let reply = tool(ECHO);
        assert_eq!(reply.json()["result"]["isError"], false, "{limit}: {reply:?}");
        assert_refused(&tool(ECHO), limit);
        assert_refused(&call(&server, 0, ECHO, &[]), limit);
        let other = tool("runtime-tool-error");
        assert_eq!(other.status, 200, "{limit}: {other:?}");
    }
    // What was put aside and not used comes back.
    let desk = limited(json!({ "cost": { "per_minute": 1, "burst": 400 } }), |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["policy"]["price"] = json!({ "second_micro": 10 });
        config["policy"]["agent"]["cost_per_hour_micro"] = json!(1_u64 << 40);
    });
    let server = Server::start(&desk);
    for _ in 0..10 {
        let params = json!({ "name": ECHO, "arguments": { "input": 1 } });
        let reply = ask_newest(server.address(), &[], "tools/call", params);
        assert_eq!(reply.status, 200, "{reply:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_repeated_request_costs_what_one_does() {
    let desk = limited(json!({ "cost": { "per_minute": 1, "burst": 15 } }), |config| {
        config["policy"]["price"] = json!({ "call_micro": 5 });
    });
    let server = Server::start(&desk);
    let key = [("Idempotency-Key", "k")];
    for _ in 0..5 {
        assert_eq!(call(&server, 0, ECHO, &key).status, 200);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let more: Vec<u16> = (0..3).map(|_| call(&server, 0, ECHO, &[]).status).collect();
    assert_eq!(more, [200, 200, 429]);
}

#[test]
fn who_may_not_call_a_capability_uses_up_nothing_of_it() {
    let desk = limited(json!({ "capability": two() }), |_| ());
    let mut persona = setup::persona();
    persona["id"] = json!("other");
    persona["constraints"]["allowed_capabilities"] = json!(["none-*"]);
    let document = setup::sign(aral_contract::document::signed::Kind::Persona, &persona, &setup::key());
    desk.write("other.json", document.to_string().as_bytes());
    let server = Server::start(&desk);
    for _ in 0..5 {
        call(&server, 1, ECHO, &[]).assert_problem("denied", 403, "permission.denied");
    }
    assert_eq!(
        (call(&server, 0, ECHO, &[]).status, call(&server, 0, ECHO, &[]).status),
        (200, 200)
    );
}

#[test]
fn who_guesses_keys_is_not_heard_any_more() {
    let desk = limited(json!({ "failures": { "per_minute": 1, "burst": 3 } }), |config| {
        config["serve"]["listener"] = json!([{ "address": "127.0.0.1:0" }]);
        config["serve"]["trusted_proxies"] = json!(["127.0.0.1/32"]);
    });
    let server = Server::start(&desk);
    let right = format!("Bearer {KEY}");
    let from =
        |address: &'static str, key: &str| list(&server, &[("X-Forwarded-For", address), ("Authorization", key)]);
    for _ in 0..3 {
        assert_eq!(from("192.0.2.1", &right).status, 200, "the right key is no failure");
        from("192.0.2.1", "Bearer aral_wrong").assert_problem("wrong", 401, "authentication.failed");
    }
    for key in ["Bearer aral_wrong", &right] {
        assert_refused(&from("192.0.2.1", key), "failures");
    }
    assert_eq!(
        from("192.0.2.2", &right).status,
        200,
        "another address is not concerned"
    );
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let log = desk.audit();
    assert_eq!(log.matches("rates.failures").count(), 1, "said once: {log}");
    assert!(log.contains("192.0.2.1"), "{log}");
}

#[test]
fn who_shows_nothing_keeps_nobody_out() {
    let desk = limited(json!({ "failures": { "per_minute": 1, "burst": 3 } }), |config| {
        config["serve"]["listener"] = json!([{ "address": "127.0.0.1:0" }]);
    });
    let server = Server::start(&desk);
    for _ in 0..10 {
        list(&server, &[]).assert_problem("nothing", 401, "authentication.failed");
    }
    let right = format!("Bearer {KEY}");
    assert_eq!(list(&server, &[("Authorization", &right)]).status, 200);
    for _ in 0..3 {
        let other = [("Authorization", "Basic YTpi")];
        list(&server, &other).assert_problem("another scheme", 401, "authentication.failed");
    }
    assert_refused(&list(&server, &[("Authorization", &right)]), "failures");
}

#[test]
fn an_address_counts_for_what_asks_who_calls_whatever_the_method() {
    let server = server(json!({ "address": { "per_minute": 1, "burst": 1 } }));
    let ask = |method: &str, path: &str| server.wire().ask(method, path, &[], "");
    for _ in 0..3 {
        assert_eq!(ask("GET", "/none").status, 404);
        assert_eq!(ask("DELETE", "/ready").status, 405, "it asks nobody");
    }
    assert_eq!(ask("DELETE", "/v1/capabilities").status, 405);
    assert_refused(&ask("DELETE", "/v1/capabilities"), "address");
}

#[test]
fn only_a_trusted_proxy_is_believed_about_an_address() {
    let through = |proxies: Value, field: &str, values: &[&str]| -> Vec<u16> {
        let desk = limited(json!({ "address": { "per_minute": 1, "burst": 1 } }), |config| {
            config["serve"]["trusted_proxies"] = proxies;
        });
        let server = Server::start(&desk);
        values
            .iter()
            .map(|value| list(&server, &[(field, value)]).status)
            .collect()
    };
    let (trusted, none) = (json!(["127.0.0.0/8"]), json!([]));
    let two = ["192.0.2.1", "192.0.2.2"];
    assert_eq!(through(trusted.clone(), "X-Forwarded-For", &two), [200, 200]);
    assert_eq!(through(none, "X-Forwarded-For", &two), [200, 429], "made up");
    assert_eq!(
        through(json!(["10.0.0.0/8"]), "X-Forwarded-For", &two),
        [200, 429],
        "made up"
    );
    assert_eq!(
        through(trusted.clone(), "Forwarded", &["for=192.0.2.1", "for=192.0.2.2"]),
        [200, 200]
    );
    // What a caller writes left of what the proxy adds makes it nobody else.
    let made_up = ["198.51.100.1, 192.0.2.1", "198.51.100.2, 192.0.2.1"];
    assert_eq!(through(trusted.clone(), "X-Forwarded-For", &made_up), [200, 429]);
    // Whoever has one address of a network of IPv6 has all.
    let one_network = ["2001:db8:1:2::1", "2001:db8:1:2:3::1", "2001:db8:1:3::1"];
    assert_eq!(through(trusted, "X-Forwarded-For", &one_network), [200, 429, 200]);
}

#[test]
fn a_field_that_the_proxy_does_not_write_makes_nobody_somebody_else() {
    // Three callers or one, as each of the fields says it.
    let three = |prefix: &str| [1, 2, 3].map(|number| format!("{prefix}192.0.2.{number}"));
    let one = |prefix: &str| [0; 3].map(|_| format!("{prefix}192.0.2.1"));
    let (many_listed, one_listed) = (three(""), one(""));
    let (many_forwarded, one_forwarded) = (three("for="), one("for="));
    let through = |field: Option<&str>, listed: &[String; 3], forwarded: &[String; 3]| -> Vec<u16> {
        let desk = limited(json!({ "address": { "per_minute": 1, "burst": 1 } }), |config| {
            config["serve"]["trusted_proxies"] = json!(["127.0.0.0/8"]);
            if let Some(field) = field {
                config["serve"]["forwarded"] = json!(field);
            }
        });
        let server = Server::start(&desk);
        let fields = listed.iter().zip(forwarded);
        let ask = |(listed, forwarded): (&String, &String)| {
            list(&server, &[("X-Forwarded-For", listed), ("Forwarded", forwarded)]).status
        };
        fields.map(ask).collect()
    };
    for (field, many_in_listed, many_in_forwarded) in [
        (Some("x-forwarded-for"), [200_u16; 3], [200_u16, 429, 429]),
        (Some("forwarded"), [200, 429, 429], [200; 3]),
        // Where nobody says which one it is, the proxy asks whenever they disagree.
        (None, [200, 200, 429], [200, 200, 429]),
    ] {
        assert_eq!(
            through(field, &many_listed, &one_forwarded),
            many_in_listed,
            "{field:?}"
        );
        assert_eq!(
            through(field, &one_listed, &many_forwarded),
            many_in_forwarded,
            "{field:?}"
        );
    }
}

#[test]
fn keys_max() {
    let through = |rates: Value| -> Vec<u16> {
        let desk = limited(rates, |config| {
            config["serve"]["trusted_proxies"] = json!(["127.0.0.0/8"])
        });
        let server = Server::start(&desk);
        let from = |number: u8| list(&server, &[("X-Forwarded-For", &format!("192.0.2.{number}"))]).status;
        (1..=5).chain([1, 2]).map(from).collect()
    };
    let one = json!({ "per_minute": 1, "burst": 1 });
    let few = through(json!({ "address": one, "keys_max": 2 }));
    assert_eq!(few, [200, 200, 200, 429, 429, 429, 429], "the rest have one together");
    assert_eq!(through(json!({ "address": one })), [200, 200, 200, 200, 200, 429, 429]);
}

#[test]
fn every_answer_to_a_caller_says_what_is_left() {
    let server = server(json!({
        "address": { "per_second": 10, "burst": 100 },
        "persona": { "per_minute": 1, "burst": 5 },
        "caller": { "per_minute": 2, "burst": 3 },
        "global": { "per_minute": 1, "burst": 4 },
    }));
    let reply = call(&server, 0, ECHO, &[]);
    assert_eq!(
        reply.field("ratelimit-policy"),
        Some(r#""address";q=100;w=10, "persona";q=5;w=300, "caller";q=3;w=90"#)
    );
    let left = reply.field("ratelimit").expect("a field");
    assert!(left.starts_with(r#""address";r=99;t=1, "persona";r=4;t="#), "{left}");
    let reply = call(&server, 0, "none", &[]);
    reply.assert_problem("unknown", 404, "capability.unknown");
    let left = reply.field("ratelimit").expect("a field");
    assert!(
        left.contains(r#""persona";r=3;"#) && !left.contains("caller"),
        "no call: {left}"
    );
    assert_eq!(
        (call(&server, 0, ECHO, &[]).status, call(&server, 0, ECHO, &[]).status),
        (200, 200)
    );
    let refused = call(&server, 0, ECHO, &[]);
    assert_refused(&refused, "global");
    let left = refused.field("ratelimit").expect("a field");
    assert!(left.contains(r#""global";r=0;t="#), "{left}");
    assert!(
        refused
            .field("ratelimit-policy")
            .expect("a field")
            .ends_with(r#""global";q=4;w=240"#)
    );
    let reset: u64 = left.rsplit("t=").next().expect("a time").parse().expect("a number");
    let wait: u64 = refused.field("retry-after").expect("a time").parse().expect("a number");
    assert!(reset <= wait, "{refused:?}");
    assert_eq!(server.get("/ready").field("ratelimit"), None);
}

#[test]
fn rates_and_proxies_are_read_again_and_what_was_counted_stays_counted() {
    let desk = limited(json!({ "persona": two() }), |_| ());
    let server = Server::start(&desk);
    let statuses = |count: usize| -> Vec<u16> { (0..count).map(|_| call(&server, 0, ECHO, &[]).status).collect() };
    assert_eq!(statuses(3), [200, 200, 429]);
    let reload = |change: &dyn Fn(&mut Value)| {
        desk.configure_more(change);
        desk.aral(&["reload"])
    };
    let more = reload(&|config| config["serve"]["rates"]["persona"] = json!({ "per_minute": 1, "burst": 5 }));
    more.assert("more", 0, &[]);
    assert_eq!(statuses(4), [200, 200, 200, 429], "two of five were taken before");
    let proxies = reload(&|config| {
        config["serve"]["rates"] = json!({
            "address": { "per_minute": 1, "burst": 1 },
            "persona": { "per_minute": 1, "burst": 1000 },
        });
        config["serve"]["trusted_proxies"] = json!(["127.0.0.0/8"]);
    });
    proxies.assert("proxies", 0, &[]);
    let from = |address: &str| list(&server, &[("X-Forwarded-For", address)]).status;
    assert_eq!(
        (from("192.0.2.1"), from("192.0.2.2"), from("192.0.2.1")),
        (200, 200, 429)
    );
    let moved = reload(&|config| config["serve"]["rates"]["redis"] = json!({ "url": "redis://127.0.0.1:1" }));
    moved.assert("moved", 2, &["cannot change while it runs", "[serve.rates.redis]"]);
    assert_eq!(from("192.0.2.3"), 200, "and nothing has changed");
}

#[test]
fn why_redis_cannot_be_asked_is_told_to_the_operator_and_to_nobody_else() {
    // Nobody is there.
    let desk = limited(json!({ "redis": { "url": "redis://127.0.0.1:1" } }), |_| ());
    let server = Server::start(&desk);
    let problem = call(&server, 0, ECHO, &[]).assert_problem("down", 503, "host.unavailable");
    assert!(!problem.to_string().contains("when_down"), "{problem}");
    let status = desk.aral(&["status", "--json"]).object();
    assert_eq!(status["status"], "failing", "{status}");
    let checks = status["checks"].as_array().expect("a list");
    let limits = checks.iter().find(|check| check["name"] == "limits");
    let fault = limits.and_then(|check| check["fault"].as_str()).unwrap_or_default();
    for part in ["when_down = \"refuse\"", "refused"] {
        assert!(fault.contains(part), "`{part}` is not in {status}");
    }
    // One Redis takes no server out.
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn a_password_in_another_variable_keeps_no_configuration_from_holding() {
    // Nobody is there, and the server counts for itself.
    let redis = |variable: &str| {
        json!({
            "url": "redis://127.0.0.1:1", "when_down": "local", "timeout_ms": 250,
            "password_environment": variable,
        })
    };
    let desk = desk(|config| config["serve"]["rates"] = json!({ "redis": redis("ONE") }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start_in(&desk, &[], &[("ONE", "a-password-of-the-tests")]);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    let reload = |variable: &str, capabilities: Value| {
        desk.configure_more(|config| {
            config["serve"]["rates"]["redis"] = redis(variable);
            config["policy"]["capabilities"] = capabilities;
        });
        let run = desk.aral(&["reload", "--json"]);
        run.assert(variable, 0, &[]);
        run.object()["warnings"].clone()
    };
    let warnings = reload("TWO", json!([]));
    let warning = warnings[0].as_str().expect("a text");
    assert!(warning.contains("until a restart the password"), "{warning}");
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    assert_ne!(server.invoke(ECHO, "1").status, 200, "what was revoked");
    assert_eq!(reload("TWO", json!(["*"])), json!([]), "it is said once");
    assert_eq!(reload("ONE", json!(["*"])), json!([]), "that of the start");
    assert_eq!(server.invoke(ECHO, "1").status, 200);
}
