//! `[serve]`, resolved: where the server listens, who may call it, and what it bears. It reads no persona and listens
//! nowhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::Digest;
use aral_contract::id::CallerName;
use aral_protocol::{Bounds, BoundsRequest, HostName, ListenerOptions, Origin, OutOfRange};
use serde::Deserialize;

/// What `aral serve` serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServeConfig {
    /// Where it listens.
    pub listeners: Vec<ListenerOptions>,
    /// Who may call.
    pub callers: Vec<CallerConfig>,
    /// What it bears.
    pub bounds: Bounds,
}

/// Somebody who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerConfig {
    /// The name.
    pub name: CallerName,
    /// The signed persona that its calls are made for.
    pub persona: PathBuf,
    /// SHA-256 of each of its keys.
    pub keys: Vec<Digest>,
}

/// `[serve]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServe {
    listener: Vec<RawListener>,
    caller: Vec<RawCaller>,
    limits: BoundsRequest,
}

/// `[[serve.listener]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListener {
    address: SocketAddr,
    #[serde(default)]
    hosts: Vec<HostName>,
    #[serde(default)]
    origins: Vec<Origin>,
    anonymous: Option<CallerName>,
}

/// `[[serve.caller]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCaller {
    name: CallerName,
    persona: PathBuf,
    #[serde(default)]
    keys: Vec<Digest>,
}

pub(super) fn resolve(raw: RawServe, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<ServeConfig, OutOfRange> {
    let listener = |raw: RawListener| ListenerOptions {
        address: raw.address,
        hosts: raw.hosts,
        origins: raw.origins,
        anonymous: raw.anonymous,
    };
    let caller = |raw: RawCaller| CallerConfig {
        name: raw.name,
        persona: beside(raw.persona),
        keys: raw.keys,
    };
    Ok(ServeConfig {
        listeners: raw.listener.into_iter().map(listener).collect(),
        callers: raw.caller.into_iter().map(caller).collect(),
        bounds: Bounds::resolve(&raw.limits)?,
    })
}
