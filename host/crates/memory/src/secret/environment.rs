//! Secrets that came in the environment. They were taken out of it when the process started; here they lie encrypted
//! until it ends. Nothing can be written.

use std::collections::BTreeMap;
use std::fmt;

use aral_contract::secret::SecretFuture;
use aral_contract::{SecretError, SecretReference, SecretSource, SecretValue};
use aral_runtime::locked::LockedKeyError;

use super::not_mine;
use super::sealed::{ProcessKey, Sealed};

/// The variables that were taken. The default has none.
#[derive(Default)]
pub struct EnvironmentSecrets {
    /// None: there is nothing to encrypt.
    key: Option<ProcessKey>,
    values: BTreeMap<String, Sealed>,
}

impl EnvironmentSecrets {
    /// Of what [`take_variables`](aral_runtime::take_variables) returned.
    ///
    /// # Errors
    /// If the system gives no randomness, or no memory, for a key.
    pub fn new(taken: impl IntoIterator<Item = (String, SecretValue)>) -> Result<Self, LockedKeyError> {
        let mut taken = taken.into_iter().peekable();
        if taken.peek().is_none() {
            return Ok(Self::default());
        }
        let key = ProcessKey::new()?;
        let seal = |(name, value): (String, SecretValue)| key.seal(&name, &value).map(|sealed| (name, sealed));
        let values = taken.filter_map(seal).collect();
        Ok(Self { key: Some(key), values })
    }

    /// The value of one, in clear for as long as what is returned lives; none if it was not taken.
    pub fn get(&self, variable: &str) -> Option<SecretValue> {
        self.key.as_ref()?.open(variable, self.values.get(variable)?)
    }
}

impl fmt::Debug for EnvironmentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl SecretSource for EnvironmentSecrets {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(async move {
            let SecretReference::Environment { variable } = reference else {
                return Err(not_mine(reference));
            };
            self.get(variable).ok_or_else(|| SecretError::NotFound {
                reference: reference.clone(),
            })
        })
    }

    fn write<'a>(
        &'a self,
        reference: &'a SecretReference,
        _value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            Err(SecretError::Refused {
                reference: reference.clone(),
                reason: "a variable is read once, when the host starts; keep it at local:// or vault:// to change it"
                    .to_owned(),
            })
        })
    }
}
