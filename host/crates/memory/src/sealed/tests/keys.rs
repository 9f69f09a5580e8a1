//! Keys: rotations, epochs, the engines that hold them, and what is destroyed when they end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::{KeyService, KeyServiceError};

/// Options with epoch keys in a service.
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
    let clock = Arc::new(ManualClock::new());
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
    clock.advance_seconds(50);
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

/// Between two halves of a rotation: then whoever asks looks whether somebody is at it.
#[test]
fn whoever_asks_how_a_store_is_keeps_nobody_from_rotating_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService::default());
    let store = SealedStore::open(epochs(&folder, &service, "aral-epoch", 1)).unwrap();
    put(&store, "a", b"kept");
    store.rotate_epoch(&mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(!store.status().unwrap().is_under_way);
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !has_ended.load(Ordering::Acquire) {
                assert!(store.status().unwrap().is_rotating);
            }
        });
        let busy = (0..200_000).filter(|_| store.alone().is_err()).count();
        has_ended.store(true, Ordering::Release);
        assert_eq!(busy, 0);
    });
    let alone = store.alone().unwrap();
    assert!(store.alone().is_err() && store.status().unwrap().is_under_way);
    drop(alone);
    store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
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
            mount: self.mount().to_owned(),
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
        Err(StoreError::EpochKey(KeyServiceError::NotFound { .. }))
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
    /// Whether there is nothing in which a key could be made.
    is_nowhere: AtomicBool,
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
        if self.is_nowhere.load(Ordering::Relaxed) {
            return Err(KeyServiceError::NotFound {
                place: self.place(),
                mount: self.mount().to_owned(),
                key: key.to_owned(),
            });
        }
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

/// Whoever is told that a key is gone gives up the store; here nothing was sealed under it yet.
#[test]
fn a_key_that_cannot_be_made_for_a_new_epoch_is_not_told_as_one_that_is_gone() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let service = Arc::new(StubbornService::default());
    let store = SealedStore::open(epochs(&folder, &service, "aral-epoch", 1)).unwrap();
    put(&store, "a", b"kept");
    service.is_nowhere.store(true, Ordering::Relaxed);
    let refused = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(refused, StoreError::NoEpochKey(_)), "{refused:?}");
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
    let refused = SealedStore::open(epochs(&other, &service, "aral-epoch", 1)).unwrap_err();
    assert!(matches!(refused, StoreError::NoEpochKey(_)), "{refused:?}");
    service.is_nowhere.store(false, Ordering::Relaxed);
    store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"kept"[..]));
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
