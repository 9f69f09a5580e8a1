//! Keys that were revoked while the host runs, besides those that its configuration revokes. Whoever revokes one waits for nobody who
//! reads a configuration or registers a manifest: those may take long, and the key may be a thief's.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aral_contract::KeyId;
use aral_contract::document::TrustStore;
use aral_orchestration::Dispatcher;

#[derive(Debug, Default)]
pub(crate) struct Revoked(Mutex<BTreeSet<KeyId>>);

impl Revoked {
    /// One more. `hold` makes it hold for the rules of now; no others come into force meanwhile.
    pub(crate) fn add<T>(&self, key: KeyId, hold: impl FnOnce() -> T) -> T {
        let mut keys = self.lock();
        keys.insert(key);
        hold()
    }

    /// These instead of those that there were.
    pub(crate) fn replace<T>(&self, others: BTreeSet<KeyId>, hold: impl FnOnce() -> T) -> T {
        let mut keys = self.lock();
        *keys = others;
        hold()
    }

    /// Takes them out of a trust that is to hold.
    pub(super) fn apply(&self, trust: &mut TrustStore) {
        self.lock().iter().for_each(|key| trust.revoke(*key));
    }

    /// Other rules come into force, without what was revoked since they were made. `hold` makes them hold.
    pub(super) fn bring_into_force<T>(&self, rules: &Dispatcher, hold: impl FnOnce() -> T) -> T {
        let keys = self.lock();
        keys.iter().for_each(|key| rules.revoke(*key));
        rules.come_into_force();
        hold()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
