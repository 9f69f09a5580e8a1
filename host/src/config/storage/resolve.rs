//! From the file's shape to the program's: numbers in range, exactly one of each choice, and nothing that refers to what is
//! not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aral_contract::SecretReference;

use super::raw::{RawAppRole, RawEpoch, RawMasterKey, RawMemory, RawSecrets, RawVault};
use super::{
    APPROLE_MOUNT_DEFAULT, Credential, EPOCH_HOURS_DEFAULT, EpochConfig, FREE_BYTES_MIN_DEFAULT, MasterKeyPlace,
    MemoryConfig, SECRET_ENTRIES_MAX_DEFAULT, SECRET_TTL_MS_DEFAULT, STORE_CACHE_BYTES_MAX_DEFAULT, SWEEP_MS_DEFAULT,
    SecretsConfig, StorageError, VAULT_TIMEOUT_MS_DEFAULT, VaultConfig, VaultLogin,
};
use crate::config::range::between;
use crate::config::{ConfigError, authorities};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) const MASTER_KEY: &str = "[memory.master_key]";
const VAULT: &str = "[secrets.vault]";
const APPROLE: &str = "[secrets.vault.approle]";

/// Both tables as a program wants them.
#[derive(Debug, Clone, Default)]
pub(in crate::config) struct Resolved {
    pub(in crate::config) memory: Option<MemoryConfig>,
    pub(in crate::config) secrets: Option<SecretsConfig>,
}

/// Resolves both; they refer to each other.
pub(in crate::config) fn resolve(
    memory: Option<RawMemory>,
    secrets: Option<RawSecrets>,
    state_dir: Option<&Path>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Resolved, ConfigError> {
    let memory = memory.map(|raw| self::memory(raw, state_dir, beside)).transpose()?;
    let secrets = secrets.map(|raw| self::secrets(raw, beside)).transpose()?;
    let resolved = Resolved { memory, secrets };
    consistent(&resolved)?;
    Ok(resolved)
}

fn memory(
    raw: RawMemory,
    state_dir: Option<&Path>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<MemoryConfig, ConfigError> {
    let below = || state_dir.map(|state| state.join("memory"));
    let dir = raw.dir.map(beside).or_else(below).ok_or(StorageError::NoFolder)?;
    Ok(MemoryConfig {
        dir,
        cache_bytes_max: between(
            "[memory] cache_bytes_max",
            raw.cache_bytes_max.unwrap_or(STORE_CACHE_BYTES_MAX_DEFAULT),
            (1 << 20, 1 << 40),
        )?,
        free_bytes_min: raw.free_bytes_min.unwrap_or(FREE_BYTES_MIN_DEFAULT),
        sweep_ms: between(
            "[memory] sweep_ms",
            raw.sweep_ms.unwrap_or(SWEEP_MS_DEFAULT),
            (1, DAY_MS),
        )?,
        master_key: master_key(raw.master_key, beside)?,
        epoch: raw.epoch.map(epoch).transpose()?,
    })
}

fn master_key(raw: RawMasterKey, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<MasterKeyPlace, StorageError> {
    match (raw.file, raw.environment, raw.transit) {
        (Some(file), None, None) => Ok(MasterKeyPlace::File(beside(file))),
        (None, Some(name), None) => variable("[memory.master_key] environment", name).map(MasterKeyPlace::Environment),
        (None, None, Some(transit)) => Ok(MasterKeyPlace::Transit {
            mount: segment("[memory.master_key] transit.mount", transit.mount)?,
            key: segment("[memory.master_key] transit.key", transit.key)?,
        }),
        (file, environment, transit) => Err(StorageError::OneOf {
            table: MASTER_KEY,
            keys: "`file`, `environment` and `transit`",
            found: count([file.is_some(), environment.is_some(), transit.is_some()]),
        }),
    }
}

fn epoch(raw: RawEpoch) -> Result<EpochConfig, ConfigError> {
    Ok(EpochConfig {
        mount: segment("[memory.epoch] transit.mount", raw.transit.mount)?,
        prefix: segment("[memory.epoch] transit.prefix", raw.transit.prefix)?,
        hours: between(
            "[memory.epoch] hours",
            raw.hours.unwrap_or(EPOCH_HOURS_DEFAULT),
            (1, 8760),
        )?,
    })
}

fn secrets(raw: RawSecrets, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<SecretsConfig, ConfigError> {
    Ok(SecretsConfig {
        cache_ttl_ms: between(
            "[secrets] cache_ttl_ms",
            raw.cache_ttl_ms.unwrap_or(SECRET_TTL_MS_DEFAULT),
            (0, DAY_MS),
        )?,
        cache_entries_max: between(
            "[secrets] cache_entries_max",
            raw.cache_entries_max.unwrap_or(SECRET_ENTRIES_MAX_DEFAULT),
            (1, 100_000),
        )?,
        names: raw.names,
        vault: raw.vault.map(|raw| vault(raw, beside)).transpose()?,
    })
}

fn vault(raw: RawVault, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<VaultConfig, ConfigError> {
    let token = credential(
        raw.token_file,
        raw.token_environment,
        "[secrets.vault] token_environment",
        beside,
    )?;
    let login = match (token, raw.approle) {
        (Found::One(token), None) => VaultLogin::Token(token),
        (Found::None, Some(role)) => app_role(role, beside)?,
        (token, role) => {
            let found = token.count().saturating_add(count([role.is_some(), false, false]));
            let keys = "`token_file`, `token_environment` and `approle`";
            return Err(StorageError::OneOf {
                table: VAULT,
                keys,
                found,
            }
            .into());
        }
    };
    let timeout_ms = raw.timeout_ms.unwrap_or(VAULT_TIMEOUT_MS_DEFAULT);
    Ok(VaultConfig {
        address: raw.address,
        namespace: raw.namespace,
        ca_pem: authorities(VAULT, raw.ca_file, beside)?,
        timeout_ms: between("[secrets.vault] timeout_ms", timeout_ms, (1, 600_000))?,
        login,
    })
}

fn app_role(raw: RawAppRole, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<VaultLogin, StorageError> {
    let key = "[secrets.vault.approle] secret_id_environment";
    let secret_id = match credential(raw.secret_id_file, raw.secret_id_environment, key, beside)? {
        Found::One(credential) => credential,
        other @ (Found::None | Found::Both) => {
            return Err(StorageError::OneOf {
                table: APPROLE,
                keys: "`secret_id_file` and `secret_id_environment`",
                found: other.count(),
            });
        }
    };
    Ok(VaultLogin::AppRole {
        mount: raw.mount.unwrap_or_else(|| APPROLE_MOUNT_DEFAULT.to_owned()),
        role_id: raw.role_id,
        secret_id,
    })
}

enum Found {
    None,
    One(Credential),
    Both,
}

impl Found {
    fn count(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Both => 2,
        }
    }
}

fn credential(
    file: Option<PathBuf>,
    environment: Option<String>,
    key: &'static str,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Found, StorageError> {
    Ok(match (file, environment) {
        (Some(file), None) => Found::One(Credential::File(beside(file))),
        (None, Some(name)) => Found::One(Credential::Environment(variable(key, name)?)),
        (None, None) => Found::None,
        (Some(_), Some(_)) => Found::Both,
    })
}

/// What is named must be there.
fn consistent(resolved: &Resolved) -> Result<(), StorageError> {
    let (memory, secrets) = (&resolved.memory, &resolved.secrets);
    let no_vault = |what: &str| StorageError::NoVault { what: what.to_owned() };
    if secrets.as_ref().is_none_or(|secrets| secrets.vault.is_none())
        && let Some(memory) = memory
    {
        if matches!(memory.master_key, MasterKeyPlace::Transit { .. }) {
            return Err(no_vault("[memory.master_key] transit"));
        }
        if memory.epoch.is_some() {
            return Err(no_vault("[memory.epoch]"));
        }
    }
    let Some(secrets) = secrets else { return Ok(()) };
    for (name, reference) in &secrets.names {
        match reference {
            SecretReference::Vault { .. } if secrets.vault.is_none() => {
                return Err(no_vault(&format!("[secrets.names] {name}")));
            }
            SecretReference::Local { .. } if memory.is_none() => {
                return Err(StorageError::NoMemory { name: name.clone() });
            }
            SecretReference::Vault { .. } | SecretReference::Local { .. } | SecretReference::Environment { .. } => {}
        }
    }
    Ok(())
}

/// The variables that both tables name: secrets, or keys to them.
pub(in crate::config) fn variables(memory: Option<&MemoryConfig>, secrets: Option<&SecretsConfig>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(MasterKeyPlace::Environment(name)) = memory.map(|memory| &memory.master_key) {
        names.insert(name.clone());
    }
    let Some(secrets) = secrets else { return names };
    names.extend(secrets.names.values().filter_map(|reference| match reference {
        SecretReference::Environment { variable } => Some(variable.clone()),
        SecretReference::Vault { .. } | SecretReference::Local { .. } => None,
    }));
    let login = secrets.vault.as_ref().map(|vault| &vault.login);
    if let Some(
        VaultLogin::Token(Credential::Environment(name))
        | VaultLogin::AppRole {
            secret_id: Credential::Environment(name),
            ..
        },
    ) = login
    {
        names.insert(name.clone());
    }
    names
}

fn count(found: [bool; 3]) -> usize {
    found.into_iter().filter(|found| *found).count()
}

/// The same rule as that of `env://VARIABLE`.
pub(in crate::config) fn variable(key: &'static str, value: String) -> Result<String, StorageError> {
    match format!("env://{value}").parse::<SecretReference>() {
        Ok(_) => Ok(value),
        Err(_) => Err(StorageError::Variable { key }),
    }
}

/// A part of a path of the server, which nothing can lead out of.
fn segment(key: &'static str, value: String) -> Result<String, StorageError> {
    let wanted = "one part of a path: A-Z a-z 0-9 - _ .";
    match format!("vault://{value}/p#f").parse::<SecretReference>() {
        Ok(SecretReference::Vault { mount, .. }) if mount == value => Ok(value),
        Ok(_) | Err(_) => Err(StorageError::Name { key, value, wanted }),
    }
}
