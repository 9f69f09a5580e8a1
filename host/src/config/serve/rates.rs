//! `[serve.rates]`, resolved: how often somebody may ask, and where that is counted. It reads no password and connects to
//! nothing.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use aral_contract::CapabilityId;
use aral_contract::id::TierName;
use aral_protocol::Rates;
use aral_protocol::limit::{
    KEYS_MAX_DEFAULT, Limit, Prefix, Rate, RateError, RateRequest, RedisUrl, TIMEOUT_MS_DEFAULT, WhenDown,
};
use serde::Deserialize;

use crate::config::range::between;
use crate::config::storage::{Credential, variable};
use crate::config::{ConfigError, authorities};

/// Fewest and most keys whose use is remembered. One takes about a hundred bytes.
const KEYS: (u64, u64) = (1, 10_000_000);
/// Shortest and longest time that Redis may take, in milliseconds.
const TIMEOUT_MS: (u64, u64) = (10, 60_000);

/// The Redis that keeps the limits of several servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where it is.
    pub url: RedisUrl,
    /// Where the password is; none: it asks for none.
    pub password: Option<Credential>,
    /// Certificates to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// What the names of keys begin with.
    pub prefix: Prefix,
    /// How long one request to it may take.
    pub timeout_ms: u64,
    /// What holds while it does not answer.
    pub when_down: WhenDown,
}

/// Why `[serve.rates]` is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatesConfigError {
    /// Numbers that are no rate.
    #[error("{key}: {error}")]
    Rate {
        /// Which key.
        key: String,
        /// What is wrong.
        error: RateError,
    },
    /// Two passwords.
    #[error("[serve.rates.redis] has password_file and password_environment, and must have at most one")]
    Passwords,
}

impl RatesConfigError {
    /// The line that repairs it.
    pub(in crate::config) fn hint(&self) -> Option<String> {
        match self {
            Self::Rate {
                key,
                error: RateError::OneOf,
            } => key
                .split_once(' ')
                .map(|(table, key)| format!("aral.toml, {table}: {key} = {{ per_second = 10, burst = 20 }}")),
            Self::Rate { .. } | Self::Passwords => None,
        }
    }
}

/// `[serve.rates]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRates {
    global: Option<RateRequest>,
    address: Option<RateRequest>,
    failures: Option<RateRequest>,
    persona: Option<RateRequest>,
    tiers: BTreeMap<TierName, RateRequest>,
    capability: Option<RateRequest>,
    capabilities: BTreeMap<CapabilityId, RateRequest>,
    cost: Option<RateRequest>,
    caller: Option<RateRequest>,
    keys_max: Option<u64>,
    redis: Option<RawRedis>,
}

/// `[serve.rates.redis]`: at most one place of the password.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRedis {
    url: RedisUrl,
    password_file: Option<PathBuf>,
    password_environment: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    prefix: Prefix,
    timeout_ms: Option<u64>,
    #[serde(default)]
    when_down: WhenDown,
}

pub(super) fn resolve(
    raw: RawRates,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<(Rates, Option<RedisConfig>), ConfigError> {
    let default = Rates::default();
    let one = |limit: Limit, request: Option<RateRequest>| match request {
        Some(request) => rate(format!("[serve.rates] {}", limit.as_str()), &request, limit),
        None => Ok(default.of(limit)),
    };
    let rates = Rates {
        global: one(Limit::Global, raw.global)?,
        address: one(Limit::Address, raw.address)?,
        failures: one(Limit::Failures, raw.failures)?,
        persona: one(Limit::Persona, raw.persona)?,
        tiers: several("tiers", raw.tiers, Limit::Persona)?,
        capability: one(Limit::Capability, raw.capability)?,
        capabilities: several("capabilities", raw.capabilities, Limit::Capability)?,
        cost: one(Limit::Cost, raw.cost)?,
        caller: one(Limit::Caller, raw.caller)?,
        keys_max: between("[serve.rates] keys_max", raw.keys_max.unwrap_or(KEYS_MAX_DEFAULT), KEYS)?,
    };
    Ok((rates, raw.redis.map(|raw| redis(raw, beside)).transpose()?))
}

fn rate(key: String, request: &RateRequest, limit: Limit) -> Result<Rate, RatesConfigError> {
    Rate::resolve(request, limit.count_max()).map_err(|error| RatesConfigError::Rate { key, error })
}

fn several<K: Ord + Display>(
    table: &str,
    requests: BTreeMap<K, RateRequest>,
    limit: Limit,
) -> Result<BTreeMap<K, Rate>, RatesConfigError> {
    let resolve = |(name, request): (K, RateRequest)| {
        let key = format!("[serve.rates.{table}] {name}");
        Ok((name, rate(key, &request, limit)?))
    };
    requests.into_iter().map(resolve).collect()
}

fn redis(raw: RawRedis, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<RedisConfig, ConfigError> {
    let password = match (raw.password_file, raw.password_environment) {
        (Some(file), None) => Some(Credential::File(beside(file))),
        (None, Some(name)) => Some(Credential::Environment(variable(
            "[serve.rates.redis] password_environment",
            name,
        )?)),
        (None, None) => None,
        (Some(_), Some(_)) => return Err(RatesConfigError::Passwords.into()),
    };
    Ok(RedisConfig {
        url: raw.url,
        password,
        ca_pem: authorities("[serve.rates.redis]", raw.ca_file, beside)?,
        prefix: raw.prefix,
        timeout_ms: between(
            "[serve.rates.redis] timeout_ms",
            raw.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
            TIMEOUT_MS,
        )?,
        when_down: raw.when_down,
    })
}
