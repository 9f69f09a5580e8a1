//! Opening what was damaged, or cut off while it was opened: no record is gone without a word, and nothing is lost by trying.

use std::path::{Path, PathBuf};

use super::*;

fn name_of(index: usize) -> String {
    format!("name-{index}")
}

fn path(folder: &tempfile::TempDir, file: &str) -> PathBuf {
    folder.path().join("store").join(file)
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn content(folder: &tempfile::TempDir, file: &str) -> Vec<u8> {
    std::fs::read(path(folder, file)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn is_there(folder: &tempfile::TempDir, file: &str) -> bool {
    path(folder, file).exists()
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
fn with_a_loss() -> tempfile::TempDir {
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
