//! Guests that use and abuse the agent's memory, on a real encrypted store.

use std::time::Duration;

use aral_contract::event::MemoryOperation;
use aral_contract::{Classification, EventKind, Permission};
use serde_json::{Value, json};

use crate::support::guests::*;
use crate::support::lab::Lab;
use crate::support::outcome::Outcome;
use crate::support::setup::Setup;

fn permissions(bytes_max: u64, records_max: u64) -> Value {
    json!({
        "memory:read": { "namespaces": ["mine", "ours"] },
        "memory:write": { "namespaces": ["mine"], "bytes_max": bytes_max, "records_max": records_max },
    })
}

fn setup() -> Setup {
    Setup::of(ISOLATION_MEMORY_STEPS)
        .permissions(permissions(1 << 20, 100))
        .keeping(&[])
}

async fn steps(lab: &Lab, steps: &[Value]) -> Outcome {
    let outcome = lab.call(ISOLATION_MEMORY_STEPS, json!({ "steps": steps })).await;
    assert_eq!(outcome.answer().as_array().map(Vec::len), Some(steps.len()));
    outcome
}

fn put(name: &str) -> Value {
    json!({ "do": "put", "namespace": "mine", "name": name })
}

fn get(namespace: &str, name: &str) -> Value {
    json!({ "do": "get", "namespace": namespace, "name": name })
}

fn with(mut step: Value, key: &str, value: Value) -> Value {
    step[key] = value;
    step
}

/// Each step that must fail did, in this way.
fn assert_failed(outcome: &Outcome, expected: &[(&str, &str)]) {
    let answers = outcome.answer().as_array().expect("answers");
    assert_eq!(answers.len(), expected.len());
    for (answer, (kind, words)) in answers.iter().zip(expected) {
        let found = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(
            found.starts_with(&format!("Error::{kind}(")) && found.contains(words),
            "{kind} {words}: {found}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(super) async fn isolation_memory_steps() {
    let lab = Lab::start(setup()).await;
    let first = steps(
        &lab,
        &[
            with(put("a"), "bytes", json!(70_000)),
            with(put("b"), "absent", json!(true)),
            with(put("b"), "version", json!(1)),
            with(put("c"), "ttl", json!(3_155_760_000_u64)),
            get("mine", "a"),
            get("mine", "c"),
            get("mine", "none"),
            json!({ "do": "delete", "namespace": "mine", "name": "b", "version": 2 }),
            json!({ "do": "delete", "namespace": "mine", "name": "b" }),
        ],
    )
    .await;
    assert_eq!(
        first.answer(),
        &json!([
            { "ok": 1 }, { "ok": 1 }, { "ok": 2 }, { "ok": 1 },
            { "ok": { "bytes": 70_000, "version": 1, "expires": false } },
            { "ok": { "bytes": 1, "version": 1, "expires": true } },
            { "ok": null }, { "ok": true }, { "ok": false },
        ])
    );
    // What one call wrote, the next one finds; an event for each access, and no name in any.
    let list = json!({ "do": "list", "namespace": "mine" });
    let second = steps(
        &lab,
        &[list.clone(), with(list, "continue", json!(true)), get("ours", "a")],
    )
    .await;
    let mut names: Vec<&str> = (0..2)
        .filter_map(|page| second.answer()[page]["ok"]["names"][0].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(
        second.answer()[2],
        json!({ "ok": null }),
        "another namespace is another place"
    );
    let accesses = first.accesses();
    assert_eq!(accesses.len(), 9);
    let EventKind::MemoryAccess {
        operation,
        record,
        classification,
        amount,
        refused,
        ..
    } = &accesses[0]
    else {
        panic!("{accesses:?}")
    };
    assert_eq!(
        (*operation, *classification, *amount, refused),
        (
            MemoryOperation::Write,
            Some(Classification::Confidential),
            70_000,
            &None
        )
    );
    assert_eq!(record.as_ref().map(String::len), Some(32));
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_another_capability_is_out_of_reach() {
    let theirs = Setup::of(ISOLATION_MEMORY).permissions(json!({
        "memory:read": { "namespaces": ["theirs"] },
        "memory:write": { "namespaces": ["theirs"], "bytes_max": 1000, "records_max": 10 },
    }));
    let lab = Lab::start(setup().also(theirs)).await;
    let wrote = lab.call(ISOLATION_MEMORY, json!({ "namespace": "theirs" })).await;
    assert!(
        wrote
            .answer()
            .as_array()
            .expect("attempts")
            .iter()
            .all(|one| one["result"] == "ok"),
        "{}",
        wrote.answer()
    );
    let attack = steps(
        &lab,
        &[
            get("theirs", "name"),
            json!({ "do": "list", "namespace": "theirs" }),
            json!({ "do": "put", "namespace": "theirs", "name": "name" }),
            json!({ "do": "put", "namespace": "ours", "name": "name" }),
            json!({ "do": "delete", "namespace": "theirs", "name": "name" }),
            json!({ "do": "batch", "namespace": "theirs", "steps": [put("name")] }),
            get("mine/../theirs", "name"),
            get("", "name"),
        ],
    )
    .await;
    let line = "add to capability.toml, [permissions";
    assert_failed(&attack, &[("Denied", line); 8]);
    attack.assert_denied(Permission::MemoryRead);
    attack.assert_denied(Permission::MemoryWrite);
    assert!(attack.accesses().is_empty());
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_names_times_and_cursors_touch_nothing() {
    let lab = Lab::start(setup()).await;
    let list = |prefix: &str, proceed: bool| json!({ "do": "list", "namespace": "mine", "prefix": prefix, "continue": proceed });
    steps(&lab, &[put("a1"), put("a2")]).await;
    let attack = steps(
        &lab,
        &[
            put(""),
            put("a\0b"),
            put(&"x".repeat(129)),
            get("mine", "a\0b"),
            with(put("a"), "ttl", json!(0)),
            with(put("a"), "ttl", json!(3_155_760_001_u64)),
            list(&"x".repeat(129), false),
            with(put("a1"), "absent", json!(true)),
            with(put("a1"), "version", json!(7)),
        ],
    )
    .await;
    assert_failed(
        &attack,
        &[
            ("InvalidInput", "1 to 128 bytes"),
            ("InvalidInput", "NUL"),
            ("InvalidInput", "1 to 128 bytes"),
            ("InvalidInput", "NUL"),
            ("InvalidInput", "ttl-seconds"),
            ("InvalidInput", "ttl-seconds"),
            ("InvalidInput", "128 bytes"),
            ("InvalidInput", "has version 1"),
            ("InvalidInput", "has version 1"),
        ],
    );
    // A cursor is good for its own namespace and prefix.
    let other = json!({ "do": "list", "namespace": "ours", "continue": true });
    for foreign in [other, list("a1", true)] {
        let outcome = steps(&lab, &[list("", false), foreign]).await;
        assert_eq!(outcome.answer()[0]["ok"]["more"], true);
        let error = outcome.answer()[1]["error"].as_str().expect("an error");
        assert!(error.contains("cursor"), "{error}");
    }
    let after = steps(&lab, &[get("mine", "a1"), get("mine", "a")]).await;
    assert_eq!(
        (&after.answer()[0]["ok"]["version"], &after.answer()[1]["ok"]),
        (&json!(1), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_all_or_nothing() {
    let lab = Lab::start(setup()).await;
    let batch = |version: u64| {
        let last = with(put("old"), "version", json!(version));
        json!({ "do": "batch", "namespace": "mine", "steps": [put("new"), { "do": "delete", "name": "gone" }, last] })
    };
    steps(&lab, &[put("old"), put("gone")]).await;
    let failed = steps(&lab, &[batch(9), get("mine", "new"), get("mine", "gone")]).await;
    assert!(
        failed.answer()[0]["error"]
            .as_str()
            .is_some_and(|text| text.contains("operation 2")),
        "{}",
        failed.answer()
    );
    assert_eq!(failed.answer()[1]["ok"], Value::Null);
    assert_eq!(failed.answer()[2]["ok"]["version"], 1);
    let done = steps(&lab, &[batch(1), get("mine", "new"), get("mine", "gone")]).await;
    assert_eq!(done.answer()[1]["ok"]["version"], 1);
    assert_eq!(done.answer()[2]["ok"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_size_number_and_time_end_where_they_are_set() {
    let tries = |change: fn(Setup) -> Setup, wanted: Vec<Value>| async move {
        let lab = Lab::start(change(setup())).await;
        let outcome = steps(&lab, &wanted).await;
        lab.neighbour_works().await;
        outcome.answer().as_array().expect("answers").last().expect("one")["error"]
            .as_str()
            .map(str::to_owned)
    };
    let two = || vec![put("a"), put("b")];
    let large = || vec![with(put("a"), "bytes", json!(1001))];
    type Case<'a> = (fn(Setup) -> Setup, fn(Setup) -> Setup, Vec<Value>, &'a str);
    let cases: [Case<'_>; 5] = [
        (
            |setup| setup.permissions(permissions(1 << 20, 1)),
            |setup| setup.permissions(permissions(1 << 20, 2)),
            two(),
            "records_max",
        ),
        (
            |setup| setup.permissions(permissions(1001, 10)),
            |setup| setup.permissions(permissions(1002, 10)),
            large(),
            "bytes_max",
        ),
        (
            |setup| setup.limits(json!({ "memory_value_bytes": 1000 })),
            |setup| setup.limits(json!({ "memory_value_bytes": 1001 })),
            large(),
            "memory_value_bytes",
        ),
        (
            |setup| setup.limits(json!({ "memory_calls": 1 })),
            |setup| setup.limits(json!({ "memory_calls": 2 })),
            two(),
            "memory_calls",
        ),
        (
            |setup| {
                setup
                    .slow(Duration::from_millis(800))
                    .limits(json!({ "memory_ms": 50 }))
            },
            |setup| {
                setup
                    .slow(Duration::from_millis(800))
                    .limits(json!({ "memory_ms": 15_000 }))
            },
            vec![put("a")],
            "memory_ms",
        ),
    ];
    for (closed, open, wanted, name) in cases {
        let error = tries(closed, wanted.clone())
            .await
            .unwrap_or_else(|| panic!("{name} did not hold"));
        assert!(
            error.starts_with("Error::Limit(") && error.contains(name),
            "{name}: {error}"
        );
        assert_eq!(tries(open, wanted).await, None, "{name}");
    }
}
