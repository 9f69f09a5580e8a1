//! What one schema costs without its subschemas, and how large a value is. It follows no reference.

use serde_json::{Map, Value};

/// Bytes of a text that count as one part of a value.
pub(super) const TEXT_BYTES_PER_PART: u64 = 64;

/// What a schema costs by itself, without its subschemas.
#[derive(Default)]
pub(super) struct Own<'a> {
    /// Values and names that are compared one by one.
    pub(super) listed: u64,
    /// The pattern that texts are searched for.
    pub(super) pattern: Option<&'a str>,
    /// Keywords besides patterns that read a text from end to end, whatever they compare it with.
    pub(super) texts: u64,
    /// Keywords that sort a list, which reads all that it holds some times.
    pub(super) lists: u64,
    /// By the patterns that the names of members are searched for.
    pub(super) name_patterns: Option<&'a Map<String, Value>>,
    /// `anyOf` or `oneOf`.
    pub(super) branches: bool,
    /// What may fail of it, each with an error that is about the whole value: at most one for each keyword and each name that
    /// must be there.
    pub(super) demands: u64,
    /// `unevaluatedProperties` and `unevaluatedItems`: each evaluates what stands beside it once more.
    pub(super) unevaluated: u64,
}

impl<'a> Own<'a> {
    pub(super) fn of(schema: &'a Value) -> Self {
        let mut own = Self {
            // A schema may be `false`.
            demands: 1,
            ..Self::default()
        };
        let Value::Object(keywords) = schema else { return own };
        for (keyword, value) in keywords {
            own.demands = own.demands.saturating_add(demands(keyword, value));
            match (keyword.as_str(), value) {
                // What `not` refuses is only copied, into the error that says so.
                ("enum" | "const" | "required" | "dependentRequired" | "dependencies" | "not", value) => {
                    own.listed = own.listed.saturating_add(parts_of(value));
                    // Many texts are a set, in which one is found by a hash of all of it.
                    own.texts = own.texts.saturating_add(u64::from(keyword == "enum"));
                }
                ("anyOf" | "oneOf", _) => own.branches = true,
                ("pattern", value) => {
                    own.listed = own.listed.saturating_add(parts_of(value));
                    own.pattern = value.as_str();
                }
                ("minLength" | "maxLength" | "format", _) => own.texts = own.texts.saturating_add(1),
                ("uniqueItems", _) => own.lists = own.lists.saturating_add(1),
                ("patternProperties", Value::Object(map)) => own.name_patterns = Some(map),
                ("unevaluatedProperties" | "unevaluatedItems", _) => {
                    own.unevaluated = own.unevaluated.saturating_add(1);
                }
                _ => {}
            }
        }
        own
    }
}

/// What may fail of one keyword beside what its subschemas demand.
fn demands(keyword: &str, value: &Value) -> u64 {
    match keyword {
        "required" | "dependentRequired" | "dependencies" => parts_of(value),
        "title" | "description" | "default" | "examples" | "deprecated" | "readOnly" | "writeOnly" | "$comment"
        | "$schema" | "$id" | "$anchor" | "$dynamicAnchor" | "$defs" | "definitions" | "$ref" | "$dynamicRef"
        | "properties" | "patternProperties" | "allOf" | "if" | "then" | "else" | "dependentSchemas" => 0,
        _ => 1,
    }
}

/// Parts of a value, itself included; a long text counts as several. Its depth is bounded by the parser.
pub(super) fn parts_of(value: &Value) -> u64 {
    let inner: u64 = match value {
        Value::Array(list) => list.iter().map(parts_of).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| parts_of(value).saturating_add(parts_of_text(name)))
            .sum(),
        Value::String(text) => parts_of_text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inner.saturating_add(1)
}

pub(super) fn parts_of_text(text: &str) -> u64 {
    bytes_of_text(text) / TEXT_BYTES_PER_PART
}

pub(super) fn bytes_of_text(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}
