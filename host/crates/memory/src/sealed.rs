//! The embedded backend: records on sled, each sealed under a key of its own that lies in a slot and is destroyed with the
//! record. What an attacker who has the files, and later the master key too, can and cannot do is in
//! docs/store-format.md. It knows no caller.

// Opening and closing, and what a caller sees: one space of a store, as the trait of every backend.
mod open;
mod view;

// What lies on the disk: the files of keys, the database, and the records in it.
mod allocation;
mod bytes;
mod entry;
mod expiry;
mod file;
mod gate;
mod holder;
mod keyring;
mod log_sync;
mod owner;
mod page;
mod pages;
mod root;
mod segments;
mod slot_header;
mod slots;
mod stored;
mod tree;
mod unreadable;
mod usage;
mod whole_record;

// Writing: requests wait, what a group of them changes is planned, and the group is committed.
mod believed;
mod beside;
mod commit;
mod counts;
mod plan;
mod queue;
mod room;
mod work;

// Reading: one record, names in a listing, and what was read last.
mod listing;
mod read;
mod recent;

// Now and then: what has expired, what a killed process leaves, rotations, backups.
mod past;
mod reclaim;
mod retire;
mod rotate;
mod sweep;
mod transfer;

// When something is damaged: finding it, taking it out, and reading what is left.
mod carve;
mod check;
mod database_copy;
mod discard;
mod salvage;
mod salvaged;
mod sources;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use aral_contract::Clock;
use aral_runtime::files;
use arc_swap::ArcSwap;
use cap_std::fs::Dir;

pub use check::{Checked, Damaged, Delete};
pub use rotate::{Alone, Progress, Rotated};
pub use salvage::Salvage;
pub use salvaged::Salvaged;
pub use transfer::{Arrived, Existing, Imported, Tally};

use crate::key::{MasterKey, hex};
use crate::key_service::KeyService;
use crate::record::Swept;
use crate::store::{RecordStore, StoreError};
pub(crate) use keyring::StoreId;
pub(crate) use root::Space;
use view::View;
pub(crate) use whole_record::WholeRecord;

/// Default of [`StoreOptions::cache_bytes`]: 64 MiB.
pub const CACHE_BYTES_DEFAULT: u64 = 64 << 20;
/// Default of [`StoreOptions::free_bytes_min`]: 64 MiB. Stops the store from finding its disk full in the middle of a write.
pub const FREE_BYTES_MIN_DEFAULT: u64 = 64 << 20;

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Its folder; made, with mode 0700, if it is not there.
    pub path: PathBuf,
    /// Opens it.
    pub key: MasterKey,
    /// Where overwriting in place does not destroy: the keys that do. None: the medium overwrites.
    pub epoch: Option<Epoch>,
    /// Says what has expired.
    pub clock: Arc<dyn Clock>,
    /// Memory for what was read last: half for pages of the database, half for single records, all of them sealed.
    pub cache_bytes: u64,
    /// Below this much free space nothing is written.
    pub free_bytes_min: u64,
    /// What another process is told that wants to open it too, such as `aral invoke`.
    pub holder: String,
    /// For tests that stop the process in the middle of a write.
    pub steps: Steps,
}

impl StoreOptions {
    /// With the defaults.
    pub fn new(path: impl Into<PathBuf>, key: MasterKey, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.into(),
            key,
            epoch: None,
            clock,
            cache_bytes: CACHE_BYTES_DEFAULT,
            free_bytes_min: FREE_BYTES_MIN_DEFAULT,
            holder: "a program".to_owned(),
            steps: Steps::default(),
        }
    }
}

/// Keys that live for a while in a key service and are destroyed there. On copy-on-write or wear-levelled media an
/// overwrite in place leaves the old bytes somewhere; sealed under an epoch key as well, they are noise once it is gone.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Holds the keys.
    pub service: Arc<dyn KeyService>,
    /// How the names of the keys begin.
    pub prefix: String,
}

impl Epoch {
    fn key_of(&self, store: &StoreId, root: u32) -> String {
        format!("{}-{}-{root}", self.prefix, hex(store))
    }

    /// The root that a key of this store belongs to, whatever the prefix was when it was made.
    fn root_of(key: &str, store: &StoreId) -> Option<u32> {
        let (prefix_and_store, root) = key.rsplit_once('-')?;
        let (_, of) = prefix_and_store.rsplit_once('-')?;
        (of == hex(store)).then(|| root.parse().ok())?
    }
}

/// The steps, and the list of all of them, so that none can be missing there.
macro_rules! steps {
    ($($(#[$documented:meta])* $step:ident,)*) => {
        /// A point in a write, for tests that stop there.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$documented])* $step,)*
        }

        impl Step {
            /// All of them, in order.
            pub const ALL: [Self; [$(Step::$step),*].len()] = [$(Step::$step),*];
        }
    };
}

steps! {
    /// Half of a slot is written.
    SlotHalfWritten,
    /// The new slots are written, not synced.
    SlotsWritten,
    /// The new slots are on stable storage.
    SlotsSynced,
    /// The records are in the database, nothing of them on the disk for certain.
    RecordsApplied,
    /// The records are handed to the system.
    RecordsFlushed,
    /// The records are on stable storage.
    RecordsSynced,
    /// The old slots are overwritten, not synced.
    SlotsDestroyed,
    /// All is done, nothing is answered yet.
    DestructionSynced,
}

/// Called at each [`Step`]. Empty by default.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Steps {
    /// Calls `reached` at each step, on the thread that writes.
    pub fn watched(reached: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(reached)))
    }

    fn are_watched(&self) -> bool {
        self.0.is_some()
    }

    fn reached(&self, step: Step) {
        if let Some(reached) = &self.0 {
            reached(step);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.are_watched() { "watched" } else { "not watched" })
    }
}

/// An open store. Cheap to clone; all clones are the same store, and the last one closes it. It holds two spaces of records
/// that never meet: what agents remember, and the secrets that operators keep for them.
#[derive(Clone)]
pub struct SealedStore(Arc<Inner>);

struct Inner {
    store: StoreId,
    dir: Dir,
    tree: tree::Tree,
    slots: slots::SlotFile,
    recents: recent::Recents,
    keys: ArcSwap<root::Keys>,
    /// Ids of the master keys that open it, for whoever must not wait for the writer.
    wanted: ArcSwap<Vec<String>>,
    writer: Mutex<commit::Writer>,
    queue: queue::Queue,
    /// Whether somebody moves records between roots, or must see none move.
    rotating: AtomicBool,
    leftovers: reclaim::Leftovers,
    clock: Arc<dyn Clock>,
    free_bytes_min: u64,
    key: Mutex<MasterKey>,
    epoch: Option<Epoch>,
    steps: Steps,
    /// Whether no slot is used without a record.
    reclaimed: AtomicBool,
    /// Keys without records that were destroyed when the store was opened.
    orphans: AtomicUsize,
    /// Last: closing it lets the store go, when all else is closed.
    _lock: File,
}

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name: 32 hex digits.
    pub store: String,
    /// Version of its format.
    pub format: u32,
    /// Ids of the master keys that open it.
    pub keys: Vec<String>,
    /// Whether a rotation of keys was begun and not ended.
    pub is_rotating: bool,
    /// Whether that goes on now, or a check or a backup does meanwhile, so that none of them can be begun.
    pub is_under_way: bool,
    /// Names of the epoch keys that it is sealed under as well.
    pub epochs: Vec<String>,
    /// Keys of records in the slot file.
    pub slots_used: u32,
    /// Places for them.
    pub slots: u32,
    /// Free space on its disk, in bytes.
    pub free_bytes: u64,
}

impl SealedStore {
    /// Opens the store, and makes it if the folder is empty or not there. If it was not closed the last time, all slots are
    /// looked through for keys without records, which takes some microseconds for each record.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], [`StoreError::Held`], [`StoreError::NotAStore`], [`StoreError::Version`], [`StoreError::Corrupt`],
    /// [`StoreError::Files`], [`StoreError::Io`], [`StoreError::Invalid`] without the key service of its epochs, and what a key
    /// service fails with.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        open::open(options)
    }

    /// Ids of the master keys that open the store in this folder, as it says itself without any of them, also while somebody has it
    /// open; none: there is no store.
    ///
    /// # Errors
    /// [`StoreError::Files`], [`StoreError::Version`], [`StoreError::Corrupt`], [`StoreError::Io`].
    pub fn keys_wanted(path: &Path) -> Result<Option<Vec<String>>, StoreError> {
        let dir = match files::open_root(path) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        if !dir.exists(keyring::NAME) {
            return Ok(None);
        }
        let keyring = keyring::Keyring::load_to_read(&dir)?;
        Ok(Some(keyring.content.keys()))
    }

    /// What agents remember.
    pub fn memory(&self) -> Arc<dyn RecordStore> {
        Arc::new(View::new(self.clone(), Space::Memory))
    }

    /// What operators keep for agents. No guest interface reaches it but through `aral:capability/secret-*`.
    pub fn secrets(&self) -> Arc<dyn RecordStore> {
        Arc::new(View::new(self.clone(), Space::Secrets))
    }

    /// Removes expired records of both spaces, at most `records_max` of them and at most [`crate::record::BATCH_OPERATIONS_MAX`]
    /// at once.
    ///
    /// # Errors
    /// As [`RecordStore::apply`].
    pub fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        self.0.sweep(records_max)
    }

    /// What the store says of itself.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn status(&self) -> Result<Status, StoreError> {
        self.0.status()
    }

    /// Ids of the master keys that open it. It waits for nobody, and for no disk.
    pub fn keys(&self) -> Arc<Vec<String>> {
        self.0.wanted.load_full()
    }

    /// Whether it takes writes. After one that failed it takes none until it is opened again, since nobody knows what is on the
    /// disk; reading goes on. It waits for nobody.
    ///
    /// # Errors
    /// [`StoreError::Io`]: it takes none.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.0.check_writable()
    }

    /// Of how many namespaces the name does not open: [`SealedStore::check`] says where they are. Backups and rotations are
    /// refused while there are any. It takes one look at each namespace.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and [`StoreError::Io`].
    pub fn nameless(&self) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        self.0.each_nameless(&mut |_, _| {
            count = count.saturating_add(1);
            Ok(())
        })?;
        Ok(count)
    }
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedStore({})", hex(&self.0.store))
    }
}
