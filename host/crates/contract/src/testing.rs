//! What tests of several crates share. Compiled with the feature `testing` alone.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Clock;

/// 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A clock that a test sets. It starts at the first moment of 2026. The time of day and the time that has passed go forward
/// together when they are told to, and at no other time. The time of day leaps alone when it is told to, so that a test sees which of
/// the two is counted.
#[derive(Debug, Default)]
pub struct ManualClock {
    elapsed: Mutex<Duration>,
    /// How far the time of day is ahead of the time that has passed.
    ahead: Mutex<SignedDuration>,
}

impl ManualClock {
    /// A clock at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time go by.
    pub fn advance(&self, by: Duration) {
        let mut elapsed = self.elapsed.lock().unwrap_or_else(PoisonError::into_inner);
        *elapsed = elapsed.saturating_add(by);
    }

    /// Moves the time of day by so much, and lets no time go by: as when somebody sets a clock, or as for a process that began later.
    pub fn leap(&self, by: SignedDuration) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        *ahead = ahead.saturating_add(by);
    }

    /// Lets whole seconds go by.
    pub fn advance_seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        START + self.elapsed() + *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
