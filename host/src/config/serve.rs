//! `[serve]`, resolved: where the server listens, who may call it, and what it bears. It reads no persona and listens
//! nowhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aral_contract::Digest;
use aral_contract::id::CallerName;
use aral_protocol::{AdminOptions, Bounds, BoundsRequest, HostName, ListenerOptions, Origin, OutOfRange};
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
    /// Where it is managed.
    pub admin: AdminOptions,
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
    admin: RawAdmin,
}

/// `[serve.admin]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAdmin {
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
    keys: Vec<Digest>,
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
    #[serde(default)]
    mcp: bool,
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

pub(super) fn resolve(
    raw: RawServe,
    state_dir: Option<&Path>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<ServeConfig, OutOfRange> {
    let listener = |raw: RawListener| ListenerOptions {
        address: raw.address,
        hosts: raw.hosts,
        origins: raw.origins,
        anonymous: raw.anonymous,
        mcp: raw.mcp,
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
        admin: AdminOptions {
            socket: raw.admin.socket.map(beside).or_else(|| state_dir.map(admin_socket)),
            address: raw.admin.address,
            keys: raw.admin.keys,
        },
    })
}

/// Where a server with this folder of state is managed, unless its configuration says where.
pub fn admin_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}
