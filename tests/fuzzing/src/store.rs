//! The files of an encrypted store in the hands of somebody who has no key.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::{Operation, Precondition, Quota, Record, RecordName, Write};
use aral_memory::{MasterKey, RecordStore, SealedStore, StoreError, StoreOptions};
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

/// All of it is there as it was written, and nothing else.
pub(crate) fn holds_all(store: &SealedStore) {
    look(store, |error| panic!("nothing that matters is damaged: {error}"));
}

/// The same, but that some of it may be said to be damaged. It may not be said that there is no such record.
fn holds_all_or_says_so(store: &SealedStore) {
    look(store, |error| assert!(error.is_damage(), "that is no damage: {error}"));
}

fn look(store: &SealedStore, judge: impl Fn(StoreError)) {
    let memory: Arc<dyn RecordStore> = store.memory();
    for text in NAMES {
        match memory.get(&namespace(), &name(text)) {
            Ok(Some(record)) => is_as_written(text, &record),
            Ok(None) => panic!("`{text}` is gone without a word"),
            Err(error) => judge(error),
        }
    }
    match memory.list(&namespace(), "", None, 100) {
        Ok(page) => {
            let mut listed: Vec<&str> = page.names.iter().map(RecordName::as_str).collect();
            let mut written = NAMES;
            listed.sort_unstable();
            written.sort_unstable();
            assert_eq!(listed, written, "what is listed is what was written");
        }
        Err(error) => judge(error),
    }
}

fn is_as_written(text: &str, record: &Record) {
    assert_eq!(*record.value, value(text), "`{text}` has another value");
    assert_eq!(record.version, 1, "`{text}` has another version");
    assert_eq!(
        record.classification,
        Classification::Confidential,
        "`{text}` is as sensitive as it was"
    );
    assert_eq!(record.expires_at, None, "`{text}` does not expire");
}

/// Nothing is there.
pub(crate) fn holds_nothing(store: &SealedStore) {
    let memory: Arc<dyn RecordStore> = store.memory();
    for text in NAMES {
        let found = memory.get(&namespace(), &name(text));
        assert!(matches!(found, Ok(None)), "`{text}` came back: {found:?}");
    }
    let page = memory.list(&namespace(), "", None, 100).expect("an empty list");
    assert!(page.names.is_empty(), "{:?} came back", page.names);
}

static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let folder = scratch::folder();
    let store = SealedStore::open(options(folder.path())).expect("a store");
    fill(&store);
    drop(store);
    let files = scratch::files(&folder.path().join("store"));
    // Without that, a commit whose keys did not come whole is taken back, and nothing is said of it: nobody was told of it before.
    assert!(files.iter().any(|(name, _)| name == "closed"), "it was closed in order");
    files
});

/// Which file is changed. That of the database is sled's, which panics on some damage; the trials of the crate change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum Changed {
    /// The keys of the records.
    Slots,
    /// What the master key opens.
    Keyring,
}

/// A store that was closed, a file of which was changed since. The database is as it was, so that each record is there, or damaged. Of
/// the keyring one whole page is enough for all.
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
        Ok(store) if changed == Changed::Keyring || bytes == *good => holds_all(&store),
        Ok(store) => holds_all_or_says_so(&store),
        Err(error) => assert!(bytes != *good && error.is_damage(), "this is no damage: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::edits::Edit;

    /// Whose the file is and how much of it is on stable storage, and then the slots.
    const HEADER_BYTES: u32 = 4096;
    const SLOT_BYTES: u32 = 128;
    const PAGE_BYTES: u32 = 16 << 10;

    #[test]
    fn what_makes_a_store_look_empty_is_damage() {
        let slots = [
            Edit::Cut { at: 0 },
            Edit::Cut { at: HEADER_BYTES },
            Edit::Cut {
                at: HEADER_BYTES + SLOT_BYTES + 1,
            },
            // That a commit is on stable storage, and all keys, as in a file that was just made.
            Edit::Zero {
                at: 8 + 4 + 16,
                count: u16::MAX,
            },
            Edit::Zero {
                at: HEADER_BYTES + SLOT_BYTES,
                count: 128,
            },
        ];
        for edit in slots {
            store(Changed::Slots, &Edits(vec![edit]));
        }
        for edit in [
            Edit::Cut { at: 0 },
            Edit::Cut { at: PAGE_BYTES },
            Edit::Zero { at: 40, count: 1000 },
        ] {
            store(Changed::Keyring, &Edits(vec![edit]));
        }
    }

    #[test]
    fn a_record_that_is_gone_without_a_word_is_a_finding() {
        let folder = scratch::folder();
        let store = SealedStore::open(options(folder.path())).unwrap();
        holds_nothing(&store);
        fill(&store);
        holds_all(&store);
        let finds = |oracle: fn(&SealedStore)| catch_unwind(AssertUnwindSafe(|| oracle(&store))).is_err();
        assert!(finds(holds_nothing));
        let memory = store.memory();
        memory.delete(&namespace(), &name("two"), Precondition::Any).unwrap();
        assert!(finds(holds_all) && finds(holds_all_or_says_so));
    }
}
