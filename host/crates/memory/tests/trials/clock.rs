//! A clock that stands still until it is told to go on: what expires when must not hang on how fast a machine is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aral_contract::Clock;
use jiff::Timestamp;

/// Whole seconds since 1970.
#[derive(Debug)]
pub(crate) struct SteppedClock(AtomicI64);

impl SteppedClock {
    pub(crate) fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds()).unwrap_or(Timestamp::MAX)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.seconds()).unwrap_or(0))
    }
}
