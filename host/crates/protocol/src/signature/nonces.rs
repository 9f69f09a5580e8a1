//! Signatures that were used. Each is remembered, or the second in which it was made is refused from then on: whatever the clock says
//! later, none is good twice. What there is no room for is refused.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_contract::id::CallerName;
use aral_contract::{Clock, Digest};

/// What was used, for each caller apart, so that nobody takes the room of another.
#[derive(Debug)]
pub(crate) struct Nonces {
    used: Mutex<HashMap<CallerName, Used>>,
    entries_max: AtomicUsize,
    clock: Arc<dyn Clock>,
    /// The time of day at which this began to remember, in milliseconds since 1970: what was made up to then may have been used before.
    since: i64,
    /// The same moment as the time that had passed by then.
    begun: Duration,
}

#[derive(Debug, Default)]
struct Used {
    nonces: HashSet<Digest>,
    /// The same, with the second in which each was made.
    created: BTreeSet<(i64, Digest)>,
    /// The seconds in which those were made that are forgotten. Nothing of these is taken.
    refused: Seconds,
}

impl Used {
    fn forget(&mut self, second: i64, nonce: Digest) {
        self.created.remove(&(second, nonce));
        self.nonces.remove(&nonce);
        self.refused.add(second);
    }
}

/// Most spans of seconds of one caller.
const SPANS_MAX: usize = 32;

/// Spans of seconds in order. What was added stays in it. Where there are too many spans, the two with the shortest gap between them become
/// one. So the time of a clock that was ahead stays apart from the right time, unless the caller often pauses for longer than the clock
/// was ahead.
#[derive(Debug, Default)]
struct Seconds(Vec<RangeInclusive<i64>>);

impl Seconds {
    fn contain(&self, second: i64) -> bool {
        self.0.iter().any(|span| span.contains(&second))
    }

    fn add(&mut self, second: i64) {
        if self.contain(second) {
            return;
        }
        let place = self.0.partition_point(|span| *span.end() < second);
        self.0.insert(place, second..=second);
        if self.0.len() > SPANS_MAX {
            self.close_shortest_gap();
        }
    }

    fn close_shortest_gap(&mut self) {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let gaps = pairs.map(|(one, next)| next.start().saturating_sub(*one.end()));
        let Some((place, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else {
            return;
        };
        let next = self.0.remove(place + 1);
        if let Some(one) = self.0.get_mut(place) {
            *one = *one.start()..=*next.end();
        }
    }
}

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is used now.
    First,
    /// It was used before, or others that were made in the same second were, and nobody knows any more.
    Again,
    /// There is no room to remember it.
    Full,
}

impl Nonces {
    /// `entries_max` are remembered for one caller, from now on.
    pub(crate) fn new(entries_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            used: Mutex::default(),
            entries_max: AtomicUsize::new(entries_max),
            since: clock.now().as_millisecond(),
            begun: clock.elapsed(),
            clock,
        }
    }

    /// Whether a signature that was made in the second `created` may have been used while nobody remembered here, if whoever
    /// made it has a clock that is not ahead. A signature says no more than the second: those of the first one may have been
    /// used by a server that ended in it.
    ///
    /// A clock that was ahead at the start and was set back since says an earlier start now, and that one counts. Otherwise every caller
    /// whose clock goes right would be refused until the time came that the clock said at the start.
    pub(crate) fn may_have_been_used(&self, created: i64) -> bool {
        let passed = self.clock.elapsed().saturating_sub(self.begun);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let since = self.clock.now().as_millisecond().saturating_sub(passed);
        created <= since.min(self.since).div_euclid(1000)
    }

    /// From now on so many. What is remembered stays, also where it is more.
    pub(crate) fn rebound(&self, entries_max: usize) {
        self.entries_max.store(entries_max, Ordering::Relaxed);
    }

    /// Uses the nonce of a signature that was made in the second `created`. `good` are the seconds of which signatures are good now.
    pub(crate) fn take(&self, caller: &CallerName, nonce: &str, created: i64, good: &RangeInclusive<i64>) -> Taken {
        let nonce = Digest::of(nonce.as_bytes());
        let entries_max = self.entries_max.load(Ordering::Relaxed);
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.entry(caller.clone()).or_default();
        while let Some((second, first)) = used.created.first().copied()
            && second < *good.start()
        {
            used.forget(second, first);
        }
        // Those of a clock that was ahead and was set back since are not good for long. They take nobody's room until then.
        while used.nonces.len() >= entries_max
            && let Some((second, last)) = used.created.last().copied()
            && second > *good.end()
        {
            used.forget(second, last);
        }
        if used.refused.contain(created) || used.nonces.contains(&nonce) {
            return Taken::Again;
        }
        if used.nonces.len() >= entries_max {
            return Taken::Full;
        }
        used.nonces.insert(nonce);
        used.created.insert((created, nonce));
        Taken::First
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::signature::tests::Hand;

    #[test]
    fn a_nonce_is_used_once_by_one_caller_and_none_is_forgotten_too_early() {
        let nonces = Nonces::new(2, Hand::at(Timestamp::UNIX_EPOCH));
        let take = |caller: &str, nonce, created, oldest| {
            nonces.take(&caller.parse().unwrap(), nonce, created, &(oldest..=i64::MAX))
        };
        assert_eq!(take("a", "1", 100, 50), Taken::First);
        assert_eq!(take("a", "1", 100, 50), Taken::Again);
        assert_eq!(take("b", "1", 100, 50), Taken::First, "another caller");
        assert_eq!(take("a", "2", 110, 50), Taken::First);
        assert_eq!(take("a", "3", 120, 60), Taken::Full);
        assert_eq!(take("b", "2", 100, 60), Taken::First, "another caller has room");
        assert_eq!(take("a", "1", 100, 100), Taken::Again, "in its last second");
        assert_eq!(take("a", "3", 120, 100), Taken::Full);
        assert_eq!(take("a", "3", 120, 101), Taken::First, "the first is too old by now");
        assert_eq!(take("a", "2", 110, 101), Taken::Again);
        assert_eq!(take("a", "4", 120, 101), Taken::Full);
        nonces.rebound(3);
        assert_eq!(take("a", "4", 120, 101), Taken::First);
        nonces.rebound(1);
        assert_eq!(take("a", "4", 120, 101), Taken::Again, "nothing is forgotten for it");
    }

    #[test]
    fn what_is_forgotten_is_not_good_again_when_an_older_one_would_be() {
        let nonces = Nonces::new(10, Hand::at(Timestamp::UNIX_EPOCH));
        let take = |nonce, created, oldest| nonces.take(&"a".parse().unwrap(), nonce, created, &(oldest..=i64::MAX));
        assert_eq!(take("1", 100, 50), Taken::First);
        assert_eq!(take("2", 110, 50), Taken::First);
        assert_eq!(take("3", 130, 105), Taken::First, "the first is forgotten");
        // The age that is allowed is raised.
        assert_eq!(take("1", 100, 20), Taken::Again);
        assert_eq!(take("2", 110, 20), Taken::Again);
        assert_eq!(take("4", 100, 20), Taken::Again, "nobody knows whether it was used");
        assert_eq!(take("4", 101, 20), Taken::First);
    }

    /// With an age of 300 s and a skew of 30 s, by a clock that says `now`.
    fn take_at(nonces: &Nonces, nonce: &str, created: i64, now: i64) -> Taken {
        nonces.take(&"a".parse().unwrap(), nonce, created, &(now - 300..=now + 30))
    }

    #[test]
    fn what_was_used_while_the_clock_was_ahead_is_never_good_again_and_keeps_nobody_out() {
        let (right, ahead) = (1_800_000_000, 7200);
        let nonces = Nonces::new(2, Hand::at(Timestamp::UNIX_EPOCH));
        let take = |nonce, second| take_at(&nonces, nonce, second, second);
        assert_eq!(take("1", right), Taken::First);
        assert_eq!(take("2", right + ahead), Taken::First, "the first is forgotten");
        assert_eq!(take("3", right + ahead + 301), Taken::First, "the second is forgotten");
        assert_eq!(take("4", right + ahead + 301), Taken::First);
        // Set back, it takes what is new at once.
        assert_eq!(take("5", right + 10), Taken::First);
        assert_eq!(take("6", right + 10), Taken::First);
        assert_eq!(take("5", right + 10), Taken::Again);
        assert_eq!(take("7", right + 11), Taken::Full, "what is good now takes its room");
        assert_eq!(take("1", right), Taken::Again, "it is young enough again");
        // The age that is allowed is raised.
        let good = right - 300..=right + 3300;
        assert_eq!(nonces.take(&"a".parse().unwrap(), "1", right, &good), Taken::Again);
        // The old time comes again.
        for (nonce, created) in [
            ("2", right + ahead),
            ("3", right + ahead + 301),
            ("4", right + ahead + 301),
        ] {
            assert_eq!(take(nonce, created), Taken::Again, "{nonce}");
        }
        assert_eq!(take("7", right + ahead + 302), Taken::First);
    }

    #[test]
    fn what_was_used_before_a_clock_was_set_back_is_not_good_again_when_its_time_comes() {
        let right = 1_800_000_000;
        let nonces = Nonces::new(10, Hand::at(Timestamp::UNIX_EPOCH));
        assert_eq!(take_at(&nonces, "1", right, right), Taken::First);
        // Wrong by an hour, for longer than a signature is good.
        for second in (0..3600).step_by(100) {
            let now = right - 3600 + second;
            let nonce = second.to_string();
            assert_eq!(
                take_at(&nonces, &format!("x{nonce}"), now, now),
                Taken::First,
                "{second}"
            );
        }
        assert_eq!(take_at(&nonces, "1", right, right), Taken::Again);
    }

    #[test]
    fn a_clock_that_was_set_back_by_less_than_has_passed_makes_nothing_good_again() {
        let now = 1_800_000_000;
        let nonces = Nonces::new(10, Hand::at(Timestamp::UNIX_EPOCH));
        assert_eq!(take_at(&nonces, "1", now, now), Taken::First);
        assert_eq!(
            take_at(&nonces, "2", now + 302, now + 302),
            Taken::First,
            "the first is forgotten"
        );
        for passed in (303..=600).step_by(99) {
            assert_eq!(take_at(&nonces, "1", now, now + passed - 300), Taken::Again, "{passed}");
        }
    }

    #[test]
    fn seconds_that_are_forgotten_take_bounded_room_and_the_longest_gaps_stay_open() {
        let mut seconds = Seconds::default();
        let (right, ahead) = (1000, 9000);
        for from in [ahead, right] {
            // From either end, so that some come between others.
            for step in 0..500 {
                for second in [from + step * 2, from + 1998 - step * 2] {
                    seconds.add(second);
                    assert!(seconds.0.len() <= SPANS_MAX, "{second}");
                }
            }
        }
        for from in [right, ahead] {
            for second in (from..from + 2000).step_by(2) {
                assert!(seconds.contain(second), "{second}");
            }
        }
        assert!(seconds.0.is_sorted_by_key(|span| *span.start()));
        for second in [999, 3000, 5000, 8999, 11000] {
            assert!(!seconds.contain(second), "{second}");
        }
        let line = "\n| `SPANS_MAX` | 32 | ";
        assert!(include_str!("../../../../../docs/defaults.md").contains(line));
    }
}
