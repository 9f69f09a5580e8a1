//! Tokens: signed JWTs of issuers that the operator trusts (RFC 7519 and RFC 9068, checked as RFC 8725 advises). A token is
//! believed if an issuer of the list signed it, for this server, with an algorithm that was agreed on, and it is valid now;
//! its scopes say for which persona its bearer calls. It fetches keys and nothing else, and what a token names is not followed.

mod claims;
mod keys;
mod source;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::id::CallerName;
use aral_contract::{Clock, Digest};
use aral_orchestration::Session;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::bounds::{self, Bounds};
use crate::caller::{Caller, TOKEN_PREFIX};
use crate::places::Places;
use claims::Claims;
pub use keys::{KeySet, KeySetError, TokenAlgorithm};
use source::Keys;
pub use source::{KeysPlace, RemoteKeys};

/// Longest id of a key, in bytes. Stops an id that fills logs.
const KEY_ID_BYTES_MAX: usize = 256;
/// How many may wait for keys that another asks for, of all issuers together; a quarter of the places of requests, where that is
/// less. Stops strangers with made-up ids of keys from holding all of these places while issuers hang.
const WAITING_MAX: usize = 256;
/// How many hex digits of a digest name the bearer of a token.
const NAME_DIGITS: usize = 40;

/// An issuer whose tokens are believed.
#[derive(Debug)]
pub struct IssuerOptions {
    /// What its tokens say as `iss`, to the letter.
    pub issuer: String,
    /// What they say as `aud`: one of these. Where that of MCP is among others, it is for MCP alone, and they are for all else.
    pub audiences: Vec<String>,
    /// What they may be signed with.
    pub algorithms: Vec<TokenAlgorithm>,
    /// What they may say as `typ`, without `application/`. RFC 9068: `at+jwt`.
    pub types: Vec<String>,
    /// Where its keys are.
    pub keys: KeysPlace,
    /// How far its clock may be from this one.
    pub leeway: Duration,
    /// Longest time from `iat` to `exp`.
    pub lifetime_max: Duration,
    /// Scopes and for whom their bearers call; the first that a token has counts.
    pub scopes: Vec<(String, Session)>,
}

/// All issuers.
#[derive(Debug)]
pub struct Issuers {
    list: HashMap<String, Issuer>,
    clock: Arc<dyn Clock>,
    /// Places for those who wait for keys that another asks for.
    waiting: Places,
}

#[derive(Debug)]
struct Issuer {
    options: IssuerOptions,
    keys: Arc<Keys>,
}

/// The first part of a token (RFC 7515 section 4). What it says of keys (`jwk`, `jku`, `x5c`, `x5u`) is not looked at.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is no good.
    Bad(&'static str),
    /// Its issuer signed it, so that it is no guess; and it is not one for this server, or not now.
    Genuine(&'static str),
    /// Its issuer has no such key, as far as is known, so that none was tried and it is no guess: an issuer may sign with a new one before
    /// this server asks for it.
    UnknownKey,
    /// There are no keys of its issuer, so that nobody can tell.
    NoKeys,
}

impl Doubt {
    /// For the record.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Bad(reason) | Self::Genuine(reason) => reason,
            Self::UnknownKey => "a token with an unknown key",
            Self::NoKeys => "a token whose issuer's keys cannot be had",
        }
    }
}

impl From<&'static str> for Doubt {
    fn from(reason: &'static str) -> Self {
        Self::Bad(reason)
    }
}

/// Where and how a token is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// The audience that is MCP, a resource of its own; none: there is no such resource.
    pub(crate) mcp: Option<&'a str>,
    /// Whether MCP is asked, and not one of the other addresses.
    pub(crate) at_mcp: bool,
    /// SHA-256 of the certificate of the connection; none: there is no certificate, or it says nothing.
    pub(crate) certificate: Option<Digest>,
}

impl Presented<'_> {
    /// Whether this is one of the audiences of an issuer, and for what is asked (RFC 8707). An issuer that has no audience for what is
    /// asked does not tell MCP from the rest: each of its audiences is for all addresses.
    fn is_for(&self, audience: &str, audiences: &[String]) -> bool {
        let is_asked = |one: &str| (Some(one) == self.mcp) == self.at_mcp;
        let is_listed = audiences.iter().any(|one| one == audience);
        is_listed && (is_asked(audience) || !audiences.iter().any(|one| is_asked(one)))
    }
}

/// A token in its parts, none of which is believed yet.
struct Parts<'a> {
    header: Header,
    claims: Claims,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

impl Issuers {
    /// Takes a list. Of two entries for one issuer the last counts; a configuration has none such.
    pub fn new(list: Vec<IssuerOptions>, clock: Arc<dyn Clock>) -> Self {
        let issuer = |options: IssuerOptions| {
            let keys = Arc::new(Keys::new(options.keys.clone(), Arc::clone(&clock)));
            (options.issuer.clone(), Issuer { options, keys })
        };
        Self {
            list: list.into_iter().map(issuer).collect(),
            clock: Arc::clone(&clock),
            waiting: Places::new(WAITING_MAX),
        }
    }

    /// Has the keys that the configuration before fetched, until there are newer ones, and who waits under it waits under this
    /// one. Of no use once somebody asked.
    pub(crate) fn take_over(&mut self, before: &Self) {
        self.waiting = before.waiting.clone();
        for (name, issuer) in &mut self.list {
            if let (Some(before), Some(keys)) = (before.list.get(name), Arc::get_mut(&mut issuer.keys)) {
                keys.take_over(&before.keys);
            }
        }
    }

    /// From now on these are the bounds. Needs a tokio runtime if somebody waits.
    pub(crate) fn rebound(&self, bounds: &Bounds) {
        let share = bounds::size(bounds::share(bounds.requests_max));
        self.waiting.resize(share.min(WAITING_MAX));
    }

    /// The issuers, in some order that stays the same.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.list.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Every scope that lets somebody call.
    pub(crate) fn scopes(&self) -> Vec<&str> {
        let all = self.list.values().flat_map(|issuer| &issuer.options.scopes);
        let mut scopes: Vec<&str> = all.map(|(scope, _)| scope.as_str()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    /// Who bears this token.
    pub(crate) async fn caller(&self, token: &str, presented: Presented<'_>) -> Result<Arc<Caller>, Doubt> {
        let parts = Parts::split(token)?;
        let name = parts.claims.issuer.as_deref().ok_or("a token without `iss`")?;
        let issuer = self.list.get(name).ok_or("a token of an unknown issuer")?;
        let algorithm = match issuer.check_header(&parts.header) {
            Ok(algorithm) => algorithm,
            // All of its tokens are the same then, so that none shows which part was wrong.
            Err(_) if issuer.keys.are_missing() => return Err(Doubt::NoKeys),
            Err(reason) => return Err(Doubt::Bad(reason)),
        };
        let id = parts.header.kid.as_deref();
        let key = issuer.keys.find(id, algorithm, &self.waiting).await?;
        // The only errors are those of a key that does not fit, which is not taken from its set in the first place.
        let valid = jsonwebtoken::crypto::verify(parts.signature, parts.message.as_bytes(), &key, algorithm.into());
        if !valid.unwrap_or(false) {
            return Err(Doubt::Bad("a token with a wrong signature"));
        }
        let subject = parts.claims.check(&issuer.options, presented, self.clock.now());
        let subject = subject.map_err(Doubt::Genuine)?;
        let session = parts.claims.session(&issuer.options).map_err(Doubt::Genuine)?;
        let name = caller_name(name, subject).map_err(Doubt::Genuine)?;
        Ok(Arc::new(Caller {
            session: session.of_user(name.clone()),
            client_ca_files: Vec::new(),
            certificates: Vec::new(),
            name,
            keys: Vec::new(),
            signature: None,
        }))
    }
}

impl Issuer {
    fn check_header(&self, header: &Header) -> Result<TokenAlgorithm, &'static str> {
        let pinned = self.options.algorithms.iter();
        let algorithm = pinned
            .copied()
            .find(|algorithm| algorithm.as_str() == header.alg)
            .ok_or("a token with an algorithm that is not agreed on")?;
        let kind = header.typ.as_deref().unwrap_or_default();
        let kind = match kind.get(..12) {
            Some(prefix) if prefix.eq_ignore_ascii_case("application/") => kind.get(12..).unwrap_or_default(),
            Some(_) | None => kind,
        };
        if !self.options.types.iter().any(|one| one.eq_ignore_ascii_case(kind)) {
            return Err("a token of another type");
        }
        if header.crit.is_some() {
            return Err("a token with extensions that must be understood");
        }
        if header.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
            return Err("a token with an id of a key that is too long");
        }
        Ok(algorithm)
    }
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, &'static str> {
        let (message, signature) = token.rsplit_once('.').ok_or("a credential of no known form")?;
        let (header, claims) = message.split_once('.').ok_or("a credential of no known form")?;
        let json = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| "a token that is not base64url")
        };
        Ok(Self {
            header: serde_json::from_slice(&json(header)?).map_err(|_| "a token whose header is not taken")?,
            claims: serde_json::from_slice(&json(claims)?).map_err(|_| "a token whose claims are not taken")?,
            message,
            signature,
        })
    }
}

/// One name for each subject of each issuer, which no caller of the configuration can have: what is kept or counted for one
/// is never that of another.
fn caller_name(issuer: &str, subject: &str) -> Result<CallerName, &'static str> {
    let digest = Digest::of(format!("{issuer}\n{subject}").as_bytes()).to_string();
    let digits: String = digest.chars().take(NAME_DIGITS).collect();
    format!("{TOKEN_PREFIX}{digits}")
        .parse()
        .map_err(|_| "a token with a subject that has no name")
}
