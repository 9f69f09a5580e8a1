//! What only the sealed store does: how it is opened, and what it has room for. What every backend does is in the contract tests.

mod check;
mod damage;
mod keys;
mod opening;
mod salvage;
mod together;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::id::Namespace;
use aral_contract::testing::ManualClock;
use aral_contract::{Classification, Clock};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::*;
use crate::record::{Operation, Precondition, Quota, RecordName, Write};

fn key(byte: u8) -> MasterKey {
    MasterKey::from_text(hex(&[byte; 32]).as_bytes()).unwrap()
}

fn options(folder: &tempfile::TempDir, key_byte: u8) -> StoreOptions {
    StoreOptions {
        free_bytes_min: 0,
        ..StoreOptions::new(folder.path().join("store"), key(key_byte), Arc::new(ManualClock::new()))
    }
}

fn with_clock(options: StoreOptions, clock: &Arc<ManualClock>) -> StoreOptions {
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
    let clock = Arc::new(ManualClock::new());
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
    clock.advance_seconds(10);
    assert!(store.sweep(10).is_err());
    let one = Quota {
        records_max: 1,
        ..Quota::UNLIMITED
    };
    let refused = memory.put(&namespace("notes"), write("new", b"y"), &one);
    assert!(matches!(refused, Err(StoreError::Quota { .. })), "{refused:?}");
}

#[test]
fn a_clock_that_is_ahead_for_a_moment_destroys_no_record_also_where_somebody_wants_room() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    let month = Write {
        ttl_seconds: Some(30 * 24 * 3600),
        ..write("short", b"x")
    };
    let memory = store.memory();
    memory.put(&namespace("other"), month, &Quota::UNLIMITED).unwrap();
    put(&store, "old", b"x");
    let one = Quota {
        records_max: 1,
        ..Quota::UNLIMITED
    };
    let is_there = || memory.get(&namespace("other"), &name("short")).unwrap().is_some();
    let year = jiff::SignedDuration::from_hours(24 * 365);
    clock.leap(year);
    assert!(!is_there(), "it cannot be read");
    let refused = memory.put(&namespace("notes"), write("new", b"y"), &one);
    assert!(matches!(refused, Err(StoreError::Quota { .. })), "{refused:?}");
    assert_eq!(store.sweep(10).unwrap().records, 0);
    clock.leap(-year);
    assert!(is_there());
    clock.advance(Duration::from_hours(24 * 31));
    assert_eq!(store.sweep(10).unwrap().records, 1);
    assert_eq!(store.status().unwrap().slots_used, 1, "its key is destroyed");
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
