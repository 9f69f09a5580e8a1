//! What happened, for the audit log and for embedders who watch. Events hold no input, output or secret.

use jiff::Timestamp;
use semver::Version;
use serde::Serialize;

use crate::classification::Classification;
use crate::failure::Code;
use crate::id::{CapabilityId, Digest, Namespace, PersonaId, SecretName, TraceId};
use crate::limits::Usage;
use crate::permission::Permission;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// In which request; none for events of the host itself.
    pub trace: Option<TraceId>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum EventKind {
    /// A capability was admitted.
    CapabilityRegistered {
        /// Its name.
        capability: CapabilityId,
        /// Its version.
        version: Version,
        /// SHA-256 of the component.
        component: Digest,
    },
    /// A document or component was not admitted.
    AdmissionRefused {
        /// What it was: a manifest, a persona, a component.
        subject: String,
        /// Why.
        code: Code,
        /// Why, in words.
        reason: String,
    },
    /// Something runs that only development allows, such as an unsigned document.
    DevelopmentOnly {
        /// What it is.
        subject: String,
    },
    /// The three yeses were asked for.
    Decision {
        /// For which capability.
        capability: CapabilityId,
        /// For whom.
        persona: PersonaId,
        /// Digest of the grant, or none: denied.
        grant: Option<Digest>,
        /// If denied: the permissions that were missing, with who did not give them.
        missing: Vec<String>,
    },
    /// A call is about to run. Recorded before it does.
    InvocationStarted {
        /// Which capability.
        capability: CapabilityId,
        /// Its version.
        version: Version,
        /// For whom.
        persona: PersonaId,
        /// Digest of the grant.
        grant: Digest,
    },
    /// A guest used a host function that needs a permission.
    HostCall {
        /// Which capability.
        capability: CapabilityId,
        /// Under which permission.
        permission: Permission,
        /// What it wanted to reach: an origin, a guest path, a name, a program. Never a value.
        target: String,
        /// Whether it was let through.
        allowed: bool,
        /// If not: why, with the line that would allow it.
        reason: Option<String>,
    },
    /// A call ended.
    InvocationEnded {
        /// Which capability.
        capability: CapabilityId,
        /// None: it succeeded.
        code: Option<Code>,
        /// What it used.
        usage: Usage,
    },
    /// A record of the store was read, written or deleted, or a namespace was listed. By a guest, or by the operator.
    DataAccess {
        /// Which capability; none: the operator.
        capability: Option<CapabilityId>,
        /// What was done.
        operation: DataOperation,
        /// In which namespace.
        namespace: Namespace,
        /// Which record, as a keyed hash of its name; none for a listing.
        record: Option<String>,
        /// How sensitive the record is; none where there was no record, and for a listing.
        classification: Option<Classification>,
        /// Size of the value, or number of names listed.
        amount: u64,
        /// None: it was done. Else why not.
        refused: Option<String>,
    },
    /// A secret was used, shown or stored. By a guest, or by the operator. Never holds a value.
    SecretAccess {
        /// Which capability; none: the operator.
        capability: Option<CapabilityId>,
        /// Which secret.
        secret: SecretName,
        /// What was done.
        operation: SecretOperation,
        /// Where an injected secret went: an origin.
        target: Option<String>,
        /// None: it was done. Else why not.
        refused: Option<String>,
    },
    /// A guest wrote a log line.
    GuestLog {
        /// Which capability.
        capability: CapabilityId,
        /// `trace`, `debug`, `info`, `warn` or `error`.
        level: &'static str,
        /// The line, control characters escaped.
        message: String,
    },
}

/// What was done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataOperation {
    /// Its value was read.
    Read,
    /// Names of a namespace were listed.
    List,
    /// It was written.
    Write,
    /// It was deleted.
    Delete,
}

/// What was done with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretOperation {
    /// The host added it to a request.
    Inject,
    /// Its value was handed out.
    Reveal,
    /// It was stored.
    Write,
}

/// Takes events. Implemented by the audit log, by sinks for embedders, and by tests. It must not block: what it cannot
/// take at once it queues.
pub trait AuditSink: Send + Sync + std::fmt::Debug {
    /// Takes one event.
    fn record(&self, event: Event);
}
