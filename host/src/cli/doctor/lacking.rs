//! What manifests ask the store and the places of secrets for, and the configuration has no place for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aral_capability::manifest;
use aral_contract::id::SecretName;
use aral_contract::{Clock as _, Permission, SecretReference};
use aral_runtime::SystemClock;

use super::Check;
use crate::cli::configured::Configured;
use crate::cli::files;

/// A line each for records, for secrets, and for secrets whose place takes no new value. A manifest that cannot be read is told of
/// elsewhere.
pub(super) fn checks(configured: &Configured) -> Vec<Check> {
    let (config, trust, now) = (&configured.config, configured.trust(), SystemClock::new().now());
    let verified = |path: &PathBuf| manifest::verify(&files::document(path).ok()?, trust, now).ok();
    let manifests: Vec<_> = config.manifests.iter().filter_map(verified).collect();
    let entries = || manifests.iter().flat_map(|manifest| manifest.body.capabilities());
    let place = |name: &SecretName| config.secrets.as_ref().and_then(|one| one.names.get(name));
    let keeping = entries().filter(|entry| {
        let has = |permission| entry.permissions.has(permission);
        has(Permission::MemoryRead) || has(Permission::MemoryWrite)
    });
    let keeping: BTreeSet<&str> = keeping.map(|entry| entry.id.as_str()).collect();
    let read = entries().flat_map(|entry| entry.permissions.secret_read.iter().flat_map(|scope| &scope.secrets));
    let written = || entries().flat_map(|entry| entry.permissions.secret_write.iter().flat_map(|scope| &scope.names));
    let secrets = read.map(|secret| &secret.name).chain(written());
    let secrets: BTreeSet<&str> = secrets
        .filter(|&name| place(name).is_none())
        .map(SecretName::as_str)
        .collect();
    let fixed: BTreeSet<&str> = written()
        .filter(|&name| matches!(place(name), Some(SecretReference::Environment { .. })))
        .map(SecretName::as_str)
        .collect();
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    // With a store there is a place for records, and for each secret that is not named.
    let has_none = config.memory.is_none();
    let memory = (has_none && !keeping.is_empty()).then(|| {
        Check::warn(
            "memory",
            format!("there is no [memory], and these ask for records: {}", list(&keeping)),
            "`aral memory keygen master.key`, then in aral.toml, [memory.master_key]: file = \"master.key\"",
        )
    });
    let secrets = (has_none && !secrets.is_empty()).then(|| {
        Check::warn(
            "secrets",
            format!("manifests ask for these, and there is no place for them: {}", list(&secrets)),
            "aral.toml, [secrets.names]: a line for each, such as NAME = \"env://VARIABLE\" for what no capability stores, or [memory] to \
             store them here",
        )
    });
    let fixed = (!fixed.is_empty()).then(|| {
        Check::warn(
            "secrets",
            format!("manifests ask to store these, and a variable takes no new value: {}", list(&fixed)),
            "aral.toml, [secrets.names]: keep them at local:// or vault://, or take their lines out to store them in [memory]",
        )
    });
    memory.into_iter().chain(secrets).chain(fixed).collect()
}
