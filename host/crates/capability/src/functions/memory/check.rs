//! What a guest says about records, checked before any store is asked, and put into the store's words. Pure.

use aral_contract::Classification;
use aral_contract::limits::NAME_BYTES_MAX;
use aral_memory::record::{self, BATCH_OPERATIONS_MAX, PAGE_NAMES_MAX, TTL_SECONDS_MAX};
use aral_memory::{Precondition, RecordName};
use zeroize::Zeroizing;

use crate::bindings::aral::capability::memory_write as guest;
use crate::bindings::aral::capability::types::{Classification as GuestClassification, Error};

/// Longest cursor, in bytes.
pub(super) const CURSOR_BYTES_MAX: usize = 1024;

/// The name of a record.
pub(super) fn name(name: String) -> Result<RecordName, Error> {
    RecordName::try_from(name).map_err(|error| Error::InvalidInput(error.to_string()))
}

/// How many names a page has at most.
pub(super) fn page(prefix: &str, cursor: Option<&str>, limit: u32) -> Result<usize, Error> {
    if prefix.len() > NAME_BYTES_MAX || prefix.contains('\0') {
        return Err(Error::InvalidInput(format!(
            "a prefix has at most {NAME_BYTES_MAX} bytes and no NUL"
        )));
    }
    if cursor.is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
        return Err(Error::InvalidInput("the cursor is not one of this host".to_owned()));
    }
    if limit == 0 {
        return Err(Error::InvalidInput("limit is at least 1".to_owned()));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX).min(PAGE_NAMES_MAX))
}

/// One record to write, of any size: [`size`] is asked where a refusal is recorded.
pub(super) fn write(write: guest::Write) -> Result<record::Write, Error> {
    let value = Zeroizing::new(write.value);
    let guest::PutOptions {
        ttl_seconds,
        classification,
        precondition: wanted,
    } = write.options;
    if ttl_seconds.is_some_and(|seconds| !(1..=TTL_SECONDS_MAX).contains(&seconds)) {
        return Err(Error::InvalidInput(format!("ttl-seconds is 1 to {TTL_SECONDS_MAX}")));
    }
    Ok(record::Write {
        name: name(write.name)?,
        value,
        ttl_seconds,
        classification: classification_of(classification),
        precondition: precondition(wanted),
    })
}

/// A value that is longer than a call may handle, in either direction.
pub(super) fn size(bytes: usize, value_bytes_max: u64) -> Result<(), Error> {
    if u64::try_from(bytes).unwrap_or(u64::MAX) > value_bytes_max {
        return Err(Error::Limit(format!(
            "the value is longer than `memory_value_bytes`, {value_bytes_max} bytes: raise it under [limits] in capability.toml, and in the policy"
        )));
    }
    Ok(())
}

/// The steps of a batch, with values of any size.
pub(super) fn batch(operations: Vec<guest::Operation>) -> Result<Vec<record::Operation>, Error> {
    if operations.len() > BATCH_OPERATIONS_MAX {
        return Err(Error::Limit(format!(
            "a batch has at most {BATCH_OPERATIONS_MAX} operations"
        )));
    }
    let checked = operations.into_iter().map(|operation| match operation {
        guest::Operation::Put(one) => Ok(record::Operation::Put(write(one)?)),
        guest::Operation::Delete(one) => Ok(record::Operation::Delete {
            name: name(one)?,
            precondition: Precondition::Any,
        }),
    });
    checked.collect()
}

pub(super) fn precondition(wanted: guest::Precondition) -> Precondition {
    match wanted {
        guest::Precondition::Any => Precondition::Any,
        guest::Precondition::Absent => Precondition::Absent,
        guest::Precondition::Version(version) => Precondition::Version(version),
    }
}

fn classification_of(classification: GuestClassification) -> Classification {
    match classification {
        GuestClassification::Public => Classification::Public,
        GuestClassification::Internal => Classification::Internal,
        GuestClassification::Confidential => Classification::Confidential,
        GuestClassification::Secret => Classification::Secret,
    }
}

/// The word of the ABI.
pub(super) fn guest_classification(classification: Classification) -> GuestClassification {
    match classification {
        Classification::Public => GuestClassification::Public,
        Classification::Internal => GuestClassification::Internal,
        Classification::Confidential => GuestClassification::Confidential,
        Classification::Secret => GuestClassification::Secret,
    }
}
