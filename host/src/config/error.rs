//! Why a configuration is not taken, and the line that repairs it.

use std::path::PathBuf;

use aral_contract::document::KeyError;
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::files;
use aral_runtime::outbound::OutboundError;
use jiff::Timestamp;

use super::audit::AuditConfigError;
use super::outbound::OutboundConfigError;
use super::range::OutOfRange;
use super::serve::{RatesConfigError, ServeConfigError};
use super::storage::StorageError;
use super::telemetry::TelemetryConfigError;

/// What makes a public key where there is none.
pub(super) const KEYGEN: &str = "make a pair of keys: `aral keygen`";
/// What is to be done where no command makes a file.
pub(super) const NAME_A_FILE: &str =
    "name a file that is there; one without `/` at its beginning lies beside aral.toml";

/// What to do about a file that should hold a public key.
pub(super) fn public_key_hint(error: &KeyError) -> &'static str {
    match error {
        KeyError::Half(_) => {
            "keep the private key where its owner alone can read it: who checks signatures needs the public one"
        }
        _other => KEYGEN,
    }
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no configuration at `{}`", .0.display())]
    Absent(PathBuf),
    /// Its own file cannot be read, or somebody else could have written it.
    #[error("the configuration is not taken: {0}")]
    File(#[source] files::FilesError),
    /// The same of a file that it names.
    #[error("{key}: {error}")]
    Named {
        /// The key, and where it stands.
        key: String,
        /// What is wrong.
        #[source]
        error: files::FilesError,
        /// What repairs it if no command does.
        otherwise: &'static str,
    },
    /// A file of authorities without one.
    #[error("{table} ca_file `{}`", .path.display())]
    NoCertificate {
        /// Which table names it.
        table: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: OutboundError,
    },
    /// Not TOML, or with keys or values that it must not have.
    #[error("`{}`, line {line}: {detail}", .path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        detail: String,
        /// The line or the word that repairs it, where one is known.
        hint: Option<String>,
    },
    /// The folder of the file has a name that documents cannot hold.
    #[error("the configuration lies in `{}`, which is not a plain UTF-8 path", .0.display())]
    Folder(PathBuf),
    /// A key that is none.
    #[error("[[trust]] public_key `{}`: {error}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// A key that is trusted at no time.
    #[error("[[trust]] public_key `{}`: not_after {not_after} is not later than not_before {not_before}", .path.display())]
    Never {
        /// Which file.
        path: PathBuf,
        /// From when.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
    /// A number that makes no sense.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A limit of the process with which nothing works.
    #[error("[process] {key} = {value} is less than {least}")]
    TooLittle {
        /// Which key.
        key: &'static str,
        /// What it says.
        value: u64,
        /// What it must say at least.
        least: u64,
    },
    /// `[memory]` or `[secrets]` that cannot be.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// `[audit]` that cannot be.
    #[error(transparent)]
    Audit(#[from] AuditConfigError),
    /// `[outbound]` that cannot be.
    #[error(transparent)]
    Outbound(#[from] OutboundConfigError),
    /// `[serve]` that cannot be.
    #[error(transparent)]
    Serve(#[from] ServeConfigError),
    /// `[serve.rates]` that cannot be.
    #[error(transparent)]
    Rates(#[from] RatesConfigError),
    /// `[telemetry]` that cannot be.
    #[error(transparent)]
    Telemetry(#[from] TelemetryConfigError),
    /// A policy that contradicts itself.
    #[error(transparent)]
    Policy(#[from] aral_orchestration::policy::PolicyError),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::new(Code::ConfigInvalid, chain(&error));
        match error {
            ConfigError::Policy(error) => error.into(),
            ConfigError::Toml { hint, .. } => Self { hint, ..failure },
            ConfigError::Absent(_) => failure.with_hint(
                "name one that is there: `--config FILE`; without one the built-in defaults hold, which allow nothing",
            ),
            ConfigError::File(error) => Self {
                hint: error.fix(),
                ..failure
            },
            ConfigError::Named { error, otherwise, .. } => {
                failure.with_hint(error.fix().unwrap_or_else(|| otherwise.to_owned()))
            }
            ConfigError::NoCertificate { table, .. } => failure.with_hint(format!(
                "aral.toml, {table}: ca_file = \"ca.pem\", a file that has `-----BEGIN CERTIFICATE-----` in it"
            )),
            ConfigError::Key { error, .. } => failure.with_hint(public_key_hint(&error)),
            ConfigError::TooLittle { key, least, .. } => {
                failure.with_hint(format!("aral.toml, [process]: {key} = {least}"))
            }
            ConfigError::Storage(error) => Self {
                hint: error.hint(),
                ..failure
            },
            ConfigError::Serve(error) => Self {
                hint: error.hint(),
                ..failure
            },
            ConfigError::Audit(error) => Self {
                hint: error.hint(),
                ..failure
            },
            ConfigError::Rates(error) => Self {
                hint: error.hint(),
                ..failure
            },
            ConfigError::Outbound(error) => failure.with_hint(error.hint()),
            ConfigError::Never { not_before, .. } => {
                failure.with_hint(format!("write a not_after later than {not_before}"))
            }
            ConfigError::Folder(_) | ConfigError::Range(_) => failure,
            ConfigError::Telemetry(error) => failure.with_hint(error.hint()),
        }
    }
}
