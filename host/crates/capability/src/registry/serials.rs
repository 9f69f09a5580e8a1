//! The highest manifest serial of each signer, so that an old manifest, still in its validity but withdrawn by a newer
//! one, cannot be brought back.

use std::collections::BTreeMap;

use aral_contract::KeyId;
use serde::{Deserialize, Serialize};

use super::RegistryError;

/// Highest serials, by signer. The host keeps them across runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serials {
    last: BTreeMap<KeyId, u64>,
}

impl Serials {
    /// Refuses a serial below the last one of the signer; the same one may come again. An unsigned manifest has nobody
    /// to count for.
    pub fn check(&self, signer: Option<KeyId>, serial: u64) -> Result<(), RegistryError> {
        let last = signer.and_then(|signer| Some((signer, *self.last.get(&signer)?)));
        match last {
            Some((signer, last)) if serial < last => Err(RegistryError::Serial { signer, serial, last }),
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers a serial, if it is higher.
    pub fn note(&mut self, signer: Option<KeyId>, serial: u64) {
        if let Some(signer) = signer {
            let last = self.last.entry(signer).or_default();
            *last = serial.max(*last);
        }
    }
}
