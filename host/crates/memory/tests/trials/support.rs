//! A folder with a store in it, dice, and what a store holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aral_contract::Classification;
use aral_memory::{MasterKey, Quota, Record, RecordStore, SealedStore, StoreError, StoreOptions, Usage};
use tempfile::TempDir;

use crate::clock::SteppedClock;
use crate::script::{Expected, State, Value};

/// The master key of the trials, as text.
pub(crate) const KEY: &str = "6b6579206f662074686520747269616c73206f66207468652073746f72652e2e";
/// Another one.
pub(crate) const OTHER_KEY: &str = "616e6f74686572206b6579206f662074686520747269616c732c206c61746572";
/// When the trials begin, in seconds since 1970.
pub(crate) const START: i64 = 1_767_225_600;

/// An empty folder for a store, gone at the end.
pub(crate) struct Place {
    folder: TempDir,
    store: &'static str,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_store_at("store")
    }

    /// The store lies in folders below that are not there yet.
    pub(crate) fn with_store_at(store: &'static str) -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
            store,
        }
    }

    /// Where the store lies.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join(self.store)
    }

    /// A file beside the store.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn options(path: &Path, key: &str, seconds: i64) -> StoreOptions {
    let key = MasterKey::from_text(key.as_bytes()).expect("a master key");
    let mut options = StoreOptions::new(path, key, Arc::new(SteppedClock::at(seconds)));
    options.free_bytes_min = 0;
    options
}

pub(crate) fn open(path: &Path, key: &str, seconds: i64) -> Result<SealedStore, StoreError> {
    SealedStore::open(options(path, key, seconds))
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..sides`.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() % sides as u64).expect("smaller than sides")
    }

    pub(crate) fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// Everything that a store holds for agents, read name by name. A value is told by its text; one that is no such value is an
/// error, as is a name that is listed and not there.
pub(crate) fn read_records(store: &dyn RecordStore) -> Result<State, String> {
    let mut state = State::new();
    for held in store.namespaces(1000).map_err(|error| error.to_string())? {
        let mut cursor: Option<String> = None;
        loop {
            let page = store.list(&held.namespace, "", cursor.as_deref(), 100);
            let page = page.map_err(|error| error.to_string())?;
            for name in page.names {
                let record = store.get(&held.namespace, &name).map_err(|error| error.to_string())?;
                let record = record.ok_or_else(|| format!("`{name}` is listed and not there"))?;
                let found = expected(&record).ok_or_else(|| format!("`{name}` has a value that nobody wrote"))?;
                state.insert((held.namespace.to_string(), name.to_string()), found);
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
    }
    Ok(state)
}

/// As [`read_records`]; it is an error, too, if they are counted wrongly.
pub(crate) fn read_all(store: &dyn RecordStore) -> Result<State, String> {
    let state = read_records(store)?;
    for held in store.namespaces(1000).map_err(|error| error.to_string())? {
        let own = state.iter().filter(|((space, _), _)| *space == held.namespace.as_str());
        let counted = own.fold(Usage::default(), |usage, ((_, name), record)| Usage {
            bytes: usage.bytes + (name.len() + record.value.bytes) as u64,
            records: usage.records + 1,
        });
        if counted != held.usage {
            return Err(format!("{counted:?} is counted as {:?}", held.usage));
        }
    }
    Ok(state)
}

/// A record as a script would tell it; none if its value is one that no script writes.
pub(crate) fn expected(record: &Record) -> Option<Expected> {
    let class = Classification::ALL.iter().position(|one| *one == record.classification);
    Some(Expected {
        value: value_of(&record.value)?,
        version: record.version,
        expires: record.expires_at.map(|expires_at| expires_at.as_second()),
        class: class.expect("one of four"),
    })
}

/// The text that a value repeats: up to and with its first full stop.
fn value_of(bytes: &[u8]) -> Option<Value> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'.')
        .map_or(bytes.len(), |at| at + 1);
    let value = Value {
        text: String::from_utf8(bytes[..end].to_vec()).ok()?,
        bytes: bytes.len(),
    };
    (value.to_bytes() == bytes).then_some(value)
}

/// Whether the store still does what a store does.
pub(crate) fn assert_usable(store: &SealedStore) {
    let (space, memory) = ("probe".parse().expect("a namespace"), store.memory());
    let write = aral_memory::Write {
        name: "probe".parse().expect("a name"),
        value: zeroize::Zeroizing::new(vec![7; 70_000]),
        ttl_seconds: None,
        classification: Classification::Public,
        precondition: aral_memory::Precondition::Absent,
    };
    let name = write.name.clone();
    assert_eq!(memory.put(&space, write, &Quota::UNLIMITED).expect("a write"), 1);
    assert_eq!(
        memory
            .get(&space, &name)
            .expect("a read")
            .map(|record| record.value.len()),
        Some(70_000)
    );
    let deleted = memory.delete(&space, &name, aral_memory::Precondition::Version(1));
    assert_eq!(deleted.expect("a delete"), Some(Classification::Public));
}

/// sled has put nothing into files that it does not sync.
pub(crate) fn assert_nothing_unsynced(path: &Path) {
    let blobs = std::fs::read_dir(path.join("records/blobs")).expect("sled's folder");
    assert_eq!(
        blobs.count(),
        0,
        "a node of the database is in a file that is never synced"
    );
}

/// A copy of every file below a folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let mut mode = std::fs::metadata(from).expect("a folder").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o700);
    std::fs::set_permissions(to, mode).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// Every file below a folder, by its path there.
pub(crate) fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_owned();
                files.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}
