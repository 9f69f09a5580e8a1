//! Signing and verifying. A [`Verified`] value can only come out of a check, or out of a door named `dangerous_`.

mod error;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json;
use super::key::PrivateKey;
use super::trust::TrustStore;
use crate::id::{Digest, KeyId};
use crate::limits::DOCUMENT_BYTES_MAX;

pub use error::DocumentError;

/// The kinds of signed document. The kind is part of what is signed (`schema`), so that no document passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A list of capabilities.
    Manifest,
    /// The identity of an agent.
    Persona,
    /// The state of an audit log. It never expires.
    Checkpoint,
}

impl Kind {
    /// The value of the member `schema`.
    pub const fn schema(self) -> &'static str {
        match self {
            Self::Manifest => "aral.manifest/v1",
            Self::Persona => "aral.persona/v1",
            Self::Checkpoint => "aral.checkpoint/v1",
        }
    }

    /// Whether documents of this kind end some day.
    pub const fn expires(self) -> bool {
        match self {
            Self::Manifest | Self::Persona => true,
            Self::Checkpoint => false,
        }
    }

    /// The word in messages and in trust stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Persona => "persona",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// The members that every signed document has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `aral.<kind>/v1`.
    pub schema: String,
    /// Grows with each issue of the document; a lower one than the last admitted is refused.
    pub serial: u64,
    /// Not valid before.
    pub issued_at: Timestamp,
    /// Not valid from here on.
    pub expires_at: Timestamp,
}

/// A document that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified<T> {
    /// Its common members.
    pub header: Header,
    /// Its own members.
    pub body: T,
    /// SHA-256 of its canonical form without the signature.
    pub digest: Digest,
    /// Who signed; none: nobody did, and the development door was used.
    pub signer: Option<KeyId>,
    kind: Kind,
}

impl<T> Verified<T> {
    /// Whether the document may be believed now: it is valid, and so is the key that signed it. Asked at every call, not
    /// only when it is loaded.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, trust: &TrustStore, now: Timestamp) -> Result<(), DocumentError> {
        self.check_time(now)?;
        self.signer.map_or(Ok(()), |signer| trust.check(signer, self.kind, now))
    }

    /// Whether the document is valid now, whoever signed it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_time(&self, now: Timestamp) -> Result<(), DocumentError> {
        let (
            kind,
            Header {
                issued_at, expires_at, ..
            },
        ) = (self.kind, &self.header);
        if now < *issued_at {
            Err(DocumentError::NotYetValid {
                kind,
                issued_at: *issued_at,
                now,
            })
        } else if now >= *expires_at {
            Err(DocumentError::Expired {
                kind,
                expires_at: *expires_at,
                now,
            })
        } else {
            Ok(())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureMember {
    algorithm: String,
    value: String,
    key_id: KeyId,
}

/// A parsed document, not yet believed.
struct Alleged {
    kind: Kind,
    header: Header,
    body: Value,
    canonical: Vec<u8>,
    signature: Option<Value>,
}

impl Alleged {
    fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLarge {
                kind,
                size: bytes.len(),
            });
        }
        let json_error = |error| DocumentError::Json { kind, error };
        let shape = |detail: &str| DocumentError::Shape {
            kind,
            detail: detail.to_owned(),
            hint: None,
        };
        let mut document = json::parse(bytes).map_err(json_error)?;
        let members = document.as_object_mut().ok_or_else(|| shape("it is not an object"))?;
        let found = members.get("schema").and_then(Value::as_str).unwrap_or_default();
        if found != kind.schema() {
            return Err(DocumentError::WrongKind {
                kind,
                found: found.chars().take(64).collect(),
            });
        }
        let signature = members.remove("signature");
        let canonical = json::canonical(&document).map_err(json_error)?;
        let header: Header = serde_json::from_value(document.clone()).map_err(|error| unfit(kind, &error))?;
        if let Some(members) = document.as_object_mut() {
            for name in ["schema", "serial", "issued_at", "expires_at"] {
                members.remove(name);
            }
        }
        Ok(Self {
            kind,
            header,
            body: document,
            canonical,
            signature,
        })
    }

    fn check_signature(&self, trust: &TrustStore, now: Timestamp) -> Result<KeyId, DocumentError> {
        let kind = self.kind;
        let member = self.signature.clone().ok_or(DocumentError::Unsigned { kind })?;
        let member: SignatureMember = serde_json::from_value(member).map_err(|error| DocumentError::Shape {
            kind,
            detail: format!("signature: {}", json::unquoted(&error)),
            hint: None,
        })?;
        if member.algorithm != "Ed25519" {
            return Err(DocumentError::Algorithm {
                kind,
                algorithm: member.algorithm.chars().take(64).collect(),
            });
        }
        let key = trust.find(member.key_id, kind, now)?;
        let signature = signature_bytes(&member.value);
        let signs = |text: &[u8]| signature.is_some_and(|signature| key.verify(text, &signature));
        if signs(&self.canonical) {
            return Ok(member.key_id);
        }
        let key = member.key_id;
        Err(match json::with_escapes(&self.canonical) {
            Some(escaped) if signs(&escaped) => DocumentError::Escaped { kind, key },
            Some(_) | None => DocumentError::Signature { kind, key },
        })
    }

    fn believe<T: DeserializeOwned>(self, signer: Option<KeyId>, now: Timestamp) -> Result<Verified<T>, DocumentError> {
        let kind = self.kind;
        let body = serde_json::from_value(self.body).map_err(|error| unfit(kind, &error))?;
        let verified = Verified {
            header: self.header,
            body,
            digest: Digest::of(&self.canonical),
            signer,
            kind,
        };
        verified.check_time(now)?;
        Ok(verified)
    }
}

/// What does not fit; nothing of the document is quoted.
fn unfit(kind: Kind, error: &serde_json::Error) -> DocumentError {
    DocumentError::Shape {
        kind,
        detail: json::unquoted(error),
        hint: None,
    }
}

fn signature_bytes(hex: &str) -> Option<[u8; 64]> {
    let (front, back) = hex.split_at_checked(64)?;
    let (front, back): (Digest, Digest) = (front.parse().ok()?, back.parse().ok()?);
    let mut bytes = [0u8; 64];
    bytes
        .iter_mut()
        .zip(front.as_bytes().iter().chain(back.as_bytes()))
        .for_each(|(to, from)| *to = *from);
    Some(bytes)
}

/// Checks a signed document: size, strict JSON, kind, signature by a key that is trusted for the kind, members, validity
/// at `now`. `T` must refuse unknown members (`#[serde(deny_unknown_fields)]`).
pub fn verify<T: DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
    trust: &TrustStore,
    now: Timestamp,
) -> Result<Verified<T>, DocumentError> {
    let alleged = Alleged::parse(kind, bytes)?;
    let signer = alleged.check_signature(trust, now)?;
    alleged.believe(Some(signer), now)
}

/// Checks everything but the signature. For development: the caller warns each time.
pub fn dangerous_accept_unsigned<T: DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
    now: Timestamp,
) -> Result<Verified<T>, DocumentError> {
    Alleged::parse(kind, bytes)?.believe(None, now)
}

/// Reads a document to look at it or to sign it, signed or not, valid or not: nothing of it may be admitted.
pub fn read_unbelieved<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<(Header, T), DocumentError> {
    let alleged = Alleged::parse(kind, bytes)?;
    let body = serde_json::from_value(alleged.body).map_err(|error| unfit(kind, &error))?;
    Ok((alleged.header, body))
}

/// The digest of a document as [`Verified::digest`] has it, whether it may be believed or not.
pub fn digest_unbelieved(kind: Kind, bytes: &[u8]) -> Result<Digest, DocumentError> {
    Ok(Digest::of(&Alleged::parse(kind, bytes)?.canonical))
}

/// Signs a document: `body` is an object with the document's own members. Returns the whole document, ready to be written.
pub fn sign(kind: Kind, header: &Header, body: &Value, key: &PrivateKey) -> Result<Value, DocumentError> {
    let shape = |detail: &str| DocumentError::Shape {
        kind,
        detail: detail.to_owned(),
        hint: None,
    };
    if header.schema != kind.schema() {
        return Err(DocumentError::WrongKind {
            kind,
            found: header.schema.clone(),
        });
    }
    let mut document = serde_json::to_value(header).map_err(|error| shape(&error.to_string()))?;
    let members = document.as_object_mut().ok_or_else(|| shape("it is not an object"))?;
    for (name, value) in body.as_object().ok_or_else(|| shape("it is not an object"))? {
        if name == "signature" || members.insert(name.clone(), value.clone()).is_some() {
            return Err(shape(&format!("`{}` stands twice", name.escape_debug())));
        }
    }
    let canonical = json::canonical(&document).map_err(|error| DocumentError::Json { kind, error })?;
    let value: String = key.sign(&canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(members) = document.as_object_mut() {
        let signature = json!({"algorithm": "Ed25519", "value": value, "key_id": key.public().id()});
        members.insert("signature".to_owned(), signature);
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
