//! Values that stay in memory for a while, encrypted under a key that this process alone has and that ends with it. A
//! copy of the memory pages that hold them, swapped out or read by mistake, shows nothing without the key, which lies
//! elsewhere, on a page that is not swapped where the system allows it. It is no protection from who can read all of this process.

use std::sync::atomic::{AtomicU64, Ordering};

use aral_contract::SecretValue;
use aral_runtime::LockedKey;
use aral_runtime::locked::LockedKeyError;
use zeroize::Zeroizing;

use crate::crypto::{Cipher, NONCE_BYTES, TAG_BYTES};

/// The key. Erased when dropped. The cipher is made of it each time: its schedule, which shows the key, would lie elsewhere.
pub(super) struct ProcessKey {
    key: LockedKey,
    /// Counted and not drawn: under one key no number comes twice.
    next: AtomicU64,
}

/// An encrypted value. Erased when dropped, as the key stays.
pub(super) struct Sealed {
    nonce: [u8; NONCE_BYTES],
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl ProcessKey {
    pub(super) fn new() -> Result<Self, LockedKeyError> {
        Ok(Self {
            key: LockedKey::random()?,
            next: AtomicU64::new(0),
        })
    }

    /// Encrypts a value that opens under the same label alone. None: it is too long to be encrypted.
    pub(super) fn seal(&self, label: &str, value: &SecretValue) -> Option<Sealed> {
        let count = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().zip(count).for_each(|(to, from)| *to = from);
        // With room for the tag, so that the plain bytes are not left behind in a place that was too small.
        let mut bytes = Zeroizing::new(Vec::with_capacity(value.expose().len().saturating_add(TAG_BYTES)));
        bytes.extend_from_slice(value.expose());
        self.cipher().seal_joined(&nonce, label.as_bytes(), &mut bytes).ok()?;
        Some(Sealed { nonce, bytes })
    }

    /// None: it was sealed under another label, or is damaged.
    pub(super) fn open(&self, label: &str, sealed: &Sealed) -> Option<SecretValue> {
        let opened = self.cipher().opened(&sealed.nonce, label.as_bytes(), &sealed.bytes);
        opened.ok().map(SecretValue::new)
    }

    fn cipher(&self) -> Cipher {
        Cipher::new(self.key.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_shows_nothing_and_opens_under_its_own_label_alone() {
        let key = ProcessKey::new().unwrap();
        let value = SecretValue::new(b"correct-horse-battery-staple".to_vec());
        let (one, two) = (key.seal("a", &value).unwrap(), key.seal("a", &value).unwrap());
        assert_ne!(one.bytes, two.bytes, "one number for two values");
        assert!(!one.bytes.windows(7).any(|window| window == b"battery"));
        assert_eq!(key.open("a", &one), Some(value));
        assert_eq!(key.open("b", &one), None);
        assert_eq!(ProcessKey::new().unwrap().open("a", &one), None);
        let mut damaged = one;
        damaged.bytes[3] ^= 1;
        assert_eq!(key.open("a", &damaged), None);
    }
}
