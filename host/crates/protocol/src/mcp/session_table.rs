//! Which sessions there are, whose each is, and which of them are over. It knows nothing of what is said in them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::id::CallerName;
use rmcp::transport::streamable_http_server::session::SessionId;
use rmcp::transport::streamable_http_server::session::local::LocalSessionHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::presence::Presence;
use super::under_way::UnderWay;
use crate::bounds::{self, Bounds};
use crate::tally::{Held, Tally};

/// How long a session was silent that makes room for another one of its caller. Stops clients of one caller, each with a session that it
/// uses, from ending those of each other in turn.
pub(super) const SILENT_MIN: Duration = Duration::from_secs(60);

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// How long one may be silent, in milliseconds.
    idle_ms: AtomicU64,
    /// How many each caller has, and all of them.
    pub(super) places: Tally<CallerName>,
    running: Mutex<HashMap<SessionId, Running>>,
    /// The server is told to end.
    pub(super) draining: CancellationToken,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) owner: CallerName,
    pub(super) line: Line,
    pub(super) _place: Held<CallerName>,
}

impl Running {
    /// Since when nobody waits for anything in it; none: somebody begins it or says something, a call is under way or a stream is open.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.line.presence.left_at()
    }
}

/// The way into a session.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) handle: LocalSessionHandle,
    pub(super) under_way: UnderWay,
    pub(super) presence: Presence,
}

impl Sessions {
    /// `draining` ends when nobody is waited for any more.
    pub(super) fn new(bounds: &Bounds, draining: CancellationToken) -> Self {
        Self {
            idle_ms: AtomicU64::new(bounds.mcp_session_idle_ms),
            places: Tally::new(),
            running: Mutex::default(),
            draining,
        }
    }

    /// Other bounds hold from now on.
    pub(super) fn rebound(&self, bounds: &Bounds) {
        self.idle_ms.store(bounds.mcp_session_idle_ms, Ordering::Relaxed);
    }

    /// Whether there is such a session and it is somebody else's.
    pub(super) fn is_of_another(&self, id: &str, caller: &CallerName) -> bool {
        self.running().get(id).is_some_and(|session| session.owner != *caller)
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<SessionId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was silent for too long.
    pub(super) fn is_over(&self, one: &Running) -> bool {
        let idle = bounds::ms(self.idle_ms.load(Ordering::Relaxed));
        one.silent_since().is_some_and(|since| since.elapsed() >= idle)
    }

    /// Takes away those that were.
    pub(super) fn take_over(&self) -> Vec<Running> {
        let mut running = self.running();
        let over = running.extract_if(|_, one| self.is_over(one));
        over.map(|(_, one)| one).collect()
    }

    /// Takes away this one of the caller.
    pub(super) fn take(&self, id: &SessionId, caller: &CallerName) -> Option<Running> {
        let mut running = self.running();
        running.get(id).filter(|one| one.owner == *caller)?;
        running.remove(id)
    }

    /// Takes away the session of this caller that was silent longest; none: none was for [`SILENT_MIN`].
    pub(super) fn take_silent(&self, caller: &CallerName) -> Option<Running> {
        let mut running = self.running();
        let own = running.iter().filter(|(_, one)| one.owner == *caller);
        let silent = own.filter_map(|(id, one)| Some((one.silent_since()?, id)));
        let (since, id) = silent.min_by_key(|(since, _)| *since)?;
        if since.elapsed() < SILENT_MIN {
            return None;
        }
        let id = Arc::clone(id);
        running.remove(&id)
    }
}
