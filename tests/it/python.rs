//! Personas between this implementation and Python's `cryptography`, both ways, with what the two do differently.

use aral_contract::document::signed::{self, Header, Kind};
use aral_contract::document::{PrivateKey, TrustStore};
use aral_contract::{Code, Failure};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const SCRIPT: &str = include_str!("python/persona.py");

fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([11; 32]))
}

fn python(asked: &Value) -> Value {
    crate::support::python::ask(SCRIPT, asked)
}

fn unsigned(name: &str) -> Value {
    json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
        "id": "analyst", "name": name, "clearance": "internal",
        "constraints": { "allowed_capabilities": ["*"], "max_cost_per_hour": 5_000_000, "rate_limits": { "requests_per_minute": 9 } },
    })
}

/// What Python makes of a document: a text that it has signed.
fn signed_there(document: &Value, ensure_ascii: bool) -> String {
    let asked = json!({"verb": "sign", "seed": "0b".repeat(32), "document": document, "ensure_ascii": ensure_ascii});
    python(&asked)["document"].as_str().expect("a text").to_owned()
}

fn verify_here(text: &str) -> Result<(), Failure> {
    let mut trust = TrustStore::default();
    trust.add(key().public(), &[Kind::Persona]);
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    signed::verify::<Value>(Kind::Persona, text.as_bytes(), &trust, now)?;
    Ok(())
}

#[test]
fn what_python_signs_verifies_here() {
    for (name, ensure_ascii) in [("Analyst", true), ("Analyst", false), ("Añalyst 🦀 \u{7f}", false)] {
        let text = signed_there(&unsigned(name), ensure_ascii);
        assert_eq!(verify_here(&text), Ok(()), "{name}");
    }
}

#[test]
fn a_signature_of_python_over_escapes_is_refused_with_what_to_write() {
    let failure = verify_here(&signed_there(&unsigned("Añalyst 🦀 \u{7f}"), true)).expect_err("it is refused");
    assert_eq!(failure.code, Code::SignatureInvalid);
    assert!(
        failure.message.contains("letters beyond ASCII are escaped"),
        "{failure}"
    );
    assert!(failure.hint.expect("a hint").contains("ensure_ascii=False"));
}

#[test]
fn a_float_is_refused_although_python_signs_it() {
    let mut document = unsigned("Analyst");
    document["constraints"]["max_cost_per_hour"] = json!(1.5);
    let failure = verify_here(&signed_there(&document, true)).expect_err("it is refused");
    assert_eq!(failure.code, Code::DocumentInvalid);
    assert!(
        failure.message.contains("`1.5` is not an integer below 2^53"),
        "{failure}"
    );
}

#[test]
fn what_is_signed_here_verifies_in_python() {
    for name in ["Analyst", "Añalyst 🦀 \u{7f}"] {
        let header = Header {
            schema: Kind::Persona.schema().to_owned(),
            serial: 1,
            issued_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            expires_at: "2027-01-01T00:00:00Z".parse().expect("a time"),
        };
        let body = json!({"id": "analyst", "name": name, "constraints": {"max_cost_per_hour": 5_000_000}});
        let document = signed::sign(Kind::Persona, &header, &body, &key()).expect("a document");
        let public = key().public().to_pem().expect("a key");
        let verified = |document: &Value| {
            python(&json!({"verb": "verify", "public_key": public, "document": document.to_string()}))["valid"].clone()
        };
        assert_eq!(verified(&document), json!(true), "{name}");
        let mut changed = document.clone();
        changed["serial"] = json!(2);
        assert_eq!(verified(&changed), json!(false), "{name}");
    }
}

#[test]
fn private_keys_go_both_ways() {
    let plain = key().to_pem().expect("PEM");
    let opened = python(&json!({"verb": "open", "pem": *plain}));
    assert_eq!(opened["seed"], "0b".repeat(32));
    let sealed = python(&json!({"verb": "seal", "seed": "0b".repeat(32), "passphrase": "a few wörds"}));
    let opened = PrivateKey::from_pem_with(sealed["pem"].as_str().expect("PEM"), "a few wörds".as_bytes());
    assert_eq!(opened.expect("a key").public(), key().public());
    let pem = key()
        .to_encrypted_pem("a few wörds".as_bytes(), &[5; 16], [6; 16])
        .expect("PEM");
    let opened = python(&json!({"verb": "open", "pem": *pem, "passphrase": "a few wörds"}));
    assert_eq!(opened["seed"], "0b".repeat(32));
}
