//! What happened, for the audit log and for embedders who watch. Events hold no input, output or secret.

mod sink;

use std::net::IpAddr;

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

pub use sink::{AppendOutcome, AuditSink, RecordFuture, RecordReference, RoomFuture, SinkUnavailable};

use crate::classification::Classification;
use crate::failure::Code;
use crate::id::{CallerName, CapabilityId, Digest, Namespace, PersonaId, SecretName, TraceId};
use crate::limits::Usage;
use crate::permission::Permission;
use crate::sensitive::Sensitive;

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
        /// For which version of it.
        version: Version,
        /// SHA-256 of the manifest.
        manifest: Digest,
        /// For whom.
        persona: PersonaId,
        /// SHA-256 of the persona.
        persona_digest: Digest,
        /// SHA-256 of the policy.
        policy: Digest,
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
        /// For whom.
        persona: PersonaId,
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
        /// For whom.
        persona: PersonaId,
        /// None: it succeeded.
        code: Option<Code>,
        /// What it used.
        usage: Usage,
        /// Who asked for it; none: nobody had to say.
        user: Option<CallerName>,
        /// The agents through which it came, the nearest first, at most 64; none: the agent's own call, or one that was
        /// refused because it was deeper.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        callers: Vec<PersonaId>,
        /// What it ran under and what it did, for its receipt; none for a call that never got a grant.
        evidence: Option<Box<Evidence>>,
    },
    /// Somebody said who they are.
    Authentication {
        /// Which user they say they are.
        user: Option<Sensitive>,
        /// Which agent they say they are.
        agent: Option<PersonaId>,
        /// How they show it.
        method: AuthenticationMethod,
        /// From where; none: on this machine.
        source: Option<IpAddr>,
        /// None: they are believed. Else why not.
        refused: Option<String>,
    },
    /// Something that somebody should look at.
    Security {
        /// How soon.
        severity: Severity,
        /// Which rule was broken: a word of the host.
        rule: &'static str,
        /// By what or at what: a name of the host, never a value.
        subject: String,
        /// Why, where the rule says too little.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// From where, if somebody else is at the other end.
        source: Option<IpAddr>,
    },
    /// The host, or something that it keeps, came or went.
    Lifecycle {
        /// What became of it.
        change: LifecycleChange,
        /// What it is: a name.
        subject: String,
        /// SHA-256 of it, if it is a document or a component.
        digest: Option<Digest>,
    },
    /// What decides about rights was replaced.
    ConfigurationChanged {
        /// What: `policy`, `configuration`, `trust`, `callers`, `issuers`, or `tls` for the files of a listener.
        subject: &'static str,
        /// SHA-256 of what was in force; none: nothing was.
        before: Option<Digest>,
        /// SHA-256 of what is in force now.
        after: Digest,
    },
    /// A record of the store was read, written or deleted, or a namespace was listed. By a guest, or by the operator.
    MemoryAccess {
        /// Which capability; none: the operator.
        capability: Option<CapabilityId>,
        /// For whom; none: the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        persona: Option<PersonaId>,
        /// What was done.
        operation: MemoryOperation,
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
        /// For whom; none: the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        persona: Option<PersonaId>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryOperation {
    /// Its value was read.
    Read,
    /// Names of a namespace were listed.
    List,
    /// It was written.
    Write,
    /// It was deleted.
    Delete,
}

impl MemoryOperation {
    /// Its word in events and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// What was done with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretOperation {
    /// The host added it to a request.
    Inject,
    /// Its value was handed out.
    Reveal,
    /// It was stored.
    Write,
    /// It was deleted.
    Delete,
}

impl SecretOperation {
    /// Its word in events and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Reveal => "reveal",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// How somebody shows who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationMethod {
    /// Not at all.
    None,
    /// They run the program, so the system let them in.
    Local,
    /// A key that the operator gave out.
    ApiKey,
    /// A signed token of an issuer that is trusted.
    Token,
    /// A certificate of the connection.
    Certificate,
    /// A signature over the request.
    Signature,
    /// A signed persona.
    Persona,
}

impl AuthenticationMethod {
    /// How it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Local => "local",
            Self::ApiKey => "api_key",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Signature => "signature",
            Self::Persona => "persona",
        }
    }
}

/// How soon somebody should look. The order is the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Within days.
    Low,
    /// Today.
    Medium,
    /// Now.
    High,
    /// Now, and the host cannot go on as it should.
    Critical,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleChange {
    /// It began to work.
    Started,
    /// It ended, on purpose.
    Stopped,
    /// It was admitted.
    Admitted,
    /// It is not admitted any longer.
    Withdrawn,
    /// Its key was replaced.
    KeyRotated,
}

/// What a call ran under and what it did. With the record that holds it, it is the call's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The version that ran.
    pub version: Version,
    /// SHA-256 of the component.
    pub component: Digest,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    /// For whom.
    pub persona: PersonaId,
    /// SHA-256 of the persona.
    pub persona_digest: Digest,
    /// SHA-256 of the policy.
    pub policy: Digest,
    /// Digest of the grant.
    pub grant: Digest,
    /// The permissions that it used, each once.
    pub permissions: Vec<Permission>,
    /// Salted commitment to the input.
    pub input: Digest,
    /// Salted commitment to the output; none: there was none.
    pub output: Option<Digest>,
    /// How many host functions it called that need a permission.
    pub host_calls: u64,
    /// Hash over the list of these calls with their outcome.
    pub host_calls_digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_method_has_the_same_word_in_text_and_json() {
        use AuthenticationMethod as Way;
        use MemoryOperation as Record;
        use SecretOperation as Secret;
        for one in [Record::Read, Record::List, Record::Write, Record::Delete] {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
        for one in [Secret::Inject, Secret::Reveal, Secret::Write, Secret::Delete] {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
        for one in [
            Way::None,
            Way::Local,
            Way::ApiKey,
            Way::Token,
            Way::Certificate,
            Way::Signature,
            Way::Persona,
        ] {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
    }
}
