//! Which sessions there are, whose each is, and which of them are over. It knows nothing of what is said in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aral_contract::id::CallerName;
use rmcp::transport::streamable_http_server::session::SessionId;
use rmcp::transport::streamable_http_server::session::local::LocalSessionHandle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::presence::Presence;
use super::under_way::UnderWay;
use crate::bounds::{self, Bounds};
use crate::request_place::{OtherPlace, RequestPlace};
use crate::tally::{Beyond, Held, Tally};

/// How long a session was silent that makes room for another one of its caller. Stops clients of one caller, each with a session that it
/// uses, from ending those of each other in turn.
pub(super) const SILENT_MIN: Duration = Duration::from_secs(60);

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// How long one may be silent, in milliseconds.
    idle_ms: watch::Sender<u64>,
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
    /// That of its stream of news.
    pub(super) news: OtherPlace,
    /// Ends it once it is over.
    pub(super) _end: AbortOnDropHandle<()>,
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
            idle_ms: watch::Sender::new(bounds.mcp_session_idle_ms),
            places: Tally::new(),
            running: Mutex::default(),
            draining,
        }
    }

    /// Other bounds hold from now on.
    pub(super) fn rebound(&self, bounds: &Bounds) {
        self.idle_ms.send_replace(bounds.mcp_session_idle_ms);
    }

    /// Whether there is such a session and it is somebody else's.
    pub(super) fn is_of_another(&self, id: &str, caller: &CallerName) -> bool {
        self.running().get(id).is_some_and(|session| session.owner != *caller)
    }

    /// A place for a stream of news in this session, if it is one of the caller. Its stream before, which ends now, may be on a
    /// connection that its client has lost: that one's place is enough for both. Otherwise it is one that is taken now.
    pub(super) fn news_place(
        &self,
        id: &str,
        caller: &CallerName,
        take: impl FnOnce() -> Result<Held<CallerName>, Beyond>,
    ) -> Result<RequestPlace, Beyond> {
        let mut running = self.running();
        let own = running.get_mut(id).filter(|session| session.owner == *caller);
        if let Some(place) = own.as_ref().and_then(|session| session.news.join()) {
            return Ok(place);
        }
        let place = RequestPlace::of(take()?);
        if let Some(session) = own {
            session.news = place.other();
        }
        Ok(place)
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<SessionId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it may still be silent.
    fn rest(&self, one: &Running) -> Duration {
        let silent = one.silent_since().map_or(Duration::ZERO, |since| since.elapsed());
        bounds::ms(*self.idle_ms.borrow()).saturating_sub(silent)
    }

    /// Takes away this one if it was silent for too long.
    pub(super) fn take_over(&self, id: &SessionId) -> Option<Running> {
        let mut running = self.running();
        running.get(id).filter(|one| self.rest(one).is_zero())?;
        running.remove(id)
    }

    /// Ends this one as soon as it was silent for too long.
    pub(super) async fn end_over(all: Weak<Self>, id: SessionId) {
        let Some(mut idle) = all.upgrade().map(|all| all.idle_ms.subscribe()) else {
            return;
        };
        loop {
            let Some(sessions) = all.upgrade() else { return };
            if let Some(over) = sessions.take_over(&id) {
                // It has this task, which is there until then.
                let _ended_already = over.line.handle.close().await;
                return;
            }
            let rest = sessions.running().get(&id).map(|one| sessions.rest(one));
            drop(sessions);
            let Some(rest) = rest else { return };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                changed = idle.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
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
