//! The encrypted store of a lab, with secrets in it. It knows no guest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::id::Namespace;
use aral_contract::{Classification, SecretValue};
use aral_memory::key::MasterKey;
use aral_memory::record::{NamespaceUsage, Swept};
use aral_memory::sealed::{SealedStore, StoreOptions};
use aral_memory::{
    LocalSecrets, Operation, Outcome, Page, Quota, Record, RecordName, RecordStore, Secrets, SecretsParts, StoreError,
    Usage,
};
use aral_runtime::SystemClock;

use super::setup::Setup;

/// What the host is given.
pub(crate) struct Kept {
    pub(crate) memory: Arc<dyn RecordStore>,
    pub(crate) secrets: Secrets,
}

impl Kept {
    pub(crate) async fn open(folder: &Path, setup: &Setup) -> Self {
        let clock = Arc::new(SystemClock::new());
        let text = MasterKey::generate_text().expect("randomness");
        let key = MasterKey::from_text(text.as_bytes()).expect("a key");
        let options = StoreOptions::new(folder.join("store"), key, Arc::clone(&clock) as _);
        let store = SealedStore::open(options).expect("a store");
        let later = |inner| {
            Arc::new(Slow {
                inner,
                delay: setup.delay,
            })
        };
        let parts = SecretsParts {
            local: Some(LocalSecrets::new(later(store.secrets()))),
            ..SecretsParts::default()
        };
        let secrets = Secrets::new(parts, clock).expect("randomness");
        for (name, value) in &setup.secrets {
            let value = SecretValue::new(value.as_bytes().to_vec());
            secrets
                .put(&name.parse().expect("a name"), &value)
                .await
                .expect("it is stored");
        }
        Self {
            memory: later(store.memory()),
            secrets,
        }
    }
}

/// The same store, later.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn RecordStore>,
    delay: Duration,
}

impl Slow {
    fn later(&self) -> &dyn RecordStore {
        std::thread::sleep(self.delay);
        &*self.inner
    }
}

impl RecordStore for Slow {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.later().get(namespace, name)
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.later().apply(namespace, operations, quota)
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.later().list(namespace, prefix, cursor, limit)
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        self.inner.classification(namespace, name)
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        self.inner.usage(namespace)
    }

    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        self.inner.namespaces(limit)
    }

    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(records_max)
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        self.inner.tag(namespace, name)
    }
}
