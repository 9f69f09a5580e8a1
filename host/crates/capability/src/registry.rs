//! The capabilities that are admitted, several versions side by side. What is admitted here was signed by a trusted key
//! (or came through a door named `dangerous_`), is the component that its manifest names, and imports nothing that its
//! entry does not cover. Whether a persona and a policy allow it is for the layers above.

mod binaries;
mod capability;
mod error;
mod kept;
mod serials;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aral_contract::document::Verified;
use aral_contract::limits::COMPONENT_BYTES_MAX;
use aral_contract::{CapabilityId, Digest, Failure, Permissions};
use aral_runtime::{CompilerKind, Looker};
use semver::{Version, VersionReq};

use binaries::{Kept, Sizes};
use capability::Binary;
pub use capability::{Capability, compile_failure};
pub use error::RegistryError;
pub use kept::REGISTERED_KEPT_BYTES_MAX;
pub use serials::Serials;

use crate::imports::check::{Warning, check_imports};
use crate::inspect::{InspectError, Inspection, inspect_by};
use crate::manifest::build::{Compiler, no_line};
use crate::manifest::{Entry, ManifestBody, Shape};

/// Capabilities of all versions together. Stops manifests from filling memory one after the other.
pub const REGISTERED_MAX: usize = 4096;
/// Bytes of their components together, each of which counts once, however many capabilities have it, and with it the names of its
/// imports and exports. The same: 4096 of them could have 128 GiB. What is compiled of them is not in it.
pub const REGISTERED_BYTES_MAX: u64 = 2 << 30;

/// Compares the declared shape with what the component exports.
pub(crate) fn check_shape(id: &CapabilityId, declared: Shape, inspection: &Inspection) -> Result<(), RegistryError> {
    if inspection.shape == Some(declared) {
        return Ok(());
    }
    Err(RegistryError::Shape {
        id: id.clone(),
        declared,
        found: inspection.shape,
        exports: inspection.exports.iter().map(|export| export.name.clone()).collect(),
    })
}

/// The versions of one capability.
type Versions = BTreeMap<Version, Arc<Capability>>;

#[derive(Debug, Default)]
struct State {
    capabilities: BTreeMap<CapabilityId, Versions>,
    serials: Serials,
}

impl State {
    fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for capability in self.capabilities.values().flat_map(BTreeMap::values) {
            sizes.add(&capability.binary);
        }
        sizes
    }
}

/// The admitted capabilities. Shared by reference; looking one up takes a short lock and clones an `Arc`.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    kept: Arc<Kept>,
    bytes_max: u64,
    kept_max: kept::KeptMax,
    /// Who looks at components that are new.
    looker: Looker,
}

impl Default for Registry {
    /// Components are looked at in this process.
    fn default() -> Self {
        Self::inspecting_by(CompilerKind::InProcess)
    }
}

/// One admitted capability with what was odd about it.
pub type Admitted = (Arc<Capability>, Vec<Warning>);

/// What is asked of the imports of a component.
type CheckImports<'a> = &'a dyn Fn(&Inspection, &Permissions) -> Result<Vec<Warning>, Failure>;

impl Registry {
    /// An empty one, for which this one looks at components: see [`inspect_by`].
    pub fn inspecting_by(looker: impl Into<Looker>) -> Self {
        Self {
            state: Mutex::default(),
            kept: Arc::default(),
            bytes_max: REGISTERED_BYTES_MAX,
            kept_max: kept::KeptMax::default(),
            looker: looker.into(),
        }
    }

    /// Admits all capabilities of a manifest, or none. `components` hands out the bytes for an entry, and is asked once for each
    /// component. No component is compiled here, but the compiler looks at each of which its cache knows nothing, and this waits for
    /// it; schemas are, and are kept for all who call.
    pub fn admit(
        &self,
        manifest: &Verified<ManifestBody>,
        components: &dyn Fn(&Entry) -> Result<Vec<u8>, Failure>,
    ) -> Result<Vec<Admitted>, Failure> {
        self.admit_with(manifest, components, &check_imports)
    }

    /// The same for components that import more than their entries cover, to watch what they reach for: whatever the
    /// grant does not cover must be linked so that it is denied. For development.
    pub fn dangerous_admit_uncovered(
        &self,
        manifest: &Verified<ManifestBody>,
        components: &dyn Fn(&Entry) -> Result<Vec<u8>, Failure>,
    ) -> Result<Vec<Admitted>, Failure> {
        self.admit_with(manifest, components, &|_, _| Ok(Vec::new()))
    }

    fn admit_with(
        &self,
        manifest: &Verified<ManifestBody>,
        components: &dyn Fn(&Entry) -> Result<Vec<u8>, Failure>,
        check_imports: CheckImports<'_>,
    ) -> Result<Vec<Admitted>, Failure> {
        self.lock()
            .serials
            .check(manifest.signer, manifest.body.ids(), manifest.header.serial)?;
        let shared = Arc::new(manifest.clone());
        let mut sizes = self.lock().sizes();
        let mut fresh: BTreeMap<Digest, Arc<Binary>> = BTreeMap::new();
        let mut admitted = Vec::new();
        let mut compiler = Compiler::default();
        for entry in manifest.body.capabilities() {
            let binary = if let Some(binary) = fresh.get(&entry.component) {
                Arc::clone(binary)
            } else {
                let bytes = components(entry)?;
                check_bytes(entry, &bytes)?;
                let binary = match self.kept.find(&entry.component) {
                    Some(there) => there,
                    None => {
                        let inspection = inspect_by(&self.looker, &bytes)?;
                        self.kept.keep(entry.component, Binary::new(bytes, inspection))
                    }
                };
                fresh.insert(entry.component, Arc::clone(&binary));
                sizes.add(&binary);
                // Before the next one is read.
                sizes.check(self.bytes_max)?;
                binary
            };
            admitted.push(admit_one(&shared, entry, binary, check_imports, &mut compiler)?);
        }
        self.insert(&shared, &admitted)?;
        Ok(admitted)
    }

    /// Takes all or none; what was true before the components were read is checked again under the lock.
    fn insert(&self, manifest: &Verified<ManifestBody>, admitted: &[Admitted]) -> Result<(), RegistryError> {
        let mut state = self.lock();
        state
            .serials
            .check(manifest.signer, manifest.body.ids(), manifest.header.serial)?;
        let mut added = 0usize;
        for (capability, _) in admitted {
            let entry = &capability.entry;
            match state
                .capabilities
                .get(&entry.id)
                .and_then(|versions| versions.get(&entry.version))
            {
                None => added = added.saturating_add(1),
                Some(there) if there.entry.component == entry.component && there.signer() == capability.signer() => {}
                Some(_) => {
                    return Err(RegistryError::Taken {
                        id: entry.id.clone(),
                        version: entry.version.clone(),
                    });
                }
            }
        }
        let count: usize = state.capabilities.values().map(BTreeMap::len).sum();
        if count.saturating_add(added) > REGISTERED_MAX {
            return Err(RegistryError::Full);
        }
        let mut sizes = state.sizes();
        for (capability, _) in admitted {
            sizes.add(&capability.binary);
        }
        sizes.check(self.bytes_max)?;
        let there = state.capabilities.values().flat_map(BTreeMap::values);
        self.kept_max.check(there.chain(admitted.iter().map(|(one, _)| one)))?;
        for (capability, _) in admitted {
            let versions = state.capabilities.entry(capability.entry.id.clone()).or_default();
            versions.insert(capability.entry.version.clone(), Arc::clone(capability));
        }
        state
            .serials
            .note(manifest.signer, manifest.body.ids(), manifest.header.serial);
        Ok(())
    }

    /// A registry that begins with the capabilities of this one that `keep` says, and that knows the same serials: what was
    /// replaced stays replaced. A component that either has is kept once for both.
    #[must_use]
    pub fn renewed(&self, keep: impl Fn(&Capability) -> bool) -> Self {
        let state = self.lock();
        let mut capabilities: BTreeMap<CapabilityId, Versions> = BTreeMap::new();
        for capability in state.capabilities.values().flat_map(BTreeMap::values) {
            if keep(capability) {
                let entry = &capability.entry;
                let versions = capabilities.entry(entry.id.clone()).or_default();
                versions.insert(entry.version.clone(), Arc::clone(capability));
            }
        }
        Self {
            state: Mutex::new(State {
                capabilities,
                serials: state.serials.clone(),
            }),
            kept: Arc::clone(&self.kept),
            bytes_max: self.bytes_max,
            kept_max: self.kept_max,
            looker: self.looker.clone(),
        }
    }

    /// Admits the capabilities of a manifest that another registry has admitted already: the very same document, and so the
    /// very same components. Compiled code comes with them. False, and nothing is admitted: it has not.
    ///
    /// # Errors
    /// As [`Registry::admit`].
    pub fn adopt(&self, manifest: &Verified<ManifestBody>, from: &Self) -> Result<bool, RegistryError> {
        let found: Option<Vec<Admitted>> = {
            let state = from.lock();
            let find = |entry: &Entry| {
                let there = state.capabilities.get(&entry.id)?.get(&entry.version)?;
                let same = there.manifest_digest() == manifest.digest && there.signer() == manifest.signer;
                same.then(|| (Arc::clone(there), Vec::new()))
            };
            manifest.body.capabilities().iter().map(find).collect()
        };
        match found {
            Some(admitted) => self.insert(manifest, &admitted).map(|()| true),
            None => Ok(false),
        }
    }

    /// The serial of a newer issue of a manifest that `known` has, where this registry has admitted this issue or an older one and
    /// none that is newer: since then somebody else has replaced it.
    pub fn replaced_by(&self, manifest: &Verified<ManifestBody>, known: &Serials) -> Option<u64> {
        let (signer, serial) = (manifest.signer, manifest.header.serial);
        self.lock()
            .serials
            .replaced_in(known, signer, manifest.body.ids(), serial)
    }

    /// The serial of a newer issue of a manifest, if this registry has admitted one.
    pub fn has_newer(&self, manifest: &Verified<ManifestBody>) -> Option<u64> {
        let (signer, serial) = (manifest.signer, manifest.header.serial);
        match self.lock().serials.check(signer, manifest.body.ids(), serial) {
            Err(RegistryError::Serial { last, .. }) => Some(last),
            Ok(()) | Err(_) => None,
        }
    }

    /// The newest version that matches; without a requirement the newest release, or the newest pre-release if there is
    /// no other.
    pub fn find(&self, id: &CapabilityId, version: Option<&VersionReq>) -> Result<Arc<Capability>, Failure> {
        let state = self.lock();
        let Some(versions) = state.capabilities.get(id) else {
            return Err(Failure::from(RegistryError::Unknown { id: id.clone() }));
        };
        let newest = || versions.iter().rev();
        let found = match version {
            Some(wanted) => newest().find(|(version, _)| wanted.matches(version)),
            None => newest()
                .find(|(version, _)| version.pre.is_empty())
                .or_else(|| newest().next()),
        };
        match found {
            Some((_, capability)) => Ok(Arc::clone(capability)),
            None => Err(Failure::from(RegistryError::UnknownVersion {
                id: id.clone(),
                wanted: version.cloned().unwrap_or(VersionReq::STAR),
                known: versions.keys().cloned().collect(),
            })),
        }
    }

    /// All of them, by name and version.
    pub fn list(&self) -> Vec<Arc<Capability>> {
        let state = self.lock();
        state
            .capabilities
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    /// Withdraws one version; says whether it was there. Calls that are under way go on.
    pub fn remove(&self, id: &CapabilityId, version: &Version) -> bool {
        let mut state = self.lock();
        let Some(versions) = state.capabilities.get_mut(id) else {
            return false;
        };
        let removed = versions.remove(version).is_some();
        if versions.is_empty() {
            state.capabilities.remove(id);
        }
        removed
    }

    /// Nothing under the lock panics half-way through a change, so a poisoned state is still a whole one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these are the bytes that the entry names.
fn check_bytes(entry: &Entry, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Failure::from(InspectError::TooLarge { size: bytes.len() }));
    }
    let found = Digest::of(bytes);
    if found != entry.component {
        return Err(Failure::from(RegistryError::DigestMismatch {
            id: entry.id.clone(),
            version: entry.version.clone(),
            expected: Box::new(entry.component),
            found: Box::new(found),
        }));
    }
    Ok(())
}

/// Every check on one entry and what its component turned out to be, cheapest first.
fn admit_one(
    manifest: &Arc<Verified<ManifestBody>>,
    entry: &Entry,
    binary: Arc<Binary>,
    check_imports: CheckImports<'_>,
    compiler: &mut Compiler,
) -> Result<Admitted, Failure> {
    check_shape(&entry.id, entry.shape, &binary.inspection)?;
    let mut warnings = check_imports(&binary.inspection, &entry.permissions)?;
    warnings.extend(no_line(&entry.limits));
    let schemas = compiler.compile(entry)?;
    let capability = Capability::new(Arc::clone(manifest), entry.clone(), schemas, binary);
    Ok((Arc::new(capability), warnings))
}

#[cfg(test)]
mod tests;
