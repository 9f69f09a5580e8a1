//! The breaker on the path: asked before a call waits for a place, and told what came of it. What counts as a failure is said
//! here; when a breaker opens and for how long, in [`crate::breaker`].

use std::time::Duration;

use aral_contract::event::Severity;
use aral_contract::failure::whole_seconds;
use aral_contract::{Code, EventKind, Failure, Grant, TraceId, rule};
use tokio::time::Instant;

use super::Dispatcher;
use super::granted::Granted;
use crate::breaker::{Change, Key, Pass, Verdict};

/// A call that had to wait for more than one in so many parts of the time that its caller has is not judged by what was left.
/// Stops a host that is busy from opening the breakers of capabilities that work, if only they are given their time.
const WAIT_PART: u32 = 4;

/// How long a caller waits for a call, and when that was no more than the capability itself.
pub(super) struct Patience {
    came: Instant,
    begun: Option<Instant>,
    until: Option<Instant>,
}

impl Patience {
    /// Of a call that has just come, and that somebody waits for until then; none: as long as it takes.
    pub(super) fn new(until: Option<Instant>) -> Self {
        Self {
            came: Instant::now(),
            begun: None,
            until,
        }
    }

    /// The capability begins: its folders are opened, and its guest runs. It has waited for its place and its code.
    pub(super) fn begins(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Whether it is over, and all or too much of it was when the capability began.
    fn was_short(&self) -> bool {
        let Some(until) = self.until.filter(|until| Instant::now() >= *until) else {
            return false;
        };
        let waited = self.begun.unwrap_or(until).saturating_duration_since(self.came);
        let whole = until.saturating_duration_since(self.came);
        self.begun.is_none() || waited.saturating_mul(WAIT_PART) > whole
    }
}

impl Dispatcher {
    /// How many breakers let no call through now.
    pub fn breakers_open(&self) -> u64 {
        self.breakers.refusing(self.ruling.load().policy().breaker)
    }

    /// Whether the capability is called for this persona now.
    pub(super) fn pass(&self, granted: &Granted) -> Result<Pass<'_>, Failure> {
        let grant = granted.grant();
        let key = Key {
            persona: grant.persona.clone(),
            capability: grant.capability.clone(),
        };
        let limits = self.ruling.load().policy().breaker;
        self.breakers.enter(key, limits).map_err(|wait| refusal(grant, wait))
    }

    /// The guest has ended, or never began.
    pub(super) fn judge(
        &self,
        pass: Option<Pass<'_>>,
        result: &Result<String, Failure>,
        patience: Patience,
        trace: TraceId,
    ) {
        let verdict = match result {
            Ok(_) => Verdict::Answered,
            Err(failure) if failure.code == Code::LimitWall && patience.was_short() => Verdict::Silent,
            Err(failure) => verdict(failure),
        };
        let Some(change) = pass.and_then(|pass| pass.end(verdict)) else {
            return;
        };
        let (severity, rule, key) = match change {
            Change::Opened(key) => {
                self.meters.breaker_opened();
                let Key { persona, capability } = &key;
                tracing::warn!(%trace, %capability, %persona, "too many calls in a row failed: it is not called for a while");
                (Severity::Medium, rule::BREAKER_OPENED, key)
            }
            Change::Closed(key) => (Severity::Info, rule::BREAKER_CLOSED, key),
        };
        let Key { persona, capability } = key;
        self.record(Some(trace), || EventKind::Security {
            severity,
            rule,
            subject: format!("capability {capability} for persona {persona}"),
            reason: None,
            source: None,
        });
    }
}

fn refusal(grant: &Grant, wait: Duration) -> Failure {
    let (capability, persona) = (&grant.capability, &grant.persona);
    let seconds = whole_seconds(wait);
    Failure::new(
        Code::CapabilityOpenCircuit,
        format!("capability `{capability}` keeps failing for persona `{persona}`, and is not called for a while"),
    )
    .with_hint(format!(
        "call again in {seconds} s: one call then shows whether it works"
    ))
    .with_retry_after(wait)
}

/// What an end says of the capability. Its own failures and those of the host count. What the caller sent, what it may not do
/// and what it gave up do not, nor does that there was no room; a guest that answers with an error of its own works.
pub(super) fn verdict(failure: &Failure) -> Verdict {
    match failure.code {
        // Not compiled before so much has passed, which is a pause already: another one would outlast it. Nothing else of the host's
        // own says when to come again.
        Code::ComponentTooLarge | Code::Internal if failure.retry_after.is_some() => Verdict::Silent,
        Code::GuestTrap
        | Code::GuestExit
        | Code::OutputInvalid
        | Code::OutputTooLarge
        | Code::LimitFuel
        | Code::LimitCompute
        | Code::LimitWall
        | Code::LimitMemory
        | Code::LimitTable
        | Code::LimitInstances
        | Code::LimitStack
        | Code::LimitResource
        | Code::DigestMismatch
        | Code::ComponentInvalid
        | Code::ComponentTooLarge
        | Code::ImportUncovered
        | Code::Internal => Verdict::Failed,
        Code::GuestError | Code::LimitHostCall => Verdict::Answered,
        Code::InputInvalid
        | Code::InputTooLarge
        | Code::PersonaUnknown
        | Code::CapabilityUnknown
        | Code::RecordUnknown
        | Code::RecordConflict
        | Code::Cancelled
        | Code::ConfigInvalid
        | Code::RequestInvalid
        | Code::RequestConflict
        | Code::AuthenticationFailed
        | Code::RateLimited
        | Code::PermissionDenied
        | Code::CapabilityOpenCircuit
        | Code::LimitRate
        | Code::LimitCost
        | Code::LimitDepth
        | Code::DocumentInvalid
        | Code::SignatureInvalid
        | Code::DocumentStale
        | Code::PersonaOverride
        | Code::Unavailable
        | Code::AuditUnavailable => Verdict::Silent,
    }
}
