//! The server as a whole: bound first, then run to its end; meanwhile its configuration can be replaced.

mod check;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::{AuditSink, Clock};
use aral_orchestration::Dispatcher;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept::{self, Acceptor, Stop};
use crate::bind_error::BindError;
use crate::bounds::{self, Bounds};
use crate::caller::Callers;
use crate::door::{Door, RenewedParts, Shared, SharedParts};
use crate::health::{Check, Health};
use crate::limit::{Limits, Proxies, Rates, RedisOptions};
use crate::listener::ListenerOptions;
use crate::openapi;
use crate::places::Places;
use crate::protected::Resource;
use crate::receipts::Receipts;
use crate::stage::{Current, Reread, Stage};
use crate::tls::{self, Fresh, TlsReloader};
use crate::token::Issuers;
use check::check_listeners;

/// Where the server listens, and what it bears.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where.
    pub listeners: Vec<ListenerOptions>,
    /// The address under which callers know it: the resource that they ask for tokens for.
    pub resource: Option<Resource>,
    /// What it bears.
    pub bounds: Bounds,
    /// How often somebody may ask.
    pub rates: Rates,
    /// Where that is counted for several servers together; none: each counts for itself.
    pub redis: Option<RedisOptions>,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Proxies,
}

/// What the server leads to.
#[derive(Debug)]
pub struct ServerParts {
    /// The one path.
    pub dispatcher: Arc<Dispatcher>,
    /// Who may call.
    pub callers: Callers,
    /// Whose tokens are believed.
    pub issuers: Issuers,
    /// Whether the host is well.
    pub health: Arc<dyn Health>,
    /// Proves calls.
    pub receipts: Arc<dyn Receipts>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes what happens before a call begins.
    pub sink: Arc<dyn AuditSink>,
    /// Changes when somebody may be able to call something else than before.
    pub changes: watch::Receiver<()>,
}

/// What a configuration that was read again says.
#[derive(Debug)]
pub struct Renewal {
    /// Where the server listens, which must be where it does, and what it bears.
    pub options: ServerOptions,
    /// The one path, under the rules that hold from now on.
    pub dispatcher: Arc<Dispatcher>,
    /// Who may call from now on.
    pub callers: Callers,
    /// Whose tokens are believed from now on.
    pub issuers: Issuers,
}

/// A server that listens and does not answer yet.
pub struct Server {
    sockets: Vec<TcpListener>,
    handle: ServerHandle,
}

/// A hand on a server that runs. Clones are of the same one.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    current: Current,
    /// Where the configuration wants it to listen, and where it does.
    wanted: Arc<[SocketAddr]>,
    bound: Arc<[SocketAddr]>,
    /// Places for connections.
    places: Places,
}

impl ServerHandle {
    /// Reads the files of TLS anew when told to. The server does so by itself when they change, and when the configuration is
    /// read again.
    pub fn tls_reloader(&self) -> TlsReloader {
        TlsReloader::new(self.current.clone())
    }

    /// How long what is under way may go on once the server ends, as of now.
    pub fn drain(&self) -> Duration {
        bounds::ms(self.current.stage().bounds().drain_ms)
    }

    /// How long everything goes on once the server is told to end, as of now.
    pub fn drain_delay(&self) -> Duration {
        bounds::ms(self.current.stage().bounds().drain_delay_ms)
    }

    /// How many requests of callers are under way.
    pub fn requests(&self) -> usize {
        self.current.stage().shared.requests.taken()
    }

    /// What was found of the health of the host, now or within the last second: who asks here and at `/health` has one look together, and
    /// nobody waits longer than 5 s for it. Needs a tokio runtime. Here alone stands whether the limits that several servers share can be
    /// asked: if `/health` said it, one Redis would take all of them out.
    pub async fn checks(&self) -> Arc<[Check]> {
        let shared = Arc::clone(&self.current.stage().shared);
        let found = shared.health.look().await;
        found.iter().cloned().chain(shared.limits.health()).collect()
    }

    /// Whether it was told to end, and goes on for a while.
    pub fn is_draining(&self) -> bool {
        self.current.stage().shared.draining()
    }

    /// Makes everything that a request can reach from another configuration. Nothing changes yet.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn prepare(&self, renewal: Renewal) -> Result<Prepared, BindError> {
        let Renewal {
            options,
            dispatcher,
            callers,
            issuers,
        } = renewal;
        let addresses = options.listeners.iter().map(|listener| listener.address);
        if !addresses.eq(self.wanted.iter().copied()) {
            return Err(BindError::Moved);
        }
        check_listeners(&options, &callers, &issuers)?;
        let before = self.current.stage();
        let shared = &before.shared;
        if !shared.limits.is_kept_at(options.redis.as_ref()) {
            return Err(BindError::LimitsMoved);
        }
        let shared = shared.renewed(RenewedParts {
            dispatcher,
            callers,
            issuers,
            resource: options.resource,
            bounds: options.bounds,
            rates: options.rates,
            redis: options.redis,
            proxies: options.trusted_proxies,
        });
        Ok(Prepared {
            stage: Stage::new(Arc::new(shared), options.listeners, &self.bound, Some(&before))?,
            handle: self.clone(),
        })
    }
}

/// Another configuration of a server, ready to hold.
#[derive(Debug)]
pub struct Prepared {
    handle: ServerHandle,
    stage: Stage,
}

impl Prepared {
    /// From now on it holds: a request that has begun goes on under the old one, and every later one sees this one, also on
    /// a connection that was there before. Needs a tokio runtime.
    ///
    /// Returns what of the files does not hold, a sentence for each: files of TLS that were not taken, and what waits for a restart and
    /// was not told of before. All of it is on record, too.
    pub fn commit(self) -> Vec<String> {
        let Self { handle, mut stage } = self;
        let Reread { fresh, mut left_out } = std::mem::take(&mut stage.reread);
        handle.places.resize(bounds::size(stage.bounds().connections_max));
        stage.shared.rebound();
        let before = &handle.current.stage().shared;
        if stage.shared.limits.has_other_credentials(&before.limits) {
            left_out.push(stage.shared.tell_old_credentials().to_owned());
        }
        fresh.into_iter().for_each(Fresh::take);
        handle.current.replace(stage);
        left_out
    }
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
        let server = Self::bind_with(options, parts, |address| {
            let socket = accept::listen(address)?;
            let bound = socket.local_addr()?;
            Ok((socket, bound))
        })
        .await?;
        // They may be others than at the last start, and say whose certificates let callers in.
        let stage = server.handle.current.stage();
        for tls in stage.doors.iter().filter_map(|door| door.tls.as_ref()) {
            stage.shared.record_tls_files(None, tls.digest());
        }
        Ok(server)
    }

    /// Whether it could, beside a server that already listens there: it listens for a moment on free ports of the same addresses. Redis is
    /// not asked.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn try_bind(mut options: ServerOptions, parts: ServerParts) -> Result<(), BindError> {
        if let Some(redis) = options.redis.take() {
            Limits::check(&redis).map_err(BindError::Redis)?;
        }
        let bound = Self::bind_with(options, parts, |address| {
            let free = SocketAddr::new(address.ip(), 0);
            Ok((accept::listen(free)?, address))
        });
        bound.await.map(drop)
    }

    /// `listen` says where it listens, too.
    async fn bind_with(
        options: ServerOptions,
        parts: ServerParts,
        listen: fn(SocketAddr) -> io::Result<(TcpListener, SocketAddr)>,
    ) -> Result<Self, BindError> {
        if options.listeners.is_empty() {
            return Err(BindError::NoListener);
        }
        check_listeners(&options, &parts.callers, &parts.issuers)?;
        let limits = Limits::start(options.rates, options.redis, &parts.clock, &parts.sink);
        let limits = limits.await.map_err(BindError::Redis)?;
        let shared = Arc::new(Shared::new(SharedParts {
            dispatcher: parts.dispatcher,
            callers: parts.callers,
            issuers: parts.issuers,
            resource: options.resource,
            bounds: options.bounds,
            limits,
            proxies: options.trusted_proxies,
            health: parts.health,
            receipts: parts.receipts,
            clock: parts.clock,
            sink: parts.sink,
            openapi: openapi::openapi().into(),
            changes: parts.changes,
        }));
        let (mut sockets, mut bound) = (Vec::new(), Vec::new());
        let wanted: Arc<[SocketAddr]> = options.listeners.iter().map(|listener| listener.address).collect();
        for address in wanted.iter().copied() {
            let (socket, at) = listen(address).map_err(|source| BindError::Listen { address, source })?;
            bound.push(at);
            sockets.push(socket);
        }
        let places = Places::new(bounds::size(shared.bounds.connections_max));
        let handle = ServerHandle {
            current: Current::new(Stage::new(shared, options.listeners, &bound, None)?),
            wanted,
            bound: bound.into(),
            places,
        };
        Ok(Self { sockets, handle })
    }

    /// A hand on it, for while it runs.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Where it listens, in the order of the options.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.handle.bound.to_vec()
    }

    /// The same as URLs.
    pub fn urls(&self) -> Vec<String> {
        let stage = self.handle.current.stage();
        let url = |door: &Arc<Door>| {
            let scheme = if door.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", door.listener.address)
        };
        stage.doors.iter().map(url).collect()
    }

    /// Answers until `stop` ends, and for `drain_delay_ms` more, in which it says that it is not ready. Then it takes no new
    /// connections, lets what is under way go on for a while, and returns.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopper, stopped) = Stop::new();
        let Self { sockets, handle } = self;
        let watch = tokio::spawn(tls::watch(handle.tls_reloader()));
        let mut acceptors = JoinSet::new();
        for (index, listener) in sockets.into_iter().enumerate() {
            let acceptor = Acceptor {
                listener,
                index,
                current: handle.current.clone(),
                places: handle.places.clone(),
            };
            acceptors.spawn(acceptor.run(stopped.clone()));
        }
        stop.await;
        let shared = Arc::clone(&handle.current.stage().shared);
        shared.leave();
        tokio::time::sleep(bounds::ms(shared.bounds.drain_delay_ms)).await;
        watch.abort();
        // It may have been replaced meanwhile.
        let shared = Arc::clone(&handle.current.stage().shared);
        shared.mcp.drain();
        let mut drained = std::pin::pin!(tokio::time::sleep(bounds::ms(shared.bounds.drain_ms)));
        let _all_ended = stopper.send(true);
        while acceptors.join_next().await.is_some() {}
        // What goes on without a connection, in sessions of MCP too.
        tokio::select! {
            biased;
            () = shared.requests.freed() => {}
            () = &mut drained => tracing::warn!("calls were cut off: [serve.limits] drain_ms"),
        }
        shared.mcp.end();
    }
}
