//! What is checked before any store is asked.

use aral_contract::Limits;
use serde_json::json;

use super::*;
use crate::bindings::aral::capability::types::Classification;
use crate::bound::stdio::StandardStreams;
use crate::trial::{self, Kept, Trial};

fn state() -> (State, std::sync::Arc<Kept>) {
    let permissions = json!({
        "memory:read": { "namespaces": ["shared", "read-only"] },
        "memory:write": { "namespaces": ["shared"], "bytes_max": 100, "records_max": 1 },
    });
    let limits = Limits {
        memory_value_bytes: 10,
        ..Limits::default()
    };
    let Trial { call, kept } = Trial::new(trial::grant(permissions, limits, &[]));
    (State::new(call, StandardStreams::Log), kept)
}

fn write(name: &str, length: usize, ttl_seconds: Option<u64>) -> Write {
    let options = PutOptions {
        ttl_seconds,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    };
    Write {
        name: name.to_owned(),
        value: vec![0; length],
        options,
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::InvalidInput(_) => "invalid-input",
        Error::Denied(_) => "denied",
        Error::Unavailable(_) => "unavailable",
        Error::Limit(_) => "limit",
        Error::Internal(_) => "internal",
    }
}

#[tokio::test]
async fn reading_is_checked() {
    let (mut state, kept) = state();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for (namespace, name, expected) in [
        ("shared", "a", "unavailable"),
        ("read-only", "a", "unavailable"),
        ("other", "a", "denied"),
        ("", "a", "denied"),
        ("shared", "", "invalid-input"),
        ("shared", "a\0b", "invalid-input"),
        ("shared", &long, "invalid-input"),
    ] {
        let error = ReadHost::get(&mut state, namespace.into(), name.into())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(kind(&error), expected, "{namespace} {name:?}");
    }
    assert!(kept.denial().1.contains("[permissions.\"memory:read\"] namespaces"));
    for (prefix, cursor, limit, expected) in [
        ("", None, 1, "unavailable"),
        (long.as_str(), None, 1, "invalid-input"),
        ("", None, 0, "invalid-input"),
        ("", Some("x".repeat(CURSOR_BYTES_MAX + 1)), 1, "invalid-input"),
    ] {
        let error = ReadHost::list(&mut state, "shared".into(), prefix.into(), cursor, limit)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(kind(&error), expected, "{prefix:?} {limit}");
    }
}

#[tokio::test]
async fn writing_is_checked() {
    let (mut state, _) = state();
    for (namespace, write, expected) in [
        ("shared", write("a", 10, Some(60)), "unavailable"),
        ("read-only", write("a", 1, None), "denied"),
        ("shared", write("a", 11, None), "limit"),
        ("shared", write("", 1, None), "invalid-input"),
        ("shared", write("a", 1, Some(0)), "invalid-input"),
        ("shared", write("a", 1, Some(u64::MAX)), "invalid-input"),
    ] {
        let error = WriteHost::put(&mut state, namespace.into(), write.clone())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(kind(&error), expected, "{namespace} {write:?}");
        let batch = vec![Operation::Delete("fine".into()), Operation::Put(write)];
        let error = WriteHost::batch(&mut state, namespace.into(), batch)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(kind(&error), expected, "in a batch");
    }
    let error = WriteHost::delete(&mut state, "read-only".into(), "a".into(), Precondition::Any)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(kind(&error), "denied");
    let many = vec![Operation::Delete("a".into()); BATCH_OPERATIONS_MAX + 1];
    assert_eq!(
        kind(
            &WriteHost::batch(&mut state, "shared".into(), many)
                .await
                .unwrap()
                .unwrap_err()
        ),
        "limit"
    );
}
