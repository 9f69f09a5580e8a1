//! Signed requests: which are taken, which are not and why, and who must sign.

use std::time::Duration;

use aral_contract::Digest;
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::issuer::now;
use crate::support::server::{Server, desk};
use crate::support::signer::{self, Signed};
use crate::support::wire::{self, Reply};

const ECHO: &str = "runtime-echo-tool";
const KEY: &str = "aral_a-key-of-the-tests";

/// A desk with a caller that has a key and signs as `presence` says.
fn signing(presence: &str, change: impl FnOnce(&mut Value)) -> Desk {
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"] = json!([{
            "name": "tester", "persona": "persona.json", "keys": [Digest::of(KEY.as_bytes()).to_string()],
            "signature": presence, "signature_keys": ["signer.pub.pem"],
        }]);
        config["audit"]["repeats_max"] = json!(100);
        change(config);
    });
    let pem = signer::key().public().to_pem().expect("PEM");
    desk.write("signer.pub.pem", pem.as_bytes());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

/// A server that takes what is signed from now on.
fn start(desk: &Desk) -> Server {
    let server = Server::start(desk);
    until_after(now());
    server
}

/// Until this second is over: signatures say no more than the second, and of the one in which a server began none is taken.
fn until_after(second: i64) {
    while now() <= second {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn good(nonce: &str) -> Signed {
    Signed::call(ECHO, "[1]", nonce).with("Authorization", &format!("Bearer {KEY}"))
}

fn send(server: &Server, request: &Signed, fields: &[(String, String)]) -> Reply {
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    server
        .wire()
        .ask(request.method, &request.target(), &fields, &request.body)
}

/// The fields alone, of which one says that a body follows that is too large.
fn too_much(server: &Server, request: &Signed, fields: &[(String, String)]) -> Reply {
    let mut head = request.clone();
    head.body.clear();
    let mut fields = fields.to_vec();
    fields.push(("Content-Length".to_owned(), "2000000".to_owned()));
    send(server, &head, &fields)
}

fn sign_and_send(server: &Server, request: &Signed) -> Reply {
    send(server, request, &request.sign(&signer::key()))
}

/// What the audit log says of authentication, once the server has ended.
fn recorded(desk: &Desk, server: Server) -> Vec<Value> {
    server.signal(rustix::process::Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    let found = desk.aral(&["audit", "query", "--json", "--type", "authentication"]);
    let records = found.object()["records"].as_array().expect("records").clone();
    records.into_iter().map(|record| record["event"].clone()).collect()
}

/// What it says of refusals.
fn refusals(desk: &Desk, server: Server) -> Vec<(String, String)> {
    let events = recorded(desk, server).into_iter();
    let refused = events.filter(|event| event["success"] == false);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    refused
        .map(|event| (text(&event["method"]), text(&event["reason"])))
        .collect()
}

#[test]
fn who_must_sign_is_let_in_with_a_signature_and_not_without() {
    let desk = signing("required", |_| ());
    let server = start(&desk);
    let reply = sign_and_send(&server, &good("1"));
    assert_eq!((reply.status, reply.body.as_str()), (200, "[1]"), "{reply:?}");
    let mut list = good("2");
    (list.method, list.path, list.query) = ("GET", "/v1/capabilities".to_owned(), Some("after=a%40b"));
    list.fields.retain(|(name, _)| name != "Content-Digest");
    list.body.clear();
    assert_eq!(sign_and_send(&server, &list).status, 200);
    let key = format!("Bearer {KEY}");
    let unsigned = server.wire().invoke(ECHO, &[("Authorization", &key)], "[1]");
    unsigned.assert_problem("unsigned", 401, "authentication.failed");
    assert_eq!(
        refusals(&desk, server),
        [("signature".to_owned(), "no signature".to_owned())]
    );
}

#[test]
fn who_may_sign_is_let_in_without_and_refused_with_a_wrong_one() {
    let server = start(&signing("optional", |_| ()));
    let key = format!("Bearer {KEY}");
    assert_eq!(
        server.wire().invoke(ECHO, &[("Authorization", &key)], "[1]").status,
        200
    );
    assert_eq!(sign_and_send(&server, &good("1")).status, 200);
    let mut changed = good("2");
    let fields = changed.sign(&signer::key());
    changed.body = "[2]".to_owned();
    send(&server, &changed, &fields).assert_problem("changed", 401, "authentication.failed");
    // Half a signature is a wrong one, and not none.
    let mut half = good("3");
    half.fields = half.sign(&signer::key());
    half.fields.retain(|(name, _)| name != "Signature");
    send(&server, &half, &half.fields).assert_problem("half", 401, "authentication.failed");
}

#[test]
fn whoever_signs_is_known_by_that_where_a_listener_says_who_it_is() {
    let desk = signing("required", |config| {
        config["serve"]["listener"][0]["anonymous"] = json!("tester")
    });
    let server = start(&desk);
    assert_eq!(sign_and_send(&server, &Signed::call(ECHO, "[1]", "1")).status, 200);
    server
        .wire()
        .invoke(ECHO, &[], "[1]")
        .assert_problem("unsigned", 401, "authentication.failed");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let found = desk
        .aral(&["audit", "query", "--json", "--type", "authentication"])
        .object();
    let said = |event: &Value| (event["method"].clone(), event["success"].clone());
    let events = found["records"].as_array().expect("records").iter();
    let events: Vec<_> = events.map(|record| said(&record["event"])).collect();
    assert!(events.contains(&(json!("signature"), json!(true))), "{events:?}");
    assert!(events.contains(&(json!("signature"), json!(false))), "{events:?}");
}

#[test]
fn a_signature_without_a_credential_is_refused_and_recorded_as_such() {
    let desk = signing("required", |_| ());
    let server = start(&desk);
    assert_eq!(sign_and_send(&server, &good("1")).status, 200);
    let alone = sign_and_send(&server, &Signed::call(ECHO, "[1]", "2"));
    alone.assert_problem("a signature alone", 401, "authentication.failed");
    server
        .wire()
        .invoke(ECHO, &[], "[1]")
        .assert_problem("nothing", 401, "authentication.failed");
    let refused = |reason: &str| ("none".to_owned(), reason.to_owned());
    assert_eq!(
        refusals(&desk, server),
        [
            refused("a signature, and no credential beside it"),
            refused("no credential")
        ]
    );
}

#[test]
fn every_attack_is_refused_in_the_same_words_and_recorded_with_its_reason() {
    let desk = signing("required", |_| ());
    let server = start(&desk);
    type Attack<'a> = (&'a str, &'a dyn Fn(&mut Signed), &'a dyn Fn(&mut Signed), &'a str);
    let nothing: &dyn Fn(&mut Signed) = &|_| ();
    fn replace(request: &mut Signed, name: &str, change: impl Fn(&str) -> String) {
        for (field, value) in &mut request.fields {
            if field == name {
                *value = change(value);
            }
        }
    }
    let attacks: &[Attack<'_>] = &[
        (
            "body",
            nothing,
            &|it| it.body = "[2]".to_owned(),
            "a body that is not the one of its digest",
        ),
        ("method", nothing, &|it| it.method = "PUT", "a wrong signature"),
        (
            "path",
            nothing,
            &|it| it.path = "/v1/invoke/other".to_owned(),
            "a wrong signature",
        ),
        (
            "query",
            nothing,
            &|it| it.query = Some("version=1"),
            "a wrong signature",
        ),
        (
            "host",
            nothing,
            &|it| replace(it, "Host", |_| "127.0.0.1".to_owned()),
            "a wrong signature",
        ),
        (
            "expired",
            &|it| it.created = now() - 400,
            nothing,
            "a signature that has expired",
        ),
        (
            "future",
            &|it| it.created = now() + 90,
            nothing,
            "a signature of the future",
        ),
        (
            "another key of the call",
            &|it| it.fields.push(("Idempotency-Key".to_owned(), "a".to_owned())),
            &|it| replace(it, "Idempotency-Key", |_| "b".to_owned()),
            "a wrong signature",
        ),
        (
            "a component less",
            nothing,
            &|it| replace(it, "Signature-Input", |value| value.replace("\"@path\" ", "")),
            "a signature that covers too little",
        ),
        (
            "not canonical",
            nothing,
            &|it| replace(it, "Signature-Input", |value| value.replace(";alg", "; alg")),
            "a signature with a field that is not in canonical form",
        ),
        (
            "one label twice",
            nothing,
            &|it| replace(it, "Signature", |value| format!("{value}, {value}")),
            "a signature with a field that is not in canonical form",
        ),
        (
            "two signatures",
            nothing,
            &|it| {
                replace(it, "Signature", |value| format!("{value}, t{}", &value[1..]));
                replace(it, "Signature-Input", |value| format!("{value}, t{}", &value[1..]));
            },
            "two signatures",
        ),
    ];
    let mut expected = Vec::new();
    for (index, (case, before, after, reason)) in attacks.iter().enumerate() {
        let mut request = good(&format!("attack-{index}"));
        before(&mut request);
        request.fields = request.sign(&signer::key());
        after(&mut request);
        let reply = send(&server, &request, &request.fields);
        let problem = reply.assert_problem(case, 401, "authentication.failed");
        assert_eq!(problem["detail"], "it is not known who calls", "{case}");
        assert_eq!(reply.field("www-authenticate"), Some("Bearer"), "{case}");
        expected.push(("signature".to_owned(), (*reason).to_owned()));
    }
    // Somebody else's key, under its own name and under that of the caller.
    let other = aral_contract::document::PrivateKey::from_seed(&zeroize::Zeroizing::new([78; 32]));
    let request = good("other");
    send(&server, &request, &request.sign(&other)).assert_problem("other", 401, "authentication.failed");
    expected.push(("signature".to_owned(), "a signature with an unknown key".to_owned()));
    // The same bytes again, at once and on another connection.
    let request = good("replay");
    let fields = request.sign(&signer::key());
    assert_eq!(send(&server, &request, &fields).status, 200);
    send(&server, &request, &fields).assert_problem("replay", 401, "authentication.failed");
    expected.push(("signature".to_owned(), "a signature that was used before".to_owned()));
    assert_eq!(refusals(&desk, server), expected);
}

#[test]
fn the_bounds_of_signatures_hold() {
    let start = |limits: Value| start(&signing("required", |config| config["serve"]["limits"] = limits));
    let kept = |limits: Value| {
        let server = start(limits);
        let request = good("n");
        until_after(request.created + 2);
        sign_and_send(&server, &request).status
    };
    assert_eq!(kept(json!({})), 200);
    assert_eq!(kept(json!({ "signature_age_ms": 1000 })), 401);
    let ahead = |limits: Value| {
        let server = start(limits);
        let mut request = good("n");
        request.created += 100;
        sign_and_send(&server, &request).status
    };
    assert_eq!(ahead(json!({})), 401);
    assert_eq!(ahead(json!({ "signature_skew_ms": 200_000 })), 200);
    let three = |limits: Value| {
        let server = start(limits);
        ["1", "2", "3"].map(|nonce| sign_and_send(&server, &good(nonce)).status)
    };
    assert_eq!(three(json!({})), [200, 200, 200]);
    assert_eq!(three(json!({ "signature_nonces_max": 2 })), [200, 200, 503]);
    let small = start(json!({ "body_bytes_max": 2 }));
    assert_eq!(
        sign_and_send(&small, &good("1")).status,
        413,
        "the body is bounded before it is hashed"
    );
}

#[test]
fn what_was_used_is_not_good_after_a_restart() {
    let desk = signing("required", |config| {
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 1 } });
    });
    let first = start(&desk);
    let request = good("1");
    let fields = request.sign(&signer::key());
    assert_eq!(send(&first, &request, &fields).status, 200);
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.wait().0, Some(0));
    let second = start(&desk);
    for _ in 0..2 {
        send(&second, &request, &fields).assert_problem("again", 401, "authentication.failed");
    }
    assert_eq!(
        sign_and_send(&second, &good("2")).status,
        200,
        "nobody guessed anything"
    );
    let reason = "a signature from before the start of the server";
    assert_eq!(
        refusals(&desk, second),
        vec![("signature".to_owned(), reason.to_owned()); 2]
    );
}

#[test]
fn a_signature_that_cannot_be_remembered_is_no_wrong_one() {
    let desk = signing("optional", |config| {
        config["serve"]["limits"] = json!({ "signature_nonces_max": 1 });
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 1 } });
    });
    let server = start(&desk);
    assert_eq!(sign_and_send(&server, &good("1")).status, 200);
    for nonce in ["2", "3"] {
        let reply = sign_and_send(&server, &good(nonce));
        reply.assert_problem("no room", 503, "host.unavailable");
        assert_eq!(reply.field("retry-after"), Some("1"));
    }
    let key = format!("Bearer {KEY}");
    let unsigned = server.wire().invoke(ECHO, &[("Authorization", &key)], "[1]");
    assert_eq!(unsigned.status, 200, "{unsigned:?}");
    let refused = refusals(&desk, server);
    let reason = "a signature for which there is no room to remember it";
    assert_eq!(refused, vec![("signature".to_owned(), reason.to_owned()); 2]);
}

#[test]
fn a_wrong_signature_is_refused_before_anybody_waits_for_the_body() {
    let server = start(&signing("required", |config| {
        config["serve"]["limits"] = json!({ "body_bytes_max": 2 });
    }));
    let mut request = good("1");
    let key = format!("Bearer {KEY}");
    for (case, credential) in [("the right key", &*key), ("another", "Bearer aral_another")] {
        request.fields.retain(|(name, _)| name != "Authorization");
        request.fields.push(("Authorization".to_owned(), credential.to_owned()));
        let mut fields = request.sign(&signer::key());
        for (name, value) in &mut fields {
            if name == "Signature" {
                *value = format!("s=:{}==:", "A".repeat(86));
            }
        }
        send(&server, &request, &fields).assert_problem(case, 401, "authentication.failed");
    }
}

#[test]
fn a_signature_that_was_used_is_refused_before_anybody_waits_for_the_body() {
    let desk = signing("required", |config| {
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 1 } });
    });
    let server = start(&desk);
    let request = good("1");
    let fields = request.sign(&signer::key());
    assert_eq!(send(&server, &request, &fields).status, 200);
    too_much(&server, &request, &fields).assert_problem("used", 401, "authentication.failed");
    // Also by a body that is refused.
    let request = good("2");
    let fields = request.sign(&signer::key());
    let reply = too_much(&server, &request, &fields);
    assert_eq!(reply.status, 413, "{reply:?}");
    too_much(&server, &request, &fields).assert_problem("used", 401, "authentication.failed");
    let another = sign_and_send(&server, &good("3"));
    assert_eq!(another.status, 200, "nobody guessed anything: {another:?}");
    let reason = "a signature that was used before";
    assert_eq!(
        refusals(&desk, server),
        vec![("signature".to_owned(), reason.to_owned()); 2]
    );
}

#[test]
fn a_signature_whose_caller_has_no_place_for_it_is_not_used_up() {
    let server = start(&signing("required", |config| {
        config["serve"]["limits"] = json!({ "requests_per_caller_max": 1 });
    }));
    // Its body waits, and holds the place.
    let slow = good("slow");
    let fields = slow.sign(&signer::key());
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let whole = wire::request(slow.method, &slow.target(), &fields, &slow.body);
    let head = whole.strip_suffix(&*slow.body).expect("the body is its end");
    let mut waiting = server.wire();
    waiting.send(head);
    let mut tried = (0..1000).map(|number| {
        std::thread::sleep(Duration::from_millis(10));
        let request = good(&number.to_string());
        let fields = request.sign(&signer::key());
        (send(&server, &request, &fields).status, request, fields)
    });
    let (_, request, fields) = tried.find(|(status, _, _)| *status == 503).expect("no place");
    waiting.send(&slow.body);
    assert_eq!(waiting.reply().status, 200);
    let mut again = (0..1000).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        send(&server, &request, &fields).status
    });
    assert_eq!(again.find(|status| *status != 503), Some(200));
}

#[test]
fn whoever_signs_and_whose_body_is_refused_is_on_record_and_counts() {
    let desk = signing("required", |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["serve"]["rates"] = json!({ "persona": { "per_minute": 1, "burst": 2 } });
    });
    let server = start(&desk);
    for path in ["/v1/invoke/runtime-echo-tool", "/mcp"] {
        let mut request = good(path);
        request.path = path.to_owned();
        let reply = too_much(&server, &request, &request.sign(&signer::key()));
        assert_eq!(reply.status, 413, "{path}: {reply:?}");
        let left = reply.field("ratelimit").expect("a field");
        assert!(left.contains("\"persona\""), "{path}: {left}");
    }
    sign_and_send(&server, &good("3")).assert_problem("nothing is left", 429, "rate.limited");
    let events = recorded(&desk, server);
    let by_key = events.iter().filter(|event| event["method"] == "api_key");
    let believed: Vec<&Value> = by_key.map(|event| &event["success"]).collect();
    assert_eq!(believed, [true, true], "{events:?}");
}

#[test]
fn a_signature_that_no_rule_looks_at_is_refused_and_is_no_guess() {
    let desk = signing("optional", |config| {
        let caller = config["serve"]["caller"][0].as_object_mut().expect("a table");
        caller.retain(|name, _| !name.starts_with("signature"));
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 1 } });
    });
    let server = start(&desk);
    let request = good("1");
    let fields = request.sign(&signer::key());
    for left_out in ["", "Signature", "Signature-Input"] {
        let mut fields = fields.clone();
        fields.retain(|(name, _)| name != left_out);
        send(&server, &request, &fields).assert_problem(left_out, 401, "authentication.failed");
    }
    assert_eq!(send(&server, &request, &request.fields).status, 200);
    let reason = "a signature of somebody who has no `signature`";
    assert_eq!(
        refusals(&desk, server),
        vec![("signature".to_owned(), reason.to_owned()); 3]
    );
}
