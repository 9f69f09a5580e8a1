//! The exit codes: a stable table, and the one place that turns a failure into one of them. Knows no verb.

use std::process::ExitCode;

use aral_contract::{Blame, Code};

/// How the process ends. The numbers never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The verb did what it was asked to do.
    Success = 0,
    /// The host is at fault.
    HostFault = 1,
    /// An option, an argument or a configuration file is wrong; `aral doctor`: something does not work.
    Usage = 2,
    /// One of the three yeses is missing.
    Denied = 3,
    /// The capability broke, or answered nonsense or an error.
    GuestFault = 4,
    /// A limit was hit: of the call, or of the agent for whom it is made.
    Limit = 5,
    /// The input was refused, or there is no such capability, persona, record or secret.
    InputRefused = 6,
    /// A document or a component was not admitted.
    NotAdmitted = 7,
    /// A service that the call needs does not answer.
    Unavailable = 8,
    /// `aral diff`: the new side may do more than the old one.
    AuthorityGrew = 10,
    /// `aral audit`, `aral memory check`: the log, a receipt or a record is not as it was written.
    NotAsWritten = 11,
    /// `aral memory export --salvage`: records are missing from what was written.
    Incomplete = 12,
}

/// The table as `aral --help` prints it.
pub(crate) const TABLE: &str = "\
Exit codes:
   0  success
   1  the host is at fault
   2  an option, an argument or a configuration file is wrong; doctor: something does not work
   3  denied: manifest, persona or policy does not allow it
   4  the capability broke, or answered nonsense or an error
   5  a limit was hit: of the call, or of the agent for whom it is made
   6  the input was refused, or there is no such capability, persona, record or secret
   7  a document or a component was not admitted
   8  a service does not answer, there is no room for what is written, or a server cannot listen
  10  diff: the new side may do more than the old one
  11  audit, memory check: the log, a receipt or a record is not as it was written
  12  memory export --salvage: records are missing from what was written";

impl Exit {
    /// The exit code of a failure.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::ConfigInvalid => Self::Usage,
            Code::Unavailable | Code::AuditUnavailable => Self::Unavailable,
            other => match other.blame() {
                Blame::Caller => Self::InputRefused,
                Blame::Denial => Self::Denied,
                Blame::Guest => Self::GuestFault,
                Blame::Limit => Self::Limit,
                Blame::Admission => Self::NotAdmitted,
                Blame::Host => Self::HostFault,
            },
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_documented_exit_code() {
        let expected = [
            ("input.invalid", 6),
            ("input.too_large", 6),
            ("persona.unknown", 6),
            ("capability.unknown", 6),
            ("record.unknown", 6),
            ("record.conflict", 6),
            ("call.cancelled", 6),
            ("config.invalid", 2),
            ("request.invalid", 6),
            ("request.conflict", 6),
            ("authentication.failed", 6),
            ("rate.limited", 6),
            ("permission.denied", 3),
            ("guest.trap", 4),
            ("guest.exit", 4),
            ("guest.error", 4),
            ("output.invalid", 4),
            ("capability.open_circuit", 4),
            ("output.too_large", 5),
            ("limit.fuel", 5),
            ("limit.compute", 5),
            ("limit.wall", 5),
            ("limit.memory", 5),
            ("limit.table", 5),
            ("limit.instances", 5),
            ("limit.stack", 5),
            ("limit.resource", 5),
            ("limit.host_call", 5),
            ("limit.rate", 5),
            ("limit.cost", 5),
            ("limit.depth", 5),
            ("document.invalid", 7),
            ("signature.invalid", 7),
            ("document.stale", 7),
            ("persona.override", 7),
            ("component.digest_mismatch", 7),
            ("component.invalid", 7),
            ("component.too_large", 7),
            ("component.import_uncovered", 7),
            ("host.unavailable", 8),
            ("audit.unavailable", 8),
            ("host.internal", 1),
        ];
        let found: Vec<_> = Code::ALL
            .iter()
            .map(|code| (code.as_str(), Exit::of(*code) as u8))
            .collect();
        assert_eq!(found, expected, "a new code needs a line here and in the documentation");
    }

    #[test]
    fn the_table_lists_every_exit_code() {
        for exit in [
            Exit::Success,
            Exit::HostFault,
            Exit::Usage,
            Exit::Denied,
            Exit::GuestFault,
            Exit::Limit,
            Exit::InputRefused,
            Exit::NotAdmitted,
            Exit::Unavailable,
            Exit::AuthorityGrew,
            Exit::NotAsWritten,
            Exit::Incomplete,
        ] {
            let line = format!("\n  {:>2}  ", exit as u8);
            assert!(TABLE.contains(&line), "{exit:?} is not in the table");
        }
    }
}
