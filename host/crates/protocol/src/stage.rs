//! What answers at the moment: one router for each listener, made from one configuration, replaced as a whole. A request
//! enters one router and meets nothing of another, so that it sees the old configuration or the new one and never both.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use crate::bind_error::BindError;
use crate::bounds::Bounds;
use crate::door::{Door, Shared};
use crate::listener::ListenerOptions;
use crate::router;
use crate::tls::{Fresh, Tls, TlsOptions, left_out};

/// Everything that a configuration can replace while the server runs. What it adds is a field of [`Shared`], which is made
/// anew with it; what must go on from one to the next, [`Shared::renewed`] hands over.
pub(crate) struct Stage {
    pub(crate) shared: Arc<Shared>,
    pub(crate) doors: Vec<Arc<Door>>,
    pub(crate) reread: Reread,
    routers: Vec<Router>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({} listeners)", self.routers.len())
    }
}

impl Stage {
    /// `addresses` are those that the sockets have, in the order of the listeners: a port that the system chose is a name of
    /// its listener too. `before` is what answers until then; none: nothing does yet.
    ///
    /// # Errors
    /// Files of TLS that are not taken, for a listener that had others before, or none.
    pub(crate) fn new(
        shared: Arc<Shared>,
        listeners: Vec<ListenerOptions>,
        addresses: &[SocketAddr],
        before: Option<&Self>,
    ) -> Result<Self, BindError> {
        let mut reread = Reread::default();
        let doors = listeners.into_iter().zip(addresses).enumerate();
        let doors = doors.map(|(index, (listener, address))| {
            let held = before.and_then(|stage| stage.tls(index));
            let tls = listener.tls.clone();
            let tls = tls.map(|tls| secure(tls, *address, &shared, held, &mut reread));
            let (address, shared) = (*address, Arc::clone(&shared));
            tls.transpose().map(|tls| {
                Arc::new(Door {
                    listener: ListenerOptions { address, ..listener },
                    tls,
                    shared,
                })
            })
        });
        let doors = doors.collect::<Result<Vec<_>, BindError>>()?;
        Ok(Self {
            routers: doors.iter().map(router::router).collect(),
            doors,
            reread,
            shared,
        })
    }

    /// What answers on a listener.
    pub(crate) fn router(&self, listener: usize) -> Router {
        self.routers.get(listener).cloned().unwrap_or_default()
    }

    /// What new connections of a listener are secured with.
    pub(crate) fn tls(&self, listener: usize) -> Option<Arc<Tls>> {
        self.doors.get(listener)?.tls.clone()
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.shared.bounds
    }
}

/// What reading files of TLS again came to.
#[derive(Default)]
pub(crate) struct Reread {
    /// What holds once the configuration does.
    pub(crate) fresh: Vec<Fresh>,
    /// What was not taken, for whoever had it read.
    pub(crate) left_out: Vec<String>,
}

/// TLS of a listener. Where no line says that its files are others, it is the one of before: what is taken there meanwhile is not undone
/// by what was read earlier, nor the other way round. Files that are not taken keep no configuration from holding that may revoke something: the listener goes
/// on with what it has, and somebody is told: in the log, on record, and whoever had it made.
fn secure(
    options: TlsOptions,
    address: SocketAddr,
    shared: &Shared,
    held: Option<Arc<Tls>>,
    reread: &mut Reread,
) -> Result<Arc<Tls>, BindError> {
    match held {
        Some(tls) if tls.is_of(&options) => {
            match tls.read_again() {
                Ok(fresh) => reread.fresh.push(fresh),
                Err(error) => reread.left_out.push(left_out(shared, address, &error)),
            }
            Ok(tls)
        }
        held => {
            let opened = Tls::open(options, shared.clock(), held.as_deref());
            opened.map(Arc::new).map_err(|source| BindError::Tls {
                address,
                source: Box::new(source),
            })
        }
    }
}

/// What answers now. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Current(Arc<ArcSwap<Stage>>);

impl Current {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(stage)))
    }

    /// As of now. Whoever asks once and goes on with that sees one configuration.
    pub(crate) fn stage(&self) -> Arc<Stage> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, stage: Stage) {
        self.0.store(Arc::new(stage));
    }
}
