//! What the host lends to its guests for keeping things: the record store, with a bound on how many operations are under
//! way, and bounds on uses of secrets. It asks no grant; the host functions do.

use std::fmt;
use std::sync::Arc;

use aral_contract::SecretReference;
use aral_memory::RecordStore;
use tokio::sync::Semaphore;

use crate::places::Places;

/// Operations on the store that may be under way at once, all calls together. Stops a store that hangs from taking every
/// thread that the host has for waiting: an operation whose guest is gone still holds one.
pub const STORE_OPERATIONS_MAX: usize = 64;
/// The guests of one persona may have one in so many of them under way. Stops those of one from keeping everybody else from the store,
/// by writing much or by using one that hangs.
const STORE_OPERATIONS_SHARE: usize = 4;
/// Operations that one call may have under way: a guest that stopped waiting for one asks for the next while that goes on. Stops a call
/// from having all of its persona's.
pub(crate) const STORE_OPERATIONS_PER_CALL_MAX: usize = 4;

/// Uses of local secrets that the guests of one persona may have under way, and as many of those in Vault; a local write also where
/// nobody waits for it any more. Each place of secrets has a bound on all that it does at once, and serves who waits in the order in
/// which they came: stops the guests of one persona from standing before everybody else.
const SECRET_USES_PER_PERSONA_MAX: usize = 4;

/// How the guests of a host share the places of its secrets. One for each host; cheap to clone, and all clones are the same.
#[derive(Debug, Clone)]
pub struct SecretUses {
    /// Apart, so that one that hangs does not keep a persona from the other.
    local: Arc<Places>,
    vault: Arc<Places>,
}

impl Default for SecretUses {
    fn default() -> Self {
        // All together are bounded where the secrets are, as what is there differs.
        let places = || Arc::new(Places::new(Semaphore::MAX_PERMITS, SECRET_USES_PER_PERSONA_MAX));
        Self {
            local: places(),
            vault: places(),
        }
    }
}

impl SecretUses {
    /// Where whoever asks for this secret takes a place; none: it lies in memory, and takes nothing from anybody.
    pub(crate) fn of(&self, reference: &SecretReference) -> Option<&Places> {
        match reference {
            SecretReference::Local { .. } => Some(&self.local),
            SecretReference::Vault { .. } => Some(&self.vault),
            SecretReference::Environment { .. } => None,
        }
    }
}

/// A record store as guests may use it. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Memory {
    pub(crate) store: Arc<dyn RecordStore>,
    pub(crate) places: Arc<Places>,
}

impl Memory {
    /// Lends a store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self {
            store,
            places: Arc::new(Places::new(
                STORE_OPERATIONS_MAX,
                STORE_OPERATIONS_MAX / STORE_OPERATIONS_SHARE,
            )),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.store)
    }
}
