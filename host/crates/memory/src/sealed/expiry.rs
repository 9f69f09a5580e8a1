//! Whether the time of day is believed by what destroys records that have expired. A clock that goes wrong for a moment must not destroy
//! what has years to live.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::Clock;
use jiff::{SignedDuration, Timestamp};

/// How far the time of day may go from the time that has passed. Where it is further ahead, nothing that has expired is removed for a
/// while.
const ASTRAY_MAX: SignedDuration = SignedDuration::from_hours(24);
/// A time of day that went further and stays there is believed after this.
const DOUBT: Duration = Duration::from_hours(24);

/// The time of day, as it was believed last.
#[derive(Debug)]
pub(super) struct BelievedTime {
    clock: Arc<dyn Clock>,
    day: Timestamp,
    elapsed: Duration,
    /// How far it went from the one that was expected, and since when.
    astray: Option<(SignedDuration, Duration)>,
}

impl BelievedTime {
    /// It is believed at first: nobody knows a better one.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (day, elapsed) = (clock.now(), clock.elapsed());
        Self {
            clock,
            day,
            elapsed,
            astray: None,
        }
    }

    /// By which time what has expired may be destroyed, in seconds since 1970; none: by no time that is known now. One that is behind
    /// destroys less than there would be.
    pub(super) fn seconds(&mut self) -> Option<u64> {
        let (day, elapsed) = (self.clock.now(), self.clock.elapsed());
        let seconds = u64::try_from(day.as_second()).unwrap_or(0);
        let passed = SignedDuration::try_from(elapsed.saturating_sub(self.elapsed)).unwrap_or(SignedDuration::MAX);
        let ahead = day.duration_since(self.day).saturating_sub(passed);
        let is_near = |other: SignedDuration| ahead.saturating_sub(other).unsigned_abs() <= ASTRAY_MAX.unsigned_abs();
        if is_near(SignedDuration::ZERO) {
            return self.believe(day, elapsed, seconds);
        }
        let is_behind = ahead.is_negative();
        let known = self.astray.filter(|(there, _)| is_near(*there));
        let (there, since) = known.unwrap_or((ahead, elapsed));
        if elapsed.saturating_sub(since) >= DOUBT {
            return self.believe(day, elapsed, seconds);
        }
        self.astray = Some((there, since));
        if known.is_none() && !is_behind {
            tracing::error!(
                hours = ahead.as_hours(),
                "the time of day went ahead: what has expired by it is kept for a day, and cannot be read; set the clock, or leave it if it is right"
            );
        }
        is_behind.then_some(seconds)
    }

    fn believe(&mut self, day: Timestamp, elapsed: Duration, seconds: u64) -> Option<u64> {
        (self.day, self.elapsed, self.astray) = (day, elapsed, None);
        Some(seconds)
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
        assert!(time.seconds().is_some());
        clock.leap(year());
        assert!(time.seconds().is_none());
        clock.advance(HOUR);
        assert!(time.seconds().is_none(), "an hour later it is as far ahead");
        clock.leap(-year());
        assert!(time.seconds().is_some());
        clock.leap(year());
        assert!(time.seconds().is_none());
        clock.advance(HOUR * 23);
        assert!(time.seconds().is_none());
        clock.advance(HOUR);
        assert!(time.seconds().is_some(), "it has stood there for a day");
        clock.advance(HOUR);
        assert!(time.seconds().is_some());
        clock.leap(year());
        assert!(time.seconds().is_none());
        clock.advance(HOUR * 23);
        clock.leap(year());
        assert!(time.seconds().is_none());
        clock.advance(HOUR * 23);
        assert!(time.seconds().is_none(), "there it stands since yesterday");
        clock.advance(HOUR);
        assert!(time.seconds().is_some());
    }

    #[test]
    fn time_that_passes_small_steps_and_clocks_that_go_back_are_believed() {
        let clock = Arc::new(ManualClock::new());
        let mut time = BelievedTime::new(Arc::clone(&clock) as _);
        clock.advance(HOUR * 24 * 365);
        assert!(time.seconds().is_some());
        for _ in 0..30 {
            clock.leap(SignedDuration::from_hours(24));
            assert!(time.seconds().is_some());
        }
        clock.leap(-year());
        assert!(time.seconds().is_some());
    }

    #[test]
    fn a_time_of_day_that_was_behind_for_a_moment_keeps_nothing_from_being_removed() {
        let clock = Arc::new(ManualClock::new());
        let mut time = BelievedTime::new(Arc::clone(&clock) as _);
        let begun = time.seconds().unwrap();
        clock.leap(-year());
        assert!(time.seconds().unwrap() < begun, "less is");
        clock.leap(year());
        assert_eq!(time.seconds(), Some(begun));
        // From behind it is as far ahead as it is from where it was.
        clock.leap(-year());
        assert!(time.seconds().is_some());
        clock.leap(year() + year());
        assert!(time.seconds().is_none());
        clock.leap(-year() - year());
        assert!(time.seconds().is_some());
        clock.advance(HOUR * 24);
        assert!(time.seconds().is_some(), "it has stood there for a day");
        clock.leap(year());
        assert!(time.seconds().is_none());
    }
}
