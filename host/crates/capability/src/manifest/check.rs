//! The rules of an entry that its types alone do not express. Pure. Used when a manifest is built and again, on what came
//! out of the signature check, when it is admitted: a signature says who wrote an entry, not that it makes sense.

mod scopes;

use std::collections::BTreeSet;

use aral_contract::document::JsonError;
use aral_contract::document::json::canonical;
use aral_contract::quote::quoted;
use aral_contract::{CapabilityId, Code, Failure, Permission};
use semver::{BuildMetadata, Version};

use super::schema_rules::{self, DIALECT, NAME_BYTES_MAX, PATH_BYTES_MAX, PATHS_BYTES_MAX, SCHEMA_BYTES_MAX};
use super::{Entry, Shape};
pub use scopes::check as check_scopes;
pub(crate) use scopes::injected;

/// Capabilities in one manifest. Stops a manifest from filling the registry.
pub const CAPABILITIES_MAX: usize = 256;
/// Hosts, folders, names or programs in one scope. Stops a scope that takes long to check at every call.
pub const SCOPE_ITEMS_MAX: usize = 256;
/// Secrets in `secret:read`. Each gets whatever persona and policy allow of its hosts, which may be many more than it names: stops a
/// grant that is made of all pairs of them.
pub const SECRETS_MAX: usize = 32;
/// Longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest description, in bytes. Stops a tool from crowding out all others in a model's context.
pub const DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// Longest version, in bytes.
pub const VERSION_BYTES_MAX: usize = 128;

/// Why an entry, a manifest or a `capability.toml` is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// `capability.toml` is not TOML, or has keys or values that it must not have.
    #[error("`capability.toml`, line {line}: {detail}")]
    Toml {
        /// Where.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// A key that the other shape has.
    #[error("`capability.toml`: `{key}` is for the shape `{}`, and this one is `{shape}`", match .shape { Shape::Tool => Shape::Command, Shape::Command => Shape::Tool })]
    KeyOfOtherShape {
        /// Which key.
        key: &'static str,
        /// The shape of this one.
        shape: Shape,
    },
    /// A key that a command needs.
    #[error("`capability.toml`: `{key}` is missing: a component of the shape `command` cannot describe itself")]
    KeyMissing {
        /// Which key.
        key: &'static str,
    },
    /// A path in `capability.toml` that is empty, absolute or has control characters.
    #[error("`capability.toml`: `{key}` is `{}`, which is not a path relative to the file", .path.escape_debug())]
    RelativePath {
        /// Which key.
        key: &'static str,
        /// What it says.
        path: String,
    },
    /// A schema that is not strict JSON.
    #[error("`{member}` is {error}")]
    SchemaText {
        /// `input_schema` or `output_schema`.
        member: &'static str,
        /// What is wrong.
        error: JsonError,
    },
    /// A schema that is too large.
    #[error("`{member}` is {size} bytes, more than {SCHEMA_BYTES_MAX}")]
    SchemaSize {
        /// `input_schema` or `output_schema`.
        member: &'static str,
        /// Its size.
        size: usize,
    },
    /// A schema that is not an object.
    #[error("`{member}` is not a JSON object; a schema that takes everything is `{{}}`")]
    SchemaNoObject {
        /// `input_schema` or `output_schema`.
        member: &'static str,
    },
    /// A schema that is nested too deeply.
    #[error("`{member}` is nested too deeply")]
    SchemaDepth {
        /// `input_schema` or `output_schema`.
        member: &'static str,
    },
    /// A schema with a name that is long by itself.
    #[error(
        "the name `{}…` in `{member}` has {bytes} bytes, more than {NAME_BYTES_MAX}, where `~` and `/` count twice; shorten it", .name.escape_debug()
    )]
    SchemaName {
        /// `input_schema` or `output_schema`.
        member: &'static str,
        /// How the name begins.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// A schema with long names around much.
    #[error(
        "the names in `{member}` are too long: those on the way to one place have at most {PATH_BYTES_MAX} bytes together, and so has a reference; those on the ways to all places have at most {PATHS_BYTES_MAX}; shorten them, or move what is deep to `$defs`"
    )]
    SchemaNames {
        /// `input_schema` or `output_schema`.
        member: &'static str,
    },
    /// A schema that refers to another document.
    #[error("`{member}` refers to `{}`: only references within the schema (`#/$defs/…`) are followed", .target.escape_debug())]
    SchemaRemote {
        /// `input_schema` or `output_schema`.
        member: &'static str,
        /// Where it points.
        target: String,
    },
    /// A schema in another dialect.
    #[error("`{member}` is written in `{}`; the dialect is `{DIALECT}`", .found.escape_debug())]
    SchemaDialect {
        /// `input_schema` or `output_schema`.
        member: &'static str,
        /// What it says.
        found: String,
    },
    /// A number that signed documents must not hold.
    #[error("{0}")]
    Number(JsonError),
    /// A text that is empty, too long or has control characters.
    #[error("`{member}` must be 1 to {bytes_max} bytes without control characters")]
    Text {
        /// `title`, `description` or `version`.
        member: &'static str,
        /// Its bound.
        bytes_max: usize,
    },
    /// A version that no requirement tells from another one.
    #[error("the version `{version}` has build metadata (`+{}`), which no requirement of a version sees", .version.build)]
    VersionBuild {
        /// Which one.
        version: Version,
    },
    /// Too many items in a scope.
    #[error("`{permission}` lists {count} items, more than {SCOPE_ITEMS_MAX}")]
    ScopeItems {
        /// Of which permission.
        permission: Permission,
        /// How many.
        count: usize,
    },
    /// Too many secrets.
    #[error("`secret:read` lists {count} secrets, more than {SECRETS_MAX}")]
    Secrets {
        /// How many.
        count: usize,
    },
    /// Something is listed twice.
    #[error("`{permission}` lists `{item}` twice")]
    ScopeTwice {
        /// Of which permission.
        permission: Permission,
        /// What.
        item: String,
    },
    /// Two folders that the guest would see one inside the other.
    #[error("the guest folders `{one}` and `{two}` overlap: a call below both would have two answers")]
    GuestPathsOverlap {
        /// One.
        one: String,
        /// The other.
        two: String,
    },
    /// Two folders of the host to write to, one inside the other.
    #[error(
        "the host folders `{one}` and `{two}` of `file:write` overlap: each would have a quota of its own in the other"
    )]
    HostPathsOverlap {
        /// One.
        one: String,
        /// The other.
        two: String,
    },
    /// A folder to write to in which nothing could be written.
    #[error(
        "the folder `{guest}` of `file:write` has `bytes_max = 0` and `files_max = 0`: nothing could be written in it"
    )]
    FolderQuota {
        /// Where the guest would see it.
        guest: String,
        /// Where it is.
        host: String,
    },
    /// Memory in which nothing could be written.
    #[error("`memory:write` has `{key} = 0`: nothing could be written")]
    MemoryQuota {
        /// `bytes_max` or `records_max`.
        key: &'static str,
    },
    /// An injected secret without the words that bind it.
    #[error("secret `{name}` has `use = \"inject\"` without `{key}`: it would be bound to nothing")]
    InjectKeyMissing {
        /// Which secret.
        name: String,
        /// `hosts` or `header`.
        key: &'static str,
    },
    /// An injected secret that may go anywhere.
    #[error("secret `{name}` may travel to every host: name the hosts it belongs to")]
    InjectAnyHost {
        /// Which secret.
        name: String,
    },
    /// A header that must not carry a secret.
    #[error("secret `{name}` cannot travel in the header `{}`: {reason}", .header.escape_debug())]
    InjectHeader {
        /// Which secret.
        name: String,
        /// Which header.
        header: String,
        /// Why not.
        reason: &'static str,
    },
    /// A prefix that a header cannot hold.
    #[error("secret `{name}` has a `prefix` that is empty, over 128 bytes or not printable ASCII")]
    InjectPrefix {
        /// Which secret.
        name: String,
    },
    /// A revealed secret with words that only bind an injected one.
    #[error("secret `{name}` has `use = \"reveal\"` and `{key}`: the host cannot bind what the guest may read")]
    RevealKey {
        /// Which secret.
        name: String,
        /// `hosts`, `header` or `prefix`.
        key: &'static str,
    },
    /// A program with more or longer arguments than any call has.
    #[error(
        "program `{path}` has more than {} arguments, or one over {} bytes",
        scopes::ARGUMENTS_MAX,
        scopes::ARGUMENT_BYTES_MAX
    )]
    Arguments {
        /// Which program.
        path: String,
    },
    /// Too many capabilities.
    #[error("the manifest lists {count} capabilities, more than {CAPABILITIES_MAX}")]
    Capabilities {
        /// How many.
        count: usize,
    },
    /// The same version twice.
    #[error("capability `{id}` {version} is listed twice")]
    EntryTwice {
        /// Which capability.
        id: CapabilityId,
        /// Which version.
        version: Version,
    },
    /// Something is wrong in one entry.
    #[error("capability `{id}`: {error}")]
    Entry {
        /// Which capability.
        id: CapabilityId,
        /// What is wrong.
        error: Box<ManifestError>,
    },
}

impl ManifestError {
    /// The exact line that fixes it, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::KeyOfOtherShape { key, .. } => Some(format!("remove `{key}` from capability.toml")),
            Self::KeyMissing { key } => Some(match *key {
                "title" => "add to capability.toml: title = \"…\"".to_owned(),
                "description" => "add to capability.toml: description = \"…\"".to_owned(),
                key => format!("add to capability.toml: {key} = \"{key}.json\""),
            }),
            Self::InjectKeyMissing { name, .. } | Self::InjectAnyHost { name } => {
                Some(format!("write: {}", injected(name)))
            }
            Self::RevealKey { name, .. } => Some(format!("write: {{ name = \"{name}\", use = \"reveal\" }}")),
            Self::GuestPathsOverlap { .. } => {
                Some("give each folder a place of its own; a folder under file:write can be read too".to_owned())
            }
            Self::HostPathsOverlap { .. } => {
                Some("grant the outer folder alone, with the quota that is meant for all of it".to_owned())
            }
            Self::FolderQuota { guest, host } => Some(format!(
                "write: {{ guest = {}, host = {}, bytes_max = 1048576, files_max = 10 }}, or leave the folder out",
                quoted(guest),
                quoted(host)
            )),
            Self::MemoryQuota { key } => {
                let most = if *key == "bytes_max" { 1_048_576 } else { 1000 };
                Some(format!(
                    "write in [permissions.\"memory:write\"]: {key} = {most}, also for a capability that only deletes, or leave the permission out"
                ))
            }
            Self::VersionBuild { version } => {
                let plain = Version {
                    build: BuildMetadata::EMPTY,
                    ..version.clone()
                };
                Some(format!("write: version = \"{plain}\", or raise the version"))
            }
            Self::SchemaDialect { .. } => Some(format!("write: \"$schema\": \"{DIALECT}\", or leave it out")),
            Self::Entry { error, .. } => error.hint(),
            Self::Toml { .. }
            | Self::RelativePath { .. }
            | Self::SchemaText { .. }
            | Self::SchemaSize { .. }
            | Self::SchemaNoObject { .. }
            | Self::SchemaDepth { .. }
            | Self::SchemaName { .. }
            | Self::SchemaNames { .. }
            | Self::SchemaRemote { .. }
            | Self::Number(_)
            | Self::Text { .. }
            | Self::ScopeItems { .. }
            | Self::Secrets { .. }
            | Self::ScopeTwice { .. }
            | Self::InjectHeader { .. }
            | Self::InjectPrefix { .. }
            | Self::Arguments { .. }
            | Self::Capabilities { .. }
            | Self::EntryTwice { .. } => None,
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self {
            hint: error.hint(),
            ..Self::new(Code::DocumentInvalid, error.to_string())
        }
    }
}

/// Every rule on a list of entries.
pub(super) fn check_entries(entries: &[Entry]) -> Result<(), ManifestError> {
    if entries.len() > CAPABILITIES_MAX {
        return Err(ManifestError::Capabilities { count: entries.len() });
    }
    let mut seen = BTreeSet::new();
    for entry in entries {
        check_entry(entry).map_err(|error| ManifestError::Entry {
            id: entry.id.clone(),
            error: Box::new(error),
        })?;
        if !seen.insert((&entry.id, &entry.version)) {
            return Err(ManifestError::EntryTwice {
                id: entry.id.clone(),
                version: entry.version.clone(),
            });
        }
    }
    Ok(())
}

/// Every rule on one entry.
pub(super) fn check_entry(entry: &Entry) -> Result<(), ManifestError> {
    check_text("version", &entry.version.to_string(), VERSION_BYTES_MAX, &[])?;
    // Who pins a version would get whatever somebody else adds to it.
    if !entry.version.build.is_empty() {
        return Err(ManifestError::VersionBuild {
            version: entry.version.clone(),
        });
    }
    check_text("title", &entry.title, TITLE_BYTES_MAX, &[])?;
    check_text("description", &entry.description, DESCRIPTION_BYTES_MAX, &['\n', '\t'])?;
    schema_rules::check("input_schema", &entry.input_schema)?;
    schema_rules::check("output_schema", &entry.output_schema)?;
    scopes::check(&entry.permissions)?;
    let value =
        serde_json::to_value(entry).map_err(|error| ManifestError::Number(JsonError::Canonical(error.to_string())))?;
    canonical(&value).map_err(ManifestError::Number)?;
    Ok(())
}

/// Titles and descriptions end up in terminals and in prompts: control characters would draw over what stands there.
fn check_text(member: &'static str, text: &str, bytes_max: usize, controls: &[char]) -> Result<(), ManifestError> {
    let plain = |one: char| !one.is_control() || controls.contains(&one);
    if text.trim().is_empty() || text.len() > bytes_max || !text.chars().all(plain) {
        Err(ManifestError::Text { member, bytes_max })
    } else {
        Ok(())
    }
}
