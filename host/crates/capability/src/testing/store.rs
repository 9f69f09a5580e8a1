//! A record store in memory, for the tests of this crate: the model that every backend is compared with, which waits as long as
//! it is told, and fails when it is told to. Its time stands still at the start of 2026.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::{NamespaceUsage, PAGE_NAMES_MAX, Swept};
use aral_memory::testing::ManualClock;
use aral_memory::testing::model::ModelStore;
use aral_memory::{Operation, Outcome, Page, Quota, Record, RecordName, RecordStore, StoreError, Usage};

#[derive(Debug)]
pub(crate) struct TestStore {
    pub(crate) inner: ModelStore,
    /// How long each operation takes.
    pub(crate) delay: Duration,
    /// Whether the disk is broken.
    pub(crate) broken: bool,
    /// Whether the disk has stopped: until it goes on, no operation ends.
    pub(crate) stopped: AtomicBool,
    /// Operations under way.
    pub(crate) inside: AtomicUsize,
}

impl Default for TestStore {
    fn default() -> Self {
        Self {
            inner: ModelStore::new(Arc::new(ManualClock::new())),
            delay: Duration::ZERO,
            broken: false,
            stopped: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
        }
    }
}

impl TestStore {
    /// What every operation begins with.
    fn work(&self) -> Result<(), StoreError> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        while self.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.broken {
            let source = std::io::Error::other("/var/lib/aral/secret-path: no space left on device");
            return Err(StoreError::Io {
                action: "write",
                source: Box::new(source),
            });
        }
        Ok(())
    }

    /// What is there, as `namespace/name`, in the order of the alphabet. It is found at once, whatever the disk does.
    pub(crate) fn names(&self) -> Vec<String> {
        let spaces = self.inner.namespaces(usize::MAX).unwrap().into_iter();
        let named = |NamespaceUsage { namespace, .. }| {
            let page = self.inner.list(&namespace, "", None, PAGE_NAMES_MAX).unwrap();
            assert_eq!(page.cursor, None, "these are not all");
            let names = page.names.into_iter();
            names.map(move |name| format!("{namespace}/{name}"))
        };
        let mut names: Vec<String> = spaces.flat_map(named).collect();
        names.sort_unstable();
        names
    }
}

impl RecordStore for TestStore {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.work()?;
        self.inner.get(namespace, name)
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.work()?;
        self.inner.apply(namespace, operations, quota)
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.work()?;
        self.inner.list(namespace, prefix, cursor, limit)
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        self.work()?;
        self.inner.classification(namespace, name)
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        self.inner.usage(namespace)
    }

    fn namespaces(&self, _limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        unreachable!("guests cannot ask for this")
    }

    fn sweep(&self, _records_max: usize) -> Result<Swept, StoreError> {
        unreachable!("guests cannot ask for this")
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        self.inner.tag(namespace, name)
    }
}
