//! What a token says of its bearer, and whether that lets them in now. It is handed the time, and knows no signature.

use std::fmt;
use std::time::Duration;

use aral_contract::Digest;
use aral_orchestration::Session;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::{IssuerOptions, Presented};

/// Longest subject, in bytes. Stops names that fill memory.
const SUBJECT_BYTES_MAX: usize = 1024;
/// A moment later than this is none: `2^53` seconds.
const SECONDS_MAX: i64 = 1 << 53;

/// The claims that are looked at (RFC 7519 section 4, RFC 9068 section 2.2). One that is there twice is refused.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "iss")]
    pub(super) issuer: Option<String>,
    #[serde(rename = "sub")]
    subject: Option<String>,
    #[serde(rename = "aud")]
    audience: Option<Audience>,
    #[serde(rename = "exp")]
    expires: Option<Seconds>,
    #[serde(rename = "iat")]
    issued: Option<Seconds>,
    #[serde(rename = "nbf")]
    not_before: Option<Seconds>,
    /// Names with one space between them (RFC 6749 section 3.3).
    scope: Option<String>,
    #[serde(rename = "cnf")]
    bound: Option<Bound>,
}

impl Claims {
    /// The subject, if the token is one for this server, valid at `now`, and shown by whom it was given to. The issuer has been
    /// looked up already.
    pub(super) fn check(
        &self,
        options: &IssuerOptions,
        presented: Presented<'_>,
        now: Timestamp,
    ) -> Result<&str, &'static str> {
        let audience = self.audience.as_ref().ok_or("a token without `aud`")?;
        if !audience.0.iter().any(|one| presented.is_for(one, &options.audiences)) {
            return Err("a token for another audience");
        }
        if self.bound.as_ref().is_some_and(|key| !key.is_of(presented.certificate)) {
            return Err("a token that is bound to a key which was not shown");
        }
        let (now, leeway) = (now.as_second(), seconds(options.leeway));
        let Seconds(expires) = self.expires.ok_or("a token without `exp`")?;
        let Seconds(issued) = self.issued.ok_or("a token without `iat`")?;
        if now >= expires.saturating_add(leeway) {
            return Err("a token that has expired");
        }
        if issued > now.saturating_add(leeway) {
            return Err("a token of the future");
        }
        if self
            .not_before
            .is_some_and(|Seconds(moment)| moment > now.saturating_add(leeway))
        {
            return Err("a token that is not valid yet");
        }
        if expires.saturating_sub(issued) > seconds(options.lifetime_max) {
            return Err("a token that is valid for too long");
        }
        match self.subject.as_deref() {
            None | Some("") => Err("a token without `sub`"),
            Some(subject) if subject.len() > SUBJECT_BYTES_MAX => Err("a token with a subject that is too long"),
            Some(subject) => Ok(subject),
        }
    }

    /// For whom the bearer calls: the first scope of the configuration that the token has.
    pub(super) fn session(&self, options: &IssuerOptions) -> Result<Session, &'static str> {
        let given: Vec<&str> = self.scope.as_deref().unwrap_or_default().split(' ').collect();
        let found = options.scopes.iter().find(|(scope, _)| given.contains(&scope.as_str()));
        found
            .map(|(_, session)| session.clone())
            .ok_or("a token without a scope of the list")
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The key that a token is bound to (RFC 7800): it is good for nobody else, however they got it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bound {
    /// That of this certificate, and no other (RFC 8705 section 3.1).
    Certificate(Thumbprint),
    /// Any other, or one that is named in another way.
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thumbprint {
    /// SHA-256 of the certificate in base64url.
    #[serde(rename = "x5t#S256")]
    sha256: String,
}

impl Bound {
    /// Whether whoever has the key of this certificate has that key.
    fn is_of(&self, certificate: Option<Digest>) -> bool {
        match self {
            Self::Certificate(Thumbprint { sha256 }) => {
                certificate.is_some_and(|digest| *sha256 == URL_SAFE_NO_PAD.encode(digest.as_bytes()))
            }
            Self::Other(IgnoredAny) => false,
        }
    }
}

/// Seconds since 1970, a fraction cut off (RFC 7519 section 2, NumericDate).
#[derive(Debug, Clone, Copy)]
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Seconds, E> {
                let value = i64::try_from(value).ok().filter(|value| *value <= SECONDS_MAX);
                value.map(Seconds).ok_or_else(|| E::custom("too late a moment"))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Seconds, E> {
                // Exact below: a float holds every integer up to the bound.
                if (0.0..=SECONDS_MAX as f64).contains(&value) {
                    return Ok(Seconds(value as i64));
                }
                Err(E::custom("no moment"))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// One text, or a list of them.
#[derive(Debug)]
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Audience, E> {
                Ok(Audience(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Audience, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Audience(all))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}
