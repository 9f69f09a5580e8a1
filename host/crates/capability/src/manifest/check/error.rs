//! Why an entry, a manifest or a `capability.toml` is not taken, and the line that helps. It decides nothing.

use aral_contract::document::JsonError;
use aral_contract::quote::quoted;
use aral_contract::{CapabilityId, Code, Failure, Permission};
use semver::{BuildMetadata, Version};

use super::scopes::{self, injected};
use super::{CAPABILITIES_MAX, SCOPE_ITEMS_MAX, SECRETS_MAX};
use crate::manifest::Shape;
use crate::manifest::schema_rules::{DIALECT, NAME_BYTES_MAX, PATH_BYTES_MAX, PATHS_BYTES_MAX, SCHEMA_BYTES_MAX};

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
    #[error("`{member}` must be 1 to {bytes_max} bytes without control characters{but}, and {found}")]
    Text {
        /// `title`, `description` or `version`.
        member: &'static str,
        /// Its bound.
        bytes_max: usize,
        /// Which control characters it may have.
        but: &'static str,
        /// What it has.
        found: String,
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
            Self::InjectHeader { .. } => Some(
                "write another header into capability.toml, such as: header = \"authorization\"; then build and sign the manifest again"
                    .to_owned(),
            ),
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
            Self::Number(JsonError::Number { pointer, .. }) if is_in_schema(pointer) => Some(
                "write whole numbers into the schema, in Rust such as `#[schemars(range(min = 0, max = 1))]`; a default that is none \
                 cannot stand there: make the field an `Option`, and take the default where it is absent"
                    .to_owned(),
            ),
            Self::Number(JsonError::Number { .. }) => {
                Some("write a whole number there, 9007199254740991 at most".to_owned())
            }
            Self::SchemaDialect { .. } => Some(format!("write: \"$schema\": \"{DIALECT}\", or leave it out")),
            Self::Entry { error, .. } => error.hint(),
            Self::Number(JsonError::Malformed(_) | JsonError::Canonical(_))
            | Self::Toml { .. }
            | Self::RelativePath { .. }
            | Self::SchemaText { .. }
            | Self::SchemaSize { .. }
            | Self::SchemaNoObject { .. }
            | Self::SchemaDepth { .. }
            | Self::SchemaName { .. }
            | Self::SchemaNames { .. }
            | Self::SchemaRemote { .. }
            | Self::Text { .. }
            | Self::ScopeItems { .. }
            | Self::Secrets { .. }
            | Self::ScopeTwice { .. }
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

/// Whether a place in an entry is one in a schema of it.
fn is_in_schema(pointer: &str) -> bool {
    let mut names = pointer.split('/').skip(1);
    matches!(names.next(), Some("input_schema" | "output_schema"))
}
