//! Who is not let in, and to what: one denial for each address of the server, and a test that no address is without.

use std::collections::BTreeSet;

use aral_contract::Digest;
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::setup;

const KEY: &str = "aral_a-key-of-the-tests";

/// What each address that needs a caller is asked, and the status for one who is a caller.
const CLOSED: [(&str, &str, &str, u16); 4] = [
    ("POST", "/v1/invoke/{capability}", "/v1/invoke/runtime-echo-tool", 200),
    ("GET", "/v1/capabilities", "/v1/capabilities", 200),
    (
        "GET",
        "/v1/capabilities/{id}",
        "/v1/capabilities/runtime-echo-tool",
        200,
    ),
    ("GET", "/v1/receipts/{seq}", "/v1/receipts/0", 404),
];
/// What asks nobody who they are.
const OPEN: [&str; 5] = [
    "/health",
    "/ready",
    "/openapi.json",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
];

/// A listener that wants a key.
fn closed() -> Desk {
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"][0]["keys"] = json!([Digest::of(KEY.as_bytes()).to_string()]);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

fn ask(server: &Server, method: &str, path: &str, fields: &[(&str, &str)]) -> crate::support::wire::Reply {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(fields);
    server
        .wire()
        .ask(method, path, &all, if method == "POST" { "1" } else { "" })
}

#[test]
fn every_address_is_listed_here() {
    let document: Value = serde_json::from_str(&aral_host::protocol::openapi()).expect("JSON");
    let paths: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let listed = CLOSED.iter().map(|(_, path, ..)| *path).chain(OPEN);
    assert_eq!(paths, listed.map(str::to_owned).collect());
    for (method, path, ..) in CLOSED {
        let operations = document["paths"][path].as_object().expect("operations");
        let methods: Vec<String> = operations.keys().map(|one| one.to_uppercase()).collect();
        assert_eq!(methods, [method], "{path}");
    }
}

#[test]
fn without_a_key_nothing_is_reached() {
    let server = Server::start(&closed());
    for (method, _, path, status) in CLOSED {
        let authorization = |value| [("Authorization", value)];
        for (case, fields) in [
            ("no key", &[][..]),
            ("an unknown key", &authorization("Bearer aral_another")),
            ("no key of ours", &authorization("Bearer eyJhbGciOiJub25lIn0.e30.")),
            ("another scheme", &authorization("Basic YTpi")),
            ("a part of the key", &authorization("Bearer aral_a-key-of-the-test")),
            (
                "two keys",
                &[
                    ("Authorization", "Bearer aral_x"),
                    ("Authorization", &format!("Bearer {KEY}")),
                ],
            ),
        ] {
            let case = format!("{method} {path}, {case}");
            let reply = ask(&server, method, path, fields);
            let problem = reply.assert_problem(&case, 401, "authentication.failed");
            assert_eq!(
                problem["detail"], "it is not known who calls",
                "{case}: the same for all"
            );
            assert_eq!(reply.field("www-authenticate"), Some("Bearer"), "{case}");
        }
        let other = ask(&server, "PUT", path, &[]);
        other.assert_problem("a method that is not there", 401, "authentication.failed");
        let key = format!("Bearer {KEY}");
        assert_eq!(
            ask(&server, method, path, &[("Authorization", &key)]).status,
            status,
            "{path}"
        );
    }
}

#[test]
fn a_wrong_key_is_refused_where_no_key_is_needed() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    for (method, _, path, status) in CLOSED {
        assert_eq!(ask(&server, method, path, &[]).status, status, "{path}");
        ask(&server, method, path, &[("Authorization", "Bearer aral_wrong")]).assert_problem(
            path,
            401,
            "authentication.failed",
        );
    }
}

#[test]
fn what_the_persona_may_not_call_is_neither_listed_nor_shown_nor_run() {
    let desk = desk(|_| ());
    let (allowed, forbidden) = (setup::entry(RUNTIME_ECHO_TOOL), setup::entry(RUNTIME_SLEEP));
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    desk.component(&RUNTIME_SLEEP.bytes());
    desk.manifest(&[allowed, forbidden]);
    let mut persona = setup::persona();
    persona["constraints"]["allowed_capabilities"] = json!(["runtime-echo-*"]);
    desk.persona(&persona);
    let server = Server::start(&desk);
    let list = server.get("/v1/capabilities").json();
    let ids: Vec<&Value> = list["capabilities"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, ["runtime-echo-tool"]);
    let problem = server
        .get("/v1/capabilities/runtime-sleep")
        .assert_problem("show", 403, "permission.denied");
    assert!(
        problem["hint"]
            .as_str()
            .expect("a hint")
            .contains("allowed_capabilities"),
        "{problem}"
    );
    server
        .invoke("runtime-sleep", "{}")
        .assert_problem("invoke", 403, "permission.denied");
    assert_eq!(server.get("/v1/capabilities/runtime-echo-tool").status, 200);
}

#[test]
fn who_asks_for_what_is_not_there_is_told_where_the_list_is() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    for reply in [
        server.invoke("none", "{}"),
        server.get("/v1/capabilities/none"),
        server.invoke("runtime-echo-tool?version=%5E2", "{}"),
    ] {
        let problem = reply.assert_problem("it is not there", 404, "capability.unknown");
        assert_eq!(problem["hint"], "list what you may call: `GET /v1/capabilities`");
    }
}

#[test]
fn each_caller_has_its_own_persona() {
    let desk = desk(|config| {
        config["serve"]["listener"] = json!([
            { "address": "127.0.0.1:0", "anonymous": "tester" },
            { "address": "127.0.0.1:0", "anonymous": "nobody" },
        ]);
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json" },
            { "name": "nobody", "persona": "nobody.json" },
        ]);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let nobody = json!({ "id": "nobody", "name": "Nobody" });
    let document = setup::sign(aral_contract::document::signed::Kind::Persona, &nobody, &setup::key());
    desk.write("nobody.json", document.to_string().as_bytes());
    let server = Server::start(&desk);
    let invoke = |index| crate::support::wire::Wire::open(server.at(index)).invoke("runtime-echo-tool", &[], "1");
    assert_eq!(invoke(0).status, 200);
    invoke(1).assert_problem("nobody", 403, "permission.denied");
}

#[test]
fn what_asks_nobody_answers_so_many_times_a_second() {
    for path in OPEN {
        let desk = desk(|config| {
            config["serve"]["limits"] = json!({ "public_per_second": 2 });
            config["serve"]["trusted_proxies"] = json!(["127.0.0.1/32"]);
        });
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let server = Server::start(&desk);
        let from = |address| server.wire().ask("GET", path, &[("X-Forwarded-For", address)], "");
        let replies: Vec<_> = (0..20).map(|_| from("192.0.2.1")).collect();
        assert_ne!(from("192.0.2.2").status, 429, "another address is not concerned");
        let refused = replies.iter().find(|reply| reply.status == 429).expect("a refusal");
        let problem = refused.assert_problem(path, 429, "rate.limited");
        assert_eq!(refused.field("retry-after"), Some("1"));
        let detail = problem["detail"].as_str().expect("a text");
        assert!(
            detail.starts_with("the limit `public_per_second` is used up"),
            "{detail}"
        );
        assert_eq!(problem["violated-policies"], json!(["public_per_second"]), "{path}");
        assert_eq!(
            problem["hint"], "aral.toml, [serve.limits]: public_per_second = N, N above 2",
            "{path}"
        );
        assert_eq!(
            server.invoke("runtime-echo-tool", "1").status,
            200,
            "callers are not concerned"
        );
    }
}

#[test]
fn only_known_hosts_and_listed_pages_are_answered() {
    let desk = desk(|config| {
        config["serve"]["listener"] = json!([
            { "address": "127.0.0.1:0", "anonymous": "tester" },
            {
                "address": "127.0.0.1:0", "anonymous": "tester",
                "hosts": ["aral.example"], "origins": ["https://app.example"],
            },
        ]);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let ask = |index, method: &str, path: &str, fields: &[(&str, &str)]| {
        crate::support::wire::Wire::open(server.at(index)).ask(method, path, fields, "")
    };
    for path in ["/v1/capabilities", "/health", "/ready", "/openapi.json", "/none"] {
        let named = ask(0, "GET", path, &[("Host", "evil.example")]).assert_problem(path, 421, "request.invalid");
        let page = ask(0, "GET", path, &[("Origin", "https://evil.example")]);
        let page = page.assert_problem(path, 403, "request.invalid");
        for (problem, key) in [(named, "hosts"), (page, "origins")] {
            assert_eq!(
                problem["hint"],
                format!("aral.toml, [[serve.listener]]: {key} = [\"…\"]"),
                "a stranger does not learn where it listens"
            );
        }
        ask(0, "GET", path, &[("Host", "aral.example")]).assert_problem(path, 421, "request.invalid");
        ask(0, "GET", path, &[("Origin", "https://app.example")]).assert_problem(path, 403, "request.invalid");
        ask(1, "GET", path, &[("Origin", "https://evil.example")]).assert_problem(path, 403, "request.invalid");
        ask(1, "GET", path, &[("Origin", "null")]).assert_problem(path, 403, "request.invalid");
        ask(1, "GET", path, &[("Sec-Fetch-Site", "cross-site")]).assert_problem(path, 403, "request.invalid");
    }
    assert_eq!(
        ask(1, "GET", "/v1/capabilities", &[("Host", "aral.example:443")]).status,
        200
    );
    let page = [("Origin", "https://app.example")];
    let reply = ask(1, "GET", "/v1/capabilities", &page);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(reply.field("access-control-allow-credentials"), None);
    let preflight = [
        page[0],
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let allowed = ask(1, "OPTIONS", "/v1/invoke/runtime-echo-tool", &preflight);
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.field("access-control-allow-methods"), Some("GET,POST"));
    let plain = ask(0, "OPTIONS", "/v1/invoke/runtime-echo-tool", &[]);
    plain.assert_problem("no page is listed", 405, "request.invalid");
}
