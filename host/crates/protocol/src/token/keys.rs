//! The public keys of an issuer (RFC 7517): which of a set may verify a token, and with which algorithm. It fetches nothing.

use aral_contract::document::{PublicKey, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1};
use serde::Deserialize;
use serde_json::Value;

/// Most keys of one issuer. Stops a set that takes long to search.
const KEYS_MAX: usize = 64;
/// Smallest and largest RSA modulus, in bytes: 2048 (RFC 7518 section 3.3) and 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a token may be signed. Only with a key of which the verifier has the public half: whoever verifies with a shared
/// secret could sign too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "names of RFC 7518 section 3.1 and RFC 8037")]
pub enum TokenAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl TokenAlgorithm {
    const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// As it stands in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl From<TokenAlgorithm> for Algorithm {
    fn from(algorithm: TokenAlgorithm) -> Self {
        match algorithm {
            TokenAlgorithm::RS256 => Self::RS256,
            TokenAlgorithm::RS384 => Self::RS384,
            TokenAlgorithm::RS512 => Self::RS512,
            TokenAlgorithm::PS256 => Self::PS256,
            TokenAlgorithm::PS384 => Self::PS384,
            TokenAlgorithm::PS512 => Self::PS512,
            TokenAlgorithm::ES256 => Self::ES256,
            TokenAlgorithm::ES384 => Self::ES384,
            TokenAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Why a set of keys is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// No JSON Web Key Set: why, without anything that stands in it.
    #[error("it is no JSON Web Key Set: {0}")]
    Json(String),
    /// More keys than any issuer has.
    #[error("it holds {0} keys, more than {KEYS_MAX}")]
    TooMany(usize),
    /// Nothing that could verify a token.
    #[error("it holds no public key that verifies signatures: RSA of 2048 bits or more, P-256, P-384 or Ed25519")]
    NoKey,
    /// Whoever reads it can make tokens.
    #[error("its {0} is a private one: it has the member `d`")]
    Private(String),
}

/// The keys of an issuer that can verify signatures.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Takes a JSON Web Key Set. A key of another kind, for another use or too weak is as if it were not there (RFC 7517
    /// section 5). A set without keys is one, too: so an issuer says that none of its keys is good any more.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        Ok(Self::of(&listed(text)?))
    }

    /// The same of a file that somebody wrote for this server, which needs a key, and no private key.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse_public(text: &[u8]) -> Result<Self, KeySetError> {
        let listed = listed(text)?;
        if let Some(private) = listed.iter().find(is_private) {
            let id = private.get("kid").and_then(Value::as_str);
            let which = id.map_or_else(|| "key".to_owned(), |id| format!("key `{}`", id.escape_debug()));
            return Err(KeySetError::Private(which));
        }
        let keys = Self::of(&listed);
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(keys)
    }

    fn of(listed: &[Value]) -> Self {
        Self(listed.iter().filter_map(Key::parse).collect())
    }

    /// Whether no token can be verified with it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The algorithms that one of its keys at least is for.
    pub fn algorithms(&self) -> Vec<TokenAlgorithm> {
        let is_there = |algorithm: &TokenAlgorithm| self.0.iter().any(|key| key.fits(*algorithm));
        TokenAlgorithm::ALL.into_iter().filter(is_there).collect()
    }

    /// The key for a token that names it, or the only one there is for a token that names none.
    pub(super) fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Option<&DecodingKey> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)).map(|key| &key.key),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => Some(&only.key),
                (_, _) => None,
            },
        }
    }
}

fn listed(text: &[u8]) -> Result<Vec<Value>, KeySetError> {
    let raw: RawSet = serde_json::from_slice(text).map_err(|error| KeySetError::Json(json::unquoted(&error)))?;
    if raw.keys.len() > KEYS_MAX {
        return Err(KeySetError::TooMany(raw.keys.len()));
    }
    Ok(raw.keys)
}

/// Whether the private part is there. Some programs write every member that a key may have, with null for what it has not.
fn is_private(key: &&Value) -> bool {
    key.get("d").is_some_and(|part| !part.is_null())
}

/// Whether there is a point of the curve with these coordinates. The library says so where it agrees on a secret with whoever has
/// that point; where it verifies it takes every wrong point for a wrong signature.
fn is_point(curve: &dyn SupportedKxGroup, x: &[u8], y: &[u8]) -> bool {
    let uncompressed = [&[4][..], x, y].concat();
    curve.start_and_complete(&uncompressed).is_ok()
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let signs = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|given| *given == PublicKeyUse::Signature);
        let verifies = jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|given| given.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => {
                let modulus = bytes(&key.n)?;
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                let length = modulus.len().saturating_sub(zeros);
                MODULUS_BYTES.contains(&length).then_some(Kind::Rsa)?
            }
            AlgorithmParameters::EllipticCurve(key) => {
                let (kind, curve, length) = match key.curve {
                    EllipticCurve::P256 => (Kind::P256, SECP256R1, 32),
                    EllipticCurve::P384 => (Kind::P384, SECP384R1, 48),
                    _ => return None,
                };
                let (x, y) = (bytes(&key.x)?, bytes(&key.y)?);
                let whole = x.len() == length && y.len() == length && is_point(curve, &x, &y);
                whole.then_some(kind)?
            }
            AlgorithmParameters::OctetKeyPair(key) => {
                let point: [u8; 32] = bytes(&key.x)?.try_into().ok()?;
                let whole = key.curve == EllipticCurve::Ed25519 && PublicKey::from_bytes(&point).is_ok();
                whole.then_some(Kind::Ed25519)?
            }
            _ => return None,
        };
        Some(Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            id: jwk.common.key_id,
            kind,
            algorithm: value.get("alg").and_then(|alg| alg.as_str()).map(str::to_owned),
        })
    }

    fn fits(&self, algorithm: TokenAlgorithm) -> bool {
        let kind = match algorithm {
            TokenAlgorithm::RS256 | TokenAlgorithm::RS384 | TokenAlgorithm::RS512 => Kind::Rsa,
            TokenAlgorithm::PS256 | TokenAlgorithm::PS384 | TokenAlgorithm::PS512 => Kind::Rsa,
            TokenAlgorithm::ES256 => Kind::P256,
            TokenAlgorithm::ES384 => Kind::P384,
            TokenAlgorithm::EdDSA => Kind::Ed25519,
        };
        let said = self.algorithm.as_deref();
        self.kind == kind && said.is_none_or(|said| said == algorithm.as_str())
    }
}
