//! Variables that were taken out of the environment: secrets, and keys to them. It knows their names and prints nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aral_contract::failure::chain;
use aral_contract::{Code, Failure, SecretValue};
use aral_runtime::environment;

/// Variables that are no longer in the environment, by name. Clones share one copy of the values.
#[derive(Clone, Default)]
pub struct Taken(Arc<BTreeMap<String, SecretValue>>);

impl Taken {
    /// Takes these out of the environment. One that is not set is not there afterwards either; whoever needs it says so.
    pub(super) fn take(names: &BTreeSet<String>) -> Result<Self, Failure> {
        let taken = environment::take_variables(names.iter().map(String::as_str))
            .map_err(|error| Failure::new(Code::ConfigInvalid, chain(&error)))?;
        Ok(Self(Arc::new(taken.into_iter().collect())))
    }

    /// The value of one; none if it was not set.
    pub fn get(&self, name: &str) -> Option<&SecretValue> {
        self.0.get(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl FromIterator<(String, SecretValue)> for Taken {
    /// Variables that an embedder took in its own way.
    fn from_iter<I: IntoIterator<Item = (String, SecretValue)>>(variables: I) -> Self {
        Self(Arc::new(variables.into_iter().collect()))
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
