//! What of the configuration holds, as far as the next one is compared with it, and what holds whatever it says.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};

use aral_contract::document::{Kind, PublicKey, TrustStore, Validity};
use aral_contract::{Code, Digest, Failure};
use aral_orchestration::Policy;
use aral_protocol::Health;

use super::fixed::authorities;
use crate::config::Config;
use crate::host::Registered;

/// What holds of the rules.
#[derive(Debug, Default)]
pub(crate) struct InForce {
    /// As it was handed to the host; none: it is not built yet.
    pub(super) config: Option<Box<Config>>,
    /// The authorities of the start: what reaches a server until the end of the host trusts these.
    authorities: BTreeMap<&'static str, Option<Digest>>,
    /// Digests of the manifests that it names. Those that were registered in another way stay when it is read again.
    pub(super) manifests: HashSet<Digest>,
    given: Given,
    /// What each server of the host holds as long as it is there.
    servers: Vec<Weak<dyn Health>>,
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
            authorities: authorities(config),
            manifests: HashSet::new(),
            given,
            servers: Vec::new(),
        }
    }

    /// These came from a manifest of the configuration.
    pub(crate) fn note(&mut self, registered: &[Registered]) {
        let digests = registered.iter().map(|one| one.capability.manifest_digest());
        self.manifests.extend(digests);
    }

    /// A server is there as long as this is.
    pub(crate) fn serve(&mut self, health: &Arc<dyn Health>) {
        self.servers.retain(|server| server.strong_count() > 0);
        self.servers.push(Arc::downgrade(health));
    }

    /// Where a configuration has other authorities than the one before, and than servers are reached with until the end of the host:
    /// the rules of the events that say so.
    pub(super) fn other_authorities(&self, new: &Config) -> Vec<&'static str> {
        let Some(old) = self.config.as_deref().map(authorities) else {
            return Vec::new();
        };
        let new = authorities(new).into_iter();
        new.filter(|(rule, pem)| old.get(rule) != Some(pem) && self.authorities.get(rule) != Some(pem))
            .map(|(rule, _)| rule)
            .collect()
    }

    /// Whether no server would be left behind under the rules of before.
    pub(super) fn check_unserved(&self) -> Result<(), Failure> {
        if self.servers.iter().all(|server| server.strong_count() == 0) {
            return Ok(());
        }
        let message = "a server of this host is there, and would go on under the configuration of before";
        Err(Failure::new(Code::ConfigInvalid, message).with_hint("read it again for both with a `Reloader`"))
    }

    /// Another policy holds: it takes the place of the one that the builder was given, too, which would be back otherwise when the
    /// configuration is read again.
    pub(super) fn replace_given(&mut self, policy: &Policy) {
        if let Some(given) = &mut self.given.policy {
            given.clone_from(policy);
        }
    }

    /// Another trust holds: the keys that the builder was given are back when the configuration is read again only as far as it has
    /// them, too, and at all times.
    pub(crate) fn replace_trust(&mut self, trust: &TrustStore) {
        for (key, kinds) in &mut self.given.keys {
            let always = trust
                .keys()
                .filter(|(id, _, validity)| *id == key.id() && *validity == Validity::default());
            let left: Vec<&[Kind]> = always.map(|(_, kinds, _)| kinds).collect();
            kinds.retain(|kind| left.iter().any(|kinds| kinds.contains(kind)));
        }
        self.given.keys.retain(|(_, kinds)| !kinds.is_empty());
    }

    /// Whether no other server than one would be left behind under the rules of before.
    pub(crate) fn check_alone(&self) -> Result<(), Failure> {
        if self.servers.iter().filter(|server| server.strong_count() > 0).count() <= 1 {
            return Ok(());
        }
        let message = "another server of this host is there, and would go on under the configuration of before";
        Err(Failure::new(Code::ConfigInvalid, message).with_hint("make a host for each server"))
    }

    /// Policy and trust under a configuration, but for what was revoked since.
    pub(crate) fn rules(&self, config: &Config) -> (Policy, TrustStore) {
        let policy = self.given.policy.as_ref().unwrap_or(&config.policy);
        let mut trust = config.trust.clone();
        for (key, kinds) in &self.given.keys {
            trust.add(key.clone(), kinds);
        }
        (policy.clone(), trust)
    }
}
