//! Makes a server from a host: opens the personas of the callers and hands the one path over. It listens nowhere by itself.

use std::sync::Arc;

use aral_contract::{Code, Failure};
use aral_orchestration::Session;
use aral_protocol::{BindError, Caller, Callers, CallersError, Server, ServerOptions, ServerParts};
use aral_runtime::files;

use crate::components::unreadable;
use crate::config::serve::{CallerConfig, ServeConfig};
use crate::host::Host;
use crate::text;

/// Opens the session of a persona; what it is given is the document.
pub type OpenSession<'a> = &'a dyn Fn(&[u8]) -> Result<Session, Failure>;

impl Host {
    /// A server for this host that listens and does not answer yet. Needs a tokio runtime. `open` opens the persona of each
    /// caller: [`Host::session`], outside of development.
    ///
    /// # Errors
    /// `config.invalid` for settings that cannot be or an address that cannot be listened on, and whatever `open` fails with.
    pub async fn server(&self, config: &ServeConfig, open: OpenSession<'_>) -> Result<Server, Failure> {
        let options = ServerOptions {
            listeners: config.listeners.clone(),
            bounds: config.bounds.clone(),
        };
        let parts = ServerParts {
            dispatcher: self.dispatcher(),
            callers: callers(&config.callers, open)?,
            health: Arc::new(self.clone()),
            clock: self.clock(),
            sink: self.sink(),
        };
        Server::bind(options, parts).await.map_err(|error| bind_failure(&error))
    }
}

/// The callers of a configuration, their personas opened.
fn callers(configs: &[CallerConfig], open: OpenSession<'_>) -> Result<Callers, Failure> {
    let callers = configs.iter().map(|config| caller(config, open));
    let callers = callers.collect::<Result<Vec<Caller>, Failure>>()?;
    Callers::new(callers).map_err(|error| {
        let hint = match &error {
            CallersError::Name(_) => "give each [[serve.caller]] a name of its own",
            CallersError::Key { .. } => "make a key for each caller",
        };
        Failure::new(Code::ConfigInvalid, error.to_string()).with_hint(hint)
    })
}

fn caller(config: &CallerConfig, open: OpenSession<'_>) -> Result<Caller, Failure> {
    let bytes_max = u64::try_from(aral_contract::limits::DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = files::read_path(&config.persona, bytes_max).map_err(|error| unreadable(&error))?;
    let session = open(&bytes).map_err(|failure| Failure {
        message: format!("the persona of the caller `{}`: {}", config.name, failure.message),
        ..failure
    })?;
    Ok(Caller {
        name: config.name.clone(),
        session,
        keys: config.keys.clone(),
    })
}

fn bind_failure(error: &BindError) -> Failure {
    let failure = Failure::new(Code::ConfigInvalid, text::chain(error));
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
