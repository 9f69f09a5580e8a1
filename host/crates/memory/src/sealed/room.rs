//! What the disk of a store has left. sled does not recover from a full disk before it is opened again, so that it never gets
//! there.

use std::os::fd::AsFd;

use crate::store::StoreError;

/// What a disk has left, and what it keeps, in bytes.
pub(super) struct Room {
    pub(super) free_bytes: u64,
    free_bytes_min: u64,
}

impl Room {
    /// On the disk of a file or folder, of which `free_bytes_min` stay free.
    pub(super) fn on(disk: impl AsFd, free_bytes_min: u64) -> Result<Self, StoreError> {
        let system = rustix::fs::fstatvfs(disk).map_err(|error| StoreError::io("look at its disk", error))?;
        Ok(Self {
            free_bytes: system.f_bavail.saturating_mul(system.f_frsize),
            free_bytes_min,
        })
    }

    /// Refuses what does not fit.
    pub(super) fn holds(&self, bytes: u64) -> Result<(), StoreError> {
        let needed_bytes = self.free_bytes_min.saturating_add(bytes);
        if self.free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(StoreError::Full {
            free_bytes: self.free_bytes,
            needed_bytes,
        })
    }
}
