//! One space of a store, as the trait of every backend.

use std::fmt;

use aral_contract::Classification;
use aral_contract::id::Namespace;

use super::SealedStore;
use super::entry::Owner;
use super::root::Space;
use super::work::Work;
use crate::key::hex;
use crate::record::{NamespaceUsage, Operation, Outcome, Page, Quota, Record, RecordName, Swept, Usage};
use crate::store::{RecordStore, StoreError};

/// Bytes of a tag that are shown.
const TAG_BYTES: usize = 16;
/// Expired records that a full namespace gets rid of at once before it refuses, and how often: those of others come first
/// where they expired earlier.
const SWEPT_FOR_ROOM: usize = 256;
const SWEEPS_FOR_ROOM: usize = 64;

pub(super) struct View {
    store: SealedStore,
    space: Space,
}

impl View {
    pub(super) fn new(store: SealedStore, space: Space) -> Self {
        Self { store, space }
    }

    fn owner<'a>(&'a self, namespace: &'a Namespace) -> Owner<'a> {
        self.store.0.owner(self.space, namespace)
    }

    fn try_apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        let work = Work::Apply {
            space: self.space,
            namespace: namespace.clone(),
            operations,
            quota: *quota,
        };
        self.store.0.submit(work).map(|done| done.outcomes)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.space, self.store)
    }
}

impl RecordStore for View {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.store.0.get(self.owner(namespace), name)
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        // What has expired is not there, but counts until it is swept: it must not keep out what is.
        let again = (*quota != Quota::UNLIMITED).then(|| operations.clone());
        match (self.try_apply(namespace, operations, quota), again) {
            (Err(StoreError::Quota { .. }), Some(operations)) => {
                for _ in 0..SWEEPS_FOR_ROOM {
                    // A sweep that fails, such as on an entry of somebody else, makes no room, and is not what was asked for.
                    if !self.sweep(SWEPT_FOR_ROOM).is_ok_and(|swept| swept.more) {
                        break;
                    }
                }
                // Once more, whoever made room.
                self.try_apply(namespace, operations, quota)
            }
            (other, _) => other,
        }
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.store.0.list(self.space, namespace, prefix, cursor, limit)
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        self.store.0.classification(self.owner(namespace), name)
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        self.store.0.usage(self.space, namespace)
    }

    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        self.store.0.namespaces(self.space, limit)
    }

    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        self.store.0.sweep(records_max)
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        let tag = self.store.0.keys.load().newest().tag(self.space, namespace, name);
        hex(tag.get(..TAG_BYTES).unwrap_or_default())
    }
}
