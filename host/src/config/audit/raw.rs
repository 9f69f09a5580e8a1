//! `[audit]` as it stands in `aral.toml`. Shaped like the file; nothing here decides.

use std::path::PathBuf;

use aral_audit::Durability;
use serde::Deserialize;

/// `[audit]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawAudit {
    pub(super) dir: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) blinding_key_file: Option<PathBuf>,
    pub(super) durability: Option<Durability>,
    pub(super) segment_bytes_max: Option<u64>,
    pub(super) segment_hours_max: Option<u64>,
    pub(super) retain_bytes_max: Option<u64>,
    pub(super) retain_days_max: Option<u64>,
    pub(super) queue_records_max: Option<usize>,
    pub(super) reserve_bytes: Option<u64>,
    pub(super) repeats_max: Option<u32>,
    pub(super) repeat_window_ms: Option<u64>,
    pub(super) stdout: bool,
    pub(super) elasticsearch: Option<RawElasticsearch>,
    pub(super) otlp: Option<RawOtlp>,
}

/// `[audit.elasticsearch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawElasticsearch {
    pub(super) address: String,
    pub(super) index: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) authorization_file: Option<PathBuf>,
    pub(super) timeout_ms: Option<u64>,
}

/// `[audit.otlp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOtlp {
    pub(super) address: String,
    pub(super) service: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) authorization_file: Option<PathBuf>,
    pub(super) timeout_ms: Option<u64>,
}
