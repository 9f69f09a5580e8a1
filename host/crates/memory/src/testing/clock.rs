//! A clock that a test sets. It goes forward when told to, and at no other time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aral_contract::Clock;
use jiff::Timestamp;

/// Tells the time that it was set to. Starts at the first moment of 2026.
#[derive(Debug)]
pub struct ManualClock {
    elapsed: Mutex<Duration>,
}

/// 2026-01-01T00:00:00Z, in seconds.
const START_SECONDS: i64 = 1_767_225_600;

impl ManualClock {
    /// A clock at its start.
    pub fn new() -> Self {
        Self {
            elapsed: Mutex::new(Duration::ZERO),
        }
    }

    /// Lets time go by.
    pub fn advance(&self, by: Duration) {
        let mut elapsed = self.elapsed.lock().unwrap_or_else(PoisonError::into_inner);
        *elapsed = elapsed.saturating_add(by);
    }

    /// Lets whole seconds go by.
    pub fn advance_seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(START_SECONDS).expect("a time");
        start.checked_add(self.elapsed()).expect("a time that a calendar holds")
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
