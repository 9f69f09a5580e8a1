//! The management listener: a Unix socket that only this user and root can reach, and a port of the loopback for whoever has
//! a key for it. No caller of the server gets here, with whatever key, and nothing of this is on a listener of the server.
//! What can be managed is for whoever assembles the host; here is who may.

pub mod client;
mod error;
mod options;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aral_contract::event::{AuthenticationMethod, Severity};
use aral_contract::{AuditSink, Clock, Digest, Event, EventKind, Failure, Sampling, Sensitive, TraceId, rule};
use aral_runtime::files::{self, FilesError, SocketName};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

pub use error::AdminError;
pub use options::AdminOptions;

use crate::accept::{self, Stop};
use crate::authenticate::credential;
use crate::bounds::Bounds;
use crate::caller::KEY_PREFIX;
use crate::connection::{self, Answers};
use crate::door::Trace;
use crate::enter::{Entrance, enter};
use crate::guard;
use crate::listener::ListenerOptions;
use crate::places::Places;
use crate::problem::Problem;

/// Connections at once, of the socket and of the port. Stops a program that forgets to close from using up descriptors.
const CONNECTIONS_MAX: usize = 64;
/// Longest body of a request that is read as a whole: the largest record in base64, and what stands around it.
pub const BODY_BYTES_MAX: usize = 24 << 20;
/// After a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what is under way may go on once the server ends.
const DRAIN: Duration = Duration::from_secs(10);

/// What the management leads to.
#[derive(Debug)]
pub struct AdminParts {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes who was let in, and who was not.
    pub sink: Arc<dyn AuditSink>,
}

/// How much a connection of an operator may cost. An answer may take as long as a large store needs.
pub(crate) fn bounds() -> Bounds {
    Bounds {
        write_ms: 24 * 60 * 60 * 1000,
        ..Bounds::default()
    }
}

/// Under which name the port answers. No line of the configuration gives it another one.
const NAME_IT: &str = "ask it as `localhost`";

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
enum Visitor {
    /// A process of this user or of root.
    Process(u32),
    /// Somebody on this machine, who has to show a key.
    Address(SocketAddr),
}

impl Visitor {
    /// Where from; none: over the socket.
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Process(_) => None,
            Self::Address(address) => Some(address.ip().to_canonical()),
        }
    }
}

/// A management listener that does not answer yet.
#[derive(Debug)]
pub struct AdminServer {
    socket: Option<(UnixListener, SocketName, PathBuf)>,
    port: Option<(TcpListener, ListenerOptions)>,
    gate: Arc<Gate>,
}

/// Who may manage.
#[derive(Debug)]
struct Gate {
    keys: Vec<Digest>,
    listener: Option<ListenerOptions>,
    parts: AdminParts,
}

impl AdminServer {
    /// Listens, or does not.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn bind(options: AdminOptions, parts: AdminParts) -> Result<Self, AdminError> {
        options.check()?;
        let mut port = None;
        if let Some(address) = options.address {
            let failed = |source| AdminError::Listen { address, source };
            let listener = accept::listen(address).map_err(failed)?;
            let known = ListenerOptions {
                address: listener.local_addr().map_err(failed)?,
                hosts: Vec::new(),
                origins: Vec::new(),
                anonymous: None,
                tls: None,
                mcp: false,
            };
            port = Some((listener, known));
        }
        let socket = options.socket.map(listen).transpose()?;
        let gate = Gate {
            keys: options.keys,
            listener: port.as_ref().map(|(_, known)| known.clone()),
            parts,
        };
        Ok(Self {
            socket,
            port,
            gate: Arc::new(gate),
        })
    }

    /// Where the socket is.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(|(_, _, path)| path.as_path())
    }

    /// Where the port is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.as_ref().map(|(_, known)| known.address)
    }

    /// Answers with `router` until `stop` ends; then what is under way may go on for some seconds. The socket is removed at the
    /// end.
    pub async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let Self { socket, port, gate } = self;
        let entrance = Entrance::new(&gate.parts.clock, Sampling::PASS);
        let router = router
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), admit))
            .layer(middleware::from_fn_with_state(entrance, outside));
        let (stopper, stopped) = Stop::new();
        let mut listeners = JoinSet::new();
        let mut name = None;
        if let Some((listener, held, _)) = socket {
            name = Some(held);
            let accept = move |cx: &mut Context<'_>| {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(stream, _)| gate.believed(stream))
            };
            listeners.spawn(serve(accept, router.clone(), stopped.clone()));
        }
        if let Some((listener, _)) = port {
            let accept = move |cx: &mut Context<'_>| {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(stream, peer)| Some((stream, Visitor::Address(peer))))
            };
            listeners.spawn(serve(accept, router, stopped));
        }
        stop.await;
        // Nobody begins anything with a server that ends.
        drop(name);
        let _all_ended = stopper.send(true);
        while listeners.join_next().await.is_some() {}
    }
}

fn listen(path: PathBuf) -> Result<(UnixListener, SocketName, PathBuf), AdminError> {
    let (listener, name) = files::bind_private(&path).map_err(AdminError::Socket)?;
    let failed = |source| {
        AdminError::Socket(FilesError::Io {
            action: "listen on",
            path: path.clone(),
            source,
        })
    };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    Ok((listener, name, path))
}

/// A place and then a connection; none: there will be no places any more.
async fn with_place<C>(places: &Places, accepting: impl Future<Output = C>) -> Option<(OwnedSemaphorePermit, C)> {
    let place = places.take().await?;
    Some((place, accepting.await))
}

/// Serves whom `accept` lets in. The places are its own: whoever takes all of the port keeps nobody from the socket.
async fn serve<S>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<Option<(S, Visitor)>>>,
    router: Router,
    mut stop: Stop,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Places::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = with_place(&places, poll_fn(&accept)) => accepted,
        };
        let Some((place, accepted)) = accepted else { break };
        match accepted {
            Ok(Some((stream, visitor))) => {
                let (answers, stop) = (Answers::Management(router.clone()), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection::serve(stream, visitor, answers, stop).await;
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection to the management was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(accept);
    end(connections).await;
}

async fn end(mut connections: JoinSet<()>) {
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, rest).await.is_err() {
        tracing::warn!(left = connections.len(), "management connections were cut off");
        connections.shutdown().await;
    }
}

/// Whether a process of this user is one of ours, or of root.
fn is_ours(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

impl Gate {
    /// The process at the other end, if it is one of this user or of root: the mode of the socket says the same, and this holds
    /// whatever became of the mode.
    fn believed(&self, stream: UnixStream) -> Option<(UnixStream, Visitor)> {
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) if is_ours(uid, files::user()) => Some((stream, Visitor::Process(uid))),
            Ok(uid) => {
                self.note(Visitor::Process(uid), None, Some("a process of another user"));
                None
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known who connected to the management socket");
                None
            }
        }
    }

    fn note(&self, visitor: Visitor, trace: Option<TraceId>, refused: Option<&str>) {
        let (method, user) = match visitor {
            Visitor::Process(uid) => (AuthenticationMethod::Local, Some(format!("uid {uid}"))),
            Visitor::Address(_) => (AuthenticationMethod::ApiKey, None),
        };
        self.record(
            trace,
            EventKind::Authentication {
                user: user.map(Sensitive::new),
                agent: None,
                method,
                source: visitor.address(),
                refused: refused.map(|reason| format!("management: {reason}")),
            },
        );
    }

    /// A request tried something that only an attack tries.
    fn note_attack(&self, visitor: Visitor, trace: TraceId, rule: &'static str) {
        self.record(
            Some(trace),
            EventKind::Security {
                severity: Severity::Medium,
                rule,
                subject: "management".to_owned(),
                reason: None,
                source: visitor.address(),
            },
        );
    }

    fn record(&self, trace: Option<TraceId>, kind: EventKind) {
        // Nobody waits until it is kept: who connects does for the one before.
        drop(self.parts.sink.append(Event {
            at: self.parts.clock.now(),
            trace,
            kind,
        }));
    }

    /// Waits until what is about to be done, or refused, can be recorded, as a task and for a while. Where it cannot be, it is not
    /// done. Who only looks is not on record, and sees what is wrong.
    async fn room(&self) -> Result<(), Problem> {
        match self.parts.sink.room() {
            None => Ok(()),
            Some(room) => room.await.map_err(|unavailable| Failure::from(unavailable).into()),
        }
    }
}

/// What every request of this listener meets first and last.
async fn outside(State(entrance): State<Entrance>, request: Request, next: Next) -> Response {
    enter(&entrance, None, request, |_trace, request| next.run(request)).await
}

/// Lets an operator through. Whoever changes something is on record; who only looks is not, since a display looks often.
async fn admit(
    State(gate): State<Arc<Gate>>,
    Extension(Trace(trace)): Extension<Trace>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
    next: Next,
) -> Response {
    // A page in a browser has no business here, whatever it found out.
    if guard::is_of_a_page(request.headers()) {
        gate.note_attack(visitor, trace, rule::HTTP_ORIGIN);
        let problem = Problem::request(StatusCode::FORBIDDEN, "a page may not call here");
        return problem.closing().into_response();
    }
    // Whoever is refused has no further request: answers that a stranger does not read would keep the connection for as long
    // as an operator may read.
    if let (Visitor::Address(_), Some(known)) = (visitor, &gate.listener) {
        if let Err((rule, problem)) = guard::check_host(known, NAME_IT, request.uri(), request.headers()) {
            if let Some(rule) = rule {
                gate.note_attack(visitor, trace, rule);
            }
            return problem.closing().into_response();
        }
        if let Err(reason) = gate.check_key(&request) {
            gate.note(visitor, Some(trace), Some(reason));
            let mut response = crate::authenticate::refused(HeaderValue::from_static("Bearer"));
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            return response;
        }
    }
    if request.method() != Method::GET {
        if let Err(full) = gate.room().await {
            return full.into_response();
        }
        gate.note(visitor, Some(trace), None);
    }
    next.run(request).await
}

impl Gate {
    /// What is compared is a digest of the key: how long that takes says nothing about it.
    fn check_key(&self, request: &Request) -> Result<(), &'static str> {
        let key = credential(request.headers())?.ok_or("no credential")?;
        if !key.starts_with(KEY_PREFIX) {
            return Err("a credential of no known form");
        }
        if self.keys.contains(&Digest::of(key.as_bytes())) {
            Ok(())
        } else {
            Err("an unknown key")
        }
    }
}
