//! The documented schema is the one of the code, and closed.
#![expect(clippy::disallowed_methods, reason = "the test reads and writes the document")]

use std::collections::BTreeSet;

use aral_contract::event::{AuthenticationMethod, LifecycleChange, MemoryOperation, SecretOperation};
use aral_contract::{Classification, Permission};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/audit.schema.json");

/// Run it with the variable `ARAL_UPDATE_GOLDEN` set to write the document anew.
#[test]
fn the_documented_schema_is_the_one_of_the_code() {
    if std::env::var_os("ARAL_UPDATE_GOLDEN").is_some() {
        std::fs::write(DOCUMENT, json_schema()).unwrap();
    }
    let documented = std::fs::read_to_string(DOCUMENT).unwrap();
    assert_eq!(documented, json_schema(), "docs/audit.schema.json is out of date");
}

fn words<T: DeserializeOwned + std::fmt::Debug>(schema: &Value, name: &str, count: usize) {
    let words = schema["$defs"][name]["enum"].as_array().unwrap();
    assert_eq!(words.len(), count, "{name}");
    for word in words {
        serde_json::from_value::<T>(word.clone()).unwrap();
    }
}

#[test]
fn the_words_of_the_schema_are_those_of_the_types() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    words::<Permission>(&schema, "permission", Permission::ALL.len());
    words::<Classification>(&schema, "classification", Classification::ALL.len());
    words::<Severity>(&schema, "severity", 5);
    words::<MemoryOperation>(&schema, "memory_operation", 4);
    words::<SecretOperation>(&schema, "secret_operation", 4);
    words::<AuthenticationMethod>(&schema, "authentication_method", 7);
    words::<LifecycleChange>(&schema, "lifecycle_change", 5);
}

/// Every object, so that a member that the log does not write is an error for whoever reads with the schema too.
#[test]
fn the_schema_is_closed() {
    fn closed(value: &Value, open: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if map.contains_key("properties") && map.get("additionalProperties") != Some(&Value::Bool(false)) {
                    open.insert(value.to_string().chars().take(200).collect());
                }
                map.values().for_each(|value| closed(value, open));
            }
            Value::Array(list) => list.iter().for_each(|value| closed(value, open)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut open = BTreeSet::new();
    closed(&schema, &mut open);
    assert_eq!(open, BTreeSet::new());
}

#[test]
fn a_reader_takes_no_unknown_member() {
    let good = r#"{"seq":0,"prev":"0000000000000000000000000000000000000000000000000000000000000000","at":"2026-01-01T00:00:00Z","event":{"type":"log_gap","lost":1}}"#;
    let record: Record = serde_json::from_str(good).unwrap();
    assert_eq!(serde_json::to_string(&record).unwrap(), good);
    assert_eq!(record.event.severity(), Some(Severity::Critical));
    for (from, to) in [
        ("\"lost\":1", "\"lost\":1,\"more\":1"),
        ("\"at\"", "\"more\":1,\"at\""),
        ("log_gap", "log_hole"),
        ("\"lost\":1", "\"lost\":-1"),
        ("000\",\"at\"", "\",\"at\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(serde_json::from_str::<Record>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn the_types_are_those_of_the_schema() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let variants = schema["$defs"]["AuditEvent"]["oneOf"].as_array().unwrap();
    let named: Vec<&str> = variants
        .iter()
        .map(|variant| variant["properties"]["type"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(named, AuditEvent::TYPE_NAMES);
}

#[test]
fn every_type_is_documented() {
    let (_, section) = include_str!("../../../../../docs/audit.md")
        .split_once("\n## Types\n")
        .unwrap();
    let (table, _) = section.split_once("\n## ").unwrap();
    for name in AuditEvent::TYPE_NAMES {
        assert!(
            table.contains(&format!("`{name}`")),
            "docs/audit.md has no line for `{name}`"
        );
    }
}
