//! The key of the cache's MACs: 32 random bytes in a private file. Of several processes that start at once on a new
//! machine, all end up with the same key.

use std::path::Path;

use zeroize::Zeroizing;

use super::CacheError;
use crate::{entropy, files};

const KEY_BYTES: usize = 32;

/// The key, erased when dropped. Prints as nothing.
pub(super) struct CacheKey(Zeroizing<[u8; KEY_BYTES]>);

impl CacheKey {
    /// Reads the key, or makes one if there is none.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, CacheError> {
        match files::read_private(path, KEY_BYTES as u64) {
            Err(error) if error.is_not_found() => {
                files::create_private_parent(path)?;
                let key = entropy::seed32()?;
                // Whoever comes second finds the first one's key, whole: the name appears with the content behind it.
                files::create_private_file(path, key.as_slice())?;
                Self::parse(path, &files::read_private(path, KEY_BYTES as u64)?)
            }
            Err(error) => Err(error.into()),
            Ok(bytes) => Self::parse(path, &bytes),
        }
    }

    /// The key as HMAC takes it: filled up with zeros to a block of SHA-256.
    pub(super) fn block(&self) -> Zeroizing<[u8; 64]> {
        let mut block = Zeroizing::new([0; 64]);
        for (to, from) in block.iter_mut().zip(self.0.iter()) {
            *to = *from;
        }
        block
    }

    fn parse(path: &Path, bytes: &Zeroizing<Vec<u8>>) -> Result<Self, CacheError> {
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| CacheError::KeyMalformed {
            key_file: path.to_owned(),
        })?;
        Ok(Self(Zeroizing::new(key)))
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheKey")
    }
}
