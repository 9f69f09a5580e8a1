//! The memory functions on a store in memory: what is let through, what is refused and why, and what is recorded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aral_contract::{Classification, Cut, EventKind, Grant, GrantParts, Limits};
use aral_memory::record::{BATCH_OPERATIONS_MAX, TTL_SECONDS_MAX};
use aral_memory::{RecordName, RecordStore as _};
use serde_json::json;

use super::*;
use crate::bindings::aral::capability::memory_write::PutOptions;
use crate::bindings::aral::capability::types::Classification as GuestClassification;
use crate::bound::stdio::StandardStreams;
use crate::bound::{Services, Ungranted};
use crate::storage::Memory;
use crate::testing::store::TestStore;
use crate::testing::{self, Kept, Trial, told};

/// An access as (operation, record, classification, amount, refused).
type Access = (
    MemoryOperation,
    Option<String>,
    Option<Classification>,
    u64,
    Option<String>,
);

struct Fixture {
    state: State,
    kept: Arc<Kept>,
    store: Arc<TestStore>,
}

fn limits() -> Limits {
    Limits {
        memory_value_bytes: 10,
        ..Limits::default()
    }
}

fn fixture(limits: Limits, store: TestStore) -> Fixture {
    fixture_for(limits, Arc::new(store), Classification::Secret)
}

fn fixture_for(limits: Limits, store: Arc<TestStore>, clearance: Classification) -> Fixture {
    let memory = Memory::new(Arc::clone(&store) as _);
    let parts = GrantParts {
        clearance,
        ..parts(limits)
    };
    fixture_in(memory, store, parts)
}

fn parts(limits: Limits) -> GrantParts {
    let permissions = json!({
        "memory:read": { "namespaces": ["shared", "read-only"] },
        "memory:write": { "namespaces": ["shared"], "bytes_max": 100, "records_max": 3 },
    });
    testing::grant_parts(permissions, limits, &[])
}

/// A call under such a grant, on a host that has lent its store to others, too.
fn fixture_in(memory: Memory, store: Arc<TestStore>, parts: GrantParts) -> Fixture {
    let grant = Arc::new(Grant::new(parts));
    let Trial { call, kept } = Trial::lending(grant, Ungranted::Refuse, |least| Services {
        memory: Some(memory),
        ..least
    });
    let state = State::new(call, StandardStreams::Log);
    Fixture { state, kept, store }
}

fn open() -> Fixture {
    fixture(limits(), TestStore::default())
}

fn write(name: &str, length: usize, ttl_seconds: Option<u64>, precondition: Precondition) -> Write {
    let options = PutOptions {
        ttl_seconds,
        classification: GuestClassification::Confidential,
        precondition,
    };
    Write {
        name: name.to_owned(),
        value: vec![7; length],
        options,
    }
}

fn plain(name: &str) -> Write {
    write(name, 1, None, Precondition::Any)
}

impl Fixture {
    async fn get(&mut self, namespace: &str, name: &str) -> Result<Option<Entry>, Error> {
        ReadHost::get(&mut self.state, namespace.into(), name.into())
            .await
            .unwrap()
    }

    async fn list(&mut self, namespace: &str, prefix: &str, cursor: Option<String>, limit: u32) -> Result<Page, Error> {
        ReadHost::list(&mut self.state, namespace.into(), prefix.into(), cursor, limit)
            .await
            .unwrap()
    }

    async fn put(&mut self, namespace: &str, write: Write) -> Result<u64, Error> {
        WriteHost::put(&mut self.state, namespace.into(), write).await.unwrap()
    }

    async fn delete(&mut self, namespace: &str, name: &str, precondition: Precondition) -> Result<bool, Error> {
        WriteHost::delete(&mut self.state, namespace.into(), name.into(), precondition)
            .await
            .unwrap()
    }

    async fn batch(&mut self, namespace: &str, operations: Vec<Operation>) -> Result<(), Error> {
        WriteHost::batch(&mut self.state, namespace.into(), operations)
            .await
            .unwrap()
    }

    /// Accesses as (operation, record, classification, amount, refused).
    fn accesses(&self) -> Vec<Access> {
        let accesses = self.kept.accesses().into_iter();
        accesses
            .map(|kind| match kind {
                EventKind::MemoryAccess {
                    capability,
                    persona,
                    operation,
                    namespace,
                    record,
                    classification,
                    amount,
                    refused,
                } => {
                    assert_eq!(capability.unwrap().as_str(), "probe");
                    assert!(persona.is_some());
                    assert_eq!(namespace.as_str(), "shared");
                    (operation, record, classification, amount, refused)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[tokio::test]
async fn what_is_written_is_read_listed_and_deleted() {
    let mut fixture = open();
    assert_eq!(
        fixture
            .put("shared", write("a", 10, Some(60), Precondition::Absent))
            .await
            .unwrap(),
        1
    );
    assert_eq!(fixture.put("shared", plain("b")).await.unwrap(), 1);
    assert_eq!(fixture.put("shared", plain("b")).await.unwrap(), 2);
    let entry = fixture.get("shared", "a").await.unwrap().unwrap();
    // A minute after the time of the store, which stands still.
    let end: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
    assert_eq!(
        (entry.value, entry.version, entry.expires_at),
        (vec![7; 10], 1, u64::try_from(end.as_second()).ok())
    );
    assert_eq!(entry.classification, GuestClassification::Confidential);
    assert!(fixture.get("shared", "c").await.unwrap().is_none());
    let first = fixture.list("shared", "", None, 1).await.unwrap();
    let rest = fixture.list("shared", "", first.cursor, u32::MAX).await.unwrap();
    assert_eq!((first.names.len(), rest.cursor), (1, None));
    let mut listed = [first.names, rest.names].concat();
    listed.sort_unstable();
    assert_eq!(listed, ["a", "b"]);
    assert!(fixture.delete("shared", "a", Precondition::Version(1)).await.unwrap());
    assert!(!fixture.delete("shared", "a", Precondition::Any).await.unwrap());
    assert_eq!(fixture.store.names(), ["shared/b"]);
}

#[tokio::test]
async fn each_access_is_one_event_without_a_name() {
    let mut fixture = open();
    fixture
        .put("shared", write("a", 4, None, Precondition::Any))
        .await
        .unwrap();
    fixture.get("shared", "a").await.unwrap();
    fixture.get("shared", "b").await.unwrap();
    fixture.list("shared", "", None, 5).await.unwrap();
    fixture.delete("shared", "a", Precondition::Any).await.unwrap();
    told(
        fixture
            .put("shared", write("a", 1, None, Precondition::Version(9)))
            .await,
    );
    let tag = |name: &str| Some(fixture.store.tag(&"shared".parse().unwrap(), &name.parse().unwrap()));
    let confidential = Some(Classification::Confidential);
    let absent = "the precondition of operation 0 does not hold: the record is not there";
    assert_eq!(
        fixture.accesses(),
        [
            (MemoryOperation::Write, tag("a"), confidential, 4, None),
            (MemoryOperation::Read, tag("a"), confidential, 4, None),
            (MemoryOperation::Read, tag("b"), None, 0, None),
            (MemoryOperation::List, None, None, 1, None),
            (MemoryOperation::Delete, tag("a"), confidential, 0, None),
            (
                MemoryOperation::Write,
                tag("a"),
                confidential,
                1,
                Some(absent.to_owned())
            ),
        ]
    );
    assert_eq!(fixture.kept.host_calls(), [], "nothing is recorded twice");
}

#[tokio::test]
async fn a_namespace_that_is_not_granted_is_denied_with_the_line() {
    let mut fixture = open();
    for namespace in ["other", "", "shared\0", "SHARED"] {
        let denied = told(fixture.get(namespace, "a").await);
        assert_eq!(denied.0, "denied", "{namespace:?}");
        assert_eq!(told(fixture.list(namespace, "", None, 1).await).0, "denied");
        assert_eq!(fixture.kept.host_calls().last().unwrap().0, Permission::MemoryRead);
    }
    assert!(
        fixture
            .kept
            .denial()
            .1
            .contains("[permissions.\"memory:read\"]: namespaces")
    );
    for namespace in ["other", "read-only"] {
        assert_eq!(told(fixture.put(namespace, plain("a")).await).0, "denied");
        assert_eq!(
            told(fixture.delete(namespace, "a", Precondition::Any).await).0,
            "denied"
        );
        assert_eq!(told(fixture.batch(namespace, Vec::new()).await).0, "denied");
    }
    assert!(
        fixture
            .kept
            .denial()
            .1
            .contains("[permissions.\"memory:write\"]: namespaces")
    );
    assert_eq!(fixture.store.names(), <[String; 0]>::default());
    assert!(fixture.accesses().is_empty(), "a denial is recorded as one");
    fixture.get("read-only", "a").await.unwrap();
}

#[tokio::test]
async fn a_namespace_that_the_manifest_asks_for_is_denied_with_whoever_gives_less() {
    let asked = json!({
        "memory:read": { "namespaces": ["cut"] },
        "memory:write": { "namespaces": ["cut"], "bytes_max": 1, "records_max": 1 },
    });
    let cut = Cut {
        policy: serde_json::from_value(asked).unwrap(),
        ..Cut::default()
    };
    let store = Arc::new(TestStore::default());
    let memory = Memory::new(Arc::clone(&store) as _);
    let mut fixture = fixture_in(memory, store, GrantParts { cut, ..parts(limits()) });
    for (kind, text) in [
        told(fixture.get("cut", "a").await),
        told(fixture.put("cut", plain("a")).await),
    ] {
        assert!(
            kind == "denied" && text.contains("asks for it, and the policy gives less"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn names_times_and_pages_are_checked_before_the_store_is_asked() {
    let mut fixture = open();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "a\0b", &long] {
        assert_eq!(told(fixture.get("shared", name).await).0, "invalid-input", "{name:?}");
        assert_eq!(told(fixture.put("shared", plain(name)).await).0, "invalid-input");
        assert_eq!(
            told(fixture.delete("shared", name, Precondition::Any).await).0,
            "invalid-input"
        );
        let batch = vec![Operation::Delete("fine".into()), Operation::Delete(name.into())];
        assert_eq!(told(fixture.batch("shared", batch).await).0, "invalid-input");
    }
    for ttl in [0, TTL_SECONDS_MAX + 1, u64::MAX] {
        let late = write("a", 1, Some(ttl), Precondition::Any);
        assert_eq!(
            told(fixture.put("shared", late.clone()).await).0,
            "invalid-input",
            "{ttl}"
        );
        assert_eq!(
            told(fixture.batch("shared", vec![Operation::Put(late)]).await).0,
            "invalid-input"
        );
    }
    for (prefix, cursor, limit) in [
        (long.as_str(), None, 1),
        ("a\0", None, 1),
        ("", None, 0),
        ("", Some("x".repeat(check::CURSOR_BYTES_MAX + 1)), 1),
    ] {
        let listed = fixture.list("shared", prefix, cursor, limit).await;
        assert_eq!(told(listed).0, "invalid-input", "{prefix:?} {limit}");
    }
    assert!(fixture.accesses().is_empty());
    fixture
        .put("shared", write("a", 1, Some(TTL_SECONDS_MAX), Precondition::Any))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_value_over_the_limit_is_neither_written_nor_read() {
    let mut fixture = open();
    let large = write("a", 11, None, Precondition::Any);
    let (kind, text) = told(fixture.put("shared", large.clone()).await);
    assert!(kind == "limit" && text.contains("memory_value_bytes"), "{text}");
    let batch = vec![Operation::Put(plain("b")), Operation::Put(large.clone())];
    assert_eq!(told(fixture.batch("shared", batch).await).0, "limit");
    assert_eq!(fixture.store.names(), <[String; 0]>::default());
    // Somebody with a larger limit wrote it.
    let name: RecordName = "a".parse().unwrap();
    let value = record::Write {
        name,
        value: vec![7; 11].into(),
        ttl_seconds: None,
        classification: Classification::Secret,
        precondition: aral_memory::Precondition::Any,
    };
    fixture
        .store
        .put(&"shared".parse().unwrap(), value, &Quota::UNLIMITED)
        .unwrap();
    let (kind, text) = told(fixture.get("shared", "a").await);
    assert!(kind == "limit" && text.contains("memory_value_bytes"), "{text}");
    let tag = |name: &str| Some(fixture.store.tag(&"shared".parse().unwrap(), &name.parse().unwrap()));
    let confidential = Some(Classification::Confidential);
    let accesses = fixture.accesses();
    let refused = |access: &Access| {
        access
            .4
            .as_deref()
            .is_some_and(|text| text.contains("memory_value_bytes"))
    };
    assert!(accesses.iter().all(refused), "{accesses:?}");
    let recorded: Vec<_> = accesses.into_iter().map(|one| (one.0, one.1, one.2, one.3)).collect();
    assert_eq!(
        recorded,
        [
            (MemoryOperation::Write, tag("a"), confidential, 11),
            (MemoryOperation::Write, tag("b"), confidential, 1),
            (MemoryOperation::Write, tag("a"), confidential, 11),
            (MemoryOperation::Read, tag("a"), Some(Classification::Secret), 11),
        ]
    );
    let mut wider = self::fixture(
        Limits {
            memory_value_bytes: 11,
            ..limits()
        },
        TestStore::default(),
    );
    wider.put("shared", large).await.unwrap();
    assert_eq!(wider.get("shared", "a").await.unwrap().unwrap().value.len(), 11);
}

#[tokio::test]
async fn preconditions_cursors_and_the_quota_say_what_is_wrong() {
    let mut fixture = open();
    fixture.put("shared", plain("a")).await.unwrap();
    for precondition in [Precondition::Absent, Precondition::Version(2)] {
        let (kind, text) = told(fixture.put("shared", write("a", 1, None, precondition)).await);
        assert!(kind == "invalid-input" && text.contains("has version 1"), "{text}");
        let deleted = fixture.delete("shared", "a", precondition).await;
        assert_eq!(told(deleted).0, "invalid-input");
    }
    for name in ["b", "c"] {
        fixture.put("shared", plain(name)).await.unwrap();
    }
    let (kind, text) = told(fixture.put("shared", plain("d")).await);
    assert!(
        kind == "limit"
            && text.contains("3 records")
            && text.contains("records_max")
            && text.contains("[policy.memory]"),
        "{text}"
    );
    let cursor = fixture.list("shared", "", None, 1).await.unwrap().cursor;
    assert!(cursor.is_some());
    for (namespace, prefix, cursor) in [
        ("read-only", "", cursor.clone()),
        ("shared", "a", cursor),
        ("shared", "", Some("forged".into())),
    ] {
        let (kind, text) = told(fixture.list(namespace, prefix, cursor, 1).await);
        assert!(
            kind == "invalid-input" && text.contains("cursor"),
            "{namespace} {prefix}: {text}"
        );
    }
}

#[tokio::test]
async fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let mut fixture = open();
    fixture.put("shared", plain("old")).await.unwrap();
    let failing = vec![
        Operation::Delete("old".into()),
        Operation::Put(plain("new")),
        Operation::Put(write("other", 1, None, Precondition::Version(5))),
    ];
    let (kind, text) = told(fixture.batch("shared", failing).await);
    assert!(kind == "invalid-input" && text.contains("operation 2"), "{text}");
    assert_eq!(fixture.store.names(), ["shared/old"]);
    let fine = vec![Operation::Delete("old".into()), Operation::Put(plain("new"))];
    fixture.batch("shared", fine).await.unwrap();
    assert_eq!(fixture.store.names(), ["shared/new"]);
    let recorded: Vec<_> = fixture
        .accesses()
        .into_iter()
        .map(|one| (one.0, one.4.is_some()))
        .collect();
    let (write, delete) = (MemoryOperation::Write, MemoryOperation::Delete);
    assert_eq!(
        recorded,
        [
            (write, false),
            (delete, true),
            (write, true),
            (write, true),
            (delete, false),
            (write, false)
        ]
    );
    let many = vec![Operation::Delete("a".into()); BATCH_OPERATIONS_MAX + 1];
    assert_eq!(told(fixture.batch("shared", many).await).0, "limit");
}

#[tokio::test]
async fn the_number_of_records_that_a_call_touches_is_bounded() {
    for (memory_calls, second_batch) in [(3, false), (4, true)] {
        let counted = Limits {
            memory_calls,
            ..limits()
        };
        let mut fixture = fixture(counted, TestStore::default());
        let batch = || vec![Operation::Delete("a".into()), Operation::Delete("b".into())];
        fixture.batch("shared", batch()).await.unwrap();
        let again = fixture.batch("shared", batch()).await;
        assert_eq!(again.is_ok(), second_batch, "{memory_calls}");
        if let Err(error) = again {
            let (kind, text) = told::<()>(Err(error));
            assert!(kind == "limit" && text.contains("memory_calls"), "{text}");
            assert!(fixture.kept.denial().1.contains("memory_calls"));
            // What still fits is done.
            fixture.get("shared", "a").await.unwrap();
        }
        assert_eq!(told(fixture.get("shared", "a").await).0, "limit");
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_waited_for_until_the_deadline() {
    let slow = |memory_ms| {
        let store = TestStore {
            delay: Duration::from_millis(300),
            ..TestStore::default()
        };
        fixture(Limits { memory_ms, ..limits() }, store)
    };
    let mut late = slow(50);
    let (kind, text) = told(late.put("shared", plain("a")).await);
    assert!(
        kind == "limit" && text.contains("memory_ms") && text.contains("may have been written"),
        "{text}"
    );
    assert!(late.accesses().is_empty(), "nobody knows yet how it ended");
    tokio::time::sleep(Duration::from_millis(900)).await;
    // It was written after all, and that is what is recorded.
    assert_eq!(late.store.names(), ["shared/a"]);
    assert_eq!(
        late.accesses().iter().map(|one| one.4.clone()).collect::<Vec<_>>(),
        [None]
    );
    assert_eq!(slow(60_000).put("shared", plain("a")).await.unwrap(), 1);
}

#[tokio::test]
async fn operations_that_nobody_waits_for_do_not_pile_up() {
    let store = TestStore {
        delay: Duration::from_millis(200),
        ..TestStore::default()
    };
    let counted = Limits {
        memory_ms: 50,
        ..limits()
    };
    let mut fixture = fixture(counted, store);
    let memory = fixture.state.call.frame.services.memory.clone().unwrap();
    let persona = fixture.state.call.frame.grant.persona.clone();
    let taken: Vec<_> = std::iter::from_fn(|| memory.places.take_now(&persona)).collect();
    let (kind, text) = told(fixture.put("shared", plain("a")).await);
    assert!(kind == "limit" && text.contains("busy"), "{text}");
    drop(taken);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fixture.store.names(), <[String; 0]>::default(), "it never began");
    assert!(fixture.accesses()[0].4.as_deref().unwrap().contains("busy"));
}

#[tokio::test]
async fn the_guests_of_a_persona_keep_no_other_from_the_store() {
    let store = Arc::new(TestStore::default());
    let memory = Memory::new(Arc::clone(&store) as _);
    let call_of = |persona: &str| {
        let counted = Limits {
            memory_ms: 50,
            ..limits()
        };
        let parts = GrantParts {
            persona: persona.parse().unwrap(),
            ..parts(counted)
        };
        fixture_in(memory.clone(), Arc::clone(&store), parts)
    };
    let one = "one".parse().unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| memory.places.take_now(&one)).collect();
    assert_eq!(taken.len(), crate::storage::STORE_OPERATIONS_MAX / 4);
    let (kind, text) = told(call_of("one").put("shared", plain("a")).await);
    assert!(kind == "limit" && text.contains("busy"), "{text}");
    assert_eq!(call_of("two").put("shared", plain("a")).await.unwrap(), 1);
    drop(taken);
    assert_eq!(call_of("one").put("shared", plain("a")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_call_that_does_not_wait_has_few_operations_under_way() {
    let store = TestStore::default();
    store.stopped.store(true, Ordering::SeqCst);
    let impatient = Limits {
        memory_ms: 1,
        ..limits()
    };
    let mut fixture = fixture(impatient, store);
    let most = crate::storage::STORE_OPERATIONS_PER_CALL_MAX;
    for number in 0..most * 2 {
        let (kind, text) = told(fixture.put("shared", plain("a")).await);
        assert_eq!(kind, "limit");
        let begun = text.contains("may have been written");
        assert!(begun != text.contains("busy"), "{text}");
        assert_eq!(begun, number < most, "{number}: {text}");
    }
    assert!(fixture.store.inside.load(Ordering::SeqCst) <= most);
    fixture.store.stopped.store(false, Ordering::SeqCst);
    // Once those have ended there is room again.
    let own = Arc::clone(&fixture.state.call.store_operations);
    let all = own.acquire_many_owned(u32::try_from(most).unwrap()).await;
    assert!(all.is_ok());
    assert_eq!(fixture.store.names(), ["shared/a"]);
}

#[tokio::test]
async fn a_store_that_fails_shows_the_guest_nothing_of_the_host() {
    let broken = TestStore {
        broken: true,
        ..TestStore::default()
    };
    let mut fixture = fixture(limits(), broken);
    let (kind, text) = told(fixture.put("shared", plain("a")).await);
    assert!(
        kind == "unavailable" && !text.contains('/') && !text.contains("space"),
        "{text}"
    );
    let refused = fixture.accesses()[0].4.clone().unwrap();
    assert!(!refused.contains("/var"), "{refused}");
}

#[tokio::test]
async fn without_a_store_the_lines_that_make_one_are_named() {
    let permissions = json!({
        "memory:read": { "namespaces": ["shared"] },
        "memory:write": { "namespaces": ["shared"], "bytes_max": 100, "records_max": 3 },
    });
    let Trial { call, kept } = Trial::new(testing::grant(permissions, limits(), &[]));
    let mut fixture = Fixture {
        state: State::new(call, StandardStreams::Log),
        kept,
        store: Arc::default(),
    };
    let answers = [
        told(fixture.get("shared", "a").await),
        told(fixture.list("shared", "", None, 1).await),
        told(fixture.put("shared", plain("a")).await),
        told(fixture.delete("shared", "a", Precondition::Any).await),
        told(fixture.batch("shared", vec![Operation::Put(plain("a"))]).await),
    ];
    for (kind, text) in answers {
        assert!(
            kind == "unavailable" && text.contains("aral.toml, [memory.master_key]: file"),
            "{text}"
        );
    }
    assert_eq!(fixture.accesses().len(), 5);
}

#[tokio::test]
async fn what_is_more_sensitive_than_the_persona_is_cleared_for_is_neither_read_nor_written() {
    let store = Arc::new(TestStore::default());
    let mut cleared = fixture_for(limits(), Arc::clone(&store), Classification::Confidential);
    cleared.put("shared", plain("a")).await.unwrap();
    assert!(cleared.get("shared", "a").await.unwrap().is_some());
    let mut less = fixture_for(limits(), store, Classification::Internal);
    let reason = "the value is `confidential`, and the persona is cleared for `internal`: persona, \"clearance\": \"confidential\"";
    let denied = ("denied", reason.to_owned());
    assert_eq!(told(less.get("shared", "a").await), denied);
    assert_eq!(told(less.put("shared", plain("b")).await), denied);
    let batch = vec![Operation::Delete("a".to_owned()), Operation::Put(plain("b"))];
    assert_eq!(told(less.batch("shared", batch).await), denied);
    assert_eq!(less.store.names(), ["shared/a"], "nothing of the batch was done");
    let (operation, _, classification, _, refused) = less.accesses().remove(0);
    assert_eq!(
        (operation, classification, refused.as_deref()),
        (MemoryOperation::Read, Some(Classification::Confidential), Some(reason))
    );
    assert_eq!(less.kept.host_calls().len(), 2, "both writes are on the record");
}
