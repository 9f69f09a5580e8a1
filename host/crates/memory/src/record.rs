//! Records, and what is asked of a store: the words of the trait [`RecordStore`](crate::RecordStore).

use std::fmt;
use std::ops::{AddAssign, Deref, DerefMut};
use std::str::FromStr;

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_contract::limits::NAME_BYTES_MAX;
use jiff::Timestamp;
use zeroize::{Zeroize as _, Zeroizing};

/// Longest time to live, in seconds: 100 years of 365.25 days. Stops an expiry that no calendar can hold.
pub const TTL_SECONDS_MAX: u64 = 3_155_760_000;
/// Largest value, in bytes, whatever a call may have: 16 MiB. Stops a record that no batch can hold.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Most operations in one batch. Stops a batch that holds the store for long.
pub const BATCH_OPERATIONS_MAX: usize = 1000;
/// Most bytes of values in one batch. Stops a batch that fills memory.
pub const BATCH_BYTES_MAX: usize = 32 << 20;
/// Most names in one page of a listing.
pub const PAGE_NAMES_MAX: usize = 1000;
/// Most records that one listing call looks at. Stops a prefix that nothing matches from reading the whole store.
pub const LIST_EXAMINED_MAX: usize = 4096;

/// Names a record in its namespace: 1 to 128 bytes of UTF-8 without NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName(String);

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record name has 1 to {NAME_BYTES_MAX} bytes and no NUL; this one has {bytes}{}", if *.nul { " and a NUL" } else { "" })]
pub struct RecordNameError {
    /// Its length.
    pub bytes: usize,
    /// Whether there is a NUL in it.
    pub nul: bool,
}

impl RecordName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RecordName {
    type Error = RecordNameError;
    fn try_from(text: String) -> Result<Self, RecordNameError> {
        let (bytes, nul) = (text.len(), text.contains('\0'));
        if (1..=NAME_BYTES_MAX).contains(&bytes) && !nul {
            Ok(Self(text))
        } else {
            Err(RecordNameError { bytes, nul })
        }
    }
}

impl FromStr for RecordName {
    type Err = RecordNameError;
    fn from_str(text: &str) -> Result<Self, RecordNameError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it is read. Erased when dropped, as a whole: [`Zeroizing`] erases a `Vec` byte by byte, which takes a noticeable
/// part of the time that a short value is read in.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Value(Vec<u8>);

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Value> for Zeroizing<Vec<u8>> {
    fn from(mut value: Value) -> Self {
        Self::new(std::mem::take(&mut value.0))
    }
}

impl Deref for Value {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Value {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // What is behind the end is erased in one go, so that all of it is put there.
        self.0.clear();
        self.0.zeroize();
    }
}

/// A record as it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The value. Erased when dropped.
    pub value: Value,
    /// 1 for the first write of this name; grows by one with each write until it is deleted or expires.
    pub version: u64,
    /// As it was written.
    pub classification: Classification,
    /// After this moment the record is gone; none: it stays. Whole seconds.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("bytes", &self.value.len())
            .field("version", &self.version)
            .field("classification", &self.classification)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// What must hold for an operation to be done. An expired record counts as absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    Any,
    /// There is no such record.
    Absent,
    /// The record has this version: compare-and-swap.
    Version(u64),
}

/// One record to write.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// Under which name.
    pub name: RecordName,
    /// The value, at most [`VALUE_BYTES_MAX`].
    pub value: Zeroizing<Vec<u8>>,
    /// Seconds until the record is gone, 1 to [`TTL_SECONDS_MAX`]; none: it stays.
    pub ttl_seconds: Option<u64>,
    /// How sensitive the value is.
    pub classification: Classification,
    /// What must hold.
    pub precondition: Precondition,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("bytes", &self.value.len())
            .field("ttl_seconds", &self.ttl_seconds)
            .field("classification", &self.classification)
            .field("precondition", &self.precondition)
            .finish_non_exhaustive()
    }
}

/// One step of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a record.
    Put(Write),
    /// Deletes a record.
    Delete {
        /// Of this name.
        name: RecordName,
        /// What must hold.
        precondition: Precondition,
    },
}

/// What became of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Written {
        /// The version it has now.
        version: u64,
    },
    /// It was deleted; its key is destroyed.
    Deleted {
        /// How sensitive it was.
        classification: Classification,
    },
    /// There was nothing to delete.
    Absent,
}

/// What one namespace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of names and values, all records together.
    pub bytes_max: u64,
    /// Records.
    pub records_max: u64,
}

impl Quota {
    /// No bound: for the operator.
    pub const UNLIMITED: Self = Self {
        bytes_max: u64::MAX,
        records_max: u64::MAX,
    };
}

/// What a namespace holds. Records that have expired count until they are swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of names and values.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.records = self.records.saturating_add(other.records);
    }
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Names, in an order that is stable and says nothing about the names.
    pub names: Vec<RecordName>,
    /// Where the next page begins; none: this was the last one. A page may be empty and still have a successor.
    pub cursor: Option<String>,
}

/// A namespace and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// Its name.
    pub namespace: Namespace,
    /// What it holds.
    pub usage: Usage,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expired records that were removed.
    pub records: usize,
    /// Whether there are more.
    pub more: bool,
}
