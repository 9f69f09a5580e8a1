//! The policy as it stands in the section `[policy]` of `aral.toml`. Shaped like the file; nothing here decides.

use std::collections::BTreeMap;

use aral_contract::id::{Namespace, SecretName, TierName};
use aral_contract::scope::ProgramScope;
use aral_contract::{AllowList, CapabilityId, CapabilityPattern, HostPattern, LimitsRequest, Metering, Permission};
use ipnet::IpNet;
use serde::Deserialize;

/// `[policy]`. Every absent key is closed: it allows nothing, or takes the built-in number. One is not: `network.trace_hosts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicy {
    /// The permissions that may be granted at all; `"*"` means all.
    pub permissions: AllowList<Permission>,
    /// The capabilities that may run: ids, beginnings with `*`, each optionally with versions; `"*"` means all.
    pub capabilities: AllowList<CapabilityPattern>,
    /// `[policy.network]`
    pub network: RawNetwork,
    /// `[policy.file]`
    pub file: RawFile,
    /// `[policy.secret]`
    pub secret: RawSecret,
    /// `[policy.memory]`
    pub memory: RawMemory,
    /// `[policy.exec]`
    pub exec: RawExec,
    /// The most that a call may ever get. Absent: the built-in defaults are the most.
    pub limits: LimitsRequest,
    /// What a call gets when its manifest asks for nothing. Absent: the built-in defaults, or the ceiling if lower.
    pub defaults: LimitsRequest,
    /// `[policy.agent]`: how much an agent may do. A persona may say less, never more.
    pub agent: RawAgentLimits,
    /// `[policy.tier.NAME]`: the same for personas of a tier. What is absent there is as in `[policy.agent]`.
    pub tier: BTreeMap<TierName, RawAgentLimits>,
    /// `[policy.price]`: what calls cost. Absent: nothing.
    pub price: RawPrices,
    /// `[policy.breaker]`: when a capability that keeps failing for a persona is not called any more for a while. Absent: the
    /// built-in numbers.
    pub breaker: RawBreaker,
    /// `[policy.capability.ID]`: what differs for one capability.
    pub capability: BTreeMap<CapabilityId, RawOverride>,
}

/// `[policy.network]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNetwork {
    /// The hosts that requests, and secrets with them, may go to.
    pub hosts: Vec<HostPattern>,
    /// Networks that are not public and may be reached nevertheless, such as `127.0.0.0/8`.
    #[serde(deserialize_with = "aral_contract::address::networks")]
    pub networks: Vec<IpNet>,
    /// The hosts whose requests say to which trace they belong. Absent: all, and they learn nothing but random names; empty:
    /// none. Hosts that are named here also get what systems before this one said for themselves (`tracestate`).
    pub trace_hosts: Option<Vec<HostPattern>>,
}

/// `[policy.file]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFile {
    /// Folders below which capabilities may read; relative ones are looked up beside the configuration file.
    pub read_roots: Vec<String>,
    /// Folders below which capabilities may write.
    pub write_roots: Vec<String>,
    /// The most bytes that one call may write below one folder.
    pub bytes_max: Option<u64>,
    /// The most files and folders that one call may create below one folder.
    pub files_max: Option<u64>,
}

/// `[policy.secret]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSecret {
    /// The secrets that capabilities may use or store; `"*"` means all.
    pub names: AllowList<SecretName>,
    /// Whether a capability may see the value of a secret, instead of having it added to requests.
    pub reveal: bool,
    /// Whether a secret may be added to a request in clear text, if that goes to a loopback address.
    pub plain_loopback: bool,
}

/// `[policy.memory]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMemory {
    /// The namespaces that capabilities may read or write; `"*"` means all.
    pub namespaces: AllowList<Namespace>,
    /// The most bytes in a namespace.
    pub bytes_max: Option<u64>,
    /// The most records in a namespace.
    pub records_max: Option<u64>,
}

/// `[policy.exec]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawExec {
    /// The programs that capabilities may run, each with the shape of its arguments.
    pub programs: Vec<ProgramScope>,
}

/// `[policy.capability.ID]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOverride {
    /// The engine: `metered` (the default) or `epoch-only`.
    pub engine: Metering,
    /// What each call of it costs, where that differs from `[policy.price] call_micro`.
    pub price_micro: Option<u64>,
    /// The ceiling for this capability, where it differs from `[policy.limits]`.
    pub limits: LimitsRequest,
}

/// `[policy.agent]` and `[policy.tier.NAME]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAgentLimits {
    /// The most calls in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// The most calls in any 3,600 seconds.
    pub requests_per_hour: Option<u64>,
    /// What all calls in any 3,600 seconds may cost together, in millionths.
    pub cost_per_hour_micro: Option<u64>,
    /// How deep calls may be made: 0 is a call of the agent's own.
    pub reasoning_depth: Option<u32>,
}

/// `[policy.price]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrices {
    /// What each call costs, in millionths.
    pub call_micro: u64,
    /// What 1,000,000,000 units of fuel cost, in millionths.
    pub gigafuel_micro: u64,
    /// What each second costs from the check of the input to that of the output, in millionths: neither waiting for a place nor
    /// compiling.
    pub second_micro: u64,
}

/// `[policy.breaker]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBreaker {
    /// So many failures in a row open it.
    pub failures: Option<u32>,
    /// The first pause, in milliseconds.
    pub open_ms: Option<u64>,
    /// The longest pause, in milliseconds.
    pub open_max_ms: Option<u64>,
}
