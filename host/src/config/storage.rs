//! `[memory]` and `[secrets]`, resolved: where records and secrets are kept, and where the keys to them come from. It reads
//! no key, opens no store and connects to nothing; it only says what the environment must be relieved of.

pub(super) mod raw;
mod resolve;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aral_contract::SecretReference;
use aral_contract::id::SecretName;

pub(super) use resolve::{resolve, variable, variables};

/// Memory that the store may use to cache, by default: 64 MiB.
pub const STORE_CACHE_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Free disk below which the store refuses to write, by default: 64 MiB.
pub const FREE_BYTES_MIN_DEFAULT: u64 = 64 << 20;
/// How often expired records are removed, by default.
pub const SWEEP_MS_DEFAULT: u64 = 1000;
/// How long an epoch key is used, by default.
pub const EPOCH_HOURS_DEFAULT: u64 = 24;
/// How long a secret is served from the cache, by default.
pub const SECRET_TTL_MS_DEFAULT: u64 = 60_000;
/// Secrets in the cache, by default.
pub const SECRET_ENTRIES_MAX_DEFAULT: u64 = 1024;
/// How long one request to a server of secrets may take, by default. Less than guests wait for a secret by default, `secret_ms`: a
/// server that hangs is then told as one that does not answer, and not as a limit of the guest.
pub const VAULT_TIMEOUT_MS_DEFAULT: u64 = 4000;
/// Where servers of secrets mount AppRole, by default.
pub const APPROLE_MOUNT_DEFAULT: &str = "approle";

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Folder of the store.
    pub dir: PathBuf,
    /// Memory that the store may use to cache, in bytes.
    pub cache_bytes_max: u64,
    /// Free disk below which it refuses to write, in bytes.
    pub free_bytes_min: u64,
    /// How often expired records are removed.
    pub sweep_ms: u64,
    /// Where the master key is.
    pub master_key: MasterKeyPlace,
    /// Epoch keys in a key service, for media on which overwriting is a wish.
    pub epoch: Option<EpochConfig>,
}

/// Where the master key is. It never stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeyPlace {
    /// In a private file: 64 hex digits.
    File(PathBuf),
    /// In a variable that is taken out of the environment at start: 64 hex digits.
    Environment(String),
    /// In the transit engine of the server of `[secrets.vault]`, which it never leaves.
    Transit {
        /// Path of the engine.
        mount: String,
        /// Name of the key.
        key: String,
    },
}

/// Epoch keys: made, rotated and destroyed in the transit engine of the server of `[secrets.vault]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochConfig {
    /// Path of the engine.
    pub mount: String,
    /// What the names of the keys begin with.
    pub prefix: String,
    /// How long one is used.
    pub hours: u64,
}

/// Where secrets are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsConfig {
    /// How long a value is served from the cache.
    pub cache_ttl_ms: u64,
    /// Values in the cache.
    pub cache_entries_max: u64,
    /// Where the named secrets are; every other lies in the local store under its own name.
    pub names: BTreeMap<SecretName, SecretReference>,
    /// The Vault-compatible server.
    pub vault: Option<VaultConfig>,
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self {
            cache_ttl_ms: SECRET_TTL_MS_DEFAULT,
            cache_entries_max: SECRET_ENTRIES_MAX_DEFAULT,
            names: BTreeMap::new(),
            vault: None,
        }
    }
}

/// A Vault-compatible server, and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultConfig {
    /// Its address, `https://…`.
    pub address: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Certificates to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long one request may take.
    pub timeout_ms: u64,
    /// How to log in.
    pub login: VaultLogin,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultLogin {
    /// With a token.
    Token(Credential),
    /// With a role and its secret id.
    AppRole {
        /// Path of the method.
        mount: String,
        /// The role.
        role_id: String,
        /// The secret id.
        secret_id: Credential,
    },
}

/// Where a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// In a private file.
    File(PathBuf),
    /// In a variable that is taken out of the environment at start.
    Environment(String),
}

/// Why `[memory]` or `[secrets]` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// None or several of which there must be one.
    #[error("{table} has {found} of {keys}, and must have exactly one")]
    OneOf {
        /// Which table.
        table: &'static str,
        /// Which keys.
        keys: &'static str,
        /// How many of them there are.
        found: usize,
    },
    /// No name of a variable. It is not shown: whoever errs here has often written the secret itself.
    #[error("{key} is not the name of a variable: A-Z a-z 0-9 _ and no digit first")]
    Variable {
        /// Which key.
        key: &'static str,
    },
    /// A text that names nothing.
    #[error("{key} = \"{}\" is not {wanted}", .value.escape_debug())]
    Name {
        /// Which key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// Something that needs a server, without one.
    #[error("{what} needs a server, and there is no [secrets.vault]")]
    NoVault {
        /// What needs it.
        what: String,
    },
    /// A secret in the local store, without one.
    #[error("[secrets.names] {name} lies in the local store, and there is no [memory]")]
    NoMemory {
        /// Which secret.
        name: SecretName,
    },
    /// The store would lie below the folder of state, which is nowhere.
    #[error("[memory] has no `dir`, and there is no state_dir that it could lie in")]
    NoFolder,
}

/// What names a server of secrets.
pub(crate) const VAULT_LINES: &str = "aral.toml, [secrets.vault]: address = \"https://…\" and token_file = \"token\"";

/// What makes a master key and names it.
pub(super) const MASTER_KEY_LINE: &str = "make one with `aral memory keygen master.key`, and name it in aral.toml, [memory.master_key]: file = \"master.key\"";

impl StorageError {
    /// The line that repairs it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::OneOf { table, keys, found } if *found > 1 => Some(format!(
                "leave one of {keys} in aral.toml, {table}, and take the others out"
            )),
            Self::OneOf { table, .. } if *table == resolve::MASTER_KEY => Some(MASTER_KEY_LINE.to_owned()),
            Self::NoVault { .. } => Some(VAULT_LINES.to_owned()),
            Self::NoMemory { .. } => Some("aral.toml, [memory.master_key]: file = \"master.key\"".to_owned()),
            Self::NoFolder => Some("aral.toml, [memory]: dir = \"memory\"".to_owned()),
            Self::Variable { key } => Some(format!(
                "aral.toml, {} = \"NAME\", and let the variable NAME hold the secret",
                key.replacen("] ", "]: ", 1)
            )),
            Self::OneOf { .. } | Self::Name { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
