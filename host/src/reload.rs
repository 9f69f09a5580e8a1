//! Takes a configuration that was read again. Everything is checked and made first; then it holds as a whole, or nothing
//! has changed. What cannot change while the host runs is refused by name.

mod advice;
mod fixed;
mod in_force;
mod issues;
mod manifests;
mod master_key;
mod revoked;
mod serials;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use aral_capability::manifest;
use aral_capability::registry::Admitted;
use aral_contract::document::signed::{self, DocumentError, Kind};
use aral_contract::document::{TrustStore, Verified};
use aral_contract::event::LifecycleChange;
use aral_contract::{Code, Digest, EventKind, Failure, rule};
use aral_orchestration::{Dispatcher, Policy, Session};

use crate::config::Config;
use crate::events::security;
use crate::host::Host;
use crate::personas::{self, Personas};
use fixed::check_fixed;
use manifests::Manifests;
use serials::Known;

pub(crate) use advice::Advice;
pub(crate) use in_force::{Given, InForce};
pub use manifests::refuse_older_issues;
pub(crate) use revoked::Revoked;

/// How long others may change the rules before whoever wants to is refused. Stops a mount that does not answer from taking a thread with
/// each request.
const CHANGE_WAIT: Duration = Duration::from_secs(30);
const CHANGE_RETRY: Duration = Duration::from_millis(10);

type Manifest = Verified<manifest::ManifestBody>;
/// What is not believed any more, and the reason.
type Lapse = (String, String);

impl Host {
    /// Keeps others from changing the rules meanwhile.
    pub(crate) fn changing(&self) -> MutexGuard<'_, InForce> {
        self.0.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for what can be refused: after a while it is.
    pub(crate) fn changing_soon(&self) -> Result<MutexGuard<'_, InForce>, Failure> {
        let begin = self.0.clock.elapsed();
        loop {
            match self.0.in_force.try_lock() {
                Ok(changing) => return Ok(changing),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if self.0.clock.elapsed().saturating_sub(begin) < CHANGE_WAIT => {
                    std::thread::sleep(CHANGE_RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    let message = format!(
                        "a configuration or a manifest is being read, and that has taken more than {} s",
                        CHANGE_WAIT.as_secs()
                    );
                    return Err(Failure::new(Code::Unavailable, message).with_hint(
                        "look whether the disks of the files that it names answer; if they do not, restart",
                    ));
                }
            }
        }
    }

    /// The same for what nobody asks for again: after a while that is said, and it goes on waiting.
    pub(crate) fn changing_at_last(&self) -> MutexGuard<'_, InForce> {
        self.changing_soon().unwrap_or_else(|failure| {
            tracing::warn!(%failure, "what would change the rules goes on waiting for its turn");
            self.changing()
        })
    }

    /// SHA-256 of the configuration file that holds; none: there is none. It waits for nobody.
    pub fn configuration(&self) -> Option<Digest> {
        self.0.configuration.load().as_deref().copied()
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.dispatcher().policy()
    }

    /// Replaces the policy as a whole. Calls that are under way end under the old one, every later call is decided anew. It waits for
    /// whoever changes the rules. A policy that the builder was given is replaced by it, also for a configuration that is read again;
    /// that of a configuration is not, and is back then.
    pub fn set_policy(&self, policy: Policy) {
        let mut changing = self.changing();
        changing.replace_given(&policy);
        self.dispatcher().set_policy(policy);
    }

    /// Takes policy, trust, manifests and further personas from a configuration that was read again. All of it holds from the
    /// next call on, and calls that are under way end under the old one. Capabilities of manifests that it names no longer
    /// are withdrawn; those that were registered in another way stay. What it names and what has expired, lost its key or been
    /// replaced since it was taken (in another process; a manifest also by a newer issue that was registered here) does not keep the
    /// rest from holding: nothing runs under it any more.
    /// A newer signed issue of a persona takes the place of the one that is there, as with [`Host::session`]; or ends like it, if another
    /// process has replaced both. A file that says anything else of a persona that is there is an attempt to override it.
    /// What the builder was given goes on to hold: its policy instead of this one, its keys besides these.
    /// With a state folder it waits for other processes, up to 5 s. Those that admit documents meanwhile wait as long for its end, and
    /// are refused after that: on a slow disk with many new components it may take longer.
    ///
    /// # Errors
    /// `config.invalid` if it changes what cannot change while the host runs, or if there is a server of this host,
    /// which only a [`Reloader`](crate::Reloader) reaches; `persona.override`; `host.unavailable` if others change the rules and that takes
    /// more than 30 s; and as [`Host::session_file`] and
    /// [`Host::register_manifest_file`]. Then nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<(), Failure> {
        self.noting_refusal("configuration", || {
            Renewal::new(self, config, InForce::check_unserved)?.commit(Vec::new)
        })
        .map(drop)
    }
}

/// A configuration that was checked as a whole, ready to hold.
pub(crate) struct Renewal<'a> {
    host: &'a Host,
    in_force: MutexGuard<'a, InForce>,
    config: &'a Config,
    trust: TrustStore,
    dispatcher: Arc<Dispatcher>,
    manifests: Vec<Manifest>,
    /// Those that it names and that hold no longer.
    lapsed_manifests: Vec<Digest>,
    admitted: Vec<Admitted>,
    known: Known<'a>,
    /// Sessions that hold once it does.
    proposed: RefCell<Vec<Session>>,
    /// Those of personas that it names and that are not believed any more.
    lapsed_personas: RefCell<Vec<Session>>,
    /// What it names and what is not believed any more.
    lapses: RefCell<Vec<Lapse>>,
}

impl<'a> Renewal<'a> {
    /// `served` says whether the servers that are there allow it. None is made until this holds or is dropped.
    pub(crate) fn new(
        host: &'a Host,
        config: &'a Config,
        served: fn(&InForce) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        Self::under(host.changing_soon()?, host, config, served)
    }

    /// The same for whoever keeps others from changing the rules already, since before the configuration was read.
    pub(crate) fn under(
        in_force: MutexGuard<'a, InForce>,
        host: &'a Host,
        config: &'a Config,
        served: fn(&InForce) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        served(&in_force)?;
        if let Some(before) = &in_force.config {
            check_fixed(before, config)?;
            host.check_master_key(before, config)?;
        }
        let old = host.dispatcher();
        let (policy, mut trust) = in_force.rules(config);
        host.0.revoked.apply(&mut trust);
        // Looked at once, and the same until this holds or is dropped: what others admitted in between would have it refused.
        let known = Known::of(host)?;
        let named = Manifests::read(config, &trust, host.0.clock.now(), &in_force, old.registry(), &known)?;
        let (registry, admitted) = named.admit(&in_force, old.registry(), &known)?;
        let renewal = Self {
            host,
            in_force,
            config,
            dispatcher: Arc::new(old.renewed(registry, policy, trust.clone())),
            trust,
            manifests: named.believed.into_iter().map(|(_, manifest)| manifest).collect(),
            lapsed_manifests: named.lapsed,
            admitted,
            known,
            proposed: RefCell::default(),
            lapsed_personas: RefCell::default(),
            lapses: named.lapses.into(),
        };
        for path in &config.personas {
            let taken = renewal.persona_of_file(path, Personas::Signed);
            taken.map_err(personas::configured)?;
        }
        Ok(renewal)
    }

    /// The one path under the new rules.
    pub(crate) fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::clone(&self.dispatcher)
    }

    /// From now on it holds. `then` makes it hold where the host does not reach. Both say what of it does not hold, a sentence for each.
    pub(crate) fn commit(mut self, then: impl FnOnce() -> Vec<String>) -> Result<Vec<String>, Failure> {
        let (before, taken) = self.take_documents()?;
        self.host.0.configuration.store(self.config.digest.map(Arc::new));
        let mut left_out = then();
        before.give_way_to(&self.dispatcher);
        // Newer issues change what can be called where nothing else of the configuration does.
        if !taken.is_empty() {
            self.host.0.events.tell_changes();
        }
        for id in taken {
            self.host.authenticated(Some(id), None);
        }
        left_out.extend(self.record(&before));
        let manifests = self.manifests.iter().map(|manifest| manifest.digest);
        self.in_force.manifests = manifests.chain(self.lapsed_manifests).collect();
        self.in_force.config = Some(Box::new(self.config.clone()));
        // What is only said keeps nobody from changing the rules, nor for long whoever changed them.
        drop((self.in_force, self.known));
        left_out.extend(self.host.wrong_key_named(self.config));
        Ok(left_out)
    }

    /// What has changed, for the record. Returns what has not, although the configuration names it.
    fn record(&self, before: &Dispatcher) -> Vec<String> {
        let lapses = self.lapses.take().into_iter();
        let lapses = lapses.map(|(subject, reason)| self.host.note_lapsed(&subject, &reason));
        let authorities = self.in_force.other_authorities(self.config).into_iter();
        let authorities = authorities.map(|rule| self.host.note_old_authorities(rule));
        let left_out = lapses.chain(authorities).collect();
        let changed = |subject, before: Digest, after: Digest| {
            if before != after {
                self.host.record(EventKind::ConfigurationChanged {
                    subject,
                    before: Some(before),
                    after,
                });
            }
        };
        let (old, new) = (before.policy().digest(), self.dispatcher.policy().digest());
        changed("policy", old, new);
        changed("trust", before.trust().digest(), self.dispatcher.trust().digest());
        let old = self.in_force.config.as_ref().and_then(|config| config.serve.as_ref());
        if let (Some(old), Some(new)) = (old, &self.config.serve) {
            changed("callers", old.callers_digest(), new.callers_digest());
            changed("issuers", old.issuers_digest(), new.issuers_digest());
        }
        for (capability, warnings) in &self.admitted {
            self.host.registered(Arc::clone(capability), warnings.clone());
        }
        let there: HashSet<_> = self.dispatcher.registry().list().iter().map(address).collect();
        for capability in before.registry().list() {
            let entry = &capability.entry;
            let replaced = |(new, _): &Admitted| new.entry.id == entry.id && new.entry.version == entry.version;
            if !there.contains(&address(&capability)) && !self.admitted.iter().any(replaced) {
                self.host.record(EventKind::Lifecycle {
                    change: LifecycleChange::Withdrawn,
                    subject: format!("{} {}", entry.id, entry.version),
                    digest: None,
                });
            }
        }
        let digest = |config: Option<&Config>| config.and_then(|config| config.digest);
        if let Some(after) = self.config.digest {
            self.host.record(EventKind::ConfigurationChanged {
                subject: "configuration",
                before: digest(self.in_force.config.as_deref()),
                after,
            });
        }
        left_out
    }
}

fn address(capability: &Arc<aral_capability::Capability>) -> usize {
    Arc::as_ptr(capability).addr()
}

/// The digest of a document against which only time or the trust speaks. If it holds now, it does not keep a configuration from
/// being taken: one that revokes its key, or trusts it no longer, would have no effect as long as it names the document, and none
/// would be taken any more once a document has expired.
fn lapsed(kind: Kind, bytes: &[u8], error: &DocumentError) -> Option<Digest> {
    let digest = || signed::digest_unbelieved(kind, bytes).ok();
    error.is_lapse().then(digest).flatten()
}

impl Host {
    /// A document that the configuration names may not be believed any more. Returns what is on record.
    fn note_lapsed(&self, subject: &str, reason: &str) -> String {
        tracing::warn!(%subject, %reason, "it may not be believed any more, and nothing runs under it");
        let words = format!("{subject}: {reason}");
        self.record(security(rule::DOCUMENT_LAPSED, words.clone()));
        words
    }

    /// Servers are reached with the authorities of the start, and somebody has to restart the host for those of now.
    /// Returns what is on record.
    fn note_old_authorities(&self, rule: &'static str) -> String {
        let section = rule.trim_end_matches(".ca_file");
        let but = if rule == rule::OUTBOUND_CA_FILE {
            ", but for the keys of issuers"
        } else {
            ""
        };
        let subject = format!("[{section}] ca_file: until a restart the one of the start holds{but}");
        tracing::warn!("{subject}");
        self.record(security(rule, subject.clone()));
        subject
    }
}

#[cfg(test)]
mod tests;
