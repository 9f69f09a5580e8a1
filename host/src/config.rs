//! `aral.toml`, resolved: one file in, everything a host needs out. The file and the keys it names must belong to this
//! user or root and be writable by nobody else, since whoever can write them can grant. It starts nothing.

mod address;
pub mod audit;
mod descriptors;
mod error;
mod named;
mod odd;
mod outbound;
mod parse;
mod range;
mod raw;
pub mod serve;
pub mod storage;
mod taken;
pub mod telemetry;
mod trust;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aral_capability::egress::EgressOptions;
use aral_contract::document::TrustStore;
use aral_contract::scope::AbsolutePath;
use aral_contract::{Code, Digest, Failure};
use aral_orchestration::Policy;
use aral_orchestration::dispatch::GateOptions;
use aral_orchestration::policy::PolicyParts;
use aral_runtime::cache::CACHE_BYTES_MAX_DEFAULT;
use aral_runtime::files;
use aral_runtime::outbound::{Outbound, check_authorities};
use aral_runtime::process::{self, ADDRESS_SPACE_BYTES_MIN, OPEN_FILES_MIN, ProcessLimits};
use aral_runtime::runtime::CONCURRENT_CALLS_MAX;
use aral_runtime::{Allocation, CacheOptions, RuntimeOptions};

use crate::environment;
use audit::AuditConfig;
pub use error::ConfigError;
use error::NAME_A_FILE;
pub use named::Named;
use parse::parse;
pub use range::OutOfRange;
use range::between;
use raw::{RawAllocation, RawProcess, RawRuntime};
use serve::ServeConfig;
use storage::{MemoryConfig, SecretsConfig};
pub use taken::Taken;
use telemetry::TelemetryConfig;

/// Largest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest public key file, in bytes.
pub const KEY_BYTES_MAX: u64 = 64 << 10;
/// Largest file of certificates, in bytes.
pub const CA_BYTES_MAX: u64 = 4 << 20;

/// Most connections that a configuration may allow at once: more than a process has descriptors for is a mistake.
pub const CONNECTIONS_MAX: usize = 1_000_000;

/// Everything that a host is made from. Made by [`Config::load`] from a file, or by [`Config::closed`] and changed.
///
/// | Key of `aral.toml` | Meaning | If absent |
/// |---|---|---|
/// | `state_dir` | folder for the cache, its key and the serials, mode 0700 | `aral` below `$XDG_STATE_HOME` or `~/.local/state` |
/// | `[[trust]]` `public_key`, `kinds` | a PEM file, and what it may sign: `manifest`, `persona`, `checkpoint` | nothing is trusted |
/// | `[[trust]]` `not_before`, `not_after` | from when to when, as `2026-06-01T00:00:00Z` | at all times |
/// | `[revoked]` `keys` | ids of keys that are not trusted any more, whoever trusts them | none |
/// | `[personas]` `files` | signed personas that are taken at start; without every one of them there is no start | none |
/// | `[manifests]` `files` | signed manifests that are registered at start | none |
/// | `[policy]` | see [`aral_orchestration::RawPolicy`] | nothing is allowed |
/// | `[egress]` `nameservers` | `address:port` of resolvers | those of the system |
/// | `[egress]` `ca_file` | PEM file with certificates to trust besides the system's | none |
/// | `[egress]` `connections_max` | connections at once; the guests of one persona have a quarter of them, and at least two | built-in |
/// | `[outbound]` `proxy` | what the host's own requests to other machines go through, as `http://HOST:PORT` | they go directly |
/// | `[outbound]` `no_proxy` | names, addresses and networks that they reach without it | none |
/// | `[outbound]` `ca_file` | PEM file with certificates that they trust besides the system's | none |
/// | `[runtime]` `allocation` | `auto` (a pool if there is room) or `on-demand` | `auto` |
/// | `[runtime]` `concurrent_calls_max` | calls in flight at once | 1000 |
/// | `[runtime]` `waiting_calls_max` | calls that may wait for a place | 1000 |
/// | `[runtime]` `wait_ms` | how long one waits | 5000 |
/// | `[runtime]` `cache_dir` | folder for compiled code | `cache` below `state_dir` |
/// | `[runtime]` `cache_bytes_max` | size of all compiled code | 1 GiB |
/// | `[memory]` | see [`MemoryConfig`] | there is no store |
/// | `[secrets]` | see [`SecretsConfig`] | secrets lie in the store, if there is one |
/// | `[audit]` | see [`AuditConfig`] | a log in `audit` below `state_dir` |
/// | `[process]` `open_files_max`, `address_space_bytes_max` | descriptors (at least 64) and address space (at least 2 GiB) of the process | 16384, not limited |
/// | `[telemetry]` | see [`TelemetryConfig`] | nothing is exported |
/// | `[serve]` | see [`ServeConfig`] | `aral serve` has nothing to serve |
///
/// Relative paths lie beside the file. Unknown keys are refused.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where state is kept; none: nowhere, so that nothing is cached and serials are forgotten when the host ends.
    pub state_dir: Option<PathBuf>,
    /// Who may sign what.
    pub trust: TrustStore,
    /// Signed manifests to register at start.
    pub manifests: Vec<PathBuf>,
    /// Signed personas to take at start.
    pub personas: Vec<PathBuf>,
    /// What may be granted at most.
    pub policy: Policy,
    /// How requests of guests leave the host.
    pub egress: EgressOptions,
    /// How the host's own requests do.
    pub outbound: Outbound,
    /// Where instances come from.
    pub allocation: Allocation,
    /// How many calls there may be at once.
    pub gate: GateOptions,
    /// Where compiled code is kept, if not in `state_dir`.
    pub cache_dir: Option<PathBuf>,
    /// Size of all compiled code, in bytes.
    pub cache_bytes_max: u64,
    /// Where records are kept; none: nowhere.
    pub memory: Option<MemoryConfig>,
    /// Where secrets are kept besides the store.
    pub secrets: Option<SecretsConfig>,
    /// How the audit log is kept; none: there is none, for a program that keeps events in its own way.
    pub audit: Option<AuditConfig>,
    /// The variables that `memory` and `secrets` name, once [`Config::take_variables`] has taken them.
    pub taken: Option<Taken>,
    /// Limits of the process; the binary applies them, an embedder's process is its own.
    pub process: ProcessLimits,
    /// Where traces and metrics go.
    pub telemetry: TelemetryConfig,
    /// What `aral serve` serves; none: nothing.
    pub serve: Option<ServeConfig>,
    /// SHA-256 of the file; none: there was no file.
    pub digest: Option<Digest>,
}

impl Config {
    /// What holds without a file: nothing is trusted, nothing is allowed, nothing is kept as long as there is no place to.
    ///
    /// # Errors
    /// None in practice: the closed policy has a canonical form.
    pub fn closed() -> Result<Self, Failure> {
        let gate = GateOptions::default();
        Ok(Self {
            state_dir: None,
            trust: TrustStore::default(),
            manifests: Vec::new(),
            personas: Vec::new(),
            policy: Policy::new(PolicyParts::default())?,
            egress: EgressOptions::default(),
            outbound: Outbound::default(),
            allocation: Allocation::default(),
            gate,
            cache_dir: None,
            cache_bytes_max: CACHE_BYTES_MAX_DEFAULT,
            memory: None,
            secrets: None,
            audit: Some(AuditConfig::default()),
            taken: None,
            process: ProcessLimits::default(),
            telemetry: TelemetryConfig::default(),
            serve: None,
            digest: None,
        })
    }

    /// [`Config::closed`], with state kept where the environment says. What the `aral` command uses without a file.
    ///
    /// # Errors
    /// As [`Config::closed`].
    pub fn built_in() -> Result<Self, Failure> {
        Ok(Self {
            state_dir: environment::state_dir(),
            ..Self::closed()?
        })
    }

    /// Reads `aral.toml` and the files that it names.
    ///
    /// # Errors
    /// `config.invalid`, with the file, the line and, where there is one, the step that repairs it.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        Ok(load(path)?)
    }

    /// The variables that `[memory]`, `[secrets]` and `[serve]` name: secrets, or keys to them.
    pub fn variables(&self) -> BTreeSet<String> {
        let mut names = storage::variables(self.memory.as_ref(), self.secrets.as_ref());
        names.append(&mut serve::variables(self.serve.as_ref()));
        names
    }

    /// Holds this process, and those that it starts, to `[process]`, and keeps it from dumping core: a dump would hold secrets. A limit
    /// is the whole program's, so a program that embeds the host says so itself, first thing in `main`, before
    /// [`Config::take_variables`].
    ///
    /// # Errors
    /// `config.invalid` if the system refuses a limit.
    pub fn limit_process(&self) -> Result<(), Failure> {
        process::apply(&self.process).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            Failure::new(Code::ConfigInvalid, format!("{error}{cause}"))
                .with_hint("change [process] in aral.toml, or the limits of the shell (`ulimit -a`)")
        })
    }

    /// Takes those variables out of the environment, so that neither a child process nor `/proc/PID/environ` shows them.
    /// Call it right after [`Config::load`], while the process has one thread: a second one could be reading the
    /// environment just then. A host is not made from a configuration whose variables were left in place.
    ///
    /// # Errors
    /// `config.invalid` if the process has more than one thread.
    pub fn take_variables(&mut self) -> Result<(), Failure> {
        self.taken = Some(Taken::take(&self.variables())?);
        Ok(())
    }

    /// What the runtime is made from.
    pub(crate) fn runtime(&self, compiler: aral_runtime::CompilerKind) -> RuntimeOptions {
        let cache = self.state_dir.as_ref().map(|state| CacheOptions {
            directory: self.cache_dir.clone().unwrap_or_else(|| state.join("cache")),
            key_file: state.join("cache.key"),
            bytes_max: self.cache_bytes_max,
        });
        RuntimeOptions {
            allocation: self.allocation,
            concurrent_calls_max: self.gate.concurrent_max,
            cache,
            compiler,
            ..RuntimeOptions::default()
        }
    }
}

fn load(path: &Path) -> Result<Config, ConfigError> {
    let bytes = files::read_trusted(path, CONFIG_BYTES_MAX).map_err(|error| match error.is_not_found() {
        true => ConfigError::Absent(path.to_owned()),
        false => ConfigError::File(error),
    })?;
    let folder = folder_of(path)?;
    let raw = parse(path, &bytes)?;
    let beside = |named: PathBuf| Path::new(folder.as_str()).join(named);
    let ca = authorities("[egress]", raw.egress.ca_file, &beside)?;
    let closed = EgressOptions::default();
    let state_dir = raw.state_dir.map(beside).or_else(environment::state_dir);
    let storage = storage::resolve(raw.memory, raw.secrets, state_dir.as_deref(), &beside)?;
    let audit = audit::resolve(raw.audit, state_dir.as_deref(), &beside)?;
    let outbound = outbound::resolve(raw.outbound, &beside)?;
    let serve = raw
        .serve
        .map(|raw| serve::resolve(raw, state_dir.as_deref(), &outbound, &beside));
    Ok(Config {
        state_dir,
        trust: trust::resolve(raw.trust, raw.revoked.keys, &beside)?,
        manifests: raw.manifests.files.into_iter().map(&beside).collect(),
        personas: raw.personas.files.into_iter().map(&beside).collect(),
        policy: Policy::resolve(raw.policy, &folder)?,
        egress: EgressOptions {
            nameservers: raw.egress.nameservers,
            extra_roots_pem: ca,
            connections_max: between(
                "[egress] connections_max",
                raw.egress.connections_max.unwrap_or(closed.connections_max),
                (1, CONNECTIONS_MAX),
            )?,
        },
        serve: serve.transpose()?,
        outbound,
        allocation: match raw.runtime.allocation {
            RawAllocation::Auto => Allocation::Auto,
            RawAllocation::OnDemand => Allocation::OnDemand,
        },
        gate: gate(&raw.runtime)?,
        cache_dir: raw.runtime.cache_dir.map(beside),
        cache_bytes_max: raw.runtime.cache_bytes_max.unwrap_or(CACHE_BYTES_MAX_DEFAULT),
        memory: storage.memory,
        secrets: storage.secrets,
        audit: Some(audit),
        taken: None,
        process: process(&raw.process)?,
        telemetry: telemetry::resolve(raw.telemetry, &beside)?,
        digest: Some(Digest::of(&bytes)),
    })
}

fn gate(raw: &RawRuntime) -> Result<GateOptions, ConfigError> {
    let gate = raw.gate();
    between(
        "[runtime] concurrent_calls_max",
        gate.concurrent_max,
        (1, CONCURRENT_CALLS_MAX),
    )?;
    Ok(gate)
}

/// With less nothing works, and what is said then does not tell why.
fn process(raw: &RawProcess) -> Result<ProcessLimits, ConfigError> {
    let at_least = |key, value: u64, least| match value < least {
        true => Err(ConfigError::TooLittle { key, value, least }),
        false => Ok(value),
    };
    let files = raw.open_files_max.unwrap_or(ProcessLimits::default().open_files_max);
    let space = raw
        .address_space_bytes_max
        .map(|bytes| at_least("address_space_bytes_max", bytes, ADDRESS_SPACE_BYTES_MIN));
    Ok(ProcessLimits {
        open_files_max: at_least("open_files_max", files, OPEN_FILES_MIN)?,
        address_space_bytes_max: space.transpose()?,
    })
}

/// What a file holds that `key` of the configuration names. `otherwise` repairs it if no command does.
fn read_named(path: &Path, bytes_max: u64, key: String, otherwise: &'static str) -> Result<Vec<u8>, ConfigError> {
    files::read_trusted(path, bytes_max).map_err(|error| ConfigError::Named { key, error, otherwise })
}

/// The certificates in the file that the `ca_file` of a table names.
fn authorities(
    table: &str,
    ca_file: Option<PathBuf>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Option<Vec<u8>>, ConfigError> {
    let read = |named: PathBuf| -> Result<Vec<u8>, ConfigError> {
        let path = beside(named);
        let pem = read_named(&path, CA_BYTES_MAX, format!("{table} ca_file"), NAME_A_FILE)?;
        check_authorities(&pem).map_err(|error| ConfigError::NoCertificate {
            table: table.to_owned(),
            path,
            error,
        })?;
        Ok(pem)
    };
    ca_file.map(read).transpose()
}

/// The folder that relative paths lie in, links followed once and now.
fn folder_of(path: &Path) -> Result<AbsolutePath, ConfigError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let folder = files::canonical(parent).map_err(ConfigError::File)?;
    let plain = folder.to_str().and_then(|text| text.parse().ok());
    plain.ok_or(ConfigError::Folder(folder))
}

#[cfg(test)]
mod tests;
