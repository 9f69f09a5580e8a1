//! Another `[memory.master_key]` while the host runs. After a rotation the file has to name the new key, since nothing else opens the
//! store at the next start, and that must not keep a configuration from being taken that may revoke something.

use aral_contract::Failure;
use aral_memory::StoreError;

use super::fixed::{MEMORY, refused};
use crate::config::Config;
use crate::host::Host;
use crate::storage::store_failure;

impl Host {
    /// Another key is taken if it opens the store that is open, which never asks for it again. It waits for whoever opens or writes
    /// the store.
    pub(super) fn check_master_key(&self, old: &Config, new: &Config) -> Result<(), Failure> {
        let (Some(old), Some(new)) = (&old.memory, &new.memory) else {
            return Ok(());
        };
        if old.master_key == new.master_key {
            return Ok(());
        }
        // One that is not open will be opened with the key of the start.
        let store = self.0.store.as_ref().and_then(|store| store.sealed_if_open());
        let store = store.ok_or_else(|| refused(MEMORY))?;
        let given = self.0.storage.master_key(&new.master_key)?.id();
        let keys = store.status().map_err(store_failure)?.keys;
        if keys.contains(&given) {
            return Ok(());
        }
        let wanted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        Err(store_failure(StoreError::WrongKey {
            wanted: wanted.join(" or "),
            given,
            service: None,
        }))
    }
}
