//! Whether the store opens, with the key that is configured, and whether the places of secrets answer.

use std::sync::Arc;

use aral_contract::{Failure, SecretReference};
use aral_host::Storage;
use aral_host::storage::{opening_failure, quoted, store_failure};
use aral_memory::StoreError;
use aral_memory::sealed::{SealedStore, Status};
use aral_runtime::SystemClock;

use super::{Check, lacking};
use crate::cli::configured::Configured;
use crate::cli::{files, session};

/// One line each for the store, the server of secrets and the variables, if they are configured; and for what manifests ask for where
/// they are not.
pub(super) fn checks(configured: &Configured) -> Vec<Check> {
    let config = &configured.config;
    let mut all = lacking::checks(configured);
    if config.memory.is_none() && config.secrets.is_none() {
        if all.is_empty() {
            all.push(Check::ok(
                "memory",
                "there is no [memory] and no [secrets], and no manifest asks for any",
            ));
        }
        return all;
    }
    let storage = match Storage::new(config, Arc::new(SystemClock::new())) {
        Ok(storage) => storage,
        Err(failure) => {
            all.push(failed("secrets", failure));
            return all;
        }
    };
    if config.memory.is_some() {
        all.push(memory(&storage));
    }
    if let Some(vault) = storage.vault() {
        all.push(match session::block_on(vault.check()) {
            Ok(Ok(())) => Check::ok("secrets", format!("{} answers and takes the login", vault.address())),
            Ok(Err(error)) => Check::fail(
                "secrets",
                error.to_string(),
                "look at address, ca_file and login of [secrets.vault], and whether the server runs and is unsealed",
            ),
            Err(failure) => failed("secrets", failure),
        });
    }
    all.extend(variables(configured));
    all
}

fn memory(storage: &Storage) -> Check {
    let options = match storage.options() {
        Ok(options) => options,
        Err(failure) => return failed("memory", failure),
    };
    let shown = options.path.display().to_string();
    if files::is_absent(&options.path) {
        return Check::ok(
            "memory",
            format!(
                "`{shown}` is not there yet; the first use makes it, with the key {}",
                options.key.id()
            ),
        );
    }
    let (given, dir) = (options.key.id(), options.path.clone());
    let free_bytes_min = options.free_bytes_min;
    let wanted = SealedStore::keys_wanted(&options.path)
        .ok()
        .flatten()
        .unwrap_or_default();
    match SealedStore::open(options).and_then(|store| store.status()) {
        Ok(status) => opened(&shown, &status, free_bytes_min),
        // Whoever has it goes on after a rotation, and its next start fails.
        Err(StoreError::Held { .. }) if is_other(&given, &wanted) => failed(
            "memory",
            store_failure(StoreError::WrongKey {
                wanted: quoted(&wanted),
                given,
                service: None,
            }),
        ),
        Err(error @ StoreError::Held { .. }) => Check::warn(
            "memory",
            error.to_string(),
            "nothing, if that process is your host: one process at a time has the store",
        ),
        Err(error) => failed("memory", opening_failure(error, &dir)),
    }
}

/// Whether a key is none of those that the store wants, as far as their ids say so: which of those that a service holds is meant, the
/// service alone may know.
fn is_other(given: &str, wanted: &[String]) -> bool {
    const SERVICE: &str = "service:";
    let may_be = |wanted: &String| wanted == given || (given.starts_with(SERVICE) && wanted.starts_with(SERVICE));
    !wanted.is_empty() && !wanted.iter().any(may_be)
}

/// What a store says of itself that opens.
fn opened(shown: &str, status: &Status, free_bytes_min: u64) -> Check {
    let free = status.free_bytes;
    if free < free_bytes_min {
        return Check::warn(
            "memory",
            format!("`{shown}` takes nothing new: its disk has {free} bytes free, less than {free_bytes_min}"),
            "make room on its disk, or lower [memory] free_bytes_min in aral.toml",
        );
    }
    match status.keys.as_slice() {
        keys if !status.is_rotating => {
            Check::ok("memory", format!("`{shown}` opens with the key {}", keys.join(" or ")))
        }
        // Under the same key: there is no other one to name.
        [_] => Check::warn(
            "memory",
            format!("`{shown}`: a new epoch was begun, and the one before is not ended"),
            "a host that runs ends it by itself; without one: `aral memory rotate-epoch`",
        ),
        _ => Check::warn(
            "memory",
            format!("`{shown}`: a rotation to another key was begun and not ended"),
            "start it again: `aral memory rotate-key --to FILE`, with the same key",
        ),
    }
}

/// Variables that secrets are read from, and that are not set.
fn variables(configured: &Configured) -> Option<Check> {
    let (secrets, taken) = (configured.config.secrets.as_ref()?, configured.config.taken.as_ref()?);
    let missing: Vec<&str> = secrets
        .names
        .values()
        .filter_map(|reference| match reference {
            SecretReference::Environment { variable } => Some(variable.as_str()),
            SecretReference::Vault { .. } | SecretReference::Local { .. } => None,
        })
        .filter(|variable| taken.get(variable).is_none())
        .collect();
    (!missing.is_empty()).then(|| {
        Check::warn(
            "variables",
            format!("not set: {}", missing.join(", ")),
            "set them for the host, or take their names out of [secrets.names]",
        )
    })
}

fn failed(name: &'static str, failure: Failure) -> Check {
    let otherwise = format!(
        "what it says stands in [memory] or [secrets] of aral.toml; docs/errors.md has {}",
        failure.code
    );
    Check::failed(name, failure, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_service_holds_may_be_another_one_that_it_holds() {
        let wanted = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        for (given, keys, other) in [
            ("aa", &["aa"][..], false),
            ("aa", &["bb", "aa"], false),
            ("aa", &["bb"], true),
            ("aa", &["service:t/k"], true),
            ("service:t/k", &["bb"], true),
            ("service:t/k", &["service:k"], false),
            ("aa", &[], false),
        ] {
            assert_eq!(is_other(given, &wanted(keys)), other, "{given} {keys:?}");
        }
    }

    #[test]
    fn a_disk_without_the_room_that_is_wanted_is_told_of() {
        let status = Status {
            store: "00".repeat(16),
            format: 1,
            keys: vec!["one".to_owned()],
            is_rotating: false,
            is_under_way: false,
            epochs: Vec::new(),
            slots_used: 0,
            slots: 0,
            free_bytes: 7,
        };
        assert!(opened("store", &status, 7).fix.is_none());
        let fix = opened("store", &status, 8).fix.unwrap();
        assert!(fix.contains("[memory] free_bytes_min"), "{fix}");
    }

    #[test]
    fn what_was_begun_and_not_ended_is_ended_by_the_verb_that_began_it() {
        let check = |keys: &[&str], is_rotating| {
            let status = Status {
                store: "00".repeat(16),
                format: 1,
                keys: keys.iter().map(|key| (*key).to_owned()).collect(),
                is_rotating,
                is_under_way: false,
                epochs: Vec::new(),
                slots_used: 0,
                slots: 0,
                free_bytes: 0,
            };
            opened("store", &status, 0)
        };
        assert!(check(&["one"], false).fix.is_none());
        let verb = |keys: &[&str]| check(keys, true).fix.unwrap();
        assert!(verb(&["one"]).contains("`aral memory rotate-epoch`"));
        assert!(verb(&["one", "two"]).contains("`aral memory rotate-key --to FILE`"));
    }
}
