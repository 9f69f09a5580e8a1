//! `[audit]`, resolved: where the log and its keys are, how it is kept, and where it is copied to. It reads no key and opens
//! no log.

pub(super) mod raw;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use aral_audit::LogOptions;
use aral_contract::Digest;

use super::range::{OutOfRange, between};
use super::{ConfigError, authorities};
use raw::{RawAudit, RawElasticsearch, RawOtlp};

/// How long one delivery to a server may take, by default.
pub const SINK_TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// The index of Elasticsearch, by default.
pub const INDEX_DEFAULT: &str = "aral-audit";
/// What the host calls itself to an OpenTelemetry collector, by default.
pub const SERVICE_DEFAULT: &str = "aral";

const KIB: u64 = 1 << 10;
const TIB: u64 = 1 << 40;

/// How the audit log is kept. The default is a log below the folder of state, whose keys are made at the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The folder; none: `audit` below the folder of state. Without that either there is no log.
    pub dir: Option<PathBuf>,
    /// The private key that signs checkpoints; none: `audit.pem` below the folder of state, made if it is not there, with
    /// its public half in `audit.pub.pem`.
    pub key_file: Option<PathBuf>,
    /// The key that hides what the log must not show, made if it is not there; none: `audit.blind` below the folder of
    /// state.
    pub blinding_key_file: Option<PathBuf>,
    /// How its records are kept, and how long. The folder, the head file and the keys in it do not count: they are set where
    /// the log is opened.
    pub log: LogOptions,
    /// Whether records go to standard output too.
    pub stdout: bool,
    /// Whether they do from another process: what that has not written is not removed by this one.
    pub stdout_elsewhere: bool,
    /// The server that speaks Elasticsearch's `_bulk`.
    pub elasticsearch: Option<ElasticsearchConfig>,
    /// The OpenTelemetry collector.
    pub otlp: Option<OtlpConfig>,
}

/// A server that records are copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its address: `https://HOST:PORT`, or `http://` on this machine.
    pub address: String,
    /// Certificates to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// A private file with the value of the header `authorization`, read anew for each delivery.
    pub authorization_file: Option<PathBuf>,
    /// How long one delivery may take.
    pub timeout_ms: u64,
}

/// Elasticsearch, or what speaks its `_bulk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// Where it is.
    pub server: ServerConfig,
    /// The index, alias or data stream.
    pub index: String,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where it is.
    pub server: ServerConfig,
    /// What the host calls itself there.
    pub service: String,
}

/// The files of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlaces {
    /// The folder of the log.
    pub dir: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Where its public half is kept; none: the operator named the private key and keeps both halves.
    pub public_key: Option<PathBuf>,
    /// The key that hides.
    pub blinding_key: PathBuf,
    /// Where the newest checkpoint is kept besides; none: there is no folder of state.
    pub head: Option<PathBuf>,
}

/// Why `[audit]` is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditConfigError {
    /// The log or a key would lie below the folder of state, which is nowhere.
    #[error("[audit] has no `{key}`, and there is no state_dir that it could lie in")]
    NoFolder {
        /// Which key.
        key: &'static str,
    },
    /// A text that names no index.
    #[error("[audit.elasticsearch] index = \"{}\" is not the name of an index: a-z 0-9 - _ . and no sign first", .0.escape_debug())]
    Index(String),
}

impl AuditConfigError {
    /// The line that repairs it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoFolder { key } => Some(format!("aral.toml, [audit]: {key} = \"…\", or a state_dir")),
            Self::Index(_) => None,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            dir: None,
            key_file: None,
            blinding_key_file: None,
            log: LogOptions::new(PathBuf::new()),
            stdout: false,
            stdout_elsewhere: false,
            elasticsearch: None,
            otlp: None,
        }
    }
}

impl AuditConfig {
    /// Where the files are; none: nowhere, because nobody said where and there is no folder of state.
    ///
    /// # Errors
    /// Some have a place and others none.
    pub fn places(&self, state_dir: Option<&Path>) -> Result<Option<AuditPlaces>, AuditConfigError> {
        if state_dir.is_none() && self.dir.is_none() {
            return Ok(None);
        }
        let place = |named: &Option<PathBuf>, key, default: &str| {
            let below = || state_dir.map(|state| state.join(default));
            named.clone().or_else(below).ok_or(AuditConfigError::NoFolder { key })
        };
        let head = match &self.dir {
            None => "audit.head".to_owned(),
            // Several logs may share one folder of state.
            Some(dir) => {
                let name = Digest::of(dir.as_os_str().as_encoded_bytes()).to_string();
                format!("audit-{}.head", name.get(..16).unwrap_or(&name))
            }
        };
        Ok(Some(AuditPlaces {
            head: state_dir.map(|state| state.join(head)),
            dir: place(&self.dir, "dir", "audit")?,
            key: place(&self.key_file, "key_file", "audit.pem")?,
            public_key: match self.key_file {
                Some(_) => None,
                None => state_dir.map(|state| state.join("audit.pub.pem")),
            },
            blinding_key: place(&self.blinding_key_file, "blinding_key_file", "audit.blind")?,
        }))
    }
}

/// From the file's shape to the program's. Whoever writes the table wants the log, and so its place must be known.
pub(super) fn resolve(
    raw: Option<RawAudit>,
    state_dir: Option<&Path>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<AuditConfig, ConfigError> {
    let Some(raw) = raw else {
        return Ok(AuditConfig::default());
    };
    let default = LogOptions::new(PathBuf::new());
    let hours = raw
        .segment_hours_max
        .unwrap_or(default.segment_age_max.as_secs() / 3600);
    let days = raw
        .retain_days_max
        .map(|days| between("[audit] retain_days_max", days, (1, 36_500)))
        .transpose()?;
    let segment_bytes_max = between(
        "[audit] segment_bytes_max",
        raw.segment_bytes_max.unwrap_or(default.segment_bytes_max),
        (KIB, TIB),
    )?;
    let window_ms = raw
        .repeat_window_ms
        .unwrap_or(u64::try_from(default.repeat_window.as_millis()).unwrap_or(u64::MAX));
    let log = LogOptions {
        durability: raw.durability.unwrap_or(default.durability),
        segment_bytes_max,
        segment_age_max: between("[audit] segment_hours_max", hours, (1, 8760)).map(Duration::from_hours)?,
        retain_bytes_max: between(
            "[audit] retain_bytes_max",
            raw.retain_bytes_max.unwrap_or(default.retain_bytes_max),
            (segment_bytes_max, 1 << 50),
        )?,
        retain_age_max: days.map(|days| Duration::from_hours(days.saturating_mul(24))),
        queue_records_max: between(
            "[audit] queue_records_max",
            raw.queue_records_max.unwrap_or(default.queue_records_max),
            (1, 1 << 20),
        )?,
        reserve_bytes: between(
            "[audit] reserve_bytes",
            raw.reserve_bytes.unwrap_or(default.reserve_bytes),
            (0, TIB),
        )?,
        repeats_max: between(
            "[audit] repeats_max",
            raw.repeats_max.unwrap_or(default.repeats_max),
            (1, 1_000_000),
        )?,
        repeat_window: between("[audit] repeat_window_ms", window_ms, (1, 86_400_000)).map(Duration::from_millis)?,
        ..default
    };
    let config = AuditConfig {
        dir: raw.dir.map(beside),
        key_file: raw.key_file.map(beside),
        blinding_key_file: raw.blinding_key_file.map(beside),
        log,
        stdout: raw.stdout,
        stdout_elsewhere: false,
        elasticsearch: raw.elasticsearch.map(|raw| elasticsearch(raw, beside)).transpose()?,
        otlp: raw.otlp.map(|raw| otlp(raw, beside)).transpose()?,
    };
    config
        .places(state_dir)?
        .ok_or(AuditConfigError::NoFolder { key: "dir" })?;
    Ok(config)
}

fn elasticsearch(
    raw: RawElasticsearch,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<ElasticsearchConfig, ConfigError> {
    let index = raw.index.unwrap_or_else(|| INDEX_DEFAULT.to_owned());
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let sign = |byte: u8| matches!(byte, b'-' | b'_' | b'.');
    let is_name = index.len() <= 255
        && index.bytes().next().is_some_and(plain)
        && index.bytes().all(|byte| plain(byte) || sign(byte));
    if !is_name {
        return Err(AuditConfigError::Index(index).into());
    }
    let server = server(
        "[audit.elasticsearch]",
        raw.address,
        raw.ca_file,
        raw.authorization_file,
        timeout_ms("[audit.elasticsearch] timeout_ms", raw.timeout_ms)?,
        beside,
    )?;
    Ok(ElasticsearchConfig { server, index })
}

fn otlp(raw: RawOtlp, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<OtlpConfig, ConfigError> {
    Ok(OtlpConfig {
        server: server(
            "[audit.otlp]",
            raw.address,
            raw.ca_file,
            raw.authorization_file,
            timeout_ms("[audit.otlp] timeout_ms", raw.timeout_ms)?,
            beside,
        )?,
        service: raw.service.unwrap_or_else(|| SERVICE_DEFAULT.to_owned()),
    })
}

pub(super) fn server(
    table: &str,
    address: String,
    ca_file: Option<PathBuf>,
    authorization_file: Option<PathBuf>,
    timeout_ms: u64,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<ServerConfig, ConfigError> {
    Ok(ServerConfig {
        address,
        ca_pem: authorities(table, ca_file, beside)?,
        authorization_file: authorization_file.map(beside),
        timeout_ms,
    })
}

/// How long one delivery may take.
pub(super) fn timeout_ms(key: &'static str, value: Option<u64>) -> Result<u64, OutOfRange> {
    between(key, value.unwrap_or(SINK_TIMEOUT_MS_DEFAULT), (1, 600_000))
}
