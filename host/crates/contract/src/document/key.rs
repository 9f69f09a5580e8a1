//! Ed25519 keys in PEM: PKCS#8 for private ones, SPKI for public ones, as `openssl genpkey -algorithm ed25519` writes them.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::id::KeyId;

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PEM text with an Ed25519 private key in unencrypted PKCS#8.
    #[error("not an Ed25519 private key in PEM (`-----BEGIN PRIVATE KEY-----`); `aral keygen` makes one")]
    Private,
    /// Not a PEM text with an Ed25519 public key.
    #[error("not an Ed25519 public key in PEM (`-----BEGIN PUBLIC KEY-----`); `aral keygen` makes one")]
    Public,
    /// A key of low order, for which signatures can be made that verify under any message.
    #[error("the public key is of low order: it proves nothing")]
    Weak,
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

    /// From PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(text)
            .map(Self)
            .map_err(|_| KeyError::Private)
    }

    /// To PEM, for a file with mode 0600.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Encode)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs; 64 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A public key that is not of low order.
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
        let key = VerifyingKey::from_public_key_pem(text).map_err(|_| KeyError::Public)?;
        if key.is_weak() {
            Err(KeyError::Weak)
        } else {
            Ok(Self(key))
        }
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

    /// Verifies strictly: no low-order points, no non-canonical scalar.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trip() {
        let private = PrivateKey::from_seed(&Zeroizing::new([7; 32]));
        let again = PrivateKey::from_pem(&private.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), private.public());
        assert_eq!(
            PublicKey::from_pem(&private.public().to_pem().unwrap()).unwrap(),
            private.public()
        );
        assert_eq!(format!("{private:?}"), format!("PrivateKey({})", private.public().id()));
        assert_eq!(PrivateKey::from_pem("rubbish").unwrap_err(), KeyError::Private);
        assert_eq!(
            PublicKey::from_pem(&private.to_pem().unwrap()).unwrap_err(),
            KeyError::Public
        );
    }

    #[test]
    fn a_key_of_low_order_is_refused() {
        // SPKI of the all-zero key, which is a point of order four.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::from_pem(pem).unwrap_err(), KeyError::Weak);
    }
}
