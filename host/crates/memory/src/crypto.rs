//! The three algorithms of this layer and nothing else: AES-256-GCM (NIST SP 800-38D), HKDF-SHA-256 (RFC 5869) and
//! HMAC-SHA-256 (RFC 2104). It knows no format. Test vectors of Wycheproof run over these very functions.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::consts::U12;
use aes_gcm::{AeadInOut as _, AesGcm, KeyInit as _, Nonce, Tag};
use aral_runtime::LockedKey;
use aral_runtime::locked::LockedKeyError;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a MAC.
pub(crate) const MAC_BYTES: usize = 32;

/// The key, the associated data or the ciphertext is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unauthentic;

/// A key that seals and opens. Its schedule is erased when dropped. GCM never decrypts a block, and so it is made without what
/// would be needed for that: each record has a key of its own, and opening a short one takes little else.
pub(crate) struct Cipher(AesGcm<Aes256Enc, U12>);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(AesGcm::new(key.into()))
    }

    /// Seals `buffer` in place and returns the tag. A nonce must never serve twice under one key.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Unauthentic> {
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(*nonce), associated, InOutBuf::from(buffer));
        // Fails only above 64 GiB.
        tag.map(Into::into).map_err(|_| Unauthentic)
    }

    /// Opens `buffer` in place. If this fails the buffer holds nothing of the plaintext.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Unauthentic> {
        self.0
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                associated,
                InOutBuf::from(buffer),
                &Tag::from(*tag),
            )
            .map_err(|_| Unauthentic)
    }

    /// The plaintext of a ciphertext that ends in its tag. Whoever asks sees to it that it is erased.
    pub(crate) fn opened(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unauthentic> {
        let (body, tag) = sealed.split_last_chunk().ok_or(Unauthentic)?;
        let mut opened = body.to_vec();
        self.open(nonce, associated, &mut opened, tag)?;
        Ok(opened)
    }

    /// Seals `sealed` in place, with the tag at its end.
    pub(crate) fn seal_joined(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        let tag = self.seal(nonce, associated, sealed)?;
        sealed.extend_from_slice(&tag);
        Ok(())
    }
}

/// HKDF-SHA-256 into `out`. None: more was asked for than HKDF gives (8,160 bytes).
pub(crate) fn expand(salt: &[u8], key: &[u8], purpose: &[u8], out: &mut [u8]) -> Option<()> {
    Hkdf::<Sha256>::new(Some(salt), key).expand(purpose, out).ok()
}

/// A key of its own for one purpose.
pub(crate) fn derive(salt: &[u8], key: &[u8; KEY_BYTES], purpose: &[u8]) -> Result<LockedKey, LockedKeyError> {
    LockedKey::filled(|out| {
        let derived = expand(salt, key, purpose, out);
        derived.ok_or(LockedKeyError::Memory(std::io::ErrorKind::InvalidInput.into()))
    })
}

/// A key for MACs.
#[derive(Clone)]
pub(crate) struct Macs(Hmac<Sha256>);

impl Macs {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        // HMAC fills a short key up with zeros to a block of SHA-256.
        let mut block = Zeroizing::new([0; 64]);
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        Self(<Hmac<Sha256> as hmac::KeyInit>::new((&*block).into()))
    }

    /// The MAC of the parts, each preceded by its length, so that no two lists of parts are one text.
    pub(crate) fn of(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}
