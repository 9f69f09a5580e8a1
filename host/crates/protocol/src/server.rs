//! The server as a whole: bound first, then run to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aral_contract::id::CallerName;
use aral_contract::{AuditSink, Clock};
use aral_orchestration::Dispatcher;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::accept::{Acceptor, Stop};
use crate::bounds::{self, Bounds};
use crate::caller::Callers;
use crate::door::{Door, Shared, SharedParts};
use crate::health::Health;
use crate::listener::ListenerOptions;
use crate::{openapi, router};

/// Where the server listens, and what it bears.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where.
    pub listeners: Vec<ListenerOptions>,
    /// What it bears.
    pub bounds: Bounds,
}

/// What the server leads to.
#[derive(Debug)]
pub struct ServerParts {
    /// The one path.
    pub dispatcher: Arc<Dispatcher>,
    /// Who may call.
    pub callers: Callers,
    /// Whether the host is well.
    pub health: Arc<dyn Health>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes what happens before a call begins.
    pub sink: Arc<dyn AuditSink>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nowhere to listen.
    #[error("there is no listener")]
    NoListener,
    /// An address that others can reach, without what that needs.
    #[error("`{address}` is not of the loopback, and without TLS whoever is on the way reads and changes everything")]
    Exposed {
        /// Which.
        address: SocketAddr,
    },
    /// Nobody of that name.
    #[error("the listener of `{address}` takes whoever says nothing for `{name}`, and there is no such caller")]
    NoCaller {
        /// Which listener.
        address: SocketAddr,
        /// Who.
        name: CallerName,
    },
    /// The system refuses.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl BindError {
    /// The line that repairs it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoListener => Some("[[serve.listener]] address = \"127.0.0.1:8080\"".to_owned()),
            Self::Exposed { address } => Some(format!(
                "[[serve.listener]] address = \"127.0.0.1:{}\", behind a proxy that speaks TLS",
                address.port()
            )),
            Self::NoCaller { name, .. } => Some(format!(
                "[[serve.caller]] name = \"{name}\", persona = \"persona.json\""
            )),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: stop it, or take another port".to_owned())
            }
            Self::Listen { .. } => None,
        }
    }
}

/// A server that listens and does not answer yet.
pub struct Server {
    bound: Vec<(TcpListener, Arc<Door>)>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({:?})", self.addresses())
    }
}

impl Server {
    /// Listens everywhere, or nowhere.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(options: ServerOptions, parts: ServerParts) -> Result<Self, BindError> {
        if options.listeners.is_empty() {
            return Err(BindError::NoListener);
        }
        if let Some(exposed) = options.listeners.iter().find(|one| !one.address.ip().is_loopback()) {
            return Err(BindError::Exposed {
                address: exposed.address,
            });
        }
        check_callers(&options.listeners, &parts.callers)?;
        let shared = Arc::new(Shared::new(SharedParts {
            dispatcher: parts.dispatcher,
            callers: parts.callers,
            bounds: options.bounds,
            health: parts.health,
            clock: parts.clock,
            sink: parts.sink,
            openapi: openapi::openapi(),
        }));
        let mut bound = Vec::new();
        for mut listener in options.listeners {
            let address = listener.address;
            let failed = |source| BindError::Listen { address, source };
            let socket = TcpListener::bind(address).await.map_err(failed)?;
            // A port that the system chose is a name of this listener too.
            listener.address = socket.local_addr().map_err(failed)?;
            let door = Door {
                listener,
                shared: Arc::clone(&shared),
            };
            bound.push((socket, Arc::new(door)));
        }
        Ok(Self { bound, shared })
    }

    /// Where it listens, in the order of the options.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(_, door)| door.listener.address).collect()
    }

    /// Answers until `stop` ends. Then it takes no new connections, lets what is under way go on for a while, and returns.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopper, stopped) = Stop::new();
        let bounds = &self.shared.bounds;
        let places = bounds::size(bounds.connections_max).min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let mut acceptors = JoinSet::new();
        for (listener, door) in self.bound {
            let acceptor = Acceptor {
                listener,
                router: router::router(&door),
                bounds: bounds.clone(),
                places: Arc::clone(&places),
            };
            acceptors.spawn(acceptor.run(stopped.clone()));
        }
        stop.await;
        self.shared.drain();
        let _all_ended = stopper.send(true);
        while acceptors.join_next().await.is_some() {}
    }
}

/// Whoever says nothing must be somebody, where a listener says who.
fn check_callers(listeners: &[ListenerOptions], callers: &Callers) -> Result<(), BindError> {
    for listener in listeners {
        if let Some(name) = &listener.anonymous
            && callers.named(name).is_none()
        {
            return Err(BindError::NoCaller {
                address: listener.address,
                name: name.clone(),
            });
        }
    }
    Ok(())
}
