//! `[serve]`, resolved: where the server listens, who may call it, and what it bears. It reads no persona and listens
//! nowhere.

mod error;
mod idle;
mod issuer;
mod keys;
mod rates;
mod who;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use aral_contract::Digest;
use aral_contract::document::PublicKey;
use aral_contract::id::CallerName;
use aral_protocol::{
    AdminOptions, Bounds, BoundsRequest, CertificateName, ClientAuth, ClientOptions, ForwardedField, HostName,
    ListenerOptions, Origin, Proxies, Rates, Resource, SignatureRule, TlsOptions,
};
use aral_runtime::outbound::Outbound;
use serde::Deserialize;

use super::error::KEYGEN;
use super::storage::Credential;
use super::{ConfigError, KEY_BYTES_MAX, address, read_named};
pub use error::ServeConfigError;
use issuer::RawIssuer;
pub use issuer::{
    FileJwksConfig, IssuerConfig, JWKS_REFETCH_S_DEFAULT, JWKS_STALE_S_DEFAULT, JWKS_TTL_S_DEFAULT, JwksConfig,
    LEEWAY_S_DEFAULT, LIFETIME_S_MAX_DEFAULT, RemoteJwksConfig, ScopeConfig, TOKEN_TYPE_DEFAULT,
};
use keys::RawKeys;
use rates::RawRates;
pub use rates::{RatesConfigError, RedisConfig};

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
    /// How often somebody may ask.
    pub rates: Rates,
    /// Where that is counted for several servers together; none: each counts for itself.
    pub redis: Option<RedisConfig>,
    /// Proxies that are believed when they say for whom they ask, and where they say it.
    pub trusted_proxies: Proxies,
}

impl ServeConfig {
    /// The personas that calls are made for: those of its callers and of the scopes of its issuers. One may come several times.
    pub fn personas(&self) -> impl Iterator<Item = &PathBuf> {
        let callers = self.callers.iter().map(|caller| &caller.persona);
        let scopes = self.issuers.iter().flat_map(|issuer| &issuer.scopes);
        callers.chain(scopes.map(|scope| &scope.persona))
    }
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
    /// The files of authorities whose word these names are; empty: of all listeners.
    pub client_ca_files: Vec<PathBuf>,
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
    rates: RawRates,
    trusted_proxies: Proxies,
    forwarded: Option<ForwardedField>,
}

/// `[serve.admin]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAdmin {
    socket: Option<PathBuf>,
    #[serde(deserialize_with = "address::of_admin")]
    address: Option<SocketAddr>,
    keys: RawKeys,
}

/// `[[serve.listener]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListener {
    #[serde(deserialize_with = "address::of_listener")]
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
    keys: RawKeys,
    #[serde(default)]
    certificates: Vec<CertificateName>,
    #[serde(default)]
    client_ca_files: Vec<PathBuf>,
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
    let (rates, redis) = rates::resolve(raw.rates, beside)?;
    if raw.forwarded.is_some() && raw.trusted_proxies == Proxies::default() {
        return Err(ServeConfigError::NoProxies.into());
    }
    check_addresses(
        raw.listener
            .iter()
            .map(|listener| listener.address)
            .chain(raw.admin.address),
    )?;
    let serve = ServeConfig {
        listeners: raw
            .listener
            .into_iter()
            .map(listener)
            .collect::<Result<_, ServeConfigError>>()?,
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
            keys: raw.admin.keys.resolve(|| "[serve.admin]".to_owned())?,
        },
        rates,
        redis,
        trusted_proxies: raw.trusted_proxies.writing(raw.forwarded),
    };
    check_keys(&serve)?;
    serve.admin.check().map_err(ServeConfigError::Admin)?;
    Ok(serve)
}

/// A key of an agent opens nothing that is for operators.
fn check_keys(serve: &ServeConfig) -> Result<(), ServeConfigError> {
    let manages = |caller: &&CallerConfig| caller.keys.iter().any(|key| serve.admin.keys.contains(key));
    match serve.callers.iter().find(manages) {
        Some(caller) => Err(ServeConfigError::KeyOfCaller(caller.name.clone())),
        None => Ok(()),
    }
}

/// Each is bound once. Of port 0 the system makes another one each time.
fn check_addresses(addresses: impl Iterator<Item = SocketAddr>) -> Result<(), ServeConfigError> {
    let mut seen: Vec<SocketAddr> = Vec::new();
    for address in addresses.filter(|address| address.port() != 0) {
        if seen.iter().any(|other| overlap(*other, address)) {
            return Err(ServeConfigError::AddressTwice(address));
        }
        seen.push(address);
    }
    Ok(())
}

/// Whether the system binds one of them at most: also where one is that of all addresses, of which that of IPv6 takes IPv4, too.
/// A system with `net.ipv6.bindv6only = 1` would bind both; what is taken does not depend on the machine that reads it.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let interface = |address: SocketAddr| match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    let (first, second) = (one.ip().to_canonical(), other.ip().to_canonical());
    let same = first == second && interface(one) == interface(other);
    one.port() == other.port() && (same || takes(first, second) || takes(second, first))
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
    if raw.certificates.is_empty() && !raw.client_ca_files.is_empty() {
        return Err(ServeConfigError::NoCertificates(raw.name).into());
    }
    Ok(CallerConfig {
        persona: beside(raw.persona),
        keys: raw.keys.resolve(|| format!("[[serve.caller]] `{}`", raw.name))?,
        name: raw.name,
        certificates: raw.certificates,
        client_ca_files: raw.client_ca_files.into_iter().map(beside).collect(),
        signature,
    })
}

fn key(caller: &CallerName, path: PathBuf) -> Result<PublicKey, ConfigError> {
    let named = format!("[[serve.caller]] `{caller}`: signature_keys");
    let bytes = read_named(&path, KEY_BYTES_MAX, named, KEYGEN)?;
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
) -> Result<TlsOptions, ServeConfigError> {
    let lonely = |key| ServeConfigError::NoClientCa { address, key };
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
