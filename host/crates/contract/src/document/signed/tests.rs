//! One test per attack on a signed document.

use zeroize::Zeroizing;

use super::*;
use crate::failure::{Code, Failure};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn trust(kinds: &[Kind]) -> TrustStore {
    let mut store = TrustStore::default();
    store.add(key(1).public(), kinds);
    store
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn header(kind: Kind) -> Header {
    Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn signed() -> Value {
    sign(Kind::Manifest, &header(Kind::Manifest), &json!({"name": "é"}), &key(1)).unwrap()
}

fn open(document: &str) -> Result<Verified<Body>, DocumentError> {
    verify(Kind::Manifest, document.as_bytes(), &trust(&[Kind::Manifest]), now())
}

/// Changes the signed document and returns the error.
fn attack(change: impl FnOnce(&mut Value)) -> DocumentError {
    let mut document = signed();
    change(&mut document);
    open(&document.to_string()).unwrap_err()
}

#[test]
fn a_good_document_is_taken_in_any_layout() {
    let verified = open(&serde_json::to_string_pretty(&signed()).unwrap()).unwrap();
    assert_eq!(verified.body, Body { name: "é".to_owned() });
    assert_eq!(verified.signer, Some(key(1).public().id()));
}

#[test]
fn changed_removed_or_added_members_are_found() {
    let id = key(1).public().id();
    let wrong = DocumentError::Signature {
        kind: Kind::Manifest,
        key: id,
    };
    assert_eq!(attack(|document| document["name"] = json!("e")), wrong);
    assert_eq!(attack(|document| document["serial"] = json!(2)), wrong);
    assert_eq!(
        attack(|document| document["expires_at"] = json!("2099-01-01T00:00:00Z")),
        wrong
    );
    assert_eq!(attack(|document| document["extra"] = json!(1)), wrong);
}

#[test]
fn signature_members_are_checked() {
    let remove = |document: &mut Value| drop(document.as_object_mut().unwrap().remove("signature"));
    assert_eq!(attack(remove), DocumentError::Unsigned { kind: Kind::Manifest });
    assert!(matches!(
        attack(|d| d["signature"]["algorithm"] = json!("none")),
        DocumentError::Algorithm { .. }
    ));
    assert!(matches!(
        attack(|d| d["signature"]["key_id"] = json!("00")),
        DocumentError::Shape { .. }
    ));
    assert!(matches!(
        attack(|d| d["signature"]["value"] = json!("é".repeat(64))),
        DocumentError::Signature { .. }
    ));
    assert!(matches!(
        attack(|d| d["signature"]["value"] = json!("00".repeat(64))),
        DocumentError::Signature { .. }
    ));
    assert!(matches!(
        attack(|d| d["signature"]["more"] = json!(1)),
        DocumentError::Shape { .. }
    ));
}

#[test]
fn a_scalar_out_of_range_is_refused() {
    // S + L verifies under a lax reader; the group order L, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let error = attack(|document| {
        let mut bytes = signature_bytes(document["signature"]["value"].as_str().unwrap()).unwrap();
        let mut carry = 0u16;
        for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        document["signature"]["value"] = json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    });
    assert!(matches!(error, DocumentError::Signature { .. }));
}

#[test]
fn the_key_must_be_trusted_for_the_kind() {
    let document = signed().to_string();
    let check = |trust: &TrustStore| verify::<Body>(Kind::Manifest, document.as_bytes(), trust, now()).unwrap_err();
    assert!(matches!(
        check(&TrustStore::default()),
        DocumentError::UnknownKey { .. }
    ));
    assert!(matches!(
        check(&trust(&[Kind::Persona])),
        DocumentError::WrongKeyKind { .. }
    ));
}

#[test]
fn one_kind_does_not_pass_for_another() {
    let persona = sign(Kind::Persona, &header(Kind::Persona), &json!({"name": "a"}), &key(1))
        .unwrap()
        .to_string();
    assert!(matches!(open(&persona).unwrap_err(), DocumentError::WrongKind { .. }));
    assert!(sign(Kind::Manifest, &header(Kind::Persona), &json!({}), &key(1)).is_err());
}

#[test]
fn duplicate_keys_and_unknown_members_are_refused() {
    let twice = signed().to_string().replacen('{', "{\"serial\":1,", 1);
    assert!(matches!(open(&twice).unwrap_err(), DocumentError::Json { .. }));
    let body = json!({"name": "a", "surprise": 1});
    let unknown = sign(Kind::Manifest, &header(Kind::Manifest), &body, &key(1)).unwrap();
    assert!(matches!(
        open(&unknown.to_string()).unwrap_err(),
        DocumentError::Shape { .. }
    ));
    let float = signed().to_string().replacen("\"serial\":1", "\"serial\":1.0", 1);
    assert!(matches!(open(&float).unwrap_err(), DocumentError::Json { .. }));
}

#[test]
fn validity_is_a_half_open_interval() {
    let document = signed().to_string();
    let at = |time: &str| {
        verify::<Body>(
            Kind::Manifest,
            document.as_bytes(),
            &trust(&[Kind::Manifest]),
            time.parse().unwrap(),
        )
    };
    assert!(matches!(
        at("2025-12-31T23:59:59Z").unwrap_err(),
        DocumentError::NotYetValid { .. }
    ));
    assert!(at("2026-01-01T00:00:00Z").is_ok());
    assert!(matches!(
        at("2027-01-01T00:00:00Z").unwrap_err(),
        DocumentError::Expired { .. }
    ));
}

#[test]
fn a_document_is_believed_as_long_as_its_key() {
    let verified = open(&signed().to_string()).unwrap();
    let mut store = trust(&[Kind::Manifest]);
    assert!(verified.check(&store, now()).is_ok());
    let late = "2027-01-01T00:00:00Z".parse().unwrap();
    assert!(matches!(
        verified.check(&store, late).unwrap_err(),
        DocumentError::Expired { .. }
    ));
    store.revoke(key(1).public().id());
    assert!(matches!(
        verified.check(&store, now()).unwrap_err(),
        DocumentError::RevokedKey { .. }
    ));
    assert!(matches!(
        verified.check(&TrustStore::default(), now()).unwrap_err(),
        DocumentError::UnknownKey { .. }
    ));
    let error = verify::<Body>(Kind::Manifest, signed().to_string().as_bytes(), &store, now()).unwrap_err();
    assert!(matches!(error, DocumentError::RevokedKey { .. }));
}

#[test]
fn a_signature_over_escapes_is_told_from_a_forged_one() {
    let mut document = signed();
    let mut unsigned = document.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let escaped = json::with_escapes(&json::canonical(&unsigned).unwrap()).unwrap();
    let value: String = key(1).sign(&escaped).iter().map(|byte| format!("{byte:02x}")).collect();
    document["signature"]["value"] = json!(value);
    let error = open(&document.to_string()).unwrap_err();
    assert!(matches!(error, DocumentError::Escaped { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::SignatureInvalid);
    assert!(failure.hint.unwrap().contains("ensure_ascii=False"));
    document["name"] = json!("ä");
    assert!(matches!(
        open(&document.to_string()).unwrap_err(),
        DocumentError::Signature { .. }
    ));
}

#[test]
fn size_is_bounded_before_parsing() {
    let big = " ".repeat(DOCUMENT_BYTES_MAX + 1);
    assert!(matches!(open(&big).unwrap_err(), DocumentError::TooLarge { .. }));
}

#[test]
fn the_development_door_skips_the_signature_alone() {
    let mut document = signed();
    document.as_object_mut().unwrap().remove("signature");
    let text = document.to_string();
    let accepted: Verified<Body> = dangerous_accept_unsigned(Kind::Manifest, text.as_bytes(), now()).unwrap();
    assert_eq!(accepted.signer, None);
    let late = "2030-01-01T00:00:00Z".parse().unwrap();
    assert!(dangerous_accept_unsigned::<Body>(Kind::Manifest, text.as_bytes(), late).is_err());
}
