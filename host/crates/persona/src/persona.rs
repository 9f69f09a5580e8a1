//! The document: its members, and the two ways in which it is believed. It reads no file; whoever does hands the bytes in.

use aral_contract::document::signed::{self, DocumentError, Kind, Verified};
use aral_contract::document::trust::TrustStore;
use aral_contract::id::PersonaId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::constraints::Constraints;

/// The members of a persona of its own, beside `schema`, `serial`, `issued_at`, `expires_at` and `signature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonaBody {
    /// Names the agent in records and policies.
    pub id: PersonaId,
    /// Names the agent for people; shown by `explain`.
    pub name: String,
    /// What the agent may use at most.
    #[serde(default)]
    pub constraints: Constraints,
}

/// A persona that was checked.
pub type Persona = Verified<PersonaBody>;

/// Checks a signed persona: strict JSON, signature by a key that is trusted for personas, members, validity at `now`.
pub fn verify(bytes: &[u8], trust: &TrustStore, now: Timestamp) -> Result<Persona, DocumentError> {
    signed::verify(Kind::Persona, bytes, trust, now)
}

/// Checks everything but the signature. For development: the caller warns each time.
pub fn dangerous_accept_unsigned(bytes: &[u8], now: Timestamp) -> Result<Persona, DocumentError> {
    signed::dangerous_accept_unsigned(Kind::Persona, bytes, now)
}

#[cfg(test)]
mod tests {
    use aral_contract::document::PrivateKey;
    use aral_contract::document::signed::Header;
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn body() -> Value {
        json!({"id": "analyst", "name": "Analyst", "constraints": {"allowed_permissions": ["file:read"]}})
    }

    fn signed_by(seed: u8, body: &Value) -> Vec<u8> {
        let header = Header {
            schema: Kind::Persona.schema().to_owned(),
            serial: 1,
            issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let key = PrivateKey::from_seed(&Zeroizing::new([seed; 32]));
        signed::sign(Kind::Persona, &header, body, &key)
            .unwrap()
            .to_string()
            .into_bytes()
    }

    fn trust(kind: Kind) -> TrustStore {
        let mut store = TrustStore::default();
        store.add(PrivateKey::from_seed(&Zeroizing::new([1; 32])).public(), &[kind]);
        store
    }

    #[test]
    fn a_signed_persona_is_taken_and_every_doubt_is_not() {
        let persona = verify(&signed_by(1, &body()), &trust(Kind::Persona), now()).unwrap();
        assert_eq!(persona.body.id.as_str(), "analyst");
        assert!(persona.signer.is_some());
        assert!(verify(&signed_by(2, &body()), &trust(Kind::Persona), now()).is_err());
        assert!(verify(&signed_by(1, &body()), &trust(Kind::Manifest), now()).is_err());
        let late = "2027-01-01T00:00:00Z".parse().unwrap();
        assert!(verify(&signed_by(1, &body()), &trust(Kind::Persona), late).is_err());
    }

    #[test]
    fn unknown_members_are_refused_at_every_depth() {
        for bad in [
            json!({"id": "a", "name": "A", "role": "x"}),
            json!({"id": "a", "name": "A", "constraints": {"allowed_hosts": []}}),
            json!({"id": "a", "name": "A", "constraints": {"allowed_domains": ["example.com"]}}),
            json!({"id": "a"}),
        ] {
            let outcome = verify(&signed_by(1, &bad), &trust(Kind::Persona), now());
            assert!(
                matches!(outcome, Err(DocumentError::Shape { .. })),
                "{bad} gave {outcome:?}"
            );
        }
    }

    #[test]
    fn the_development_door_skips_the_signature_alone() {
        let mut document: Value = serde_json::from_slice(&signed_by(1, &body())).unwrap();
        document.as_object_mut().unwrap().remove("signature");
        let bytes = document.to_string().into_bytes();
        assert!(verify(&bytes, &trust(Kind::Persona), now()).is_err());
        assert_eq!(dangerous_accept_unsigned(&bytes, now()).unwrap().signer, None);
        let late = "2027-01-01T00:00:00Z".parse().unwrap();
        assert!(dangerous_accept_unsigned(&bytes, late).is_err());
    }
}
