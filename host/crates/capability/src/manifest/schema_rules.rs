//! What a JSON Schema in a manifest may look like, before anything compiles it: an object of bounded size that refers to
//! nothing outside itself. Whether its keywords make sense is for the validator that compiles it.

use aral_contract::limits::JSON_DEPTH_MAX;
use serde_json::Value;

use super::check::ManifestError;

/// Largest schema, in bytes. Stops a guest's descriptor from filling every list of tools that is made of it.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Longest name in a schema, as it stands in a JSON Pointer, in bytes; also of the schema itself (`$id`) and of an anchor. A
/// validator keeps names with each place below and with each error, and compares them at each look-up.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// Longest way to a place in a schema, which is all the names on it together, and longest reference, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 2 << 10;
/// All those ways together, in bytes. A validator keeps the whole way with each subschema and each keyword: stops a schema with a
/// few long names above much else from taking gibibytes once it is compiled.
pub(super) const PATHS_BYTES_MAX: usize = 4 << 20;
/// What an element adds to the way to it, in bytes.
const INDEX_BYTES: usize = 8;
/// The one dialect: a schema that names another one would be read by rules that nobody checked.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Whether a schema text is short enough to be parsed.
pub(super) fn check_size(member: &'static str, size: usize) -> Result<(), ManifestError> {
    if size > SCHEMA_BYTES_MAX {
        Err(ManifestError::SchemaSize { member, size })
    } else {
        Ok(())
    }
}

/// Every rule on a schema: an object, small enough, no reference to another document, the dialect that we read, names that can be
/// kept.
pub(super) fn check(member: &'static str, schema: &Value) -> Result<(), ManifestError> {
    if !schema.is_object() {
        return Err(ManifestError::SchemaNoObject { member });
    }
    check_size(member, schema.to_string().len())?;
    let mut places = Places {
        member,
        paths_left: PATHS_BYTES_MAX,
    };
    places.check(schema, JSON_DEPTH_MAX, 0)
}

/// All places in a schema, one after the other.
struct Places {
    member: &'static str,
    /// Bytes that the ways to the others may have.
    paths_left: usize,
}

impl Places {
    /// A reference that leaves the document would be fetched by some validators: from a file, from a network that the
    /// capability has no permission for, at a time when nobody watches. Texts under `$ref` are refused wherever they stand,
    /// also in an `enum` or a `default`, since telling those apart takes a validator.
    fn check(&mut self, value: &Value, depth_left: usize, path_bytes: usize) -> Result<(), ManifestError> {
        let member = self.member;
        let depth_left = depth_left.checked_sub(1);
        let depth_left = depth_left.ok_or(ManifestError::SchemaDepth { member })?;
        let paths_left = self.paths_left.checked_sub(path_bytes);
        let paths_left = paths_left.filter(|_| path_bytes <= PATH_BYTES_MAX);
        self.paths_left = paths_left.ok_or(ManifestError::SchemaNames { member })?;
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    self.check_member(name, value)?;
                    let path_bytes = path_bytes.saturating_add(pointer_bytes(name)).saturating_add(1);
                    self.check(value, depth_left, path_bytes)?;
                }
                Ok(())
            }
            Value::Array(items) => {
                let path_bytes = path_bytes.saturating_add(INDEX_BYTES);
                items
                    .iter()
                    .try_for_each(|item| self.check(item, depth_left, path_bytes))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn check_member(&self, name: &str, value: &Value) -> Result<(), ManifestError> {
        let member = self.member;
        self.check_name(name)?;
        match (name, value) {
            ("$id" | "$anchor" | "$dynamicAnchor", Value::String(text)) => self.check_name(text),
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) if !target.starts_with('#') => {
                Err(ManifestError::SchemaRemote {
                    member,
                    target: target.chars().take(128).collect(),
                })
            }
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) if target.len() > PATH_BYTES_MAX => {
                Err(ManifestError::SchemaNames { member })
            }
            ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                Err(ManifestError::SchemaDialect {
                    member,
                    found: dialect.chars().take(128).collect(),
                })
            }
            _ => Ok(()),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), ManifestError> {
        let bytes = pointer_bytes(name);
        if bytes > NAME_BYTES_MAX {
            return Err(ManifestError::SchemaName {
                member: self.member,
                name: name.chars().take(32).collect(),
                bytes,
            });
        }
        Ok(())
    }
}

/// Bytes of a name in a JSON Pointer, where `~` is `~0`, and `/` is `~1`.
fn pointer_bytes(name: &str) -> usize {
    let escaped = name.bytes().filter(|byte| matches!(byte, b'~' | b'/')).count();
    name.len().saturating_add(escaped)
}
