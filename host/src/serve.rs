//! Makes a server from a host: opens the personas of the callers and hands the one path over. It listens nowhere by itself.
//! When the configuration is read again, host and server take it together, or neither does.

use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use aral_audit::receipt::ReceiptError;
use aral_audit::{AuditEvent, Record};
use aral_contract::failure::chain;
use aral_contract::id::CallerName;
use aral_contract::{Clock, Code, EventKind, Failure, SecretValue};
use aral_orchestration::Session;
use aral_protocol::{
    BindError, Caller, Callers, CallersError, Check, Health, IssuerOptions, Issuers, KeysPlace, Receipts, RedisOptions,
    RemoteKeys, Renewal as ServerRenewal, Server, ServerHandle, ServerOptions, ServerParts, receipts,
};
use aral_runtime::files;

use crate::config::Config;
use crate::config::serve::{CallerConfig, IssuerConfig, JwksConfig, RedisConfig, ServeConfig};
use crate::config::storage::Credential;
use crate::disk;
use crate::host::Host;
use crate::personas::Personas;
use crate::reload::{InForce, Renewal};
use crate::storage::not_set;

/// Longest password of Redis, in bytes. Stops a file that is none.
const PASSWORD_BYTES_MAX: u64 = 4 << 10;
/// How long the keys of an issuer are waited for. Stops one that does not answer from holding up its callers.
const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// The target of log lines that say how a reading of the configuration ended. A signal has no other answer.
pub const RELOAD_TARGET: &str = "aral::reload";

impl Host {
    /// A server for this host that listens and does not answer yet. Needs a tokio runtime. As long as it is there, or a
    /// hand on it, the configuration is read again with a [`Reloader`] and not with [`Host::reload`].
    ///
    /// # Errors
    /// `config.invalid` for settings that cannot be, `host.unavailable` for an address that cannot be listened on now, or a certificate or
    /// OCSP response that is not in its time, and as [`Host::session`] for the persona of each caller; `persona.override` also for a newer
    /// issue of one that is there.
    pub async fn server(&self, config: &ServeConfig, personas: Personas) -> Result<Server, Failure> {
        let (options, parts) = self.server_parts(config, personas)?;
        let bound = Server::bind(options, parts).await;
        let server = bound.map_err(|error| bind_failure(&error))?;
        // Their keys stand in files of their own, which may be others than at the last start.
        for (subject, after) in [
            ("trust", self.dispatcher().trust().digest()),
            ("callers", config.callers_digest()),
            ("issuers", config.issuers_digest()),
        ] {
            self.record(EventKind::ConfigurationChanged {
                subject,
                before: None,
                after,
            });
        }
        Ok(server)
    }

    /// Whether there could be one, also while one of another host listens at the same addresses. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`Host::server`].
    pub async fn check_server(&self, config: &ServeConfig, personas: Personas) -> Result<(), Failure> {
        let (options, parts) = self.server_parts(config, personas)?;
        let bound = Server::try_bind(options, parts).await;
        bound.map_err(|error| bind_failure(&error))
    }

    fn server_parts(&self, config: &ServeConfig, personas: Personas) -> Result<(ServerOptions, ServerParts), Failure> {
        let open = |path: &Path| self.configured_session(path, personas);
        let callers = callers(of_callers(config, open)?)?;
        let issuers = issuers(config, of_scopes(config, open)?, self.clock())?;
        if self.sessions().is_empty() {
            return Err(without_persona());
        }
        let health: Arc<dyn Health> = Arc::new(self.clone());
        let dispatcher = {
            let mut in_force = self.changing();
            in_force.serve(&health);
            self.dispatcher()
        };
        let parts = ServerParts {
            dispatcher,
            callers,
            issuers,
            health,
            receipts: Arc::new(self.clone()),
            clock: self.clock(),
            sink: self.sink(),
            changes: self.changes(),
        };
        Ok((self.options(config, missing)?, parts))
    }

    /// `untaken` says what a password is in a variable that was not taken.
    fn options(&self, config: &ServeConfig, untaken: Untaken) -> Result<ServerOptions, Failure> {
        Ok(ServerOptions {
            listeners: config.listeners.clone(),
            resource: config.resource.clone(),
            bounds: config.bounds.clone(),
            rates: config.rates.clone(),
            redis: config
                .redis
                .as_ref()
                .map(|redis| self.redis(redis, untaken))
                .transpose()?,
            trusted_proxies: config.trusted_proxies.clone(),
        })
    }

    /// The Redis of a configuration, its password read.
    fn redis(&self, config: &RedisConfig, untaken: Untaken) -> Result<RedisOptions, Failure> {
        let password = match &config.password {
            None => None,
            Some(Credential::File(path)) => {
                let bytes = files::read_private(path, PASSWORD_BYTES_MAX).map_err(|error| {
                    let failure = disk::failure(error);
                    let name_it = || "aral.toml, [serve.rates.redis]: password_file = \"FILE\"".to_owned();
                    Failure {
                        message: format!("[serve.rates.redis] password_file: {}", failure.message),
                        hint: failure.hint.or_else(|| Some(name_it())),
                        ..failure
                    }
                })?;
                Some(SecretValue::new(bytes.trim_ascii_end().to_vec()))
            }
            Some(Credential::Environment(name)) => {
                let value = self.0.taken.get(name);
                Some(value.map_or_else(|| untaken(name), Ok)?)
            }
        };
        Ok(RedisOptions {
            url: config.url.clone(),
            password,
            ca_pem: config.ca_pem.clone(),
            prefix: config.prefix.clone(),
            timeout_ms: config.timeout_ms,
            when_down: config.when_down,
        })
    }
}

impl Receipts for Host {
    fn receipt(&self, user: &CallerName, seq: u64) -> Result<Vec<u8>, Failure> {
        let audit = self.audit().ok_or_else(receipts::unknown)?;
        let theirs = |record: &Record| match &record.event {
            AuditEvent::Invocation(call) => call.user.as_ref() == Some(user),
            _ => false,
        };
        let receipt = audit.log().receipt(seq, &theirs).map_err(|error| match error {
            ReceiptError::Unknown { .. } => receipts::unknown(),
            ReceiptError::NotSigned { .. } => {
                Failure::new(Code::Unavailable, "the record of this call is not signed yet")
            }
            other => Failure::new(Code::AuditUnavailable, "the audit log cannot be read").with_internal(chain(&other)),
        })?;
        serde_json::to_vec(&receipt).map_err(Failure::internal)
    }
}

/// Reads the configuration of a host and its server again.
#[derive(Debug, Clone)]
pub struct Reloader {
    host: Host,
    server: ServerHandle,
    personas: Personas,
}

impl Reloader {
    /// For a server of this host; `personas` as it was made with.
    pub fn new(host: Host, server: ServerHandle, personas: Personas) -> Self {
        Self { host, server, personas }
    }

    /// Takes a configuration that was read again: policy, trust, manifests and personas as [`Host::reload`], and callers, issuers,
    /// their keys, the names, pages and TLS of listeners, bounds, rates and proxies. A listener of which no line of TLS is another one and
    /// whose files cannot be taken goes on with what it has, which is on record. A request that has begun goes on under the old one as a
    /// whole, every later one sees the new one as a whole. It reads files; in async code call it where blocking is allowed. Needs a tokio
    /// runtime.
    ///
    /// Returns what of it does not hold nevertheless, a sentence for each: files of TLS that were not taken, documents that are not believed
    /// any more, and authorities and passwords that wait for a restart, when they are others than before.
    ///
    /// # Errors
    /// As [`Host::reload`] and [`Host::server`]. Then nothing has changed, and the refusal is on record.
    pub fn reload(&self, config: &Config) -> Result<Vec<String>, Failure> {
        let in_force = self.host.changing_soon();
        self.noting(in_force.and_then(|in_force| self.try_reload(in_force, config)))
    }

    /// The same for a file, which is read once nobody else changes the rules: of several that read it at once the last one to have its
    /// turn takes what the file says then.
    ///
    /// # Errors
    /// As [`Config::load`] and [`Reloader::reload`].
    pub fn reload_file(&self, path: &Path) -> Result<Vec<String>, Failure> {
        self.read_again(path, Host::changing_soon)
    }

    /// The same, however long others change the rules: for a signal, whose sender is not told that it should come again. Have one thread at
    /// most wait for it.
    ///
    /// # Errors
    /// As [`Reloader::reload_file`], without `host.unavailable` for the wait.
    pub fn reload_file_at_last(&self, path: &Path) -> Result<Vec<String>, Failure> {
        self.read_again(path, |host| Ok(host.changing_at_last()))
    }

    fn read_again<'a>(
        &'a self,
        path: &Path,
        changing: impl FnOnce(&'a Host) -> Result<MutexGuard<'a, InForce>, Failure>,
    ) -> Result<Vec<String>, Failure> {
        let read_again = || {
            // First: whoever had read the file and then waited would bring back what a newer one has revoked meanwhile.
            let in_force = changing(&self.host)?;
            self.try_reload(in_force, &Config::load(path)?)
        };
        self.noting(read_again())
    }

    /// How the host is, as its server sees it.
    pub(crate) async fn checks(&self) -> Arc<[Check]> {
        self.server.checks().await
    }

    /// Whether its server was told to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.server.is_draining()
    }

    /// Says and records how it ended, whoever asked for it.
    fn noting<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
        done.inspect(|_| tracing::info!(target: RELOAD_TARGET, "the configuration was read again and holds"))
            .inspect_err(|failure| {
                let hint = failure.hint.as_deref();
                // It may not have been read: whoever waits too long for its turn is refused as well.
                tracing::warn!(target: RELOAD_TARGET, %failure, hint, "the configuration was not taken");
                self.host.note_refusal("configuration", failure);
            })
    }

    fn try_reload(&self, in_force: MutexGuard<'_, InForce>, config: &Config) -> Result<Vec<String>, Failure> {
        let serve = config.serve.as_ref().ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                "the configuration has no [serve], and the server runs",
            )
            .with_hint("end it: `kill -TERM`, or leave [serve] in aral.toml")
        })?;
        let renewal = Renewal::under(in_force, &self.host, config, InForce::check_alone)?;
        let open = |path: &Path| renewal.persona_of_file(path, self.personas);
        let (opened, sessions) = (of_callers(serve, open)?, of_scopes(serve, open)?);
        if opened.is_empty() && sessions.is_empty() && config.personas.is_empty() {
            return Err(without_persona());
        }
        let prepared = self.server.prepare(ServerRenewal {
            options: self.host.options(serve, another)?,
            dispatcher: renewal.dispatcher(),
            callers: callers(opened)?,
            issuers: issuers(serve, sessions, self.host.clock())?,
        });
        let prepared = prepared.map_err(|error| bind_failure(&error))?;
        renewal.commit(|| prepared.commit())
    }
}

/// What a password is in the variable of this name, which was not taken at the start.
type Untaken = fn(&str) -> Result<SecretValue, Failure>;

/// At the start: one that somebody forgot to set.
fn missing(name: &str) -> Result<SecretValue, Failure> {
    Err(not_set(name, "[serve.rates.redis] password_environment"))
}

/// Later: another one than before. No variable is taken any more, the password of the start holds whatever the new one is, and a
/// configuration that may revoke something is not refused for it. No variable has a value with this first byte.
fn another(name: &str) -> Result<SecretValue, Failure> {
    Ok(SecretValue::new(format!("\0{name}").into_bytes()))
}

/// What `of` makes of the persona of each caller.
fn of_callers<T>(
    config: &ServeConfig,
    of: impl Fn(&Path) -> Result<T, Failure>,
) -> Result<Vec<(CallerConfig, T)>, Failure> {
    let one = |caller: &CallerConfig| {
        let made = of_persona(&caller.persona, &of, || format!("the caller `{}`", caller.name))?;
        Ok((caller.clone(), made))
    };
    config.callers.iter().map(one).collect()
}

/// The same of the persona of each scope, for each issuer.
fn of_scopes<T>(config: &ServeConfig, of: impl Fn(&Path) -> Result<T, Failure>) -> Result<Vec<Vec<T>>, Failure> {
    let one = |issuer: &IssuerConfig| {
        let scopes = issuer.scopes.iter();
        let made = scopes.map(|scope| of_persona(&scope.persona, &of, || format!("the scope `{}`", scope.scope)));
        made.collect()
    };
    config.issuers.iter().map(one).collect()
}

/// What `of` makes of a persona; `whose` is for messages.
fn of_persona<T>(
    path: &Path,
    of: impl Fn(&Path) -> Result<T, Failure>,
    whose: impl Fn() -> String,
) -> Result<T, Failure> {
    of(path).map_err(|failure| Failure {
        message: format!("the persona of {}: {}", whose(), failure.message),
        ..failure
    })
}

/// A server for which nobody can call anything is not one that somebody wanted.
fn without_persona() -> Failure {
    Failure::new(
        Code::ConfigInvalid,
        "there is no verified persona: the configuration names no caller, no issuer and no persona",
    )
    .with_hint(
        "aral.toml, [[serve.caller]]: name = \"agent\" and persona = \"persona.json\" and keys = [\"SHA-256 of the key\"]",
    )
}

/// The issuers of a configuration with the sessions of their scopes.
fn issuers(config: &ServeConfig, sessions: Vec<Vec<Session>>, clock: Arc<dyn Clock>) -> Result<Issuers, Failure> {
    let one = |(issuer, sessions): (&IssuerConfig, Vec<Session>)| {
        let keys = match &issuer.keys {
            JwksConfig::File(file) => KeysPlace::Fixed(Arc::clone(&file.keys)),
            JwksConfig::Url(remote) => KeysPlace::Url(Arc::new(RemoteKeys {
                client: config
                    .outbound
                    .client(&remote.server, None, JWKS_TIMEOUT)
                    .map_err(Failure::internal)?,
                outbound: config.outbound.options().clone(),
                server: remote.server.clone(),
                ttl: remote.ttl,
                stale: remote.stale,
                refetch: remote.refetch,
            })),
        };
        let scopes = issuer.scopes.iter().map(|scope| scope.scope.clone());
        Ok(IssuerOptions {
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms.clone(),
            types: issuer.types.clone(),
            keys,
            leeway: issuer.leeway,
            lifetime_max: issuer.lifetime_max,
            scopes: scopes.zip(sessions).collect(),
        })
    };
    let list = config.issuers.iter().zip(sessions).map(one);
    Ok(Issuers::new(list.collect::<Result<_, Failure>>()?, clock))
}

fn callers(opened: Vec<(CallerConfig, Session)>) -> Result<Callers, Failure> {
    let caller = |(config, session): (CallerConfig, Session)| Caller {
        name: config.name,
        session,
        keys: config.keys,
        certificates: config.certificates,
        client_ca_files: config.client_ca_files,
        signature: config.signature,
    };
    Callers::new(opened.into_iter().map(caller).collect()).map_err(|error| {
        let hint = match &error {
            CallersError::Name(_) | CallersError::Reserved(_) => "give each [[serve.caller]] a name of its own",
            CallersError::NoSignatureKey(_) => "aral.toml, [[serve.caller]]: signature_keys = [\"caller.pub.pem\"]",
            CallersError::Key { .. } => "make a key for each caller",
            CallersError::Certificate { .. } => "name each certificate for one [[serve.caller]] alone",
        };
        Failure::new(Code::ConfigInvalid, error.to_string()).with_hint(hint)
    })
}

fn bind_failure(error: &BindError) -> Failure {
    let code = if error.is_for_now() {
        Code::Unavailable
    } else {
        Code::ConfigInvalid
    };
    let failure = Failure::new(code, chain(error));
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
