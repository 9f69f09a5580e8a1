//! Test vectors for signed documents, in a form that other implementations can read: `vectors/signed_documents.json`, one
//! vector for each attack. They are made here and kept in the repository; what is kept is what is verified.

use aral_contract::document::signed::{self, Header, Kind};
use aral_contract::document::{PrivateKey, PublicKey, TrustStore};
use aral_contract::{Code, Failure};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/signed_documents.json");
const NOW: &str = "2026-06-01T00:00:00Z";
/// The order of the group of Ed25519, little-endian: adding it to the scalar of a signature gives another one that a
/// verifier accepts unless it insists on the canonical form.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn header(kind: Kind, issued_at: &str, expires_at: &str) -> Header {
    Header {
        schema: kind.schema().to_owned(),
        serial: 7,
        issued_at: issued_at.parse().expect("a time"),
        expires_at: expires_at.parse().expect("a time"),
    }
}

fn signed_by(seed: u8, kind: Kind, body: &Value) -> Value {
    let header = header(kind, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    signed::sign(kind, &header, body, &key(seed)).expect("a document")
}

fn body() -> Value {
    json!({ "id": "analyst", "name": "Añalyst \u{1F980} <&>", "list": [1, true, null, "\u{7f}\u{80}"] })
}

fn valid() -> Value {
    signed_by(1, Kind::Persona, &body())
}

/// The valid document, changed after it was signed.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut document = valid();
    change(&mut document);
    document.to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signature(document: &Value) -> Vec<u8> {
    let text = document["signature"]["value"].as_str().expect("a signature");
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(pair).collect()
}

/// The same signature with its scalar written in a second way.
fn malleable(document: &mut Value) {
    let mut bytes = signature(document);
    let mut carry = 0_u16;
    for (byte, order) in bytes[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = u8::try_from(sum & 0xff).expect("one byte");
        carry = sum >> 8;
    }
    document["signature"]["value"] = json!(hex(&bytes));
}

fn vector(name: &str, document: String, expected: Option<Code>) -> Value {
    json!({ "name": name, "document": document, "expected": expected.map_or("valid", Code::as_str) })
}

/// Documents that say the same and are written differently.
fn valid_vectors() -> Vec<Value> {
    let document = valid();
    let members = document.as_object().expect("an object");
    let reversed: Vec<String> = members
        .iter()
        .rev()
        .map(|(name, value)| format!("\"{name}\" : {value}"))
        .collect();
    vec![
        vector("as it was signed", document.to_string(), None),
        vector("laid out for people", format!("{document:#}\n"), None),
        vector(
            "members in another order",
            format!("{{\n{}\n}}", reversed.join(",\t")),
            None,
        ),
        vector(
            "a letter as an escape",
            document.to_string().replace("analyst", "\\u0061nalyst"),
            None,
        ),
    ]
}

fn signature_vectors() -> Vec<Value> {
    let other = signed_by(2, Kind::Persona, &body());
    let set = |value: Value| changed(|document| document["signature"]["value"] = value);
    let text = |document: &Value| document["signature"]["value"].as_str().expect("hex").to_owned();
    vec![
        vector(
            "no signature",
            changed(|document| drop(document.as_object_mut().expect("an object").remove("signature"))),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "signed by a key that is not trusted",
            other.to_string(),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "a stranger's signature under a trusted key id",
            set(other["signature"]["value"].clone()),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "signed by a key that is trusted for another kind",
            signed_by(3, Kind::Persona, &body()).to_string(),
            Some(Code::SignatureInvalid),
        ),
        vector("all zero", set(json!("00".repeat(64))), Some(Code::SignatureInvalid)),
        vector(
            "a scalar that is not canonical",
            changed(malleable),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "one byte short",
            set(json!(text(&valid())[2..])),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "upper-case hex",
            set(json!(text(&valid()).to_uppercase())),
            Some(Code::SignatureInvalid),
        ),
        vector("empty", set(json!("")), Some(Code::SignatureInvalid)),
        vector(
            "no algorithm",
            changed(|document| document["signature"]["algorithm"] = json!("none")),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "another algorithm",
            changed(|document| document["signature"]["algorithm"] = json!("HS256")),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "a member more in the signature",
            changed(|document| document["signature"]["more"] = json!(1)),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "a signature that is a text",
            changed(|document| document["signature"] = json!("trust me")),
            Some(Code::DocumentInvalid),
        ),
    ]
}

fn content_vectors() -> Vec<Value> {
    let text = valid().to_string();
    let at = |issued_at: &str, expires_at: &str| {
        let header = header(Kind::Persona, issued_at, expires_at);
        signed::sign(Kind::Persona, &header, &body(), &key(1))
            .expect("a document")
            .to_string()
    };
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let with = |old: &str, new: &str| text.replacen(old, new, 1);
    vec![
        vector(
            "a text changed",
            changed(|document| document["name"] = json!("Admin")),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "a member added",
            changed(|document| document["admin"] = json!(true)),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "the end moved",
            changed(|document| document["expires_at"] = json!("2099-01-01T00:00:00Z")),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "the serial raised",
            changed(|document| document["serial"] = json!(8)),
            Some(Code::SignatureInvalid),
        ),
        vector(
            "a member twice, the second as signed",
            with("\"name\":", "\"name\":\"Admin\",\"name\":"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "a member twice, once as an escape",
            with("\"name\":", "\"n\\u0061me\":\"Admin\",\"name\":"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "a number that is not whole",
            with("[1,", "[1.5,"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "a number of 2^53",
            with("[1,", "[9007199254740992,"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "nested a hundred times",
            with("[1,", &format!("[{deep},")),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "something behind the end",
            format!("{text}x"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "a byte order mark in front",
            format!("\u{feff}{text}"),
            Some(Code::DocumentInvalid),
        ),
        vector("a comma too many", with("}", ",}"), Some(Code::DocumentInvalid)),
        vector(
            "half a document",
            text[..text.len() / 3].to_owned(),
            Some(Code::DocumentInvalid),
        ),
        vector("not an object", "[]".to_owned(), Some(Code::DocumentInvalid)),
        vector("nothing", String::new(), Some(Code::DocumentInvalid)),
        vector(
            "a manifest where a persona is due",
            signed_by(1, Kind::Manifest, &json!({ "capabilities": [] })).to_string(),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "another version of the format",
            with("aral.persona/v1", "aral.persona/v2"),
            Some(Code::DocumentInvalid),
        ),
        vector(
            "expired",
            at("2020-01-01T00:00:00Z", "2026-05-31T23:59:59Z"),
            Some(Code::DocumentStale),
        ),
        vector(
            "expires at this moment",
            at("2020-01-01T00:00:00Z", NOW),
            Some(Code::DocumentStale),
        ),
        vector(
            "not valid yet",
            at("2026-06-01T00:00:01Z", "2027-01-01T00:00:00Z"),
            Some(Code::DocumentStale),
        ),
        vector("valid from this moment", at(NOW, "2026-06-01T00:00:01Z"), None),
    ]
}

fn vectors() -> Value {
    let pem = |seed| key(seed).public().to_pem().expect("a key");
    let all = [valid_vectors(), signature_vectors(), content_vectors()].concat();
    json!({
        "kind": Kind::Persona.as_str(),
        "now": NOW,
        "trusted": [{ "public_key": pem(1), "kinds": ["persona"] }, { "public_key": pem(3), "kinds": ["manifest"] }],
        "vectors": all,
    })
}

#[test]
fn the_kept_vectors_are_those_that_are_made() {
    let made = format!("{:#}\n", vectors());
    if std::env::var_os("ARAL_UPDATE_VECTORS").is_some() {
        std::fs::write(FILE, &made).expect("the file is written");
    }
    let kept = std::fs::read_to_string(FILE).expect("the file is there");
    assert!(
        kept == made,
        "the vectors have changed: look at why, then run this test with ARAL_UPDATE_VECTORS=1"
    );
}

#[test]
fn each_vector_is_taken_or_refused_as_it_says() {
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(FILE).expect("the file is there")).expect("JSON");
    let mut trust = TrustStore::default();
    for one in kept["trusted"].as_array().expect("keys") {
        let key = PublicKey::from_pem(one["public_key"].as_str().expect("PEM")).expect("a key");
        let kinds: Vec<Kind> = serde_json::from_value(one["kinds"].clone()).expect("kinds");
        trust.add(key, &kinds);
    }
    let now = kept["now"].as_str().and_then(|now| now.parse().ok()).expect("a time");
    let vectors = kept["vectors"].as_array().expect("vectors");
    assert!(vectors.len() > 30, "{} vectors", vectors.len());
    for one in vectors {
        let document = one["document"].as_str().expect("a text").as_bytes();
        let found = signed::verify::<Value>(Kind::Persona, document, &trust, now);
        let found = found
            .map_err(|error| Failure::from(error).code)
            .map_or_else(Code::as_str, |_| "valid");
        assert_eq!(found, one["expected"], "{}", one["name"]);
    }
}
