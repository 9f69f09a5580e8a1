//! What is left of a store that lost records: it comes out whole, nobody is told that it is all, and the store stays as it was.

use std::ops::ControlFlow;
use std::path::Path;

use super::opening::{POSITIONS, RECORDS, content, fill, flip, lay_file, name_of, path, with_a_loss};
use super::*;
use crate::{BackupError, BackupPrivateKey};

/// Every file of a closed store but the one that says who has it.
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn files_of(folder: &tempfile::TempDir) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fn gather(folder: &Path, files: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, files);
            } else if path.file_name().unwrap() != holder::NAME {
                files.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    // sled's own threads have let go of it.
    let database = std::fs::File::open(path(folder, "records/db")).unwrap();
    tree::lock_when_closed(&database).unwrap();
    let mut files = Vec::new();
    gather(&folder.path().join("store"), &mut files);
    files.sort();
    files
}

/// What a salvage comes to, its backup, and what it told of each record that is missing.
struct Told {
    salvaged: Salvaged,
    backup: Vec<u8>,
    lost: Vec<Damaged>,
}

/// Salvages a store, and sees to it that nothing of it is touched and that nothing else stays.
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn salvage(folder: &tempfile::TempDir, options: StoreOptions, to: &BackupPrivateKey) -> Told {
    let before = files_of(folder);
    let copy = folder.path().join("copy");
    let salvage = Salvage::open(options, &copy).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    assert!(
        salvage
            .store
            .memory()
            .put(&namespace(NOTES), write("more", b"text"), &Quota::UNLIMITED)
            .is_err(),
        "it takes no writes"
    );
    assert!(salvage.store.sweep(10).is_err());
    let (mut backup, mut lost) = (Vec::new(), Vec::new());
    let salvaged = salvage
        .export(&to.public_key(), &mut backup, &mut |_| {}, &mut |one| lost.push(one))
        .unwrap();
    drop(salvage);
    assert!(files_of(folder) == before, "the store was touched");
    assert!(!copy.exists(), "the copy is still there");
    assert_eq!(lost.len() as u64, salvaged.lost);
    Told { salvaged, backup, lost }
}

/// A new store with what a backup holds.
fn restored(backup: &[u8], with: &BackupPrivateKey) -> (tempfile::TempDir, SealedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 7)).unwrap();
    let mut from = std::io::Cursor::new(backup);
    store
        .import(with, &mut from, Existing::Keep, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    (folder, store)
}

/// A closed store with three commits, of which the log has lost the end, and the last of them with it.
fn with_a_lost_end() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    put(&store, "b", b"two");
    let kept = written(&content(&folder, "records/db"));
    put(&store, "c", b"three");
    drop(store);
    let mut database = content(&folder, "records/db");
    assert!(written(&database) > kept);
    database[kept..].fill(0);
    lay_file(&folder, "records/db", &database);
    let tried = copy_of(&folder);
    let error = SealedStore::open(options(&tried, 1)).unwrap_err();
    assert!(error.to_string().contains("older than its keys"), "{error}");
    folder
}

/// How many bytes of a database are written.
fn written(database: &[u8]) -> usize {
    database.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn what_is_left_of_a_store_that_lost_its_last_commit_is_restored_elsewhere() {
    let folder = with_a_lost_end();
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&folder, options(&folder, 1), &to);
    let found = told.salvaged;
    assert_eq!((found.saved.records, found.lost), (2, 1), "{found:?}");
    assert_eq!((found.commit, found.known_commit), (Some(2), Some(3)), "{found:?}");
    assert!(!found.is_whole() && found.commits_lost() == Some(1));
    let lost = told.lost.first().unwrap();
    assert_eq!(
        (&lost.namespace, &lost.name, lost.is_secret),
        (&Some(namespace(NOTES)), &None, false),
        "nothing says its name any more"
    );
    let (_other, store) = restored(&told.backup, &to);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    assert_eq!(value(&store, "b").as_deref(), Some(&b"two"[..]));
    assert_eq!(value(&store, "c"), None);
    // Again, and it still does not open.
    assert_eq!(salvage(&folder, options(&folder, 1), &to).salvaged, found);
    assert!(SealedStore::open(options(&folder, 1)).is_err());
}

#[test]
fn what_lies_behind_a_torn_message_is_not_lost_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..10 {
        put(&store, &name_of(index), b"value");
    }
    let torn = written(&content(&folder, "records/db"));
    for index in 10..20 {
        put(&store, &name_of(index), b"value");
    }
    drop(store);
    let mut database = content(&folder, "records/db");
    // In the body of the first message behind.
    database[torn + 20] ^= 1;
    lay_file(&folder, "records/db", &database);
    let tried = copy_of(&folder);
    SealedStore::open(options(&tried, 1)).unwrap_err();
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&folder, options(&folder, 1), &to);
    let found = told.salvaged;
    assert_eq!(found.saved.records + found.lost, 20, "{found:?}");
    assert!(found.lost <= 1 && !found.is_whole(), "{found:?}");
    let (_other, store) = restored(&told.backup, &to);
    let restored = (0..20).filter(|index| value(&store, &name_of(*index)).as_deref() == Some(&b"value"[..]));
    assert_eq!(restored.count() as u64, found.saved.records);
}

#[test]
fn one_record_that_the_middle_of_the_database_lost_costs_no_other() {
    let folder = with_a_loss();
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&folder, options(&folder, 1), &to);
    let found = told.salvaged;
    // Its log may still have what was taken out of the database.
    let is_found = found.lost == 0;
    assert_eq!(found.saved.records + found.lost, 100, "{found:?}");
    assert!(found.lost <= 1 && !found.is_whole(), "{found:?}");
    let (_other, store) = restored(&told.backup, &to);
    for index in 0..100 {
        let expected = (index != 5 || is_found).then_some(&b"value"[..]);
        assert_eq!(value(&store, &name_of(index)).as_deref(), expected, "{index}");
    }
}

#[test]
fn where_sled_makes_nothing_of_its_log_each_whole_message_of_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    fill(&store);
    // One that lies in parts, one that was replaced, and one that is gone.
    for value in [&[1; 100_000][..], &[2; 100_000]] {
        put(&store, "large", value);
        put(&store, "deleted", value);
    }
    store
        .memory()
        .delete(&namespace(NOTES), &name("deleted"), Precondition::Any)
        .unwrap();
    drop(store);
    let before = files_of(&folder);
    let to = BackupPrivateKey::generate().unwrap();
    let copy = folder.path().join("copy");
    let salvage = Salvage::open_as(options(&folder, 1), &copy, super::super::salvage::empty).unwrap();
    let mut backup = Vec::new();
    let salvaged = salvage.export(&to.public_key(), &mut backup, &mut |_| {}, &mut |_| {});
    let salvaged = salvaged.unwrap();
    drop(salvage);
    assert_eq!(
        (salvaged.saved.records, salvaged.lost),
        (RECORDS as u64 + 1, 0),
        "{salvaged:?}"
    );
    assert!(!salvaged.is_whole(), "nobody can say so");
    assert!(files_of(&folder) == before, "the store was touched");
    let (_other, store) = restored(&backup, &to);
    assert_eq!(value(&store, "large").unwrap(), [2; 100_000]);
    assert_eq!(value(&store, &name_of(0)).unwrap(), [7; 9000]);
    assert_eq!(value(&store, "deleted"), None);
}

#[test]
fn whatever_bit_changed_nothing_comes_out_that_nobody_wrote_and_every_key_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    fill(&SealedStore::open(options(&folder, 1)).unwrap());
    let database = content(&folder, "records/db");
    let to = BackupPrivateKey::generate().unwrap();
    let mut saved = 0;
    for which in (0..POSITIONS).rev().step_by(4) {
        let damaged = copy_of(&folder);
        lay_file(&damaged, "records/db", &flip(&database, which));
        let salvage = match Salvage::open(options(&damaged, 1), &damaged.path().join("copy")) {
            Ok(salvage) => salvage,
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt { .. }), "{which}: {error}");
                continue;
            }
        };
        let mut backup = Vec::new();
        let salvaged = salvage.export(&to.public_key(), &mut backup, &mut |_| {}, &mut |_| {});
        let salvaged = salvaged.unwrap();
        let all = salvaged.saved.records + salvaged.lost + salvaged.unfinished;
        assert_eq!(all, RECORDS as u64, "{which}: {salvaged:?}");
        let mut from = std::io::Cursor::new(backup);
        let mut reader = crate::backup::Reader::begin(&to, &mut from).unwrap();
        let mut read = || -> Result<u64, BackupError> {
            let mut count = 0;
            while let Some(kept) = reader.next()? {
                assert_eq!(*kept.value, [7; 9000], "{which}");
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(read().unwrap(), salvaged.saved.records, "{which}");
        saved += salvaged.saved.records;
    }
    assert!(saved > 0, "nothing of any of them");
}

#[test]
fn what_was_deleted_or_replaced_does_not_come_back_with_an_older_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for name in ["kept", "replaced", "deleted"] {
        put(&store, name, b"old");
    }
    drop(store);
    let older = copy_of(&folder);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "replaced", b"new");
    store
        .memory()
        .delete(&namespace(NOTES), &name("deleted"), Precondition::Any)
        .unwrap();
    drop(store);
    for file in ["slots", "keyring"] {
        lay_file(&older, file, &content(&folder, file));
    }
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&older, options(&older, 1), &to);
    let found = told.salvaged;
    assert_eq!((found.saved.records, found.lost), (1, 1), "{found:?}");
    let (_other, store) = restored(&told.backup, &to);
    assert_eq!(value(&store, "kept").as_deref(), Some(&b"old"[..]));
    assert_eq!((value(&store, "replaced"), value(&store, "deleted")), (None, None));
}

#[test]
fn of_a_whole_store_nothing_is_missing_and_a_damaged_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for name in ["a", "b"] {
        put(&store, name, b"value");
    }
    let place = hex(&place(&store, "a"));
    let killed = copy_of(&folder);
    drop(store);
    let to = BackupPrivateKey::generate().unwrap();
    for whole in [&folder, &killed] {
        let found = salvage(whole, options(whole, 1), &to).salvaged;
        assert!(found.is_whole() && found.saved.records == 2, "{found:?}");
    }
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    damage(&store, "a", |entry| *entry.last_mut().unwrap() ^= 1);
    drop(store);
    let told = salvage(&folder, options(&folder, 1), &to);
    assert_eq!((told.salvaged.saved.records, told.salvaged.lost), (1, 1));
    let lost = told.lost.first().unwrap();
    assert_eq!((&lost.name, &lost.place), (&Some(name("a")), &place));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn whoever_may_not_open_the_store_salvages_nothing() {
    let folder = with_a_lost_end();
    let before = files_of(&folder);
    let copy = folder.path().join("copy");
    let error = Salvage::open(options(&folder, 2), &copy).unwrap_err();
    assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
    let held = Salvage::open(options(&folder, 1), &copy).unwrap();
    for other in ["copy", "other"] {
        let error = Salvage::open(options(&folder, 1), &folder.path().join(other)).unwrap_err();
        assert!(matches!(error, StoreError::Held { .. }), "{error}");
    }
    drop(held);
    // Somebody else's folder is not taken for a copy.
    std::fs::create_dir(&copy).unwrap();
    let error = Salvage::open(options(&folder, 1), &copy).unwrap_err();
    assert!(matches!(error, StoreError::Files(_)) && copy.exists(), "{error}");
    // Nowhere is anything made.
    let nowhere = tempfile::tempdir().unwrap();
    let error = Salvage::open(options(&nowhere, 1), &nowhere.path().join("copy")).unwrap_err();
    assert!(matches!(error, StoreError::Files(_)), "{error}");
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
    assert!(files_of(&folder) == before);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn a_copy_that_has_no_room_is_not_made() {
    let folder = with_a_lost_end();
    let copy = folder.path().join("copy");
    let full = StoreOptions {
        free_bytes_min: u64::MAX / 2,
        ..options(&folder, 1)
    };
    let error = Salvage::open(full, &copy).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(!copy.exists());
    assert!(path(&folder, "slots").exists());
}

#[test]
fn a_damaged_slot_does_not_say_how_many_commits_there_were() {
    let folder = with_a_lost_end();
    let mut slots = content(&folder, slots::NAME);
    // Of the last slot, which is free.
    let from = slots.len() - slots::SLOT_BYTES;
    slots[from..].fill(0x5a);
    lay_file(&folder, slots::NAME, &slots);
    let to = BackupPrivateKey::generate().unwrap();
    let found = salvage(&folder, options(&folder, 1), &to).salvaged;
    assert_eq!((found.lost, found.known_commit), (2, Some(3)), "{found:?}");
}

#[test]
fn records_are_found_by_their_changes_where_no_page_of_them_is_whole() {
    const COUNT: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..COUNT {
        put(&store, &name_of(index), b"value");
    }
    drop(store);
    let mut database = content(&folder, "records/db");
    let mut torn = 0;
    for segment in database.chunks_mut(tree::SEGMENT_BYTES) {
        let mut at = segments::HEADER_BYTES;
        while at < segment.len() {
            let Some(found) = segments::message(segment, at) else {
                at += 1;
                continue;
            };
            at = found.end;
            if found.kind == carve::NODE {
                segment[found.body] ^= 1;
                torn += 1;
            }
        }
    }
    assert!(torn > 10, "{torn}");
    lay_file(&folder, "records/db", &database);
    let to = BackupPrivateKey::generate().unwrap();
    let (found, backup) = salvage_the_log(&folder, &to);
    assert_eq!(found.saved.records + found.lost, COUNT as u64, "{found:?}");
    // One change of some is written as a node, and nothing else says it.
    assert!(found.saved.records > COUNT as u64 * 2 / 3, "{found:?}");
    let (_other, store) = restored(&backup, &to);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!(usage.records, found.saved.records);
}

#[test]
fn the_header_of_the_slot_file_costs_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"value");
    }
    drop(store);
    let slots = content(&folder, slots::NAME);
    let to = BackupPrivateKey::generate().unwrap();
    // All of it, what kind of file it is, its format, and whose it is.
    for part in [0..slot_header::BYTES, 0..1, 8..9, 12..13] {
        let mut damaged = slots.clone();
        damaged[part].iter_mut().for_each(|byte| *byte ^= 0xff);
        lay_file(&folder, slots::NAME, &damaged);
        let found = salvage(&folder, options(&folder, 1), &to).salvaged;
        assert_eq!((found.saved.records, found.lost), (2, 0), "{found:?}");
        assert_eq!(found.unreadable_bytes, 4096, "{found:?}");
        assert!(!found.is_whole(), "nobody can say so: {found:?}");
        assert_eq!((found.known_commit, found.commits_lost()), (None, None), "{found:?}");
    }
    // Where there is nothing but that, nothing can be made of it.
    lay_file(&folder, slots::NAME, &[0xff; 100]);
    let error = Salvage::open(options(&folder, 1), &folder.path().join("copy")).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn slots_of_another_store_or_another_format_are_told_as_that_and_not_as_lost() {
    let store_with = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, text, b"value");
        drop(store);
        folder
    };
    let (folder, other) = (store_with("a"), store_with("b"));
    let refused = |slots: &[u8]| {
        lay_file(&folder, slots::NAME, slots);
        let copy = folder.path().join("copy");
        let error = Salvage::open(options(&folder, 1), &copy).unwrap_err();
        assert!(!copy.exists());
        error
    };
    let own = content(&folder, slots::NAME);
    let error = refused(&content(&other, slots::NAME));
    assert!(error.to_string().contains("that of another store"), "{error}");
    // Slots of a format that nobody knows yet, and that the keyring does not have.
    let mut other_format = own.clone();
    other_format[8..12].copy_from_slice(&(keyring::FORMAT + 1).to_le_bytes());
    let in_use = other_format[slot_header::BYTES..].iter_mut().filter(|byte| **byte != 0);
    in_use.for_each(|byte| *byte ^= 1);
    let error = refused(&other_format);
    assert!(
        error.to_string().contains("whose format is not that of the keyring"),
        "{error}"
    );
    // Nothing came of it.
    lay_file(&folder, slots::NAME, &own);
    let to = BackupPrivateKey::generate().unwrap();
    assert!(salvage(&folder, options(&folder, 1), &to).salvaged.is_whole());
}

#[test]
fn without_the_header_of_the_slot_file_only_what_is_lost_says_how_many_commits_there_were() {
    let without_header = |folder: &tempfile::TempDir| {
        let mut slots = content(folder, slots::NAME);
        slots[..slot_header::BYTES].fill(0xff);
        lay_file(folder, slots::NAME, &slots);
    };
    let to = BackupPrivateKey::generate().unwrap();
    let folder = with_a_lost_end();
    without_header(&folder);
    let found = salvage(&folder, options(&folder, 1), &to).salvaged;
    assert_eq!((found.lost, found.commit), (1, Some(2)), "{found:?}");
    assert_eq!(
        (found.known_commit, found.commits_lost()),
        (Some(3), Some(1)),
        "{found:?}"
    );
    // One of a commit that is there says nothing of what came after.
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"value");
    }
    damage(&store, "a", |entry| *entry.last_mut().unwrap() ^= 1);
    drop(store);
    without_header(&folder);
    let found = salvage(&folder, options(&folder, 1), &to).salvaged;
    assert_eq!((found.lost, found.commit), (1, Some(2)), "{found:?}");
    assert_eq!((found.known_commit, found.commits_lost()), (None, None), "{found:?}");
}

#[test]
fn a_record_behind_a_tear_is_not_hidden_by_an_older_one_that_had_its_slot() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"first");
    let first = store.0.entry(&place(&store, "a")).unwrap().unwrap().header.slot;
    let torn = written(&content(&folder, "records/db"));
    put(&store, "a", b"second");
    put(&store, "a", b"third");
    let third = store.0.entry(&place(&store, "a")).unwrap().unwrap().header.slot;
    assert_eq!(first, third, "the slot is used again");
    drop(store);
    let mut database = content(&folder, "records/db");
    // In the body of the first message of the second.
    database[torn + 20] ^= 1;
    lay_file(&folder, "records/db", &database);
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&folder, options(&folder, 1), &to);
    let found = told.salvaged;
    assert_eq!((found.saved.records, found.lost), (1, 0), "{found:?}");
    let (_other, store) = restored(&told.backup, &to);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"third"[..]));
}

/// A store with the keys of a record and of what was written in its place, and how much of its log there was before that.
fn with_both_keys() -> (tempfile::TempDir, usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", &[1; 100_000]);
    let before = content(&folder, slots::NAME);
    let kept = written(&content(&folder, "records/db"));
    put(&store, "a", &[2; 100_000]);
    drop(store);
    let mut both = content(&folder, slots::NAME);
    let pairs = both.chunks_mut(slots::SLOT_BYTES).zip(before.chunks(slots::SLOT_BYTES));
    for (new, old) in pairs.filter(|(new, _)| new.iter().all(|byte| *byte == 0)) {
        new.copy_from_slice(old);
    }
    lay_file(&folder, slots::NAME, &both);
    (folder, kept)
}

/// What is salvaged where all is looked up in the log.
fn salvage_the_log(folder: &tempfile::TempDir, to: &BackupPrivateKey) -> (Salvaged, Vec<u8>) {
    let copy = folder.path().join("copy");
    let salvage = Salvage::open_as(options(folder, 1), &copy, super::super::salvage::empty).unwrap();
    let mut backup = Vec::new();
    let salvaged = salvage.export(&to.public_key(), &mut backup, &mut |_| {}, &mut |_| {});
    (salvaged.unwrap(), backup)
}

#[test]
fn a_write_that_was_cut_off_does_not_hide_the_record_that_it_was_to_replace() {
    let (folder, kept) = with_both_keys();
    let to = BackupPrivateKey::generate().unwrap();
    // All of the new one is there: it counts.
    let (found, backup) = salvage_the_log(&folder, &to);
    assert_eq!(
        (found.saved.records, found.lost, found.unfinished),
        (1, 0, 1),
        "{found:?}"
    );
    let (_other, store) = restored(&backup, &to);
    assert_eq!(value(&store, "a").unwrap(), [2; 100_000]);
    // Each part of its value is torn; what was there before may end with bytes that are zero.
    let mut database = content(&folder, "records/db");
    database[kept + 64..]
        .iter_mut()
        .step_by(8192)
        .for_each(|byte| *byte ^= 1);
    lay_file(&folder, "records/db", &database);
    let (found, backup) = salvage_the_log(&folder, &to);
    assert_eq!((found.saved.records, found.lost), (1, 1), "{found:?}");
    let (_other, store) = restored(&backup, &to);
    assert_eq!(value(&store, "a").unwrap(), [1; 100_000]);
}

#[test]
fn a_newer_record_that_the_log_alone_has_is_written_and_the_older_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"first");
    put(&store, "b", b"damaged");
    damage(&store, "b", |entry| *entry.last_mut().unwrap() ^= 1);
    drop(store);
    let cut = copy_of(&folder);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"second");
    drop(store);
    // The keys of both, in this order, with that of what is damaged between them.
    let mut slots = content(&cut, slots::NAME);
    let after = content(&folder, slots::NAME);
    let mut new = 0;
    for (old, later) in slots.chunks_mut(slots::SLOT_BYTES).zip(after.chunks(slots::SLOT_BYTES)) {
        if old.iter().all(|byte| *byte == 0) && later.iter().any(|byte| *byte != 0) {
            old.copy_from_slice(later);
            new += 1;
        }
    }
    assert_eq!(new, 1);
    lay_file(&cut, slots::NAME, &slots);
    // Behind, in segments that sled takes for free ones.
    let mut database = content(&cut, "records/db");
    database.resize(database.len().next_multiple_of(tree::SEGMENT_BYTES), 0);
    for segment in content(&folder, "records/db").chunks_mut(tree::SEGMENT_BYTES) {
        segment[..segments::HEADER_BYTES].fill(0);
        database.extend_from_slice(segment);
    }
    lay_file(&cut, "records/db", &database);
    let to = BackupPrivateKey::generate().unwrap();
    let told = salvage(&cut, options(&cut, 1), &to);
    let found = told.salvaged;
    assert_eq!(
        (found.saved.records, found.lost, found.unfinished),
        (1, 1, 1),
        "{found:?}"
    );
    let (_other, store) = restored(&told.backup, &to);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"second"[..]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test takes rights away")]
fn a_store_that_may_only_be_read_is_salvaged() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = with_a_lost_end();
    let store = folder.path().join("store");
    let allow = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for file in [holder::NAME, slots::NAME, keyring::NAME, "records/db"] {
        allow(&path(&folder, file), 0o400);
    }
    allow(&store, 0o500);
    let to = BackupPrivateKey::generate().unwrap();
    let found = salvage(&folder, options(&folder, 1), &to).salvaged;
    allow(&store, 0o700);
    assert_eq!((found.saved.records, found.lost), (2, 1), "{found:?}");
}
