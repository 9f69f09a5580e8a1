//! Secrets by name, over sources that the test holds in its hand.

use std::sync::Mutex;
use std::time::Duration;

pub(crate) use aral_contract::testing::ManualClock as TestClock;

use super::*;

pub(crate) fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

pub(crate) fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec())
}

/// A source that counts, waits when told to, and says what it was told.
#[derive(Debug, Default)]
struct TestSource {
    values: Mutex<BTreeMap<String, SecretValue>>,
    reads: std::sync::atomic::AtomicU32,
    down: std::sync::atomic::AtomicBool,
    gate: Option<tokio::sync::Semaphore>,
    /// What somebody else does to what was just read.
    meanwhile: Option<fn(&mut BTreeMap<String, SecretValue>)>,
}

impl TestSource {
    fn holding(reference: &str, text: &str) -> Self {
        let source = Self::default();
        source.values.lock().unwrap().insert(reference.to_owned(), value(text));
        source
    }

    fn reads(&self) -> u32 {
        self.reads.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl SecretSource for TestSource {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> aral_contract::secret::SecretFuture<'a, SecretValue> {
        Box::pin(async move {
            self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let found = self.values.lock().unwrap().get(&reference.to_string()).cloned();
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            if self.down.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(SecretError::Unavailable {
                    reference: reference.clone(),
                    reason: "it is down".to_owned(),
                    source: None,
                });
            }
            if let Some(meanwhile) = self.meanwhile {
                meanwhile(&mut self.values.lock().unwrap());
            }
            found.ok_or_else(|| SecretError::NotFound {
                reference: reference.clone(),
            })
        })
    }

    fn replace<'a>(
        &'a self,
        reference: &'a SecretReference,
        before: &'a SecretValue,
        value: &'a SecretValue,
    ) -> aral_contract::secret::SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            let mut values = self.values.lock().unwrap();
            let there = values.get(&reference.to_string());
            let missed = match there {
                Some(there) if there == before => None,
                Some(_) => Some(Missed::Changed),
                None => Some(Missed::Gone),
            };
            if let Some(missed) = missed {
                return Err(missed.at(reference));
            }
            values.insert(reference.to_string(), value.clone());
            Ok(reference.clone())
        })
    }

    fn write<'a>(
        &'a self,
        reference: &'a SecretReference,
        value: &'a SecretValue,
    ) -> aral_contract::secret::SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            let mut values = self.values.lock().unwrap();
            values.insert(reference.to_string(), value.clone());
            Ok(reference.clone())
        })
    }
}

const PLACE: &str = "vault://kv/app#token";

fn secrets(source: &Arc<TestSource>) -> (Secrets, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let parts = SecretsParts {
        references: [(name("token"), PLACE.parse().unwrap())].into(),
        vault: Some(source.clone()),
        ..SecretsParts::default()
    };
    (Secrets::new(parts, clock.clone()).unwrap(), clock)
}

#[tokio::test]
async fn a_copy_serves_until_its_time_is_over_and_then_the_failure_is_clear() {
    let source = Arc::new(TestSource::holding(PLACE, "one"));
    let (secrets, clock) = secrets(&source);
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("one"));
    source.down.store(true, std::sync::atomic::Ordering::SeqCst);
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("one"));
    assert_eq!(source.reads(), 1);
    clock.advance(Duration::from_millis(1));
    let error = secrets.get(&name("token")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the secret at `vault://kv/app#token` is unavailable: it is down"
    );
    assert_eq!(source.reads(), 2);
}

fn gated() -> Arc<TestSource> {
    Arc::new(TestSource {
        gate: Some(tokio::sync::Semaphore::new(0)),
        ..TestSource::holding(PLACE, "one")
    })
}

/// Starts reading, and returns when the source is being asked or everybody waits.
async fn start(secrets: &Secrets, count: usize) -> Vec<tokio::task::JoinHandle<Result<SecretValue, SecretError>>> {
    let tasks = (0..count)
        .map(|_| {
            let secrets = secrets.clone();
            tokio::spawn(async move { secrets.get(&name("token")).await })
        })
        .collect();
    for _ in 0..count * 4 {
        tokio::task::yield_now().await;
    }
    tasks
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_request_whatever_comes_of_it() {
    for down in [false, true] {
        for ttl_ms in [60_000, 0] {
            let source = gated();
            source.down.store(down, std::sync::atomic::Ordering::SeqCst);
            let parts = SecretsParts {
                cache: CacheLimits {
                    ttl_ms,
                    ..CacheLimits::default()
                },
                ..secrets(&source).0.0.parts.clone()
            };
            let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
            let tasks = start(&secrets, 20).await;
            source.gate.as_ref().unwrap().add_permits(1);
            for task in tasks {
                let outcome = task.await.unwrap();
                assert_eq!(outcome.is_err(), down);
            }
            assert_eq!(source.reads(), 1, "down {down}, ttl {ttl_ms}");
            assert_eq!(secrets.0.flights.len(), 0);
            // The next one asks for itself, unless there is a copy.
            source.gate.as_ref().unwrap().add_permits(1);
            assert_eq!(secrets.get(&name("token")).await.is_err(), down);
            assert_eq!(source.reads(), if ttl_ms > 0 && !down { 1 } else { 2 });
        }
    }
}

#[tokio::test]
async fn when_the_first_gives_up_the_next_one_asks() {
    let source = gated();
    let (secrets, _clock) = secrets(&source);
    let mut tasks = start(&secrets, 3).await;
    tasks.remove(0).abort();
    source.gate.as_ref().unwrap().add_permits(1);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), value("one"));
    }
    assert_eq!(source.reads(), 2);
    assert_eq!(secrets.0.flights.len(), 0);
}

#[tokio::test]
async fn after_a_write_nobody_is_given_what_was_there_before() {
    let source = gated();
    let (secrets, _clock) = secrets(&source);
    let before = start(&secrets, 1).await;
    assert_eq!(
        secrets.put(&name("token"), &value("two")).await.unwrap().to_string(),
        PLACE
    );
    // This one comes after the write, while a read from before it is still on its way.
    let after = start(&secrets, 1).await;
    source.gate.as_ref().unwrap().add_permits(2);
    for task in before {
        assert_eq!(task.await.unwrap().unwrap(), value("one"));
    }
    for task in after {
        assert_eq!(task.await.unwrap().unwrap(), value("two"));
    }
    source.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("two"));
}

#[tokio::test]
async fn rotation_needs_a_secret_that_is_there_and_a_value_that_is_not() {
    let source = Arc::new(TestSource::holding(PLACE, "one"));
    let (secrets, _clock) = secrets(&source);
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("one"));
    let same = secrets.rotate(&name("token"), &value("one")).await.unwrap_err();
    assert!(matches!(same, SecretError::Refused { .. }), "{same:?}");
    assert_eq!(
        secrets.rotate(&name("token"), &value("two")).await.unwrap().to_string(),
        PLACE
    );
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("two"));
    source.values.lock().unwrap().clear();
    let none = secrets.rotate(&name("token"), &value("three")).await.unwrap_err();
    assert!(matches!(none, SecretError::NotFound { .. }), "{none:?}");
    assert!(source.values.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_rotation_undoes_nothing_that_somebody_does_meanwhile() {
    let source = Arc::new(TestSource {
        meanwhile: Some(BTreeMap::clear),
        ..TestSource::holding(PLACE, "one")
    });
    let gone = secrets(&source).0.rotate(&name("token"), &value("two")).await;
    assert!(matches!(gone, Err(SecretError::NotFound { .. })), "{gone:?}");
    assert!(source.values.lock().unwrap().is_empty(), "it is there again");
    let source = Arc::new(TestSource {
        meanwhile: Some(|values| drop(values.insert(PLACE.to_owned(), value("newer")))),
        ..TestSource::holding(PLACE, "one")
    });
    let changed = secrets(&source).0.rotate(&name("token"), &value("two")).await;
    assert!(matches!(changed, Err(SecretError::Refused { .. })), "{changed:?}");
    assert_eq!(source.values.lock().unwrap().get(PLACE), Some(&value("newer")));
}

#[tokio::test]
async fn the_local_store_replaces_what_it_is_told_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalSecrets::new(sealed(&folder).secrets());
    let place: SecretReference = "local://github".parse().unwrap();
    let replace = async |before: &str, new: &str| local.replace(&place, &value(before), &value(new)).await;
    let gone = replace("one", "two").await;
    assert!(matches!(gone, Err(SecretError::NotFound { .. })), "{gone:?}");
    assert!(local.read(&place).await.is_err(), "it is there");
    local.write(&place, &value("one")).await.unwrap();
    let changed = replace("other", "two").await;
    assert!(matches!(changed, Err(SecretError::Refused { .. })), "{changed:?}");
    assert_eq!(local.read(&place).await.unwrap(), value("one"));
    replace("one", "two").await.unwrap();
    assert_eq!(local.read(&place).await.unwrap(), value("two"));
}

#[tokio::test]
async fn a_size_that_no_secret_has_is_refused_on_both_ways() {
    for bytes in [0, SECRET_BYTES_MAX + 1] {
        let text = "x".repeat(bytes);
        let source = Arc::new(TestSource::holding(PLACE, &text));
        let (secrets, _clock) = secrets(&source);
        for outcome in [
            secrets.get(&name("token")).await.map(drop),
            secrets.put(&name("token"), &value(&text)).await.map(drop),
        ] {
            assert!(matches!(outcome, Err(SecretError::Size { bytes: found, .. }) if found == bytes));
        }
    }
    let source = Arc::new(TestSource::default());
    let (secrets, _clock) = secrets(&source);
    let largest = value(&"x".repeat(SECRET_BYTES_MAX));
    secrets.put(&name("token"), &largest).await.unwrap();
    assert_eq!(secrets.get(&name("token")).await.unwrap(), largest);
}

#[tokio::test]
async fn a_place_that_is_not_there_says_what_to_add() {
    let parts = SecretsParts {
        references: [
            (name("v"), PLACE.parse().unwrap()),
            (name("e"), "env://E".parse().unwrap()),
            (name("l"), "local://x".parse().unwrap()),
        ]
        .into(),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
    for (wanted, said) in [
        ("v", "[secrets.vault]"),
        ("e", "no variable was taken"),
        ("l", "[memory]"),
    ] {
        let error = secrets.get(&name(wanted)).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Refused { reason, .. } if reason.contains(said)),
            "{error:?}"
        );
        assert!(secrets.put(&name(wanted), &value("x")).await.is_err());
    }
    // Neither configured nor in a store.
    assert_eq!(secrets.reference(&name("n")), None);
    let error = secrets.get(&name("n")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no secret at `local://n`");
}

#[tokio::test]
async fn variables_are_read_and_never_written() {
    let taken = vec![("API_KEY".to_owned(), value("correct-horse"))];
    let environment = EnvironmentSecrets::new(taken).unwrap();
    let shown = format!("{environment:?}");
    assert_eq!(shown, r#"{"API_KEY"}"#);
    let parts = SecretsParts {
        references: [
            (name("key"), "env://API_KEY".parse().unwrap()),
            (name("other"), "env://OTHER".parse().unwrap()),
        ]
        .into(),
        environment: Some(Arc::new(environment)),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
    assert_eq!(secrets.get(&name("key")).await.unwrap(), value("correct-horse"));
    let missing = secrets.get(&name("other")).await.unwrap_err();
    assert!(matches!(missing, SecretError::NotFound { .. }), "{missing:?}");
    let nowhere = secrets.put(&name("nowhere"), &value("new")).await.unwrap_err();
    assert!(
        matches!(&nowhere, SecretError::Refused { reason, .. } if reason.contains("[memory]")),
        "{nowhere:?}"
    );
    let refused = secrets.put(&name("key"), &value("new")).await.unwrap_err();
    assert!(matches!(refused, SecretError::Refused { .. }), "{refused:?}");
    let shown = format!("{secrets:?} {refused:?}");
    assert!(!shown.contains("correct-horse") && !shown.contains("new\""), "{shown}");
}

/// The store that a host has, in a folder of the test.
fn sealed(folder: &tempfile::TempDir) -> crate::sealed::SealedStore {
    sealed_with(folder, crate::sealed::Steps::default())
}

fn sealed_with(folder: &tempfile::TempDir, steps: crate::sealed::Steps) -> crate::sealed::SealedStore {
    let key = crate::key::MasterKey::from_text("11".repeat(32).as_bytes()).unwrap();
    let clock = Arc::new(TestClock::default());
    let options = crate::sealed::StoreOptions {
        free_bytes_min: 0,
        steps,
        ..crate::sealed::StoreOptions::new(folder.path().join("store"), key, clock)
    };
    crate::sealed::SealedStore::open(options).unwrap()
}

#[tokio::test]
async fn names_without_a_place_of_their_own_lie_in_the_local_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = sealed(&folder);
    let local = LocalSecrets::new(store.secrets());
    let parts = SecretsParts {
        references: [
            (name("elsewhere"), PLACE.parse().unwrap()),
            (name("alias"), "local://github".parse().unwrap()),
        ]
        .into(),
        local: Some(local.clone()),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
    let missing = secrets.get(&name("github")).await.unwrap_err();
    assert!(matches!(missing, SecretError::NotFound { .. }), "{missing:?}");
    let put = secrets.put(&name("github"), &value("one")).await.unwrap();
    assert_eq!(put.to_string(), "local://github");
    for reached in ["github", "alias"] {
        assert_eq!(secrets.get(&name(reached)).await.unwrap(), value("one"), "{reached}");
    }
    let (namespace, record) = ("secrets".parse().unwrap(), "github".parse().unwrap());
    let kept = store.secrets().get(&namespace, &record).unwrap().unwrap();
    assert_eq!(
        (kept.version, kept.classification),
        (1, aral_contract::Classification::Secret)
    );
    // Both names have a copy by now, and neither is given an old one.
    for (written, text) in [("github", "two"), ("alias", "three")] {
        let rotated = secrets.rotate(&name(written), &value(text)).await.unwrap();
        assert_eq!(rotated.to_string(), "local://github");
        for reached in ["github", "alias"] {
            assert_eq!(secrets.get(&name(reached)).await.unwrap(), value(text), "{reached}");
        }
    }
    assert_eq!(store.secrets().get(&namespace, &record).unwrap().unwrap().version, 3);
    // Deleted, it is given to nobody, whatever was copied before; and there is nothing to delete twice.
    let short = name("short-lived");
    secrets.put(&short, &value("x")).await.unwrap();
    assert_eq!(secrets.get(&short).await.unwrap(), value("x"));
    assert!(secrets.locate(&short).await.unwrap().is_some());
    assert_eq!(secrets.delete(&short).await.unwrap().to_string(), "local://short-lived");
    assert_eq!(secrets.locate(&short).await.unwrap(), None);
    for gone in [
        secrets.get(&short).await.map(drop),
        secrets.delete(&short).await.map(drop),
    ] {
        assert!(matches!(gone, Err(SecretError::NotFound { .. })), "{gone:?}");
    }
    let elsewhere = secrets.delete(&name("elsewhere")).await.unwrap_err();
    assert!(matches!(elsewhere, SecretError::Refused { .. }), "{elsewhere:?}");
    // What agents remember is another space: nothing of a secret is there.
    assert_eq!(store.memory().get(&namespace, &record).unwrap(), None);
    // A record that the configuration hides is not listed as if it could be reached.
    local
        .write(&"local://elsewhere".parse().unwrap(), &value("x"))
        .await
        .unwrap();
    let page = secrets.list(None, 100).await.unwrap();
    let listed: Vec<String> = page
        .secrets
        .iter()
        .map(|place| format!("{} {}", place.name, place.reference))
        .collect();
    assert_eq!(
        listed,
        [
            "alias local://github",
            "elsewhere vault://kv/app#token",
            "github local://github"
        ]
    );
    assert_eq!(page.cursor, None);
}

/// The disk is slow, the caller goes away, and somebody else reads before it is written.
#[tokio::test]
async fn a_write_that_lands_after_its_caller_gave_up_is_seen() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::sealed::{Step, Steps};

    let folder = tempfile::tempdir().unwrap();
    let stopped = Arc::new(AtomicBool::new(false));
    let disk = stopped.clone();
    let steps = Steps::watched(move |step| {
        while step == Step::SlotsWritten && disk.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    });
    let parts = SecretsParts {
        local: Some(LocalSecrets::new(sealed_with(&folder, steps).secrets())),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
    let (secret, new) = (name("a"), value("new"));
    secrets.put(&secret, &value("old")).await.unwrap();
    stopped.store(true, Ordering::SeqCst);
    let given_up = tokio::time::timeout(Duration::from_millis(50), secrets.put(&secret, &new)).await;
    let before = secrets.get(&secret).await;
    // Before anything can fail here: the end of the test waits for the write.
    stopped.store(false, Ordering::SeqCst);
    assert!(given_up.is_err());
    assert_eq!(before.unwrap(), value("old"));
    let mut after = value("old");
    for _ in 0..2000 {
        after = secrets.get(&secret).await.unwrap();
        if after == new {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(after, new);
}

#[tokio::test]
async fn a_long_listing_comes_in_pages_that_miss_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let parts = SecretsParts {
        local: Some(LocalSecrets::new(sealed(&folder).secrets())),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, Arc::new(TestClock::default())).unwrap();
    for index in 0..7 {
        secrets.put(&name(&format!("s{index}")), &value("x")).await.unwrap();
    }
    let (mut names, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = secrets.list(cursor.as_deref(), 3).await.unwrap();
        assert!(page.secrets.len() <= 3);
        names.extend(page.secrets.into_iter().map(|place| place.name.to_string()));
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);
    assert!(pages >= 3, "{pages} pages");
    assert!(secrets.list(Some("made up"), 3).await.is_err());
}
