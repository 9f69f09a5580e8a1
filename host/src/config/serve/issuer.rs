//! `[[serve.issuer]]`: whose tokens are believed, and for whom their bearers call. A file of keys is read here, once; an
//! address is asked by the server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::Digest;
use aral_protocol::{KeySet, TokenAlgorithm};
use aral_runtime::outbound::ServerUrl;
use serde::Deserialize;

use super::ServeConfigError;
use crate::config::error::NAME_A_FILE;
use crate::config::range::between;
use crate::config::{ConfigError, read_named};

/// What tokens say of their type, by default (RFC 9068 section 2.1).
pub const TOKEN_TYPE_DEFAULT: &str = "at+jwt";
/// How far the clock of an issuer may be from this one, by default.
pub const LEEWAY_S_DEFAULT: u64 = 30;
/// How long a token may be valid, by default.
pub const LIFETIME_S_MAX_DEFAULT: u64 = 3600;
/// How long fetched keys are as good as new ones, by default.
pub const JWKS_TTL_S_DEFAULT: u64 = 300;
/// How long they serve while the issuer does not answer, by default.
pub const JWKS_STALE_S_DEFAULT: u64 = 3600;
/// The least time between two requests for keys, by default.
pub const JWKS_REFETCH_S_DEFAULT: u64 = 30;

/// Largest file of keys, in bytes.
const JWKS_BYTES_MAX: u64 = 256 << 10;
const DAY_S: u64 = 24 * 60 * 60;

/// An issuer whose tokens are believed.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// What its tokens say as `iss`.
    pub issuer: String,
    /// What they say as `aud`: one of these.
    pub audiences: Vec<String>,
    /// What they may be signed with.
    pub algorithms: Vec<TokenAlgorithm>,
    /// What they may say as `typ`.
    pub types: Vec<String>,
    /// Where its keys are.
    pub keys: JwksConfig,
    /// How far its clock may be from this one.
    pub leeway: Duration,
    /// Longest time from `iat` to `exp`.
    pub lifetime_max: Duration,
    /// Scopes, the one that counts first.
    pub scopes: Vec<ScopeConfig>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub enum JwksConfig {
    /// They were in a file.
    File(FileJwksConfig),
    /// At an address.
    Url(RemoteJwksConfig),
}

/// Keys that were in a file.
#[derive(Debug, Clone)]
pub struct FileJwksConfig {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// Keys at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteJwksConfig {
    /// Which.
    pub server: ServerUrl,
    /// How long they are as good as new ones.
    pub ttl: Duration,
    /// How long they serve while the issuer does not answer.
    pub stale: Duration,
    /// The least time between two requests.
    pub refetch: Duration,
}

/// A scope and the persona that its bearers call for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeConfig {
    /// The scope.
    pub scope: String,
    /// The signed persona.
    pub persona: PathBuf,
}

/// `[[serve.issuer]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    algorithms: Vec<TokenAlgorithm>,
    types: Option<Vec<String>>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    jwks_ttl_s: Option<u64>,
    jwks_stale_s: Option<u64>,
    jwks_refetch_s: Option<u64>,
    leeway_s: Option<u64>,
    lifetime_s_max: Option<u64>,
    #[serde(default)]
    scope: Vec<RawScope>,
}

/// `[[serve.issuer.scope]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScope {
    scope: String,
    persona: PathBuf,
}

pub(super) fn resolve(
    list: Vec<RawIssuer>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Vec<IssuerConfig>, ConfigError> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for raw in list {
        if !seen.insert(raw.issuer.clone()) {
            return Err(ServeConfigError::IssuerTwice(raw.issuer).into());
        }
        all.push(issuer(raw, beside)?);
    }
    Ok(all)
}

fn issuer(raw: RawIssuer, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<IssuerConfig, ConfigError> {
    let seconds = |key, value: Option<u64>, default: u64, range: (u64, u64)| {
        let value = between(key, value.unwrap_or(default), range);
        value
            .map(Duration::from_secs)
            .map_err(|error| ServeConfigError::IssuerRange {
                issuer: raw.issuer.clone(),
                error,
            })
    };
    let leeway = seconds("leeway_s", raw.leeway_s, LEEWAY_S_DEFAULT, (0, 300))?;
    let lifetime_max = seconds("lifetime_s_max", raw.lifetime_s_max, LIFETIME_S_MAX_DEFAULT, (1, DAY_S))?;
    let ttl = seconds("jwks_ttl_s", raw.jwks_ttl_s, JWKS_TTL_S_DEFAULT, (1, DAY_S))?;
    let least = ttl.as_secs();
    let stale = raw.jwks_stale_s.unwrap_or(JWKS_STALE_S_DEFAULT.max(least));
    let stale = seconds("jwks_stale_s", Some(stale), stale, (least, 7 * DAY_S))?;
    // What is asked for more seldom than it grows old would be believed for longer.
    let most = least.min(3600);
    let refetch = seconds(
        "jwks_refetch_s",
        raw.jwks_refetch_s,
        JWKS_REFETCH_S_DEFAULT.min(most),
        (1, most),
    )?;
    let types = raw.types.unwrap_or_else(|| vec![TOKEN_TYPE_DEFAULT.to_owned()]);
    for (key, is_empty) in [
        ("audiences", raw.audiences.is_empty()),
        ("algorithms", raw.algorithms.is_empty()),
        ("types", types.is_empty()),
        ("scope", raw.scope.is_empty()),
    ] {
        if is_empty {
            let issuer = raw.issuer;
            return Err(ServeConfigError::Nothing { issuer, key }.into());
        }
    }
    let times = [
        ("jwks_ttl_s", raw.jwks_ttl_s),
        ("jwks_stale_s", raw.jwks_stale_s),
        ("jwks_refetch_s", raw.jwks_refetch_s),
    ];
    if raw.jwks_file.is_some()
        && let Some((key, _)) = times.into_iter().find(|(_, time)| time.is_some())
    {
        let issuer = raw.issuer;
        return Err(ServeConfigError::NotFetched { issuer, key }.into());
    }
    let keys = match (raw.jwks_url, raw.jwks_file) {
        (Some(text), None) => {
            let server = ServerUrl::parse(&text).map_err(|error| ServeConfigError::KeysUrl {
                issuer: raw.issuer.clone(),
                error,
            })?;
            JwksConfig::Url(RemoteJwksConfig {
                server,
                ttl,
                stale,
                refetch,
            })
        }
        (None, Some(named)) => JwksConfig::File(key_set(&raw.issuer, &raw.algorithms, beside(named))?),
        (None, None) | (Some(_), Some(_)) => return Err(ServeConfigError::KeysPlace(raw.issuer).into()),
    };
    let scopes = raw.scope.into_iter().map(|one| {
        if is_scope(&one.scope) {
            return Ok(ScopeConfig {
                persona: beside(one.persona),
                scope: one.scope,
            });
        }
        Err(ServeConfigError::Scope {
            issuer: raw.issuer.clone(),
            scope: one.scope,
        })
    });
    Ok(IssuerConfig {
        scopes: scopes.collect::<Result<_, _>>()?,
        issuer: raw.issuer,
        audiences: raw.audiences,
        algorithms: raw.algorithms,
        types,
        keys,
        leeway,
        lifetime_max,
    })
}

/// Keys that change by a hand alone: where no token can be good, this is the time to say so.
fn key_set(issuer: &str, algorithms: &[TokenAlgorithm], path: PathBuf) -> Result<FileJwksConfig, ConfigError> {
    let named = format!("[[serve.issuer]] `{}`: jwks_file", issuer.escape_debug());
    let bytes = read_named(&path, JWKS_BYTES_MAX, named, NAME_A_FILE)?;
    let issuer = issuer.to_owned();
    match KeySet::parse_public(&bytes) {
        Ok(keys) => {
            let offered = keys.algorithms();
            if offered.iter().any(|algorithm| algorithms.contains(algorithm)) {
                return Ok(FileJwksConfig {
                    keys: Arc::new(keys),
                    digest: Digest::of(&bytes),
                });
            }
            Err(ServeConfigError::KeysOfOthers { issuer, path, offered }.into())
        }
        Err(error) => Err(ServeConfigError::KeysFile { issuer, path, error }.into()),
    }
}

/// RFC 6749 section 3.3.
fn is_scope(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.bytes().all(fits)
}
