//! Signatures that were used, until they are too old to be used again. What there is no room for is refused: to forget one
//! would be to let it be used twice.

use std::collections::{BTreeSet, HashMap};
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
    /// Each with the moment from which it is too old, by the time that passes.
    nonces: HashMap<Digest, Duration>,
    /// The same, with the second in which each was made.
    created: BTreeSet<(i64, Digest)>,
    /// The latest of these of one that is forgotten: none that was made up to then is good any more, also where it would be
    /// young enough again, since the age that is allowed was raised or the clock went back.
    forgotten: i64,
    /// For how long that counts where the clock was set back to an earlier second.
    forgotten_until: Duration,
}

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is used now.
    First,
    /// It was used before, or nobody knows any more.
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

    /// Uses the nonce of a signature that was made in the second `created`; those made before `oldest` are too old. The
    /// seconds are those of the time of day, as in signatures: one that counts as valid is remembered.
    pub(crate) fn take(&self, caller: &CallerName, nonce: &str, created: i64, oldest: i64) -> Taken {
        let nonce = Digest::of(nonce.as_bytes());
        let (now, passed) = (self.clock.now().as_second(), self.clock.elapsed());
        let after = |seconds: i64| passed.saturating_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.entry(caller.clone()).or_default();
        while let Some((second, first)) = used.created.first().copied()
            && second < oldest
        {
            used.created.remove(&(second, first));
            used.nonces.remove(&first);
            if second > used.forgotten {
                used.forgotten = second;
                used.forgotten_until = after(now.saturating_sub(oldest));
            }
        }
        // The seconds of a clock that was ahead and was set back do not come again for long. They count for no longer than they would have.
        while let Some((second, last)) = used.created.last().copied()
            && second > now
            && used.nonces.get(&last).is_none_or(|until| *until < passed)
        {
            used.created.remove(&(second, last));
            used.nonces.remove(&last);
        }
        if used.forgotten > now && used.forgotten_until < passed {
            used.forgotten = 0;
        }
        if created <= used.forgotten || used.nonces.contains_key(&nonce) {
            return Taken::Again;
        }
        if used.nonces.len() >= self.entries_max.load(Ordering::Relaxed) {
            return Taken::Full;
        }
        used.nonces
            .insert(nonce, after(created.saturating_sub(oldest).saturating_add(1)));
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
        let take = |caller: &str, nonce, created, oldest| nonces.take(&caller.parse().unwrap(), nonce, created, oldest);
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
        let take = |nonce, created, oldest| nonces.take(&"a".parse().unwrap(), nonce, created, oldest);
        assert_eq!(take("1", 100, 50), Taken::First);
        assert_eq!(take("2", 110, 50), Taken::First);
        assert_eq!(take("3", 130, 105), Taken::First, "the first is forgotten");
        // The age that is allowed is raised.
        assert_eq!(take("1", 100, 20), Taken::Again);
        assert_eq!(take("2", 110, 20), Taken::Again);
        assert_eq!(take("4", 99, 20), Taken::Again, "nobody knows whether it was used");
        assert_eq!(take("4", 101, 20), Taken::First);
    }

    #[test]
    fn what_was_used_while_the_clock_was_ahead_counts_no_longer_for_a_clock_that_is_right() {
        let (right, ahead) = (1_800_000_000, 7200);
        let clock = Hand::at(Timestamp::from_second(right + ahead).unwrap());
        let nonces = Nonces::new(2, Arc::clone(&clock) as Arc<dyn Clock>);
        // With an age of 300 s.
        let take = |nonce, second| nonces.take(&"a".parse().unwrap(), nonce, second, second - 300);
        assert_eq!(take("1", right + ahead), Taken::First);
        clock.set(right + ahead + 301, 301);
        assert_eq!(take("2", right + ahead + 301), Taken::First, "the first is forgotten");
        assert_eq!(take("3", right + ahead + 301), Taken::First);
        // Set back, it refuses what it does not know for as long as an old signature could be good.
        clock.set(right + 301, 301);
        assert_eq!(take("4", right + 301), Taken::Again);
        clock.set(right + 601, 601);
        assert_eq!(take("4", right + 601), Taken::Again);
        clock.set(right + 602, 602);
        assert_eq!(
            take("4", right + 602),
            Taken::Full,
            "both of the time ahead are remembered"
        );
        clock.set(right + 603, 603);
        assert_eq!(take("4", right + 603), Taken::First);
        assert_eq!(take("5", right + 603), Taken::First);
        assert_eq!(take("4", right + 603), Taken::Again);
    }

    #[test]
    fn a_clock_that_was_set_back_by_less_than_has_passed_makes_nothing_good_again() {
        let now = 1_800_000_000;
        let clock = Hand::at(Timestamp::from_second(now).unwrap());
        let nonces = Nonces::new(10, Arc::clone(&clock) as Arc<dyn Clock>);
        let take = |nonce, created, oldest| nonces.take(&"a".parse().unwrap(), nonce, created, oldest);
        assert_eq!(take("1", now, now - 300), Taken::First);
        clock.set(now + 302, 302);
        assert_eq!(take("2", now + 302, now + 2), Taken::First, "the first is forgotten");
        for passed in (303..=600).step_by(99) {
            let second = now + passed - 300;
            clock.set(second, passed.unsigned_abs());
            assert_eq!(take("1", now, second - 300), Taken::Again, "{passed}");
        }
    }
}
