//! Whether the time of day is believed by what destroys records that have expired. A clock that goes wrong for a moment must not destroy
//! what has years to live.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::Clock;
use jiff::{SignedDuration, Timestamp};

/// How far the time of day may go ahead of the time that has passed. Beyond that, nothing that has expired is removed for a while.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);
/// A time of day that went ahead and stays there is believed after this.
const DOUBT: Duration = Duration::from_hours(24);

/// The time of day, as it was believed last.
#[derive(Debug)]
pub(super) struct BelievedTime {
    clock: Arc<dyn Clock>,
    day: Timestamp,
    elapsed: Duration,
    /// Since when it is doubted.
    doubted: Option<Duration>,
}

impl BelievedTime {
    /// It is believed at first: nobody knows a better one.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (day, elapsed) = (clock.now(), clock.elapsed());
        Self {
            clock,
            day,
            elapsed,
            doubted: None,
        }
    }

    /// Whether it is believed now.
    pub(super) fn is_now(&mut self) -> bool {
        let (day, elapsed) = (self.clock.now(), self.clock.elapsed());
        let passed = SignedDuration::try_from(elapsed.saturating_sub(self.elapsed)).unwrap_or(SignedDuration::MAX);
        let ahead = day.duration_since(self.day).saturating_sub(passed);
        let since = *self.doubted.get_or_insert(elapsed);
        if ahead > AHEAD_MAX && elapsed.saturating_sub(since) < DOUBT {
            if since == elapsed {
                tracing::error!(
                    hours = ahead.as_hours(),
                    "the time of day went ahead: what has expired by it is kept for a day, and cannot be read; set the clock, or leave it if it is right"
                );
            }
            return false;
        }
        *self = Self {
            clock: Arc::clone(&self.clock),
            day,
            elapsed,
            doubted: None,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::testing::ManualClock;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn year() -> SignedDuration {
        SignedDuration::from_hours(365 * 24)
    }

    #[test]
    fn a_time_of_day_that_goes_ahead_is_doubted_until_it_goes_back_or_a_day_is_over() {
        let clock = Arc::new(ManualClock::new());
        let mut time = BelievedTime::new(Arc::clone(&clock) as _);
        assert!(time.is_now());
        clock.leap(year());
        assert!(!time.is_now());
        clock.advance(HOUR);
        assert!(!time.is_now(), "an hour later it is as far ahead");
        clock.leap(-year());
        assert!(time.is_now());
        clock.leap(year());
        assert!(!time.is_now());
        clock.advance(HOUR * 23);
        assert!(!time.is_now());
        clock.advance(HOUR);
        assert!(time.is_now(), "it has stood there for a day");
        clock.advance(HOUR);
        assert!(time.is_now());
    }

    #[test]
    fn time_that_passes_small_steps_and_clocks_that_go_back_are_believed() {
        let clock = Arc::new(ManualClock::new());
        let mut time = BelievedTime::new(Arc::clone(&clock) as _);
        clock.advance(HOUR * 24 * 365);
        assert!(time.is_now());
        for _ in 0..30 {
            clock.leap(SignedDuration::from_hours(24));
            assert!(time.is_now());
        }
        clock.leap(-year());
        assert!(time.is_now());
    }
}
