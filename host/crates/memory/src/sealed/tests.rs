//! What only the sealed store does: keys, slots, rotation. What every backend does is in the contract tests.

mod opening;
mod salvage;
mod together;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::*;
use crate::record::{Operation, Precondition, Quota, RecordName, Write};
use crate::{KeyService, KeyServiceError};

#[derive(Debug)]
struct TestClock(AtomicI64);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_800_000_000)))
    }

    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn key(byte: u8) -> MasterKey {
    MasterKey::from_text(hex(&[byte; 32]).as_bytes()).unwrap()
}

fn options(folder: &tempfile::TempDir, key_byte: u8) -> StoreOptions {
    StoreOptions {
        free_bytes_min: 0,
        ..StoreOptions::new(folder.path().join("store"), key(key_byte), TestClock::new())
    }
}

/// The same with epoch keys in a service.
fn epochs<S: KeyService + 'static>(
    folder: &tempfile::TempDir,
    service: &Arc<S>,
    prefix: &str,
    byte: u8,
) -> StoreOptions {
    StoreOptions {
        epoch: Some(Epoch {
            service: Arc::clone(service) as Arc<dyn KeyService>,
            prefix: prefix.to_owned(),
        }),
        ..options(folder, byte)
    }
}

fn with_clock(options: StoreOptions, clock: &Arc<TestClock>) -> StoreOptions {
    StoreOptions {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ..options
    }
}

fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

fn name(text: &str) -> RecordName {
    text.parse().unwrap()
}

fn write(text: &str, value: &[u8]) -> Write {
    Write {
        name: name(text),
        value: Zeroizing::new(value.to_vec()),
        ttl_seconds: None,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    }
}

fn value(store: &SealedStore, text: &str) -> Option<Vec<u8>> {
    let record = store.memory().get(&namespace("notes"), &name(text)).unwrap();
    record.map(|record| record.value.to_vec())
}

fn put(store: &SealedStore, text: &str, bytes: &[u8]) -> u64 {
    let memory = store.memory();
    memory
        .put(&namespace("notes"), write(text, bytes), &Quota::UNLIMITED)
        .unwrap()
}

/// A backup of all of it, and the key that reads it.
fn back_up(store: &SealedStore) -> (crate::BackupPrivateKey, Vec<u8>) {
    let key = crate::BackupPrivateKey::generate().unwrap();
    let mut backup = Vec::new();
    store.export(&key.public_key(), &mut backup, &mut |_| {}).unwrap();
    (key, backup)
}

/// A record that is gone after so many seconds.
fn put_short(store: &SealedStore, text: &str, seconds: u64) {
    let short = Write {
        ttl_seconds: Some(seconds),
        ..write(text, b"short")
    };
    store
        .memory()
        .put(&namespace("notes"), short, &Quota::UNLIMITED)
        .unwrap();
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    {
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        assert_eq!(put(&store, "a", b"one"), 1);
        assert_eq!(put(&store, "a", b"two"), 2);
        put(&store, "large", &large);
        put(&store, "gone", b"x");
        let gone = store
            .memory()
            .delete(&namespace("notes"), &name("gone"), Precondition::Any);
        assert_eq!(gone.unwrap(), Some(Classification::Internal));
        assert_eq!(value(&store, "large").as_ref(), Some(&large));
        assert_eq!(store.status().unwrap().slots_used, 2);
    }
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"two"[..]));
    assert_eq!(value(&store, "large"), Some(large));
    assert_eq!(value(&store, "gone"), None);
    assert_eq!(store.status().unwrap().slots_used, 2);
    let page = store.memory().list(&namespace("notes"), "", None, 10).unwrap();
    assert_eq!((page.names.len(), page.cursor), (2, None));
}

#[test]
fn spaces_never_meet() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"memory");
    let secrets = store.secrets();
    assert_eq!(secrets.get(&namespace("notes"), &name("a")).unwrap(), None);
    assert_eq!(secrets.list(&namespace("notes"), "", None, 10).unwrap().names, []);
    assert_eq!(secrets.namespaces(10).unwrap(), []);
    assert_eq!(store.memory().namespaces(10).unwrap().len(), 1);
    let tags = [&store.memory(), &secrets].map(|space| space.tag(&namespace("notes"), &name("a")));
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn a_wrong_key_names_the_one_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    let error = SealedStore::open(options(&folder, 2)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&key(1).id()) && text.contains(&key(2).id()), "{text}");
}

#[test]
fn a_second_opening_is_told_who_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let held = StoreOptions {
        holder: "aral serve".to_owned(),
        ..options(&folder, 1)
    };
    let _store = SealedStore::open(held).unwrap();
    let text = SealedStore::open(options(&folder, 1)).unwrap_err().to_string();
    let holder = format!("process {} (`aral serve`)", std::process::id());
    assert!(text.contains(&holder), "{text}");
}

/// Whoever reads the configuration again asks for them, and others wait for that: a disk of the store that hangs must not stop it.
#[test]
fn the_keys_that_open_a_store_are_told_while_somebody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let watched: Arc<Mutex<Option<SealedStore>>> = Arc::default();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let was_held = Arc::new(AtomicBool::new(false));
    let (asked, answer, held) = (Arc::clone(&watched), Arc::clone(&told), Arc::clone(&was_held));
    // In the middle of a write, on the thread that has the writer's lock.
    let steps = Steps::watched(move |_| {
        if let Some(store) = &*asked.lock().unwrap() {
            held.fetch_or(store.0.writer.try_lock().is_err(), Ordering::Relaxed);
            *answer.lock().unwrap() = store.keys().to_vec();
        }
    });
    let store = SealedStore::open(StoreOptions {
        steps,
        ..options(&folder, 1)
    })
    .unwrap();
    *watched.lock().unwrap() = Some(store.clone());
    put(&store, "a", b"one");
    assert_eq!(*told.lock().unwrap(), [key(1).id()]);
    // While keys are rotated either opens it, and then the new one alone.
    let mut both = Vec::new();
    store
        .rotate_key(&key(2), &mut |_| both.push(store.keys().len()))
        .unwrap();
    assert!(both.iter().all(|count| *count == 2) && !both.is_empty(), "{both:?}");
    assert_eq!(*store.keys(), [key(2).id()]);
    put(&store, "b", b"two");
    assert_eq!(*told.lock().unwrap(), [key(2).id()]);
    assert!(was_held.load(Ordering::Relaxed));
    *watched.lock().unwrap() = None;
}

#[test]
fn a_rotated_key_opens_and_the_old_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    for index in 0..600 {
        put(&store, &format!("{index}"), &[7; 100]);
    }
    put(&store, "5", b"version two");
    put_short(&store, "short", 50);
    let usage = store.memory().usage(&namespace("notes")).unwrap();
    let mut last = None;
    let rotated = store
        .rotate_key(&key(2), &mut |progress| last = Some(progress))
        .unwrap();
    assert_eq!((rotated.records, rotated.resumed), (601, false));
    assert_eq!(last, Some(Progress { done: 601, total: 601 }));
    assert_eq!(store.memory().usage(&namespace("notes")).unwrap(), usage);
    let five = store.memory().get(&namespace("notes"), &name("5")).unwrap().unwrap();
    assert_eq!((five.version, five.value.as_slice()), (2, &b"version two"[..]));
    assert!(
        store.rotate_key(&key(2), &mut |_| {}).is_err(),
        "that is the key already"
    );
    drop(store);
    assert!(matches!(
        SealedStore::open(with_clock(options(&folder, 1), &clock)),
        Err(StoreError::WrongKey { .. })
    ));
    let store = SealedStore::open(with_clock(options(&folder, 2), &clock)).unwrap();
    assert_eq!(value(&store, "short").as_deref(), Some(&b"short"[..]));
    clock.advance(50);
    assert_eq!(value(&store, "short"), None);
    assert_eq!(store.sweep(10).unwrap().records, 1);
    assert_eq!(store.status().unwrap().slots_used, 600);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store
            .memory()
            .list(&namespace("notes"), "1", cursor.as_deref(), 7)
            .unwrap();
        seen.extend(page.names);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1 + 10 + 100);
}

#[test]
fn nobody_waits_while_it_is_looked_whether_a_rotation_missed_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..1000);
    let mut written = 0;
    let rotated = store.rotate_key(&key(2), &mut |progress| {
        assert!(store.0.writer.try_lock().is_ok(), "whoever writes would wait");
        if progress.done == progress.total {
            written += 1;
            put(&store, &format!("meanwhile {written}"), b"x");
        }
    });
    assert_eq!(rotated.unwrap().records, 1000);
    // Once when the last one was moved; then it was looked.
    assert!(written > 2, "{written}");
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!(usage.records, 1000 + written);
    assert_eq!(u64::from(store.status().unwrap().slots_used), usage.records);
    drop(store);
    let store = SealedStore::open(options(&folder, 2)).unwrap();
    assert_eq!(value(&store, "meanwhile 2").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_rotation_ends_also_while_the_slots_are_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService::default());
    let store = SealedStore::open(epochs(&folder, &service, "aral-epoch", 1)).unwrap();
    put(&store, "a", b"kept");
    let mut whole = 0;
    // Once when the only record was moved; then it was looked.
    let ended = store.rotate_epoch(&mut |progress| {
        whole += u64::from(progress.done == progress.total);
        if whole < 2 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert!(ended.is_err() && store.status().unwrap().is_rotating);
    assert!(store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap().resumed);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
}

/// Stops a rotation by a panic half-way, as a kill would.
#[test]
fn a_rotation_that_was_cut_off_opens_with_either_key_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..700 {
        put(&store, &format!("{index}"), &[1; 10]);
    }
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&key(2), &mut |progress| assert!(progress.done == 0, "cut off here"))
    }));
    assert!(cut.is_err());
    assert!(
        store.rotate_key(&key(3), &mut |_| {}).is_err(),
        "another rotation is under way"
    );
    drop(store);
    for byte in [1, 2] {
        let store = SealedStore::open(options(&folder, byte)).unwrap();
        assert!(store.status().unwrap().is_rotating);
        for index in 0..700 {
            assert!(value(&store, &format!("{index}")).is_some(), "{index} with key {byte}");
        }
        put(&store, &format!("by {byte}"), b"x");
    }
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let rotated = store.rotate_key(&key(2), &mut |_| {}).unwrap();
    assert!(rotated.resumed && rotated.records < 700, "{rotated:?}");
    drop(store);
    assert!(SealedStore::open(options(&folder, 1)).is_err());
    let store = SealedStore::open(options(&folder, 2)).unwrap();
    assert_eq!(store.memory().usage(&namespace("notes")).unwrap().records, 702);
    assert_eq!(store.status().unwrap().slots_used, 702);
}

/// Keys in memory, each with a one-time pad that repeats, and stands behind what was wrapped: enough to see which key is asked
/// for.
#[derive(Debug, Default)]
struct TestService(Mutex<std::collections::BTreeMap<String, u8>>, &'static str);

impl TestService {
    fn pad(&self, key: &str, bytes: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        let keys = self.0.lock().unwrap();
        let pad = keys.get(key).copied().ok_or_else(|| KeyServiceError::NotFound {
            place: self.place(),
            key: key.to_owned(),
        })?;
        Ok(bytes.iter().map(|byte| byte ^ pad).collect())
    }
}

impl KeyService for TestService {
    fn place(&self) -> String {
        "the test".to_owned()
    }

    fn mount(&self) -> &str {
        self.1
    }

    fn create(&self, key: &str) -> Result<(), KeyServiceError> {
        let mut keys = self.0.lock().unwrap();
        let pad = u8::try_from(keys.len() + 77).unwrap();
        keys.entry(key.to_owned()).or_insert(pad);
        Ok(())
    }

    fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        let mut wrapped = self.pad(key, plain)?;
        wrapped.extend(self.pad(key, &[0])?);
        Ok(wrapped)
    }

    fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError> {
        if self.1 == FORBIDDEN {
            return Err(KeyServiceError::Refused {
                place: self.place(),
                key: key.to_owned(),
                reason: "permission denied".to_owned(),
            });
        }
        let mut plain = Zeroizing::new(self.pad(key, wrapped)?);
        if plain.pop() == Some(0) {
            return Ok(plain);
        }
        Err(KeyServiceError::Refused {
            place: self.place(),
            key: key.to_owned(),
            reason: "another key made this".to_owned(),
        })
    }

    fn is_there(&self, key: &str) -> Result<bool, KeyServiceError> {
        Ok(self.0.lock().unwrap().contains_key(key))
    }

    fn destroy(&self, key: &str) -> Result<(), KeyServiceError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

#[test]
fn a_new_epoch_destroys_the_key_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService::default());
    let with_epoch = || epochs(&folder, &service, "aral-epoch", 1);
    let store = SealedStore::open(with_epoch()).unwrap();
    put(&store, "a", b"kept");
    let before = store.status().unwrap().epochs;
    let keyring = folder.path().join("store/keyring");
    #[expect(clippy::disallowed_methods, reason = "a test looks at the files")]
    let copy = std::fs::read(&keyring).unwrap();
    // Ended by whoever watches it, and begun again.
    let ended = store.rotate_epoch(&mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(
        ended.to_string().contains("goes on when it is started again"),
        "{ended}"
    );
    assert!(store.status().unwrap().is_rotating);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    let rotated = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    assert!(rotated.resumed && rotated.records == 1, "{rotated:?}");
    let after = store.status().unwrap().epochs;
    assert!(
        before.len() == 1 && after.len() == 1 && before != after,
        "{before:?} {after:?}"
    );
    let held: Vec<String> = service.0.lock().unwrap().keys().cloned().collect();
    assert_eq!(held, after, "the old key is gone from the service");
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    drop(store);
    assert_eq!(
        value(&SealedStore::open(with_epoch()).unwrap(), "a").as_deref(),
        Some(&b"kept"[..])
    );
    let without = SealedStore::open(options(&folder, 1)).unwrap_err();
    assert!(without.to_string().contains("[memory.epoch]"), "{without}");
    // What an overwrite in place may have left behind opens with no master key any more.
    #[expect(clippy::disallowed_methods, reason = "a test looks at the files")]
    std::fs::write(&keyring, copy).unwrap();
    assert!(matches!(
        SealedStore::open(with_epoch()),
        Err(StoreError::KeyService(KeyServiceError::NotFound { .. }))
    ));
}

#[test]
fn a_rotation_goes_on_to_a_key_whose_engine_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = mounted("one", ["aral", "other"]);
    // The same keys, moved; and one that only has the name.
    let [moved, moved_other] = mounted("two", ["aral", "other"]);
    let [of_its_name] = mounted("three", ["other"]);
    let open = |key: &MasterKey| {
        SealedStore::open(StoreOptions {
            key: key.clone(),
            ..options(&folder, 1)
        })
    };
    let store = open(&one).unwrap();
    put(&store, "a", b"kept");
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&other, &mut |_| panic!("cut off here"))
    }));
    assert!(cut.is_err());
    drop(store);
    let store = open(&moved).unwrap();
    let wrong = store.rotate_key(&of_its_name, &mut |_| {}).unwrap_err();
    assert!(
        matches!(wrong, StoreError::WrongKey { service: Some(_), .. }),
        "{wrong:?}"
    );
    assert!(store.rotate_key(&moved_other, &mut |_| {}).unwrap().resumed);
    assert_eq!(store.status().unwrap().keys, ["service:two/other"]);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    drop(store);
    assert_eq!(value(&open(&moved_other).unwrap(), "a").as_deref(), Some(&b"kept"[..]));
    assert!(matches!(open(&moved), Err(StoreError::WrongKey { .. })));
}

/// The engine whose keys open nothing: nobody has the right.
const FORBIDDEN: &str = "forbidden";

/// Keys of these names in an engine of its own.
fn mounted<const COUNT: usize>(mount: &'static str, names: [&str; COUNT]) -> [MasterKey; COUNT] {
    let service = Arc::new(TestService(Mutex::default(), mount));
    names.map(|name| {
        service.create(name).unwrap();
        MasterKey::service(Arc::clone(&service) as Arc<dyn KeyService>, name)
    })
}

#[test]
fn keys_of_one_name_in_two_engines_are_two_keys() {
    let folder = tempfile::tempdir().unwrap();
    let [one] = mounted("one", ["aral"]);
    let [_, two] = mounted("two", ["other", "aral"]);
    let open = |key: &MasterKey| {
        SealedStore::open(StoreOptions {
            key: key.clone(),
            ..options(&folder, 1)
        })
    };
    put(&open(&one).unwrap(), "a", b"kept");
    let wrong = open(&two).unwrap_err();
    let text = wrong.to_string();
    assert!(matches!(wrong, StoreError::WrongKey { .. }), "{wrong:?}");
    assert!(
        text.contains("`service:one/aral`") && text.contains("service:two/aral"),
        "{text}"
    );
    open(&one).unwrap().rotate_key(&two, &mut |_| {}).unwrap();
    assert!(matches!(open(&one), Err(StoreError::WrongKey { .. })));
    assert_eq!(value(&open(&two).unwrap(), "a").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn a_key_whose_engine_has_moved_opens_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = mounted("one", ["aral", "other"]);
    // The same keys: an engine that moves takes them along.
    let [moved, moved_other] = mounted("two", ["aral", "other"]);
    let [another, of_its_name] = mounted("three", ["other", "aral"]);
    let open = |key: &MasterKey| {
        SealedStore::open(StoreOptions {
            key: key.clone(),
            ..options(&folder, 1)
        })
    };
    put(&open(&one).unwrap(), "a", b"kept");
    assert!(matches!(open(&moved_other), Err(StoreError::WrongKey { .. })));
    let wrong = open(&of_its_name).unwrap_err().to_string();
    assert!(
        wrong.contains("`service:one/aral`") && wrong.contains("service:three/aral"),
        "{wrong}"
    );
    let store = open(&moved).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.status().unwrap().keys, ["service:two/aral"]);
    // In the middle of a rotation too.
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&moved_other, &mut |_| panic!("cut off here"))
    }));
    assert!(cut.is_err());
    drop(store);
    assert!(matches!(open(&another), Err(StoreError::WrongKey { .. })));
    let store = open(&other).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    assert!(store.rotate_key(&other, &mut |_| {}).unwrap().resumed);
    assert_eq!(store.status().unwrap().keys, ["service:one/other"]);
    // One of two engines that have a key of the name is not guessed.
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&moved_other, &mut |_| panic!("cut off here"))
    }));
    assert!(cut.is_err());
    drop(store);
    assert!(matches!(open(&another), Err(StoreError::WrongKey { .. })));
    assert!(open(&moved_other).is_ok());
}

#[test]
fn who_may_not_use_a_key_where_its_engine_is_now_is_told_that() {
    let folder = tempfile::tempdir().unwrap();
    let [one] = mounted("one", ["aral"]);
    let [moved, elsewhere] = mounted(FORBIDDEN, ["aral", "elsewhere"]);
    let open = |key: &MasterKey| {
        SealedStore::open(StoreOptions {
            key: key.clone(),
            ..options(&folder, 1)
        })
    };
    put(&open(&one).unwrap(), "a", b"kept");
    let text = aral_contract::failure::chain(&open(&moved).unwrap_err());
    for part in [
        "`service:one/aral`",
        "service:forbidden/aral",
        "refuses the key `aral`: permission denied",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Of a key of another name nobody is asked.
    assert!(matches!(
        open(&elsewhere),
        Err(StoreError::WrongKey { service: None, .. })
    ));
}

#[test]
fn ids_without_a_mount_are_read_and_get_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = mounted("one", ["old", "new"]);
    let [_, _, elsewhere] = mounted("two", ["a", "b", "old"]);
    let open = |key: &MasterKey| {
        let options = StoreOptions {
            key: key.clone(),
            ..options(&folder, 1)
        };
        SealedStore::open(options).unwrap()
    };
    // As an older version wrote it.
    let without_mount = |store: SealedStore| {
        let mut writer = store.0.writer().unwrap();
        let mut content = writer.keyring.content.clone();
        for seal in content.roots.iter_mut().flat_map(|root| &mut root.seals) {
            seal.key = seal.key.replace("one/", "");
        }
        writer.keyring.replace(content).unwrap();
    };
    let store = open(&old);
    put(&store, "a", b"kept");
    without_mount(store);
    let store = open(&old);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.status().unwrap().keys, ["service:one/old"]);
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&new, &mut |_| panic!("cut off here"))
    }));
    assert!(cut.is_err());
    without_mount(store);
    let store = open(&old);
    let rotated = store.rotate_key(&new, &mut |_| {}).unwrap();
    assert!(rotated.resumed, "{rotated:?}");
    assert_eq!(store.status().unwrap().keys, ["service:one/new"]);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    // And from there to where a key of the old name is.
    store.rotate_key(&elsewhere, &mut |_| {}).unwrap();
    drop(store);
    assert_eq!(value(&open(&elsewhere), "a").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn seals_are_counted_and_a_new_generation_begins_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "old", b"before");
    {
        let mut writer = store.0.writer().unwrap();
        let content = keyring::Content {
            seals: 1 << 31,
            ..writer.keyring.content.clone()
        };
        writer.keyring.replace(content).unwrap();
        writer.seals_left = 0;
    }
    put(&store, "new", b"after");
    assert_eq!(store.0.keys.load().generation, 2);
    drop(store);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert_eq!(value(&store, "old").as_deref(), Some(&b"before"[..]));
    assert_eq!(value(&store, "new").as_deref(), Some(&b"after"[..]));
}

#[test]
fn of_past_epochs_only_keys_of_this_store_and_prefix_are_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService::default());
    let with_epoch = |prefix: &str| epochs(&folder, &service, prefix, 1);
    drop(SealedStore::open(with_epoch("old")).unwrap());
    let store = SealedStore::open(with_epoch("new")).unwrap();
    let before = format!("old-{}-1", hex(&store.0.store));
    let others = [
        before.clone(),
        format!("old-{}-1", hex(&[7; 16])),
        format!("old-{}-7", hex(&store.0.store)),
        format!("{}-1", hex(&store.0.store)),
        "payroll".to_owned(),
    ];
    for other in others.iter().filter(|other| **other != before) {
        service.create(other).unwrap();
    }
    {
        let mut writer = store.0.writer().unwrap();
        let mut content = writer.keyring.content.clone();
        let made_up = others.iter().filter(|other| **other != before);
        content.epochs_to_destroy.extend(made_up.cloned());
        writer.keyring.replace(content).unwrap();
    }
    store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    let mut held: Vec<String> = service.0.lock().unwrap().keys().cloned().collect();
    held.retain(|key| !others.contains(key));
    assert_eq!(held, [format!("new-{}-2", hex(&store.0.store))]);
    assert_eq!(service.0.lock().unwrap().len(), 1 + others.len());
    let past = store
        .0
        .writer()
        .unwrap()
        .keyring
        .past_epochs(store.0.epoch.as_ref().unwrap());
    assert_eq!(past.foreign, std::slice::from_ref(&before), "it is told of");
    let rotated = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(rotated.epochs_left, std::slice::from_ref(&before));
    assert!(
        !service
            .0
            .lock()
            .unwrap()
            .contains_key(&format!("new-{}-2", hex(&store.0.store)))
    );
    // The operator does as told, and is told no more.
    service.0.lock().unwrap().remove(&before);
    let rotated = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(rotated.epochs_left, Vec::<String>::new());
    let named = store.0.writer().unwrap().keyring.content.epochs_to_destroy.clone();
    assert!(!named.contains(&before), "{named:?}");
}

/// Another service, which does not destroy what it should.
#[derive(Debug, Default)]
struct StubbornService {
    service: TestService,
    /// How the names of those end that it refuses to destroy.
    kept: Mutex<Option<&'static str>>,
    /// Whether it does not answer.
    is_away: AtomicBool,
    /// How often it was to destroy one.
    asked: AtomicUsize,
}

impl KeyService for StubbornService {
    fn place(&self) -> String {
        self.service.place()
    }

    fn mount(&self) -> &str {
        self.service.mount()
    }

    fn create(&self, key: &str) -> Result<(), KeyServiceError> {
        self.service.create(key)
    }

    fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        self.service.wrap(key, plain)
    }

    fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError> {
        self.service.unwrap(key, wrapped)
    }

    fn is_there(&self, key: &str) -> Result<bool, KeyServiceError> {
        self.service.is_there(key)
    }

    fn destroy(&self, key: &str) -> Result<(), KeyServiceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (place, key) = (self.place(), key.to_owned());
        if self.is_away.load(Ordering::Relaxed) {
            let reason = "it is away".to_owned();
            return Err(KeyServiceError::Unavailable {
                place,
                reason,
                source: None,
            });
        }
        if self.kept.lock().unwrap().is_some_and(|end| key.ends_with(end)) {
            let reason = "its policy".to_owned();
            return Err(KeyServiceError::Refused { place, key, reason });
        }
        self.service.destroy(&key)
    }
}

#[test]
fn a_key_that_cannot_be_destroyed_keeps_no_other_and_one_question_in_vain_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(StubbornService::default());
    let store = SealedStore::open(epochs(&folder, &service, "aral-epoch", 1)).unwrap();
    let left = || {
        let past = store.0.epoch.as_ref().unwrap();
        let past = store.0.writer().unwrap().keyring.past_epochs(past);
        past.own
            .into_iter()
            .map(|name| name[name.len() - 2..].to_owned())
            .collect::<Vec<_>>()
    };
    service.is_away.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    }
    assert_eq!(left(), ["-1", "-2", "-3"]);
    service.asked.store(0, Ordering::Relaxed);
    assert_eq!(store.0.destroy_epochs().len(), 3);
    assert_eq!(service.asked.load(Ordering::Relaxed), 1);
    service.is_away.store(false, Ordering::Relaxed);
    *service.kept.lock().unwrap() = Some("-1");
    store.0.destroy_epochs();
    assert_eq!(left(), ["-1"]);
    // Whoever rotates is told.
    let rotated = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(rotated.epochs_left, [format!("aral-epoch-{}-1", hex(&store.0.store))]);
}

#[test]
fn keys_that_filled_the_keyring_are_tried_again_before_the_next_rotation() {
    for by_key in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let service = Arc::new(StubbornService::default());
        // Long names, so that few of them fill it.
        let store = SealedStore::open(epochs(&folder, &service, &"e".repeat(1500), 1)).unwrap();
        *service.kept.lock().unwrap() = Some("");
        let rotate = || store.rotate_epoch(&mut |_| ControlFlow::Continue(()));
        let full = (0..30).find_map(|_| rotate().err()).expect("it is full").to_string();
        assert!(
            full.contains("old epoch keys could not be destroyed, such as `eee"),
            "{full}"
        );
        rotate().unwrap_err();
        *service.kept.lock().unwrap() = None;
        let rotated = if by_key {
            store.rotate_key(&key(2), &mut |_| {})
        } else {
            rotate()
        };
        assert_eq!(rotated.unwrap().epochs_left, Vec::<String>::new());
        assert_eq!(service.service.0.lock().unwrap().len(), 1);
    }
}

/// Another service, during whose answers the store is written.
#[derive(Debug, Default)]
struct SlowService {
    service: TestService,
    store: Mutex<Option<SealedStore>>,
}

impl SlowService {
    fn write_meanwhile(&self) {
        if let Some(store) = self.store.lock().unwrap().as_ref() {
            let mut writer = store.0.writer.try_lock().expect("nobody waits for a key service");
            let content = keyring::Content {
                seals: 1 << 31,
                ..writer.keyring.content.clone()
            };
            writer.keyring.replace(content).unwrap();
            writer.seals_left = 0;
            drop(writer);
            put(store, "meanwhile", b"under the old root");
        }
    }
}

impl KeyService for SlowService {
    fn place(&self) -> String {
        self.service.place()
    }

    fn mount(&self) -> &str {
        self.service.mount()
    }

    fn create(&self, key: &str) -> Result<(), KeyServiceError> {
        self.write_meanwhile();
        self.service.create(key)
    }

    fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        self.write_meanwhile();
        self.service.wrap(key, plain)
    }

    fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError> {
        self.service.unwrap(key, wrapped)
    }

    fn is_there(&self, key: &str) -> Result<bool, KeyServiceError> {
        self.write_meanwhile();
        self.service.is_there(key)
    }

    fn destroy(&self, key: &str) -> Result<(), KeyServiceError> {
        self.write_meanwhile();
        self.service.destroy(key)
    }
}

#[test]
fn the_store_is_written_while_a_key_service_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(SlowService::default());
    let with_epoch = |byte| epochs(&folder, &service, "aral-epoch", byte);
    let store = SealedStore::open(with_epoch(1)).unwrap();
    put(&store, "a", b"kept");
    *service.store.lock().unwrap() = Some(store.clone());
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    *service.store.lock().unwrap() = None;
    drop(store);
    let store = SealedStore::open(with_epoch(2)).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    assert_eq!(value(&store, "meanwhile").as_deref(), Some(&b"under the old root"[..]));
}

#[test]
fn opening_for_one_write_counts_one_seal() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        put(&SealedStore::open(options(&folder, 1)).unwrap(), "a", b"x");
    }
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert_eq!(store.0.writer().unwrap().keyring.content.seals, 5);
}

#[test]
fn after_the_last_generation_the_store_opens_and_wants_its_keys_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "old", b"before");
    put(&store, "doomed", b"before");
    let use_up = |store: &SealedStore, generation| {
        let mut writer = store.0.writer().unwrap();
        let content = keyring::Content {
            generation,
            seals: 1 << 31,
            ..writer.keyring.content.clone()
        };
        writer.keyring.replace(content).unwrap();
        writer.seals_left = 0;
    };
    use_up(&store, 4095);
    put(&store, "last", b"generation 4096");
    use_up(&store, 4096);
    let refused = store
        .memory()
        .put(&namespace("notes"), write("new", b"x"), &Quota::UNLIMITED);
    assert!(format!("{refused:?}").contains("aral memory rotate-key"), "{refused:?}");
    // What deletes is done all the same, also together with what is refused.
    let doomed = Operation::Delete {
        name: name("doomed"),
        precondition: Precondition::Any,
    };
    let together = [Operation::Put(write("new", b"x")), doomed].map(|operation| work::Work::Apply {
        space: Space::Memory,
        namespace: namespace("notes"),
        operations: vec![operation],
        quota: Quota::UNLIMITED,
    });
    let refused = store.0.submit_all(together.into()).unwrap_err();
    assert!(format!("{refused:?}").contains("aral memory rotate-key"), "{refused:?}");
    assert_eq!((value(&store, "new"), value(&store, "doomed")), (None, None));
    drop(store);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&key(2), &mut |_| panic!("cut off here"))
    }));
    assert!(ended.is_err());
    use_up(&store, 4097);
    drop(store);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    put(&store, "new", b"after");
    drop(store);
    let store = SealedStore::open(options(&folder, 2)).unwrap();
    assert_eq!(value(&store, "old").as_deref(), Some(&b"before"[..]));
    assert_eq!(value(&store, "last").as_deref(), Some(&b"generation 4096"[..]));
    assert_eq!(value(&store, "new").as_deref(), Some(&b"after"[..]));
}

#[test]
fn a_full_disk_is_told_before_it_is_full_and_deleting_still_works() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    drop(store);
    let full = StoreOptions {
        free_bytes_min: u64::MAX,
        ..options(&folder, 1)
    };
    let store = SealedStore::open(full).unwrap();
    let refused = store
        .memory()
        .put(&namespace("notes"), write("b", b"two"), &Quota::UNLIMITED);
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    let deleted = store
        .memory()
        .delete(&namespace("notes"), &name("a"), Precondition::Any);
    assert!(deleted.unwrap().is_some());
}

#[test]
fn the_slot_file_does_not_grow_into_what_the_disk_keeps_free() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let inner = &store.0;
    let length = || inner.dir.metadata(slots::NAME).unwrap().len();
    let before = length();
    for (free_bytes_min, growth) in [(u64::MAX, 0), (0, 1024)] {
        let opened = slots::SlotFile::open(&inner.dir, &inner.store, free_bytes_min, Steps::default());
        let (slots, allocation, _) = opened.unwrap();
        let total = allocation.total();
        match slots.grow(total) {
            Err(StoreError::Full { needed_bytes, .. }) => assert_eq!((growth, needed_bytes), (0, u64::MAX)),
            other => assert_eq!(other.unwrap(), total + growth),
        }
        assert_eq!(length(), before + u64::from(growth) * slots::SLOT_BYTES as u64);
    }
}

#[test]
fn readers_beside_a_writer_see_old_or_new_and_never_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "hot", &[0; 64]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..20_000 {
                let value = value(&store, "hot").unwrap();
                assert!(value.iter().all(|byte| *byte == value[0]));
            }
        });
        let mut round = 0_u8;
        while !reader.is_finished() {
            round = round.wrapping_add(1);
            put(&store, "hot", &[round; 64]);
        }
    });
}

#[test]
fn a_listing_names_a_record_that_got_its_old_slot_back_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let at = place(&store, "a");
    let before = store.0.entry(&at).unwrap().unwrap();
    let is_back = (0..4096).any(|_| {
        put(&store, "a", b"another");
        store.0.entry(&at).unwrap().unwrap().header.slot == before.header.slot
    });
    assert!(is_back, "the slot is used again");
    let found = read::Found::new(&store.0.slots, at, before.entry.clone()).unwrap();
    let keys = store.0.keys.load_full();
    let notes = namespace("notes");
    let owner = store.0.owner(Space::Memory, &notes);
    let opened = store.0.open_name(&keys, owner, &found);
    assert!(opened.is_err(), "the old entry under the new key");
    let listed = store.0.name_of(&keys, owner, &found);
    assert_eq!(listed.unwrap(), Some(name("a")));
}

/// A clock that does something the next time it is asked.
struct ActingClock(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for ActingClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActingClock")
    }
}

impl Clock for ActingClock {
    fn now(&self) -> Timestamp {
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn a_namespace_that_somebody_else_makes_room_in_is_not_full() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ActingClock(Mutex::new(None)));
    let store = SealedStore::open(StoreOptions {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..options(&folder, 1)
    })
    .unwrap();
    put(&store, "old", b"x");
    // It waits for the writer while that refuses the record below, and goes before the sweep.
    let other = store.clone();
    let act = move || {
        let deleting = other.clone();
        let deleted = std::thread::spawn(move || {
            let memory = deleting.memory();
            memory
                .delete(&namespace("notes"), &name("old"), Precondition::Any)
                .unwrap();
        });
        while other.0.waiting() == 0 && !deleted.is_finished() {
            std::thread::yield_now();
        }
    };
    *clock.0.lock().unwrap() = Some(Box::new(act));
    let one = Quota {
        records_max: 1,
        ..Quota::UNLIMITED
    };
    let written = store.memory().put(&namespace("notes"), write("new", b"y"), &one);
    assert_eq!(written.unwrap(), 1);
}

#[test]
fn a_full_namespace_is_full_also_where_nothing_can_be_swept() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    put(&store, "old", b"x");
    let short = Write {
        ttl_seconds: Some(1),
        ..write("short", b"x")
    };
    let memory = store.memory();
    memory.put(&namespace("other"), short, &Quota::UNLIMITED).unwrap();
    let other = {
        let keys = store.0.keys.load();
        keys.newest().namespace_place(Space::Memory, &namespace("other"))
    };
    lay(&store, tree::key(tree::prefix::USAGE, &[&other]), Some(vec![7]));
    clock.advance(10);
    assert!(store.sweep(10).is_err());
    let one = Quota {
        records_max: 1,
        ..Quota::UNLIMITED
    };
    let refused = memory.put(&namespace("notes"), write("new", b"y"), &one);
    assert!(matches!(refused, Err(StoreError::Quota { .. })), "{refused:?}");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let used = store.status().unwrap().slots_used;
    let failing = vec![
        Operation::Put(write("a", b"two")),
        Operation::Put(write("b", b"new")),
        Operation::Delete {
            name: name("missing"),
            precondition: Precondition::Version(3),
        },
    ];
    let refused = store.memory().apply(&namespace("notes"), failing, &Quota::UNLIMITED);
    assert!(matches!(
        refused,
        Err(StoreError::Precondition {
            index: 2,
            version: None
        })
    ));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    assert_eq!(value(&store, "b"), None);
    assert_eq!(store.status().unwrap().slots_used, used);
}

#[test]
fn an_epoch_that_was_cut_off_ends_before_another_rotation_begins() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService::default());
    let with_epoch = |byte| epochs(&folder, &service, "aral-epoch", byte);
    let store = SealedStore::open(with_epoch(1)).unwrap();
    for index in 0..300 {
        put(&store, &format!("{index}"), &[1; 10]);
    }
    type Act<'a> = &'a dyn Fn(&SealedStore, &mut dyn FnMut(Progress));
    let cut = |store: &SealedStore, act: Act<'_>| {
        let stop = |progress: Progress| assert!(progress.done == 0, "cut off here");
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(store, &mut { stop })));
        assert!(cut.is_err());
    };
    cut(&store, &|store, progress| {
        let mut to_the_end = |step| {
            progress(step);
            ControlFlow::Continue(())
        };
        store.rotate_epoch(&mut to_the_end).unwrap();
    });
    let rotated = store.rotate_key(&key(2), &mut |_| {}).unwrap();
    assert_eq!((rotated.records, rotated.resumed), (300, false));
    cut(&store, &|store, progress| {
        store.rotate_key(&key(3), progress).unwrap();
    });
    let refused = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(refused.to_string().contains("rotate-key"), "{refused}");
    // Back to the key before: it stays the only one.
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    drop(store);
    assert!(SealedStore::open(with_epoch(3)).is_err());
    let store = SealedStore::open(with_epoch(2)).unwrap();
    assert_eq!(store.memory().usage(&namespace("notes")).unwrap().records, 300);
    assert_eq!(service.0.lock().unwrap().len(), 1, "every old epoch key is gone");
}

/// What a killed process leaves: the folder as it is while the store is open.
#[expect(clippy::disallowed_methods, reason = "a test copies files")]
fn copy_of(folder: &tempfile::TempDir) -> tempfile::TempDir {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let copied = tempfile::tempdir().unwrap();
    copy(&folder.path().join("store"), &copied.path().join("store"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(copied.path().join("store"), mode).unwrap();
    copied
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn a_database_that_lost_records_is_told_and_their_keys_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..100 {
        put(&store, &format!("{index}"), &[7; 2000]);
    }
    let whole = copy_of(&folder);
    assert_eq!(
        SealedStore::open(options(&whole, 1))
            .unwrap()
            .status()
            .unwrap()
            .slots_used,
        100
    );
    let slots = std::fs::read(folder.path().join("store/slots")).unwrap();
    let database = std::fs::read(folder.path().join("store/records/db")).unwrap();
    let damages: [&dyn Fn(&std::path::Path); 3] = [
        &|records| std::fs::remove_dir_all(records).unwrap(),
        &|records| std::fs::write(records.join("db"), b"").unwrap(),
        &|records| std::fs::write(records.join("db"), &database[..database.len() / 2]).unwrap(),
    ];
    for damage in damages {
        let damaged = copy_of(&folder);
        damage(&damaged.path().join("store/records"));
        let error = SealedStore::open(options(&damaged, 1)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(std::fs::read(damaged.path().join("store/slots")).unwrap() == slots);
    }
}

#[test]
fn a_header_that_names_another_slot_destroys_no_other_records_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    put(&store, "b", b"two");
    let other = store.0.entry(&place(&store, "b")).unwrap().unwrap().header.slot;
    damage(&store, "a", |entry| entry[4..8].copy_from_slice(&other.to_le_bytes()));
    let read = store.memory().get(&namespace("notes"), &name("a"));
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    store
        .memory()
        .delete(&namespace("notes"), &name("a"), Precondition::Any)
        .unwrap();
    assert_eq!(value(&store, "b").as_deref(), Some(&b"two"[..]));
    // Its own is destroyed: a copy of its entry that somebody has is worth nothing, and no record seems lost.
    assert_eq!(slots_in_use(&store), [other]);
    let killed = copy_of(&folder);
    let again = SealedStore::open(options(&killed, 1)).unwrap();
    assert_eq!(value(&again, "b").as_deref(), Some(&b"two"[..]));
    assert_eq!(again.reclaimed(), 0);
}

/// Which slots hold anything.
fn slots_in_use(store: &SealedStore) -> Vec<slots::SlotIndex> {
    let mut used = Vec::new();
    let total = store.0.slots.total().unwrap();
    let mut show = |index: slots::SlotIndex, slot: &slots::Slot| {
        if !slot.is_free() {
            used.push(index);
        }
    };
    store.0.slots.walk(0, total, &mut show).unwrap();
    used
}

/// Changes one bit of whose a slot says it is.
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn rot(folder: &tempfile::TempDir, slot: slots::SlotIndex) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("store/slots"))
        .unwrap();
    let at = 4096 + u64::from(slot) * slots::SLOT_BYTES as u64 + 70;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
    byte[0] ^= 1;
    std::os::unix::fs::FileExt::write_all_at(&file, &byte, at).unwrap();
}

#[test]
fn what_takes_the_place_of_a_damaged_record_leaves_no_key_of_it() {
    type Way<'a> = &'a dyn Fn(&SealedStore, &TestClock);
    let ways: [Way<'_>; 3] = [
        &|store, _| assert_eq!(put(store, "a", b"new"), 1),
        &|store, _| {
            let memory = store.memory();
            memory.delete(&namespace(NOTES), &name("a"), Precondition::Any).unwrap();
        },
        &|store, clock| {
            clock.advance(100);
            assert_eq!(store.sweep(10).unwrap().records, 1);
        },
    ];
    for (way, act) in ways.into_iter().enumerate() {
        for is_rotten in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let clock = TestClock::new();
            let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
            put_short(&store, "a", 50);
            put(&store, "b", b"kept");
            let slot = |text: &str| store.0.entry(&place(&store, text)).unwrap().unwrap().header.slot;
            let other = slot("b");
            if is_rotten {
                rot(&folder, slot("a"));
            } else {
                damage(&store, "a", |entry| entry[4..8].copy_from_slice(&other.to_le_bytes()));
            }
            act(&store, &clock);
            assert_eq!(
                slots_in_use(&store).len(),
                1 + usize::from(way == 0),
                "{way}, {is_rotten}"
            );
            let killed = copy_of(&folder);
            let again = SealedStore::open(with_clock(options(&killed, 1), &clock)).unwrap();
            assert_eq!(value(&again, "b").as_deref(), Some(&b"kept"[..]));
            let left = (way == 0).then_some(&b"new"[..]);
            assert_eq!(value(&again, "a").as_deref(), left, "{way}, {is_rotten}");
        }
    }
}

#[test]
fn a_key_whose_record_somebody_took_out_is_told_whatever_names_it() {
    for by_header in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, "taken", b"one");
        put(&store, "a", b"two");
        let taken = place(&store, "taken");
        let slot = store.0.entry(&taken).unwrap().unwrap().header.slot;
        lay(&store, tree::key(tree::prefix::RECORD, &[&taken]), None);
        if by_header {
            damage(&store, "a", |entry| entry[4..8].copy_from_slice(&slot.to_le_bytes()));
        }
        // No agent gets it destroyed by a write.
        put(&store, "a", b"three");
        assert!(slots_in_use(&store).contains(&slot));
        let killed = copy_of(&folder);
        let error = SealedStore::open(options(&killed, 1)).unwrap_err();
        assert!(error.to_string().contains("lost records"), "{error}");
    }
}

#[test]
fn more_keys_of_damaged_records_than_one_commit_destroys_are_none_of_others_concern() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..300);
    put(&store, "other", b"kept");
    // Somebody wrote slots that say they are of these, as many as count for each.
    let places: Vec<root::Place> = (0..300).map(|index| place(&store, &format!("name-{index}"))).collect();
    let keys = store.0.keys.load_full();
    let mut forged = Vec::new();
    let total = {
        let mut writer = store.0.writer().unwrap();
        for place in &places {
            for _ in 1..discard::SLOTS_MAX {
                let slot = writer.allocation.take(|total| store.0.slots.grow(total)).unwrap();
                let drawn = entry::Drawn::draw().unwrap();
                let sealed = slots::Slot::seal(&keys, &store.0.store, slot, place, &drawn, 1).unwrap();
                forged.push((slot, sealed));
            }
        }
        forged.sort_unstable_by_key(|(index, _)| *index);
        store.0.slots.write(&forged).unwrap();
        writer.allocation.used()
    };
    // None of them names a slot of its own.
    for index in 0..300 {
        damage(&store, &format!("name-{index}"), |entry| entry[4..8].fill(0xff));
    }
    let deletes = |range: std::ops::Range<usize>| -> Vec<Operation> {
        range
            .map(|index| Operation::Delete {
                name: name(&format!("name-{index}")),
                precondition: Precondition::Any,
            })
            .collect()
    };
    let memory = store.memory();
    let refused = memory.apply(&namespace(NOTES), deletes(0..300), &Quota::UNLIMITED);
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert_eq!(store.status().unwrap().slots_used, total, "nothing of it is done");
    assert_eq!(put(&store, "other", b"kept"), 2);
    for first in (0..300).step_by(100) {
        memory
            .apply(&namespace(NOTES), deletes(first..first + 100), &Quota::UNLIMITED)
            .unwrap();
        let commit = store.0.tree.commit().unwrap();
        assert!(commit.to_bytes().len() <= entry::CHUNK_BYTES);
    }
    assert_eq!(store.status().unwrap().slots_used, 1);
}

#[test]
fn one_rotation_or_backup_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let (other, backup_key) = (store.clone(), crate::BackupPrivateKey::generate().unwrap());
    let mut refusals = Vec::new();
    store
        .rotate_key(&key(2), &mut |_| {
            let rotation = other.rotate_key(&key(3), &mut |_| {}).unwrap_err();
            let backup = other
                .export(&backup_key.public_key(), &mut Vec::new(), &mut |_| {})
                .unwrap_err();
            refusals.push((rotation.to_string(), backup.to_string()));
        })
        .unwrap();
    assert!(!refusals.is_empty());
    for text in refusals.iter().flat_map(|(one, two)| [one, two]) {
        assert!(text.contains("try again when that has ended"), "{text}");
    }
    drop((store, other));
    assert!(SealedStore::open(options(&folder, 2)).is_ok());
}

#[test]
fn listing_goes_on_from_an_old_root_to_the_newest_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..6 {
        put(&store, &format!("old {index}"), b"x");
    }
    // Begun and not ended: what is written from now on lies under the newest root.
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.rotate_key(&key(2), &mut |_| panic!("cut off here"))
    }));
    assert!(cut.is_err());
    for index in 0..6 {
        put(&store, &format!("new {index}"), b"x");
    }
    for limit in [1, 2, 3, 5, 6, 7, 12, 100] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store
                .memory()
                .list(&namespace("notes"), "", cursor.as_deref(), limit)
                .unwrap();
            seen.extend(page.names);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 12, "pages of {limit}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn a_keyring_whose_replacement_was_cut_off_is_mended_when_the_store_opens() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let path = folder.path().join("store/keyring");
    let before = std::fs::read(&path).unwrap();
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    drop(store);
    let mut cut_off = std::fs::read(&path).unwrap();
    let half = cut_off.len() / 2;
    cut_off[half..].copy_from_slice(&before[half..]);
    std::fs::write(&path, &cut_off).unwrap();
    drop(SealedStore::open(options(&folder, 2)).unwrap());
    let mended = std::fs::read(&path).unwrap();
    assert!(mended[..half] == mended[half..], "nothing of the old page is left");
}

#[test]
fn a_request_that_comes_after_a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let failing = StoreOptions {
        steps: Steps::watched(|step| assert!(step != Step::RecordsApplied, "cut off here")),
        ..options(&folder, 1)
    };
    let store = SealedStore::open(failing).unwrap();
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| put(&store, "a", b"one")));
    assert!(cut.is_err());
    for _ in 0..3 {
        let refused = store
            .memory()
            .put(&namespace("notes"), write("b", b"two"), &Quota::UNLIMITED);
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    }
    assert_eq!(store.0.waiting(), 0);
}

const NOTES: &str = "notes";

fn put_all(store: &SealedStore, names: std::ops::Range<usize>) {
    let puts = names.map(|index| Operation::Put(write(&format!("name-{index}"), b"value")));
    store
        .memory()
        .apply(&namespace(NOTES), puts.collect(), &Quota::UNLIMITED)
        .unwrap();
}

/// Nobody cleans but who writes: that must be enough, also for what is deleted.
#[test]
#[expect(clippy::disallowed_methods, reason = "looks at a file from outside")]
fn the_file_of_the_database_stays_in_proportion() {
    const RECORDS: usize = 600;
    const BYTES: usize = 16_000;
    const TOGETHER: usize = 20;
    /// Of what is in it when all of it is there.
    const TIMES_MAX: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let database = folder.path().join("store/records/db");
    let memory = store.memory();
    // Names lie in the order of what stands for them: these go anywhere.
    let all = |from: usize, operation: &dyn Fn(RecordName) -> Operation| {
        let names: Vec<RecordName> = (from..RECORDS).map(|index| name(&format!("name-{index}"))).collect();
        for some in names.chunks(TOGETHER) {
            let operations = some.iter().cloned().map(operation).collect();
            memory.apply(&namespace(NOTES), operations, &Quota::UNLIMITED).unwrap();
        }
        let bytes = std::fs::metadata(&database).unwrap().len();
        assert!(bytes < (TIMES_MAX * RECORDS * BYTES) as u64, "{bytes} bytes");
    };
    let put = |name: RecordName| Operation::Put(write(name.as_str(), &[7; BYTES]));
    let delete = |name: RecordName| Operation::Delete {
        name,
        precondition: Precondition::Any,
    };
    (0..12).for_each(|_| all(0, &put));
    // What nine of ten leave is used again.
    for _ in 0..4 {
        all(RECORDS / 10, &delete);
        all(0, &put);
    }
}

#[test]
fn what_a_commit_says_of_itself_is_never_larger_than_a_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for (from, to, is_noted) in [(0, 334, true), (334, 669, false)] {
        put_all(&store, from..to);
        let (newest, added) = (store.0.tree.commit().unwrap(), store.0.tree.added().unwrap().unwrap());
        assert_eq!(added.number == newest.number, is_noted, "{from}..{to}");
        assert!(added.to_bytes().len() <= entry::CHUNK_BYTES);
    }
    let batches = 10;
    for batch in 1..batches {
        put_all(&store, batch * 1000..(batch + 1) * 1000);
    }
    let before = store.0.tree.commit().unwrap().number;
    let deletes = (0..batches).map(|batch| work::Work::Apply {
        space: Space::Memory,
        namespace: namespace(NOTES),
        operations: (batch * 1000..(batch + 1) * 1000)
            .map(|index| Operation::Delete {
                name: name(&format!("name-{index}")),
                precondition: Precondition::Any,
            })
            .collect(),
        quota: Quota::UNLIMITED,
    });
    store.0.submit_all(deletes.collect()).unwrap();
    let after = store.0.tree.commit().unwrap();
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap().records, 0);
    // Four batches at most have room in one commit.
    assert_eq!(after.number - before, 3);
    assert_eq!(after.doomed.len(), 2000);
}

/// What a cut leaves of the second of two records that were added by one commit.
enum Cut {
    /// Nothing of its key. The disk knew of the commit before at most.
    Key,
    /// The same, after the disk was known to have had it.
    KnownKey,
    /// All of it, and a bit of it is another one.
    RottenKey,
    /// All of it, and a bit of whose it is is another one.
    RottenPlace,
}

/// A store that added two records with one commit, and `later` more, and was cut off then.
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn torn(folder: &tempfile::TempDir, later: &[&str], cut: &Cut) -> SealedStore {
    let store = SealedStore::open(options(folder, 1)).unwrap();
    put(&store, "kept", b"kept");
    let both = vec![Operation::Put(write("a", b"one")), Operation::Put(write("b", b"two"))];
    store
        .memory()
        .apply(&namespace(NOTES), both, &Quota::UNLIMITED)
        .unwrap();
    for text in later {
        assert_eq!(put(&store, text, b"later"), 1);
    }
    let slot = {
        let keys = store.0.keys.load_full();
        let root = keys.newest();
        let place = root.place(&root.namespace_place(Space::Memory, &namespace(NOTES)), &name("b"));
        store.0.entry(&place).unwrap().unwrap().header.slot
    };
    let newest = store.0.tree.commit().unwrap().number;
    drop(store);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("store/slots"))
        .unwrap();
    let at = 4096 + u64::from(slot) * slots::SLOT_BYTES as u64;
    let mut left = [0; slots::SLOT_BYTES];
    let rotten = match cut {
        Cut::Key | Cut::KnownKey => None,
        Cut::RottenKey => Some(20),
        Cut::RottenPlace => Some(70),
    };
    if let Some(byte) = rotten {
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut left, at).unwrap();
        left[byte] ^= 1;
    }
    std::os::unix::fs::FileExt::write_all_at(&file, &left, at).unwrap();
    if !matches!(cut, Cut::KnownKey) {
        // Closing it noted the newest commit. Before, the one before was noted.
        std::os::unix::fs::FileExt::write_all_at(&file, &(newest - 1).to_le_bytes(), 28).unwrap();
    }
    std::fs::remove_file(folder.path().join("store/closed")).unwrap();
    SealedStore::open(options(folder, 1)).unwrap()
}

fn assert_damaged(store: &SealedStore, text: &str) {
    let lost = store.memory().get(&namespace(NOTES), &name(text));
    assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "{lost:?}");
}

#[test]
fn what_the_newest_commit_added_without_a_key_is_taken_back_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = torn(&folder, &[], &Cut::Key);
    assert_eq!((value(&store, "a"), value(&store, "b")), (None, None));
    assert_eq!(value(&store, "kept").as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.status().unwrap().slots_used, 1);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!(usage.records, 1);
    assert_eq!(put(&store, "b", b"again"), 1);
    assert_eq!(value(&store, "b").as_deref(), Some(&b"again"[..]));
}

#[test]
fn what_lost_its_key_otherwise_is_damaged_and_not_gone() {
    for (later, cut) in [
        (&["later"][..], Cut::Key),
        (&[], Cut::KnownKey),
        (&[], Cut::RottenKey),
        (&[], Cut::RottenPlace),
        (&["later"], Cut::RottenPlace),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = torn(&folder, later, &cut);
        assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
        assert_damaged(&store, "b");
        // Killed once more, before anything was written: a key that was destroyed in between would pass for one that never came.
        let killed = copy_of(&folder);
        let again = SealedStore::open(options(&killed, 1)).unwrap();
        if matches!(cut, Cut::RottenKey | Cut::RottenPlace) {
            assert_eq!(value(&again, "a").as_deref(), Some(&b"one"[..]));
            assert_damaged(&again, "b");
        }
    }
}

/// Everything that somebody may do to one record on the disk, and the record that it is done to.
fn damage(store: &SealedStore, text: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let place = place(store, text);
    let mut entry = store
        .0
        .tree
        .get(&tree::key(tree::prefix::RECORD, &[&place]))
        .unwrap()
        .unwrap()
        .to_vec();
    change(&mut entry);
    lay(store, tree::key(tree::prefix::RECORD, &[&place]), Some(entry));
}

/// Puts something into the database past the store, or takes it out.
fn lay(store: &SealedStore, at: Vec<u8>, entry: Option<Vec<u8>>) {
    let mut batch = sled::Batch::default();
    match entry {
        Some(entry) => batch.insert(at, entry),
        None => batch.remove(at),
    }
    store.0.tree.apply(batch).unwrap();
}

fn place(store: &SealedStore, text: &str) -> root::Place {
    let keys = store.0.keys.load();
    let root = keys.newest();
    root.place(&root.namespace_place(Space::Memory, &namespace("notes")), &name(text))
}

fn check(store: &SealedStore, damaged: bool) -> (Checked, Vec<Damaged>) {
    check_with(
        store,
        Delete {
            damaged,
            nameless: false,
        },
    )
}

fn check_with(store: &SealedStore, delete: Delete) -> (Checked, Vec<Damaged>) {
    let (mut found, mut seen) = (Vec::new(), Checked::default());
    let checked = store.check(
        delete,
        &mut |now| {
            seen = *now;
            ControlFlow::Continue(())
        },
        &mut |one| found.push(one),
    );
    let checked = checked.unwrap();
    assert_eq!(seen, checked, "whoever watches sees all of it");
    (checked, found)
}

#[test]
fn damaged_records_are_found_and_taken_out_and_all_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c", "d", "e"] {
        put(&store, text, text.as_bytes());
    }
    put(&store, "long", &[7; 100_000]);
    assert_eq!(
        check(&store, false),
        (
            Checked {
                records: 6,
                ..Checked::default()
            },
            vec![]
        )
    );
    let slot_of = |text: &str| store.0.entry(&place(&store, text)).unwrap().unwrap().header.slot;
    let slots = [slot_of("b"), slot_of("c"), slot_of("d"), slot_of("e"), slot_of("long")];
    // A value, a header, the number of a slot that is that of another, a key, and a part of a long value.
    damage(&store, "b", |entry| *entry.last_mut().unwrap() ^= 1);
    damage(&store, "c", |entry| entry[1] = 200);
    damage(&store, "d", |entry| {
        entry[4..8].copy_from_slice(&slot_of("a").to_le_bytes())
    });
    let of_nobody = {
        let (keys, drawn) = (store.0.keys.load(), entry::Drawn::draw().unwrap());
        slots::Slot::seal(&keys, &store.0.store, slot_of("e"), &[9; root::PLACE_BYTES], &drawn, 1).unwrap()
    };
    store.0.slots.write(&[(slot_of("e"), of_nobody)]).unwrap();
    let header = store.0.entry(&place(&store, "long")).unwrap().unwrap().header;
    let mut batch = sled::Batch::default();
    batch.remove(tree::key(tree::prefix::CHUNK, &[&header.chunk_place(3)]));
    store.0.tree.apply(batch).unwrap();
    let memory = store.memory();
    assert!(memory.list(&namespace("notes"), "", None, 10).is_err());
    assert!(store.rotate_key(&key(2), &mut |_| {}).is_err());

    let (checked, mut found) = check(&store, false);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (6, 5, 0));
    assert!(
        found
            .iter()
            .all(|one| !one.deleted && !one.is_secret && one.namespace == Some(namespace("notes")))
    );
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<Option<&str>> = found
        .iter()
        .map(|one| one.name.as_ref().map(RecordName::as_str))
        .collect();
    assert_eq!(names, [None, None, None, Some("b"), Some("long")]);

    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (6, 5, 5));
    assert!(found.iter().all(|one| one.deleted));
    assert_eq!(
        check(&store, true),
        (
            Checked {
                records: 1,
                ..Checked::default()
            },
            vec![]
        )
    );
    for slot in slots {
        assert!(store.0.slots.read(slot).unwrap().is_free(), "{slot}");
    }
    let names = memory.list(&namespace("notes"), "", None, 10).unwrap().names;
    assert_eq!(names, [name("a")]);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"a"[..]));
    assert_eq!(memory.usage(&namespace("notes")).unwrap().records, 1);
    // No key is left that would be taken for that of a lost record.
    let copy = copy_of(&folder);
    drop((memory, store));
    let reopened = SealedStore::open(options(&copy, 1)).unwrap();
    assert_eq!(value(&reopened, "a").as_deref(), Some(&b"a"[..]));
    assert_eq!(reopened.reclaimed(), 0);
    reopened.rotate_key(&key(2), &mut |_| {}).unwrap();
}

#[test]
fn all_slots_are_looked_through_once_for_many_records_that_are_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..1000);
    put_all(&store, 1000..2000);
    let slot = |index: usize| {
        let place = place(&store, &format!("name-{index}"));
        store.0.entry(&place).unwrap().unwrap().header.slot
    };
    let lost: Vec<_> = (0..1000).map(|index| (slot(index), slots::Slot::FREE)).collect();
    store.0.slots.write(&lost).unwrap();
    let walks = || store.0.slots.walks.load(Ordering::Relaxed);
    let before = walks();
    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (2000, 1000, 1000));
    assert_eq!(found.iter().filter(|one| one.deleted).count(), 1000);
    // 235 at once.
    assert_eq!(walks() - before, 5);
    assert_eq!(check(&store, true).0.damaged, 0);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap().records, 1000);
    assert_eq!(value(&store, "name-1000").as_deref(), Some(&b"value"[..]));
}

#[test]
fn all_slots_are_looked_through_once_for_a_batch_with_damaged_records_and_never_without() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..20);
    let walks = || store.0.slots.walks.load(Ordering::Relaxed);
    let before = walks();
    put_all(&store, 0..20);
    assert_eq!(walks(), before);
    // None of the first ten names a slot of its own.
    for index in 0..10 {
        damage(&store, &format!("name-{index}"), |entry| entry[4..8].fill(0xff));
    }
    let operations = (0..20).map(|index| {
        let text = format!("name-{index}");
        if index % 2 == 0 {
            return Operation::Put(write(&text, b"new"));
        }
        Operation::Delete {
            name: name(&text),
            precondition: Precondition::Any,
        }
    });
    let memory = store.memory();
    memory
        .apply(&namespace(NOTES), operations.collect(), &Quota::UNLIMITED)
        .unwrap();
    assert_eq!(walks() - before, 1);
    assert_eq!(slots_in_use(&store).len(), 10);
}

#[test]
fn what_was_written_again_since_it_was_looked_at_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    damage(&store, "a", |entry| *entry.last_mut().unwrap() ^= 1);
    let place = place(&store, "a");
    let check::Look::Damaged(header) = store.0.look(Space::Memory, &namespace("notes"), &place).unwrap() else {
        panic!("it opens");
    };
    put(&store, "a", b"two");
    for header in [header, None] {
        let done = store.0.submit(work::Work::Discard { place, header }).unwrap();
        assert!(!done.discarded);
    }
    assert_eq!(value(&store, "a").as_deref(), Some(&b"two"[..]));
}

#[test]
fn an_expired_record_that_is_damaged_stops_no_backup() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    put(&store, "a", b"one");
    put_short(&store, "b", 1);
    damage(&store, "b", |entry| *entry.last_mut().unwrap() ^= 1);
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    let export = || store.export(&to, &mut Vec::new(), &mut |_| {});
    assert!(export().is_err());
    clock.advance(10);
    assert_eq!(export().unwrap().records, 1);
    assert_eq!(
        check(&store, false).0.damaged,
        1,
        "it still keeps keys from being rotated"
    );
}

#[test]
fn a_forged_header_gets_nothing_of_another_record_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "long", &[7; 100_000]);
    let victim = place(&store, "long");
    let entry = store.0.entry(&victim).unwrap().unwrap().entry;
    // Before all others of its namespace, with the header of a record that is good.
    let mut forged = victim;
    forged[root::SPACE_TAG_BYTES + 1..].fill(0);
    let mut batch = sled::Batch::default();
    batch.insert(
        tree::key(tree::prefix::RECORD, &[&forged]),
        &entry[..entry::HEADER_BYTES],
    );
    store.0.tree.apply(batch).unwrap();
    let (checked, found) = check(&store, true);
    assert_eq!(
        (checked.records, checked.damaged, checked.deleted),
        (2, 1, 1),
        "{found:?}"
    );
    assert_eq!(value(&store, "long").as_deref(), Some(&[7; 100_000][..]));
    // It was never counted, and took nothing of what was.
    let usage = store.memory().usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 100_004));
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    assert_eq!(store.export(&to, &mut Vec::new(), &mut |_| {}).unwrap().records, 1);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

#[test]
fn what_a_damaged_header_says_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c"] {
        put(&store, text, b"0123456789");
    }
    // A format that there is not, and a length that no value has.
    damage(&store, "a", |entry| entry[0] = 2);
    damage(&store, "b", |entry| entry[28..32].fill(0xff));
    assert!(store.rotate_key(&key(2), &mut |_| {}).is_err());
    assert_eq!(check(&store, true).0.deleted, 2);
    let usage = store.memory().usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 11));
    assert_eq!(value(&store, "c").as_deref(), Some(&b"0123456789"[..]));
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

#[test]
fn what_a_forged_header_says_decides_nothing_and_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["class", "version", "expiry"] {
        put(&store, text, b"one");
        assert_eq!(put(&store, text, b"two"), 2);
    }
    damage(&store, "class", |entry| entry[1] = 0);
    damage(&store, "version", |entry| {
        entry[12..20].copy_from_slice(&9_u64.to_le_bytes())
    });
    damage(&store, "expiry", |entry| {
        entry[20..28].copy_from_slice(&1_u64.to_le_bytes())
    });
    let memory = store.memory();
    let conditions = [Precondition::Absent, Precondition::Version(2), Precondition::Version(9)];
    for text in ["class", "version", "expiry"] {
        for precondition in conditions {
            let new = Write {
                precondition,
                ..write(text, b"forged")
            };
            let written = memory.put(&namespace(NOTES), new, &Quota::UNLIMITED);
            assert!(
                matches!(written, Err(StoreError::Corrupt { .. })),
                "{text}: {written:?}"
            );
            let deleted = memory.delete(&namespace(NOTES), &name(text), precondition);
            assert!(
                matches!(deleted, Err(StoreError::Corrupt { .. })),
                "{text}: {deleted:?}"
            );
        }
    }
    // It can be replaced and removed all the same, as something of which nothing is known.
    assert_eq!(put(&store, "version", b"new"), 1);
    let deleted = memory.delete(&namespace(NOTES), &name("class"), Precondition::Any);
    assert_eq!(deleted.unwrap(), Some(Classification::Secret));
    assert_eq!(value(&store, "version").as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_backup_replaces_also_what_cannot_even_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c"] {
        put(&store, text, b"0123456789");
    }
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    let (key, backup) = back_up(&store);
    // None of the formats that there may be, and one byte too few.
    damage(&store, "a", |entry| entry[0] = 0);
    damage(&store, "b", |entry| entry.truncate(entry::HEADER_BYTES - 1));
    let import = |existing| {
        let mut from = std::io::Cursor::new(&backup);
        store.import(&key, &mut from, existing, &mut |_, _| ControlFlow::Continue(()))
    };
    assert!(import(Existing::Keep).is_err(), "what is there stays");
    assert_eq!(import(Existing::Replace).unwrap().restored.records, 3);
    for text in ["a", "b", "c"] {
        assert_eq!(value(&store, text).as_deref(), Some(&b"0123456789"[..]));
    }
    assert_eq!(check(&store, false).0.damaged, 0);
    // No key stays without a record, and nothing is counted twice.
    assert_eq!(store.status().unwrap().slots_used, 3);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap(), usage);
}

#[test]
fn a_record_whose_name_does_not_open_is_not_kept_but_restored() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"0123456789");
    }
    let (key, backup) = back_up(&store);
    put(&store, "b", b"changed");
    damage(&store, "a", |entry| entry[45] ^= 1);
    let mut from = std::io::Cursor::new(&backup);
    let imported = store.import(&key, &mut from, Existing::Keep, &mut |_, _| ControlFlow::Continue(()));
    let imported = imported.unwrap();
    assert_eq!((imported.restored.records, imported.kept), (1, 1));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"0123456789"[..]));
    assert_eq!(value(&store, "b").as_deref(), Some(&b"changed"[..]));
    assert_eq!(check(&store, false).0.damaged, 0);
    assert_eq!(store.status().unwrap().slots_used, 2);
}

#[test]
fn a_backup_replaces_nothing_that_a_newer_version_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"0123456789");
    }
    let (key, backup) = back_up(&store);
    put(&store, "b", b"changed");
    damage(&store, "a", |entry| entry[0] = 9);
    let newer = store.0.entry(&place(&store, "a")).map(drop);
    assert!(matches!(newer, Err(StoreError::Version { found: 9, .. })), "{newer:?}");
    let mut from = std::io::Cursor::new(&backup);
    store
        .import(
            &key,
            &mut from,
            Existing::Replace,
            &mut |_, _| ControlFlow::Continue(()),
        )
        .unwrap_err();
    assert_eq!(value(&store, "b").as_deref(), Some(&b"0123456789"[..]));
    // Whoever can read it finds it as it was.
    assert_eq!(store.status().unwrap().slots_used, 2);
    damage(&store, "a", |entry| entry[0] = 1);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"0123456789"[..]));
}

#[test]
fn a_namespace_is_counted_once_for_many_records_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..300);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    let (key, backup) = back_up(&store);
    for index in 0..300 {
        damage(&store, &format!("name-{index}"), |entry| entry[0] = 0);
    }
    let scans = || store.0.tree.scans.load(Ordering::Relaxed);
    let before = scans();
    let mut from = std::io::Cursor::new(&backup);
    let mut told = Vec::new();
    let imported = store.import(&key, &mut from, Existing::Replace, &mut |_, arrived| {
        told.push(arrived.len());
        ControlFlow::Continue(())
    });
    assert_eq!(imported.unwrap().restored.records, 300);
    // 235 of them go together, each of which may end as many keys as damage can name. While it is read first nothing arrives.
    told.retain(|arrived| *arrived > 0);
    assert_eq!(told, [235, 65], "after each commit");
    assert!(scans() - before <= 2, "{}", scans() - before);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap(), usage);
}

#[test]
fn a_namespace_that_is_counted_too_low_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "old", b"one");
    // As taking out what was never counted leaves it, if the process ends before it counts anew.
    let namespace_place = root::namespace_of(&place(&store, "old"));
    let nothing = usage::to_bytes(crate::record::Usage::default());
    let at = tree::key(tree::prefix::USAGE, &[&namespace_place]);
    lay(&store, at, Some(nothing.to_vec()));
    let operations = vec![
        Operation::Put(write("new", b"three")),
        Operation::Delete {
            name: name("old"),
            precondition: Precondition::Any,
        },
    ];
    let memory = store.memory();
    memory
        .apply(&namespace("notes"), operations, &Quota::UNLIMITED)
        .unwrap();
    let usage = memory.usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 8));
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    assert_eq!(store.export(&to, &mut Vec::new(), &mut |_| {}).unwrap().records, 1);
    assert_eq!(store.rotate_key(&key(2), &mut |_| {}).unwrap().records, 1);
    assert_eq!(value(&store, "new").as_deref(), Some(&b"three"[..]));
    // And an empty one loses it.
    memory
        .delete(&namespace("notes"), &name("new"), Precondition::Any)
        .unwrap();
    assert!(memory.namespaces(10).unwrap().is_empty());
}

fn is_nameless(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt {
            what: StoreError::NAMESPACE
        }
    )
}

/// What becomes of the sealed name of a namespace; none: it is gone.
type ChangeName = fn(&[u8]) -> Option<Vec<u8>>;

/// Makes something else of the name of a namespace, or nothing.
fn lose_name(store: &SealedStore, place: &root::NamespacePlace, change: ChangeName) {
    let at = tree::key(tree::prefix::NAMESPACE, &[place]);
    let sealed = store.0.tree.get(&at).unwrap().unwrap();
    lay(store, at, change(&sealed));
}

#[test]
fn a_namespace_that_lost_its_name_is_told_and_gets_it_back() {
    let changes: [ChangeName; 2] = [|_| None, |sealed| Some([sealed, b"?"].concat())];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        let memory = store.memory();
        put(&store, "a", b"one");
        put(&store, "b", b"two");
        memory
            .put(&namespace("other"), write("c", b"three"), &Quota::UNLIMITED)
            .unwrap();
        let place = root::namespace_of(&place(&store, "a"));
        lose_name(&store, &place, change);
        for delete in [false, true] {
            let (checked, found) = check(&store, delete);
            let seen = (checked.records, checked.damaged, checked.deleted, checked.nameless);
            assert_eq!(seen, (1, 0, 0, 1));
            let wanted = Damaged {
                namespace: None,
                is_secret: false,
                name: None,
                place: hex(&place),
                deleted: false,
            };
            assert_eq!(found, [wanted]);
        }
        let to = crate::BackupPrivateKey::generate().unwrap().public_key();
        let export = |out: &mut Vec<u8>| store.export(&to, out, &mut |_| {});
        let mut out = Vec::new();
        match export(&mut out).unwrap_err() {
            crate::BackupError::Store(error) => assert!(is_nameless(&error)),
            other => panic!("{other}"),
        }
        assert!(out.is_empty(), "it was told before anything was written");
        assert!(is_nameless(&store.rotate_key(&key(2), &mut |_| {}).unwrap_err()));
        // Who knows the name reads, and writing puts it back.
        assert_eq!(value(&store, "b").as_deref(), Some(&b"two"[..]));
        put(&store, "a", b"four");
        let (checked, found) = check(&store, false);
        assert_eq!((checked.records, checked.nameless), (3, 0));
        assert_eq!(found, []);
        assert_eq!(memory.namespaces(10).unwrap().len(), 2);
        assert_eq!(export(&mut out).unwrap().records, 3);
        // Also where it is lost under an older root, while keys are rotated.
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.rotate_key(&key(2), &mut |_| panic!("cut off"))
        }));
        assert!(cut.is_err());
        lose_name(&store, &place, change);
        assert!(is_nameless(&store.rotate_key(&key(2), &mut |_| {}).unwrap_err()));
        put(&store, "d", b"five");
        store.rotate_key(&key(2), &mut |_| {}).unwrap();
        assert_eq!(value(&store, "a").as_deref(), Some(&b"four"[..]));
        assert_eq!(check(&store, false).0.records, 4);
    }
}

#[test]
fn what_nobody_knows_the_namespace_of_can_be_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let secrets = store.secrets();
    for text in ["a", "b"] {
        let put = secrets.put(&namespace("notes"), write(text, b"hidden"), &Quota::UNLIMITED);
        put.unwrap();
    }
    let place = {
        let keys = store.0.keys.load();
        keys.newest().namespace_place(Space::Secrets, &namespace("notes"))
    };
    assert_eq!(store.nameless().unwrap(), 0);
    lose_name(&store, &place, |_| Some(b"nothing that opens".to_vec()));
    assert_eq!(store.nameless().unwrap(), 1);
    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.nameless), (0, 0, 1));
    assert!(found.iter().all(|one| one.is_secret && !one.deleted));
    assert!(secrets.get(&namespace("notes"), &name("a")).unwrap().is_some());
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let (checked, found) = check_with(&store, delete);
    let nameless = (checked.nameless, checked.nameless_deleted);
    assert_eq!((checked.records, nameless), (0, (1, 1)));
    assert_eq!((found.len(), found[0].deleted), (1, true));
    assert!(secrets.get(&namespace("notes"), &name("a")).unwrap().is_none());
    let status = store.status().unwrap();
    assert_eq!(status.slots_used, 0, "their keys are destroyed");
    assert_eq!(check(&store, false).0, Checked::default());
    assert_eq!(store.nameless().unwrap(), 0);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

/// A check that is ended when it asks for the `last` time whether it goes on, and what it found until then.
fn check_until(store: &SealedStore, delete: Delete, last: usize) -> (Checked, Vec<Damaged>) {
    let (mut found, mut seen, mut asked) = (Vec::new(), Checked::default(), 0);
    let checked = store.check(
        delete,
        &mut |now| {
            seen = *now;
            asked += 1;
            if asked < last {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
        &mut |one| found.push(one),
    );
    let error = checked.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(_)), "{error}");
    (seen, found)
}

#[test]
fn a_check_that_is_ended_within_a_namespace_without_a_name_says_that_something_of_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let all: Vec<String> = (0..1000).map(|index| format!("small-{index}")).collect();
    let puts = all.iter().map(|text| Operation::Put(write(text, b"x"))).collect();
    let memory = store.memory();
    memory.apply(&namespace("notes"), puts, &Quota::UNLIMITED).unwrap();
    let place = root::namespace_of(&place(&store, "small-0"));
    lose_name(&store, &place, |_| None);
    let left = || all.iter().filter(|text| value(&store, text).is_some()).count();
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let commit = store.0.tree.commit().unwrap().number;
    // It asks once it has found the namespace, and before each commit.
    let (seen, found) = check_until(&store, delete, 2);
    assert_eq!(store.0.tree.commit().unwrap().number, commit, "it wrote nothing");
    assert_eq!((seen.nameless, seen.nameless_deleted), (1, 0));
    assert_eq!((found.len(), found[0].deleted), (1, false));
    assert_eq!(left(), 1000);
    let (seen, found) = check_until(&store, delete, 3);
    assert_eq!((seen.nameless, seen.nameless_deleted), (1, 0));
    assert_eq!((found.len(), found[0].deleted), (1, true), "it is told of");
    assert!((1..1000).contains(&left()), "{}", left());
    let (checked, found) = check_with(&store, delete);
    assert_eq!((checked.nameless, checked.nameless_deleted), (1, 1));
    assert_eq!((found.len(), found[0].deleted), (1, true));
    assert_eq!(left(), 0);
}

#[test]
fn a_check_tells_of_a_namespace_without_a_name_once_the_first_of_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let puts = (0..1000).map(|index| Operation::Put(write(&format!("small-{index}"), b"x")));
    let memory = store.memory();
    memory
        .apply(&namespace("notes"), puts.collect(), &Quota::UNLIMITED)
        .unwrap();
    let place = root::namespace_of(&place(&store, "small-0"));
    lose_name(&store, &place, |_| None);
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let found = std::cell::RefCell::new(Vec::new());
    // How many were told of, each time it asks: once it has found the namespace, before each commit, and after the last one.
    let mut told = Vec::new();
    let checked = store.check(
        delete,
        &mut |_| {
            told.push(found.borrow().len());
            ControlFlow::Continue(())
        },
        &mut |one: Damaged| found.borrow_mut().push(one),
    );
    assert_eq!(checked.unwrap().nameless_deleted, 1);
    assert_eq!(told[..4], [0, 0, 1, 1]);
    let found = found.into_inner();
    assert_eq!((found.len(), found[0].deleted), (1, true), "it is told of once");
}

#[test]
fn a_check_that_is_ended_takes_out_nothing_more_and_tells_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c", "d", "e"] {
        put(&store, text, text.as_bytes());
        damage(&store, text, |entry| *entry.last_mut().unwrap() ^= 1);
    }
    let delete = Delete {
        damaged: true,
        nameless: false,
    };
    let commit = store.0.tree.commit().unwrap().number;
    // It asks at each record that it sees.
    let (seen, found) = check_until(&store, delete, 5);
    assert_eq!(store.0.tree.commit().unwrap().number, commit, "it wrote nothing");
    assert_eq!((seen.damaged, seen.deleted), (5, 0));
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|one| !one.deleted), "{found:?}");
    assert_eq!(check(&store, false).0.damaged, 5, "they are all there");
    assert_eq!(check(&store, true).0.deleted, 5);
}

#[test]
fn a_check_that_is_ended_counts_anew_with_one_commit_where_it_took_something_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let namespaces: Vec<Namespace> = (0..300).map(|index| namespace(&format!("notes-{index}"))).collect();
    let puts = namespaces.iter().map(|namespace| work::Work::Apply {
        space: Space::Memory,
        namespace: namespace.clone(),
        operations: ["a", "b"]
            .map(|text| Operation::Put(write(text, text.as_bytes())))
            .into(),
        quota: Quota::UNLIMITED,
    });
    store.0.submit_all(puts.collect()).unwrap();
    for namespace in &namespaces {
        let place = {
            let keys = store.0.keys.load();
            let root = keys.newest();
            root.place(&root.namespace_place(Space::Memory, namespace), &name("a"))
        };
        let at = tree::key(tree::prefix::RECORD, &[&place]);
        let mut entry = store.0.tree.get(&at).unwrap().unwrap().to_vec();
        *entry.last_mut().unwrap() ^= 1;
        lay(&store, at, Some(entry));
    }
    let delete = Delete {
        damaged: true,
        nameless: false,
    };
    let commit = || store.0.tree.commit().unwrap().number;
    let mut ended_at = None;
    let (mut deleted, mut found) = (0, 0);
    let checked = store.check(
        delete,
        &mut |now| {
            deleted = now.deleted;
            if deleted == 0 {
                return ControlFlow::Continue(());
            }
            ended_at.get_or_insert_with(commit);
            ControlFlow::Break(())
        },
        &mut |_| found += 1,
    );
    assert!(matches!(checked, Err(StoreError::Invalid(_))), "{checked:?}");
    assert_eq!((deleted, found), (235, 235));
    assert_eq!(commit() - ended_at.unwrap(), 1);
    let memory = store.memory();
    let records = namespaces
        .iter()
        .map(|namespace| memory.usage(namespace).unwrap().records);
    assert_eq!(records.sum::<u64>(), 600 - 235);
    assert_eq!(check(&store, true).0.deleted, 300 - 235);
}

#[test]
fn large_namespaces_are_counted_anew_with_a_commit_each() {
    for (records, commits) in [(9_000_u32, 1), (11_000, 2), (21_000, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        let namespaces = ["a", "b"].map(|text| {
            let keys = store.0.keys.load();
            keys.newest().namespace_place(Space::Memory, &namespace(text))
        });
        let mut batch = sled::Batch::default();
        for namespace in &namespaces {
            for index in 0..records {
                let mut place: root::Place = [0; size_of::<root::Place>()];
                place[..namespace.len()].copy_from_slice(namespace);
                place[namespace.len()..][..4].copy_from_slice(&index.to_be_bytes());
                batch.insert(tree::key(tree::prefix::RECORD, &[&place]), b"damaged".as_slice());
            }
        }
        store.0.tree.apply(batch).unwrap();
        let commit = || store.0.tree.commit().unwrap().number;
        let before = commit();
        store.0.recount(namespaces.into()).unwrap();
        assert_eq!(commit() - before, commits, "{records} in each");
        for namespace in &namespaces {
            let counted = usage::read(&store.0.tree, namespace).unwrap();
            assert_eq!(counted.records, u64::from(records));
        }
    }
}

/// A name without records says nothing of anything, and keeps nothing from going on.
#[test]
fn a_name_that_does_not_open_and_has_no_records_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let nowhere = [[Space::Memory.byte()].as_slice(), &[7; 16]].concat();
    let at = tree::key(tree::prefix::NAMESPACE, &[&nowhere]);
    lay(&store, at, Some(b"nothing that opens".to_vec()));
    assert_eq!(check(&store, false).0.nameless, 0);
    assert_eq!(store.memory().namespaces(10).unwrap().len(), 1);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
}

#[test]
fn a_record_whose_key_is_lost_leaves_no_part_of_its_value() {
    for delete in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, "long", &[7; 100_000]);
        let slot = store.0.entry(&place(&store, "long")).unwrap().unwrap().header.slot;
        store.0.slots.write(&[(slot, slots::Slot::FREE)]).unwrap();
        let memory = store.memory();
        if delete {
            memory
                .delete(&namespace("notes"), &name("long"), Precondition::Any)
                .unwrap();
        } else {
            assert_eq!(check(&store, true).0.deleted, 1);
        }
        let mut left = 0;
        let mut count = |_: &[u8], _: &sled::IVec| {
            left += 1;
            Ok(tree::Scan::Next)
        };
        store.0.tree.scan(&[tree::prefix::CHUNK], None, &mut count).unwrap();
        assert_eq!(left, 0);
    }
}

#[test]
fn an_expired_record_of_an_unknown_format_keeps_no_other_from_being_swept() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    for text in ["a", "b"] {
        put_short(&store, text, 1);
    }
    damage(&store, "a", |entry| entry[0] = 2);
    clock.advance(10);
    assert_eq!(store.sweep(10).unwrap().records, 1);
}
