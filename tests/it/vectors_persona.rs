//! Test vectors for personas, `vectors/persona/`, one file for each attack, and for the canonical form, `vectors/rfc8785/`, in
//! a form that other implementations can read. Those of personas are made here and kept in the repository; what is kept is
//! what a host is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::document::signed::{self, Header, Kind};
use aral_contract::document::{PrivateKey, PublicKey, TrustStore, Validity, json as strict};
use aral_contract::{Clock, Code, KeyId};
use aral_host::{Config, Host};
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/persona");
const CANONICAL: &str = include_str!("../vectors/rfc8785/vectors.json");
const NOW: &str = "2026-06-01T00:00:00Z";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn body() -> Value {
    json!({
        "id": "analyst", "name": "Añalyst", "description": "Looks things up.", "system_prompt": "Never guess.", "tier": "gold",
        "clearance": "internal",
        "constraints": {
            "allowed_permissions": ["memory:read"], "allowed_capabilities": ["notes-*@^1.2"],
            "allowed_domains": ["https://*.example.org"], "allowed_agents": ["helper"], "max_reasoning_depth": 2,
            "max_cost_per_hour": 5_000_000, "rate_limits": { "requests_per_minute": 10, "requests_per_hour": 100 },
        },
    })
}

fn issued(seed: u8, serial: u64, times: (&str, &str), body: &Value) -> Value {
    let header = Header {
        schema: Kind::Persona.schema().to_owned(),
        serial,
        issued_at: times.0.parse().expect("a time"),
        expires_at: times.1.parse().expect("a time"),
    };
    signed::sign(Kind::Persona, &header, body, &key(seed)).expect("a document")
}

fn signed_by(seed: u8, serial: u64, body: &Value) -> Value {
    issued(seed, serial, ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), body)
}

fn valid() -> Value {
    signed_by(1, 7, &body())
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut document = valid();
    let (holder, name) = pointer.rsplit_once('/').expect("a pointer");
    document.pointer_mut(holder).expect("a holder")[name] = value;
    document
}

fn with(member: &str, value: Value) -> Value {
    let mut body = body();
    let (holder, name) = member.rsplit_once('/').expect("a pointer");
    body.pointer_mut(holder).expect("a holder")[name] = value;
    signed_by(1, 7, &body)
}

/// One vector: what a host has taken before, the document, and what it must say.
fn vector(document: impl ToString, admitted: &[Value], expected: Option<Code>) -> Value {
    let admitted: Vec<String> = admitted.iter().map(Value::to_string).collect();
    json!({
        "admitted": admitted, "document": document.to_string(), "expected": expected.map_or("valid", Code::as_str),
    })
}

fn vectors() -> BTreeMap<&'static str, Value> {
    let refused = |document: Value, code| vector(document, &[], Some(code));
    let invalid = |document| refused(document, Code::DocumentInvalid);
    let unsigned = || {
        let mut document = valid();
        document.as_object_mut().expect("an object").remove("signature");
        document
    };
    let times = |from, to| issued(1, 7, (from, to), &body());
    let manifest = || {
        let header = Header {
            schema: Kind::Manifest.schema().to_owned(),
            serial: 7,
            issued_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            expires_at: "2027-01-01T00:00:00Z".parse().expect("a time"),
        };
        signed::sign(Kind::Manifest, &header, &json!({ "capabilities": [] }), &key(1)).expect("a document")
    };
    let renamed = || changed("/name", json!("Root"));
    BTreeMap::from([
        ("valid", vector(valid(), &[], None)),
        ("valid_again", vector(valid(), &[valid()], None)),
        ("valid_newer", vector(signed_by(1, 8, &body()), &[valid()], None)),
        (
            "valid_by_the_next_key",
            vector(signed_by(6, 8, &body()), &[valid()], None),
        ),
        ("absent", vector("", &[], Some(Code::DocumentInvalid))),
        ("unsigned", refused(unsigned(), Code::SignatureInvalid)),
        ("unknown_key", refused(signed_by(2, 7, &body()), Code::SignatureInvalid)),
        (
            "key_of_another_kind",
            refused(signed_by(3, 7, &body()), Code::SignatureInvalid),
        ),
        ("revoked_key", refused(signed_by(4, 7, &body()), Code::SignatureInvalid)),
        ("expired_key", refused(signed_by(5, 7, &body()), Code::SignatureInvalid)),
        (
            "key_of_later",
            refused(signed_by(7, 7, &body()), Code::SignatureInvalid),
        ),
        (
            "wrong_algorithm",
            refused(changed("/signature/algorithm", json!("HS256")), Code::SignatureInvalid),
        ),
        (
            "no_algorithm",
            refused(changed("/signature/algorithm", json!("none")), Code::SignatureInvalid),
        ),
        (
            "all_zero_signature",
            refused(
                changed("/signature/value", json!("00".repeat(64))),
                Code::SignatureInvalid,
            ),
        ),
        ("another_name", refused(renamed(), Code::SignatureInvalid)),
        (
            "wider_permissions",
            refused(
                changed("/constraints/allowed_permissions", json!(["*"])),
                Code::SignatureInvalid,
            ),
        ),
        (
            "higher_clearance",
            refused(changed("/clearance", json!("secret")), Code::SignatureInvalid),
        ),
        (
            "later_expiry",
            refused(
                changed("/expires_at", json!("2099-01-01T00:00:00Z")),
                Code::SignatureInvalid,
            ),
        ),
        (
            "higher_serial",
            refused(changed("/serial", json!(8)), Code::SignatureInvalid),
        ),
        (
            "expired",
            refused(times("2020-01-01T00:00:00Z", NOW), Code::DocumentStale),
        ),
        (
            "not_valid_yet",
            refused(
                times("2026-06-01T00:00:01Z", "2027-01-01T00:00:00Z"),
                Code::DocumentStale,
            ),
        ),
        ("a_manifest", invalid(manifest())),
        (
            "older",
            vector(signed_by(1, 6, &body()), &[valid()], Some(Code::DocumentStale)),
        ),
        (
            "older_by_the_next_key",
            vector(signed_by(6, 6, &body()), &[valid()], Some(Code::DocumentStale)),
        ),
        (
            "same_serial_other_content",
            vector(with("/name", json!("Root")), &[valid()], Some(Code::PersonaOverride)),
        ),
        ("unknown_member", invalid(with("/role", json!("root")))),
        (
            "unknown_constraint",
            invalid(with("/constraints/allowed_files", json!(["/"]))),
        ),
        (
            "unknown_rate",
            invalid(with("/constraints/rate_limits/requests_per_second", json!(1))),
        ),
        (
            "unknown_permission",
            invalid(with("/constraints/allowed_permissions", json!(["file:execute"]))),
        ),
        (
            "domain_without_scheme",
            invalid(with("/constraints/allowed_domains", json!(["example.org"]))),
        ),
        (
            "negative_cost",
            invalid(with("/constraints/max_cost_per_hour", json!(-1))),
        ),
        (
            "depth_that_is_a_text",
            invalid(with("/constraints/max_reasoning_depth", json!("2"))),
        ),
        ("unknown_clearance", invalid(with("/clearance", json!("top")))),
        (
            "long_system_prompt",
            invalid(with("/system_prompt", json!("x".repeat((64 << 10) + 1)))),
        ),
        (
            "a_member_twice",
            vector(
                valid()
                    .to_string()
                    .replacen("\"name\":", "\"name\":\"Root\",\"name\":", 1),
                &[],
                Some(Code::DocumentInvalid),
            ),
        ),
        (
            "a_float",
            vector(
                valid().to_string().replacen("5000000", "5000000.5", 1),
                &[],
                Some(Code::DocumentInvalid),
            ),
        ),
        (
            "escapes_were_signed",
            refused(escapes_were_signed(), Code::SignatureInvalid),
        ),
    ])
}

/// What Python makes of a name beyond ASCII if nobody says `ensure_ascii=False`: made once with Python, with the seed of 32
/// times 1.
fn escapes_were_signed() -> Value {
    let kept = std::fs::read_to_string(Path::new(FOLDER).join("escapes_were_signed.json")).expect("the file is there");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    serde_json::from_str(kept["document"].as_str().expect("a text")).expect("JSON")
}

fn trusted() -> Value {
    let pem = |seed| key(seed).public().to_pem().expect("a key");
    let always = |seed: u8, kinds: &[&str]| json!({ "public_key": pem(seed), "kinds": kinds });
    let between = |seed: u8, from: Option<&str>, to: Option<&str>| json!({ "public_key": pem(seed), "kinds": ["persona"], "not_before": from, "not_after": to });
    json!([
        always(1, &["persona", "manifest"]),
        always(3, &["manifest"]),
        always(4, &["persona"]),
        between(5, None, Some("2026-05-31T00:00:00Z")),
        between(6, Some("2026-05-01T00:00:00Z"), None),
        between(7, Some("2026-07-01T00:00:00Z"), None),
    ])
}

fn file(one: &Value) -> String {
    let mut whole = json!({ "now": NOW, "trusted": trusted(), "revoked": [key(4).public().id()] });
    let members = whole.as_object_mut().expect("an object");
    members.extend(one.as_object().expect("an object").clone());
    format!("{whole:#}\n")
}

#[test]
fn the_kept_vectors_of_personas_are_those_that_are_made() {
    let made: BTreeMap<String, String> = vectors()
        .into_iter()
        .map(|(name, one)| (format!("{name}.json"), file(&one)))
        .collect();
    if std::env::var_os("ARAL_UPDATE_VECTORS").is_some() {
        for (name, text) in &made {
            std::fs::write(Path::new(FOLDER).join(name), text).expect("the file is written");
        }
    }
    let mut kept = BTreeMap::new();
    for entry in std::fs::read_dir(FOLDER).expect("the folder is there") {
        let path = entry.expect("a file").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if name.ends_with(".json") {
            kept.insert(name, std::fs::read_to_string(path).expect("a text"));
        }
    }
    assert!(
        kept == made,
        "the vectors have changed: look at why, then run this test with ARAL_UPDATE_VECTORS=1"
    );
}

#[derive(Debug)]
struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn trust(vector: &Value) -> TrustStore {
    let time = |value: &Value| value.as_str().map(|text| text.parse().expect("a time"));
    let mut trust = TrustStore::default();
    for one in vector["trusted"].as_array().expect("keys") {
        let key = PublicKey::from_pem(one["public_key"].as_str().expect("PEM")).expect("a key");
        let kinds: Vec<Kind> = serde_json::from_value(one["kinds"].clone()).expect("kinds");
        let (not_before, not_after) = (time(&one["not_before"]), time(&one["not_after"]));
        trust.add_for(key, &kinds, Validity { not_before, not_after });
    }
    for id in vector["revoked"].as_array().expect("ids") {
        trust.revoke(id.as_str().and_then(|id| id.parse::<KeyId>().ok()).expect("an id"));
    }
    trust
}

#[test]
fn a_host_takes_or_refuses_each_persona_as_its_vector_says() {
    let mut read = 0;
    for entry in std::fs::read_dir(FOLDER).expect("the folder is there") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&path).expect("a text");
        let vector: Value = serde_json::from_str(&text).expect("JSON");
        let now = vector["now"].as_str().and_then(|now| now.parse().ok()).expect("a time");
        let config = Config {
            trust: trust(&vector),
            ..Config::closed().expect("a configuration")
        };
        let host = Host::builder().config(config).clock(Arc::new(Fixed(now))).build();
        let host = host.expect("a host");
        for before in vector["admitted"].as_array().expect("documents") {
            host.session(before.as_str().expect("a text").as_bytes())
                .expect("it was taken");
        }
        let document = vector["document"].as_str().expect("a text").as_bytes();
        let found = host.session(document).map_err(|failure| failure.code);
        assert_eq!(
            found.map_or_else(Code::as_str, |_| "valid"),
            vector["expected"],
            "{}",
            path.display()
        );
    }
    assert!(read > 30, "{read} vectors");
}

#[test]
fn the_canonical_form_is_that_of_rfc_8785_and_holds_nothing_that_rounds() {
    let vectors: Vec<Value> = serde_json::from_str(CANONICAL).expect("JSON");
    assert!(vectors.len() > 20);
    for one in vectors {
        let input = one["input"].as_str().expect("a text").as_bytes();
        let made = strict::parse(input).and_then(|value| strict::canonical(&value));
        let made = made.ok().map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert_eq!(made.as_deref(), one["expected"].as_str(), "{}", one["name"]);
    }
}
