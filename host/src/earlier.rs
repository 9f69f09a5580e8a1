//! What a folder of state says of earlier runs, for whoever asks before there is a host. It writes nothing there.

use std::path::Path;

use aral_capability::manifest::ManifestBody;
use aral_capability::registry::Serials;
use aral_contract::Failure;
use aral_contract::document::Verified;
use aral_persona::Persona;

use crate::personas::check_serial;
use crate::serials::{PersonaSerials, SerialFile};

/// The highest serials that were admitted.
#[derive(Debug)]
pub struct Earlier {
    manifests: Serials,
    personas: PersonaSerials,
}

impl Earlier {
    /// Reads the files that a host with this folder of state reads. The folder is made where it is not there.
    ///
    /// # Errors
    /// `host.internal` for a file that is damaged; `host.unavailable` for one that cannot be read; `config.invalid` for a folder that cannot
    /// be used.
    pub fn read(state_dir: &Path) -> Result<Self, Failure> {
        let (manifests, personas) = SerialFile::open(state_dir)?.look()?;
        Ok(Self { manifests, personas })
    }

    /// Whether a host would take this issue of a manifest.
    ///
    /// # Errors
    /// `document.stale` for one that was replaced.
    pub fn check_manifest(&self, manifest: &Verified<ManifestBody>) -> Result<(), Failure> {
        let (signer, serial) = (manifest.signer, manifest.header.serial);
        Ok(self.manifests.check(signer, manifest.body.ids(), serial)?)
    }

    /// Whether a host would take this issue of a persona.
    ///
    /// # Errors
    /// `document.stale` for one that was replaced.
    pub fn check_persona(&self, persona: &Persona) -> Result<(), Failure> {
        Ok(check_serial(&self.personas, persona)?)
    }
}
