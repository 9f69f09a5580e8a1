//! Assembles what outlives a call: the store with its key, the server of secrets, and the map of their names. It opens and
//! connects nothing before that is asked for.

mod epoch;
mod failure;
mod keeper;
mod lazy;
pub(crate) mod rotation;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use aral_contract::failure::chain;
use aral_contract::{AuditSink, Clock, Code, Failure};
use aral_memory::record::BATCH_OPERATIONS_MAX;
use aral_memory::sealed::{Epoch, Salvage, SealedStore, StoreOptions};
use aral_memory::{
    CacheLimits, KeyService, LocalSecrets, MasterKey, RecordStore, Secrets, SecretsParts, TransitKeys, Vault,
    VaultError, VaultOptions, VaultSecrets,
};
use aral_runtime::files;
use aral_runtime::outbound::{Outbound, OutboundError};

use crate::config::storage::{Credential, MasterKeyPlace, MemoryConfig, SecretsConfig, VaultConfig, VaultLogin};
use crate::config::{Config, Taken};

use failure::salvage_failure;
pub use failure::{backup_failure, key_service_failure, opening_failure, secret_failure, store_failure};
pub(crate) use lazy::LazyStore;
use lazy::{Opened, Space};
use upkeep::upkeep;

/// Longest file of a master key, in bytes. Stops a file that is something else.
const MASTER_KEY_FILE_BYTES_MAX: u64 = 4096;

/// Everything that `[memory]` and `[secrets]` configure. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Parts>);

/// What a host lends to its capabilities.
#[derive(Debug, Clone)]
pub struct Lent {
    /// Keeps records; none: the configuration has no `[memory]`.
    pub memory: Option<Arc<dyn RecordStore>>,
    /// Finds secrets; none: the configuration has no place for them.
    pub secrets: Option<Secrets>,
    pub(crate) store: Option<Arc<LazyStore>>,
}

#[derive(Debug)]
struct Parts {
    memory: Option<MemoryConfig>,
    secrets: Option<SecretsConfig>,
    taken: Taken,
    vault: Option<Vault>,
    clock: Arc<dyn Clock>,
}

impl Storage {
    /// Checks what can be checked without opening or connecting.
    ///
    /// # Errors
    /// `config.invalid`: a server that cannot be one, a variable that is missing, or variables that were not taken.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let taken = match (&config.taken, config.variables().is_empty()) {
            (Some(taken), _) => taken.clone(),
            (None, true) => Taken::default(),
            (None, false) => {
                return Err(Failure::new(
                    Code::ConfigInvalid,
                    "the variables that the configuration names are still in the environment",
                )
                .with_hint("call `Config::take_variables` first thing in `main`"));
            }
        };
        let server = config.secrets.as_ref().and_then(|secrets| secrets.vault.as_ref());
        let vault = server
            .map(|server| connect(server, &config.outbound, &taken, &clock))
            .transpose()?;
        Ok(Self(Arc::new(Parts {
            memory: config.memory.clone(),
            secrets: config.secrets.clone(),
            taken,
            vault,
            clock,
        })))
    }

    /// Where the store is, and how it is kept.
    ///
    /// # Errors
    /// `config.invalid` if there is none.
    pub fn memory(&self) -> Result<&MemoryConfig, Failure> {
        self.0.memory.as_ref().ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                "there is no store: the configuration has no [memory]",
            )
            .with_hint("`aral memory keygen master.key`, then in aral.toml, [memory.master_key]: file = \"master.key\"")
        })
    }

    /// The server of secrets.
    pub fn vault(&self) -> Option<&Vault> {
        self.0.vault.as_ref()
    }

    /// Opens the store, for as long as what is returned lives.
    ///
    /// # Errors
    /// `config.invalid` if there is none, or if its key is not there or the wrong one; `host.unavailable` if another process
    /// has it open or the key service does not answer; `host.internal` if it is damaged.
    pub fn open(&self) -> Result<SealedStore, Failure> {
        let options = self.options()?;
        let dir = options.path.clone();
        SealedStore::open(options).map_err(|error| opening_failure(error, &dir))
    }

    /// Removes what has expired, one batch of it, for whoever has opened the store to write: a verb or a short call ends before
    /// any upkeep begins, and where nothing else runs the keys of expired records would stay. Not for who only reads: what is
    /// removed under a clock that goes wrong is gone for ever, and a backup must not begin with that.
    pub fn sweep_once(store: &SealedStore) {
        if let Err(error) = store.sweep(BATCH_OPERATIONS_MAX) {
            // What it was opened for goes on.
            tracing::warn!(error = %chain(&error), "expired records were not removed");
        }
    }

    /// Opens what is left of a store that lost records, to be read alone. Its database is copied to the folder `copy`, which must
    /// not exist and is removed when what is returned is dropped.
    ///
    /// # Errors
    /// As [`Storage::open`], but that lost records are none; `config.invalid` if there is something at `copy`; `host.unavailable`
    /// if there is no room for it.
    pub fn salvage(&self, copy: &Path) -> Result<Salvage, Failure> {
        Salvage::open(self.options()?, copy).map_err(salvage_failure)
    }

    /// What the store is opened with; the master key has been read.
    ///
    /// # Errors
    /// `config.invalid` if there is no store, or if its key is not there.
    pub fn options(&self) -> Result<StoreOptions, Failure> {
        let memory = self.memory()?;
        Ok(StoreOptions {
            epoch: self.epoch(memory)?,
            cache_bytes: memory.cache_bytes_max,
            free_bytes_min: memory.free_bytes_min,
            holder: program(),
            ..StoreOptions::new(
                &memory.dir,
                self.master_key(&memory.master_key)?,
                Arc::clone(&self.0.clock),
            )
        })
    }

    /// What a host lends to its capabilities. The store is opened by the first call that needs it; from then on expired
    /// records are removed, and epochs end, which `sink` is told.
    ///
    /// # Errors
    /// `host.internal` if the system gives no randomness.
    pub fn lend(&self, sink: Arc<dyn AuditSink>) -> Result<Lent, Failure> {
        let store = self.lazily(sink);
        let space = |space| store.as_ref().map(|store| store.space(space));
        Ok(Lent {
            memory: space(Space::Memory),
            secrets: self.secrets(space(Space::Secrets))?,
            store,
        })
    }

    fn lazily(&self, sink: Arc<dyn AuditSink>) -> Option<Arc<LazyStore>> {
        let memory = self.0.memory.clone()?;
        let storage = self.clone();
        let open = move || {
            let store = storage.open()?;
            Self::sweep_once(&store);
            Ok(Opened {
                sealed: Some(store.clone()),
                memory: store.memory(),
                secrets: store.secrets(),
                upkeep: upkeep(&store, &memory, &storage.0.clock, &sink),
            })
        };
        Some(LazyStore::new(Box::new(open), Arc::clone(&self.0.clock)))
    }

    /// A master key, from where it is.
    ///
    /// # Errors
    /// `config.invalid` if it is not there, or is none.
    pub fn master_key(&self, place: &MasterKeyPlace) -> Result<MasterKey, Failure> {
        self.key_at(place, &|| self.put_back())
    }

    /// The same while the store is open, and wants one of `keys`: the disk of the store is not asked.
    pub(crate) fn master_key_of_open(&self, place: &MasterKeyPlace, keys: &[String]) -> Result<MasterKey, Failure> {
        if let MasterKeyPlace::Environment(name) = place
            && self.0.taken.get(name).is_none()
        {
            let message = format!("the variable `{name}` was not taken: variables are, at the start alone");
            let hint =
                "restart the host with it, or name a file: aral.toml, [memory.master_key]: file = \"master.key\"";
            return Err(Failure::new(Code::ConfigInvalid, message).with_hint(hint));
        }
        self.key_at(place, &|| Some(put_back(&quoted(keys), &self.0.memory.as_ref()?.dir)))
    }

    /// `put_back` says what to do instead of making another one.
    fn key_at(&self, place: &MasterKeyPlace, put_back: &dyn Fn() -> Option<String>) -> Result<MasterKey, Failure> {
        match place {
            MasterKeyPlace::File(path) => read_key(path, put_back),
            MasterKeyPlace::Environment(name) => {
                let value = self
                    .0
                    .taken
                    .get(name)
                    .ok_or_else(|| not_set(name, "[memory.master_key] environment"))?;
                MasterKey::from_text(value.expose()).map_err(|error| {
                    Failure::new(Code::ConfigInvalid, format!("the variable `{name}`: {}", chain(&error))).with_hint(
                        put_back().unwrap_or_else(|| "make one: `aral memory keygen FILE` writes it".to_owned()),
                    )
                })
            }
            MasterKeyPlace::Transit { mount, key } => Ok(MasterKey::service(self.transit(mount)?, key.as_str())),
        }
    }

    /// What to do about a master key that is not there or damaged, if there is a store: one that is made then opens nothing, and stands
    /// where the one belongs that does. None: there is no store.
    fn put_back(&self) -> Option<String> {
        let dir = &self.0.memory.as_ref()?.dir;
        let key = match SealedStore::keys_wanted(dir).transpose()? {
            Ok(keys) => quoted(&keys),
            Err(error) => format!("that it was made with ({})", chain(&error)),
        };
        Some(put_back(&key, dir))
    }

    /// Secrets by name. `local` is the space of secrets of the store; none: there is no store. None comes back if the
    /// configuration has no place for secrets at all.
    ///
    /// # Errors
    /// `host.internal` if the system gives no randomness.
    pub fn secrets(&self, local: Option<Arc<dyn RecordStore>>) -> Result<Option<Secrets>, Failure> {
        if self.0.secrets.is_none() && local.is_none() {
            return Ok(None);
        }
        let config = self.0.secrets.clone().unwrap_or_default();
        let parts = SecretsParts {
            // It has the keys that were taken as well. Only a place that `references` names is ever asked for.
            environment: Some(self.0.taken.secrets()),
            vault: self
                .0
                .vault
                .clone()
                .map(|vault| Arc::new(VaultSecrets::new(vault)) as _),
            local: local.map(LocalSecrets::new),
            cache: CacheLimits {
                ttl_ms: config.cache_ttl_ms,
                entries_max: usize::try_from(config.cache_entries_max).unwrap_or(usize::MAX),
                ..CacheLimits::default()
            },
            references: config.names,
        };
        Secrets::new(parts, Arc::clone(&self.0.clock))
            .map(Some)
            .map_err(Failure::internal)
    }

    fn transit(&self, mount: &str) -> Result<Arc<dyn KeyService>, Failure> {
        let vault = self.0.vault.clone().ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                "a transit key needs a server, and there is no [secrets.vault]",
            )
            .with_hint(crate::config::storage::VAULT_LINES)
        })?;
        let keys = TransitKeys::new(vault, mount).map_err(|error| Failure::new(Code::ConfigInvalid, chain(&error)))?;
        Ok(Arc::new(keys))
    }

    fn epoch(&self, memory: &MemoryConfig) -> Result<Option<Epoch>, Failure> {
        let Some(epoch) = &memory.epoch else { return Ok(None) };
        Ok(Some(Epoch {
            service: self.transit(&epoch.mount)?,
            prefix: epoch.prefix.clone(),
        }))
    }
}

fn connect(server: &VaultConfig, outbound: &Outbound, taken: &Taken, clock: &Arc<dyn Clock>) -> Result<Vault, Failure> {
    let given = |place: &Credential, key| match place {
        Credential::File(path) => Ok(aral_memory::Credential::File(path.clone())),
        // It is opened at each login. That there is none is said now.
        Credential::Environment(name) if taken.get(name).is_none() => Err(not_set(name, key)),
        Credential::Environment(name) => Ok(aral_memory::Credential::Taken {
            variables: taken.secrets(),
            name: name.clone(),
        }),
    };
    let login = match &server.login {
        VaultLogin::Token(token) => aral_memory::VaultLogin::Token(given(token, "[secrets.vault] token_environment")?),
        VaultLogin::AppRole {
            mount,
            role_id,
            secret_id,
        } => aral_memory::VaultLogin::AppRole {
            mount: mount.clone(),
            role_id: role_id.clone(),
            secret_id: given(secret_id, "[secrets.vault.approle] secret_id_environment")?,
        },
    };
    let options = VaultOptions {
        address: server.address.clone(),
        outbound: outbound.clone(),
        authorities_pem: server.ca_pem.clone(),
        namespace: server.namespace.clone(),
        login,
        timeout_ms: server.timeout_ms,
    };
    Vault::new(options, Arc::clone(clock)).map_err(|error| {
        let failure = Failure::new(Code::ConfigInvalid, format!("[secrets.vault]: {}", chain(&error)));
        match error {
            VaultError::Server(_) => failure.with_hint("aral.toml, [secrets.vault]: address = \"https://HOST:PORT\""),
            VaultError::Client(OutboundError::Authorities(_)) => failure.with_hint(
                "aral.toml, [secrets.vault]: ca_file = \"ca.pem\", a file that has `-----BEGIN CERTIFICATE-----` in it",
            ),
            _other => failure,
        }
    })
}

/// Reads a master key. The file must belong to this user or root, and nobody else may have access to it.
///
/// # Errors
/// `config.invalid`, with the step that repairs it.
pub fn read_master_key(path: &Path) -> Result<MasterKey, Failure> {
    read_key(path, &|| None)
}

/// The same. `put_back` says what to do instead of making another one.
fn read_key(path: &Path, put_back: &dyn Fn() -> Option<String>) -> Result<MasterKey, Failure> {
    let shown = path.display();
    let text = files::read_private(path, MASTER_KEY_FILE_BYTES_MAX).map_err(|error| {
        let failure = Failure::new(Code::ConfigInvalid, format!("the master key: {}", chain(&error)));
        if error.is_not_found() {
            failure.with_hint(put_back().unwrap_or_else(|| format!("make one: `aral memory keygen {shown}`")))
        } else {
            Failure {
                hint: error.fix(),
                ..failure
            }
        }
    })?;
    MasterKey::from_text(&text).map_err(|error| {
        Failure::new(Code::ConfigInvalid, format!("`{shown}`: {}", chain(&error)))
            .with_hint(put_back().unwrap_or_else(|| "make another: `aral memory keygen FILE`".to_owned()))
    })
}

pub(crate) fn not_set(name: &str, key: &str) -> Failure {
    Failure::new(
        Code::ConfigInvalid,
        format!("the variable `{name}` is not set, or is empty, and {key} names it"),
    )
    .with_hint(format!(
        "set it for this program alone: `{name}=… aral …`, from a file that nobody else can read"
    ))
}

/// Ids of keys of which any will do.
pub fn quoted(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(" or ")
}

/// One that a service holds is in no file, and a rotation leaves a configuration that goes on to name the old one.
fn put_back(key: &str, dir: &Path) -> String {
    let dir = dir.display();
    if key.starts_with("`service:") {
        return format!("name the key {key} in aral.toml, [memory.master_key]: no other key opens the store `{dir}`");
    }
    format!(
        "put back the key {key} from where its copy is kept, and remove no file that may be what is left of it; or, if it lies \
         elsewhere, as after `rotate-key`, name it in aral.toml, [memory.master_key]: no other key opens the store `{dir}`"
    )
}

/// What this program is called, for whoever wants to open the store too.
fn program() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "a program".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
