//! What a capability says of itself. The host reads it once, when the capability is built, and from then on serves and
//! validates against its signed copy.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value};

/// Title, description and the two schemas of a capability.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// One line for a list of tools.
    pub title: String,
    /// What the tool does and when to use it, for a model that chooses between tools.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input, without references to other documents.
    pub input_schema: Value,
    /// JSON Schema (draft 2020-12) of the output, likewise.
    pub output_schema: Value,
}

impl Descriptor {
    /// Describes a function by the types that it takes and gives.
    ///
    /// ```
    /// use aral_guest::{Descriptor, Result};
    /// let double = |number: i64| -> Result<i64> { Ok(number * 2) };
    /// let descriptor = Descriptor::of("Double", "Doubles.", double);
    /// assert_eq!(descriptor.input_schema["type"], "integer");
    /// ```
    pub fn of<I: JsonSchema, O: JsonSchema, E>(
        title: &str,
        description: &str,
        _run: impl Fn(I) -> Result<O, E>,
    ) -> Self {
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            input_schema: schema_of::<I>(Contract::Deserialize),
            output_schema: schema_of::<O>(Contract::Serialize),
        }
    }
}

fn schema_of<T: JsonSchema>(contract: Contract) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.contract = contract;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        // The name of a Rust type says nothing to a reader of the schema.
        root.remove("title");
        name_common_type(root);
    }
    drop_number_formats(&mut schema);
    schema
}

/// `"format": "uint32"` is no format of JSON Schema; strict readers refuse the whole schema for it. The range stays.
fn drop_number_formats(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("type").is_some_and(allows_number) {
                members.remove("format");
            }
            members.values_mut().for_each(drop_number_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_number_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn allows_number(kind: &Value) -> bool {
    match kind {
        Value::String(kind) => kind == "integer" || kind == "number",
        Value::Array(kinds) => kinds.iter().any(allows_number),
        _ => false,
    }
}

/// A choice between objects is an object: readers that look at the root only (MCP clients do) need to be told.
fn name_common_type(root: &mut Map<String, Value>) {
    let is_object = |branch: &Value| branch.get("type").and_then(Value::as_str) == Some("object");
    let branches = root
        .get("oneOf")
        .or_else(|| root.get("anyOf"))
        .and_then(Value::as_array);
    if !root.contains_key("type") && branches.is_some_and(|branches| branches.iter().all(is_object)) {
        root.insert("type".to_owned(), "object".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Not shown at the root: it is the type's.
    #[derive(serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Input {
        /// Where to look.
        folder: String,
        /// How much.
        #[serde(default = "ten")]
        #[schemars(range(min = 1, max = 100))]
        limit: u32,
        inner: Option<Box<Input>>,
    }

    fn ten() -> u32 {
        10
    }

    #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
    #[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
    enum Choice {
        Add { text: String },
        List {},
    }

    fn schema<T: JsonSchema>() -> Value {
        schema_of::<T>(Contract::Deserialize)
    }

    #[test]
    fn docs_defaults_ranges_and_unknown_fields() {
        let schema = schema::<Input>();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(
            schema["properties"]["folder"],
            json!({"type": "string", "description": "Where to look."})
        );
        assert_eq!(schema["properties"]["limit"]["default"], 10);
        assert_eq!(schema["properties"]["limit"]["maximum"], 100);
        assert_eq!(schema["required"], json!(["folder"]));
        assert!(schema.get("title").is_none());
    }

    #[test]
    fn numbers_keep_their_range_and_lose_their_format() {
        #[derive(serde::Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Numbers {
            count: u8,
            /// Only a name: no format of a number.
            format: Option<f64>,
        }
        let schema = schema::<Numbers>();
        assert_eq!(
            schema["properties"]["count"],
            json!({"type": "integer", "minimum": 0, "maximum": 255})
        );
        assert_eq!(schema["properties"]["format"]["type"], json!(["number", "null"]));
        assert!(schema["properties"]["format"].get("format").is_none());
    }

    #[test]
    fn references_stay_inside_the_document() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut found = Vec::new();
        references(&schema::<Vec<Input>>(), &mut found);
        assert!(!found.is_empty());
        assert!(found.iter().all(|reference| reference.starts_with('#')), "{found:?}");
    }

    #[test]
    fn a_choice_between_objects_is_an_object() {
        assert_eq!(schema::<Choice>()["type"], "object");
        assert!(schema::<serde_json::Value>().get("type").is_none());
    }

    #[test]
    fn input_and_output_follow_serde_in_their_direction() {
        #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
        struct Both {
            #[serde(default)]
            count: u8,
        }
        let descriptor = Descriptor::of("T", "D.", Result::<Both, crate::Error>::Ok);
        assert!(descriptor.input_schema.get("required").is_none());
        assert_eq!(descriptor.output_schema["required"], json!(["count"]));
    }
}
