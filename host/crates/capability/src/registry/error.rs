//! Why something is not admitted, or not found, and the line that helps.

use aral_contract::{CapabilityId, Code, Digest, Failure, KeyId};
use semver::{Op, Version, VersionReq};

use super::REGISTERED_MAX;
use crate::imports::split_version;
use crate::manifest::Shape;

/// How to see what there is.
const LIST: &str = "list what there is: `aral explain`";

/// Why a component or a manifest is not admitted, or a capability not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Another component than the manifest names.
    #[error("the component of `{id}` {version} has SHA-256 {found}, and the manifest names {expected}")]
    DigestMismatch {
        /// Which capability.
        id: CapabilityId,
        /// Its version.
        version: Version,
        /// What the manifest says.
        expected: Box<Digest>,
        /// What was given.
        found: Box<Digest>,
    },
    /// The component cannot be called in the way that the entry declares.
    #[error("`{id}` is declared as a {declared}, and its component exports {}", match .found { Some(found) => format!("`{}`: it is a {found}", split_version(found.export()).0), None => "neither a tool nor a command".to_owned() })]
    Shape {
        /// Which capability.
        id: CapabilityId,
        /// What the entry says.
        declared: Shape,
        /// What the component is.
        found: Option<Shape>,
        /// What it exports.
        exports: Vec<String>,
    },
    /// A manifest older than one that was admitted.
    #[error("the manifest has serial {serial}, and `{id}` was admitted before with serial {last} by key `{signer}`")]
    Serial {
        /// Who signed both.
        signer: KeyId,
        /// A capability that both have.
        id: CapabilityId,
        /// What this one has.
        serial: u64,
        /// What the last one has.
        last: u64,
    },
    /// The version is there already, as something else.
    #[error("`{id}` {version} is registered already, with another component or by another signer")]
    Taken {
        /// Which capability.
        id: CapabilityId,
        /// Which version.
        version: Version,
    },
    /// The registry is full.
    #[error("{REGISTERED_MAX} capabilities are registered: there is no room for more")]
    Full,
    /// Its components are too large.
    #[error("the components of all capabilities may have {bytes_max} bytes together: there is no room for more")]
    FullOfBytes {
        /// How many there may be.
        bytes_max: u64,
    },
    /// Its schemas keep too much; with the bound in bytes.
    #[error(
        "what `unevaluatedProperties` and `unevaluatedItems` in the schemas of all capabilities ask may take {0} bytes together: there is no room for more"
    )]
    FullOfKept(u64),
    /// No such capability.
    #[error("there is no capability `{id}`")]
    Unknown {
        /// Which one was asked for.
        id: CapabilityId,
    },
    /// No such version.
    #[error("there is no version `{wanted}` of `{id}`: there is {}", .known.iter().map(Version::to_string).collect::<Vec<_>>().join(", "))]
    UnknownVersion {
        /// Which capability.
        id: CapabilityId,
        /// Which version was asked for.
        wanted: VersionReq,
        /// The versions that there are.
        known: Vec<Version>,
    },
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let (code, hint) = match &error {
            RegistryError::DigestMismatch { .. } => (
                Code::DigestMismatch,
                "give the component that was signed, or build and sign the manifest again: \
                 `aral manifest build FOLDER… --out NEW.json`, `aral manifest sign NEW.json --key KEY.pem`, `mv NEW.json MANIFEST.json`"
                    .to_owned(),
            ),
            RegistryError::Shape { found: Some(found), .. } => (
                Code::ComponentInvalid,
                format!("write in capability.toml: shape = \"{found}\""),
            ),
            RegistryError::Shape {
                found: None, exports, ..
            } => {
                let exports = match exports.as_slice() {
                    [] => "nothing".to_owned(),
                    some => some
                        .iter()
                        .take(8)
                        .map(|name| format!("`{}`", name.escape_debug()))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                let (tool, command) = (Shape::Tool.export(), Shape::Command.export());
                (
                    Code::ComponentInvalid,
                    format!("it exports {exports}; export `{tool}` or `{command}`"),
                )
            }
            RegistryError::Serial { last, .. } => (
                Code::DocumentStale,
                format!(
                    "name the newer issue in its place, or sign this one again: `aral manifest sign FILE --key KEY.pem` \
                     (its serial must be {last} or higher)"
                ),
            ),
            RegistryError::Taken { .. } => (Code::DocumentInvalid, "raise `version` in capability.toml".to_owned()),
            RegistryError::Full | RegistryError::FullOfBytes { .. } | RegistryError::FullOfKept(_) => {
                (Code::Unavailable, "remove capabilities that nobody calls".to_owned())
            }
            RegistryError::UnknownVersion { id, wanted, known } => (
                Code::CapabilityUnknown,
                compatible(id, wanted, known).unwrap_or_else(|| LIST.to_owned()),
            ),
            RegistryError::Unknown { .. } => (Code::CapabilityUnknown, LIST.to_owned()),
        };
        Self::new(code, error.to_string()).with_hint(hint)
    }
}

/// How to ask for the newest version that is compatible, where one version alone was asked for and a compatible one is there.
fn compatible(id: &CapabilityId, wanted: &VersionReq, known: &[Version]) -> Option<String> {
    let [one] = wanted.comparators.as_slice() else {
        return None;
    };
    // Whoever asks for `=1.9` asks for more than one.
    if one.op != Op::Exact || one.patch.is_none() {
        return None;
    }
    let mut one = one.clone();
    one.op = Op::Caret;
    let wider = VersionReq { comparators: vec![one] };
    let is_there = known.iter().any(|version| wider.matches(version));
    is_there
        .then(|| format!("a whole version is that one alone; `{id}@{wider}` is the newest that is compatible with it"))
}
