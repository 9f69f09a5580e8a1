//! How old segments are. The clock of the machine can be set, by mistake or by somebody far away, and what retention removes
//! does not come back: while a host lives only time that passed counts, and where the clock went far ahead, while a host was at
//! work or while none was, it counts once that was so for a while. It reads no file.

use std::time::Duration;

use aral_contract::Clock;
use jiff::Timestamp;

use crate::writer::LOOK_BACK;

/// Longest time between two ends of segments, or the last one and the opening of the log, that counts at once; less where half the
/// age at which segments go is less. Stops one step of the clock from making a whole history old.
pub(crate) const CLOCK_LEAP_MAX: Duration = Duration::from_hours(24);
/// How long the log has to go on behind a longer one until that counts too. What may be a leap itself vouches for no more than one
/// that counts at once. Leaves time to read the log of the host, and to set the clock.
pub(crate) const CLOCK_DOUBT: Duration = Duration::from_hours(7 * 24);

/// What the clock said when the log was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    at: Timestamp,
    elapsed: Duration,
    doubted: Option<Doubted>,
}

/// When the log was opened by a clock that was set since.
#[derive(Debug, Clone, Copy)]
struct Doubted {
    at: Timestamp,
    /// When that was seen last, and for how long it was seen.
    seen: Duration,
    lasted: Duration,
}

impl Opening {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self {
            at: clock.now(),
            elapsed: clock.elapsed(),
            doubted: None,
        }
    }

    /// The time of day, no later than as much after the opening as passed since. A clock that was set is believed once it was so
    /// at every look for as long as any other leap is doubted: it was wrong when the log was opened.
    pub(crate) fn moment(&mut self, clock: &dyn Clock) -> Moment {
        let (said, elapsed) = (clock.now(), clock.elapsed());
        let passed = elapsed.saturating_sub(self.elapsed);
        self.look(said.checked_sub(passed).unwrap_or(Timestamp::MIN), elapsed);
        let latest = self.at.checked_add(passed).unwrap_or(Timestamp::MAX);
        let now = said.min(latest);
        Moment {
            opened: self.at,
            now,
            said: if between(now, said) > CLOCK_LEAP_MAX { said } else { now },
        }
    }

    /// The clock says now that the log was opened `at` this time.
    fn look(&mut self, at: Timestamp, elapsed: Duration) {
        let opened = self.at;
        let is_same = |doubted: &Doubted| {
            at.cmp(&opened) == doubted.at.cmp(&opened) && at.duration_since(doubted.at).unsigned_abs() <= CLOCK_LEAP_MAX
        };
        let mut doubted = self.doubted.filter(is_same).unwrap_or(Doubted {
            at,
            seen: elapsed,
            lasted: Duration::ZERO,
        });
        // Of the rest of a longer time nobody knows: the machine slept, or the disk was full.
        let passed = elapsed.saturating_sub(doubted.seen).min(LOOK_BACK.saturating_mul(2));
        doubted.lasted = doubted.lasted.saturating_add(passed);
        doubted.seen = elapsed;
        self.doubted = (at != opened).then_some(doubted);
        if doubted.lasted >= CLOCK_DOUBT {
            self.at = if at < opened {
                at.max(doubted.at)
            } else {
                at.min(doubted.at)
            };
            self.doubted = None;
        }
    }
}

/// A moment at which the log is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) opened: Timestamp,
    pub(crate) now: Timestamp,
    /// The same by a clock that is doubted.
    pub(crate) said: Timestamp,
}

/// How old a segment that ended is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age {
    /// By the clock alone.
    pub(crate) said: Duration,
    /// Without the leaps that do not count yet.
    pub(crate) counted: Duration,
    /// By how much its end is in the future, or before that of one that stands before it.
    pub(crate) ahead: Duration,
}

impl Moment {
    /// The ages of segments that ended at these times, oldest first. None ended later than one after it or than now: what says
    /// so was signed under a clock that was ahead. Nor did one end before another that stands before it: there the clock was
    /// behind, or ahead before, and what makes nothing older is believed.
    pub(crate) fn ages(&self, ends: &[Timestamp], leap_max: Duration) -> Vec<Age> {
        let (mut later, mut counted, mut vouched) = (self.now, Duration::ZERO, Duration::ZERO);
        let mut latest = Timestamp::MIN;
        let raised = ends.iter().map(|end| {
            if *end <= self.now {
                latest = latest.max(*end);
                latest
            } else {
                *end
            }
        });
        let raised: Vec<Timestamp> = raised.collect();
        let mut ages = Vec::with_capacity(ends.len());
        for (end, raised) in ends.iter().zip(&raised).rev() {
            let at = (*raised).min(later);
            if at < self.opened && self.opened < later {
                // What passed since the opening is no leap, however much it is.
                let passed = between(self.opened, later);
                counted = counted.saturating_add(passed);
                vouched = vouched.saturating_add(passed);
                later = self.opened;
            }
            let leap = between(at, later);
            let passed = at >= self.opened;
            if passed || leap <= leap_max || vouched >= CLOCK_DOUBT {
                counted = counted.saturating_add(leap);
            }
            vouched = vouched.saturating_add(if passed { leap } else { leap.min(leap_max) });
            later = at;
            ages.push(Age {
                said: between(at, self.said),
                counted,
                ahead: between(self.now, *end).max(between(*end, *raised)),
            });
        }
        ages.reverse();
        ages
    }
}

/// From one moment to a later one; nothing if it is none.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// How old the current segment is: what it was when this process came to it, and what passed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentAge {
    before: Duration,
    since: Duration,
}

impl SegmentAge {
    /// It was begun now.
    pub(crate) fn begun(clock: &dyn Clock) -> Self {
        Self {
            before: Duration::ZERO,
            since: clock.elapsed(),
        }
    }

    /// It says that it was begun at this time, in no hash: one that is said to be yet to come would never be full, and so is as
    /// old as can be.
    pub(crate) fn found(opened_at: Timestamp, clock: &dyn Clock) -> Self {
        let age = Duration::try_from(clock.now().duration_since(opened_at));
        Self {
            before: age.unwrap_or(Duration::MAX),
            since: clock.elapsed(),
        }
    }

    pub(crate) fn now(&self, clock: &dyn Clock) -> Duration {
        self.before.saturating_add(clock.elapsed().saturating_sub(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestClock, start};

    const DAY: u64 = 24;

    fn hours(hours: u64) -> Duration {
        Duration::from_hours(hours)
    }

    /// Counted ages in hours, at `now` of a log opened at `opened`, of what ended at `ends`.
    fn counted(ends: &[u64], opened: u64, now: u64) -> Vec<u64> {
        let ends: Vec<Timestamp> = ends.iter().map(|end| start() + hours(*end)).collect();
        let now = start() + hours(now);
        let moment = Moment {
            opened: start() + hours(opened),
            now,
            said: now,
        };
        let ages = moment.ages(&ends, CLOCK_LEAP_MAX).into_iter();
        ages.map(|age| age.counted.as_secs() / 3600).collect()
    }

    #[test]
    fn what_passed_while_segments_ended_or_a_host_was_at_work_counts() {
        assert_eq!(counted(&[0, 20, 40], 41, 50), [50, 30, 10]);
        // Nothing was recorded for a year.
        let year = 365 * DAY;
        assert_eq!(counted(&[0, 20], 21, 21 + year), [21 + year, 1 + year]);
        assert_eq!(counted(&[20, year], 10, year), [year - 20, 0]);
        assert_eq!(counted(&[], 0, 1), [0; 0]);
    }

    #[test]
    fn a_leap_counts_once_the_log_went_on_behind_it_for_a_week() {
        let year = 365 * DAY;
        assert_eq!(counted(&[0, 20], 20 + year, 20 + year), [20, 0]);
        // A host that starts again, or whose segment ends, says nothing new.
        assert_eq!(counted(&[0, 20, 20 + year], 21 + year, 22 + year), [22, 2, 2]);
        assert_eq!(
            counted(&[0, 20], 20 + year, 20 + year + 6 * DAY),
            [20 + 6 * DAY, 6 * DAY]
        );
        let later = 20 + year + 7 * DAY;
        assert_eq!(counted(&[0, 20], 20 + year, later), [later, later - 20]);
    }

    #[test]
    fn one_leap_does_not_vouch_for_another() {
        let year = 365 * DAY;
        // Two steps, with a start between: two minutes.
        let now = 20 + year + 8 * DAY;
        assert_eq!(counted(&[0, 20, 20 + year], now, now), [20, 0, 0]);
        // One that is used once a month keeps seven segments more.
        let month = 30 * DAY;
        let ends: Vec<u64> = (0..10).map(|number| number * month).collect();
        assert_eq!(
            counted(&ends, 10 * month, 10 * month),
            [3 * month, 2 * month, month, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn what_ended_under_a_clock_that_was_ahead_is_as_old_as_what_follows() {
        let year = 365 * DAY;
        assert_eq!(counted(&[0, year, year + 1, 10], 0, 12), [12, 2, 2, 2]);
        assert_eq!(counted(&[0, year], 0, 12), [12, 0]);
        let moment = Moment {
            opened: start(),
            now: start(),
            said: start(),
        };
        let ages = moment.ages(&[start() + hours(5)], CLOCK_LEAP_MAX);
        assert_eq!(ages[0].ahead, hours(5));
        // What ended under one that is in the future no longer keeps what follows, and that is seen.
        let now = start() + hours(61 * DAY);
        let ends = [60, 1, 2, 60].map(|day| start() + hours(day * DAY));
        let moment = Moment {
            opened: start(),
            now,
            said: now,
        };
        let ages = moment.ages(&ends, CLOCK_LEAP_MAX);
        assert!(
            ages.iter()
                .map(|age| age.ahead)
                .eq([0, 59, 58, 0].map(|day| hours(day * DAY)))
        );
        assert!(ages.iter().all(|age| age.counted == hours(DAY)));
    }

    #[test]
    fn what_ended_under_a_clock_that_was_behind_makes_nothing_before_it_old() {
        let now = 1030 + 8 * DAY;
        assert_eq!(counted(&[1000, 1020, 5, 1030], 1025, now), [222, 202, 202, 192]);
        assert_eq!(counted(&[1000, 1020, 5], 1025, now), [222, 202, 202]);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_older_and_no_segment_younger() {
        let clock = TestClock::default();
        let mut opening = Opening::now(&clock);
        let age = SegmentAge::begun(&clock);
        clock.advance(hours(1));
        for (ahead, now) in [(1000, 1), (0, 1), (-1, 0)] {
            clock.set_ahead(ahead * 3600);
            assert_eq!(opening.moment(&clock).now, start() + hours(now));
            assert_eq!(age.now(&clock), hours(1));
        }
        assert_eq!(SegmentAge::found(start() - hours(2), &clock).now(&clock), hours(2));
        assert_eq!(SegmentAge::found(start() + hours(2), &clock).now(&clock), Duration::MAX);
    }

    #[test]
    fn a_clock_that_stays_ahead_for_a_week_is_believed() {
        let clock = TestClock::default();
        let behind = hours(1000);
        clock.set_ahead(-1000 * 3600);
        let mut opening = Opening::now(&clock);
        clock.set_ahead(0);
        let mut after = |passed: u64, ahead: i64| {
            clock.set_ahead(ahead * 3600);
            for _ in 1..passed {
                clock.advance(hours(1));
                opening.moment(&clock);
            }
            clock.advance(hours(1));
            opening.moment(&clock)
        };
        let moment = after(1, 0);
        assert_eq!(
            (moment.opened, moment.now),
            (start() - behind, start() + hours(1) - behind)
        );
        assert_eq!(moment.said, start() + hours(1), "the log of the host can say so");
        // It is looked at again and again, and a little to and fro is the same.
        assert_eq!(after(100, 1).now, start() + hours(101) - behind);
        assert_eq!(after(67, -1).now, start() + hours(168) - behind);
        let moment = after(1, 0);
        assert_eq!((moment.opened, moment.now), (start(), start() + hours(169)));
        assert_eq!(moment.said, moment.now);
        // One that is not ahead all the time is not.
        for ahead in [1000, 0, 1000, 2000] {
            assert!(after(100, ahead).now <= start() + hours(169 + 400));
        }
        assert_eq!(after(100, 1000).now, start() + hours(669));
    }

    #[test]
    fn a_clock_that_was_ahead_when_the_log_was_opened_is_believed_after_a_week_as_well() {
        let clock = TestClock::default();
        clock.set_ahead(1000 * 3600);
        let mut opening = Opening::now(&clock);
        clock.set_ahead(0);
        for hour in 1..200 {
            clock.advance(hours(1));
            let moment = opening.moment(&clock);
            let opened = if hour > 168 { start() } else { start() + hours(1000) };
            assert_eq!((moment.opened, moment.now), (opened, start() + hours(hour)));
        }
    }

    #[test]
    fn a_time_in_which_nobody_looked_makes_no_clock_believed() {
        let clock = TestClock::default();
        let mut opening = Opening::now(&clock);
        clock.set_ahead(1000 * 3600);
        for passed in [0, 200, 400] {
            assert_eq!(opening.moment(&clock).now, start() + hours(passed));
            clock.advance(hours(200));
        }
    }
}
