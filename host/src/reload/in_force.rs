//! What of the configuration holds, as far as the next one is compared with it, and what holds whatever a configuration says.

use std::collections::HashSet;

use aral_contract::Digest;
use aral_contract::document::{Kind, PublicKey, TrustStore};
use aral_orchestration::Policy;

use crate::config::Config;
use crate::host::Registered;

/// What holds of the rules.
#[derive(Debug, Default)]
pub(crate) struct InForce {
    /// As it was handed to the host; none: it is not built yet.
    pub(super) config: Option<Box<Config>>,
    /// Digests of the manifests that it names. Those that were registered in another way stay when it is read again.
    pub(super) manifests: HashSet<Digest>,
    given: Given,
}

/// What the builder was given for the rules of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The policy instead of that of the configuration.
    pub(crate) policy: Option<Policy>,
    /// Keys that are trusted besides those of the configuration.
    pub(crate) keys: Vec<(PublicKey, Vec<Kind>)>,
}

impl InForce {
    pub(crate) fn new(config: &Config, given: Given) -> Self {
        Self {
            config: Some(Box::new(config.clone())),
            manifests: HashSet::new(),
            given,
        }
    }

    /// These came from a manifest of the configuration.
    pub(crate) fn note(&mut self, registered: &[Registered]) {
        let digests = registered.iter().map(|one| one.capability.manifest_digest());
        self.manifests.extend(digests);
    }

    /// Policy and trust under a configuration.
    pub(crate) fn rules(&self, config: &Config) -> (Policy, TrustStore) {
        let policy = self.given.policy.as_ref().unwrap_or(&config.policy);
        let mut trust = config.trust.clone();
        for (key, kinds) in &self.given.keys {
            trust.add(key.clone(), kinds);
        }
        (policy.clone(), trust)
    }
}
