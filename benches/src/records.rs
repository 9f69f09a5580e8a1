//! Records of 1 KiB in the two stores that are compared: ours, and bare sled under the same rule for syncing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::{Operation, Precondition, Quota, RecordName, Value, Write};
use aral_memory::{MasterKey, RecordStore, SealedStore, StoreOptions};
use aral_runtime::SystemClock;
use zeroize::Zeroizing;

/// Size of every value, in bytes.
pub const VALUE_BYTES: usize = 1024;
/// A cache in which all records lie that any of the benchmarks has, but for the million.
pub const CACHE_BYTES: u64 = 1 << 30;
/// Writes with one sync for all of them.
pub const GROUP: u64 = 64;

/// The name of a record. Neighbours in number are no neighbours in the order of names, as with ids that are drawn.
pub fn name(index: u64) -> String {
    format!("session/{:016x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// An order that is the same in each run and in which neighbours are far apart.
pub fn shuffled(index: u64, count: u64) -> u64 {
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count
}

/// A value that no compression and no cache line makes cheap.
pub fn value(index: u64) -> Vec<u8> {
    let words = (0..VALUE_BYTES as u64 / 8).map(|word| (index ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Our store.
pub struct Sealed {
    /// As it was opened.
    pub store: SealedStore,
    /// Its records.
    pub records: Arc<dyn RecordStore>,
    namespace: Namespace,
}

impl Sealed {
    /// Opens or makes it, with a cache of so many bytes: half of it is for single records, and half for pages of the database.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self> {
        let key = MasterKey::from_text("5a".repeat(32).as_bytes())?;
        let mut options = StoreOptions::new(folder, key, Arc::new(SystemClock::new()));
        options.cache_bytes = cache_bytes;
        let store = SealedStore::open(options)?;
        Ok(Self {
            records: store.memory(),
            namespace: "bench".parse()?,
            store,
        })
    }

    /// Reads one record.
    pub fn get(&self, index: u64) -> Result<Value> {
        let name: RecordName = name(index).parse()?;
        let record = self.records.get(&self.namespace, &name)?;
        Ok(record.context("no such record")?.value)
    }

    /// Writes records, with one sync.
    pub fn put(&self, indices: impl Iterator<Item = u64>, ttl_seconds: Option<u64>) -> Result<()> {
        let write = |index| -> Result<Operation> {
            Ok(Operation::Put(Write {
                name: name(index).parse()?,
                value: Zeroizing::new(value(index)),
                ttl_seconds,
                classification: Classification::Internal,
                precondition: Precondition::Any,
            }))
        };
        let operations = indices.map(write).collect::<Result<Vec<_>>>()?;
        self.records.apply(&self.namespace, operations, &Quota::UNLIMITED)?;
        Ok(())
    }

    /// Where the records are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// sled, with a sync that is one: its own flush, then fsync.
pub struct Sled {
    db: sled::Db,
    file: std::fs::File,
}

impl Sled {
    /// Opens or makes it.
    pub fn open(folder: &Path) -> Result<Self> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .open()?;
        let file = std::fs::File::open(folder.join("db"))?;
        Ok(Self { db, file })
    }

    /// Reads one record.
    pub fn get(&self, index: u64) -> Result<Vec<u8>> {
        let value = self.db.get(name(index))?;
        Ok(value.context("no such record")?.to_vec())
    }

    /// Writes records, with one sync.
    pub fn put(&self, indices: impl Iterator<Item = u64>) -> Result<()> {
        let mut batch = sled::Batch::default();
        for index in indices {
            batch.insert(name(index).as_str(), value(index));
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(self.file.sync_all()?)
    }
}
