//! `aral memory`: the operator's hand in the store. What its verbs share: the open store, and the events of what is done.

mod backup;
mod keys;
mod records;
mod stats;

use std::sync::Arc;

use aral_contract::event::DataOperation;
use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock, EventKind, Failure};
use aral_host::Storage;
use aral_host::storage::store_failure;
use aral_memory::sealed::SealedStore;
use aral_memory::{RecordName, RecordStore, StoreError};
use aral_runtime::SystemClock;

use super::arguments::storage::Memory;
use super::configured::Configured;
use super::output::{Done, Output};
use super::trail::Trail;

pub(crate) use keys::keygen;

/// Every verb but `keygen`, which needs no configuration.
pub(crate) fn run(verb: &Memory, configured: &Configured, output: &Output) -> Done {
    match verb {
        Memory::Keygen(arguments) => keygen(arguments, output),
        Memory::Get(arguments) => records::get(arguments, &Opened::new(configured)?, output),
        Memory::Put(arguments) => {
            // Before the store: nobody waits for it while a person types.
            let value = records::value(arguments)?;
            records::put(arguments, value, &Opened::new(configured)?, output)
        }
        Memory::Delete(arguments) => records::delete(arguments, &Opened::new(configured)?, output),
        Memory::List(arguments) => records::list(arguments, &Opened::new(configured)?, output),
        Memory::Stats => stats::run(&Opened::new(configured)?, output),
        Memory::RotateKey(arguments) => keys::rotate(arguments, configured, output),
        Memory::RotateEpoch => keys::rotate_epoch(configured, output),
        Memory::Export(arguments) => backup::export(arguments, configured, output),
        Memory::Import(arguments) => backup::import(arguments, configured, output),
    }
}

/// The open store.
pub(crate) struct Opened {
    pub(crate) storage: Storage,
    pub(crate) store: SealedStore,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) trail: Trail,
}

impl Opened {
    pub(crate) fn new(configured: &Configured) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let storage = Storage::new(&configured.config, Arc::clone(&clock))?;
        let store = storage.open()?;
        let trail = Trail::open(&configured.config, &clock)?;
        Ok(Self {
            records: store.memory(),
            storage,
            store,
            trail,
        })
    }

    /// Notes what was done, or why not, and hands the answer on.
    fn noting<T>(
        &self,
        done: Result<T, StoreError>,
        namespace: &Namespace,
        name: Option<&RecordName>,
        operation: DataOperation,
        facts: impl FnOnce(&T) -> (Option<Classification>, u64),
    ) -> Result<T, Failure> {
        let (classification, amount) = done.as_ref().map_or((None, 0), facts);
        self.trail.record(EventKind::DataAccess {
            capability: None,
            operation,
            namespace: namespace.clone(),
            record: name.map(|name| self.records.tag(namespace, name)),
            classification,
            amount,
            refused: done.as_ref().err().map(ToString::to_string),
        });
        done.map_err(store_failure)
    }
}
