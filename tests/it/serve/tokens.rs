//! Tokens of an issuer: who is let in, who is not and why, keys that change, and what clients are told.

use std::time::Duration;

use aral_contract::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::issuer::{AUDIENCE, ISSUER, IssuerKey, KeyServer, Proxy, key_set, now};
use crate::support::mcp::ask_newest;
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::tls::Authority;
use crate::support::wire::Reply;

const ECHO: &str = "runtime-echo-tool";

/// A desk that believes the issuer, whose keys are where `keys` says. A second persona may call nothing.
fn trusting(keys: Value, change: impl FnOnce(&mut Value)) -> Desk {
    let desk = desk(|config| {
        let mut issuer = json!({
            "issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["EdDSA"],
            "scope": [
                { "scope": "aral:agent", "persona": "persona.json" },
                { "scope": "aral:nobody", "persona": "nobody.json" },
            ],
        });
        issuer
            .as_object_mut()
            .expect("a table")
            .extend(keys.as_object().expect("a table").clone());
        config["serve"] = json!({
            "listener": [{ "address": "127.0.0.1:0" }],
            "resource": "https://aral.example",
            "issuer": [issuer],
        });
        change(config);
    });
    let nobody = json!({ "id": "nobody", "name": "Nobody" });
    let document = setup::sign(aral_contract::document::signed::Kind::Persona, &nobody, &setup::key());
    desk.write("nobody.json", document.to_string().as_bytes());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

/// With the keys in a file.
fn trusting_file(key: &IssuerKey, change: impl FnOnce(&mut Value)) -> Desk {
    let desk = trusting(json!({ "jwks_file": "jwks.json" }), change);
    desk.write("jwks.json", key_set(&[key]).as_bytes());
    desk
}

fn call(server: &Server, token: &str) -> Reply {
    call_with(server, token, &[])
}

fn call_with(server: &Server, token: &str, more: &[(&str, &str)]) -> Reply {
    let authorization = format!("Bearer {token}");
    let mut fields = vec![("Authorization", authorization.as_str())];
    fields.extend_from_slice(more);
    server.wire().invoke(ECHO, &fields, "1")
}

/// What the audit log says of authentication, once the server has ended.
fn recorded(desk: &Desk, server: Server) -> Vec<Value> {
    server.signal(rustix::process::Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    let found = desk.aral(&["audit", "query", "--json", "--type", "authentication"]);
    let records = found.object()["records"].as_array().expect("records").clone();
    let events = records.into_iter().map(|record| record["event"].clone());
    events.filter(|event| event["method"] != "persona").collect()
}

#[test]
fn a_good_token_lets_its_bearer_in_for_the_persona_of_its_scope() {
    let one = IssuerKey::new("one", 1);
    let desk = trusting_file(&one, |_| ());
    let server = Server::start(&desk);
    let reply = call(&server, &one.token(|_, _| ()));
    assert_eq!((reply.status, reply.body.as_str()), (200, "1"));
    let nobody = one.token(|_, claims| claims["scope"] = json!("aral:nobody"));
    call(&server, &nobody).assert_problem("another persona", 403, "permission.denied");
    let both = one.token(|_, claims| claims["scope"] = json!("aral:nobody aral:agent"));
    assert_eq!(call(&server, &both).status, 200, "the first scope of the file counts");
    let events = recorded(&desk, server);
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(
        events
            .iter()
            .all(|event| event["method"] == "token" && event["success"] == true),
        "{events:?}"
    );
    let personas: Vec<&Value> = events.iter().map(|event| &event["agent"]).collect();
    assert_eq!(personas, ["tester", "nobody", "tester"]);
}

#[test]
fn every_bad_token_is_refused_in_the_same_words_and_recorded_with_its_reason() {
    let (one, other) = (IssuerKey::new("one", 1), IssuerKey::new("one", 2));
    let desk = trusting_file(&one, |config| config["audit"]["repeats_max"] = json!(100));
    let server = Server::start(&desk);
    let claims = |change: &dyn Fn(&mut Value)| one.token(|_, claims| change(claims));
    let header = |change: &dyn Fn(&mut Value)| one.token(|header, _| change(header));
    let cases = [
        (other.token(|_, _| ()), "a token with a wrong signature"),
        (header(&|it| it["kid"] = json!("two")), "a token with an unknown key"),
        (
            header(&|it| it["alg"] = json!("none")),
            "a token with an algorithm that is not agreed on",
        ),
        (
            header(&|it| it["alg"] = json!("HS256")),
            "a token with an algorithm that is not agreed on",
        ),
        (header(&|it| it["typ"] = json!("JWT")), "a token of another type"),
        (
            header(&|it| it["crit"] = json!(["x"])),
            "a token with extensions that must be understood",
        ),
        (
            claims(&|it| it["iss"] = json!("https://evil.test")),
            "a token of an unknown issuer",
        ),
        (
            claims(&|it| it["aud"] = json!("https://other.example")),
            "a token for another audience",
        ),
        (claims(&|it| it["exp"] = json!(now() - 31)), "a token that has expired"),
        (claims(&|it| it["iat"] = json!(now() + 90)), "a token of the future"),
        (
            claims(&|it| it["nbf"] = json!(now() + 90)),
            "a token that is not valid yet",
        ),
        (
            claims(&|it| it["exp"] = json!(now() + 7200)),
            "a token that is valid for too long",
        ),
        (
            claims(&|it| it["scope"] = json!("openid")),
            "a token without a scope of the list",
        ),
        (claims(&|it| it["sub"] = Value::Null), "a token without `sub`"),
        ("a.b".to_owned(), "a credential of no known form"),
    ];
    let mut answers = Vec::new();
    for (token, reason) in &cases {
        let reply = call(&server, token);
        let mut problem = reply.assert_problem(reason, 401, "authentication.failed");
        problem["trace_id"] = Value::Null;
        let challenge = reply.field("www-authenticate").map(str::to_owned);
        answers.push((problem, challenge, reply.body.len()));
    }
    let refused = server.wire().invoke(ECHO, &[("Authorization", "Basic YTpi")], "1");
    refused.assert_problem("another scheme", 401, "authentication.failed");
    let nothing = server.wire().invoke(ECHO, &[], "1");
    nothing.assert_problem("nothing", 401, "authentication.failed");
    answers.dedup();
    assert_eq!(answers.len(), 1, "strangers learn nothing: {answers:?}");
    assert_eq!(
        answers[0].1.as_deref(),
        Some("Bearer resource_metadata=\"https://aral.example/.well-known/oauth-protected-resource\"")
    );
    let events = recorded(&desk, server);
    let expected = cases
        .iter()
        .map(|(_, reason)| ("token", *reason))
        .chain([("none", "a scheme other than Bearer"), ("none", "no credential")]);
    let found: Vec<(&str, &str)> = events
        .iter()
        .map(|event| {
            (
                event["method"].as_str().expect("a word"),
                event["reason"].as_str().expect("a reason"),
            )
        })
        .collect();
    assert_eq!(found, expected.collect::<Vec<_>>());
    for event in &events {
        assert_eq!(
            (&event["source"], &event["success"]),
            (&json!("127.0.0.1"), &json!(false)),
            "{event}"
        );
    }
}

#[test]
fn what_the_configuration_says_of_tokens_holds() {
    let one = IssuerKey::new("one", 1);
    let status = |key: &str, value: Value, token: &str| {
        let desk = trusting_file(&one, |config| config["serve"]["issuer"][0][key] = value);
        call(&Server::start(&desk), token).status
    };
    let typed = one.token(|header, _| header["typ"] = json!("JWT"));
    assert_eq!(status("types", json!(["at+jwt", "JWT"]), &typed), 200);
    let long = one.token(|_, claims| claims["exp"] = json!(now() + 7200));
    assert_eq!(status("lifetime_s_max", json!(7200), &long), 200);
    let old = one.token(|_, claims| (claims["iat"], claims["exp"]) = (json!(now() - 500), json!(now() - 100)));
    assert_eq!(status("leeway_s", json!(300), &old), 200);
    assert_eq!(status("leeway_s", json!(30), &old), 401);
    let other = one.token(|_, claims| claims["aud"] = json!("https://other.example"));
    assert_eq!(
        status("audiences", json!([AUDIENCE, "https://other.example"]), &other),
        200
    );
    let good = one.token(|_, _| ());
    // A file of keys that are for something else is refused at the start; keys that come from elsewhere may be others later.
    let other = |config: &mut Value| config["serve"]["issuer"][0]["algorithms"] = json!(["RS256"]);
    trusting_file(&one, other).aral(&["serve"]).assert(
        "keys for another algorithm",
        2,
        &["has keys for EdDSA, and `algorithms`", "algorithms = [\"EdDSA\"]"],
    );
    let keys = KeyServer::start(&[&one], None);
    let desk = trusting(json!({ "jwks_url": keys.url() }), other);
    assert_eq!(call(&Server::start(&desk), &good).status, 401);
    assert_eq!(status("issuer", json!("https://issuer.test/"), &good), 401);
}

#[test]
fn the_subjects_of_an_issuer_do_not_share_what_is_kept_for_them() {
    let one = IssuerKey::new("one", 1);
    let server = Server::start(&trusting_file(&one, |_| ()));
    let key = [("Idempotency-Key", "order-1")];
    let replayed = |token: &str| {
        let reply = call_with(&server, token, &key);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.field("idempotency-replayed").is_some()
    };
    let (alice, bob) = (
        one.token(|_, _| ()),
        one.token(|_, claims| claims["sub"] = json!("bob")),
    );
    assert!(!replayed(&alice));
    assert!(!replayed(&bob), "an answer for somebody else");
    assert!(replayed(&alice));
    let later = one.token(|_, claims| claims["jti"] = json!("another token"));
    assert!(replayed(&later), "a new token of the same subject");
}

#[test]
fn keys_come_from_the_issuer_and_change_while_the_server_runs() {
    let (one, two) = (IssuerKey::new("one", 1), IssuerKey::new("two", 2));
    let keys = KeyServer::start(&[&one], None);
    let settings = json!({ "jwks_url": keys.url(), "jwks_ttl_s": 2, "jwks_stale_s": 15, "jwks_refetch_s": 1 });
    let server = Server::start(&trusting(settings, |_| ()));
    let (old, new) = (one.token(|_, _| ()), two.token(|_, _| ()));
    assert_eq!(keys.asked(), 0);
    assert_eq!(call(&server, &old).status, 200);
    assert_eq!(call(&server, &old).status, 200);
    assert_eq!(keys.asked(), 1);
    assert_eq!(call(&server, &new).status, 401);
    // The issuer has another key beside the old one, then that one alone.
    keys.set(&[&one, &two]);
    until("it asks because of a key that is not known", || {
        // More slowly than whoever guesses.
        std::thread::sleep(Duration::from_millis(200));
        call(&server, &new).status == 200
    });
    assert_eq!(call(&server, &old).status, 200);
    keys.set(&[&two]);
    until("the old one is withdrawn", || call(&server, &old).status == 401);
    assert_eq!(call(&server, &new).status, 200);
    // Down for a while, and for too long.
    keys.fail();
    let asked = keys.asked();
    until("it has asked in vain", || {
        assert_eq!(call(&server, &new).status, 200, "the last keys serve on");
        keys.asked() > asked
    });
    assert_eq!(call(&server, &new).status, 200, "the last keys serve on");
    until("they are too old", || call(&server, &new).status != 200);
    let reply = call(&server, &new);
    reply.assert_problem("no keys", 503, "host.unavailable");
    assert!(reply.field("retry-after").is_some(), "{reply:?}");
    keys.set(&[&two]);
    until("there are keys", || call(&server, &new).status == 200);
}

#[test]
fn a_configuration_that_is_read_again_has_the_last_keys_while_the_issuer_is_down() {
    let one = IssuerKey::new("one", 1);
    let keys = KeyServer::start(&[&one], None);
    let desk = trusting(json!({ "jwks_url": keys.url() }), |_| ());
    let server = Server::start(&desk);
    let token = one.token(|_, _| ());
    assert_eq!(call(&server, &token).status, 200);
    keys.fail();
    server.signal(Signal::HUP);
    until("it asks anew", || {
        assert_eq!(call(&server, &token).status, 200);
        keys.asked() > 1
    });
    assert_eq!(call(&server, &token).status, 200);
    // Whoever is trusted on another way did not show them.
    desk.configure_more(|config| config["outbound"] = json!({ "no_proxy": ["example.org"] }));
    server.signal(Signal::HUP);
    until("nobody has shown keys", || call(&server, &token).status == 503);
}

#[test]
fn whom_an_issuer_keeps_from_being_known_shows_nothing_wrong() {
    let one = IssuerKey::new("one", 1);
    let keys = KeyServer::start(&[&one], None);
    keys.fail();
    let settings = json!({ "jwks_url": keys.url(), "jwks_ttl_s": 1, "jwks_refetch_s": 1 });
    let desk = trusting(settings, |config| {
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 2 } });
    });
    let server = Server::start(&desk);
    let token = one.token(|_, _| ());
    for _ in 0..4 {
        call(&server, &token).assert_problem("no keys", 503, "host.unavailable");
    }
    keys.set(&[&one]);
    until("there are keys", || call(&server, &token).status == 200);
    let events = recorded(&desk, server);
    let reason = "a token whose issuer's keys cannot be had";
    assert!(events.iter().any(|event| event["reason"] == reason), "{events:?}");
}

#[test]
fn a_token_that_is_over_is_no_guess() {
    let (one, other) = (IssuerKey::new("one", 1), IssuerKey::new("one", 2));
    let desk = trusting_file(&one, |config| {
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 2 } });
    });
    let server = Server::start(&desk);
    let good = one.token(|_, _| ());
    let over = one.token(|_, claims| claims["exp"] = json!(now() - 31));
    for _ in 0..4 {
        call(&server, &over).assert_problem("over", 401, "authentication.failed");
    }
    assert_eq!(call(&server, &good).status, 200, "others of the address are let in");
    for _ in 0..2 {
        let forged = other.token(|_, _| ());
        call(&server, &forged).assert_problem("nobody signed it", 401, "authentication.failed");
    }
    call(&server, &good).assert_problem("not heard any more", 429, "rate.limited");
    let events = recorded(&desk, server);
    let reason = "a token that has expired";
    assert!(events.iter().any(|event| event["reason"] == reason), "{events:?}");
}

#[test]
fn a_token_that_is_bound_to_a_certificate_is_good_on_its_connections_alone() {
    let (one, authority) = (IssuerKey::new("one", 1), Authority::new());
    let desk = trusting_file(&one, |config| {
        config["serve"]["listener"][0]["tls"] = json!({
            "certificate_file": "chain.pem", "key_file": "key.pem",
            "client_ca_file": "clients.pem", "client_auth": "optional",
        });
        config["audit"]["repeats_max"] = json!(100);
    });
    authority.install(&desk);
    let server = Server::start(&desk);
    let own = authority.client_named("spiffe://example/own");
    let other = authority.client_named("spiffe://example/other");
    let sha256 = URL_SAFE_NO_PAD.encode(Digest::of(own.certificate()).as_bytes());
    let bound = one.token(|_, claims| claims["cnf"] = json!({ "x5t#S256": sha256 }));
    let of_dpop = one.token(|_, claims| claims["cnf"] = json!({ "jkt": sha256 }));
    let free = one.token(|_, _| ());
    for (case, client, token, expected) in [
        ("its own", &own, &bound, 200),
        ("another", &other, &bound, 401),
        ("none", &authority.client(), &bound, 401),
        ("a key of DPoP", &own, &of_dpop, 401),
        ("bound to nothing", &own, &free, 200),
        ("bound to nothing, with none", &authority.client(), &free, 200),
    ] {
        let authorization = format!("Bearer {token}");
        let reply = client.invoke(server.address(), ECHO, &[("Authorization", &authorization)], "1");
        assert_eq!(reply.expect("an answer").status, expected, "{case}");
    }
    let events = recorded(&desk, server);
    let reason = "a token that is bound to a key which was not shown";
    let refused = events.iter().filter(|event| event["reason"] == reason);
    assert_eq!(refused.count(), 3, "{events:?}");
}

#[test]
fn a_signature_beside_a_token_is_refused() {
    let one = IssuerKey::new("one", 1);
    let desk = trusting_file(&one, |_| ());
    let server = Server::start(&desk);
    let token = one.token(|_, _| ());
    let signed = call_with(&server, &token, &[("Signature", "s=:AA==:")]);
    signed.assert_problem("signed", 401, "authentication.failed");
    assert_eq!(call(&server, &token).status, 200);
    let events = recorded(&desk, server);
    let reason = "a signature of somebody who has no `signature`";
    assert_eq!(events[0]["reason"], reason, "{events:?}");
}

#[test]
fn a_token_with_a_key_that_is_not_known_yet_is_no_guess() {
    let (one, two) = (IssuerKey::new("one", 1), IssuerKey::new("two", 2));
    let desk = trusting_file(&one, |config| {
        config["serve"]["rates"] = json!({ "failures": { "per_minute": 1, "burst": 2 } });
    });
    let server = Server::start(&desk);
    let new = two.token(|_, _| ());
    for _ in 0..4 {
        call(&server, &new).assert_problem("not known", 401, "authentication.failed");
    }
    assert_eq!(
        call(&server, &one.token(|_, _| ())).status,
        200,
        "others of the address are let in"
    );
    let events = recorded(&desk, server);
    let reason = "a token with an unknown key";
    assert!(events.iter().any(|event| event["reason"] == reason), "{events:?}");
}

#[test]
fn keys_are_fetched_through_the_proxy_from_whom_the_authority_vouches_for() {
    let one = IssuerKey::new("one", 1);
    let authority = Authority::new();
    let keys = KeyServer::start(&[&one], Some(authority.server(&["issuer.test"])));
    let proxy = Proxy::start(keys.address);
    let token = one.token(|_, _| ());
    let status = |outbound: Value| {
        let desk = trusting(json!({ "jwks_url": "https://issuer.test:8443/jwks" }), |config| {
            config["outbound"] = outbound;
        });
        desk.write("ca.pem", authority.pem().as_bytes());
        // What the environment says of proxies is not for this host.
        let environment = [("HTTPS_PROXY", format!("http://{}", proxy.address))];
        call(&Server::start_in(&desk, &[], &environment), &token).status
    };
    let proxied = format!("http://{}", proxy.address);
    assert_eq!(status(json!({ "proxy": proxied, "ca_file": "ca.pem" })), 200);
    assert_eq!(proxy.asked(), ["CONNECT issuer.test:8443 HTTP/1.1"]);
    assert_eq!(keys.asked(), 1);
    assert_eq!(
        status(json!({ "proxy": proxied })),
        503,
        "nobody that is trusted vouches for it"
    );
    assert_eq!((proxy.asked().len(), keys.asked()), (2, 1));
    let direct = json!({ "proxy": proxied, "ca_file": "ca.pem", "no_proxy": ["issuer.test"] });
    assert_eq!(status(direct), 503, "the name leads nowhere");
    assert_eq!(status(json!({ "ca_file": "ca.pem" })), 503);
    assert_eq!(proxy.asked().len(), 2, "not asked");
}

#[test]
fn clients_are_told_how_to_be_let_in() {
    let one = IssuerKey::new("one", 1);
    let speaking = |mcp: bool| {
        Server::start(&trusting_file(&one, |config| {
            config["serve"]["listener"][0]["mcp"] = json!(mcp);
        }))
    };
    let server = speaking(true);
    let well_known = "/.well-known/oauth-protected-resource";
    let reply = server.get(well_known);
    let expected = |resource: &str| {
        json!({
            "resource": resource,
            "authorization_servers": [ISSUER],
            "scopes_supported": ["aral:agent", "aral:nobody"],
            "bearer_methods_supported": ["header"],
        })
    };
    assert_eq!((reply.status, reply.json()), (200, expected("https://aral.example")));
    assert_eq!(reply.field("content-type"), Some("application/json"));
    let reply = server.get(&format!("{well_known}/mcp"));
    assert_eq!(
        (reply.status, reply.json()),
        (200, expected("https://aral.example/mcp"))
    );
    server
        .get(&format!("{well_known}/v1"))
        .assert_problem("no such resource", 404, "request.invalid");
    let plain = speaking(false);
    assert_eq!(plain.get(well_known).status, 200);
    plain
        .get(&format!("{well_known}/mcp"))
        .assert_problem("it speaks no MCP", 404, "request.invalid");
    let without = desk(|config| config["serve"]["listener"][0]["mcp"] = json!(true));
    without.guest(RUNTIME_ECHO_TOOL, |_| ());
    let without = Server::start(&without);
    for path in [well_known.to_owned(), format!("{well_known}/mcp")] {
        without.get(&path).assert_problem("no issuer", 404, "request.invalid");
    }
}

/// MCP is a resource of its own: clients compare what they were given with what the description says of itself.
#[test]
fn a_client_of_mcp_that_follows_the_challenge_is_let_in() {
    let one = IssuerKey::new("one", 1);
    let resource = format!("{AUDIENCE}/mcp");
    let desk = trusting_file(&one, |config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        config["serve"]["issuer"][0]["audiences"] = json!([AUDIENCE, resource]);
    });
    let server = Server::start(&desk);
    let stranger = ask_newest(server.address(), &[], "tools/list", json!({}));
    stranger.assert_problem("nothing is shown", 401, "authentication.failed");
    let challenge = stranger.field("www-authenticate").expect("a challenge");
    let described = format!("{AUDIENCE}/.well-known/oauth-protected-resource/mcp");
    assert_eq!(challenge, format!("Bearer resource_metadata=\"{described}\""));
    let path = described.strip_prefix(AUDIENCE).expect("an address of the resource");
    let told = server.get(path).json();
    assert_eq!(
        (&told["resource"], &told["authorization_servers"]),
        (&json!(resource), &json!([ISSUER]))
    );
    let list = |audience: Value| {
        let token = one.token(|_, claims| claims["aud"] = audience);
        let authorization = format!("Bearer {token}");
        ask_newest(
            server.address(),
            &[("Authorization", &authorization)],
            "tools/list",
            json!({}),
        )
    };
    let reply = list(json!([told["resource"]]));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["result"]["tools"][0]["name"], ECHO);
    let other = list(json!(["https://other.example/mcp"]));
    other.assert_problem("a token for somebody else", 401, "authentication.failed");
    assert_eq!(other.field("www-authenticate"), Some(challenge));
}

#[test]
fn a_token_for_mcp_is_not_taken_elsewhere_nor_the_other_way_round() {
    let one = IssuerKey::new("one", 1);
    let mcp = format!("{AUDIENCE}/mcp");
    let statuses = |audiences: Value, given: &str| {
        let server = Server::start(&trusting_file(&one, |config| {
            config["serve"]["listener"][0]["mcp"] = json!(true);
            config["serve"]["issuer"][0]["audiences"] = audiences;
        }));
        let token = one.token(|_, claims| claims["aud"] = json!(given));
        let authorization = format!("Bearer {token}");
        let fields = [("Authorization", authorization.as_str())];
        let at_mcp = ask_newest(server.address(), &fields, "tools/list", json!({})).status;
        (at_mcp, call(&server, &token).status)
    };
    assert_eq!(statuses(json!([AUDIENCE, mcp]), &mcp), (200, 401));
    assert_eq!(statuses(json!([AUDIENCE, mcp]), AUDIENCE), (401, 200));
    assert_eq!(statuses(json!([AUDIENCE]), AUDIENCE), (200, 200));
    assert_eq!(statuses(json!([mcp]), &mcp), (200, 200));
}

#[test]
fn issuers_need_a_resource() {
    let one = IssuerKey::new("one", 1);
    let desk = trusting_file(&one, |config| {
        config["serve"].as_object_mut().expect("a table").remove("resource");
    });
    desk.aral(&["serve"]).assert(
        "no resource",
        2,
        &["no `resource`", "[serve]: resource = \"https://HOST\""],
    );
}

#[cfg(feature = "services")]
mod services {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| panic!("{name}: run `cargo xtask test --services`"))
    }

    /// A token that the issuer gives its client for itself.
    fn token(resource: &str, scope: &str) -> String {
        let issuer = variable("ARAL_SERVICE_ISSUER");
        let client = variable("ARAL_SERVICE_ISSUER_CLIENT");
        let address = issuer.strip_prefix("http://").expect("http");
        let mut stream = std::net::TcpStream::connect(address).expect("the issuer listens");
        let encode = |text: &str| text.replace(':', "%3A").replace('/', "%2F");
        let body = format!(
            "grant_type=client_credentials&resource={}&scope={}",
            encode(resource),
            encode(scope)
        );
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, client);
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {basic}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        let (_, answer) = text.split_once("\r\n\r\n").expect("a body");
        let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {text}"));
        answer["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    }

    #[test]
    fn a_real_issuer_lets_its_client_in_with_each_algorithm() {
        let issuer = variable("ARAL_SERVICE_ISSUER");
        let algorithms = ["RS256", "PS256", "ES256", "EdDSA"];
        let resource = |algorithm: &str| format!("https://aral.example/{algorithm}");
        let audiences: Vec<String> = algorithms.into_iter().map(resource).collect();
        let server = |pinned: Value| {
            let settings = json!({
                "issuer": issuer, "jwks_url": format!("{issuer}/jwks"), "audiences": audiences, "algorithms": pinned,
            });
            Server::start(&trusting(settings, |_| ()))
        };
        let all = server(json!(algorithms));
        let one = server(json!(["RS256"]));
        for algorithm in algorithms {
            let token = token(&resource(algorithm), "aral:agent");
            assert_eq!(call(&all, &token).status, 200, "{algorithm}");
            let expected = if algorithm == "RS256" { 200 } else { 401 };
            assert_eq!(call(&one, &token).status, expected, "{algorithm}");
        }
        let other = token(&resource("RS256"), "aral:other");
        call(&all, &other).assert_problem("another scope", 401, "authentication.failed");
        let mut changed = token(&resource("EdDSA"), "aral:agent");
        let end = changed.pop().expect("a letter");
        changed.push(if end == 'A' { 'Q' } else { 'A' });
        call(&all, &changed).assert_problem("changed", 401, "authentication.failed");
    }

    #[test]
    fn a_real_issuer_lets_its_client_in_to_mcp() {
        let issuer = variable("ARAL_SERVICE_ISSUER");
        let settings = json!({
            "issuer": issuer, "jwks_url": format!("{issuer}/jwks"),
            "audiences": [AUDIENCE, format!("{AUDIENCE}/mcp")], "algorithms": ["EdDSA"],
        });
        let desk = trusting(settings, |config| config["serve"]["listener"][0]["mcp"] = json!(true));
        let server = Server::start(&desk);
        let described = server.get("/.well-known/oauth-protected-resource/mcp").json();
        let resource = described["resource"].as_str().expect("a resource");
        let status = |resource: &str| {
            let authorization = format!("Bearer {}", token(resource, "aral:agent"));
            let fields = [("Authorization", authorization.as_str())];
            ask_newest(server.address(), &fields, "tools/list", json!({})).status
        };
        assert_eq!(status(resource), 200);
        assert_eq!(
            status("https://aral.example/EdDSA"),
            401,
            "a token for another resource"
        );
    }
}
