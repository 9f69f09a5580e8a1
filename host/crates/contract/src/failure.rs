//! How a call fails: a stable code, a message for the caller without internals, a hint with the line that would fix it,
//! and, apart from those, a text for the operator's log.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::event::SinkUnavailable;
use crate::id::TraceId;

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The caller sent something wrong.
    Caller,
    /// One of the three yeses is missing.
    Denial,
    /// The guest broke, or answered nonsense.
    Guest,
    /// A limit was hit: of the call, or of the agent for whom it is made.
    Limit,
    /// A document or component was not admitted.
    Admission,
    /// The host or something behind it failed.
    Host,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $blame:ident;)*) => {
        /// Every way in which a call or an admission can fail. The text of a code never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// Who is to blame.
            pub const fn blame(self) -> Blame {
                match self {
                    $(Self::$variant => Blame::$blame,)*
                }
            }
        }
    };
}

codes! {
    /// The input is not JSON, has duplicate keys, is nested too deeply, or does not satisfy the schema; or the guest said `invalid-input`.
    InputInvalid = "input.invalid", Caller;
    /// The input is longer than `input_bytes`.
    InputTooLarge = "input.too_large", Caller;
    /// There is no session for this persona.
    PersonaUnknown = "persona.unknown", Caller;
    /// No such capability, or no such version.
    CapabilityUnknown = "capability.unknown", Caller;
    /// There is no such record, or no such secret.
    RecordUnknown = "record.unknown", Caller;
    /// The record is there although it must not be, or is not there or has another version although it must.
    RecordConflict = "record.conflict", Caller;
    /// The caller gave the call up before it ended.
    Cancelled = "call.cancelled", Caller;
    /// A configuration file, an option or an argument is wrong.
    ConfigInvalid = "config.invalid", Caller;
    /// The request itself is wrong: its address, method, fields or length.
    RequestInvalid = "request.invalid", Caller;
    /// The request repeats an `Idempotency-Key` of one that is under way, or of another one.
    RequestConflict = "request.conflict", Caller;
    /// It is not known who calls.
    AuthenticationFailed = "authentication.failed", Caller;
    /// The caller asks more often than it may.
    RateLimited = "rate.limited", Caller;
    /// A permission that the manifest requires is not given, or a scope does not reach.
    PermissionDenied = "permission.denied", Denial;
    /// The guest trapped: unreachable code, memory out of bounds, division by zero, a panic.
    GuestTrap = "guest.trap", Guest;
    /// The guest ended itself with `exit` where an answer was due.
    GuestExit = "guest.exit", Guest;
    /// The guest answered with an error of its own.
    GuestError = "guest.error", Guest;
    /// The answer is not JSON or does not satisfy the schema.
    OutputInvalid = "output.invalid", Guest;
    /// The capability failed too many times in a row for this persona, and is not called for a while.
    CapabilityOpenCircuit = "capability.open_circuit", Guest;
    /// The answer is longer than `output_bytes`.
    OutputTooLarge = "output.too_large", Limit;
    /// `fuel` is used up.
    LimitFuel = "limit.fuel", Limit;
    /// `compute_ms` is used up.
    LimitCompute = "limit.compute", Limit;
    /// `wall_ms` is used up.
    LimitWall = "limit.wall", Limit;
    /// `memory_bytes` is used up.
    LimitMemory = "limit.memory", Limit;
    /// `table_elements` is used up.
    LimitTable = "limit.table", Limit;
    /// `instances` is used up.
    LimitInstances = "limit.instances", Limit;
    /// The guest's stack is used up.
    LimitStack = "limit.stack", Limit;
    /// A guest passed more to the host than the host reads, or holds more resources than the host keeps.
    LimitResource = "limit.resource", Limit;
    /// A limit of a host function is used up, and the guest passed that on.
    LimitHostCall = "limit.host_call", Limit;
    /// The agent has made as many requests as it may in a minute or in an hour.
    LimitRate = "limit.rate", Limit;
    /// What the call may cost is more than what the agent has left for this hour.
    LimitCost = "limit.cost", Limit;
    /// The agent reasons, or was called by others, more deeply than it may.
    LimitDepth = "limit.depth", Limit;
    /// A signed document is malformed, or has members or values that it must not have.
    DocumentInvalid = "document.invalid", Admission;
    /// The signature is missing, wrong, or by a key that is not trusted for this kind of document.
    SignatureInvalid = "signature.invalid", Admission;
    /// The document is expired or not yet valid, or its serial is lower than one already admitted.
    DocumentStale = "document.stale", Admission;
    /// Another document stands for this persona already, and nothing replaces it but a newer one that is signed.
    PersonaOverride = "persona.override", Admission;
    /// The component is not the one that the manifest names.
    DigestMismatch = "component.digest_mismatch", Admission;
    /// The bytes are not a component that this host runs.
    ComponentInvalid = "component.invalid", Admission;
    /// The component is larger, or takes longer or more memory to compile, than allowed.
    ComponentTooLarge = "component.too_large", Admission;
    /// The component imports something that its manifest entry does not cover.
    ImportUncovered = "component.import_uncovered", Admission;
    /// A service that the call needs does not answer.
    Unavailable = "host.unavailable", Host;
    /// The audit log cannot be written, so that nothing new begins.
    AuditUnavailable = "audit.unavailable", Host;
    /// The host is at fault.
    Internal = "host.internal", Host;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A failed call or admission. `Display` shows what the caller may see; `internal` is for the operator's log alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// What failed, with the value: a lower-case fragment. Safe to show to the caller.
    pub message: String,
    /// The exact line or step that would fix it, where there is one.
    pub hint: Option<String>,
    /// When the same call may succeed, if time is what it takes.
    pub retry_after: Option<Duration>,
    /// The request, once it has a trace id.
    pub trace: Option<TraceId>,
    /// What the operator needs to know and the caller must not.
    pub internal: Option<String>,
}

impl Failure {
    /// A failure without hint, trace or internals.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retry_after: None,
            trace: None,
            internal: None,
        }
    }

    /// The host is at fault: the caller learns only that, the log gets `detail`.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self {
            internal: Some(detail.to_string()),
            ..Self::new(Code::Internal, "the host failed")
        }
    }

    /// With the line that would fix it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// With the file that it is about: whoever named several must know which.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        Self {
            message: format!("`{}`: {}", path.display(), self.message),
            ..self
        }
    }

    /// With the time after which the same call may succeed.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// The milliseconds until the same call may succeed, as [`whole_seconds`] counts seconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after.map(|wait| whole(wait, Duration::from_millis(1)))
    }

    /// With the request.
    #[must_use]
    pub fn with_trace(self, trace: TraceId) -> Self {
        Self {
            trace: Some(trace),
            ..self
        }
    }

    /// With a text for the operator's log.
    #[must_use]
    pub fn with_internal(self, detail: impl fmt::Display) -> Self {
        Self {
            internal: Some(detail.to_string()),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<SinkUnavailable> for Failure {
    /// What the disk said is for the operator alone.
    fn from(unavailable: SinkUnavailable) -> Self {
        Self::new(
            Code::AuditUnavailable,
            "the audit log cannot be written, and nothing runs unrecorded",
        )
        .with_hint("call again later")
        .with_internal(unavailable)
    }
}

/// So long in whole seconds, rounded up: whoever is told to wait and comes too early is refused again.
pub fn whole_seconds(wait: Duration) -> u64 {
    whole(wait, Duration::from_secs(1))
}

fn whole(wait: Duration, unit: Duration) -> u64 {
    let units = wait.as_nanos().div_ceil(unit.as_nanos());
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// An error and what caused it, from the outside in.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_the_caller_never_sees_internals() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        let failure = Failure::internal("/etc/shadow");
        assert!(!failure.to_string().contains("shadow"));
    }

    #[test]
    fn who_waits_as_long_as_it_is_told_does_not_come_too_early() {
        let told = |wait| {
            Failure::new(Code::RateLimited, "wait")
                .with_retry_after(wait)
                .retry_after_ms()
        };
        assert_eq!(told(Duration::from_micros(400)), Some(1));
        assert_eq!(told(Duration::from_nanos(1_000_001)), Some(2));
        assert_eq!(told(Duration::from_millis(1500)), Some(1500));
        assert_eq!(told(Duration::MAX), Some(u64::MAX));
    }

    #[test]
    fn a_failure_that_is_about_a_file_names_it_and_keeps_its_fix() {
        let failure = Failure::new(Code::DocumentInvalid, "it is cut off").with_hint("write it anew");
        let named = failure.clone().in_file(Path::new("/docs/one.json"));
        let message = "`/docs/one.json`: it is cut off".to_owned();
        assert_eq!(named, Failure { message, ..failure });
    }

    #[test]
    fn what_the_disk_said_is_for_the_operator_alone() {
        let failure = Failure::from(SinkUnavailable {
            reason: "no space on /srv/audit".to_owned(),
        });
        assert_eq!(failure.code, Code::AuditUnavailable);
        assert!(!failure.to_string().contains("/srv") && failure.internal.unwrap().contains("/srv/audit"));
    }

    #[test]
    fn every_code_is_documented_with_its_blame() {
        let document = include_str!("../../../../docs/errors.md");
        for code in Code::ALL {
            let blame = format!("{:?}", code.blame()).to_lowercase();
            let line = format!("\n| `{code}` | {blame} | ");
            assert!(
                document.contains(&line),
                "docs/errors.md has no line for `{code}` with blame {blame}"
            );
        }
        let lines = document.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(
            lines,
            Code::ALL.len(),
            "docs/errors.md documents a code that does not exist"
        );
    }

    #[test]
    fn seconds_to_wait_are_whole_and_enough() {
        let told = |nanos| whole_seconds(Duration::from_nanos(nanos));
        assert_eq!([0, 1, 400_000, 1_000_000_000, 1_000_400_000].map(told), [0, 1, 1, 1, 2]);
    }
}
