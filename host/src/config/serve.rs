//! `[serve]`, resolved: where the server listens, who may call it, and what it bears. It reads no persona and listens
//! nowhere.

mod rates;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aral_contract::Digest;
use aral_contract::id::CallerName;
use aral_protocol::{
    AdminOptions, Bounds, BoundsRequest, CertificateName, ClientAuth, ClientOptions, HostName, ListenerOptions, Origin,
    OutOfRange, Proxies, Rates, TlsOptions,
};
use serde::Deserialize;

use super::ConfigError;
use super::storage::Credential;
use rates::RawRates;
pub use rates::{RatesConfigError, RedisConfig};

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
    /// How often somebody may ask.
    pub rates: Rates,
    /// Where that is counted for several servers together; none: each counts for itself.
    pub redis: Option<RedisConfig>,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Proxies,
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
    /// Names of the certificates that it shows.
    pub certificates: Vec<CertificateName>,
}

/// `[serve]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServe {
    listener: Vec<RawListener>,
    caller: Vec<RawCaller>,
    limits: BoundsRequest,
    admin: RawAdmin,
    rates: RawRates,
    trusted_proxies: Proxies,
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
    tls: Option<RawTls>,
}

/// `[serve.listener.tls]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    ocsp_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth: Option<ClientAuth>,
    #[serde(default)]
    crl_files: Vec<PathBuf>,
}

/// `[[serve.caller]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCaller {
    name: CallerName,
    persona: PathBuf,
    #[serde(default)]
    keys: Vec<Digest>,
    #[serde(default)]
    certificates: Vec<CertificateName>,
}

/// `[serve]` that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// A number that makes no sense.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// Something about certificates of callers, and nothing that says whose they are.
    #[error("[serve.listener.tls] of `{address}` has `{key}` and no `client_ca_file`")]
    NoClientCa {
        /// Which listener.
        address: SocketAddr,
        /// What it has.
        key: &'static str,
    },
}

impl ServeError {
    /// The line that repairs it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OutOfRange(_) => None,
            Self::NoClientCa { key, .. } => Some(format!(
                "in aral.toml, [serve.listener.tls]: client_ca_file = \"clients.pem\", or leave out `{key}`"
            )),
        }
    }
}

pub(super) fn resolve(
    raw: RawServe,
    state_dir: Option<&Path>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<ServeConfig, ConfigError> {
    let listener = |raw: RawListener| {
        Ok(ListenerOptions {
            address: raw.address,
            hosts: raw.hosts,
            origins: raw.origins,
            anonymous: raw.anonymous,
            mcp: raw.mcp,
            tls: raw.tls.map(|tls| resolve_tls(tls, raw.address, beside)).transpose()?,
        })
    };
    let caller = |raw: RawCaller| CallerConfig {
        name: raw.name,
        persona: beside(raw.persona),
        keys: raw.keys,
        certificates: raw.certificates,
    };
    let (rates, redis) = rates::resolve(raw.rates, beside)?;
    Ok(ServeConfig {
        listeners: raw
            .listener
            .into_iter()
            .map(listener)
            .collect::<Result<_, ServeError>>()?,
        callers: raw.caller.into_iter().map(caller).collect(),
        bounds: Bounds::resolve(&raw.limits).map_err(ServeError::from)?,
        admin: AdminOptions {
            socket: raw.admin.socket.map(beside).or_else(|| state_dir.map(admin_socket)),
            address: raw.admin.address,
            keys: raw.admin.keys,
        },
        rates,
        redis,
        trusted_proxies: raw.trusted_proxies,
    })
}

/// Where a server with this folder of state is managed, unless its configuration says where.
pub fn admin_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// The variables that hold what nobody else may read.
pub(super) fn variables(serve: Option<&ServeConfig>) -> BTreeSet<String> {
    let password = serve.and_then(|serve| serve.redis.as_ref()?.password.as_ref());
    match password {
        Some(Credential::Environment(name)) => BTreeSet::from([name.clone()]),
        Some(Credential::File(_)) | None => BTreeSet::new(),
    }
}

fn resolve_tls(
    raw: RawTls,
    address: SocketAddr,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<TlsOptions, ServeError> {
    let lonely = |key| ServeError::NoClientCa { address, key };
    let clients = match raw.client_ca_file {
        Some(ca_file) => Some(ClientOptions {
            ca_file: beside(ca_file),
            auth: raw.client_auth.unwrap_or_default(),
            crl_files: raw.crl_files.into_iter().map(beside).collect(),
        }),
        None if raw.client_auth.is_some() => return Err(lonely("client_auth")),
        None if !raw.crl_files.is_empty() => return Err(lonely("crl_files")),
        None => None,
    };
    Ok(TlsOptions {
        certificate_file: beside(raw.certificate_file),
        key_file: beside(raw.key_file),
        ocsp_file: raw.ocsp_file.map(beside),
        clients,
    })
}
