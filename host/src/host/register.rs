//! What a host may run: manifests that are registered, and capabilities that are withdrawn.

use std::path::Path;
use std::sync::{Arc, MutexGuard};

use aral_capability::manifest::{self, ManifestBody};
use aral_capability::registry::Serials;
use aral_capability::{Capability, Warning};
use aral_contract::document::Verified;
use aral_contract::event::LifecycleChange;
use aral_contract::{CapabilityId, EventKind, Failure};
use semver::Version;

use super::Host;
use crate::components::{Beside, Components, read_document};
use crate::reload::InForce;

/// A capability that was registered, with what was odd about it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The capability.
    pub capability: Arc<Capability>,
    /// What its author should look at, such as a permission that no import uses.
    pub warnings: Vec<Warning>,
}

impl Host {
    /// Registers all capabilities of a signed manifest (JSON, at most 4 MiB), or none of them. Has the compiler inspect each
    /// component that is new, and compiles nothing yet. With a state folder it waits for other processes that register, up to 5 s; in async code call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// `document.invalid`, `signature.invalid`, `document.stale` (also: a serial lower than one already admitted),
    /// `component.digest_mismatch`, `component.invalid`, `component.too_large`, `component.import_uncovered`,
    /// `host.internal` if the serials of earlier runs are damaged, `host.unavailable` if they cannot be read or if others change the rules and that takes more than 30 s, and
    /// whatever `components` fails with.
    pub fn register_manifest(&self, bytes: &[u8], components: Components<'_>) -> Result<Vec<Registered>, Failure> {
        self.noting_refusal("manifest", || {
            let manifest = manifest::verify(bytes, &self.dispatcher().trust(), self.0.clock.now())?;
            self.admit_manifest(&manifest, components)
        })
    }

    /// The same for a file; its components are `components/<SHA-256>.wasm` or `<SHA-256>.wasm` beside it.
    ///
    /// # Errors
    /// As [`Host::register_manifest`], and `config.invalid` if a file cannot be read.
    pub fn register_manifest_file(&self, path: &Path) -> Result<Vec<Registered>, Failure> {
        let beside = Beside::of(path)?;
        let registered = self.register_manifest(&read_document(path)?, &|entry| beside.component(entry));
        registered.map_err(|failure| failure.in_file(path))
    }

    /// Registers a manifest whatever its signature. For development: each use is recorded and warned about.
    ///
    /// # Errors
    /// As [`Host::register_manifest`], without `signature.invalid`.
    pub fn dangerous_register_unsigned_manifest(
        &self,
        bytes: &[u8],
        components: Components<'_>,
    ) -> Result<Vec<Registered>, Failure> {
        self.noting_refusal("manifest", || {
            let manifest = manifest::dangerous_accept_unsigned(bytes, self.0.clock.now())?;
            self.dispatcher()
                .warn_development(None, format!("manifest {} without a signature", manifest.digest));
            self.admit_manifest(&manifest, components)
        })
    }

    /// The same for a file, with components as in [`Host::register_manifest_file`].
    ///
    /// # Errors
    /// As [`Host::register_manifest_file`], without `signature.invalid`.
    pub fn dangerous_register_unsigned_manifest_file(&self, path: &Path) -> Result<Vec<Registered>, Failure> {
        let beside = Beside::of(path)?;
        let document = read_document(path)?;
        let registered = self.dangerous_register_unsigned_manifest(&document, &|entry| beside.component(entry));
        registered.map_err(|failure| failure.in_file(path))
    }

    /// Withdraws one version of a capability; says whether it was there. Calls that are under way go on.
    pub fn remove(&self, capability: &CapabilityId, version: &Version) -> bool {
        self.withdraw(&self.changing(), capability, version)
    }

    /// The same, which is refused if others change the rules and that takes long.
    pub(crate) fn remove_soon(&self, capability: &CapabilityId, version: &Version) -> Result<bool, Failure> {
        Ok(self.withdraw(&self.changing_soon()?, capability, version))
    }

    fn withdraw(&self, _changing: &MutexGuard<'_, InForce>, capability: &CapabilityId, version: &Version) -> bool {
        let removed = self.dispatcher().registry().remove(capability, version);
        if removed {
            self.record(EventKind::Lifecycle {
                change: LifecycleChange::Withdrawn,
                subject: format!("{capability} {version}"),
                digest: None,
            });
        }
        removed
    }

    pub(crate) fn admit_manifest(
        &self,
        manifest: &Verified<ManifestBody>,
        components: Components<'_>,
    ) -> Result<Vec<Registered>, Failure> {
        // What takes long comes first: neither a slow disk nor `components`, which is the caller's, keeps others from changing the rules.
        let read = self.dispatcher().registry().renewed(|_| true);
        let admitted = read.admit(manifest, components)?;
        let _changing = self.changing_soon()?;
        let dispatcher = self.dispatcher();
        let registry = dispatcher.registry();
        let (serial, signer) = (manifest.header.serial, manifest.signer);
        let locked = match &self.0.serials {
            Some(file) if signer.is_some() => Some(file.lock(&*self.0.clock)?),
            Some(_) | None => None,
        };
        let mut serials = locked
            .as_ref()
            .map_or_else(|| Ok(Serials::default()), |locked| locked.manifests())?;
        serials.check(signer, manifest.body.ids(), serial)?;
        // Everything that speaks against it does so here, where nothing is changed by it.
        registry.renewed(|_| true).adopt(manifest, &read)?;
        self.0.check_here()?;
        let known = serials.clone();
        serials.note(signer, manifest.body.ids(), serial);
        // Writing what is there already, safely, would take longer than a short call.
        if let Some(locked) = locked.filter(|_| serials != known) {
            locked.write_manifests(&serials)?;
        }
        registry.adopt(manifest, &read)?;
        Ok(admitted
            .into_iter()
            .map(|(capability, warnings)| self.registered(capability, warnings))
            .collect())
    }

    pub(crate) fn registered(&self, capability: Arc<Capability>, warnings: Vec<Warning>) -> Registered {
        let entry = &capability.entry;
        self.record(EventKind::CapabilityRegistered {
            capability: entry.id.clone(),
            version: entry.version.clone(),
            component: entry.component,
        });
        Registered { capability, warnings }
    }
}
