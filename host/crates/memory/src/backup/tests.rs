//! A backup goes into another store whole, and not at all if anything is wrong with it.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_runtime::SystemClock;
use zeroize::Zeroizing;

use super::*;
use crate::record::{Operation, Precondition, Quota, Write};
use crate::sealed::{Existing, Imported, SealedStore, Step, Steps, StoreOptions, Tally};
use crate::{MasterKey, RecordStore};

fn store(folder: &tempfile::TempDir, name: &str) -> SealedStore {
    store_with(folder, name, Steps::default())
}

fn store_with(folder: &tempfile::TempDir, name: &str, steps: Steps) -> SealedStore {
    let key = MasterKey::from_text("5a".repeat(32).as_bytes()).unwrap();
    let options = StoreOptions {
        free_bytes_min: 0,
        steps,
        ..StoreOptions::new(folder.path().join(name), key, Arc::new(SystemClock::new()))
    };
    SealedStore::open(options).unwrap()
}

fn write(name: &str, value: &[u8], ttl_seconds: Option<u64>) -> Write {
    Write {
        name: name.parse().unwrap(),
        value: Zeroizing::new(value.to_vec()),
        ttl_seconds,
        classification: Classification::Confidential,
        precondition: Precondition::Any,
    }
}

fn put(space: &dyn RecordStore, namespace: &str, name: &str, value: &[u8], ttl_seconds: Option<u64>) {
    let write = write(name, value, ttl_seconds);
    space
        .put(&namespace.parse().unwrap(), write, &Quota::UNLIMITED)
        .unwrap();
}

fn get(space: &dyn RecordStore, namespace: &str, name: &str) -> Option<crate::Record> {
    let namespace: Namespace = namespace.parse().unwrap();
    space.get(&namespace, &name.parse().unwrap()).unwrap()
}

fn backup(from: &SealedStore, to: &BackupPublicKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.export(to, &mut bytes, &mut |_| {}).unwrap();
    bytes
}

#[test]
fn a_backup_restores_every_record_of_both_spaces_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder, "from");
    let large = vec![9; 200_000];
    put(&*from.memory(), "notes", "a", b"one", None);
    put(&*from.memory(), "notes", "a", b"two", Some(1000));
    put(&*from.memory(), "other", "large", &large, None);
    put(&*from.secrets(), "secrets", "token", b"hunter22", None);
    let key = BackupPrivateKey::generate().unwrap();
    let bytes = backup(&from, &key.public_key());
    for plain in [&b"hunter22"[..], b"notes", b"token", &large[..64]] {
        assert!(!bytes.windows(plain.len()).any(|part| part == plain));
    }
    let to = store(&folder, "to");
    put(&*to.memory(), "notes", "a", b"newer", None);
    let (mut seen, mut came) = (0, Vec::new());
    let mut import = |existing| {
        to.import(&key, &mut Cursor::new(&bytes), existing, &mut |imported, arrived| {
            seen = imported.seen();
            came.extend(
                arrived
                    .iter()
                    .map(|one| (one.is_secret, one.name.to_string(), one.bytes)),
            );
            ControlFlow::Continue(())
        })
        .unwrap()
    };
    let kept = Imported {
        restored: Tally {
            records: 2,
            secrets: 1,
            highest: Some(Classification::Confidential),
        },
        kept: 1,
        expired: 0,
    };
    assert_eq!(import(Existing::Keep), kept);
    assert_eq!(get(&*to.memory(), "notes", "a").unwrap().value.as_slice(), b"newer");
    assert_eq!(import(Existing::Replace).restored.records, 3);
    assert_eq!(seen, 3);
    came.sort();
    // What stayed did not come.
    let (a, big, token) = ((false, "a", 3), (false, "large", 200_000), (true, "token", 8));
    let expected = [a, big, big, token, token];
    assert_eq!(
        came,
        expected.map(|(is_secret, name, bytes)| (is_secret, name.to_owned(), bytes))
    );
    assert_eq!(get(&*to.memory(), "notes", "a"), get(&*from.memory(), "notes", "a"));
    assert_eq!(get(&*to.memory(), "other", "large").unwrap().value.as_slice(), large);
    assert_eq!(
        get(&*to.secrets(), "secrets", "token").unwrap().value.as_slice(),
        b"hunter22"
    );
    assert_eq!(get(&*to.memory(), "secrets", "token"), None);
}

#[test]
fn an_import_waits_for_the_disk_once_for_many_records() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder, "from");
    let puts = (0..500).map(|index| Operation::Put(write(&format!("{index}"), b"x", None)));
    from.memory()
        .apply(&"notes".parse().unwrap(), puts.collect(), &Quota::UNLIMITED)
        .unwrap();
    put(&*from.memory(), "notes", "large", &vec![7; 9 << 20], None);
    let key = BackupPrivateKey::generate().unwrap();
    let bytes = backup(&from, &key.public_key());
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let steps = Steps::watched(move |step| {
        counted.fetch_add(usize::from(step == Step::DestructionSynced), Ordering::Relaxed);
    });
    let to = store_with(&folder, "to", steps);
    put(&*to.memory(), "notes", "7", b"newer", None);
    commits.store(0, Ordering::Relaxed);
    let mut told = 0;
    let imported = to.import(&key, &mut Cursor::new(&bytes), Existing::Keep, &mut |_, _| {
        told += 1;
        ControlFlow::Continue(())
    });
    let imported = imported.unwrap();
    assert_eq!((imported.restored.records, imported.kept), (500, 1));
    assert_eq!(get(&*to.memory(), "notes", "499").unwrap().value.as_slice(), b"x");
    assert_eq!(get(&*to.memory(), "notes", "large").unwrap().value.len(), 9 << 20);
    // What is large goes alone, and may part two that would go together.
    let commits = commits.load(Ordering::Relaxed);
    // It is told of each, and twice while it is read first.
    assert!((2..=5).contains(&commits) && told <= 5 + 2, "{commits} {told}");
}

#[test]
fn a_backup_that_is_cut_changed_or_not_ours_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder, "from");
    put(&*from.memory(), "notes", "a", b"one", None);
    put(&*from.memory(), "notes", "b", b"two", None);
    let key = BackupPrivateKey::generate().unwrap();
    let bytes = backup(&from, &key.public_key());
    let to = store(&folder, "to");
    let import = |bytes: &[u8], key: &BackupPrivateKey| {
        to.import(key, &mut Cursor::new(bytes), Existing::Replace, &mut |_, _| {
            ControlFlow::Continue(())
        })
    };
    for length in 0..bytes.len() {
        let error = import(&bytes[..length], &key).unwrap_err();
        assert!(
            matches!(error, BackupError::CutOff { .. } | BackupError::NotABackup),
            "{length}: {error}"
        );
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(import(&changed, &key).is_err(), "byte {at}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(import(&longer, &key), Err(BackupError::Damaged { .. })));
    let other = BackupPrivateKey::generate().unwrap();
    let error = import(&bytes, &other).unwrap_err().to_string();
    assert!(
        error.contains(&key.public_key().id()) && error.contains(&other.public_key().id()),
        "{error}"
    );
    let mut none = bytes.clone();
    none[8] = 0;
    assert!(matches!(import(&none, &key), Err(BackupError::Damaged { message: 0 })));
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert!(matches!(
        import(&newer, &key),
        Err(BackupError::Version { found: 2, known: 1 })
    ));
    assert_eq!(to.memory().namespaces(10).unwrap(), []);
}

#[test]
fn keys_are_pem_that_other_tools_read() {
    let key = BackupPrivateKey::generate().unwrap();
    let again = BackupPrivateKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.public_key().id(), key.public_key().id());
    let public = key.public_key().to_pem();
    assert_eq!(BackupPublicKey::from_pem(&public).unwrap().id(), key.public_key().id());
    // RFC 8410 has no example of X25519; this pair is the one of RFC 7748, section 6.1, in its forms.
    let alice = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq\n-----END PRIVATE KEY-----\n";
    let alice_public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n-----END PUBLIC KEY-----\n";
    assert_eq!(
        BackupPrivateKey::from_pem(alice).unwrap().public_key().to_pem(),
        alice_public
    );
    for wrong in ["", "x", public.as_str(), &key.to_pem()[..60]] {
        assert!(BackupPrivateKey::from_pem(wrong).is_err());
    }
    let halves = [
        BackupPublicKey::from_pem(&key.to_pem()).unwrap_err(),
        BackupPrivateKey::from_pem(&public).unwrap_err(),
    ];
    assert!(
        halves.iter().all(|error| matches!(error, BackupKeyError::Half(_))),
        "{halves:?}"
    );
    assert_eq!(format!("{key:?}"), "BackupPrivateKey");
}
