//! The one path on which a capability runs: resolve, check both documents and the trust in their signers, authorise, check
//! what the agent has left, ask the breaker, take a place among the calls in flight, record the intent, run, record the end.
//! Whoever calls (the Rust API, the command line, tests, later HTTP and MCP) comes through here. It knows none of them, and no
//! file.

mod breaking;
mod ended;
mod enter;
mod evidence;
mod explain;
mod gate;
mod granted;
mod invoke;
mod keeper;
mod limits;
mod phase;
mod renewed;
mod run;
mod sessions;

use std::sync::{Arc, OnceLock, Weak};

use aral_audit::Blinder;
use aral_capability::{Capability, Registry, Services, Ungranted};
use aral_contract::document::TrustStore;
use aral_contract::{
    AuditSink, CapabilityId, Clock, Digest, Event, EventKind, Failure, Grant, Sampling, TraceContext, TraceId, Usage,
};
use aral_runtime::Runtime;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use semver::{Version, VersionReq};
use tracing::Instrument as _;

pub use evidence::ReceiptReference;
pub use explain::Explanation;
pub use gate::{GateOptions, Load};
pub use granted::Granted;
pub use keeper::Keeper;
pub use limits::Admission;
pub use phase::CallPhase;
pub use run::{DevelopmentRun, Refusal, RunReport};

use crate::authorize::{Decision, Missing, authorize};
use crate::breaker::{Breakers, Pass};
use crate::budget::Register;
use crate::meters::{Meters, Timed};
use crate::policy::Policy;
use crate::session::Session;
use breaking::Patience;
use ended::{Asked, Ended};
use evidence::Witness;
use gate::Gate;
use granted::Ruling;
use limits::{Denied, Reservation};

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which capability.
    pub capability: &'a CapabilityId,
    /// Which versions of it will do; none: the newest release.
    pub version: Option<&'a VersionReq>,
    /// The input: a JSON text.
    pub input: &'a [u8],
    /// The trace that the call belongs to, none: one that begins with the call.
    pub trace: Option<&'a TraceContext>,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The request.
    pub trace: TraceId,
    /// Which capability was asked for.
    pub capability: CapabilityId,
    /// Which version ran; none: nothing did.
    pub version: Option<Version>,
    /// The answer, a JSON text that satisfies the output schema; or why there is none.
    pub result: Result<String, Failure>,
    /// What the call used; all zero if nothing ran.
    pub usage: Usage,
    /// What the call cost, in millionths; zero if nothing ran.
    pub cost_micro: u64,
    /// Under which grant it ran; none: nothing did.
    pub grant: Option<Arc<Grant>>,
    /// Where its end is recorded; none: the host keeps no log, or counted it with others like it.
    pub receipt: Option<ReceiptReference>,
}

/// The documents that a decision rests on, by their digests.
#[derive(Debug, Clone, Copy)]
struct Papers {
    manifest: Digest,
    persona: Digest,
    policy: Digest,
}

/// What the path needs.
#[derive(Debug)]
pub struct DispatcherParts {
    /// Compiles and runs.
    pub runtime: Runtime,
    /// What is admitted.
    pub registry: Registry,
    /// The clock, the sink of events and the egress that this path and all host functions use. Its folders are taken
    /// from the policy.
    pub services: Services,
    /// The operator's policy.
    pub policy: Policy,
    /// Who may sign what.
    pub trust: TrustStore,
    /// How many calls there may be at once.
    pub gate: GateOptions,
    /// Hides inputs and outputs in what the sink records; none: no evidence is gathered, because nobody keeps it.
    pub blinder: Option<Arc<Blinder>>,
    /// Which traces are kept.
    pub sampling: Sampling,
}

/// The one path. Shared by reference between all callers. What it decides by (what is admitted, policy and trust) is its
/// own; what it runs with it shares with the dispatchers that [`Dispatcher::renewed`] makes from it.
#[derive(Debug)]
pub struct Dispatcher {
    runtime: Runtime,
    registry: Registry,
    services: Services,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn AuditSink>,
    ruling: ArcSwap<Ruling>,
    trust: ArcSwap<TrustStore>,
    /// Of those that are made from each other, the one that holds now.
    newest_trust: Arc<ArcSwap<TrustStore>>,
    register: Arc<Register>,
    breakers: Arc<Breakers>,
    gate: Arc<Gate>,
    witness: Option<Arc<Witness>>,
    keeper: Arc<OnceLock<Weak<dyn Keeper>>>,
    sampling: Sampling,
    meters: Arc<Meters>,
}

impl Dispatcher {
    /// From its parts.
    pub fn new(parts: DispatcherParts) -> Self {
        let trust = Arc::new(parts.trust);
        Self {
            runtime: parts.runtime,
            registry: parts.registry,
            clock: Arc::clone(&parts.services.clock),
            sink: Arc::clone(&parts.services.sink),
            ruling: ArcSwap::from_pointee(Ruling::new(parts.policy, &parts.services)),
            trust: ArcSwap::new(Arc::clone(&trust)),
            newest_trust: Arc::new(ArcSwap::new(trust)),
            register: Arc::default(),
            breakers: Arc::new(Breakers::new(Arc::clone(&parts.services.clock))),
            gate: Arc::new(Gate::new(parts.gate)),
            witness: parts.blinder.map(|blinder| Arc::new(Witness::new(blinder))),
            keeper: Arc::default(),
            sampling: parts.sampling,
            meters: Arc::new(Meters::new()),
            services: parts.services,
        }
    }

    /// What is admitted.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Replaces the policy as a whole. Calls that are under way end under the old one; every later call is decided
    /// anew.
    pub fn set_policy(&self, policy: Policy) {
        let after = policy.digest();
        let before = self.ruling.swap(Arc::new(Ruling::new(policy, &self.services)));
        self.record(None, || EventKind::ConfigurationChanged {
            subject: "policy",
            before: Some(before.policy().digest()),
            after,
        });
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.ruling.load().policy().clone()
    }

    /// The decision alone: the grant under which this session may call this capability, from the cache or computed now.
    /// From the cache it takes well under a microsecond and allocates nothing.
    ///
    /// # Errors
    /// `capability.unknown`, `document.stale` (the manifest or the persona is not valid now), `signature.invalid` (a key is not
    /// trusted any more), `permission.denied`.
    pub fn authorize(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Arc<Granted>, Failure> {
        let ruling = self.ruling.load();
        self.authorize_at(&ruling, session, capability, version, self.clock.now(), None)
            .map_err(|denied| *denied.failure)
    }

    /// Everything that is asked before a call, and counted: the decision, then depth and callers, requests and cost. The call
    /// itself is [`Dispatcher::invoke`], which begins with this.
    ///
    /// # Errors
    /// As [`Dispatcher::authorize`]; `limit.rate`, `limit.cost`, `limit.depth`.
    pub fn admit(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Admission, Failure> {
        self.admit_traced(session, capability, version, None)
            .map_err(|denied| *denied.failure)
    }

    /// Makes everything ready for the first call: the grant, the code and its links.
    ///
    /// # Errors
    /// As [`Dispatcher::authorize`], and whatever compiling and linking fail with.
    pub async fn prepare(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<(), Failure> {
        self.room().await?;
        let granted = self.authorize(session, capability, version)?;
        granted.compiled(&self.runtime).await?;
        self.bound(&granted).await.map(|_| ())
    }

    fn authorize_at(
        &self,
        ruling: &Ruling,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
        now: Timestamp,
        trace: Option<TraceId>,
    ) -> Result<Arc<Granted>, Denied> {
        let capability = self.registry.find(capability, version)?;
        self.check_documents(session, &capability, now)
            .map_err(|failure| Denied::by(failure, vec!["trust"]))?;
        if let Some(granted) = ruling.ask(&capability, session, self.clock.elapsed()) {
            return Ok(granted);
        }
        let decision = self.decide(session, &capability, ruling.policy());
        let persona = session.persona().digest;
        let papers = Papers {
            manifest: capability.manifest_digest(),
            persona,
            policy: ruling.policy().digest(),
        };
        self.record_decision(&decision, papers, trace);
        match decision.outcome {
            Ok(grant) => {
                let services = Arc::clone(ruling.services());
                let granted = Granted::new(
                    capability,
                    Arc::new(grant),
                    persona,
                    decision.terms,
                    services,
                    Ungranted::Refuse,
                );
                Ok(ruling.keep(session, Arc::new(granted), &self.registry.list(), self.clock.elapsed()))
            }
            Err(denial) => Err(Denied::by(Failure::from(&denial), denial.parties())),
        }
    }

    fn decide(&self, session: &Session, capability: &Capability, policy: &Policy) -> Decision {
        authorize(
            &capability.entry,
            capability.manifest_digest(),
            session.persona(),
            policy,
        )
    }

    /// From here on the call has a grant. Every way that a capability runs ends up in this function.
    async fn run(
        &self,
        asked: Asked<'_>,
        granted: &Granted,
        mut reservation: Option<Reservation>,
        pass: Option<Pass<'_>>,
    ) -> Outcome {
        let (context, told) = (asked.context, asked.told);
        let trace = context.trace;
        let ended = Ended::new(self, asked, granted);
        let host_calls = ended.proof().map(|proof| &proof.host_calls);
        let running = told.map(phase::running);
        let mut patience = Patience::new(asked.until);
        let call = aral_capability::Call {
            context,
            input: asked.input,
            host_calls,
            running: running.as_ref(),
            until: asked.until,
        };
        let entered = self.enter_and_invoke(granted, &mut reservation, call, asked, &mut patience);
        let (result, usage) = match entered.await {
            Ok(completion) => {
                if let Some(reservation) = &mut reservation {
                    reservation.settle(granted.terms(), &completion);
                }
                (completion.result, completion.usage)
            }
            Err(failure) => (Err(failure), Usage::default()),
        };
        let cost_micro = reservation.as_ref().map_or(0, Reservation::cost_micro);
        drop(reservation);
        self.judge(pass, &result, patience, trace);
        let result = result.map_err(|failure| self.reported(failure, trace));
        let begun = self.clock.elapsed();
        let span = tracing::info_span!(target: "aral::call", "audit");
        let (result, receipt) = ended.told(result, &usage).instrument(span).await;
        self.meters.stage(Timed::Audit, self.since(begun));
        Outcome {
            trace,
            capability: granted.grant().capability.clone(),
            version: Some(granted.grant().version.clone()),
            result,
            usage,
            cost_micro,
            grant: Some(Arc::clone(granted.grant())),
            receipt,
        }
    }

    /// What only the operator may read goes to the log; the caller finds it there by the trace id.
    fn reported(&self, failure: Failure, trace: TraceId) -> Failure {
        if let Some(detail) = &failure.internal {
            tracing::error!(%trace, code = %failure.code, %detail, "a call failed");
        }
        failure.with_trace(trace)
    }

    fn record_decision(&self, decision: &Decision, papers: Papers, trace: Option<TraceId>) {
        let missing: Vec<String> = match &decision.outcome {
            Ok(_) => Vec::new(),
            Err(denial) => denial.missing.iter().map(Missing::to_string).collect(),
        };
        self.record(trace, || EventKind::Decision {
            capability: decision.capability.clone(),
            version: decision.version.clone(),
            manifest: papers.manifest,
            persona: decision.persona.clone(),
            persona_digest: papers.persona,
            policy: papers.policy,
            grant: decision.outcome.as_ref().ok().map(Grant::digest),
            missing,
        });
    }

    /// Whether what is about to begin can be recorded. Where the log is behind, a task waits here, and for a while: one that
    /// recorded at once could hold up a thread that all others need.
    async fn check_recordable(&self) -> Result<(), Failure> {
        self.sink.available()?;
        self.room().await
    }

    async fn room(&self) -> Result<(), Failure> {
        match self.sink.room() {
            None => Ok(()),
            Some(room) => Ok(room.await?),
        }
    }

    fn record(&self, trace: Option<TraceId>, kind: impl FnOnce() -> EventKind) {
        self.sink.record(Event {
            at: self.clock.now(),
            trace,
            kind: kind(),
        });
    }
}

#[cfg(test)]
mod tests;
