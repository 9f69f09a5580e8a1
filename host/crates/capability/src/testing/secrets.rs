//! Secrets in memory, for the tests of this crate: a place that answers as late as it is told, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::secret::SecretFuture;
use aral_contract::{SecretError, SecretReference, SecretSource, SecretValue};
use aral_memory::{LocalSecrets, RecordStore, Secrets, SecretsParts};
use aral_runtime::SystemClock;

use super::store::TestStore;

#[derive(Debug, Default)]
pub(crate) struct TestSource {
    pub(crate) values: Mutex<BTreeMap<String, SecretValue>>,
    pub(crate) delay: Duration,
    pub(crate) down: bool,
}

impl TestSource {
    pub(crate) fn of(values: &[(&str, &str)]) -> Self {
        let values = values
            .iter()
            .map(|(name, value)| (format!("env://{name}"), SecretValue::new(value.as_bytes().to_vec())));
        Self {
            values: Mutex::new(values.collect()),
            ..Self::default()
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<Vec<u8>> {
        let values = self.values.lock().unwrap();
        values
            .get(&format!("env://{name}"))
            .map(|value| value.expose().to_vec())
    }

    async fn work(&self, reference: &SecretReference) -> Result<(), SecretError> {
        tokio::time::sleep(self.delay).await;
        if self.down {
            return Err(SecretError::Unavailable {
                reference: reference.clone(),
                reason: "the server at 10.9.8.7 is sealed".to_owned(),
                source: None,
            });
        }
        Ok(())
    }
}

impl SecretSource for TestSource {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(async move {
            self.work(reference).await?;
            let values = self.values.lock().unwrap();
            let value = values.get(&reference.to_string()).cloned();
            value.ok_or_else(|| SecretError::NotFound {
                reference: reference.clone(),
            })
        })
    }

    fn write<'a>(
        &'a self,
        reference: &'a SecretReference,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            self.work(reference).await?;
            self.values.lock().unwrap().insert(reference.to_string(), value.clone());
            Ok(reference.clone())
        })
    }
}

/// Secrets of these names, each kept under the name in capital letters.
pub(crate) fn secrets(names: &[&str], source: &Arc<TestSource>) -> Secrets {
    let references = names.iter().map(|name| {
        let variable = name.to_uppercase().replace('-', "_");
        (name.parse().unwrap(), SecretReference::Environment { variable })
    });
    let parts = SecretsParts {
        references: references.collect(),
        environment: Some(Arc::clone(source) as Arc<dyn SecretSource>),
        ..SecretsParts::default()
    };
    Secrets::new(parts, Arc::new(SystemClock::new())).unwrap()
}

/// Secrets of any name, in this store of records.
pub(crate) fn local_secrets(store: &Arc<TestStore>) -> Secrets {
    let parts = SecretsParts {
        local: Some(LocalSecrets::new(Arc::clone(store) as Arc<dyn RecordStore>)),
        ..SecretsParts::default()
    };
    Secrets::new(parts, Arc::new(SystemClock::new())).unwrap()
}
