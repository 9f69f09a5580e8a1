//! The command line of `aral audit`. No verb of it needs a private key.

use std::path::PathBuf;

use aral_contract::event::Severity;
use aral_contract::{CapabilityId, PersonaId, TraceId};
use clap::{Args, Subcommand, ValueHint};
use jiff::Timestamp;

use super::written;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Read the whole log and name the first record that is not as it was written; exit code 11 if there is one
    Verify(AuditVerify),
    /// Print the newest signed checkpoint: kept elsewhere, it shows later whether the log was cut back
    Checkpoint(AuditCheckpoint),
    /// Make the receipt of a record: the record, its place in the log, and a signed checkpoint
    Prove(AuditProve),
    /// Check a receipt, without the log; exit code 11 if it proves nothing
    Check(AuditCheck),
    /// Print the last records, and with -f those that come
    Tail(AuditTail),
    /// Find records by time, request, persona, capability, type and severity
    Query(AuditQuery),
    /// Write records as they stand in the log, one a line
    Export(AuditExport),
}

/// Where the log is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The folder of the log; without it the one of the configuration
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// Whose signatures count.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// A public key to trust for checkpoints; without it the keys of the configuration and `audit.pub.pem` in its folder of
    /// state
    #[arg(long, value_name = "KEY.pub.pem", value_hint = ValueHint::FilePath)]
    pub(crate) trust: Vec<PathBuf>,
}

/// Verify the log.
#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// A checkpoint that was kept elsewhere, or a receipt: the log must reach as far and say the same
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) anchor: Vec<PathBuf>,
}

/// Print the newest checkpoint.
#[derive(Debug, Args)]
pub(crate) struct AuditCheckpoint {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// Make a receipt.
#[derive(Debug, Args)]
pub(crate) struct AuditProve {
    /// The number of the record
    #[arg(value_name = "SEQ")]
    pub(crate) seq: u64,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Where the receipt goes, a file that must not exist; without it standard output
    #[arg(long, value_name = "FILE", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Check a receipt.
#[derive(Debug, Args)]
pub(crate) struct AuditCheck {
    /// The receipt
    #[arg(value_name = "RECEIPT", value_hint = ValueHint::FilePath)]
    pub(crate) receipt: PathBuf,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Whether the call had the input in this file; needs --input-salt
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "input_salt")]
    pub(crate) input: Option<PathBuf>,
    /// The salt that the caller got with the answer
    #[arg(long, value_name = "HEX", requires = "input")]
    pub(crate) input_salt: Option<String>,
    /// Whether the call gave the output in this file; needs --output-salt
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "output_salt")]
    pub(crate) output: Option<PathBuf>,
    /// The salt that the caller got with the answer
    #[arg(long, value_name = "HEX", requires = "output")]
    pub(crate) output_salt: Option<String>,
}

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Not before: a time such as `2026-01-31T00:00:00Z`, or how long ago, such as `7d`, `12h`, `30m` or `45s`
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// Before
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// Of this request
    #[arg(long, value_name = "ID")]
    pub(crate) trace: Option<TraceId>,
    /// About this persona
    #[arg(long, value_name = "ID")]
    pub(crate) persona: Option<PersonaId>,
    /// About this capability
    #[arg(long, value_name = "ID")]
    pub(crate) capability: Option<CapabilityId>,
    /// Of this type, such as `decision` or `invocation`
    #[arg(long = "type", value_name = "TYPE", value_parser = aral_audit::schema::AuditEvent::TYPE_NAMES)]
    pub(crate) kind: Option<String>,
    /// At least so urgent: info, low, medium, high or critical
    #[arg(long, value_name = "WORD", value_parser = severity)]
    pub(crate) severity: Option<Severity>,
}

/// Print the last records.
#[derive(Debug, Args)]
pub(crate) struct AuditTail {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How many of the last
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=100_000))]
    pub(crate) lines: u64,
    /// Go on with those that come, until it is interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Find records.
#[derive(Debug, Args)]
pub(crate) struct AuditQuery {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Stop after so many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
}

/// Write records.
#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where they go (mode 0600); the file must not exist
    #[arg(long, value_name = "FILE", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
}

/// A moment, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    SecondsAgo(i64),
}

impl When {
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::SecondsAgo(seconds) => now
                .saturating_sub(jiff::SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MIN),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ago = |unit: char, seconds: i64| {
            let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Self::SecondsAgo(i64::from(count).saturating_mul(seconds)))
        };
        ago('d', 86_400)
            .or_else(|| ago('h', 3600))
            .or_else(|| ago('m', 60))
            .or_else(|| ago('s', 1))
            .or_else(|| text.parse().ok().map(Self::At))
            .ok_or_else(|| "write a time like 2026-01-31T00:00:00Z, or how long ago: 7d, 12h, 30m, 45s".to_owned())
    }
}

fn severity(text: &str) -> Result<Severity, String> {
    serde_json::from_value(serde_json::Value::from(text))
        .map_err(|_| "write info, low, medium, high or critical".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let read = |text: &str| text.parse::<When>().map(|when| when.moment(now).to_string());
        for (text, moment) in [
            ("7d", "2026-01-24T00:00:00Z"),
            ("12h", "2026-01-30T12:00:00Z"),
            ("30m", "2026-01-30T23:30:00Z"),
            ("45s", "2026-01-30T23:59:15Z"),
            ("2025-12-01T00:00:00Z", "2025-12-01T00:00:00Z"),
        ] {
            assert_eq!(read(text).unwrap(), moment);
        }
        for bad in ["", "d", "-1d", "7 d", "yesterday", "99999999999d"] {
            assert!(read(bad).is_err(), "{bad:?} was taken");
        }
    }
}
