//! Grants that were computed once, for one policy. Replacing the policy replaces this cache as a whole, so that no grant
//! outlives the policy it came from.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aral_capability::{Bound, Call, Capability, Completion, Roots, Services, Ungranted, bind};
use aral_contract::{Code, Digest, Failure, Grant, PersonaId};
use aral_runtime::{Runtime, within_wall};
use futures::FutureExt as _;
use tokio::sync::OnceCell;

use crate::budget::Terms;
use crate::policy::Policy;
use crate::session::Session;

/// Grants kept at once. Stops callers with many personas from filling memory; when it is full, all are computed anew.
pub(super) const GRANTS_MAX: usize = 4096;

/// A capability with the grant under which one persona may call it.
pub struct Granted {
    capability: Arc<Capability>,
    grant: Arc<Grant>,
    persona: Digest,
    terms: Terms,
    services: Arc<Services>,
    ungranted: Ungranted,
    bound: OnceCell<Bound>,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted({:?} under {})", self.capability, self.grant.digest())
    }
}

impl Granted {
    /// `persona` is the digest of the persona that it was granted to.
    pub(super) fn new(
        capability: Arc<Capability>,
        grant: Arc<Grant>,
        persona: Digest,
        terms: Terms,
        services: Arc<Services>,
        ungranted: Ungranted,
    ) -> Self {
        Self {
            capability,
            grant,
            persona,
            terms,
            services,
            ungranted,
            bound: OnceCell::new(),
        }
    }

    /// The grant.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// What was granted.
    pub(super) fn capability(&self) -> &Capability {
        &self.capability
    }

    /// SHA-256 of the persona that it was granted to.
    pub(super) fn persona_digest(&self) -> Digest {
        self.persona
    }

    /// What the agent may use up, and what a call costs.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How many folders it has open, or would have.
    fn folders(&self) -> usize {
        let permissions = &self.grant.permissions;
        let read = permissions.file_read.as_ref().map_or(0, |scope| scope.paths.len());
        let written = permissions.file_write.as_ref().map_or(0, |scope| scope.paths.len());
        let observed = usize::from(self.ungranted == Ungranted::Observe);
        read.saturating_add(written).saturating_add(observed)
    }

    /// Waits until the capability is compiled: at the first call, and once.
    pub(super) async fn compiled(&self, runtime: &Runtime) -> Result<(), Failure> {
        if self.bound.get().is_none() {
            // Outside of the cell: each caller waits for a compiler from its own arrival on, not from the end of
            // another's wait.
            let clock = &*self.services.clock;
            self.capability.component(runtime, self.grant.metering, clock).await?;
        }
        Ok(())
    }

    /// The capability, which is compiled, linked and with its folders open: at the first call, and once. A failure is not kept
    /// here. Folders on a mount that hangs are waited for as long as a guest that uses them may wait, by each caller from its own
    /// arrival on.
    pub(super) async fn bound(&self, runtime: &Runtime) -> Result<&Bound, Failure> {
        if let Some(bound) = self.bound.get() {
            return Ok(bound);
        }
        let bind = || {
            let (grant, services) = (Arc::clone(&self.grant), Arc::clone(&self.services));
            bind(runtime, &self.capability, grant, services, self.ungranted)
        };
        let bound = pin!(self.bound.get_or_try_init(bind));
        let in_time = within_wall(&self.grant.limits, bound).await;
        in_time.map_err(|_wall| unopened())?
    }
}

fn unopened() -> Failure {
    let message = "the folders of the capability were not open within the limit `wall_ms` of the call";
    Failure::new(Code::LimitWall, message)
        .with_hint("is one of its folders, or another one of this persona, on a mount that does not answer?")
}

/// Runs it; a panic in the host's own code fails this call and no other.
pub(super) async fn invoke_unwinding(bound: &Bound, call: Call<'_>) -> Result<Completion, Failure> {
    let run = AssertUnwindSafe(bound.invoke(call)).catch_unwind();
    run.await.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Failure::internal(format_args!("panicked: {}", text.unwrap_or("without a message")))
    })
}

/// The folders below which a policy lets capabilities work.
pub(super) fn roots(policy: &Policy) -> Roots {
    Roots {
        read: policy.read_roots.clone(),
        write: policy.write_roots.clone(),
    }
}

/// A policy and what was granted under it.
#[derive(Debug)]
pub(super) struct Ruling {
    policy: Policy,
    services: Arc<Services>,
    granted: RwLock<HashMap<Key, Kept>>,
}

#[derive(Debug)]
struct Kept {
    granted: Arc<Granted>,
    /// When a caller asked for it last, in milliseconds of the clock that never goes back.
    asked_ms: AtomicU64,
}

/// A grant whose folders are open, and that nobody uses now.
struct Unused {
    key: Key,
    /// Whether its persona may still call.
    lasts: bool,
    asked_ms: u64,
    is_own: bool,
    folders: usize,
}

/// Names one decision under one policy. An admitted capability never changes, and an entry of the map keeps it alive, so
/// that its address stands for its id, version, component and manifest; nothing needs to be copied to look it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    capability: usize,
    persona: Digest,
}

impl Key {
    fn of(capability: &Arc<Capability>, session: &Session) -> Self {
        Self {
            capability: Arc::as_ptr(capability).addr(),
            persona: session.persona().digest,
        }
    }
}

impl Ruling {
    /// The folders of the services are those of the policy.
    pub(super) fn new(policy: Policy, services: &Services) -> Self {
        Self {
            services: Arc::new(Services {
                roots: roots(&policy),
                trace_hosts: policy.trace_hosts.clone(),
                ..services.clone()
            }),
            policy,
            granted: RwLock::default(),
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn find(&self, capability: &Arc<Capability>, session: &Session) -> Option<Arc<Granted>> {
        let granted = self.granted.read().unwrap_or_else(PoisonError::into_inner);
        let kept = granted.get(&Key::of(capability, session))?;
        Some(Arc::clone(&kept.granted))
    }

    /// The same for somebody who calls, when so much has passed.
    pub(super) fn ask(
        &self,
        capability: &Arc<Capability>,
        session: &Session,
        passed: Duration,
    ) -> Option<Arc<Granted>> {
        let granted = self.granted.read().unwrap_or_else(PoisonError::into_inner);
        let kept = granted.get(&Key::of(capability, session))?;
        kept.asked_ms.store(in_ms(passed), Ordering::Relaxed);
        Some(Arc::clone(&kept.granted))
    }

    /// Lets go of all grants: who still calls under this policy has them computed once more.
    pub(super) fn forget(&self) {
        let gone = std::mem::take(&mut *self.granted.write().unwrap_or_else(PoisonError::into_inner));
        drop(gone);
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.granted.read().unwrap().len()
    }

    /// Keeps a grant, or gives back the one that somebody else kept meanwhile. Grants of capabilities that are not
    /// `admitted` any more go, and so do those of another issue of the persona: nobody can find them, and each holds compiled code
    /// and open folders, of which a persona may have only so many.
    pub(super) fn keep(
        &self,
        session: &Session,
        new: Arc<Granted>,
        admitted: &[Arc<Capability>],
        passed: Duration,
    ) -> Arc<Granted> {
        let key = Key::of(&new.capability, session);
        let admitted: HashSet<usize> = admitted.iter().map(|one| Arc::as_ptr(one).addr()).collect();
        let mut granted = self.granted.write().unwrap_or_else(PoisonError::into_inner);
        let is_replaced =
            |kept: &Key, one: &Granted| kept.persona != key.persona && one.grant.persona == new.grant.persona;
        granted.retain(|kept, one| admitted.contains(&kept.capability) && !is_replaced(kept, &one.granted));
        if granted.len() >= GRANTS_MAX && !granted.contains_key(&key) {
            granted.clear();
        }
        let kept = granted.entry(key).or_insert_with(|| Kept {
            granted: new,
            asked_ms: AtomicU64::new(in_ms(passed)),
        });
        Arc::clone(&kept.granted)
    }

    /// Lets go of grants that nobody uses until there is room for the folders of this one: of personas that are over first, and then
    /// of those that asked the longest time ago. Whoever calls under one of them has it computed, and its folders opened, once more.
    /// False: there would still be no room, and nobody's goes.
    pub(super) fn make_room(&self, wanting: &Granted, is_over: impl Fn(&PersonaId, Digest) -> bool) -> bool {
        let wanted = wanting.folders();
        if wanted == 0 {
            return false;
        }
        let persona = &wanting.grant.persona;
        let mut granted = self.granted.write().unwrap_or_else(PoisonError::into_inner);
        // Here, so that of two who want room the second sees what the first has let go of.
        let missing = self.services.file_work.folders_missing(persona, wanted);
        // Whoever uses one has a reference, and finds it only while nobody is here.
        let is_unused = |kept: &Kept| Arc::strong_count(&kept.granted) == 1 && kept.granted.bound.get().is_some();
        let mut unused: Vec<Unused> = granted
            .iter()
            .filter(|(_, kept)| is_unused(kept) && kept.granted.folders() > 0)
            .map(|(key, kept)| Unused {
                key: *key,
                lasts: !is_over(&kept.granted.grant.persona, key.persona),
                asked_ms: kept.asked_ms.load(Ordering::Relaxed),
                is_own: kept.granted.grant.persona == *persona,
                folders: kept.granted.folders(),
            })
            .collect();
        unused.sort_unstable_by_key(|one| (one.lasts, one.asked_ms));
        let (mut goes, mut freed) = (Vec::new(), 0_usize);
        let mut let_go = |until: usize, whose: fn(&Unused) -> bool| {
            unused.retain(|one| {
                let stays = freed >= until || !whose(one);
                if !stays {
                    freed = freed.saturating_add(one.folders);
                    goes.push(one.key);
                }
                stays
            });
            freed >= until
        };
        // What its own persona lets go of makes room for all as well; others let go of nothing that would not do.
        if !(let_go(missing.own, |one| one.is_own) && let_go(missing.all, |_| true)) {
            return false;
        }
        for key in goes {
            // Their folders are closed while nobody else is here: whoever comes next finds the room.
            drop(granted.remove(&key));
        }
        true
    }
}

fn in_ms(passed: Duration) -> u64 {
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}
