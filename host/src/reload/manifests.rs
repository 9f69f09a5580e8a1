//! The manifests that a configuration names: those that it believes, and those that hold no longer.

use std::path::{Path, PathBuf};

use aral_capability::registry::{Admitted, RegistryError, Serials};
use aral_capability::{Registry, manifest};
use aral_contract::document::TrustStore;
use aral_contract::document::signed::Kind;
use aral_contract::{CapabilityId, Code, Digest, Failure};
use jiff::Timestamp;

use super::master_key::ADVICE_WAIT;
use super::serials::{Known, replaced};
use super::{InForce, Lapse, Manifest, lapsed};
use crate::components::{Beside, in_table, read_document};
use crate::config::Config;
use crate::host::{Host, Registered};

/// The manifests that a configuration names.
#[derive(Default)]
pub(super) struct Manifests {
    /// Those that are believed, with their files.
    pub(super) believed: Vec<(PathBuf, Manifest)>,
    /// Those that were believed when they were taken, and hold no longer.
    pub(super) lapsed: Vec<Digest>,
    /// These, with the reasons.
    pub(super) lapses: Vec<Lapse>,
}

impl Manifests {
    /// `old` is what is admitted now.
    pub(super) fn read(
        config: &Config,
        trust: &TrustStore,
        now: Timestamp,
        in_force: &InForce,
        old: &Registry,
        known: &Known<'_>,
    ) -> Result<Self, Failure> {
        let (mut named, mut verified) = (Self::default(), Vec::new());
        for path in &config.manifests {
            let bytes = read_document(path).map_err(|failure| in_table("manifests", failure))?;
            match manifest::verify(&bytes, trust, now) {
                Ok(manifest) => verified.push((path.clone(), manifest)),
                Err(error) => {
                    let there = lapsed(Kind::Manifest, &bytes, &error);
                    let Some(digest) = there.filter(|digest| in_force.manifests.contains(digest)) else {
                        return Err(in_table("manifests", Failure::from(error).in_file(path)));
                    };
                    named.lapse(path, digest, error.to_string());
                }
            }
        }
        refuse_older_issues(&verified)?;
        for (path, manifest) in verified {
            // What was taken and replaced since, elsewhere or by what was registered here, keeps no newer rule from holding.
            let elsewhere = old.replaced_by(&manifest, known.manifests()).map(replaced);
            let here = || {
                let taken = in_force.manifests.contains(&manifest.digest);
                taken.then(|| old.has_newer(&manifest)).flatten().map(registered)
            };
            match elsewhere.or_else(here) {
                Some(reason) => named.lapse(&path, manifest.digest, reason),
                None => named.believed.push((path, manifest)),
            }
        }
        Ok(named)
    }

    fn lapse(&mut self, path: &Path, digest: Digest, reason: String) {
        self.lapsed.push(digest);
        self.lapses.push((format!("manifest `{}`", path.display()), reason));
    }

    /// A registry with these, and with what was registered in another way; and what is new in it.
    pub(super) fn admit(
        &self,
        in_force: &InForce,
        old: &Registry,
        known: &Known<'_>,
    ) -> Result<(Registry, Vec<Admitted>), Failure> {
        let registry = old.renewed(|capability| {
            let digest = capability.manifest_digest();
            !in_force.manifests.contains(&digest) && !self.lapsed.contains(&digest)
        });
        let mut admitted = Vec::new();
        for (path, manifest) in &self.believed {
            let new = admit(manifest, path, old, &registry, known);
            admitted.extend(new.map_err(|failure| in_table("manifests", failure.in_file(path)))?);
        }
        Ok((registry, admitted))
    }
}

impl Host {
    /// Registers the manifests that the configuration names at a start.
    pub(crate) fn register_configured(&self, files: &[PathBuf]) -> Result<Vec<Registered>, Failure> {
        let (trust, now) = (self.dispatcher().trust(), self.0.clock.now());
        let mut named = Vec::new();
        for path in files {
            let bytes = read_document(path).map_err(|failure| in_table("manifests", failure))?;
            let verified = self.noting_refusal("manifest", || Ok(manifest::verify(&bytes, &trust, now)?));
            let verified = verified.map_err(|failure| in_table("manifests", failure.in_file(path)))?;
            named.push((path.clone(), verified));
        }
        self.noting_refusal("manifest", || refuse_older_issues(&named))?;
        let mut registered = Vec::new();
        for (path, manifest) in &named {
            let new = self.noting_refusal("manifest", || {
                let beside = Beside::of(path)?;
                self.admit_manifest(manifest, &|entry| beside.component(entry))
            });
            registered.extend(new.map_err(|failure| in_table("manifests", failure.in_file(path)))?);
        }
        Ok(registered)
    }

    /// The files of manifests that the configuration names.
    pub(crate) fn named_manifests(&self) -> Result<Vec<PathBuf>, Failure> {
        let in_force = self.changing_soon()?;
        let named = in_force.config.as_deref().map(|config| config.manifests.clone());
        Ok(named.unwrap_or_default())
    }

    /// What to say of each of these files that has, as it is now, an older issue of one of these capabilities than was registered here.
    /// What is no valid manifest is told when it is taken. A file may lie on a disk that hangs, and nobody waits for that.
    pub(crate) fn outdated(&self, named: Vec<PathBuf>, ids: &[CapabilityId]) -> Vec<String> {
        if named.is_empty() {
            return Vec::new();
        }
        let (trust, now) = (self.dispatcher().trust(), self.0.clock.now());
        let look = move || {
            let read = |path: PathBuf| {
                let bytes = read_document(&path).ok()?;
                let manifest = manifest::verify(&bytes, &trust, now).ok()?;
                Some((path, manifest))
            };
            named.into_iter().filter_map(read).collect::<Vec<(PathBuf, Manifest)>>()
        };
        let Ok(found) = self.0.advice.ask(ADVICE_WAIT, look) else {
            return vec![format!(
                "whether [manifests] names an older issue is not known: its files were not read within {} s",
                ADVICE_WAIT.as_secs()
            )];
        };
        let dispatcher = self.dispatcher();
        let words = found.iter().filter_map(|(path, manifest)| {
            let last = dispatcher.registry().has_newer(manifest)?;
            let is_meant = manifest.body.ids().any(|id| ids.contains(id));
            is_meant.then(|| outdated(path, manifest.header.serial, last, self.0.serials.is_some()))
        });
        words.collect()
    }
}

/// What to say of a file with an older issue. `is_kept` says whether the next start knows of the newer one.
fn outdated(path: &Path, serial: u64, last: u64, is_kept: bool) -> String {
    let path = path.display();
    let start = if is_kept { ", and the next start fails" } else { "" };
    format!(
        "`{path}`, which [manifests] names, has serial {serial}, and serial {last} was registered: the next `aral reload` does not take \
         that file{start}. Name the newer manifest there; or to go back, `aral manifest sign {path} --key KEY.pem`, then `aral reload`"
    )
}

/// Refuses a manifest beside a newer issue of it, whatever their order: it would be taken once, and be refused when the files are read
/// again.
///
/// # Errors
/// [`Code::DocumentStale`], with both files.
pub fn refuse_older_issues(named: &[(PathBuf, Manifest)]) -> Result<(), Failure> {
    let mut newest = Serials::default();
    for (_, manifest) in named {
        newest.note(manifest.signer, manifest.body.ids(), manifest.header.serial);
    }
    for (path, manifest) in named {
        match newest.check(manifest.signer, manifest.body.ids(), manifest.header.serial) {
            Ok(()) => {}
            Err(RegistryError::Serial {
                signer,
                id,
                serial,
                last,
            }) => {
                let is_newer = |other: &Manifest| {
                    let same = other.signer == Some(signer) && other.header.serial == last;
                    same && other.body.ids().any(|one| *one == id)
                };
                let newer = named.iter().find(|(_, other)| is_newer(other));
                let newer = newer.map(|(path, _)| path.display().to_string()).unwrap_or_default();
                let message = format!(
                    "it has serial {serial}, and `{newer}`, which has `{id}` as well, has serial {last} by the same key"
                );
                let hint = format!(
                    "aral.toml, [manifests]: name one of them, or give both one serial: `aral manifest sign FILE --key KEY.pem --serial {last}`"
                );
                let failure = Failure::new(Code::DocumentStale, message).with_hint(hint);
                return Err(in_table("manifests", failure.in_file(path)));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// Why a manifest that the configuration names holds no longer, after a newer issue of it was taken here in another way.
fn registered(last: u64) -> String {
    format!(
        "an issue of it with serial {last} was registered here: name that one instead in `[manifests]`, also for the next start"
    )
}

/// One manifest into the new registry; what is new in it.
fn admit(
    manifest: &Manifest,
    path: &Path,
    old: &Registry,
    new: &Registry,
    known: &Known<'_>,
) -> Result<Vec<Admitted>, Failure> {
    known
        .manifests()
        .check(manifest.signer, manifest.body.ids(), manifest.header.serial)?;
    if new.adopt(manifest, old)? {
        return Ok(Vec::new());
    }
    let beside = Beside::of(path)?;
    new.admit(manifest, &|entry| beside.component(entry))
}
