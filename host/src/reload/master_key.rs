//! Another `[memory.master_key]` while the host runs. After a rotation the file has to name the new key, since nothing else opens the
//! store at the next start, and that must not keep a configuration from being taken that may revoke something.

use aral_contract::{Code, Failure};
use aral_memory::StoreError;

use super::fixed::{MEMORY, refused};
use crate::config::Config;
use crate::host::Host;
use crate::storage::{quoted, store_failure};

impl Host {
    /// Another key is taken if it opens the store that is open, which never asks for it again. It waits for whoever opens the store, for
    /// a while, and not for its disk: nobody else changes the rules meanwhile.
    pub(super) fn check_master_key(&self, old: &Config, new: &Config) -> Result<(), Failure> {
        let (Some(old), Some(new)) = (&old.memory, &new.memory) else {
            return Ok(());
        };
        if old.master_key == new.master_key {
            return Ok(());
        }
        let lazy = self.0.store.as_ref().ok_or_else(|| refused(MEMORY))?;
        let store = lazy.sealed_if_open()?.ok_or_else(|| {
            let message = "the store is not open, and will be opened with the key of the start: [memory.master_key] cannot change before";
            Failure::new(Code::ConfigInvalid, message)
                .with_hint("restart the host, or leave [memory.master_key] in aral.toml as it was")
        })?;
        let keys = store.keys();
        let given = self.0.storage.master_key_of_open(&new.master_key, &keys)?.id();
        if keys.contains(&given) {
            return Ok(());
        }
        Err(store_failure(StoreError::WrongKey {
            wanted: quoted(&keys),
            given,
            service: None,
        }))
    }
}
