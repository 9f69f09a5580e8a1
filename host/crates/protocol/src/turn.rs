//! How long a request that computes holds its thread before others have a turn. It knows nothing of what is computed.

use std::time::Duration;

use tokio::time::Instant;

/// How long one turn lasts at least. Every time that somebody gives way, each guest of the thread may compute for an epoch:
/// whoever gave way after each step would be behind all of them at each step.
const TURN: Duration = Duration::from_millis(5);

/// The turn of a request.
pub(crate) struct Turn(Instant);

impl Turn {
    /// It begins.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Gives way to the others of this thread if the turn has lasted long enough, and begins the next one then.
    pub(crate) async fn give_way(&mut self) {
        if self.0.elapsed() >= TURN {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_time_does_not_give_way_and_who_does_gives_way_once() {
        let mut turn = Turn::begin();
        for _ in 0..200 {
            assert_eq!(turn.give_way().now_or_never(), Some(()));
        }
        tokio::time::advance(TURN).await;
        assert_eq!(turn.give_way().now_or_never(), None);
        turn.give_way().await;
        assert_eq!(turn.give_way().now_or_never(), Some(()));
    }
}
