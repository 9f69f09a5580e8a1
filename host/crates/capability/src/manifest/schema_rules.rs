//! What a JSON Schema in a manifest may look like, before anything compiles it: an object of bounded size that refers to
//! nothing outside itself. Whether its keywords make sense is for the validator that compiles it.

use aral_contract::limits::JSON_DEPTH_MAX;
use serde_json::Value;

use super::check::ManifestError;

/// Largest schema, in bytes. Stops a guest's descriptor from filling every list of tools that is made of it.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
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

/// Every rule on a schema: an object, small enough, no reference to another document, the dialect that we read.
pub(super) fn check(member: &'static str, schema: &Value) -> Result<(), ManifestError> {
    if !schema.is_object() {
        return Err(ManifestError::SchemaNoObject { member });
    }
    check_size(member, schema.to_string().len())?;
    check_references(member, schema, JSON_DEPTH_MAX)
}

/// A reference that leaves the document would be fetched by some validators: from a file, from a network that the
/// capability has no permission for, at a time when nobody watches. Texts under `$ref` are refused wherever they stand,
/// also in an `enum` or a `default`, since telling those apart takes a validator.
fn check_references(member: &'static str, value: &Value, depth_left: usize) -> Result<(), ManifestError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(ManifestError::SchemaDepth { member });
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) if !target.starts_with('#') => {
                        return Err(ManifestError::SchemaRemote {
                            member,
                            target: target.chars().take(128).collect(),
                        });
                    }
                    ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                        return Err(ManifestError::SchemaDialect {
                            member,
                            found: dialect.chars().take(128).collect(),
                        });
                    }
                    (_, value) => check_references(member, value, depth_left)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_references(member, item, depth_left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
