//! Secrets in the encrypted store of this host. What is replaced cannot be read any more by whoever copies the store
//! later: that is the store's promise.

use std::sync::Arc;

use aral_contract::id::{Namespace, SecretName};
use aral_contract::secret::SecretFuture;
use aral_contract::{Classification, SecretError, SecretReference, SecretSource, SecretValue};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{Missed, WriteEnded, is_same, not_mine};
use crate::record::{Precondition, Quota, RecordName, Usage, Write};
use crate::store::{RecordStore, StoreError};

/// Operations on local secrets that may be under way at once. Stops a store that hangs from taking every thread that the host has
/// for waiting: an operation whose guest is gone still holds one.
pub const LOCAL_OPERATIONS_MAX: usize = 16;

/// The secrets of a store of their own: not the one that guests keep their records in.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    store: Arc<dyn RecordStore>,
    namespace: Namespace,
    places: Arc<Semaphore>,
}

impl LocalSecrets {
    /// What all local secrets together may take. Stops a capability that may write secrets from filling the disk.
    pub const QUOTA: Quota = Quota {
        bytes_max: 64 << 20,
        records_max: 16_384,
    };

    /// Secrets in this store.
    #[expect(
        clippy::expect_used,
        reason = "the text is a constant, and every test of this file goes through here"
    )]
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        let namespace = "secrets".parse().expect("`secrets` is a name");
        Self {
            store,
            namespace,
            places: Arc::new(Semaphore::new(LOCAL_OPERATIONS_MAX)),
        }
    }

    /// How much of [`LocalSecrets::QUOTA`] is taken. It waits for the store.
    ///
    /// # Errors
    /// As [`RecordStore::usage`].
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.store.usage(&self.namespace)
    }

    /// A page of names, and where the next one begins.
    pub(super) async fn names(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<SecretName>, Option<String>), StoreError> {
        let (own, cursor) = (self.clone(), cursor.map(str::to_owned));
        let list = move || own.store.list(&own.namespace, "", cursor.as_deref(), limit);
        let page = self.blocking(list).await?;
        // Whatever else may be in there was not put there as a secret, and none reaches it.
        let names = page
            .names
            .iter()
            .filter_map(|name| name.as_str().parse().ok())
            .collect();
        Ok((names, page.cursor))
    }

    /// Whether there is a secret at a reference of the local store.
    pub(super) async fn has(&self, name: &SecretName) -> Result<bool, StoreError> {
        let Ok(name) = RecordName::try_from(name.as_str().to_owned()) else {
            return Ok(false);
        };
        let own = self.clone();
        let look = move || own.store.classification(&own.namespace, &name);
        let found = self.blocking(look).await?;
        Ok(found.is_some())
    }

    /// `held` is dropped when the value is read or will not be, also where nobody waits for it any more.
    pub(super) async fn fetch(
        &self,
        reference: &SecretReference,
        held: impl Send + 'static,
    ) -> Result<SecretValue, SecretError> {
        let (own, name) = (self.clone(), record_name(reference)?);
        let work = move || {
            let _held = held;
            own.store.get(&own.namespace, &name)
        };
        let record = self.blocking(work).await;
        match record.map_err(|error| failed(reference, error))? {
            // The record erases its own copy.
            Some(record) => Ok(SecretValue::new(record.value.to_vec())),
            None => Err(SecretError::NotFound {
                reference: reference.clone(),
            }),
        }
    }

    /// `held` is dropped when the value is written or will not be, and `ended` is told which, also where nobody waits for it any
    /// more.
    pub(super) async fn store(
        &self,
        reference: &SecretReference,
        value: &SecretValue,
        held: impl Send + 'static,
        ended: WriteEnded,
    ) -> Result<SecretReference, SecretError> {
        let (own, place) = (self.clone(), reference.clone());
        let write = write_of(reference, value)?;
        let work = move || {
            let _held = held;
            let written = own.store.put(&own.namespace, write, &Self::QUOTA);
            let written = written.map(|_version| ()).map_err(|error| failed(&place, error));
            ended(written.as_ref().copied());
            Ok(written)
        };
        let written = self.blocking(work).await;
        written.map_err(|error| failed(reference, error))??;
        Ok(reference.clone())
    }

    /// Writes in place of `before`, and of nothing else. `held` as with [`LocalSecrets::store`].
    pub(super) async fn exchange(
        &self,
        reference: &SecretReference,
        before: &SecretValue,
        value: &SecretValue,
        held: impl Send + 'static,
    ) -> Result<SecretReference, SecretError> {
        let (own, before) = (self.clone(), before.clone());
        let mut write = write_of(reference, value)?;
        let work = move || {
            let _held = held;
            let Some(record) = own.store.get(&own.namespace, &write.name)? else {
                return Ok(Err(Missed::Gone));
            };
            if !is_same(&SecretValue::new(record.value.to_vec()), &before) {
                return Ok(Err(Missed::Changed));
            }
            write.precondition = Precondition::Version(record.version);
            match own.store.put(&own.namespace, write, &Self::QUOTA) {
                Ok(_version) => Ok(Ok(())),
                Err(StoreError::Precondition { version: None, .. }) => Ok(Err(Missed::Gone)),
                Err(StoreError::Precondition { .. }) => Ok(Err(Missed::Changed)),
                Err(error) => Err(error),
            }
        };
        let written = self.blocking(work).await;
        match written.map_err(|error| failed(reference, error))? {
            Ok(()) => Ok(reference.clone()),
            Err(missed) => Err(missed.at(reference)),
        }
    }

    /// `held` as with [`LocalSecrets::store`].
    pub(super) async fn remove(
        &self,
        reference: &SecretReference,
        held: impl Send + 'static,
    ) -> Result<(), SecretError> {
        let (own, name) = (self.clone(), record_name(reference)?);
        let work = move || {
            let _held = held;
            own.store.delete(&own.namespace, &name, Precondition::Any)
        };
        let found = self.blocking(work).await;
        match found.map_err(|error| failed(reference, error))? {
            Some(_classification) => Ok(()),
            None => Err(SecretError::NotFound {
                reference: reference.clone(),
            }),
        }
    }

    /// The store may wait for a disk. Where there is a runtime, its threads must not, and of those that may no more than
    /// there are places: what nobody waits for any more keeps its own until it has ended.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopping = |source| StoreError::Io {
            action: "finish, because the host is stopping",
            source,
        };
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| stopping(error.into()))?;
        let work = move || {
            let _place = place;
            work()
        };
        match Handle::try_current() {
            Ok(runtime) => {
                let done = runtime.spawn_blocking(work).await;
                done.unwrap_or_else(|error| Err(stopping(error.into())))
            }
            Err(_) => work(),
        }
    }
}

impl SecretSource for LocalSecrets {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(self.fetch(reference, ()))
    }

    fn write<'a>(
        &'a self,
        reference: &'a SecretReference,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(self.store(reference, value, (), Box::new(|_ended| ())))
    }

    fn replace<'a>(
        &'a self,
        reference: &'a SecretReference,
        before: &'a SecretValue,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(self.exchange(reference, before, value, ()))
    }

    fn delete<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, ()> {
        Box::pin(self.remove(reference, ()))
    }
}

fn write_of(reference: &SecretReference, value: &SecretValue) -> Result<Write, SecretError> {
    Ok(Write {
        name: record_name(reference)?,
        value: Zeroizing::new(value.expose().to_vec()),
        ttl_seconds: None,
        classification: Classification::Secret,
        precondition: Precondition::Any,
    })
}

fn record_name(reference: &SecretReference) -> Result<RecordName, SecretError> {
    let SecretReference::Local { name } = reference else {
        return Err(not_mine(reference));
    };
    name.as_str().parse().map_err(|_| not_mine(reference))
}

fn failed(reference: &SecretReference, error: StoreError) -> SecretError {
    let reference = reference.clone();
    let reason = error.to_string();
    match error {
        error @ (StoreError::Io { .. }
        | StoreError::Full { .. }
        | StoreError::Held { .. }
        | StoreError::Busy
        | StoreError::Key(_)
        | StoreError::KeyService(_)
        | StoreError::EpochKey(_)
        | StoreError::NoEpochKey(_)
        | StoreError::Files(_)) => SecretError::Unavailable {
            reference,
            reason,
            source: Some(Box::new(error)),
        },
        StoreError::Precondition { .. }
        | StoreError::Quota { .. }
        | StoreError::Invalid(_)
        | StoreError::NotAStore { .. }
        | StoreError::Cursor
        | StoreError::Corrupt { .. }
        | StoreError::Version { .. }
        | StoreError::Master(_)
        | StoreError::WrongKey { .. } => SecretError::Refused { reference, reason },
    }
}
