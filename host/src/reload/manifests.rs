//! The manifests that a configuration names: those that it believes, and those that hold no longer.

use std::path::{Path, PathBuf};

use aral_capability::registry::Admitted;
use aral_capability::{Registry, manifest};
use aral_contract::document::TrustStore;
use aral_contract::document::signed::Kind;
use aral_contract::{Digest, Failure};
use jiff::Timestamp;

use super::serials::{Known, replaced};
use super::{InForce, Lapse, Manifest, lapsed};
use crate::components::{Beside, in_file, in_table, read_document};
use crate::config::Config;

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
        let mut named = Self::default();
        for path in &config.manifests {
            let bytes = read_document(path).map_err(|failure| in_table("manifests", failure))?;
            let (digest, reason) = match manifest::verify(&bytes, trust, now) {
                // What was taken and replaced since, elsewhere or by what was registered here, keeps no newer rule from holding.
                Ok(manifest) => {
                    let elsewhere = old.replaced_by(&manifest, known.manifests()).map(replaced);
                    let here = || {
                        let taken = in_force.manifests.contains(&manifest.digest);
                        taken.then(|| old.has_newer(&manifest)).flatten().map(registered)
                    };
                    match elsewhere.or_else(here) {
                        Some(reason) => (manifest.digest, reason),
                        None => {
                            named.believed.push((path.clone(), manifest));
                            continue;
                        }
                    }
                }
                Err(error) => {
                    let there = lapsed(Kind::Manifest, &bytes, &error);
                    let Some(digest) = there.filter(|digest| in_force.manifests.contains(digest)) else {
                        return Err(in_table("manifests", in_file(path, error.into())));
                    };
                    (digest, error.to_string())
                }
            };
            named.lapsed.push(digest);
            named.lapses.push((format!("manifest `{}`", path.display()), reason));
        }
        Ok(named)
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
            admitted.extend(new.map_err(|failure| in_table("manifests", in_file(path, failure)))?);
        }
        Ok((registry, admitted))
    }
}

/// Why a manifest that the configuration names holds no longer, after a newer issue of it was taken here in another way.
fn registered(last: u64) -> String {
    format!(
        "an issue of it with serial {last} was registered here: name that in `[manifests]`, also for the next start"
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
