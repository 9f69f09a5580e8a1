//! Assembles a host: the one place that sees all layers at once.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use aral_capability::egress::Egress;
use aral_capability::{FileWork, Memory, Programs, Registry, SecretUses, Services};
use aral_contract::document::{Kind, PublicKey};
use aral_contract::failure::chain;
use aral_contract::{AuditSink, Clock, Code, Failure, Sampling};
use aral_memory::{RecordStore, Secrets};
use aral_orchestration::{Dispatcher, DispatcherParts, Policy};
use aral_runtime::cache::CacheError;
use aral_runtime::files::FilesError;
use aral_runtime::{CompilerKind, Runtime, RuntimeError, SystemClock, process};
use arc_swap::{ArcSwap, ArcSwapOption};

use crate::audit::Audit;
use crate::config::Config;
use crate::disk;
use crate::events::EventBus;
use crate::health::Places;
use crate::host::{Host, Parts};
use crate::personas;
use crate::reload::{Advice, Given, InForce, Revoked};
use crate::serials::SerialFile;
use crate::storage::Storage;
use crate::used::Unkept;

/// Makes a [`Host`]. Without any setting the host is closed: it trusts nobody, allows nothing and keeps nothing on disk.
#[derive(Debug, Default)]
pub struct HostBuilder {
    config: Option<Config>,
    given: Given,
    state_dir: Option<PathBuf>,
    sinks: Vec<Arc<dyn AuditSink>>,
    clock: Option<Arc<dyn Clock>>,
    compiler: Option<CompilerKind>,
    memory: Option<Arc<dyn RecordStore>>,
    secrets: Option<Secrets>,
    sampling: Sampling,
}

impl HostBuilder {
    /// Starts from a configuration, such as that of a file ([`Config::load`]).
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self {
            config: Some(config),
            ..self
        }
    }

    /// Trusts a key for these kinds of document, besides those of the configuration, also of one that is read again, until
    /// [`Host::revoke`] or [`Host::set_trust`] says otherwise.
    #[must_use]
    pub fn trust(mut self, key: PublicKey, kinds: &[Kind]) -> Self {
        self.given.keys.push((key, kinds.to_vec()));
        self
    }

    /// The policy, instead of that of the configuration, also of one that is read again.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.given.policy = Some(policy);
        self
    }

    /// Where state is kept (compiled code, its key, serials, what agents have used up, the audit log and its keys), instead
    /// of where the configuration says. The folder is made with mode 0700. Several hosts may share it one after the other,
    /// and at the same time if each has a log of its own (`[audit] dir`): a log is written by one.
    #[must_use]
    pub fn state_dir(self, folder: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: Some(folder.into()),
            ..self
        }
    }

    /// A sink that takes every event, besides those that were added before and the audit log.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// The clock, instead of the machine's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// Where components are compiled, and looked at when they are registered. By default in this process, which compiles small components
    /// only, because nobody can stop it, and looks at what its bytes say is cheap. With the `aral` binary at hand:
    /// `CompilerKind::child("/usr/bin/aral".into(), vec!["__compile".into()])`.
    #[must_use]
    pub fn compiler(self, compiler: CompilerKind) -> Self {
        Self {
            compiler: Some(compiler),
            ..self
        }
    }

    /// Where capabilities keep the records of an agent's memory, instead of where the configuration says. Without a store
    /// their memory functions answer `unavailable`. Its upkeep is the caller's. Expired records are absent at once; to have their space back,
    /// call [`RecordStore::sweep`] now and then, and where it has epochs `SealedStore::rotate_epoch` at the end of each: what was
    /// deleted is final then.
    #[must_use]
    pub fn memory(self, store: Arc<dyn RecordStore>) -> Self {
        Self {
            memory: Some(store),
            ..self
        }
    }

    /// Where the secrets are that capabilities may use, instead of where the configuration says. Without them the secret
    /// functions answer `unavailable`.
    #[must_use]
    pub fn secrets(self, secrets: Secrets) -> Self {
        Self {
            secrets: Some(secrets),
            ..self
        }
    }

    /// Which traces are kept. By default none is here, and callers who keep theirs are believed.
    #[must_use]
    pub fn sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// Makes the host, opens its audit log if there is a folder for it, registers the manifests of the configuration and
    /// takes its personas. Compiles nothing and opens no store yet, and starts no thread but those of the log, the one
    /// that talks to the server of secrets, if there is one, and where components are registered that its cache does not know, and there is a compiler, the one that starts
    /// it. If another process has the log open it waits for that, up to
    /// 30 s.
    ///
    /// # Errors
    /// `config.invalid` for settings that cannot be, `host.unavailable` for a disk that does not take the state,
    /// `audit.unavailable` for a log that cannot be opened, and whatever the
    /// manifests and the personas of the configuration fail with: without every one of them verified there is no host.
    pub fn build(self) -> Result<Host, Failure> {
        let mut config = match self.config {
            Some(config) => config,
            None => Config::closed()?,
        };
        let mut in_force = InForce::new(&config, self.given);
        (config.policy, config.trust) = in_force.rules(&config);
        config.state_dir = self.state_dir.or(config.state_dir);
        // Before the runtime, which opens its cache below: the folder must be private from the beginning.
        let serials = config.state_dir.as_deref().map(SerialFile::open).transpose()?;
        let runtime = Runtime::new(config.runtime(self.compiler.unwrap_or(CompilerKind::InProcess)));
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let audit = Audit::open(&config, &clock)?;
        let log = audit.iter().map(|audit| Arc::clone(audit.log()) as Arc<dyn AuditSink>);
        let bus = Arc::new(EventBus::new(log.chain(self.sinks).collect()));
        let storage = Storage::new(&config, Arc::clone(&clock))?;
        let lent = storage.lend(Arc::clone(&bus) as _)?;
        let secrets = self.secrets.or(lent.secrets);
        let services = Services {
            clock: Arc::clone(&clock),
            sink: Arc::clone(&bus) as Arc<dyn AuditSink>,
            egress: Arc::new(Egress::new(config.egress.clone())?),
            file_work: FileWork::within(process::open_files_max()),
            programs: Programs::default(),
            roots: aral_capability::Roots::default(),
            memory: self.memory.or(lent.memory).map(Memory::new),
            secrets: secrets.clone(),
            secret_uses: SecretUses::default(),
            trace_hosts: None,
        };
        let runtime = runtime.map_err(|error| not_made(&error))?;
        let dispatcher = Dispatcher::new(DispatcherParts {
            registry: Registry::inspecting_by(runtime.looker()),
            runtime,
            services,
            policy: config.policy,
            trust: config.trust,
            gate: config.gate,
            blinder: audit.as_ref().map(Audit::blinder),
            sampling: self.sampling,
        });
        let places = Places::new(
            config.state_dir.as_deref(),
            audit.as_ref().map(Audit::dir),
            config.memory.as_ref(),
        );
        let host = Host::new(Parts {
            dispatcher: ArcSwap::from_pointee(dispatcher),
            in_force: Mutex::default(),
            end: Mutex::default(),
            revoked: Revoked::default(),
            advice: Advice::default(),
            configuration: ArcSwapOption::from_pointee(config.digest),
            places,
            clock,
            events: bus,
            serials,
            keeping: AtomicBool::new(false),
            unkept: Unkept::default(),
            storage,
            store: lent.store,
            secrets,
            audit,
            taken: config.taken.unwrap_or_default(),
        });
        host.started(config.digest);
        if let Some(digest) = config.digest {
            if config.state_dir.is_none() {
                tracing::warn!(
                    "no `state_dir`: compiled code, serials and what agents have used up are forgotten when the host ends"
                );
            }
            tracing::info!(config = %digest, policy = %host.policy().digest(), "the host is configured");
        }
        in_force.note(&host.register_configured(&config.manifests)?);
        for persona in &config.personas {
            personas::at_start(&host, persona)?;
        }
        *host.changing() = in_force;
        Ok(host)
    }
}

/// What to do about a folder of compiled code that cannot be one.
const ANOTHER_CACHE: &str =
    "aral.toml, [runtime]: cache_dir = \"cache\", a folder for compiled code alone that this user can make";

/// Whether a host of this configuration has its compiled code, and the key of that. It makes the folder and the key where they are not there,
/// as a host does.
///
/// # Errors
/// `config.invalid` for a folder or a key that cannot be used, and `host.unavailable` for a disk that does not take them.
pub fn check_cache(config: &Config) -> Result<(), Failure> {
    let runtime = Runtime::new(config.runtime(CompilerKind::InProcess));
    runtime.map(drop).map_err(|error| not_made(&error))
}

/// There is no runtime: the settings cannot be, or a disk does not take what they ask for.
fn not_made(error: &RuntimeError) -> Failure {
    let message = chain(error);
    if disk::takes_no_writes(error) {
        return Failure::new(Code::Unavailable, message).with_hint(disk::MAKE_ROOM);
    }
    let failure = Failure::new(Code::ConfigInvalid, message);
    match error {
        // The only file that is read.
        RuntimeError::Cache(CacheError::KeyMalformed { .. } | CacheError::Files(FilesError::TooLarge { .. })) => {
            failure.with_hint("remove that file: a new key is made, and every component is compiled once more")
        }
        RuntimeError::Cache(CacheError::KeyInside { .. }) => failure.with_hint(ANOTHER_CACHE),
        RuntimeError::Cache(CacheError::Files(error)) => {
            failure.with_hint(error.fix().unwrap_or_else(|| ANOTHER_CACHE.to_owned()))
        }
        RuntimeError::Cache(_) | RuntimeError::Engine(_) | RuntimeError::Option { .. } => failure,
    }
}

#[cfg(test)]
mod tests {
    use aral_runtime::files;

    use super::*;

    #[test]
    fn a_folder_of_compiled_code_that_cannot_be_one_is_told_of_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        files::write_path(&folder.path().join("file"), b"", 0o600, files::Replace::Allow).unwrap();
        for cache in [folder.path().join("file/cache"), state.clone()] {
            let config = Config {
                audit: None,
                cache_dir: Some(cache),
                ..Config::closed().unwrap()
            };
            let failure = Host::builder().config(config).state_dir(&state).build().unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(failure.hint.unwrap().contains("[runtime]: cache_dir"));
        }
    }

    #[test]
    fn a_key_of_the_cache_that_is_none_may_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let config = Config {
            audit: None,
            ..Config::closed().unwrap()
        };
        let open = || {
            let builder = Host::builder().config(config.clone()).state_dir(&state);
            builder.build().map(drop)
        };
        open().unwrap();
        let key = state.join("cache.key");
        for bytes in [&b""[..], &[7; 31], &[7; 33]] {
            files::write_path(&key, bytes, 0o600, files::Replace::Allow).unwrap();
            let failure = open().unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(failure.message.contains(&key.display().to_string()), "{failure}");
            assert!(failure.hint.unwrap().starts_with("remove that file"));
        }
        let dir = files::open_root(&state).unwrap();
        dir.remove_file("cache.key").unwrap();
        open().unwrap();
    }
}
