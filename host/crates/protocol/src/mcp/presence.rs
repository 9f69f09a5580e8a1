//! Whether somebody is in a session of MCP, and since when nobody is. It knows neither what is said there nor whose it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// Who is in a session: as long as there is another clone than that of the session, somebody is.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When somebody was there last.
    last: Arc<Mutex<Instant>>,
}

impl Presence {
    /// Of a session that is made now.
    pub(super) fn begin() -> Self {
        Self {
            turn: Arc::default(),
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Somebody is there now.
    pub(super) fn touch(&self) {
        *self.last() = Instant::now();
    }

    /// Whoever says something waits for this: what is under way is known in the order in which the library hears of it.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Somebody stays.
    pub(super) fn enter(&self) -> Open {
        Open(self.clone())
    }

    /// Since when nobody is there; none: somebody is.
    pub(super) fn left_at(&self) -> Option<Instant> {
        // Whoever leaves says so first: counted the other way round, this could be the time of before.
        let is_alone = Arc::strong_count(&self.turn) == 1;
        is_alone.then(|| *self.last())
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as this is there, somebody is in a session, and was until then.
#[derive(Debug)]
pub(super) struct Open(Presence);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_left_this_moment_was_not_left_long_ago() {
        let presence = Presence::begin();
        let long_ago = *presence.last();
        while Instant::now() <= long_ago {}
        presence.touch();
        // As in the table of sessions: nobody enters while somebody asks. Leaving waits for nothing.
        let table = Mutex::new(());
        std::thread::scope(|scope| {
            let leaving = scope.spawn(|| {
                for _ in 0..20_000 {
                    let asked = table.lock().unwrap();
                    let open = presence.enter();
                    *presence.last() = long_ago;
                    drop(asked);
                    drop(open);
                }
            });
            while !leaving.is_finished() {
                let _asked = table.lock().unwrap();
                assert_ne!(presence.left_at(), Some(long_ago));
            }
        });
    }
}
