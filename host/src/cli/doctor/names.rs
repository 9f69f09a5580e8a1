//! Whether limits of the configuration are for a capability and a tier that there are. What cannot be read is told of elsewhere;
//! as long as it lacks, nobody knows all names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aral_capability::manifest;
use aral_contract::{Clock as _, Failure};
use aral_host::Warning;
use aral_host::config::Named;
use aral_persona::persona;
use aral_runtime::SystemClock;

use super::Check;
use crate::cli::configured::Configured;
use crate::cli::files;

const NAME: &str = "limits";

/// One line for each that is for nothing.
pub(super) fn checks(configured: &Configured) -> Vec<Check> {
    let told = configured.config.limits_for_nothing(&named(configured)).into_iter();
    told.map(|Warning { message, hint }| Check::warn(NAME, message, hint))
        .collect()
}

fn named(configured: &Configured) -> Named {
    let (config, trust, now) = (&configured.config, configured.trust(), SystemClock::new().now());
    let served = config.serve.iter().flat_map(|serve| serve.personas());
    Named {
        capabilities: of_all(config.manifests.iter(), |path| {
            let manifest = manifest::verify(&files::document(path)?, trust, now)?;
            Ok(manifest.body.ids().cloned().collect())
        }),
        tiers: of_all(config.personas.iter().chain(served), |path| {
            let persona = persona::verify(&files::document(path)?, trust, now)?;
            Ok(persona.body.tier.into_iter().collect())
        }),
    }
}

/// What all of these files name; none: there is no file, so that documents come in another way, or one cannot be read.
fn of_all<'a, T: Ord>(
    files: impl Iterator<Item = &'a PathBuf>,
    read: impl Fn(&Path) -> Result<Vec<T>, Failure>,
) -> Option<BTreeSet<T>> {
    let all: Vec<Vec<T>> = files.map(|path| read(path).ok()).collect::<Option<_>>()?;
    (!all.is_empty()).then(|| all.into_iter().flatten().collect())
}
