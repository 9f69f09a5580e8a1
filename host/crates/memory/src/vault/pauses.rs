//! How soon a login is tried again that the server refused, and how soon a token is replaced again. Guests say how often a secret is read.
//! A server locks a role that is refused too often, for every host that has it, and may count how often a secret id is used.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// For how long a secret id that was refused is not shown again: at first, and at most. Each refusal makes it [`LONGER`] times as long.
/// A server that locks a role after five refusals within a quarter of an hour, as Vault does unless it is told otherwise, sees three, and
/// has forgotten them when it sees the next.
const REFUSED_FOR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(16));
const LONGER: u32 = 32;
/// Shortest time between two logins for a request that was refused with a token that says nothing of itself. Either the token is not valid
/// any more, or the policy lets it neither do that nor ask about itself. Stops a guest that asks for what it may not have from causing a
/// login each time.
const REPLACED_FOR: Duration = Duration::from_secs(30);

/// A secret id that was shown, so that it is known again and not kept.
pub(super) struct Shown([u8; 32]);

impl Shown {
    pub(super) fn of(secret_id: &[u8]) -> Self {
        Self(Sha256::digest(secret_id).into())
    }
}

/// Times are those of the clock of the session.
#[derive(Default)]
pub(super) struct Pauses(Mutex<State>);

#[derive(Default)]
struct State {
    refused: Option<Refused>,
    /// When a token was replaced last.
    replaced: Option<Duration>,
}

struct Refused {
    shown: Shown,
    length: Duration,
    until: Duration,
}

impl fmt::Debug for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pauses")
    }
}

impl Pauses {
    /// Whether the server refused this one a short while ago.
    pub(super) fn is_refused(&self, shown: &Shown, now: Duration) -> bool {
        let state = self.state();
        let refused = state.refused.as_ref();
        refused.is_some_and(|refused| refused.shown.0 == shown.0 && now < refused.until)
    }

    /// The server refused this one.
    pub(super) fn note_refusal(&self, shown: Shown, now: Duration) {
        let mut state = self.state();
        let before = state.refused.as_ref().filter(|before| before.shown.0 == shown.0);
        let (first, longest) = REFUSED_FOR;
        let length = before.map_or(first, |before| before.length.saturating_mul(LONGER).min(longest));
        state.refused = Some(Refused {
            shown,
            length,
            until: now.saturating_add(length),
        });
    }

    /// The server took a login.
    pub(super) fn note_login(&self) {
        self.state().refused = None;
    }

    /// Whether a token that says nothing of itself may be replaced now. Then it counts as replaced.
    pub(super) fn may_replace(&self, now: Duration) -> bool {
        let mut state = self.state();
        let may = state
            .replaced
            .is_none_or(|last| now.saturating_sub(last) >= REPLACED_FOR);
        if may {
            state.replaced = Some(now);
        }
        may
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
