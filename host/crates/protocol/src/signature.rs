//! Signatures over requests (RFC 9421, Ed25519): that nobody on the way changed one or sends it again. It says whether a
//! request is signed as its caller must sign; who that caller is, others have found out.

mod base;
mod digest;
mod fields;
pub(crate) mod nonces;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use aral_contract::document::PublicKey;
use aral_contract::failure::whole_seconds;
use aral_contract::id::CallerName;
use http::{HeaderMap, HeaderName, Method, Uri};
use jiff::Timestamp;

use crate::caller::SignatureRule;
use fields::Input;
use nonces::{Nonces, Taken};

/// What is signed, and how.
pub(crate) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The signature.
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// Digests of the body (RFC 9530).
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What every signature covers, so that it is good for one request alone.
const COVERED: [&str; 4] = ["@method", "@authority", "@path", "@query"];
/// What it covers too where it is there.
const COVERED_IF_THERE: [&str; 4] = ["authorization", "idempotency-key", "mcp-session-id", "last-event-id"];

const COVERS_TOO_LITTLE: &str = "a signature that covers too little";

/// A request as it came, but for its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}

/// When and how long a signature is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) now: Timestamp,
    /// Longest time from when it was made.
    pub(crate) age_max: Duration,
    /// How far the clock of the caller may be ahead.
    pub(crate) skew: Duration,
}

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is no good.
    Bad(&'static str),
    /// It was made before this process began, which knows of none that was used then.
    Before,
    /// It is good, and was used before.
    Again,
    /// It is good, and cannot be remembered now.
    NoRoom,
    /// Nothing says with which keys it could be good.
    NoRule,
}

impl Doubt {
    /// For the record.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Bad(reason) => reason,
            Self::Before => "a signature from before the start of the server",
            Self::Again => "a signature that was used before",
            Self::NoRoom => "a signature for which there is no room to remember it",
            Self::NoRule => "a signature of somebody who has no `signature`",
        }
    }
}

impl From<&'static str> for Doubt {
    fn from(reason: &'static str) -> Self {
        Self::Bad(reason)
    }
}

/// Whether a request shows a signature at all.
pub(crate) fn is_there(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE_INPUT) || headers.contains_key(SIGNATURE)
}

/// Checks the one signature of a request of whoever has this rule. The body is not needed for that, and is not waited for if the
/// signature is wrong.
pub(crate) fn check(message: Message<'_>, rule: &SignatureRule, times: Times) -> Result<Signed, Doubt> {
    let input = Input::of(message.headers)?;
    let key = rule
        .keys
        .iter()
        .find(|key| key.id().to_string() == input.key_id)
        .ok_or("a signature with an unknown key")?;
    check_covered(&input, message.headers)?;
    let now = times.now.as_second();
    // Rounded up: `created` is a moment that was cut off to its second.
    let seconds = |duration: Duration| i64::try_from(whole_seconds(duration)).unwrap_or(i64::MAX);
    let oldest = now.saturating_sub(seconds(times.age_max));
    if input.created < oldest || input.expires.is_some_and(|expires| now > expires) {
        return Err(Doubt::Bad("a signature that has expired"));
    }
    let newest = now.saturating_add(seconds(times.skew));
    if input.created > newest {
        return Err(Doubt::Bad("a signature of the future"));
    }
    verify(&input, message, key)?;
    Ok(Signed {
        covers_body: input.covers(CONTENT_DIGEST.as_str()),
        created: input.created,
        nonce: input.nonce,
        good: oldest..=newest,
    })
}

/// A good signature, over a request whose body nobody has looked at. Nobody but who signs has one, and fills the memory of what was used.
#[derive(Debug)]
pub(crate) struct Signed {
    covers_body: bool,
    nonce: String,
    created: i64,
    /// The seconds of which signatures are good.
    good: RangeInclusive<i64>,
}

impl Signed {
    /// Uses it up, as one of this caller's, if it was not used before. The body is not waited for until then: the fields of one request,
    /// sent again and again, would take all places of its caller.
    pub(crate) fn use_up(&self, caller: &CallerName, nonces: &Nonces) -> Result<(), Doubt> {
        if nonces.may_have_been_used(self.created) {
            return Err(Doubt::Before);
        }
        match nonces.take(caller, &self.nonce, self.created, &self.good) {
            Taken::First => Ok(()),
            Taken::Again => Err(Doubt::Again),
            Taken::Full => Err(Doubt::NoRoom),
        }
    }

    /// Whether it is the signature of this body.
    pub(crate) fn check_body(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Doubt> {
        if !body.is_empty() && !self.covers_body {
            return Err(Doubt::Bad(COVERS_TOO_LITTLE));
        }
        // Also of no body: who is on the way may have taken away the one that was signed. What is covered is there.
        if !body.is_empty() || headers.contains_key(CONTENT_DIGEST) {
            digest::check(headers, body)?;
        }
        Ok(())
    }
}

/// The signature itself: bytes, key and nothing else.
fn verify(input: &Input, message: Message<'_>, key: &PublicKey) -> Result<(), &'static str> {
    let base = base::base(message, &input.covered)?;
    if key.verify(base.as_bytes(), &input.signature) {
        Ok(())
    } else {
        Err("a wrong signature")
    }
}

fn check_covered(input: &Input, headers: &HeaderMap) -> Result<(), &'static str> {
    let there = COVERED_IF_THERE.iter().filter(|name| headers.contains_key(**name));
    let mut wanted = COVERED.into_iter().chain(there.copied());
    if wanted.all(|name| input.covers(name)) {
        Ok(())
    } else {
        Err(COVERS_TOO_LITTLE)
    }
}
