//! A capability as a tool: its schemas, and what a client may expect of it, read off the permissions of the grant.

use std::sync::Arc;

use aral_capability::manifest::Entry;
use aral_contract::{Grant, Permission};
use rmcp::model::{JsonObject, MetaObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::arguments::{Arguments, INPUT};
use super::text::{clean, clean_schema};

/// The tool. The grant is that of whoever asks.
pub(super) fn tool(entry: &Entry, grant: &Grant) -> Tool {
    let permissions = grant.permissions.present();
    let title = clean(&entry.title);
    let annotations = annotations(title.clone(), &permissions);
    let mut tool = Tool::new(
        entry.id.to_string(),
        clean(&entry.description),
        Arc::new(input_schema(&entry.input_schema)),
    )
    .with_title(title)
    .with_annotations(annotations)
    .with_meta(meta([
        ("aral/version", json!(entry.version.to_string())),
        (
            "aral/permissions",
            permissions.iter().map(|one| json!(one.as_str())).collect(),
        ),
    ]));
    if let Value::Object(schema) = clean_schema(&entry.output_schema) {
        tool = tool.with_raw_output_schema(Arc::new(schema));
    }
    tool
}

/// Members of `_meta`.
pub(super) fn meta<const N: usize>(members: [(&str, Value); N]) -> MetaObject {
    MetaObject(
        members
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
    )
}

/// What may become of the world when something with this permission is called.
struct Effect {
    /// Something may be other than before, and what was there may be gone.
    changes: bool,
    /// Others than this host may see the call or answer it.
    open: bool,
}

const fn effect(permission: Permission) -> Effect {
    let (changes, open) = match permission {
        Permission::NetworkRead => (false, true),
        // A program may do anything that its jail lets it.
        Permission::NetworkWrite | Permission::Exec => (true, true),
        Permission::FileRead | Permission::SecretRead | Permission::MemoryRead => (false, false),
        Permission::FileWrite | Permission::SecretWrite | Permission::MemoryWrite => (true, false),
    };
    Effect { changes, open }
}

/// Hints, each on the side of caution: whatever can write can also overwrite and delete, and may do so again each time.
fn annotations(title: String, permissions: &[Permission]) -> ToolAnnotations {
    let effects = || permissions.iter().map(|one| effect(*one));
    let changes = effects().any(|effect| effect.changes);
    ToolAnnotations::with_title(title)
        .read_only(!changes)
        .destructive(changes)
        .idempotent(!changes)
        .open_world(effects().any(|effect| effect.open))
}

/// Whether the input is what MCP sends: an object of named arguments.
fn takes_arguments(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

fn input_schema(schema: &Value) -> JsonObject {
    let mut cleaned = clean_schema(schema);
    if takes_arguments(schema) {
        return match cleaned {
            Value::Object(members) => members,
            _ => JsonObject::new(),
        };
    }
    // References inside of it begin at its own root, which has to be known as one.
    if let Value::Object(members) = &mut cleaned {
        members
            .entry("$id")
            .or_insert_with(|| Value::String("urn:aral:input".to_owned()));
    }
    let properties = JsonObject::from_iter([(INPUT.to_owned(), cleaned)]);
    JsonObject::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), Value::Object(properties)),
        ("required".to_owned(), json!([INPUT])),
        ("additionalProperties".to_owned(), json!(false)),
    ])
}

/// The input of a call with these arguments, as text; none: they are not those of the tool.
pub(super) fn input<'a>(schema: &Value, arguments: Option<&'a Arguments>) -> Option<&'a str> {
    if takes_arguments(schema) {
        return Some(arguments.map_or("{}", Arguments::all));
    }
    arguments?.input()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(permissions: &[Permission]) -> [Option<bool>; 4] {
        let hints = annotations(String::new(), permissions);
        [
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        ]
    }

    #[test]
    fn hints_follow_from_each_permission() {
        let reads = [Some(true), Some(false), Some(true), Some(false)];
        let reads_outside = [Some(true), Some(false), Some(true), Some(true)];
        let writes = [Some(false), Some(true), Some(false), Some(false)];
        let writes_outside = [Some(false), Some(true), Some(false), Some(true)];
        assert_eq!(hints(&[]), reads);
        for (permission, expected) in [
            (Permission::NetworkRead, reads_outside),
            (Permission::NetworkWrite, writes_outside),
            (Permission::FileRead, reads),
            (Permission::FileWrite, writes),
            (Permission::SecretRead, reads),
            (Permission::SecretWrite, writes),
            (Permission::MemoryRead, reads),
            (Permission::MemoryWrite, writes),
            (Permission::Exec, writes_outside),
        ] {
            assert_eq!(hints(&[permission]), expected, "{permission}");
        }
        assert_eq!(hints(&[Permission::NetworkRead, Permission::FileWrite]), writes_outside);
        assert_eq!(hints(&Permission::ALL), writes_outside);
    }

    #[test]
    fn an_input_that_is_no_object_is_the_one_argument() {
        let object = json!({ "type": "object", "properties": { "a": {} } });
        assert_eq!(Value::Object(input_schema(&object)), object);
        let arguments = |value: Value| value.as_object().cloned().map(Arguments::new);
        let input = |schema: &Value, arguments: Option<Arguments>| -> Option<Value> {
            super::input(schema, arguments.as_ref()).map(|text| serde_json::from_str(text).unwrap())
        };
        assert_eq!(
            input(&object, arguments(json!({ "input": 1 }))),
            Some(json!({ "input": 1 }))
        );
        assert_eq!(input(&object, None), Some(json!({})));

        let list = json!({ "type": "array", "items": { "$ref": "#/$defs/a" }, "$defs": { "a": { "type": "string" } } });
        let wrapped = Value::Object(input_schema(&list));
        assert_eq!(wrapped["type"], "object");
        assert_eq!(wrapped["properties"]["input"]["$id"], "urn:aral:input");
        assert_eq!(wrapped["properties"]["input"]["items"], list["items"]);
        for open in [list, json!({}), json!(true), json!({ "type": ["object", "null"] })] {
            assert_eq!(input_schema(&open)["required"], json!(["input"]), "{open}");
            for value in [
                json!([1]),
                json!("a\":}{"),
                json!({ "input": { "a": "}" } }),
                json!(1.5),
                json!(null),
            ] {
                assert_eq!(input(&open, arguments(json!({ "input": value.clone() }))), Some(value));
            }
            for bad in [json!({}), json!({ "input": 1, "more": 2 }), json!({ "a": 1 })] {
                assert_eq!(input(&open, arguments(bad.clone())), None, "{open}: {bad}");
            }
            assert_eq!(input(&open, None), None);
        }
    }
}
