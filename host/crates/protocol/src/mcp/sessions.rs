//! Sessions, which the revisions of MCP before 2026-07-28 have. Each belongs to the caller that began it: to everybody else it
//! is not there. The library keeps what is said in it; whose it is, and how many each may have, is kept here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aral_contract::id::CallerName;
use futures::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use tokio::sync::OwnedSemaphorePermit;

use super::shares::Shares;
use crate::bounds::{self, Bounds};

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Where new ones are kept. Another time for being idle is another place, and those that have begun stay where they are.
    newest: Mutex<Arc<LocalSessionManager>>,
    places: Shares,
    owners: Mutex<HashMap<SessionId, Owner>>,
}

#[derive(Debug)]
struct Owner {
    caller: CallerName,
    local: Arc<LocalSessionManager>,
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
    Local(#[from] LocalSessionManagerError),
}

impl Sessions {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            newest: Mutex::new(local(bounds)),
            places: Shares::new(bounds::size(bounds.mcp_sessions_max)),
            owners: Mutex::default(),
        }
    }

    /// Other bounds hold for those that begin from now on. Needs a tokio runtime.
    pub(super) fn rebound(&self, bounds: &Bounds) {
        self.places.resize(bounds::size(bounds.mcp_sessions_max));
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = local(bounds);
    }

    fn newest(&self) -> Arc<LocalSessionManager> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is such a session and it is somebody else's.
    pub(super) fn is_of_another(&self, id: &str, caller: &CallerName) -> bool {
        self.owners().get(id).is_some_and(|owner| owner.caller != *caller)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<SessionId, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local(bounds: &Bounds) -> Arc<LocalSessionManager> {
    let mut local = LocalSessionManager::default();
    local.session_config.keep_alive = Some(bounds::ms(bounds.mcp_session_idle_ms));
    Arc::new(local)
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

    fn find(&self, id: &SessionId) -> Result<Arc<LocalSessionManager>, SessionError> {
        let owners = self.all.owners();
        let own = owners.get(id).filter(|owner| owner.caller == self.caller);
        own.map(|owner| Arc::clone(&owner.local)).ok_or(SessionError::Unknown)
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
        let local = self.all.newest();
        let (id, transport) = local.create_session().await?;
        let owner = Owner {
            caller: self.caller.clone(),
            local,
            _place: place,
        };
        self.all.owners().insert(Arc::clone(&id), owner);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        Ok(self.find(id)?.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        match self.find(id) {
            Ok(local) => Ok(local.has_session(id).await?),
            Err(_unknown) => Ok(false),
        }
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        // The library asks for this also with a name that nobody has.
        let Ok(local) = self.find(id) else {
            return Ok(());
        };
        let closed = local.close_session(id).await;
        self.all.owners().remove(id);
        Ok(closed?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.find(id)?.create_stream(id, message).await?)
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), SessionError> {
        Ok(self.find(id)?.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.find(id)?.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.find(id)?.resume(id, last_event_id).await?)
    }
}
