//! Variables that were taken out of the environment: secrets, and keys to them. They lie encrypted, in one place, for as long as
//! the process runs, and each is in clear while it is used. It knows their names and prints nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aral_contract::failure::chain;
use aral_contract::{Code, Failure, SecretValue};
use aral_memory::EnvironmentSecrets;
use aral_runtime::environment;

/// Variables that are no longer in the environment, by name. Clones share one encrypted copy of the values.
#[derive(Clone, Default)]
pub struct Taken(Arc<EnvironmentSecrets>);

impl Taken {
    /// Variables that an embedder took in its own way.
    ///
    /// # Errors
    /// `host.internal` if the system gives no randomness, or no memory, for a key.
    pub fn new(variables: impl IntoIterator<Item = (String, SecretValue)>) -> Result<Self, Failure> {
        let sealed = EnvironmentSecrets::new(variables).map_err(|error| Failure::internal(chain(&error)))?;
        Ok(Self(Arc::new(sealed)))
    }

    /// Takes these out of the environment. One that is not set is not there afterwards either; whoever needs it says so.
    pub(super) fn take(names: &BTreeSet<String>) -> Result<Self, Failure> {
        let taken = environment::take_variables(names.iter().map(String::as_str))
            .map_err(|error| Failure::new(Code::ConfigInvalid, chain(&error)))?;
        Self::new(taken)
    }

    /// The value of one, in clear for as long as what is returned lives; none if it was not set.
    pub fn get(&self, name: &str) -> Option<SecretValue> {
        self.0.get(name)
    }

    /// The same copy, for what answers for `env://` and for whoever logs in.
    pub(crate) fn secrets(&self) -> Arc<EnvironmentSecrets> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
