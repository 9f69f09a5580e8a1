//! Opening what was damaged, or cut off while it was opened: no record is gone without a word, and nothing is lost by trying.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aral_contract::failure::chain;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use sha2::{Digest as _, Sha256};

use super::*;

pub(super) const RECORDS: usize = 400;
pub(super) const POSITIONS: usize = 50;

pub(super) fn name_of(index: usize) -> String {
    format!("name-{index}")
}

/// Writes some segments of records, each a few times.
pub(super) fn fill(store: &SealedStore) {
    let memory = store.memory();
    for first in (0..2 * RECORDS).step_by(20) {
        let puts = (first..first + 20).map(|index| Operation::Put(write(&name_of(index % RECORDS), &[7; 9000])));
        memory
            .apply(&namespace(NOTES), puts.collect(), &Quota::UNLIMITED)
            .unwrap();
    }
}

pub(super) fn path(folder: &tempfile::TempDir, file: &str) -> PathBuf {
    folder.path().join("store").join(file)
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
pub(super) fn content(folder: &tempfile::TempDir, file: &str) -> Vec<u8> {
    std::fs::read(path(folder, file)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn is_there(folder: &tempfile::TempDir, file: &str) -> bool {
    path(folder, file).exists()
}

#[expect(clippy::disallowed_methods, reason = "a test damages files")]
pub(super) fn lay_file(folder: &tempfile::TempDir, file: &str, content: &[u8]) {
    std::fs::write(path(folder, file), content).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn remove(folder: &tempfile::TempDir, file: &str) {
    std::fs::remove_file(path(folder, file)).unwrap();
}

/// Changes one bit at one of so many places of what is written.
pub(super) fn flip(database: &[u8], which: usize) -> Vec<u8> {
    let written = database.iter().rposition(|byte| *byte != 0).unwrap();
    let at = written / POSITIONS * which + which * 37 % 1000;
    let mut damaged = database.to_vec();
    damaged[at.min(written)] ^= 1 << (which % 8);
    damaged
}

/// Every name gives its value or an error.
fn assert_none_missing(store: &SealedStore, case: &str) {
    for index in 0..RECORDS {
        let found = store.memory().get(&namespace(NOTES), &name(&name_of(index)));
        match found {
            Ok(Some(record)) => assert_eq!(*record.value, [7; 9000], "{case}"),
            Ok(None) => panic!("{case}: `{}` is gone without a word", name_of(index)),
            Err(error) => assert!(error.is_damage(), "{case}: {error}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test lays out folders")]
#[test]
fn a_file_of_the_store_that_cannot_be_opened_is_told_with_its_whole_path() {
    let folder = tempfile::tempdir().unwrap();
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    remove(&folder, "lock");
    std::fs::create_dir(path(&folder, "lock")).unwrap();
    let refused = SealedStore::open(options(&folder, 1)).unwrap_err().to_string();
    let lock = path(&folder, "lock");
    assert_eq!(refused, format!("cannot open `{}`", lock.display()));
}

#[test]
fn a_bit_that_changed_in_the_log_loses_no_record_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    fill(&SealedStore::open(options(&folder, 1)).unwrap());
    let database = content(&folder, "records/db");
    let mut refused = 0;
    for which in 0..POSITIONS {
        let damaged = flip(&database, which);
        for is_closed in [true, false] {
            let case = format!("position {which}, closed: {is_closed}");
            let copy = copy_of(&folder);
            lay_file(&copy, "records/db", &damaged);
            if !is_closed {
                remove(&copy, "closed");
            }
            // Once more, since what sled made of it is there then.
            for _ in 0..2 {
                match SealedStore::open(options(&copy, 1)) {
                    Ok(store) => assert_none_missing(&store, &case),
                    Err(error) => {
                        assert!(matches!(error, StoreError::Corrupt { .. }), "{case}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > POSITIONS / 2, "{refused}");
}

#[test]
fn one_commit_alone_is_not_lost_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let killed = copy_of(&folder);
    drop(store);
    let mut database = content(&killed, "records/db");
    // The header of the only segment.
    database[3] ^= 1;
    lay_file(&killed, "records/db", &database);
    for _ in 0..2 {
        let error = SealedStore::open(options(&killed, 1)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

/// sled's own view of what lies there, once nobody else has it open.
fn database_of(records: &Path) -> sled::Db {
    let settings = sled::Config::new().path(records).segment_size(tree::SEGMENT_BYTES);
    loop {
        match settings.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn a_database_that_lost_its_commits_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..100 {
        put(&store, &name_of(index), b"value");
    }
    drop(store);
    let records = path(&folder, tree::NAME);
    std::fs::remove_dir_all(&records).unwrap();
    let other = database_of(&records);
    other.insert("other", "things").unwrap();
    other.flush().unwrap();
    drop(other);
    let error = SealedStore::open(options(&folder, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let other = database_of(&records);
    assert_eq!(
        other.iter().map(|entry| entry.unwrap().0).collect::<Vec<_>>(),
        ["other"]
    );
}

/// A store whose process was killed after it had written a hundred records, one of which its database has lost.
pub(super) fn with_a_loss() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..100 {
        put(&store, &name_of(index), b"value");
    }
    let lost = tree::key(tree::prefix::RECORD, &[&place(&store, &name_of(5))]);
    let killed = copy_of(&folder);
    drop(store);
    let database = database_of(&path(&killed, tree::NAME));
    assert!(database.remove(lost).unwrap().is_some());
    database.flush().unwrap();
    killed
}

#[test]
fn a_refused_opening_says_of_no_commit_that_it_is_on_the_disk() {
    let folder = with_a_loss();
    let slots = content(&folder, slots::NAME);
    for _ in 0..2 {
        let error = SealedStore::open(options(&folder, 1)).unwrap_err();
        assert!(error.to_string().contains("lost records"), "{error}");
        assert!(content(&folder, slots::NAME) == slots, "the slot file was touched");
        assert!(!is_there(&folder, "closed"));
    }
}

#[test]
fn after_a_failed_write_the_next_opening_writes_once_more_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    store.check_writable().unwrap();
    store.0.fail(&mut store.0.writer().unwrap());
    let refused = store.check_writable().unwrap_err();
    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
    assert!(is_there(&folder, open::UNSYNCED));
    // What only reads goes on.
    assert_eq!(store.status().unwrap().slots_used, 1);
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    assert_eq!(store.export(&to, &mut Vec::new(), &mut |_| {}).unwrap().records, 1);
    assert_eq!(check(&store, false).0.records, 1);
    drop(store);
    assert!(!is_there(&folder, "closed"));
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert!(!is_there(&folder, open::UNSYNCED));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    assert_eq!(put(&store, "a", b"two"), 2);
}

#[test]
fn a_sync_that_fails_when_the_store_is_closed_is_seen_to_by_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    // A pipe cannot be synced.
    let (_reader, pipe) = std::io::pipe().unwrap();
    Arc::get_mut(&mut store.0).unwrap().tree.file = File::from(std::os::fd::OwnedFd::from(pipe));
    drop(store);
    assert!(!is_there(&folder, "closed"));
    assert!(is_there(&folder, open::UNSYNCED));
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert!(!is_there(&folder, open::UNSYNCED));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    drop(store);
    assert!(is_there(&folder, "closed"));
}

#[test]
fn after_a_sync_that_failed_nothing_is_read_from_memory_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let get = |store: &SealedStore| store.memory().get(&namespace("notes"), &name("a"));
    for _ in 0..2 {
        assert!(get(&store).unwrap().is_some());
    }
    // A pipe cannot be synced.
    let (_reader, pipe) = std::io::pipe().unwrap();
    Arc::get_mut(&mut store.0).unwrap().tree.file = File::from(std::os::fd::OwnedFd::from(pipe));
    let written = store
        .memory()
        .put(&namespace("notes"), write("b", b"two"), &Quota::UNLIMITED);
    assert!(matches!(written, Err(StoreError::Io { .. })), "{written:?}");
    let read = get(&store).map(|found| found.is_some());
    assert!(matches!(read, Err(StoreError::Io { .. })), "{read:?}");
}

/// Opens the store and closes it again, and says whether its keyring was written.
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn writes_its_keyring(folder: &tempfile::TempDir) -> bool {
    let file = File::options().write(true).open(path(folder, keyring::NAME)).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    file.set_modified(long_ago).unwrap();
    drop(SealedStore::open(options(folder, 1)).unwrap());
    file.metadata().unwrap().modified().unwrap() != long_ago
}

#[test]
fn the_keyring_of_a_store_that_was_not_closed_is_written_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let killed = copy_of(&folder);
    drop(store);
    let before = content(&killed, keyring::NAME);
    assert!(writes_its_keyring(&killed));
    assert!(content(&killed, keyring::NAME) == before, "it says what it said");
    assert!(!writes_its_keyring(&killed), "it was closed now");
    assert!(!writes_its_keyring(&folder));
    lay_file(&folder, open::UNSYNCED, b"");
    assert!(writes_its_keyring(&folder));
    assert!(!writes_its_keyring(&folder));
    let store = SealedStore::open(options(&killed, 1)).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test lays out folders")]
fn a_folder_of_somebody_else_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&store, mode).unwrap();
    lay_file(&folder, "notes.txt", b"");
    let error = SealedStore::open(options(&folder, 1)).unwrap_err();
    assert!(
        matches!(&error, StoreError::NotAStore { path } if *path == store),
        "{error}"
    );
    let entries = std::fs::read_dir(&store).unwrap();
    let left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"], "nothing is made in it");
    // Beside a store it is in nobody's way, and a store that has lost its keyring is no such folder.
    remove(&folder, "notes.txt");
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    lay_file(&folder, "notes.txt", b"");
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    remove(&folder, keyring::NAME);
    let error = SealedStore::open(options(&folder, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_damaged_format_of_one_page_shuts_no_store_and_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    drop(store);
    let whole = content(&folder, keyring::NAME);
    for from in [0, page::BYTES] {
        for at in 8..12 {
            let mut damaged = whole.clone();
            damaged[from + at] ^= 1;
            lay_file(&folder, keyring::NAME, &damaged);
            let store = SealedStore::open(options(&folder, 1)).unwrap();
            assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
            drop(store);
            let mended = content(&folder, keyring::NAME);
            assert!(mended[..page::BYTES] == mended[page::BYTES..], "byte {}", from + at);
            assert_eq!(mended[8..12], keyring::FORMAT.to_le_bytes());
        }
    }
}

#[test]
fn a_whole_page_of_a_newer_format_shuts_the_store_whatever_the_other_page_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    let whole = content(&folder, keyring::NAME);
    let (one, two) = whole.split_at(page::BYTES);
    let newer = {
        let mut newer = one[..page::BYTES - 32].to_vec();
        newer[8..12].copy_from_slice(&(keyring::FORMAT + 1).to_le_bytes());
        let checksum = Sha256::digest(&newer);
        newer.extend_from_slice(&checksum);
        newer
    };
    let torn = vec![7; page::BYTES];
    let (newer, torn) = (newer.as_slice(), torn.as_slice());
    for pages in [[newer, two], [one, newer], [newer, torn], [torn, newer]] {
        let pages = pages.concat();
        lay_file(&folder, keyring::NAME, &pages);
        let error = SealedStore::open(options(&folder, 1)).unwrap_err();
        assert!(matches!(error, StoreError::Version { found: 2, known: 1 }), "{error}");
        assert!(content(&folder, keyring::NAME) == pages, "it was written to");
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    for (file, is_salvaged) in [
        (keyring::NAME, false),
        (slots::NAME, false),
        ("records/db", false),
        ("records/conf", true),
        ("records/snap.00", true),
    ] {
        for is_closed in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            drop(SealedStore::open(options(&folder, 1)).unwrap());
            if !is_closed {
                remove(&folder, "closed");
            }
            if is_there(&folder, file) {
                remove(&folder, file);
            }
            mknodat(CWD, path(&folder, file), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let told = |error: StoreError| {
                let text = chain(&error);
                assert!(text.contains("is not a regular file"), "{file}: {text}");
            };
            if file == keyring::NAME {
                told(SealedStore::keys_wanted(&folder.path().join("store")).unwrap_err());
            }
            // Of the other files none is copied that is no regular one.
            if !is_salvaged {
                told(Salvage::open(options(&folder, 1), &folder.path().join("copy")).unwrap_err());
            }
            told(SealedStore::open(options(&folder, 1)).unwrap_err());
        }
    }
}

#[test]
fn a_link_in_place_of_a_file_is_refused_by_the_name_of_the_file() {
    for file in [keyring::NAME, slots::NAME, "records/db"] {
        let folder = tempfile::tempdir().unwrap();
        drop(SealedStore::open(options(&folder, 1)).unwrap());
        let moved = format!("{file}.moved");
        lay_file(&folder, &moved, &content(&folder, file));
        remove(&folder, file);
        let name = path(&folder, &moved);
        std::os::unix::fs::symlink(name.file_name().unwrap(), path(&folder, file)).unwrap();
        let text = chain(&SealedStore::open(options(&folder, 1)).unwrap_err());
        assert!(text.contains(&format!("`{file}` is not a regular file")), "{text}");
    }
}

/// It says the same as the mark, and a start that fails neither opens it nor waits for it.
#[test]
fn a_pipe_or_a_link_in_place_of_the_mark_of_a_failed_write_is_left_alone_until_the_store_opens() {
    const CONF: &str = "records/conf";
    for is_pipe in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, "a", b"one");
        drop(store);
        let pipe = |file: &str| mknodat(CWD, path(&folder, file), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        if is_pipe {
            pipe(open::UNSYNCED);
        } else {
            std::os::unix::fs::symlink(keyring::NAME, path(&folder, open::UNSYNCED)).unwrap();
        }
        let (conf, keys) = (content(&folder, CONF), content(&folder, keyring::NAME));
        remove(&folder, CONF);
        pipe(CONF);
        let error = SealedStore::open(options(&folder, 1)).unwrap_err();
        let text = chain(&error);
        assert!(text.contains("is not a regular file"), "{text}");
        assert!(content(&folder, keyring::NAME) == keys, "the keyring is another");
        remove(&folder, CONF);
        lay_file(&folder, CONF, &conf);
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
        assert!(!is_there(&folder, open::UNSYNCED));
    }
}

#[test]
fn slots_of_another_format_than_the_keyring_are_damage_and_no_newer_version() {
    let folder = tempfile::tempdir().unwrap();
    drop(SealedStore::open(options(&folder, 1)).unwrap());
    let whole = content(&folder, slots::NAME);
    for at in 8..12 {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        lay_file(&folder, slots::NAME, &damaged);
        let error = SealedStore::open(options(&folder, 1)).unwrap_err();
        let is_told = matches!(
            error,
            StoreError::Corrupt {
                what: StoreError::SLOTS_FORMAT
            }
        );
        assert!(is_told, "{error}");
    }
}

#[test]
fn a_keyring_that_cannot_be_replaced_is_seen_to_by_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    // A pipe cannot be written at an offset, or synced.
    let (_reader, pipe) = std::io::pipe().unwrap();
    store.0.writer().unwrap().keyring.file = File::from(std::os::fd::OwnedFd::from(pipe));
    let failed = store.rotate_key(&key(2), &mut |_| {}).unwrap_err();
    assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
    assert!(is_there(&folder, open::UNSYNCED));
    drop(store);
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert!(!is_there(&folder, open::UNSYNCED));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test makes a folder that is in the way")]
fn what_fails_when_the_store_is_opened_is_seen_to_by_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    drop(store);
    // Is removed before sled sees it, and cannot be.
    let in_the_way = path(&folder, "records/snap.0.generating");
    std::fs::create_dir(&in_the_way).unwrap();
    let error = SealedStore::open(options(&folder, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(is_there(&folder, open::UNSYNCED));
    std::fs::remove_dir(&in_the_way).unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    assert!(!is_there(&folder, open::UNSYNCED));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
}

/// Grows the slot file of a store by slots of which the disk has nothing, opens the store, and says how many bytes of them the
/// disk has then.
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn written_to_free_slots(folder: &tempfile::TempDir) -> u64 {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path(folder, slots::NAME))
        .unwrap();
    file.set_len(file.metadata().unwrap().len() + FREE_BYTES).unwrap();
    file.sync_all().unwrap();
    let bytes = || file.metadata().unwrap().blocks() * 512;
    let before = bytes();
    let store = SealedStore::open(options(folder, 1)).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
    bytes() - before
}

const FREE_BYTES: u64 = 1 << 20;

#[test]
fn what_is_free_in_a_store_that_was_not_closed_is_overwritten_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let killed = copy_of(&folder);
    drop(store);
    assert!(written_to_free_slots(&killed) >= FREE_BYTES);
    assert!(written_to_free_slots(&folder) < FREE_BYTES, "it was closed");
}
