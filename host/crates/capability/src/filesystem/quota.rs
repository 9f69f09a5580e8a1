//! What one call may still write below one folder.

use std::sync::atomic::{AtomicU64, Ordering};

use aral_contract::Permission;

use crate::call::CallRecord;

/// The quota of a folder is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota of the folder is used up")]
pub(super) struct QuotaExceeded;

/// What is left of `bytes_max` and `files_max`.
#[derive(Debug)]
pub(super) struct Quota {
    bytes_left: AtomicU64,
    files_left: AtomicU64,
}

fn take(left: &AtomicU64, amount: u64) -> Result<(), QuotaExceeded> {
    left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount))
        .map(drop)
        .map_err(|_| QuotaExceeded)
}

impl Quota {
    pub(super) fn new(bytes_max: u64, files_max: u64) -> Self {
        Self {
            bytes_left: AtomicU64::new(bytes_max),
            files_left: AtomicU64::new(files_max),
        }
    }

    /// Pays for bytes.
    pub(super) fn take_bytes(&self, amount: u64) -> Result<(), QuotaExceeded> {
        take(&self.bytes_left, amount)
    }

    /// They are not written after all.
    pub(super) fn return_bytes(&self, amount: u64) {
        self.bytes_left.fetch_add(amount, Ordering::Relaxed);
    }

    /// Pays for one new file or folder.
    pub(super) fn take_file(&self) -> Result<(), QuotaExceeded> {
        take(&self.files_left, 1)
    }

    /// It was there already.
    pub(super) fn return_file(&self) {
        self.files_left.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records that a quota refused a write.
pub(super) fn record(call: &CallRecord, target: &str, key: &str) {
    let reason = format!(
        "`{key}` of the folder is used up in this call: raise `{key}` in [permissions.\"file:write\"] paths in capability.toml, and in the policy"
    );
    call.denied(Permission::FileWrite, target, &reason);
}
