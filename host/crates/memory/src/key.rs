//! Master keys: they seal the root keys of a store and nothing else. One is 32 bytes that the operator keeps, or a key
//! that never leaves a key service. It knows no file and no variable: whoever opens a store has read those.

use std::fmt;
use std::sync::Arc;

use aral_runtime::locked::LockedKeyError;
use aral_runtime::{LockedKey, entropy};
use zeroize::Zeroizing;

use crate::crypto::{Cipher, KEY_BYTES, NONCE_BYTES, expand};
use crate::key_service::{KeyService, KeyServiceError};
use crate::store::StoreError;

const ID_PURPOSE: &[u8] = b"aral.memory/v1/master-id";
const SEAL_PURPOSE: &[u8] = b"aral.memory/v1/master-seal";
const ID_BYTES: usize = 8;
/// How the id of a key begins that a service holds.
const SERVICE: &str = "service:";

/// A text that is no master key. Says nothing of the text but its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is {} hex digits; this text has {digits} characters{}", KEY_BYTES * 2, if *.hex { "" } else { ", and not all are hex digits" })]
pub struct MasterKeyError {
    /// Its length.
    pub digits: usize,
    /// Whether all of it are hex digits.
    pub hex: bool,
}

/// What seals the root keys of a store. Prints its id alone; clones share one key.
#[derive(Clone)]
pub struct MasterKey(Arc<Kind>);

/// What a key is to the store whose root key it seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is to seal the store from now on: one of which a copy can be taken is refused.
    New,
    /// It seals the store already.
    Known,
}

enum Kind {
    Local { id: String, sealing: LockedKey },
    Service { key: String, service: Arc<dyn KeyService> },
}

impl MasterKey {
    /// A new key as text: 64 hex digits, erased when dropped. Keep it where the store is not.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate_text() -> Result<Zeroizing<String>, LockedKeyError> {
        Ok(Zeroizing::new(hex(LockedKey::random()?.expose())))
    }

    /// From its text: 64 hex digits; white space around them is let go, and so is the mark that some editors put first (U+FEFF).
    ///
    /// # Errors
    /// [`MasterKeyError`] as [`StoreError::Master`] for anything else.
    pub fn from_text(text: &[u8]) -> Result<Self, StoreError> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii();
        let wrong = MasterKeyError {
            digits: text.len(),
            hex: text.iter().all(u8::is_ascii_hexdigit),
        };
        let key = LockedKey::filled(|key| {
            if text.len() != KEY_BYTES * 2 || !wrong.hex {
                return Err(StoreError::Master(wrong));
            }
            for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
                let digit = |at: usize| {
                    pair.get(at)
                        .and_then(|digit| char::from(*digit).to_digit(16))
                        .unwrap_or(0)
                };
                *byte = u8::try_from(digit(0) << 4 | digit(1)).unwrap_or(0);
            }
            Ok(())
        })?;
        Self::from_bytes(key.expose())
    }

    fn from_bytes(key: &[u8; KEY_BYTES]) -> Result<Self, StoreError> {
        let mut id = [0; ID_BYTES];
        let sealing = LockedKey::filled(|sealing| {
            expand(&[], key, ID_PURPOSE, &mut id)
                .and_then(|()| expand(&[], key, SEAL_PURPOSE, sealing))
                .ok_or(LockedKeyError::Memory(std::io::ErrorKind::InvalidInput.into()))
        })?;
        Ok(Self(Arc::new(Kind::Local { id: hex(&id), sealing })))
    }

    /// A key that a service holds.
    pub fn service(service: Arc<dyn KeyService>, key: impl Into<String>) -> Self {
        let key = key.into();
        Self(Arc::new(Kind::Service { key, service }))
    }

    /// Names the key, for messages and for the header of a store: 16 hex digits, or `service:MOUNT/NAME`.
    pub fn id(&self) -> String {
        match &*self.0 {
            Kind::Local { id, .. } => id.clone(),
            Kind::Service { key, service } => format!("{SERVICE}{}/{key}", service.mount()),
        }
    }

    /// Whether a store may mean this key by an id. Older stores say `service:NAME`, which a key of two engines can be: only
    /// the service knows then.
    pub(crate) fn may_be(&self, id: &str) -> bool {
        match &*self.0 {
            Kind::Local { id: own, .. } => own == id,
            Kind::Service { key, .. } => id == self.id() || id.strip_prefix(SERVICE) == Some(key.as_str()),
        }
    }

    /// Whether an id is that of a key of this name in another engine. It is this one if the engine has moved: only the service
    /// knows.
    pub(crate) fn may_have_been(&self, id: &str) -> bool {
        match &*self.0 {
            Kind::Local { .. } => false,
            Kind::Service { key, .. } => {
                let mount = id.strip_prefix(SERVICE).and_then(|id| id.strip_suffix(key.as_str()));
                id != self.id() && mount.is_some_and(|mount| mount.ends_with('/'))
            }
        }
    }

    /// Whether it is kept out of swap; a key in a service is not in this process at all.
    pub(crate) fn is_locked(&self) -> bool {
        match &*self.0 {
            Kind::Local { sealing, .. } => sealing.is_locked(),
            Kind::Service { .. } => true,
        }
    }

    /// Seals a root key. `associated` says whose root key it is.
    pub(crate) fn seal(&self, root: &LockedKey, associated: &[u8], standing: Standing) -> Result<Vec<u8>, StoreError> {
        match &*self.0 {
            Kind::Local { sealing, .. } => {
                let mut nonce = [0; NONCE_BYTES];
                entropy::fill(&mut nonce)?;
                let mut body = *root.expose();
                let tag = Cipher::new(sealing.expose()).seal(&nonce, associated, &mut body);
                let tag = tag.map_err(|_| StoreError::Corrupt { what: "a root key" })?;
                Ok([&nonce[..], &body, &tag].concat())
            }
            Kind::Service { key, service } => Ok(match standing {
                Standing::New => service.wrap(key, root.expose())?,
                Standing::Known => service.wrap_again(key, root.expose())?,
            }),
        }
    }

    /// Why no store is sealed under it for the first time, if a service knows a reason.
    pub(crate) fn unfit(&self) -> Result<Option<String>, KeyServiceError> {
        match &*self.0 {
            Kind::Local { .. } => Ok(None),
            Kind::Service { key, service } => service.unfit(key),
        }
    }

    /// Opens what [`MasterKey::seal`] made.
    pub(crate) fn open(&self, sealed: &[u8], associated: &[u8]) -> Result<LockedKey, StoreError> {
        let damaged = StoreError::Corrupt {
            what: "the root key in the keyring",
        };
        let plain = match &*self.0 {
            Kind::Local { sealing, .. } => {
                let Some((nonce, body)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
                    return Err(damaged);
                };
                let opened = Cipher::new(sealing.expose()).opened(nonce, associated, body);
                let Ok(root) = opened else { return Err(damaged) };
                Zeroizing::new(root)
            }
            Kind::Service { key, service } => service.unwrap(key, sealed)?,
        };
        LockedKey::filled(|root| {
            let whole = <&[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| damaged)?;
            root.copy_from_slice(whole);
            Ok(())
        })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// Lower-case hex. It has its size from the start: growing would leave copies of a key behind.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut text, byte| {
            text.extend(
                [byte >> 4, byte & 0xf]
                    .iter()
                    .filter_map(|half| char::from_digit((*half).into(), 16)),
            );
            text
        },
    )
}

/// The bytes of lower-case hex, and of nothing else.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' | b'a'..=b'f' => char::from(*byte).to_digit(16),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok())
        .collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_64_hex_digits() {
        let text = MasterKey::generate_text().unwrap();
        let key = MasterKey::from_text(text.as_bytes()).unwrap();
        let with_line_end = format!("{}\n", text.to_uppercase());
        assert_eq!(MasterKey::from_text(with_line_end.as_bytes()).unwrap().id(), key.id());
        let marked = format!("\u{feff}{}", *text);
        assert_eq!(MasterKey::from_text(marked.as_bytes()).unwrap().id(), key.id());
        assert_eq!(key.id().len(), 16);
        assert!(!text.contains(&key.id()), "the id is no part of the key");
        for (bad, digits) in [("", 0), ("00", 2), (&text[1..], 63), (&format!("{}0", *text), 65)] {
            let error = MasterKey::from_text(bad.as_bytes()).unwrap_err();
            assert!(
                error.to_string().contains(&format!("has {digits} characters")),
                "{error}"
            );
        }
        let error = MasterKey::from_text("g".repeat(64).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("not all are hex"), "{error}");
    }

    #[test]
    fn a_root_key_opens_under_its_master_key_and_for_its_store_alone() {
        let key = MasterKey::from_text("ab".repeat(32).as_bytes()).unwrap();
        let root = LockedKey::random().unwrap();
        let sealed = key.seal(&root, b"store", Standing::New).unwrap();
        assert_eq!(key.open(&sealed, b"store").unwrap().expose(), root.expose());
        assert!(key.open(&sealed, b"other").is_err());
        assert!(key.open(&sealed[..20], b"store").is_err());
        let other = MasterKey::from_text("ac".repeat(32).as_bytes()).unwrap();
        assert!(other.open(&sealed, b"store").is_err());
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
    }

    #[test]
    fn hex_is_strict() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        for bad in ["0", "0G", "FF", "ü"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
