//! The manifest: a signed list of capabilities, each with what it asks for. Text in, checked values out; it reads no file
//! and runs no component. A [`ManifestBody`] that exists has passed every rule of [`check`].

pub mod build;
pub mod check;
pub mod schema_rules;
pub mod source;

use aral_contract::document::signed::{self, DocumentError, Header, Kind, Verified};
use aral_contract::document::{PrivateKey, TrustStore, json};
use aral_contract::{CapabilityId, Digest, Failure, LimitsRequest, Permissions};
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use check::ManifestError;
pub use source::CapabilityToml;

pub use crate::inspect::Shape;

/// What a capability says of itself, read once at build time: from the component for the shape `tool`, from files for
/// the shape `command`. The signed copy in the manifest is what counts later.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// One line for a list of tools.
    pub title: String,
    /// What the tool does and when to use it.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input.
    pub input_schema: Value,
    /// JSON Schema (draft 2020-12) of the output.
    pub output_schema: Value,
}

impl Descriptor {
    /// From texts that a guest or a file gave: the schemas are parsed strictly, nothing else is believed yet.
    pub fn parse(
        title: String,
        description: String,
        input_schema: &str,
        output_schema: &str,
    ) -> Result<Self, ManifestError> {
        let schema = |member: &'static str, text: &str| {
            schema_rules::check_size(member, text.len())?;
            json::parse(text.as_bytes()).map_err(|error| ManifestError::SchemaText { member, error })
        };
        Ok(Self {
            title,
            description,
            input_schema: schema("input_schema", input_schema)?,
            output_schema: schema("output_schema", output_schema)?,
        })
    }
}

/// One capability in a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub id: CapabilityId,
    /// Its version.
    pub version: Version,
    /// How it is called.
    pub shape: Shape,
    /// SHA-256 of the component; the bytes that have it are the bytes that run.
    pub component: Digest,
    /// One line for a list of tools.
    pub title: String,
    /// What the tool does and when to use it.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input.
    pub input_schema: Value,
    /// JSON Schema (draft 2020-12) of the output.
    pub output_schema: Value,
    /// What it asks for. Absent means nothing.
    #[serde(default)]
    pub permissions: Permissions,
    /// How much of it. Absent fields take the policy's defaults.
    #[serde(default)]
    pub limits: LimitsRequest,
}

/// The body of a manifest: entries that passed every check, no (id, version) twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawBody")]
pub struct ManifestBody {
    capabilities: Vec<Entry>,
}

/// The body as it stands in the document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBody {
    capabilities: Vec<Entry>,
}

impl TryFrom<RawBody> for ManifestBody {
    type Error = ManifestError;
    fn try_from(raw: RawBody) -> Result<Self, ManifestError> {
        Self::new(raw.capabilities)
    }
}

impl ManifestBody {
    /// Checks the entries and takes them.
    pub fn new(capabilities: Vec<Entry>) -> Result<Self, ManifestError> {
        check::check_entries(&capabilities)?;
        Ok(Self { capabilities })
    }

    /// The entries, in the order of the document.
    pub fn capabilities(&self) -> &[Entry] {
        &self.capabilities
    }

    /// The names of its capabilities; one that has several versions comes several times.
    pub fn ids(&self) -> impl Iterator<Item = &CapabilityId> {
        self.capabilities.iter().map(|entry| &entry.id)
    }

    fn to_value(&self) -> Result<Value, Failure> {
        serde_json::to_value(self).map_err(Failure::internal)
    }
}

/// The header of a manifest.
pub fn header(serial: u64, issued_at: Timestamp, expires_at: Timestamp) -> Header {
    Header {
        schema: Kind::Manifest.schema().to_owned(),
        serial,
        issued_at,
        expires_at,
    }
}

/// The document without a signature, for `aral manifest sign` to sign or for development.
pub fn unsigned(header: &Header, body: &ManifestBody) -> Result<Value, Failure> {
    let mut document = serde_json::to_value(header).map_err(Failure::internal)?;
    if let (Some(document), Value::Object(members)) = (document.as_object_mut(), body.to_value()?) {
        document.extend(members);
    }
    Ok(document)
}

/// The signed document, ready to be written.
pub fn sign(header: &Header, body: &ManifestBody, key: &PrivateKey) -> Result<Value, Failure> {
    Ok(signed::sign(Kind::Manifest, header, &body.to_value()?, key)?)
}

/// Checks a signed manifest: size, strict JSON, signature by a key that is trusted for manifests, every rule of
/// [`check`], validity at `now`.
pub fn verify(bytes: &[u8], trust: &TrustStore, now: Timestamp) -> Result<Verified<ManifestBody>, DocumentError> {
    hinted(signed::verify(Kind::Manifest, bytes, trust, now), bytes)
}

/// Checks everything but the signature. For development: the caller warns each time.
pub fn dangerous_accept_unsigned(bytes: &[u8], now: Timestamp) -> Result<Verified<ManifestBody>, Failure> {
    let accepted = signed::dangerous_accept_unsigned(Kind::Manifest, bytes, now);
    Ok(hinted(accepted, bytes)?)
}

/// Reads a manifest to look at it or to sign it, signed or not, valid or not: nothing of it may be admitted.
pub fn read_unbelieved(bytes: &[u8]) -> Result<(Header, ManifestBody), Failure> {
    let read = signed::read_unbelieved(Kind::Manifest, bytes);
    Ok(hinted(read, bytes)?)
}

/// With what helps a manifest whose entries do not pass [`check`]: of that error only the text comes through the reading of a document.
fn hinted<T>(read: Result<T, DocumentError>, bytes: &[u8]) -> Result<T, DocumentError> {
    let hint = || {
        let (_, raw) = signed::read_unbelieved::<RawBody>(Kind::Manifest, bytes).ok()?;
        ManifestBody::try_from(raw).err()?.hint()
    };
    read.map_err(|error| error.or_hint(hint))
}

#[cfg(test)]
mod tests;
