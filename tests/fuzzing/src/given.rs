//! What labs are given: signed documents, a persona that allows everything, and limits that are in nobody's way. The integration
//! tests have the same.

use aral_contract::document::signed::{self, Header};
use aral_contract::document::{Kind, PrivateKey};
use serde_json::{Map, Value, json};

/// A signed document, valid now.
///
/// # Panics
/// It cannot be signed.
pub fn sign(kind: Kind, body: &Value, key: &PrivateKey) -> Value {
    let header = Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: "2025-01-01T00:00:00Z".parse().expect("a time"),
        expires_at: "2100-01-01T00:00:00Z".parse().expect("a time"),
    };
    signed::sign(kind, &header, body, key).expect("a document")
}

/// The body of a persona that allows everything.
pub fn persona() -> Value {
    json!({
        "id": "tester",
        "name": "Tester",
        "clearance": "secret",
        "constraints": { "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"] },
    })
}

/// `[serve.rates]`: so many of everything, each second and at once.
pub fn rates(count: u64) -> Map<String, Value> {
    [
        "global",
        "address",
        "failures",
        "persona",
        "capability",
        "cost",
        "caller",
    ]
    .map(|limit| (limit.to_owned(), json!({ "per_second": count, "burst": count })))
    .into_iter()
    .collect()
}
