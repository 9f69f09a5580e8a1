//! The files of an encrypted store in the hands of somebody who has no key.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::{Operation, Precondition, Quota, RecordName, Write};
use aral_memory::{MasterKey, RecordStore, SealedStore, StoreOptions};
use arbitrary::Arbitrary;
use zeroize::Zeroizing;

use crate::edits::Edits;
use crate::scratch::{self, Stands};

const NAMES: [&str; 4] = ["one", "two", "three", "long"];

fn value(name: &str) -> Vec<u8> {
    // The last one takes several parts.
    let times = if name == "long" { 40_000 } else { 3 };
    name.as_bytes().repeat(times)
}

fn namespace() -> Namespace {
    "notes".parse().expect("a namespace")
}

fn name(text: &str) -> RecordName {
    text.parse().expect("a name")
}

pub(crate) fn options(folder: &Path) -> StoreOptions {
    let key = MasterKey::from_text("5a".repeat(32).as_bytes()).expect("a key");
    let mut options = StoreOptions::new(folder.join("store"), key, Arc::new(Stands));
    options.cache_bytes = 1 << 20;
    options.free_bytes_min = 0;
    options
}

/// Writes the records that there are.
pub(crate) fn fill(store: &SealedStore) {
    let put = |text: &&str| {
        Operation::Put(Write {
            name: name(text),
            value: Zeroizing::new(value(text)),
            ttl_seconds: None,
            classification: Classification::Confidential,
            precondition: Precondition::Any,
        })
    };
    let operations = NAMES.iter().map(put).collect();
    let memory = store.memory();
    memory
        .apply(&namespace(), operations, &Quota::UNLIMITED)
        .expect("a disk");
}

/// What is read is what was written, or it is an error; nothing is there that was not. `all`: all of it is there.
pub(crate) fn holds_nothing_else(store: &SealedStore, all: bool) {
    let memory: Arc<dyn RecordStore> = store.memory();
    for text in NAMES {
        let found = memory.get(&namespace(), &name(text));
        assert!(!all || matches!(found, Ok(Some(_))), "`{text}` is gone: {found:?}");
        let Ok(Some(record)) = found else { continue };
        assert_eq!(*record.value, value(text), "`{text}` has another value");
        assert_eq!(record.version, 1, "`{text}` has another version");
        assert_eq!(
            record.classification,
            Classification::Confidential,
            "`{text}` is as sensitive as it was"
        );
        assert_eq!(record.expires_at, None, "`{text}` does not expire");
    }
    let page = memory.list(&namespace(), "", None, 100);
    for found in page.iter().flat_map(|page| &page.names) {
        assert!(NAMES.contains(&found.as_str()), "`{found}` was never written");
    }
}

static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let folder = scratch::folder();
    let store = SealedStore::open(options(folder.path())).expect("a store");
    fill(&store);
    drop(store);
    scratch::files(&folder.path().join("store"))
});

/// Which file is changed. That of the database is sled's, which panics on some damage; the trials of the crate change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum Changed {
    /// The keys of the records.
    Slots,
    /// What the master key opens.
    Keyring,
}

/// A store, a file of which was changed.
pub fn store(changed: Changed, edits: &Edits) {
    let folder = scratch::folder();
    let wanted = match changed {
        Changed::Slots => "slots",
        Changed::Keyring => "keyring",
    };
    let (_, good) = FILES
        .iter()
        .find(|(name, _)| name == wanted)
        .expect("a file of a store");
    let bytes = edits.of(good);
    let files = FILES.iter().map(|(name, good)| {
        let is_it = name == wanted;
        (name.as_str(), if is_it { bytes.as_slice() } else { good.as_slice() })
    });
    scratch::put(&folder.path().join("store"), files);
    match SealedStore::open(options(folder.path())) {
        Ok(store) => holds_nothing_else(&store, bytes == *good),
        Err(error) => assert!(bytes != *good, "nothing was changed: {error}"),
    }
}
