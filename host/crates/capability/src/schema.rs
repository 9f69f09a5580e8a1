//! JSON Schemas of input and output, compiled once for each bound capability. No reference leaves the document, and
//! patterns match in linear time: a schema cannot make the host fetch or hang.

use aral_contract::{Code, Failure};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::call::sanitised;

/// Size of one compiled pattern, in bytes. Stops a pattern that is small as text and huge as an automaton.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Longest part of a violation that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 300;

/// A compiled schema.
pub(crate) struct Schema(Validator);

/// Where and why a value breaks a schema. Says nothing of the value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{path}`: {reason}")]
pub(crate) struct Violation {
    /// JSON Pointer into the value; `/` for the whole.
    pub(crate) path: String,
    /// What the schema wants there.
    pub(crate) reason: String,
}

impl Schema {
    /// Compiles one. `member` says which of the two schemas of an entry it is.
    pub(crate) fn compile(member: &'static str, schema: &Value) -> Result<Self, Failure> {
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX);
        let built = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .build(schema);
        built.map(Self).map_err(|error| {
            let reason = sanitised(&error.to_string(), SHOWN_BYTES_MAX);
            Failure::new(
                Code::DocumentInvalid,
                format!("`{member}` is not a JSON Schema: {reason}"),
            )
        })
    }

    /// Whether the value satisfies it; if not, the first violation.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Violation> {
        self.0.validate(value).map_err(|error| {
            let path = error.instance_path().as_str();
            Violation {
                path: sanitised(if path.is_empty() { "/" } else { path }, SHOWN_BYTES_MAX),
                reason: sanitised(&error.masked().to_string(), SHOWN_BYTES_MAX),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn violations_name_the_place_and_not_the_value() {
        let schema = Schema::compile(
            "input_schema",
            &json!({
                "type": "object", "additionalProperties": false, "required": ["pattern"],
                "properties": { "pattern": { "type": "string" }, "limit": { "type": "integer", "maximum": 10 } }
            }),
        )
        .unwrap();
        assert_eq!(schema.check(&json!({ "pattern": "x", "limit": 10 })), Ok(()));
        let error = schema.check(&json!({ "pattern": "x", "limit": 98765 })).unwrap_err();
        assert_eq!(error.path, "/limit");
        assert!(
            error.reason.contains("10") && !error.reason.contains("98765"),
            "{error}"
        );
        assert_eq!(schema.check(&json!({})).unwrap_err().path, "/");
        let error = schema.check(&json!({ "pattern": "x", "\u{1b}[2J": 1 })).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn references_outside_the_document_are_refused() {
        for reference in ["https://example.com/schema.json", "file:///etc/passwd", "other.json"] {
            assert!(
                Schema::compile("input_schema", &json!({ "$ref": reference })).is_err(),
                "{reference} was taken"
            );
        }
        assert!(Schema::compile("input_schema", &json!({ "type": "nonsense" })).is_err());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a match ends")]
    fn patterns_match_in_linear_time_and_have_a_size() {
        let schema = Schema::compile("input_schema", &json!({ "type": "string", "pattern": "^(a+)+$" })).unwrap();
        let started = Instant::now();
        assert!(schema.check(&json!(format!("{}!", "a".repeat(50_000)))).is_err());
        assert!(started.elapsed() < Duration::from_secs(2));
        let huge = json!({ "type": "string", "pattern": "^((((ab){1,100}){1,100}){1,100})c$" });
        assert!(Schema::compile("input_schema", &huge).is_err());
        let backtracking = json!({ "type": "string", "pattern": "(a+)\\1" });
        assert!(Schema::compile("input_schema", &backtracking).is_err());
    }
}
