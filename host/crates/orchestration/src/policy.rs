//! The operator's policy: the upper bound of every grant. Resolved once from its section of `aral.toml`; closed where
//! that says nothing. It answers for itself alone and knows neither manifest nor persona.

pub mod agent;
pub mod breaker;
mod counts;
mod order;
pub mod raw;

use std::collections::BTreeMap;

use aral_contract::document::json;
use aral_contract::id::{Namespace, SecretName, TierName};
use aral_contract::quote::key;
use aral_contract::scope::{AbsolutePath, PathError, ProgramScope};
use aral_contract::{
    AllowList, CapabilityId, CapabilityPattern, Code, Digest, Failure, HostPattern, Limits, Metering, Permission,
};
use ipnet::IpNet;
use semver::Version;
use serde::Serialize;

use agent::DEPTH_MAX;

pub use agent::{AgentLimits, Prices};
pub use breaker::BreakerLimits;
pub use counts::POLICY_ITEMS_MAX;
pub(crate) use order::in_order;
pub use raw::RawPolicy;

/// Default of `file.bytes_max`: 64 MiB. Stops a capability from filling the disk.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Default of `file.files_max`. Stops a capability from using up the file system's inodes.
pub const FILE_COUNT_MAX: u64 = 1_000;
/// Default of `memory.bytes_max`: 64 MiB. Stops a capability from filling the store.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Default of `memory.records_max`. Stops a capability from making listings slow for all.
pub const MEMORY_RECORDS_MAX: u64 = 10_000;

/// What a policy says, resolved: no key is absent, every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyParts {
    /// The permissions that may be granted at all.
    pub permissions: AllowList<Permission>,
    /// The capabilities that may run.
    pub capabilities: AllowList<CapabilityPattern>,
    /// The hosts that requests and secrets may go to.
    pub hosts: Vec<HostPattern>,
    /// Networks that are not public and may be reached.
    pub networks: Vec<IpNet>,
    /// The hosts that learn to which trace a request belongs; none: all of them, and no `tracestate`.
    pub trace_hosts: Option<Vec<HostPattern>>,
    /// Folders below which capabilities may read.
    pub read_roots: Vec<AbsolutePath>,
    /// Folders below which capabilities may write.
    pub write_roots: Vec<AbsolutePath>,
    /// The most bytes that one call may write below one folder.
    pub file_bytes_max: u64,
    /// The most files and folders that one call may create below one folder.
    pub file_count_max: u64,
    /// The secrets that may be used or stored.
    pub secrets: AllowList<SecretName>,
    /// Whether a capability may see the value of a secret.
    pub secret_reveal: bool,
    /// Whether a secret may travel in clear text to this machine.
    pub secret_plain_loopback: bool,
    /// The memory namespaces that may be read or written.
    pub namespaces: AllowList<Namespace>,
    /// The most bytes in a namespace.
    pub memory_bytes_max: u64,
    /// The most records in a namespace.
    pub memory_records_max: u64,
    /// The programs that may be run.
    pub programs: Vec<ProgramScope>,
    /// The most that a call may get.
    pub ceiling: Limits,
    /// What a call gets when its manifest asks for nothing.
    pub defaults: Limits,
    /// How much an agent may do.
    pub agents: AgentLimits,
    /// The same for personas of a tier.
    pub tiers: BTreeMap<TierName, AgentLimits>,
    /// What calls cost.
    pub prices: Prices,
    /// When a capability that keeps failing for a persona is not called any more for a while.
    pub breaker: BreakerLimits,
    /// What differs for single capabilities.
    pub overrides: BTreeMap<CapabilityId, Override>,
}

/// What differs for one capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    /// Its engine.
    pub metering: Metering,
    /// The most that a call of it may get.
    pub ceiling: Limits,
    /// What each call of it costs, in millionths.
    pub price_micro: u64,
}

impl Default for PolicyParts {
    /// Closed: no permission, no capability, the built-in limits.
    fn default() -> Self {
        Self {
            permissions: AllowList::default(),
            capabilities: AllowList::default(),
            hosts: Vec::new(),
            networks: Vec::new(),
            trace_hosts: None,
            read_roots: Vec::new(),
            write_roots: Vec::new(),
            file_bytes_max: FILE_BYTES_MAX,
            file_count_max: FILE_COUNT_MAX,
            secrets: AllowList::default(),
            secret_reveal: false,
            secret_plain_loopback: false,
            namespaces: AllowList::default(),
            memory_bytes_max: MEMORY_BYTES_MAX,
            memory_records_max: MEMORY_RECORDS_MAX,
            programs: Vec::new(),
            ceiling: Limits::default(),
            defaults: Limits::default(),
            agents: AgentLimits::default(),
            tiers: BTreeMap::new(),
            prices: Prices::default(),
            breaker: BreakerLimits::default(),
            overrides: BTreeMap::new(),
        }
    }
}

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A folder that is not a plain path.
    #[error("[policy.file] {key} names a folder that cannot be taken: {error}")]
    Folder {
        /// `read_roots` or `write_roots`.
        key: &'static str,
        /// What is wrong.
        error: PathError,
    },
    /// A default that no call can get.
    #[error("[policy.defaults] {name} = {default} is above the ceiling of {ceiling}")]
    DefaultAboveCeiling {
        /// Which limit.
        name: &'static str,
        /// The default.
        default: u64,
        /// The ceiling.
        ceiling: u64,
    },
    /// A depth that no chain of agents may have.
    #[error("{place} reasoning_depth = {depth} is more than {DEPTH_MAX}")]
    Depth {
        /// Which table.
        place: String,
        /// What it says.
        depth: u32,
    },
    /// A number with which a breaker would make no sense.
    #[error("[policy.breaker] {key} = {value} is less than {least}")]
    Breaker {
        /// Which key.
        key: &'static str,
        /// What it says.
        value: u64,
        /// What it has to say at least.
        least: u64,
    },
    /// A list that takes long to look through.
    #[error("{place} has {count} items, more than {POLICY_ITEMS_MAX}")]
    Items {
        /// Which list.
        place: &'static str,
        /// How many items it has.
        count: usize,
    },
    /// The policy has no canonical form: a number of 2^53 or more.
    #[error("[policy] cannot be written down exactly: {0}")]
    Canonical(String),
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        let failure = Self::new(Code::ConfigInvalid, error.to_string());
        match error {
            PolicyError::DefaultAboveCeiling { name, default, .. } => failure.with_hint(format!(
                "raise the ceiling in aral.toml, [policy.limits]: {name} = {default}"
            )),
            PolicyError::Folder { .. } => {
                failure.with_hint("write it like \"/srv/data\", or \"data\" for a folder beside the configuration file")
            }
            PolicyError::Depth { place, .. } => {
                failure.with_hint(format!("aral.toml, {place}: reasoning_depth = {DEPTH_MAX}"))
            }
            PolicyError::Breaker { key, least, .. } => {
                failure.with_hint(format!("aral.toml, [policy.breaker]: {key} = {least}"))
            }
            PolicyError::Items { place, .. } => failure.with_hint(format!(
                "{place}: at most {POLICY_ITEMS_MAX}; an item with `*`, or a folder further up, covers many"
            )),
            PolicyError::Canonical(_) => failure.with_hint("write numbers below 9007199254740992"),
        }
    }
}

/// A policy with its digest. It can be read and cloned, never changed; a new one replaces it as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    parts: PolicyParts,
    digest: Digest,
    host_order: Vec<usize>,
}

impl std::ops::Deref for Policy {
    type Target = PolicyParts;
    fn deref(&self) -> &PolicyParts {
        &self.parts
    }
}

impl Policy {
    /// Seals the parts.
    ///
    /// # Errors
    /// A list of more than [`POLICY_ITEMS_MAX`] items, a depth of more than 64, which no chain of agents may have, a breaker that
    /// would always be open or never pause, or a number of 2^53 or more.
    pub fn new(parts: PolicyParts) -> Result<Self, PolicyError> {
        counts::check(&parts)?;
        Self::uncounted(parts)
    }

    /// The same with lists of any length: to ask what would be, and never to be in force.
    pub(crate) fn uncounted(parts: PolicyParts) -> Result<Self, PolicyError> {
        agent::check_depth("[policy.agent]", &parts.agents)?;
        for (name, limits) in &parts.tiers {
            agent::check_depth(&format!("[policy.tier.{}]", key(name.as_str())), limits)?;
        }
        breaker::check(&parts.breaker)?;
        let canonical = serde_json::to_value(&parts)
            .map_err(|error| PolicyError::Canonical(error.to_string()))
            // The file has other keys than these parts have names.
            .and_then(|value| {
                json::canonical(&value).map_err(|error| PolicyError::Canonical(error.without_place().to_string()))
            })?;
        Ok(Self {
            digest: Digest::of(&canonical),
            host_order: order::places(&parts.hosts),
            parts,
        })
    }

    /// Resolves a section of `aral.toml`; relative folders lie below `folder`, where that file is.
    pub fn resolve(raw: RawPolicy, folder: &AbsolutePath) -> Result<Self, PolicyError> {
        let built_in = Limits::default();
        let ceiling = built_in.with(&raw.limits);
        for (name, default) in raw.defaults.entries() {
            let most = ceiling.entries().into_iter().find(|(other, _)| *other == name);
            if let Some((_, ceiling)) = most.filter(|(_, most)| default > *most) {
                return Err(PolicyError::DefaultAboveCeiling { name, default, ceiling });
            }
        }
        let agents = agent::resolve(raw.agent, AgentLimits::default());
        let tiers = raw.tier.into_iter();
        let tiers = tiers.map(|(name, raw)| (name, agent::resolve(raw, agents)));
        let tiers = tiers.collect();
        let prices = Prices::from(raw.price);
        let overrides = raw.capability.into_iter().map(|(id, raw)| {
            let ceiling = ceiling.with(&raw.limits);
            (
                id,
                Override {
                    metering: raw.engine,
                    ceiling,
                    price_micro: raw.price_micro.unwrap_or(prices.call_micro),
                },
            )
        });
        Self::new(PolicyParts {
            permissions: raw.permissions,
            capabilities: raw.capabilities,
            hosts: raw.network.hosts,
            networks: raw.network.networks,
            trace_hosts: raw.network.trace_hosts,
            read_roots: folders("read_roots", raw.file.read_roots, folder)?,
            write_roots: folders("write_roots", raw.file.write_roots, folder)?,
            file_bytes_max: raw.file.bytes_max.unwrap_or(FILE_BYTES_MAX),
            file_count_max: raw.file.files_max.unwrap_or(FILE_COUNT_MAX),
            secrets: raw.secret.names,
            secret_reveal: raw.secret.reveal,
            secret_plain_loopback: raw.secret.plain_loopback,
            namespaces: raw.memory.namespaces,
            memory_bytes_max: raw.memory.bytes_max.unwrap_or(MEMORY_BYTES_MAX),
            memory_records_max: raw.memory.records_max.unwrap_or(MEMORY_RECORDS_MAX),
            programs: raw.exec.programs,
            overrides: overrides.collect(),
            agents,
            tiers,
            prices,
            breaker: BreakerLimits::from(raw.breaker),
            defaults: built_in.with(&raw.defaults),
            ceiling,
        })
    }

    /// SHA-256 of the canonical form; two equal policies have equal digests.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its hosts, as [`in_order`] has them.
    pub(crate) fn hosts_in_order(&self) -> impl Iterator<Item = (usize, &HostPattern)> {
        let places = self.host_order.iter();
        places.filter_map(move |place| Some((*place, self.parts.hosts.get(*place)?)))
    }

    /// Whether this version of this capability may run.
    pub fn allows_capability(&self, id: &CapabilityId, version: &Version) -> bool {
        self.parts.capabilities.allows(|pattern| pattern.covers(id, version))
    }

    /// Whether this permission may be granted at all.
    pub fn allows_permission(&self, permission: Permission) -> bool {
        self.parts.permissions.allows(|one| *one == permission)
    }

    /// The most that a call of this capability may get.
    pub fn ceiling_of(&self, id: &CapabilityId) -> &Limits {
        self.parts
            .overrides
            .get(id)
            .map_or(&self.parts.ceiling, |one| &one.ceiling)
    }

    /// The engine of this capability.
    pub fn metering_of(&self, id: &CapabilityId) -> Metering {
        self.parts
            .overrides
            .get(id)
            .map_or(Metering::default(), |one| one.metering)
    }

    /// How much agents of a tier may do; none: the policy does not have this tier.
    pub fn agents_of(&self, tier: Option<&TierName>) -> Option<&AgentLimits> {
        match tier {
            Some(tier) => self.parts.tiers.get(tier),
            None => Some(&self.parts.agents),
        }
    }

    /// What each call of this capability costs, in millionths.
    pub fn price_of(&self, id: &CapabilityId) -> u64 {
        self.parts
            .overrides
            .get(id)
            .map_or(self.parts.prices.call_micro, |one| one.price_micro)
    }

    /// The keys with which everything is allowed.
    pub fn wildcards(&self) -> Vec<&'static str> {
        let parts = &self.parts;
        let whole = |roots: &[AbsolutePath]| roots.iter().any(|root| root.as_str() == "/");
        [
            ("permissions", parts.permissions.is_any()),
            ("capabilities", parts.capabilities.is_any()),
            ("network.hosts", parts.hosts.iter().any(HostPattern::is_any)),
            (
                "network.networks",
                parts.networks.iter().any(|net| net.prefix_len() == 0),
            ),
            ("file.read_roots", whole(&parts.read_roots)),
            ("file.write_roots", whole(&parts.write_roots)),
            ("secret.names", parts.secrets.is_any()),
            ("memory.namespaces", parts.namespaces.is_any()),
        ]
        .into_iter()
        .filter_map(|(name, any)| any.then_some(name))
        .collect()
    }
}

fn folders(key: &'static str, texts: Vec<String>, base: &AbsolutePath) -> Result<Vec<AbsolutePath>, PolicyError> {
    let folder = |text: String| base.join(&text).map_err(|error| PolicyError::Folder { key, error });
    texts.into_iter().map(folder).collect()
}

#[cfg(test)]
mod tests;
