//! The key pair of backups: X25519 (RFC 7748) in PEM as RFC 8410 has it, so that other tools read and make them too.

use std::fmt;

use aral_contract::document::WrongHalf;
use aral_runtime::{LockedKey, locked::LockedKeyError};
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, Serializable as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::key::hex;

const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";
/// What stands before the key in DER: PKCS #8 version 1 (RFC 5208) with the algorithm X25519.
const PRIVATE_PREFIX: &[u8; 16] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";
/// The same of SubjectPublicKeyInfo (RFC 5280).
const PUBLIC_PREFIX: &[u8; 12] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00";
/// Bytes of the id of a key.
pub(super) const KEY_ID_BYTES: usize = 8;

/// A text that is not the key that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupKeyError {
    /// No such key.
    #[error("not {0} of X25519 in PEM; make a pair with `aral memory keygen --backup NAME`")]
    Other(&'static str),
    /// The other half of a pair.
    #[error(transparent)]
    Half(#[from] WrongHalf),
}

/// What backups are sealed to.
#[derive(Clone)]
pub struct BackupPublicKey(pub(super) <X25519HkdfSha256 as Kem>::PublicKey);

/// What opens them. Keep it where neither the store nor its master key is.
pub struct BackupPrivateKey(pub(super) <X25519HkdfSha256 as Kem>::PrivateKey);

impl BackupPublicKey {
    /// From PEM.
    ///
    /// # Errors
    /// It is not a public key of X25519.
    pub fn from_pem(text: &str) -> Result<Self, BackupKeyError> {
        let error = WrongHalf::private(text).map_or(BackupKeyError::Other("a public key"), BackupKeyError::Half);
        let raw = raw(text, PUBLIC_LABEL, PUBLIC_PREFIX).ok_or(error)?;
        let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&raw);
        key.map(Self).map_err(|_| error)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        pem(PUBLIC_LABEL, PUBLIC_PREFIX, &self.0.to_bytes()).to_string()
    }

    pub(super) fn id_bytes(&self) -> [u8; KEY_ID_BYTES] {
        let digest: [u8; 32] = Sha256::digest(self.0.to_bytes()).into();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// Names the key: the first 16 hex digits of the SHA-256 of its 32 bytes.
    pub fn id(&self) -> String {
        hex(&self.id_bytes())
    }
}

impl BackupPrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, LockedKeyError> {
        let seed = LockedKey::random()?;
        Ok(Self(X25519HkdfSha256::derive_keypair(seed.expose()).0))
    }

    /// From PEM.
    ///
    /// # Errors
    /// It is not a private key of X25519.
    pub fn from_pem(text: &str) -> Result<Self, BackupKeyError> {
        let error = WrongHalf::public(text).map_or(BackupKeyError::Other("a private key"), BackupKeyError::Half);
        let raw = raw(text, PRIVATE_LABEL, PRIVATE_PREFIX).ok_or(error)?;
        let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&raw);
        key.map(Self).map_err(|_| error)
    }

    /// As PEM, erased when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem(PRIVATE_LABEL, PRIVATE_PREFIX, &self.0.to_bytes())
    }

    /// The half that may be shown.
    pub fn public_key(&self) -> BackupPublicKey {
        BackupPublicKey(X25519HkdfSha256::sk_to_pk(&self.0))
    }
}

impl fmt::Debug for BackupPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupPublicKey({})", self.id())
    }
}

impl fmt::Debug for BackupPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupPrivateKey")
    }
}

fn raw(text: &str, label: &str, prefix: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // A private key of this kind has 48 bytes.
    let mut buffer = Zeroizing::new([0; 128]);
    let (found, der) = pem_rfc7468::decode(text.trim().as_bytes(), buffer.as_mut()).ok()?;
    let raw = der.strip_prefix(prefix).filter(|raw| raw.len() == 32)?;
    (found == label).then(|| Zeroizing::new(raw.to_vec()))
}

fn pem(label: &str, prefix: &[u8], raw: &[u8]) -> Zeroizing<String> {
    let mut der = Zeroizing::new(Vec::with_capacity(prefix.len().saturating_add(raw.len())));
    der.extend_from_slice(prefix);
    der.extend_from_slice(raw);
    let text = pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, &der);
    // Fails only for labels that PEM does not allow.
    Zeroizing::new(text.unwrap_or_default())
}
