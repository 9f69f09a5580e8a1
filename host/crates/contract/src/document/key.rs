//! Ed25519 keys in PEM: PKCS#8 for private ones, SPKI for public ones, as `openssl genpkey -algorithm ed25519` writes them.

mod encrypted;
mod half;

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use half::WrongHalf;

use crate::id::KeyId;

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PEM text with an Ed25519 private key in PKCS#8.
    #[error("not an Ed25519 private key in PEM (`-----BEGIN PRIVATE KEY-----`); `aral keygen` makes one")]
    Private,
    /// The private key is encrypted, and nobody gave a passphrase.
    #[error("a private key that is encrypted: it needs its passphrase")]
    Encrypted,
    /// The passphrase does not open the private key, or somebody changed the file.
    #[error("an encrypted private key that this passphrase does not open")]
    Passphrase,
    /// Opening the private key would take more memory or time than anybody needs.
    #[error("an encrypted private key with scrypt or PBKDF2 parameters that are none or too costly: encrypt it anew")]
    Cost,
    /// Not a PEM text with an Ed25519 public key.
    #[error("not an Ed25519 public key in PEM (`-----BEGIN PUBLIC KEY-----`); `aral keygen` makes one")]
    Public,
    /// The other half of a pair.
    #[error(transparent)]
    Half(#[from] WrongHalf),
    /// A key of low order, for which signatures can be made that verify under any message.
    #[error("the public key is of low order: it proves nothing")]
    Weak,
    /// A key with a part of low order, or written in a second way: verifiers disagree about its signatures.
    #[error("the public key is not a canonical point of prime order: no generator of keys makes such a one")]
    Mixed,
    /// The key cannot be written as PEM.
    #[error("the key cannot be written as PEM")]
    Encode,
}

/// A private key. Wiped when dropped; `Debug` shows the key id alone.
pub struct PrivateKey(SigningKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

impl PrivateKey {
    /// From 32 bytes of entropy, which layer 1 supplies.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From PEM that is not encrypted.
    ///
    /// # Errors
    /// [`KeyError::Encrypted`] if it is, [`KeyError::Half`] if it is a public key, and [`KeyError::Private`] if it is no such key at
    /// all.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if encrypted::is_encrypted(text) {
            return Err(KeyError::Encrypted);
        }
        SigningKey::from_pkcs8_pem(text)
            .map(Self)
            .map_err(|_| WrongHalf::public(text).map_or(KeyError::Private, KeyError::Half))
    }

    /// To PEM, for a file with mode 0600.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.bytes().to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Encode)
    }

    /// As version 1 of PKCS#8 has it, without the public key: OpenSSL and others do not read version 2.
    fn bytes(&self) -> KeypairBytes {
        KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        }
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs; 64 bytes. What a message is must be seen from its bytes: a document begins with `{`, the signature base of a
    /// request (RFC 9421) with `"`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A public key: the canonical form of a point of prime order.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl PublicKey {
    /// From PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(text)
            .map_err(|_| WrongHalf::private(text).map_or(KeyError::Public, KeyError::Half))
            .and_then(Self::checked)
    }

    /// From the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// They are no point, or one that verifiers could disagree about.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_bytes(bytes)
            .map_err(|_| KeyError::Public)
            .and_then(Self::checked)
    }

    /// What verifiers could disagree about is refused here, once, so that a signature means the same to all of them.
    fn checked(key: VerifyingKey) -> Result<Self, KeyError> {
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        let point = key.to_edwards();
        if !point.is_torsion_free() || point.compress().to_bytes() != *key.as_bytes() {
            return Err(KeyError::Mixed);
        }
        Ok(Self(key))
    }

    /// To PEM.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Encode)
    }

    /// The first 8 bytes of the SHA-256 of the raw key.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        KeyId::from_bytes([a, b, c, d, e, f, g, h])
    }

    /// Verifies strictly: no low-order points, no second encoding of a point, no scalar beyond the order of the group.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

#[cfg(test)]
mod tests;
