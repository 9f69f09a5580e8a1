//! The document: its members, and the two ways in which it is believed. It reads no file; whoever does hands the bytes in.

use aral_contract::document::signed::{self, DocumentError, Header, Kind, Verified};
use aral_contract::document::trust::TrustStore;
use aral_contract::document::{PrivateKey, json};
use aral_contract::id::{PersonaId, TierName};
use aral_contract::limits::DOCUMENT_BYTES_MAX;
use aral_contract::{Classification, Failure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::constraints::Constraints;
use crate::text;

/// Longest name for people, in bytes. Stops a name from filling a terminal.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4 << 10;
/// Longest system prompt, in bytes. Stops a persona from filling the context of a model.
pub const SYSTEM_PROMPT_BYTES_MAX: usize = 64 << 10;

/// The members of a persona of its own, beside `schema`, `serial`, `issued_at`, `expires_at` and `signature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonaBody {
    /// Names the agent in records and policies.
    pub id: PersonaId,
    /// Names the agent for people.
    #[serde(deserialize_with = "text::bounded::<_, TITLE_BYTES_MAX>")]
    pub name: String,
    /// What the agent is for, for people.
    #[serde(default, deserialize_with = "text::bounded::<_, DESCRIPTION_BYTES_MAX>")]
    pub description: String,
    /// What a model is told before anything else. The host hands it out and does not read it.
    #[serde(default, deserialize_with = "text::bounded::<_, SYSTEM_PROMPT_BYTES_MAX>")]
    pub system_prompt: String,
    /// For which numbers of the policy stand in for those that this document does not give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierName>,
    /// The most sensitive values that capabilities may be handed or may store for this agent.
    #[serde(default = "least")]
    pub clearance: Classification,
    /// What the agent may use at most.
    #[serde(default)]
    pub constraints: Constraints,
}

fn least() -> Classification {
    Classification::Public
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

/// Reads a persona to look at it or to sign it, signed or not, valid or not: no session may come of it.
pub fn read_unbelieved(bytes: &[u8]) -> Result<(Header, PersonaBody), DocumentError> {
    signed::read_unbelieved(Kind::Persona, bytes)
}

/// For whom a document says that it stands, if it says so at all. Whatever comes of that is no more than a suspicion.
pub fn alleged_id(bytes: &[u8]) -> Option<PersonaId> {
    let value = (bytes.len() <= DOCUMENT_BYTES_MAX).then(|| json::parse(bytes).ok())??;
    value.get("id")?.as_str()?.parse().ok()
}

/// The header of a persona.
pub fn header(serial: u64, issued_at: Timestamp, expires_at: Timestamp) -> Header {
    Header {
        schema: Kind::Persona.schema().to_owned(),
        serial,
        issued_at,
        expires_at,
    }
}

/// The document without a signature, for `aral persona sign` to sign or for development.
pub fn unsigned(header: &Header, body: &PersonaBody) -> Result<Value, Failure> {
    let mut document = serde_json::to_value(header).map_err(Failure::internal)?;
    if let (Some(document), Value::Object(members)) = (document.as_object_mut(), to_value(body)?) {
        document.extend(members);
    }
    Ok(document)
}

/// The signed document, ready to be written.
pub fn sign(header: &Header, body: &PersonaBody, key: &PrivateKey) -> Result<Value, Failure> {
    Ok(signed::sign(Kind::Persona, header, &to_value(body)?, key)?)
}

fn to_value(body: &PersonaBody) -> Result<Value, Failure> {
    serde_json::to_value(body).map_err(Failure::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
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
            json!({"id": "a", "name": "A", "clearance": "top"}),
            json!({"id": "a", "name": "A", "tier": "Gold"}),
            json!({"id": "a", "name": "A", "constraints": {"rate_limits": {"requests_per_second": 1}}}),
            json!({"id": "a", "name": "A", "constraints": {"max_cost_per_hour": -1}}),
            json!({"id": "a", "name": "x".repeat(TITLE_BYTES_MAX + 1)}),
            json!({"id": "a", "name": "A", "description": "x".repeat(DESCRIPTION_BYTES_MAX + 1)}),
            json!({"id": "a", "name": "A", "system_prompt": "x".repeat(SYSTEM_PROMPT_BYTES_MAX + 1)}),
        ] {
            let outcome = verify(&signed_by(1, &bad), &trust(Kind::Persona), now());
            assert!(
                matches!(outcome, Err(DocumentError::Shape { .. })),
                "{bad} gave {outcome:?}"
            );
        }
    }

    #[test]
    fn what_stands_in_the_wrong_place_is_not_quoted() {
        let bad = json!({"id": "a", "name": "A", "constraints": "You know of hunter2."});
        let error = verify(&signed_by(1, &bad), &trust(Kind::Persona), now()).unwrap_err();
        let said = aral_contract::failure::chain(&error);
        assert!(
            said.contains("a string, expected") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn no_list_is_longer_than_a_decision_allows() {
        use crate::constraints::LIST_ITEMS_MAX;
        let item = |list: &str, number: usize| match list {
            "allowed_permissions" => "file:read".to_owned(),
            "allowed_domains" => format!("https://a{number}.example.org"),
            _ => format!("a{number}"),
        };
        for list in [
            "allowed_permissions",
            "allowed_capabilities",
            "allowed_domains",
            "allowed_agents",
        ] {
            let with = |count: usize| {
                let items: Vec<String> = (0..count).map(|number| item(list, number)).collect();
                let body = json!({"id": "a", "name": "A", "constraints": {list: items}});
                verify(&signed_by(1, &body), &trust(Kind::Persona), now())
            };
            assert!(with(LIST_ITEMS_MAX).is_ok(), "{list}");
            let outcome = with(LIST_ITEMS_MAX + 1);
            assert!(
                matches!(outcome, Err(DocumentError::Shape { .. })),
                "{list} gave {outcome:?}"
            );
        }
    }

    #[test]
    fn what_is_absent_is_closed_or_left_to_the_policy() {
        let body = verify(&signed_by(1, &body()), &trust(Kind::Persona), now())
            .unwrap()
            .body;
        assert_eq!(body.clearance, Classification::Public);
        assert_eq!((body.tier, body.constraints.max_cost_per_hour), (None, None));
        assert_eq!((&*body.description, &*body.system_prompt), ("", ""));
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let whole = json!({
            "id": "a", "name": "Ä", "description": "d", "system_prompt": "p", "tier": "gold", "clearance": "internal",
            "constraints": {
                "allowed_permissions": ["file:read"], "allowed_capabilities": ["a@^1"],
                "allowed_domains": ["https://a.example"], "allowed_agents": ["b"], "max_reasoning_depth": 3,
                "max_cost_per_hour": 5_000_000, "rate_limits": {"requests_per_minute": 1, "requests_per_hour": 2},
            },
        });
        let bytes = signed_by(1, &whole);
        let (header, body) = read_unbelieved(&bytes).unwrap();
        assert_eq!(to_value(&body).unwrap(), whole);
        let key = PrivateKey::from_seed(&Zeroizing::new([1; 32]));
        assert_eq!(sign(&header, &body, &key).unwrap().to_string().into_bytes(), bytes);
        assert_eq!(alleged_id(&bytes).unwrap().as_str(), "a");
        assert_eq!(alleged_id(b"{"), None);
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
