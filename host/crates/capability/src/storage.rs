//! What the host lends to its guests for keeping things: the record store, with a bound on how many operations are under
//! way. It asks no grant; the host functions do.

use std::fmt;
use std::sync::Arc;

use aral_memory::RecordStore;
use tokio::sync::Semaphore;

/// Operations on the store that may be under way at once, all calls together. Stops a store that hangs from taking every
/// thread that the host has for waiting: an operation whose guest is gone still holds one.
pub const STORE_OPERATIONS_MAX: usize = 64;

/// A record store as guests may use it. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Memory {
    pub(crate) store: Arc<dyn RecordStore>,
    pub(crate) places: Arc<Semaphore>,
}

impl Memory {
    /// Lends a store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self {
            store,
            places: Arc::new(Semaphore::new(STORE_OPERATIONS_MAX)),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.store)
    }
}
