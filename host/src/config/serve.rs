//! `[serve]`, resolved: where the server listens, who may call it, and what it bears. It reads no persona and listens
//! nowhere.

mod error;
mod issuer;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aral_contract::Digest;
use aral_contract::document::PublicKey;
use aral_contract::id::CallerName;
use aral_protocol::{AdminOptions, Bounds, BoundsRequest, HostName, ListenerOptions, Origin, Resource, SignatureRule};
use aral_runtime::files;
use aral_runtime::outbound::Outbound;
use serde::Deserialize;

use super::{ConfigError, KEY_BYTES_MAX};
pub use error::ServeConfigError;
use issuer::RawIssuer;
pub use issuer::{
    IssuerConfig, JWKS_REFETCH_S_DEFAULT, JWKS_STALE_S_DEFAULT, JWKS_TTL_S_DEFAULT, JwksConfig, LEEWAY_S_DEFAULT,
    LIFETIME_S_MAX_DEFAULT, RemoteJwksConfig, ScopeConfig, TOKEN_TYPE_DEFAULT,
};

/// What `aral serve` serves.
#[derive(Debug, Clone, Default)]
pub struct ServeConfig {
    /// Where it listens.
    pub listeners: Vec<ListenerOptions>,
    /// Who may call.
    pub callers: Vec<CallerConfig>,
    /// Whose tokens are believed.
    pub issuers: Vec<IssuerConfig>,
    /// The address under which callers know the server; needed with issuers.
    pub resource: Option<Resource>,
    /// How the keys of issuers are fetched: `[outbound]`.
    pub outbound: Outbound,
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
    /// How it signs its requests; none: it does not.
    pub signature: Option<SignatureRule>,
}

/// `[serve]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServe {
    listener: Vec<RawListener>,
    caller: Vec<RawCaller>,
    issuer: Vec<RawIssuer>,
    resource: Option<Resource>,
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
}

/// `[[serve.caller]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCaller {
    name: CallerName,
    persona: PathBuf,
    #[serde(default)]
    keys: Vec<Digest>,
    signature: Option<RawSignature>,
    #[serde(default)]
    signature_keys: Vec<PathBuf>,
}

/// `serve.caller.signature`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSignature {
    Required,
    Optional,
}

pub(super) fn resolve(
    raw: RawServe,
    state_dir: Option<&Path>,
    outbound: &Outbound,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<ServeConfig, ConfigError> {
    let listener = |raw: RawListener| ListenerOptions {
        address: raw.address,
        hosts: raw.hosts,
        origins: raw.origins,
        anonymous: raw.anonymous,
    };
    Ok(ServeConfig {
        listeners: raw.listener.into_iter().map(listener).collect(),
        callers: raw
            .caller
            .into_iter()
            .map(|raw| caller(raw, beside))
            .collect::<Result<_, _>>()?,
        issuers: issuer::resolve(raw.issuer, beside)?,
        resource: raw.resource,
        outbound: outbound.clone(),
        bounds: Bounds::resolve(&raw.limits).map_err(ServeConfigError::Bounds)?,
        admin: AdminOptions {
            socket: raw.admin.socket.map(beside).or_else(|| state_dir.map(admin_socket)),
            address: raw.admin.address,
            keys: raw.admin.keys,
        },
    })
}

fn caller(raw: RawCaller, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<CallerConfig, ConfigError> {
    let signature = match (raw.signature, raw.signature_keys.is_empty()) {
        (None, true) => None,
        (Some(presence), false) => {
            let keys = raw
                .signature_keys
                .into_iter()
                .map(|named| key(&raw.name, beside(named)));
            Some(SignatureRule {
                required: presence == RawSignature::Required,
                keys: keys.collect::<Result<_, _>>()?,
            })
        }
        // One without the other is a slip, and the host does not guess which way.
        (None, false) => return Err(ServeConfigError::NoSignature(raw.name).into()),
        (Some(_), true) => return Err(ServeConfigError::NoSignatureKeys(raw.name).into()),
    };
    Ok(CallerConfig {
        name: raw.name,
        persona: beside(raw.persona),
        keys: raw.keys,
        signature,
    })
}

fn key(caller: &CallerName, path: PathBuf) -> Result<PublicKey, ConfigError> {
    let bytes = files::read_trusted(&path, KEY_BYTES_MAX)?;
    let key = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
    Ok(key.map_err(|error| ServeConfigError::SignatureKey {
        caller: caller.clone(),
        path,
        error,
    })?)
}

/// Where a server with this folder of state is managed, unless its configuration says where.
pub fn admin_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}
