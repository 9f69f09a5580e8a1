//! The configuration as it stands in `aral.toml`. Shaped like the file; nothing here decides.

use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::KeyId;
use aral_contract::document::Kind;
use aral_orchestration::RawPolicy;
use aral_orchestration::dispatch::GateOptions;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::address;
use super::audit::raw::RawAudit;
use super::outbound::RawOutbound;
use super::parse::HINT;
use super::serve::RawServe;
use super::storage::raw::{RawMemory, RawSecrets};
use super::telemetry::RawTelemetry;

/// The whole file. Every absent key is closed or takes the built-in number.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) trust: Vec<RawTrust>,
    pub(super) revoked: RawRevoked,
    pub(super) personas: RawPersonas,
    pub(super) manifests: RawManifests,
    pub(super) policy: RawPolicy,
    pub(super) egress: RawEgress,
    pub(super) outbound: RawOutbound,
    pub(super) runtime: RawRuntime,
    pub(super) memory: Option<RawMemory>,
    pub(super) secrets: Option<RawSecrets>,
    pub(super) audit: Option<RawAudit>,
    pub(super) process: RawProcess,
    pub(super) telemetry: RawTelemetry,
    pub(super) serve: Option<RawServe>,
}

/// `[[trust]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrust {
    pub(super) public_key: PathBuf,
    pub(super) kinds: Vec<Kind>,
    #[serde(default, deserialize_with = "moment")]
    pub(super) not_before: Option<Timestamp>,
    #[serde(default, deserialize_with = "moment")]
    pub(super) not_after: Option<Timestamp>,
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|_| {
        let shown = text.escape_debug();
        D::Error::custom(format!(
            "`{shown}` is no moment{HINT}write it with its time and zone: \"2026-06-01T00:00:00Z\""
        ))
    })
}

/// `[revoked]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRevoked {
    pub(super) keys: Vec<KeyId>,
}

/// `[personas]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPersonas {
    pub(super) files: Vec<PathBuf>,
}

/// `[manifests]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawManifests {
    pub(super) files: Vec<PathBuf>,
}

/// `[egress]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEgress {
    #[serde(deserialize_with = "address::of_nameservers")]
    pub(super) nameservers: Vec<SocketAddr>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) connections_max: Option<usize>,
}

/// `[runtime]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRuntime {
    pub(super) allocation: RawAllocation,
    pub(super) concurrent_calls_max: Option<u32>,
    pub(super) waiting_calls_max: Option<u32>,
    pub(super) wait_ms: Option<u64>,
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) cache_bytes_max: Option<u64>,
}

/// `runtime.allocation`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawAllocation {
    #[default]
    Auto,
    OnDemand,
}

/// `[process]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProcess {
    pub(super) open_files_max: Option<u64>,
    pub(super) address_space_bytes_max: Option<u64>,
}

impl RawRuntime {
    /// What is not said is as built in.
    pub(super) fn gate(&self) -> GateOptions {
        let default = GateOptions::default();
        GateOptions {
            concurrent_max: self.concurrent_calls_max.unwrap_or(default.concurrent_max),
            waiting_max: self.waiting_calls_max.unwrap_or(default.waiting_max),
            wait_ms: self.wait_ms.unwrap_or(default.wait_ms),
        }
    }
}
