//! The path under rules that were read again.

use std::sync::Arc;

use aral_capability::Registry;
use aral_contract::document::TrustStore;
use arc_swap::ArcSwap;

use super::Dispatcher;
use super::granted::Ruling;
use crate::policy::Policy;

impl Dispatcher {
    /// The same path under other rules, for a configuration that was read again. Sessions, what agents have used up, the
    /// breakers, the places of calls in flight and the engines are those of this one. Whoever goes on with this one stays
    /// under its rules as a whole; nobody sees some of the old and some of the new, but for the trust once the new rules are
    /// [in force](Self::come_into_force). Grants are kept where the policy stays
    /// the same.
    #[must_use]
    pub fn renewed(&self, registry: Registry, policy: Policy, trust: TrustStore) -> Self {
        let ruling = self.ruling.load_full();
        let ruling = if *ruling.policy() == policy {
            ruling
        } else {
            Arc::new(Ruling::new(policy, &self.services))
        };
        Self {
            runtime: self.runtime.clone(),
            registry,
            services: self.services.clone(),
            clock: Arc::clone(&self.clock),
            sink: Arc::clone(&self.sink),
            ruling: ArcSwap::new(ruling),
            trust: ArcSwap::from_pointee(trust),
            newest_trust: Arc::clone(&self.newest_trust),
            register: Arc::clone(&self.register),
            breakers: Arc::clone(&self.breakers),
            gate: Arc::clone(&self.gate),
            witness: self.witness.clone(),
            keeper: Arc::clone(&self.keeper),
            sampling: self.sampling,
            meters: Arc::clone(&self.meters),
        }
    }

    /// From now on no call begins, under earlier rules either, for a persona or a capability whose signer these do not trust.
    pub fn come_into_force(&self) {
        self.newest_trust.store(self.trust.load_full());
    }

    /// Lets go of what was granted under these rules, once `next` is in force with others: calls under the old ones may last, and
    /// what they do not use makes room for the folders of those under the new ones. Of rules that `next` shares nothing goes.
    pub fn give_way_to(&self, next: &Self) {
        let (ruling, others) = (self.ruling.load_full(), next.ruling.load_full());
        if !Arc::ptr_eq(&ruling, &others) {
            ruling.forget();
        }
    }
}
