//! Sessions, which the revisions of MCP before 2026-07-28 have. Each belongs to the caller that began it: to everybody else it
//! is not there. The library keeps what is said in each; whose it is, and how many each may have, is kept here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aral_contract::id::CallerName;
use aral_runtime::entropy;
use futures::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::session::local::{
    EventId, LocalSessionHandle, LocalSessionWorker, SessionConfig, SessionError as Fault, create_local_session,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use super::shares::Shares;
use crate::bounds::{self, Bounds};

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Of those that begin.
    config: Mutex<SessionConfig>,
    places: Shares,
    running: Mutex<HashMap<SessionId, Running>>,
}

#[derive(Debug)]
struct Running {
    owner: CallerName,
    handle: LocalSessionHandle,
    _place: OwnedSemaphorePermit,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The caller has as many as it may.
    #[error("the caller has as many sessions as it may")]
    Full,
    /// There is none of this name, or it is somebody else's.
    #[error("there is no such session")]
    Unknown,
    /// The library's own.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Sessions {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            config: Mutex::new(config(bounds)),
            places: Shares::new(bounds::size(bounds.mcp_sessions_max)),
            running: Mutex::default(),
        }
    }

    /// Other bounds hold for those that begin from now on. Needs a tokio runtime.
    pub(super) fn rebound(&self, bounds: &Bounds) {
        self.places.resize(bounds::size(bounds.mcp_sessions_max));
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config(bounds);
    }

    /// Whether there is such a session and it is somebody else's.
    pub(super) fn is_of_another(&self, id: &str, caller: &CallerName) -> bool {
        self.running().get(id).is_some_and(|session| session.owner != *caller)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SessionId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(bounds: &Bounds) -> SessionConfig {
    let mut config = SessionConfig::default();
    config.keep_alive = Some(bounds::ms(bounds.mcp_session_idle_ms));
    config
}

/// The sessions of one caller, as the library sees them.
#[derive(Debug)]
pub(super) struct OwnSessions {
    all: Arc<Sessions>,
    caller: CallerName,
    full: AtomicBool,
}

impl OwnSessions {
    pub(super) fn new(all: Arc<Sessions>, caller: CallerName) -> Self {
        Self {
            all,
            caller,
            full: AtomicBool::new(false),
        }
    }

    /// Whether a session was not begun because the caller has too many.
    pub(super) fn was_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn find(&self, id: &SessionId) -> Result<LocalSessionHandle, SessionError> {
        let running = self.all.running();
        let own = running.get(id).filter(|session| session.owner == self.caller);
        own.map(|session| session.handle.clone()).ok_or(SessionError::Unknown)
    }
}

impl SessionManager for OwnSessions {
    type Error = SessionError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        let Some(place) = self.all.places.take(&self.caller) else {
            self.full.store(true, Ordering::Relaxed);
            return Err(SessionError::Full);
        };
        // As hard to guess as the name of a request, and as little a secret: it opens nothing to anybody else.
        let id: SessionId = entropy::trace_id().to_string().into();
        let config = self.all.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (handle, worker) = create_local_session(Arc::clone(&id), config);
        let session = Running {
            owner: self.caller.clone(),
            handle,
            _place: place,
        };
        self.all.running().insert(Arc::clone(&id), session);
        Ok((id, WorkerTransport::spawn(worker)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        Ok(self.find(id)?.initialize(message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        Ok(self.find(id).is_ok())
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        // The library asks for this also with a name that nobody has, and once the session has ended by itself.
        if let Ok(handle) = self.find(id) {
            self.all.running().remove(id);
            let _ended_already = handle.close().await;
        }
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let handle = self.find(id)?;
        let channel = handle.establish_request_wise_channel().await?;
        handle.push_message(message, channel.http_request_id).await?;
        Ok(stream(channel.inner))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), SessionError> {
        Ok(self.find(id)?.push_message(message, None).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(stream(self.find(id)?.establish_common_channel().await?.inner))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let last: EventId = last_event_id.parse().map_err(Fault::from)?;
        Ok(stream(self.find(id)?.resume(last).await?.inner))
    }
}

fn stream(mut messages: Receiver<ServerSseMessage>) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
    futures::stream::poll_fn(move |cx| messages.poll_recv(cx))
}
