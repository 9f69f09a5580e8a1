//! What an agent may do beyond its permissions: how often, for how much, how deep and through whom. Asked for every call,
//! whoever makes it. Each no says who does not give what, which line would, and when to try again.

use std::sync::Arc;
use std::time::Duration;

use aral_capability::Completion;
use aral_contract::event::Severity;
use aral_contract::failure::whole_seconds;
use aral_contract::{Blame, CapabilityId, Clock, Code, EventKind, Failure, PersonaId, TraceId};
use aral_persona::PersonaBody;
use semver::VersionReq;

use super::Dispatcher;
use super::granted::Granted;
use crate::authorize::Party;
use crate::authorize::lines::{self, persona_number, policy_number};
use crate::budget::{Bound, Exceeded, Moment, Standing, Terms, depth_bound};
use crate::policy::Policy;
use crate::session::Session;

/// A call that may be made: it is counted, and what it can cost is put aside until this is settled or dropped.
#[derive(Debug)]
pub struct Admission {
    pub(super) granted: Arc<Granted>,
    pub(super) reservation: Reservation,
}

impl Admission {
    /// The capability, and the grant under which it may be called.
    pub fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }
}

/// Money that is put aside for one call.
#[derive(Debug)]
pub(super) struct Reservation {
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    most: u64,
    /// What the call costs if nobody says more.
    cost: u64,
}

impl Reservation {
    /// From here on the guest may run. A caller who gives the call up pays what it could have cost: otherwise nobody would
    /// wait for the end of a costly one.
    pub(super) fn begin(&mut self) {
        self.cost = self.most;
    }

    /// The call has ended. It costs no more than was put aside for it, although a machine that sleeps meanwhile makes it longer than its
    /// time limit. It costs nothing where the host failed before the guest ran: the caller got nothing, and comes again.
    pub(super) fn settle(&mut self, terms: &Terms, completion: &Completion) {
        let is_hosts = |failure: &Failure| failure.code.blame() == Blame::Host;
        self.cost = match &completion.result {
            Err(failure) if !completion.ran && is_hosts(failure) => 0,
            Ok(_) | Err(_) => terms.cost_micro(&completion.usage).min(self.most),
        };
    }

    /// What the call costs, as far as it is known.
    pub(super) fn cost_micro(&self) -> u64 {
        self.cost
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.most > 0 || self.cost > 0 {
            self.standing.settle(self.most, self.cost, Moment::of(&*self.clock));
        }
    }
}

/// Why a call does not begin, and who lacked the yes; nobody where it is no denial.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) failure: Box<Failure>,
    pub(super) by: Vec<&'static str>,
}

impl Denied {
    pub(super) fn by(failure: Failure, by: Vec<&'static str>) -> Self {
        Self {
            failure: Box::new(failure),
            by,
        }
    }
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Self {
        Self::by(failure, Vec::new())
    }
}

/// A no, with its words for the record.
struct Refusal {
    failure: Box<Failure>,
    by: Party,
    /// Who does not give what, in words that are the same each time: the log counts what is repeated.
    missing: String,
}

impl Refusal {
    fn new(code: Code, by: Party, id: &PersonaId, missing: String, hint: String) -> Self {
        let message = format!("persona `{id}` may not make this call: {missing}");
        Self {
            failure: Box::new(Failure::new(code, message).with_hint(hint)),
            by,
            missing,
        }
    }

    /// For the record in other words than for the caller.
    fn recorded(self, missing: String) -> Self {
        Self { missing, ..self }
    }

    fn after(self, wait: Option<Duration>) -> Self {
        let Some(wait) = wait else { return self };
        let seconds = whole_seconds(wait);
        let hint = self.failure.hint.clone().unwrap_or_default();
        let failure = self.failure.with_retry_after(wait);
        Self {
            failure: Box::new(failure.with_hint(format!("call again in {seconds} s\n{hint}"))),
            ..self
        }
    }
}

impl Dispatcher {
    /// What a call can cost at most, in millionths; none: it would be denied. Nothing is counted, kept or recorded.
    pub fn quote(&self, session: &Session, capability: &CapabilityId, version: Option<&VersionReq>) -> Option<u64> {
        let capability = self.registry.find(capability, version).ok()?;
        self.check_documents(session, &capability, self.clock.now()).ok()?;
        let ruling = self.ruling.load();
        if let Some(granted) = ruling.find(&capability, session) {
            return Some(granted.terms().call_cost_max_micro);
        }
        let decision = self.decide(session, &capability, ruling.policy());
        decision.outcome.is_ok().then_some(decision.terms.call_cost_max_micro)
    }

    pub(super) fn admit_traced(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
        trace: Option<TraceId>,
    ) -> Result<Admission, Denied> {
        let now = self.clock.now();
        let ruling = self.ruling.load();
        let granted = self.authorize_at(&ruling, session, capability, version, now, trace)?;
        match admit(session, &granted, ruling.policy(), &self.clock) {
            Ok(reservation) => {
                self.note_used();
                Ok(Admission { granted, reservation })
            }
            Err(refusal) => {
                self.record(trace, || EventKind::Security {
                    severity: Severity::Low,
                    rule: refusal.failure.code.as_str(),
                    subject: format!("persona {}: {}", session.persona().body.id, refusal.missing),
                    reason: None,
                    source: None,
                });
                Err(Denied {
                    failure: refusal.failure,
                    by: vec![refusal.by.as_str()],
                })
            }
        }
    }
}

/// Through whom the call comes, then how often, then for how much: what costs nothing to ask comes first, and what is
/// counted is counted only if nothing else stands against the call.
fn admit(
    session: &Session,
    granted: &Granted,
    policy: &Policy,
    clock: &Arc<dyn Clock>,
) -> Result<Reservation, Refusal> {
    let terms = granted.terms();
    check_context(session, terms, policy)?;
    // The moment after the decision: one that is new waits for the log, and by the time of before that the call would leave its
    // minute too early.
    session
        .standing()
        .take(terms, Moment::of(&**clock))
        .map_err(|exceeded| refusal(&session.persona().body.id, terms, exceeded))?;
    Ok(Reservation {
        standing: Arc::clone(session.standing()),
        clock: Arc::clone(clock),
        most: terms.call_cost_max_micro,
        cost: 0,
    })
}

/// Every agent on the way must be allowed to call the next one, and none may be so far from the beginning or have so many
/// behind it that one of them forbids it.
fn check_context(session: &Session, terms: &Terms, policy: &Policy) -> Result<(), Refusal> {
    let (id, depth) = (&session.persona().body.id, u64::from(session.depth()));
    let bound = terms.reasoning_depth;
    if depth > bound.most {
        let missing = format!(
            "it is {depth} steps deep, and {} lets it be {}",
            the(bound.by),
            bound.most
        );
        let line = line(bound.by, terms, "reasoning_depth", depth);
        let recorded = format!("{} lets it be {} steps deep", the(bound.by), bound.most);
        return Err(Refusal::new(Code::LimitDepth, bound.by, id, missing, line).recorded(recorded));
    }
    let mut callee = session;
    while let Some(caller) = callee.caller() {
        let (by, to) = (&caller.persona().body, &callee.persona().body.id);
        if by.id != *to && !by.constraints.allows_agent(to) {
            let missing = format!("the persona of its caller `{}` does not allow the agent `{to}`", by.id);
            let line = format!("persona `{}`, constraints: \"allowed_agents\": [\"{to}\"]", by.id);
            return Err(Refusal::new(Code::PermissionDenied, Party::Persona, id, missing, line));
        }
        check_depth_behind(by, policy, id, depth)?;
        callee = caller;
    }
    Ok(())
}

/// Whether a call for `id`, so deep, may be made behind the agent `by`: persona and policy say so, as for its own.
fn check_depth_behind(by: &PersonaBody, policy: &Policy, id: &PersonaId, depth: u64) -> Result<(), Refusal> {
    let Some(agents) = policy.agents_of(by.tier.as_ref()) else {
        let missing = format!("the policy does not have the tier of its caller `{}`", by.id);
        let line = by
            .tier
            .as_ref()
            .map(|tier| lines::tier(tier, policy.agents.requests_per_minute));
        let line = line.unwrap_or_default();
        return Err(Refusal::new(Code::PermissionDenied, Party::Policy, id, missing, line));
    };
    let bound = depth_bound(by, agents);
    if depth <= bound.most {
        return Ok(());
    }
    let (whose, line) = match bound.by {
        Party::Persona => (
            format!("the persona of its caller `{}`", by.id),
            format!("persona `{}`, constraints: \"max_reasoning_depth\": {depth}", by.id),
        ),
        Party::Policy => (
            format!("the policy for its caller `{}`", by.id),
            policy_number(by.tier.as_ref(), "reasoning_depth", depth),
        ),
    };
    let missing = format!("it is {depth} steps deep, and {whose} lets it be {}", bound.most);
    let recorded = format!("{whose} lets it be {} steps deep", bound.most);
    Err(Refusal::new(Code::LimitDepth, bound.by, id, missing, line).recorded(recorded))
}

fn refusal(id: &PersonaId, terms: &Terms, exceeded: Exceeded) -> Refusal {
    match exceeded {
        Exceeded::Rate { name, bound, wait } => {
            let missing = format!("{} gives it {name} {}, and they are used up", the(bound.by), bound.most);
            let line = line(bound.by, terms, name, bound.most.saturating_add(1));
            Refusal::new(Code::LimitRate, bound.by, id, missing, line).after(wait)
        }
        Exceeded::Cost { bound, left, wait } => {
            let missing = format!(
                "{} gives it {} millionths an hour, {left} are left, and the call can cost {}",
                the(bound.by),
                bound.most,
                terms.call_cost_max_micro
            );
            let wanted = wanted(bound, left, terms.call_cost_max_micro);
            let line = line(bound.by, terms, "cost_per_hour_micro", wanted);
            let recorded = format!("{} gives it {} millionths an hour", the(bound.by), bound.most);
            Refusal::new(Code::LimitCost, bound.by, id, missing, line)
                .recorded(recorded)
                .after(wait)
        }
    }
}

/// How much would do.
fn wanted(bound: Bound, left: u64, cost: u64) -> u64 {
    bound.most.saturating_sub(left).saturating_add(cost)
}

fn the(party: Party) -> &'static str {
    match party {
        Party::Persona => "the persona",
        Party::Policy => "the policy",
    }
}

/// The line with which a number would do.
fn line(by: Party, terms: &Terms, name: &str, number: u64) -> String {
    match by {
        Party::Persona => persona_number(name, number),
        Party::Policy => policy_number(terms.tier.as_ref(), name, number),
    }
}
