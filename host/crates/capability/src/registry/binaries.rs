//! Components that are kept: one of each, for all who have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aral_contract::Digest;

use super::RegistryError;
use super::capability::Binary;

/// By the digest of their bytes, those that a registry has, that one has which was renewed from it, or that are called still.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<Digest, Weak<Binary>>>);

impl Kept {
    /// The one with these bytes.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Binary>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(digest).and_then(Weak::upgrade)
    }

    /// Keeps this one, unless somebody else has read the same in the meantime.
    pub(super) fn keep(&self, digest: Digest, binary: Binary) -> Arc<Binary> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = kept.get(&digest).and_then(Weak::upgrade) {
            return there;
        }
        kept.retain(|_, binary| binary.strong_count() > 0);
        let binary = Arc::new(binary);
        kept.insert(digest, Arc::downgrade(&binary));
        binary
    }
}

/// The sizes of components by where they are: of those that came from another registry, two may have the same bytes.
#[derive(Default)]
pub(super) struct Sizes(BTreeMap<*const Binary, u64>);

impl Sizes {
    pub(super) fn add(&mut self, binary: &Arc<Binary>) {
        self.0.insert(Arc::as_ptr(binary), binary.size_bytes());
    }

    pub(super) fn check(&self, bytes_max: u64) -> Result<(), RegistryError> {
        if self.0.values().copied().fold(0, u64::saturating_add) > bytes_max {
            return Err(RegistryError::FullOfBytes { bytes_max });
        }
        Ok(())
    }
}
