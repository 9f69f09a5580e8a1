//! Another `[memory.master_key]` while the host runs. After a rotation the file has to name the new key, since nothing else opens the
//! store at the next start, and that must not keep a configuration from being taken that may revoke something.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Code, Failure};
use aral_memory::StoreError;

use super::advice::Unheard;
use super::fixed::{MEMORY, refused};
use crate::config::Config;
use crate::config::storage::MasterKeyPlace;
use crate::host::Host;
use crate::storage::{Storage, quoted, store_failure};

/// How long whoever had something done, which holds already, waits to hear of a key or of manifests; first as long for who asked before.
/// Stops a disk that hangs from keeping the next signal from being heard, and whoever manages a server from its answer.
pub(super) const ADVICE_WAIT: Duration = Duration::from_secs(5);

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
        Err(wrong_key(&keys, given))
    }

    /// What to say where the store is open and the key that is named does not open it, as after a rotation: the next start fails. The file
    /// of the key may lie on a disk that hangs, and nobody who had a configuration read waits for that.
    pub(super) fn wrong_key_named(&self, config: &Config) -> Option<String> {
        let place = config.memory.as_ref()?.master_key.clone();
        let (lazy, storage) = (Arc::clone(self.0.store.as_ref()?), self.0.storage.clone());
        let look = move || {
            let keys = lazy.sealed_if_open().ok()??.keys();
            // Whoever hangs below keeps no store open.
            drop(lazy);
            wrong_key_at(&storage, &place, &keys)
        };
        let said = self.0.advice.ask(ADVICE_WAIT, look).unwrap_or_else(|unheard| {
            let why = match unheard {
                Unheard::Late => {
                    let wait = ADVICE_WAIT.as_secs();
                    format!("it was not read within {wait} s; look whether the disk of its file answers")
                }
                Unheard::Failed => "nobody could look; have the configuration read again".to_owned(),
            };
            Some(format!(
                "whether the key opens the store at the next start is not known: {why}"
            ))
        });
        let words = format!("[memory.master_key]: {}", said?);
        tracing::warn!("{words}");
        Some(words)
    }
}

/// Why the next start fails with the key at this place, if it does: the store is open, and wants one of `keys`.
fn wrong_key_at(storage: &Storage, place: &MasterKeyPlace, keys: &[String]) -> Option<String> {
    let why = match storage.master_key_of_open(place, keys) {
        Ok(key) if keys.contains(&key.id()) => return None,
        Ok(key) => wrong_key(keys, key.id()).message,
        Err(failure) => format!("{}; the store wants the key {}", failure.message, quoted(keys)),
    };
    Some(format!("the store stays open, but the next start fails: {why}"))
}

fn wrong_key(keys: &[String], given: String) -> Failure {
    store_failure(StoreError::WrongKey {
        wanted: quoted(keys),
        given,
        service: None,
    })
}
