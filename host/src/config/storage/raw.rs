//! `[memory]` and `[secrets]` as they stand in `aral.toml`. Shaped like the file; nothing here decides.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aral_contract::SecretReference;
use aral_contract::id::SecretName;
use serde::Deserialize;

/// `[memory]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawMemory {
    pub(super) dir: Option<PathBuf>,
    pub(super) cache_bytes_max: Option<u64>,
    pub(super) free_bytes_min: Option<u64>,
    pub(super) sweep_ms: Option<u64>,
    pub(super) master_key: RawMasterKey,
    pub(super) epoch: Option<RawEpoch>,
}

/// `[memory.master_key]`: exactly one of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMasterKey {
    pub(super) file: Option<PathBuf>,
    pub(super) environment: Option<String>,
    pub(super) transit: Option<RawTransitKey>,
}

/// `memory.master_key.transit`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransitKey {
    pub(super) mount: String,
    pub(super) key: String,
}

/// `[memory.epoch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEpoch {
    pub(super) transit: RawTransitPrefix,
    pub(super) hours: Option<u64>,
}

/// `memory.epoch.transit`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransitPrefix {
    pub(super) mount: String,
    pub(super) prefix: String,
}

/// `[secrets]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawSecrets {
    pub(super) cache_ttl_ms: Option<u64>,
    pub(super) cache_entries_max: Option<u64>,
    pub(super) names: BTreeMap<SecretName, SecretReference>,
    pub(super) vault: Option<RawVault>,
}

/// `[secrets.vault]`: exactly one way to log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVault {
    pub(super) address: String,
    pub(super) namespace: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) token_environment: Option<String>,
    pub(super) approle: Option<RawAppRole>,
}

/// `[secrets.vault.approle]`: exactly one place of the secret id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAppRole {
    pub(super) mount: Option<String>,
    pub(super) role_id: String,
    pub(super) secret_id_file: Option<PathBuf>,
    pub(super) secret_id_environment: Option<String>,
}
