//! The trait of every backend, and how it fails.

use std::fmt;
use std::path::{Path, PathBuf};

use aral_contract::Classification;
use aral_contract::id::Namespace;

use aral_runtime::entropy::EntropyError;
use aral_runtime::files::FilesError;
use aral_runtime::locked::LockedKeyError;

use crate::key::MasterKeyError;
use crate::key_service::KeyServiceError;
use crate::record::{
    NamespaceUsage, Operation, Outcome, Page, Precondition, Quota, Record, RecordName, Swept, Usage, Write,
};

/// Keeps records. Every method may wait for a disk: in async code call it where blocking is allowed.
///
/// What `apply` has answered is on stable storage, and what it replaced or deleted cannot be read any more by anybody who
/// copies the store afterwards. A record whose time is over is absent at once, swept or not.
pub trait RecordStore: Send + Sync + fmt::Debug {
    /// Reads a record; none if there is no such name, or if it has expired.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if what is there is not what was written, [`StoreError::Io`].
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError>;

    /// Does all operations, in this order, or none of them. A name may occur once.
    ///
    /// # Errors
    /// [`StoreError::Precondition`], [`StoreError::Quota`], [`StoreError::Invalid`]; [`StoreError::Full`] and
    /// [`StoreError::Io`] if the disk says no.
    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Names that begin with `prefix`, at most `limit` of them. A cursor is good for the namespace and prefix that it was
    /// made for.
    ///
    /// # Errors
    /// [`StoreError::Cursor`], and as [`RecordStore::get`].
    fn list(&self, namespace: &Namespace, prefix: &str, cursor: Option<&str>, limit: usize)
    -> Result<Page, StoreError>;

    /// How sensitive a record is, without reading its value; none if there is no such name, or if it has expired.
    ///
    /// # Errors
    /// As [`RecordStore::get`].
    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError>;

    /// What a namespace holds.
    ///
    /// # Errors
    /// As [`RecordStore::get`].
    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError>;

    /// Namespaces that hold anything, at most `limit` of them, by name.
    ///
    /// # Errors
    /// As [`RecordStore::get`].
    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError>;

    /// Removes expired records, at most `records_max` of them and at most [`crate::record::BATCH_OPERATIONS_MAX`]
    /// at once.
    ///
    /// # Errors
    /// As [`RecordStore::apply`].
    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError>;

    /// A keyed hash of a name, 32 hex digits: the same for the same record until keys are rotated, and nothing without the
    /// key. For events.
    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String;

    /// Writes one record and returns its version.
    ///
    /// # Errors
    /// As [`RecordStore::apply`].
    fn put(&self, namespace: &Namespace, write: Write, quota: &Quota) -> Result<u64, StoreError> {
        match self.apply(namespace, vec![Operation::Put(write)], quota)?.first() {
            Some(Outcome::Written { version }) => Ok(*version),
            Some(Outcome::Deleted { .. } | Outcome::Absent) | None => Err(StoreError::Corrupt {
                what: "the answer of the store",
            }),
        }
    }

    /// Deletes one record; says what it was, or none if there was none.
    ///
    /// # Errors
    /// As [`RecordStore::apply`].
    fn delete(
        &self,
        namespace: &Namespace,
        name: &RecordName,
        precondition: Precondition,
    ) -> Result<Option<Classification>, StoreError> {
        let operation = Operation::Delete {
            name: name.clone(),
            precondition,
        };
        let outcome = self.apply(namespace, vec![operation], &Quota::UNLIMITED)?;
        Ok(match outcome.first() {
            Some(Outcome::Deleted { classification }) => Some(*classification),
            Some(Outcome::Written { .. } | Outcome::Absent) | None => None,
        })
    }
}

/// How a store fails. No variant holds a value, a name or a key.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What must hold does not.
    #[error("the precondition of operation {index} does not hold: the record {}", found(*.version))]
    Precondition {
        /// Which operation of the batch.
        index: usize,
        /// The version that the record has; none: there is none.
        version: Option<u64>,
    },
    /// The namespace would hold more than it may.
    #[error("namespace `{namespace}` may hold {max} {unit}, and would hold {wanted}")]
    Quota {
        /// Which namespace.
        namespace: Namespace,
        /// `bytes` or `records`.
        unit: &'static str,
        /// What it may hold.
        max: u64,
        /// What it would hold.
        wanted: u64,
    },
    /// The request makes no sense: too large, a time to live out of range, a name twice.
    #[error("{0}")]
    Invalid(String),
    /// A cursor that this store did not make for this namespace and prefix.
    #[error(
        "the cursor is not one that this host made for this namespace and prefix, or keys were rotated since: list from the beginning"
    )]
    Cursor,
    /// What is on the disk is not what was written.
    #[error("{what} is damaged, or was changed by somebody else")]
    Corrupt {
        /// What it is; never a name.
        what: &'static str,
    },
    /// The disk is full, or too full to write safely.
    #[error("the disk of the store is full: {free_bytes} bytes are free, and a write needs {needed_bytes}")]
    Full {
        /// What is free.
        free_bytes: u64,
        /// What must be free.
        needed_bytes: u64,
    },
    /// The disk said no. After this the store refuses writes until it is opened again.
    #[error("the store cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder is somebody else's.
    #[error("the folder `{}` holds other things and no store", path.display())]
    NotAStore {
        /// Which folder.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("the store `{}` is open in another process: {holder}", path.display())]
    Held {
        /// Which store.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// Something else is under way that moves records, or that must see none move.
    #[error("keys are being rotated, or a backup is being made: try again when that has ended")]
    Busy,
    /// The store was made by a newer version.
    #[error("the store has format {found}, and this version reads up to {known}; use a newer version")]
    Version {
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// The key opens nothing here.
    #[error("the store wants the master key {wanted}, and was given {given}")]
    WrongKey {
        /// Ids of the keys that would open it.
        wanted: String,
        /// Id of the key that was given.
        given: String,
        /// What the service says of the key that was given, where that may be the one that is wanted, moved; none: it is not.
        #[source]
        service: Option<Box<KeyServiceError>>,
    },
    /// A text that is no master key.
    #[error(transparent)]
    Master(#[from] MasterKeyError),
    /// The service that holds a key did not do what was asked.
    #[error(transparent)]
    KeyService(#[from] KeyServiceError),
    /// The service has no such key of an epoch. Without the key, what was sealed under the epoch cannot be opened.
    #[error("a key of an epoch is not there")]
    EpochKey(#[source] KeyServiceError),
    /// The service makes no key for a new epoch where it is to be. What was sealed before is as it was.
    #[error("no key can be made for a new epoch")]
    NoEpochKey(#[source] KeyServiceError),
    /// No key could be made: the system gave no randomness, or no memory.
    #[error(transparent)]
    Key(#[from] LockedKeyError),
    /// A file or folder was refused.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl From<EntropyError> for StoreError {
    fn from(error: EntropyError) -> Self {
        Self::Key(error.into())
    }
}

impl StoreError {
    /// What is corrupt where it is one record, and the others are whole.
    pub const RECORD: &'static str = "a record";
    /// That.
    pub(crate) const DAMAGED_RECORD: Self = Self::Corrupt { what: Self::RECORD };

    /// What [`StoreError::Corrupt`] names where [`crate::sealed::Salvage`] may still get records out.
    pub const DATABASE: &'static str = "the database of the store";
    /// The same: the database ends before the newest commit that it is known to have had.
    pub const OLDER: &'static str = "the database of the store, which is older than its keys,";
    /// The same: in the middle of it something is not there.
    pub const LOST: &'static str = "the database of the store, which has lost records whose keys are there,";

    /// The same: the file of the slots, or its header.
    pub const SLOTS: &'static str = "the slot file";
    /// The same: its header says another format than the keyring, which alone decides that.
    pub const SLOTS_FORMAT: &'static str = "the slot file, whose format is not that of the keyring,";
    /// The same: its header says another store.
    pub const SLOTS_STRANGE: &'static str = "the slot file, which is that of another store,";

    /// What [`StoreError::Corrupt`] names when nothing says any more which namespace some records are of.
    pub const NAMESPACE: &'static str = "the name of a namespace";
    pub(crate) const NAMELESS: Self = Self::Corrupt { what: Self::NAMESPACE };

    /// Whether what was read is none of what this version writes. Not, for one, that it could not be read.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Version { .. })
    }

    /// With the whole path of a file that was named from the folder of the store on.
    pub(crate) fn below(self, folder: &Path) -> Self {
        match self {
            Self::Files(error) => Self::Files(error.below(folder)),
            other => other,
        }
    }

    /// The disk said no.
    pub(crate) fn io(action: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io {
            action,
            source: source.into(),
        }
    }
}

fn found(version: Option<u64>) -> String {
    version.map_or_else(|| "is not there".to_owned(), |version| format!("has version {version}"))
}
