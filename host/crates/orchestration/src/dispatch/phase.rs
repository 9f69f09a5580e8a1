//! How far a call has come, for whoever waits for it and wants to know.

use std::fmt;

use aral_capability::Running;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Dispatcher, Outcome, Request};
use crate::session::Session;

/// What a call does. It only moves on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallPhase {
    /// It waits for a place among the calls that run.
    #[default]
    Waiting,
    /// Its code is made ready: read, or compiled at the first call; its input is checked, and its guest is made.
    Preparing,
    /// The guest runs, or ran until the call ended, however that was. A call that never comes to this has done nothing.
    Running,
}

impl fmt::Display for CallPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Running => "running",
        })
    }
}

/// Who is told the phase of a call; none: nobody.
pub(super) type PhaseWatcher<'a> = Option<&'a watch::Sender<CallPhase>>;

/// Tells them.
pub(super) fn tell(told: PhaseWatcher<'_>, phase: CallPhase) {
    if let Some(told) = told {
        told.send_replace(phase);
    }
}

/// Tells them that the guest runs, once it does.
pub(super) fn running(told: &watch::Sender<CallPhase>) -> Running {
    let told = told.clone();
    Running::new(move || {
        told.send_if_modified(|phase| std::mem::replace(phase, CallPhase::Running) != CallPhase::Running);
    })
}

impl Dispatcher {
    /// [`Dispatcher::invoke`] for a caller who wants to know, and has no more time than `until`: `phase` is told how far the call has
    /// come, and a call that still runs then, or has not begun to, is ended with `limit.wall`. Recording that may take a moment more:
    /// whoever calls drops the call if it takes too long.
    pub async fn invoke_watched(
        &self,
        session: &Session,
        request: Request<'_>,
        phase: &watch::Sender<CallPhase>,
        until: Option<Instant>,
    ) -> Outcome {
        self.invoke_told(session, request, Some(phase), until).await
    }
}
