//! Keys in memory of their own: out of swap where the system allows it, out of core dumps, erased when dropped. It knows
//! no algorithm.

use std::fmt;
use std::io;

use crate::danger::LockedPage;
use crate::entropy::{self, EntropyError};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum LockedKeyError {
    /// The system gave no memory for it.
    #[error("the system gives no memory for a key")]
    Memory(#[source] io::Error),
    /// The system gave no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// 32 secret bytes on a page of their own. Prints nothing. Not to be cloned: whoever needs it shares it.
pub struct LockedKey(LockedPage);

impl LockedKey {
    /// A key that `fill` writes; what `fill` returns comes back with it.
    pub fn filled<E: From<LockedKeyError>>(
        fill: impl FnOnce(&mut [u8; KEY_BYTES]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut page = LockedPage::new().map_err(LockedKeyError::Memory)?;
        if let Some(key) = page.bytes_mut().first_chunk_mut() {
            fill(key)?;
        }
        Ok(Self(page))
    }

    /// A new key from the system's generator.
    pub fn random() -> Result<Self, LockedKeyError> {
        Self::filled(|key| Ok(entropy::fill(key)?))
    }

    /// The key in clear.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes().first_chunk().unwrap_or(&[0; KEY_BYTES])
    }

    /// Whether the system keeps it out of swap. It may refuse: see `ulimit -l`.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping that `address` lies in.
    #[expect(clippy::disallowed_methods, reason = "a test looks at its own process")]
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            if let Some((start, rest)) = line.split_once('-') {
                let end = rest.split(' ').next().unwrap_or_default();
                if let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)) {
                    inside = (start..end).contains(&address);
                }
            }
            if inside && line.starts_with("VmFlags:") {
                return format!("{line} ");
            }
        }
        panic!("no mapping holds {address:#x}");
    }

    #[test]
    fn a_key_is_kept_out_of_core_dumps_and_of_swap_where_the_system_allows_it() {
        let key = LockedKey::random().unwrap();
        let flags = flags(key.expose().as_ptr() as usize);
        assert!(flags.contains(" dd "), "{flags}");
        assert_eq!(flags.contains(" lo "), key.is_locked(), "{flags}");
    }

    #[test]
    fn keys_are_what_was_filled_in_and_print_nothing() {
        let key = LockedKey::filled(|key| {
            key.fill(7);
            Ok::<(), LockedKeyError>(())
        })
        .unwrap();
        assert_eq!(key.expose(), &[7; KEY_BYTES]);
        assert_eq!(format!("{key:?}"), "LockedKey");
        assert_ne!(
            LockedKey::random().unwrap().expose(),
            LockedKey::random().unwrap().expose()
        );
    }
}
