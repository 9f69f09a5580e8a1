//! The highest manifest serial of each capability, by signer, so that an old manifest, still in its validity but
//! withdrawn by a newer one, cannot be brought back. Counted for each capability, since one key may sign several
//! manifests that know nothing of each other's serials.

use std::collections::BTreeMap;

use aral_contract::{CapabilityId, KeyId};
use serde::{Deserialize, Serialize};

use super::RegistryError;

/// Highest serials, by signer and capability. The host keeps them across runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serials {
    last: BTreeMap<KeyId, BTreeMap<CapabilityId, u64>>,
}

impl Serials {
    /// Refuses a manifest whose serial is below the last one that the signer issued for one of its capabilities; the
    /// same one may come again. An unsigned manifest has nobody to count for.
    pub fn check<'a>(
        &self,
        signer: Option<KeyId>,
        capabilities: impl IntoIterator<Item = &'a CapabilityId>,
        serial: u64,
    ) -> Result<(), RegistryError> {
        let Some((signer, known)) = signer.and_then(|signer| Some((signer, self.last.get(&signer)?))) else {
            return Ok(());
        };
        for id in capabilities {
            match known.get(id) {
                Some(last) if serial < *last => {
                    let (id, last) = (id.clone(), *last);
                    return Err(RegistryError::Serial {
                        signer,
                        id,
                        serial,
                        last,
                    });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// The serial of a newer issue of a manifest that `others` have, if these know one of its capabilities and no newer issue.
    pub(super) fn replaced_in<'a>(
        &self,
        others: &Self,
        signer: Option<KeyId>,
        capabilities: impl IntoIterator<Item = &'a CapabilityId>,
        serial: u64,
    ) -> Option<u64> {
        let signer = signer?;
        let (own, others) = (self.last.get(&signer)?, others.last.get(&signer)?);
        let mut newest: Option<u64> = None;
        for id in capabilities {
            match own.get(id) {
                Some(last) if *last > serial => return None,
                Some(_) => newest = newest.max(others.get(id).copied().filter(|last| *last > serial)),
                None => {}
            }
        }
        newest
    }

    /// Remembers a serial for these capabilities, where it is higher.
    pub fn note<'a>(
        &mut self,
        signer: Option<KeyId>,
        capabilities: impl IntoIterator<Item = &'a CapabilityId>,
        serial: u64,
    ) {
        let Some(signer) = signer else { return };
        let known = self.last.entry(signer).or_default();
        for id in capabilities {
            let last = known.entry(id.clone()).or_default();
            *last = serial.max(*last);
        }
    }
}
