//! What the schemas of all admitted capabilities keep for `unevaluated…` keywords, together.

use std::collections::BTreeMap;
use std::sync::Arc;

use aral_contract::CapabilityId;
use semver::Version;

use super::{Capability, RegistryError};

/// Bytes that they may keep. The bound of one manifest says nothing of how many there are: stops many of them, of some KiB each, from
/// taking all memory.
pub const REGISTERED_KEPT_BYTES_MAX: u64 = 256 << 20;

/// How many bytes are kept for them at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptMax(pub(super) u64);

impl Default for KeptMax {
    fn default() -> Self {
        Self(REGISTERED_KEPT_BYTES_MAX)
    }
}

impl KeptMax {
    /// Whether these have room together. Of two that are the same version of one capability, the later takes the place of the other.
    pub(super) fn check<'a>(
        self,
        capabilities: impl IntoIterator<Item = &'a Arc<Capability>>,
    ) -> Result<(), RegistryError> {
        let kept: BTreeMap<(&CapabilityId, &Version), u64> = capabilities
            .into_iter()
            .map(|one| ((&one.entry.id, &one.entry.version), one.schemas.unevaluated_bytes()))
            .collect();
        if kept.into_values().fold(0, u64::saturating_add) > self.0 {
            return Err(RegistryError::FullOfKept(self.0));
        }
        Ok(())
    }
}
