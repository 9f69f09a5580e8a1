//! What is assembled does what the keys of the configuration say, each changed alone.

mod server;

use std::time::Duration;

use aral_contract::testing::ManualClock;
use aral_contract::{Classification, SecretValue};
use aral_memory::record::Usage;
use aral_memory::{Precondition, Quota, Write};
use aral_runtime::SystemClock;
use zeroize::Zeroizing;

use super::*;
use crate::testing::Kept;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A configuration whose store lies in a folder of its own; its master key was a variable.
struct Lab {
    folder: tempfile::TempDir,
    config: Config,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryConfig {
            dir: folder.path().join("store"),
            cache_bytes_max: 1 << 20,
            free_bytes_min: 0,
            sweep_ms: 3_600_000,
            master_key: MasterKeyPlace::Environment("KEY".to_owned()),
            epoch: None,
        };
        let key = ("KEY".to_owned(), SecretValue::new(KEY.as_bytes().to_vec()));
        let config = Config {
            memory: Some(memory),
            taken: Some(Taken::new([key]).unwrap()),
            ..Config::closed().unwrap()
        };
        Self { folder, config }
    }

    fn memory(&mut self) -> &mut MemoryConfig {
        self.config.memory.as_mut().unwrap()
    }

    fn storage(&self, clock: Arc<dyn Clock>) -> Storage {
        Storage::new(&self.config, clock).unwrap()
    }
}

fn put(store: &dyn RecordStore, ttl_seconds: Option<u64>) -> Result<u64, aral_memory::StoreError> {
    let write = Write {
        name: "todo".parse().unwrap(),
        value: Zeroizing::new(b"value".to_vec()),
        ttl_seconds,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    };
    store.put(&"notes".parse().unwrap(), write, &Quota::UNLIMITED)
}

fn usage(store: &dyn RecordStore) -> Usage {
    store.usage(&"notes".parse().unwrap()).unwrap()
}

#[test]
fn each_key_of_memory_reaches_the_store() {
    let mut lab = Lab::new();
    lab.memory().cache_bytes_max = 7 << 20;
    lab.memory().free_bytes_min = 9;
    let options = lab.storage(Arc::new(SystemClock::new())).options().unwrap();
    assert_eq!(options.path, lab.folder.path().join("store"));
    assert_eq!((options.cache_bytes, options.free_bytes_min), (7 << 20, 9));
    assert!(options.epoch.is_none());
    assert_eq!(options.key.id(), MasterKey::from_text(KEY.as_bytes()).unwrap().id());
    assert_eq!(options.holder, program());
    assert!(
        files::open_root(&options.path).is_err(),
        "nothing is opened before it is asked for"
    );
}

#[test]
fn too_little_free_disk_refuses_writes() {
    let mut lab = Lab::new();
    lab.memory().free_bytes_min = u64::MAX;
    let store = lab.storage(Arc::new(SystemClock::new())).open().unwrap();
    assert!(matches!(
        put(&*store.memory(), None),
        Err(aral_memory::StoreError::Full { .. })
    ));
    drop(store);
    lab.memory().free_bytes_min = 0;
    let store = lab.storage(Arc::new(SystemClock::new())).open().unwrap();
    assert_eq!(put(&*store.memory(), None).unwrap(), 1);
}

#[test]
fn a_host_removes_what_has_expired_once_it_opens_the_store_and_nobody_else_does() {
    let lab = Lab::new();
    let clock = Arc::new(ManualClock::new());
    let storage = lab.storage(Arc::clone(&clock) as _);
    let store = storage.open().unwrap();
    put(&*store.memory(), Some(10)).unwrap();
    drop(store);
    clock.advance(Duration::from_secs(11));
    // As by a verb that reads: its clock may be wrong.
    let slots_used = || storage.open().unwrap().status().unwrap().slots_used;
    assert_eq!(slots_used(), 1);
    assert_eq!(slots_used(), 1);
    // Also where it ends before any upkeep begins.
    storage.lazily(Arc::<Kept>::default()).unwrap().open_now().unwrap();
    assert_eq!(slots_used(), 0);
}

#[test]
fn expired_records_are_removed_as_often_as_the_key_says() {
    let removed_within = |sweep_ms: u64, tries: u32| {
        let mut lab = Lab::new();
        lab.memory().sweep_ms = sweep_ms;
        let clock = Arc::new(ManualClock::new());
        let lazy = lab
            .storage(Arc::clone(&clock) as _)
            .lazily(Arc::<Kept>::default())
            .unwrap();
        let memory = lazy.space(Space::Memory);
        put(&*memory, Some(10)).unwrap();
        clock.advance(Duration::from_secs(11));
        let namespace = "notes".parse().unwrap();
        assert!(
            memory.get(&namespace, &"todo".parse().unwrap()).unwrap().is_none(),
            "absent at once"
        );
        (0..tries).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            usage(&*memory).records == 0
        })
    };
    assert!(removed_within(10, 1000));
    assert!(!removed_within(3_600_000, 20));
}

#[test]
fn a_host_lets_go_of_its_store_when_it_ends() {
    let lab = Lab::new();
    let storage = lab.storage(Arc::new(SystemClock::new()));
    let lazy = storage.lazily(Arc::<Kept>::default()).unwrap();
    put(&*lazy.space(Space::Memory), None).unwrap();
    let held = storage.open().unwrap_err();
    assert_eq!(held.code, Code::Unavailable);
    assert!(held.message.contains(&program()), "{held}");
    drop(lazy);
    storage.open().unwrap();
}

#[test]
fn a_key_that_a_service_holds_is_named_and_not_put_back() {
    let hint = put_back("`service:transit/k`", Path::new("/store"));
    assert!(
        hint.starts_with("name the key `service:transit/k` in aral.toml"),
        "{hint}"
    );
    assert!(!hint.contains("copy"), "{hint}");
}

#[test]
fn variables_must_have_been_taken() {
    let mut lab = Lab::new();
    lab.config.taken = None;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let refused = Storage::new(&lab.config, Arc::clone(&clock)).unwrap_err();
    assert!(refused.hint.unwrap().contains("take_variables"));
    lab.config.taken = Some(Taken::default());
    let refused = lab.storage(Arc::clone(&clock)).open().unwrap_err();
    assert!(refused.message.contains("the variable `KEY` is not set"), "{refused}");
    lab.config.memory = None;
    lab.config.taken = None;
    let storage = lab.storage(clock);
    assert!(storage.lazily(Arc::<Kept>::default()).is_none());
    assert!(
        storage
            .open()
            .unwrap_err()
            .hint
            .unwrap()
            .contains("[memory.master_key]")
    );
    assert!(
        storage.secrets(None).unwrap().is_none(),
        "neither [memory] nor [secrets]"
    );
}

/// The value that another process has stored at `reference` meanwhile is seen after the time that the key says.
#[tokio::test]
async fn a_copy_of_a_secret_is_used_as_long_as_the_key_says() {
    for (ttl_ms, seen_at_once) in [(5000, false), (0, true)] {
        let mut lab = Lab::new();
        lab.config.secrets = Some(SecretsConfig {
            cache_ttl_ms: ttl_ms,
            ..SecretsConfig::default()
        });
        let clock = Arc::new(ManualClock::new());
        let storage = lab.storage(Arc::clone(&clock) as _);
        let store = storage.open().unwrap();
        let (mine, other) = (
            storage.secrets(Some(store.secrets())).unwrap().unwrap(),
            storage.secrets(Some(store.secrets())).unwrap().unwrap(),
        );
        let name = "api".parse().unwrap();
        let value = |text: &str| SecretValue::new(text.as_bytes().to_vec());
        mine.put(&name, &value("first value")).await.unwrap();
        assert_eq!(mine.get(&name).await.unwrap(), value("first value"));
        other.put(&name, &value("second value")).await.unwrap();
        let seen = mine.get(&name).await.unwrap();
        assert_eq!(seen == value("second value"), seen_at_once);
        clock.advance(Duration::from_millis(5001));
        assert_eq!(mine.get(&name).await.unwrap(), value("second value"));
    }
}

#[tokio::test]
async fn as_many_copies_are_kept_as_the_key_says() {
    for (entries_max, kept) in [(1, false), (2, true)] {
        let mut lab = Lab::new();
        lab.config.secrets = Some(SecretsConfig {
            cache_entries_max: entries_max,
            ..SecretsConfig::default()
        });
        let storage = lab.storage(Arc::new(ManualClock::new()));
        let store = storage.open().unwrap();
        let (mine, other) = (
            storage.secrets(Some(store.secrets())).unwrap().unwrap(),
            storage.secrets(Some(store.secrets())).unwrap().unwrap(),
        );
        let value = |text: &str| SecretValue::new(text.as_bytes().to_vec());
        for name in ["first", "second"] {
            let name = name.parse().unwrap();
            mine.put(&name, &value("old value")).await.unwrap();
            mine.get(&name).await.unwrap();
        }
        let first = "first".parse().unwrap();
        other.put(&first, &value("new value")).await.unwrap();
        let is_copy = mine.get(&first).await.unwrap() == value("old value");
        assert_eq!(is_copy, kept, "{entries_max}");
    }
}

#[tokio::test]
async fn each_name_is_looked_for_where_the_configuration_says() {
    let mut lab = Lab::new();
    let names = [("shell", "env://SHELL"), ("alias", "local://api")];
    lab.config.secrets = Some(SecretsConfig {
        names: names
            .map(|(name, reference)| (name.parse().unwrap(), reference.parse().unwrap()))
            .into_iter()
            .collect(),
        ..SecretsConfig::default()
    });
    let taken = [("KEY", KEY), ("SHELL", "of the shell")];
    let taken = taken.map(|(name, value)| (name.to_owned(), SecretValue::new(value.as_bytes().to_vec())));
    lab.config.taken = Some(Taken::new(taken).unwrap());
    assert!(!format!("{:?}", lab.config).contains("of the shell"));
    let storage = lab.storage(Arc::new(ManualClock::new()));
    let store = storage.open().unwrap();
    let secrets = storage.secrets(Some(store.secrets())).unwrap().unwrap();
    let get = async |name: &str| secrets.get(&name.parse().unwrap()).await;
    assert_eq!(get("shell").await.unwrap().expose(), b"of the shell");
    let value = SecretValue::new(b"of the store".to_vec());
    secrets.put(&"api".parse().unwrap(), &value).await.unwrap();
    assert_eq!(get("alias").await.unwrap(), value);
    assert!(get("other").await.is_err());
    // Without a store, what is not named is nowhere.
    let without = storage.secrets(None).unwrap().unwrap();
    assert_eq!(without.reference(&"other".parse().unwrap()), None);
}
