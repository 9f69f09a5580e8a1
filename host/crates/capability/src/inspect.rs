//! What a component is, without running it: imports, exports, shape, what it would need, who built it. Works on any
//! component, also on those that this host would not admit. It knows no manifest and no grant.

mod apart;
mod read;

use aral_contract::limits::COMPONENT_BYTES_MAX;
use aral_contract::{Code, Digest, Failure, Permission};
use aral_runtime::weight::{DEPTH_MAX, WEIGHT_MAX};
use serde::{Deserialize, Serialize};

pub use apart::{answer, inspect_by};

use crate::imports::Role;

/// Imports or exports of one component. Stops a component whose listing fills memory and screens.
pub const EXTERNS_MAX: usize = 512;
/// Components or modules inside one another. Stops a small file that takes a validator quadratic time.
pub const NESTING_MAX: usize = 64;
/// Producers kept of one component.
pub const PRODUCERS_MAX: usize = 64;

/// How a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Exports `aral:capability/tool`.
    Tool,
    /// Exports `wasi:cli/run`: JSON on standard input, JSON on standard output, standard error is its log.
    Command,
}

impl Shape {
    /// The word in documents and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Command => "command",
        }
    }

    /// The interface that a component of this shape exports.
    pub const fn export(self) -> &'static str {
        match self {
            Self::Tool => "aral:capability/tool@1.0.0",
            Self::Command => "wasi:cli/run@0.2.12",
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found in a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size_bytes: u64,
    /// How it can be called; none: neither as a tool nor as a command. A tool that is a command too counts as a tool.
    pub shape: Option<Shape>,
    /// Imports of the outermost component, in its order.
    pub imports: Vec<Import>,
    /// Exports of the outermost component, in its order.
    pub exports: Vec<Export>,
    /// The permissions that its imports can use. For files and network one import serves reading and writing.
    pub permissions: Vec<Permission>,
    /// The tools that made it, as they say themselves: nothing proves it.
    pub producers: Vec<Producer>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its full name, with the version.
    pub name: String,
    /// What kind of thing it is: `instance`, `func`, …
    pub kind: &'static str,
    /// What it means.
    #[serde(flatten)]
    pub role: Role,
    /// Whether it asks for the values of secrets. Without, secrets are only added to requests by the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reveals: bool,
}

/// What is shown of a component that asks for the values of secrets.
pub(crate) const ASKS: &str = "asks for values of secrets (`reveal`)";

impl Import {
    /// One line for a person.
    pub fn describe(&self) -> String {
        let means = self.role.describe();
        if self.reveals {
            return format!("{means}; {ASKS}");
        }
        if self.role.permissions() == [Permission::SecretRead] {
            return format!("{means}, to add secrets to requests: it never asks for their values");
        }
        means
    }
}

/// One export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Export {
    /// Its full name, with the version.
    pub name: String,
    /// What kind of thing it is: `instance`, `func`, …
    pub kind: &'static str,
}

/// One tool that made the component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// Its name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}

/// Why bytes cannot be inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InspectError {
    /// Too many bytes.
    #[error("the component is {size} bytes, more than {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// How many.
        size: usize,
    },
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// Machine code.
    #[error("this is machine code (a precompiled `.cwasm` or a native program), not a component")]
    Precompiled,
    /// Text.
    #[error("this is WebAssembly text, not a binary component")]
    Text,
    /// Something else.
    #[error("this is not WebAssembly: it does not begin with `\\0asm`")]
    NotWasm,
    /// A core module.
    #[error("this is a core module, not a component")]
    CoreModule,
    /// Cut off.
    #[error("the component ends in the middle, at byte {offset}: it is truncated")]
    Truncated {
        /// Where.
        offset: usize,
    },
    /// Broken.
    #[error("the component is not valid, at byte {offset}: {detail}")]
    Invalid {
        /// Where.
        offset: usize,
        /// What is wrong.
        detail: String,
    },
    /// Too many imports or exports.
    #[error("the component has more than {EXTERNS_MAX} imports or exports")]
    Externs,
    /// Components inside components inside components.
    #[error("the component holds components more than {NESTING_MAX} levels deep")]
    Nesting,
    /// Types that would fill the memory of whoever looks at them.
    #[error("the component's types, imports and exports come to more than {WEIGHT_MAX} items, each copy counted")]
    Heavy,
    /// Types inside types inside types.
    #[error("the component's types are more than {DEPTH_MAX} levels deep")]
    Depth,
    /// It made the validator panic.
    #[error("the component is not valid: the validator broke off while it followed its types")]
    Unfollowed,
}

impl InspectError {
    fn code_and_hint(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::TooLarge { .. } => (
                Code::ComponentTooLarge,
                Some("build it with `--release`, and strip it: `wasm-tools strip`"),
            ),
            Self::Precompiled => (
                Code::ComponentInvalid,
                Some("give the `.wasm` file that it was made from: code compiled by others is never loaded"),
            ),
            Self::Text => (
                Code::ComponentInvalid,
                Some("make it binary: `wasm-tools parse FILE.wat -o FILE.wasm`"),
            ),
            Self::CoreModule => (
                Code::ComponentInvalid,
                Some("build it for the target wasm32-wasip2, or wrap it: `wasm-tools component new`"),
            ),
            Self::Truncated { .. } => (Code::ComponentInvalid, Some("copy or build the file again")),
            Self::Empty
            | Self::NotWasm
            | Self::Invalid { .. }
            | Self::Externs
            | Self::Nesting
            | Self::Heavy
            | Self::Depth
            | Self::Unfollowed => (Code::ComponentInvalid, None),
        }
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        let (code, hint) = error.code_and_hint();
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(code, error.to_string())
        }
    }
}

/// Reads a component, here. Its structure is validated, its code is not: that is for the compiler. What was written to be expensive is
/// refused by what its bytes come to; where there is a compiler's child that can be ended, [`inspect_by`] has that look.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Failure> {
    Ok(read::find(bytes)?.meaning(Digest::of(bytes), bytes.len()))
}

#[cfg(test)]
mod tests;
