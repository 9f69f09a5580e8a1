//! `capability.toml`: what an author writes beside the code. Text in, checked value out; the paths in it are for the
//! caller to read.
//!
//! ```toml
//! id = "text-grep"
//! version = "1.0.0"
//! shape = "tool"                        # or "command"
//! component = "target/text_grep.wasm"   # relative to this file
//! # for shape "command", which cannot describe itself:
//! # title = "…"
//! # description = "…"
//! # input_schema = "input.json"         # files, relative to this file
//! # output_schema = "output.json"
//!
//! [permissions."file:read"]
//! paths = [{ guest = "/data", host = "/srv/data" }]
//!
//! [limits]
//! wall_ms = 5000
//! ```

use std::fmt;

use aral_contract::{CapabilityId, LimitsRequest, Permissions};
use semver::Version;
use serde::{Deserialize, Deserializer, de};

use super::Shape;
use super::check::{ManifestError, VERSION_BYTES_MAX};

/// The file as it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: CapabilityId,
    #[serde(deserialize_with = "version")]
    version: Version,
    shape: Shape,
    component: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(default, deserialize_with = "schema_file")]
    input_schema: Option<String>,
    #[serde(default, deserialize_with = "schema_file")]
    output_schema: Option<String>,
    #[serde(default)]
    permissions: Permissions,
    #[serde(default)]
    limits: LimitsRequest,
}

/// Where the texts of a capability come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// The component describes itself (shape `tool`).
    ByItself,
    /// By this file (shape `command`).
    ByFile {
        /// One line for a list of tools.
        title: String,
        /// What the tool does and when to use it.
        description: String,
        /// Path of the JSON Schema of the input, relative to `capability.toml`.
        input_schema: String,
        /// Path of the JSON Schema of the output, relative to `capability.toml`.
        output_schema: String,
    },
}

/// A checked `capability.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct CapabilityToml {
    /// The name of the capability.
    pub id: CapabilityId,
    /// Its version.
    pub version: Version,
    /// Path of the component, relative to `capability.toml`.
    pub component: String,
    /// Where title, description and schemas come from; this says the shape too.
    pub described: Described,
    /// What it asks for.
    pub permissions: Permissions,
    /// How much of it.
    pub limits: LimitsRequest,
}

impl CapabilityToml {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let raw: Raw = toml::from_str(text).map_err(|error| toml_error(text, &error))?;
        let described = match raw.shape {
            Shape::Tool => {
                let keys = [
                    ("title", &raw.title),
                    ("description", &raw.description),
                    ("input_schema", &raw.input_schema),
                    ("output_schema", &raw.output_schema),
                ];
                if let Some((key, _)) = keys.into_iter().find(|(_, value)| value.is_some()) {
                    let shape = raw.shape;
                    return Err(ManifestError::KeyOfOtherShape { key, shape });
                }
                Described::ByItself
            }
            Shape::Command => {
                let missing = |key| move || ManifestError::KeyMissing { key };
                Described::ByFile {
                    title: raw.title.ok_or_else(missing("title"))?,
                    description: raw.description.ok_or_else(missing("description"))?,
                    input_schema: relative("input_schema", raw.input_schema.ok_or_else(missing("input_schema"))?)?,
                    output_schema: relative("output_schema", raw.output_schema.ok_or_else(missing("output_schema"))?)?,
                }
            }
        };
        Ok(Self {
            id: raw.id,
            version: raw.version,
            component: relative("component", raw.component)?,
            described,
            permissions: raw.permissions,
            limits: raw.limits,
        })
    }

    /// How the component is called.
    pub fn shape(&self) -> Shape {
        match self.described {
            Described::ByItself => Shape::Tool,
            Described::ByFile { .. } => Shape::Command,
        }
    }
}

/// Whoever knows other formats writes the schema itself there.
fn schema_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct File;
    impl de::Visitor<'_> for File {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the path of a file with a JSON Schema, such as \"input.json\"")
        }
        fn visit_str<E: de::Error>(self, path: &str) -> Result<String, E> {
            Ok(path.to_owned())
        }
    }
    deserializer.deserialize_str(File).map(Some)
}

/// What the library says of a version names neither the version nor the form.
fn version<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
    let text = String::deserialize(from)?;
    Version::parse(&text).map_err(|error| {
        let shown: String = text.chars().take(VERSION_BYTES_MAX).collect();
        let shown = shown.escape_debug();
        de::Error::custom(format_args!(
            "`{shown}` is not a version ({error}): write it with three numbers, such as `1.2.0`"
        ))
    })
}

fn relative(key: &'static str, path: String) -> Result<String, ManifestError> {
    let plain = !path.is_empty() && path.len() <= 4096 && !path.starts_with('/') && !path.contains(char::is_control);
    if plain {
        Ok(path)
    } else {
        Err(ManifestError::RelativePath {
            key,
            path: path.chars().take(128).collect(),
        })
    }
}

fn toml_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    ManifestError::Toml {
        line: before.matches('\n').count().saturating_add(1),
        detail: error.message().trim().replace('\n', "; "),
    }
}
