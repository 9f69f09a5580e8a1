//! The agent's memory: named records in namespaces. Permissions `memory:read` and `memory:write`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::aral::capability::{memory_read, memory_write, types};
use crate::{Context, Error, Result};

/// How sensitive a value is, in rising order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Classification {
    /// May be shown to anybody.
    Public,
    /// May be shown inside the organisation.
    #[default]
    Internal,
    /// May be shown to those who need it.
    Confidential,
    /// May be shown to nobody but the one who stored it.
    Secret,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value as it was written.
    pub value: Vec<u8>,
    /// Grows by one with each write of this name.
    pub version: u64,
    /// As it was written.
    pub classification: Classification,
    /// Seconds since 1970-01-01T00:00:00Z after which the record is gone; none: it stays.
    pub expires_at: Option<u64>,
}

impl Entry {
    /// The value as JSON.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is not that JSON: what lies in memory was written by a capability, not by the caller.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.value)
            .map_err(|error| Error::internal(error.to_string()))
            .context(|| "reading a record")
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Names, in an order that is stable and says nothing about the names.
    pub names: Vec<String>,
    /// Where the next page begins; none: this was the last one. A page may be empty and still have a successor.
    pub cursor: Option<String>,
}

/// What must hold for a write to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    Any,
    /// There is no such record.
    Absent,
    /// The record has this version.
    Version(u64),
}

/// How a record is kept: for ever, `internal` and whatever was there before, unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Seconds until the record is gone; none: it stays.
    pub ttl_seconds: Option<u64>,
    /// How sensitive the value is.
    pub classification: Classification,
    /// What must hold for the write to be done.
    pub precondition: Precondition,
}

/// One step of a [`batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a record.
    Put {
        /// 1 to 128 bytes.
        name: String,
        /// The value.
        value: Vec<u8>,
        /// How it is kept.
        options: PutOptions,
    },
    /// Deletes the record of this name.
    Delete(String),
}

/// Reads a record; none if there is no such name, or if it has expired. Permission `memory:read`.
///
/// # Errors
/// [`Error::Denied`] outside the granted namespaces, [`Error::Unavailable`] if the store does not answer.
pub fn get(namespace: &str, name: &str) -> Result<Option<Entry>> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(memory_read::get(namespace, name)?.map(|entry| Entry {
        value: entry.value,
        version: entry.version,
        classification: entry.classification.into(),
        expires_at: entry.expires_at,
    }))
}

/// One page of the names that begin with `prefix`. Permission `memory:read`.
///
/// # Errors
/// As [`get`].
pub fn list(namespace: &str, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    let page = memory_read::list(namespace, prefix, cursor, limit)?;
    Ok(Page {
        names: page.names,
        cursor: page.cursor,
    })
}

/// Writes a record and returns its new version. Permission `memory:write`.
///
/// # Errors
/// [`Error::InvalidInput`] if the precondition does not hold, [`Error::Limit`] past the quota, else as [`get`].
pub fn put(namespace: &str, name: &str, value: &[u8], options: PutOptions) -> Result<u64> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    let write = write_of(name.to_owned(), value.to_vec(), options);
    Ok(memory_write::put(namespace, &write)?)
}

/// Writes a record as JSON; see [`put`].
///
/// # Errors
/// As [`put`]; [`Error::Internal`] if the value has no JSON form.
pub fn put_json(namespace: &str, name: &str, value: &impl Serialize, options: PutOptions) -> Result<u64> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))?;
    put(namespace, name, &bytes, options)
}

/// Deletes a record; false if there was none. Permission `memory:write`.
///
/// # Errors
/// As [`put`].
pub fn delete(namespace: &str, name: &str, precondition: Precondition) -> Result<bool> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(memory_write::delete(namespace, name, precondition.into())?)
}

/// Does all operations or none. Permission `memory:write`.
///
/// # Errors
/// As [`put`].
pub fn batch(namespace: &str, operations: Vec<Operation>) -> Result<()> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    let operations: Vec<_> = operations.into_iter().map(Into::into).collect();
    Ok(memory_write::batch(namespace, &operations)?)
}

fn write_of(name: String, value: Vec<u8>, options: PutOptions) -> memory_write::Write {
    memory_write::Write {
        name,
        value,
        options: memory_write::PutOptions {
            ttl_seconds: options.ttl_seconds,
            classification: options.classification.into(),
            precondition: options.precondition.into(),
        },
    }
}

impl From<Operation> for memory_write::Operation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Put { name, value, options } => Self::Put(write_of(name, value, options)),
            Operation::Delete(name) => Self::Delete(name),
        }
    }
}

impl From<Precondition> for memory_write::Precondition {
    fn from(precondition: Precondition) -> Self {
        match precondition {
            Precondition::Any => Self::Any,
            Precondition::Absent => Self::Absent,
            Precondition::Version(version) => Self::Version(version),
        }
    }
}

impl From<types::Classification> for Classification {
    fn from(classification: types::Classification) -> Self {
        match classification {
            types::Classification::Public => Self::Public,
            types::Classification::Internal => Self::Internal,
            types::Classification::Confidential => Self::Confidential,
            types::Classification::Secret => Self::Secret,
        }
    }
}

impl From<Classification> for types::Classification {
    fn from(classification: Classification) -> Self {
        match classification {
            Classification::Public => Self::Public,
            Classification::Internal => Self::Internal,
            Classification::Confidential => Self::Confidential,
            Classification::Secret => Self::Secret,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_abi() {
        let options = PutOptions {
            ttl_seconds: Some(60),
            classification: Classification::Confidential,
            precondition: Precondition::Version(3),
        };
        let operation = Operation::Put {
            name: "n".to_owned(),
            value: vec![1],
            options,
        };
        let memory_write::Operation::Put(write) = operation.into() else {
            panic!("a put became something else");
        };
        assert_eq!(write.options.ttl_seconds, Some(60));
        assert_eq!(
            Classification::from(write.options.classification),
            options.classification
        );
        assert!(matches!(
            write.options.precondition,
            memory_write::Precondition::Version(3)
        ));
    }

    #[test]
    fn a_record_that_is_not_the_json_expected_is_not_the_caller_s_fault() {
        let entry = |value: &[u8]| Entry {
            value: value.to_vec(),
            version: 1,
            classification: Classification::default(),
            expires_at: None,
        };
        assert_eq!(entry(b"[1,2]").json::<Vec<u8>>(), Ok(vec![1, 2]));
        assert!(matches!(entry(b"{").json::<Vec<u8>>(), Err(Error::Internal(_))));
    }

    #[test]
    fn without_a_host_nothing_is_stored() {
        assert!(matches!(
            put_json("notes", "a", &1, PutOptions::default()),
            Err(Error::Unavailable(_))
        ));
        assert!(matches!(get("notes", "a"), Err(Error::Unavailable(_))));
    }
}
