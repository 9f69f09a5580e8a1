//! Secrets by name: where each is kept, one way to read and write it, and a short-lived encrypted copy. It knows no guest
//! and no grant: whoever calls has asked those.

mod cache;
mod environment;
mod fields;
mod flights;
mod local;
mod sealed;
#[cfg(test)]
pub(crate) mod tests;
mod vault;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aral_contract::id::SecretName;
use aral_contract::secret::SECRET_BYTES_MAX;
use aral_contract::{Clock, SecretError, SecretReference, SecretSource, SecretValue};
use aral_runtime::locked::LockedKeyError;
use subtle::ConstantTimeEq as _;

use cache::Cache;
pub use cache::CacheLimits;
pub use environment::EnvironmentSecrets;
use flights::Flights;
pub use local::{LOCAL_OPERATIONS_MAX, LocalSecrets};
pub use vault::VaultSecrets;

use crate::store::StoreError;

/// What [`Secrets`] is made of. The default has no place for secrets at all.
#[derive(Debug, Clone, Default)]
pub struct SecretsParts {
    /// Where the secrets with these names are. Every other one is in the local store, under its name.
    pub references: BTreeMap<SecretName, SecretReference>,
    /// What answers for `vault://`: [`VaultSecrets`], or an embedder's own.
    pub vault: Option<Arc<dyn SecretSource>>,
    /// What answers for `env://`: [`EnvironmentSecrets`], or an embedder's own.
    pub environment: Option<Arc<dyn SecretSource>>,
    /// What answers for `local://`.
    pub local: Option<LocalSecrets>,
    /// How long and how many values are kept in memory, encrypted.
    pub cache: CacheLimits,
}

/// All secrets of a host. Cheap to clone; the clones share one cache.
#[derive(Clone)]
pub struct Secrets(Arc<Shared>);

struct Shared {
    parts: SecretsParts,
    cache: Arc<Cache>,
    flights: Flights,
}

/// Is told how a write ended. A value for the local store is written also if its caller has given up, and then this is told
/// when nobody else hears of it. Dropped untold: it never began, or nobody knows what became of it.
pub type WriteEnded = Box<dyn FnOnce(Result<(), &SecretError>) + Send>;

/// Where one secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPlace {
    /// Its name.
    pub name: SecretName,
    /// Where it is.
    pub reference: SecretReference,
}

/// One page of a listing. It holds no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPage {
    /// Those that the configuration names come first, in order; those of the local store follow in an order of their own.
    pub secrets: Vec<SecretPlace>,
    /// Where the next page begins; none: this was the last one. A page may be empty and still have a successor.
    pub cursor: Option<String>,
}

impl Secrets {
    /// Asks no source for anything.
    ///
    /// # Errors
    /// If the system gives no randomness, or no memory, for the key of the cache.
    pub fn new(parts: SecretsParts, clock: Arc<dyn Clock>) -> Result<Self, LockedKeyError> {
        Ok(Self(Arc::new(Shared {
            cache: Arc::new(Cache::new(parts.cache, clock)?),
            flights: Flights::default(),
            parts,
        })))
    }

    /// Where a secret is, or would be stored; none: nowhere.
    pub fn reference(&self, name: &SecretName) -> Option<SecretReference> {
        let parts = &self.0.parts;
        let local = || parts.local.is_some().then(|| local_reference(name));
        parts.references.get(name).cloned().or_else(local)
    }

    /// Where a secret is; none: nowhere. Of the local store alone it is asked whether it is there.
    ///
    /// # Errors
    /// If the local store cannot be read.
    pub async fn locate(&self, name: &SecretName) -> Result<Option<SecretReference>, StoreError> {
        let Some(reference) = self.reference(name) else {
            return Ok(None);
        };
        let (SecretReference::Local { name }, Some(local)) = (&reference, &self.0.parts.local) else {
            return Ok(Some(reference));
        };
        Ok(local.has(name).await?.then_some(reference))
    }

    /// The value of a secret, if there is a copy that is younger than the time to live. No source is asked, and nobody is waited for.
    pub fn at_hand(&self, name: &SecretName) -> Option<SecretValue> {
        self.0.cache.get(&self.reference(name)?)
    }

    /// The value of a secret: a copy that is younger than the time to live, or what its source says now. Of many who ask
    /// for the same one at once, one asks the source, and the others take its answer.
    ///
    /// # Errors
    /// As the source says.
    pub async fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        self.get_holding(name, ()).await
    }

    /// [`Secrets::get`] for a caller who holds something for as long as this takes: `held` is dropped when it has ended, and where
    /// the local store is asked only when that has ended, even if the caller does not wait for it.
    ///
    /// # Errors
    /// As [`Secrets::get`].
    pub async fn get_holding(&self, name: &SecretName, held: impl Send + 'static) -> Result<SecretValue, SecretError> {
        let (reference, source) = self.place(name)?;
        let cache = &self.0.cache;
        if let Some(value) = cache.get(&reference) {
            return Ok(value);
        }
        let reading = cache.reading(&reference);
        let flight = self.0.flights.join(&reference, reading.generation());
        let mut landing = flight.wait().await;
        if let Some(outcome) = landing.outcome(cache, &reference) {
            return outcome;
        }
        // One who waited in another flight of this secret may have filled the cache.
        if let Some(value) = cache.get(&reference) {
            return Ok(value);
        }
        let generation = reading.generation();
        let outcome = match self.detached(&reference) {
            Some(local) => checked(&reference, local.fetch(&reference, held).await),
            None => read(source, &reference).await,
        };
        if let Ok(value) = &outcome {
            reading.keep(value, generation);
        }
        landing.land(cache, &reference, generation, &outcome);
        outcome
    }

    /// Stores a value and says where. Nobody is given the one before from then on.
    ///
    /// # Errors
    /// As the source says. After one, the old value may be there or the new one.
    pub async fn put(&self, name: &SecretName, value: &SecretValue) -> Result<SecretReference, SecretError> {
        self.put_told(name, value, Box::new(|_ended| ())).await
    }

    /// [`Secrets::put`] for a caller who has to know how it ended, even if it does not wait for that.
    ///
    /// # Errors
    /// As [`Secrets::put`].
    pub async fn put_told(
        &self,
        name: &SecretName,
        value: &SecretValue,
        ended: WriteEnded,
    ) -> Result<SecretReference, SecretError> {
        // To read one that is nowhere is to find none. To store one is not.
        if self.reference(name).is_none() {
            return Err(SecretError::Refused {
                reference: local_reference(name),
                reason: NO_STORE.to_owned(),
            });
        }
        let (reference, source) = self.place(name)?;
        check_size(&reference, value)?;
        // Dropped at the end, and also when the caller gives up in the middle, since the value may be written by then.
        let forget = self.0.cache.forget_at_the_end(&reference);
        match self.detached(&reference) {
            Some(local) => local.store(&reference, value, forget, ended).await,
            None => {
                let written = source.write(&reference, value).await;
                ended(written.as_ref().map(|_reference| ()));
                written
            }
        }
    }

    /// Stores another value in place of one that is there.
    ///
    /// # Errors
    /// As the source says; [`SecretError::NotFound`] if there is none, and [`SecretError::Refused`] if it is the same one, or
    /// another one by the time it is written: what somebody else deleted or replaced meanwhile is not undone. But a Vault server
    /// does not tell of a deletion between the last look at what is there and the write, and has the secret back then.
    pub async fn rotate(&self, name: &SecretName, value: &SecretValue) -> Result<SecretReference, SecretError> {
        let (reference, source) = self.place(name)?;
        check_size(&reference, value)?;
        let before = read(source, &reference).await?;
        if is_same(&before, value) {
            return Err(SecretError::Refused {
                reference,
                reason: "the new value is the one that is there".to_owned(),
            });
        }
        let forget = self.0.cache.forget_at_the_end(&reference);
        match self.detached(&reference) {
            Some(local) => local.exchange(&reference, &before, value, forget).await,
            None => source.replace(&reference, &before, value).await,
        }
    }

    /// Deletes a secret and says where it was. Nobody is given it from then on.
    ///
    /// # Errors
    /// As the source says: [`SecretError::NotFound`] if there is none, [`SecretError::Refused`] where the host deletes nothing.
    pub async fn delete(&self, name: &SecretName) -> Result<SecretReference, SecretError> {
        let (reference, source) = self.place(name)?;
        let forget = self.0.cache.forget_at_the_end(&reference);
        match self.detached(&reference) {
            Some(local) => local.remove(&reference, forget).await?,
            None => source.delete(&reference).await?,
        }
        Ok(reference)
    }

    /// Forgets the copies of all that the local store has: for who has changed it past this, as an import does. Nobody is given
    /// what was there before from then on.
    pub fn forget_local(&self) {
        self.0.cache.forget_local();
    }

    /// The names that there are, and where they are. At most `limit` of the local store at once.
    ///
    /// # Errors
    /// As the local store says.
    pub async fn list(&self, cursor: Option<&str>, limit: usize) -> Result<SecretPage, StoreError> {
        let parts = &self.0.parts;
        let mut secrets = Vec::new();
        if cursor.is_none() {
            secrets.extend(parts.references.iter().map(|(name, reference)| SecretPlace {
                name: name.clone(),
                reference: reference.clone(),
            }));
        }
        let Some(local) = &parts.local else {
            return Ok(SecretPage { secrets, cursor: None });
        };
        let (names, cursor) = local.names(cursor, limit).await?;
        // A name that the configuration places elsewhere does not reach what the store has under it.
        let reached = names.into_iter().filter(|name| !parts.references.contains_key(name));
        secrets.extend(reached.map(|name| SecretPlace {
            reference: local_reference(&name),
            name,
        }));
        Ok(SecretPage { secrets, cursor })
    }

    /// The source that goes on when the caller has given up: what is to happen at the end goes along with its work.
    fn detached(&self, reference: &SecretReference) -> Option<&LocalSecrets> {
        match reference {
            SecretReference::Local { .. } => self.0.parts.local.as_ref(),
            SecretReference::Vault { .. } | SecretReference::Environment { .. } => None,
        }
    }

    fn place(&self, name: &SecretName) -> Result<(SecretReference, &dyn SecretSource), SecretError> {
        let parts = &self.0.parts;
        let reference = self.reference(name).ok_or_else(|| SecretError::NotFound {
            reference: local_reference(name),
        })?;
        let (source, missing): (Option<&dyn SecretSource>, _) = match &reference {
            SecretReference::Vault { .. } => (
                parts.vault.as_deref(),
                "there is no Vault server; add `[secrets.vault]` with its address to aral.toml",
            ),
            SecretReference::Environment { .. } => (
                parts.environment.as_deref(),
                "no variable was taken when the host started",
            ),
            SecretReference::Local { .. } => (parts.local.as_ref().map(|local| local as &dyn SecretSource), NO_STORE),
        };
        match source {
            Some(source) => Ok((reference, source)),
            None => Err(SecretError::Refused {
                reference,
                reason: missing.to_owned(),
            }),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.parts).finish()
    }
}

fn local_reference(name: &SecretName) -> SecretReference {
    SecretReference::Local { name: name.clone() }
}

async fn read(source: &dyn SecretSource, reference: &SecretReference) -> Result<SecretValue, SecretError> {
    checked(reference, source.read(reference).await)
}

/// What was read, if a secret may have that size.
fn checked(reference: &SecretReference, read: Result<SecretValue, SecretError>) -> Result<SecretValue, SecretError> {
    let value = read?;
    check_size(reference, &value)?;
    Ok(value)
}

fn is_same(one: &SecretValue, other: &SecretValue) -> bool {
    one.expose().ct_eq(other.expose()).into()
}

/// Why a value was not written in place of another one.
enum Missed {
    /// There is none any more.
    Gone,
    /// There is another one by now.
    Changed,
}

impl Missed {
    fn at(self, reference: &SecretReference) -> SecretError {
        let reference = reference.clone();
        match self {
            Self::Gone => SecretError::NotFound { reference },
            Self::Changed => SecretError::Refused {
                reference,
                reason: CHANGED.to_owned(),
            },
        }
    }
}

const NO_STORE: &str =
    "there is no local store; add `[memory]` to aral.toml, or say in `[secrets.names]` where the secret is";

const CHANGED: &str = "somebody else has changed it meanwhile";

fn check_size(reference: &SecretReference, value: &SecretValue) -> Result<(), SecretError> {
    let bytes = value.expose().len();
    if (1..=SECRET_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(SecretError::Size {
        reference: reference.clone(),
        bytes,
    })
}

/// A source was asked for a reference of another scheme. It never is, by [`Secrets`].
fn not_mine(reference: &SecretReference) -> SecretError {
    SecretError::Refused {
        reference: reference.clone(),
        reason: "this source does not keep secrets of that scheme".to_owned(),
    }
}
