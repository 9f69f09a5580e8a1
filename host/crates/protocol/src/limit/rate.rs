//! A rate: so many in a second or in a minute, and so many at once. Numbers alone; who counts against them is elsewhere.

use std::fmt;

use serde::Deserialize;

/// Most that a configuration may name as what a rate gives at once.
const BURST_MAX: u64 = u32::MAX as u64;
/// Most that a rate gives at once. An amount that has no room in 32 bits is counted as the largest of them, which is one more: it fits
/// in no burst.
const COUNTED_MAX: u32 = u32::MAX - 1;
/// Longest that it may take until everything that a rate gives at once is there again. Stops a rate that gives once and
/// then never, and keeps times in whole nanoseconds exact everywhere, also in a double.
const REFILL_NS_MAX: u64 = DAY_S as u64 * SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;
/// Seconds of a day.
const DAY_S: u32 = 86_400;

/// What a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Per {
    /// A second.
    Second,
    /// Sixty of them.
    Minute,
}

impl Per {
    const fn ns(self) -> u64 {
        match self {
            Self::Second => SECOND_NS,
            Self::Minute => 60 * SECOND_NS,
        }
    }
}

/// So many in a second or a minute, and so many at once (GCRA: one is given back after each interval, up to the burst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    per: Per,
    burst: u32,
}

/// `{ per_second = 10, burst = 20 }`: one of `per_second` and `per_minute`, and how many at once; absent: as many as in
/// the second or the minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rate, such as { per_second = 10, burst = 20 }")]
pub struct RateRequest {
    /// So many in a second.
    pub per_second: Option<u64>,
    /// So many in a minute.
    pub per_minute: Option<u64>,
    /// So many at once.
    pub burst: Option<u64>,
}

/// Why numbers are no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// None or both.
    #[error("must have exactly one of per_second and per_minute")]
    OneOf,
    /// A count that makes no sense.
    #[error("{count} in a second or a minute is not between 1 and {max}")]
    Count {
        /// What it says.
        count: u64,
        /// What it may say at most.
        max: u64,
    },
    /// A burst that makes no sense.
    #[error("burst = {0} is not between 1 and {BURST_MAX}")]
    Burst(u64),
    /// A burst that is never there again.
    #[error("burst = {0} takes longer than a day until it is there again")]
    Refill(u64),
}

impl Rate {
    /// For the defaults, which a test resolves.
    pub(super) const fn of(count: u32, per: Per, burst: u32) -> Self {
        Self { count, per, burst }
    }

    /// What the configuration says. `count_max` is the most that it may give in its second or minute.
    ///
    /// # Errors
    /// Numbers that make no sense.
    pub fn resolve(request: &RateRequest, count_max: u64) -> Result<Self, RateError> {
        let (count, per) = match (request.per_second, request.per_minute) {
            (Some(count), None) => (count, Per::Second),
            (None, Some(count)) => (count, Per::Minute),
            (None, None) | (Some(_), Some(_)) => return Err(RateError::OneOf),
        };
        let in_range = |value: u64, max: u64| u32::try_from(value).ok().filter(|_| (1..=max).contains(&value));
        let burst = request.burst.unwrap_or(count);
        let rate = Self {
            count: in_range(count, count_max).ok_or(RateError::Count { count, max: count_max })?,
            per,
            burst: in_range(burst, BURST_MAX)
                .ok_or(RateError::Burst(burst))?
                .min(COUNTED_MAX),
        };
        if !rate.is_soon_there() {
            return Err(RateError::Refill(burst));
        }
        Ok(rate)
    }

    /// Whether everything that it gives at once is there again in time.
    fn is_soon_there(self) -> bool {
        self.refill_ns() <= u128::from(REFILL_NS_MAX)
    }

    /// A rate that gives so much at once: the same otherwise, unless it gives too little to have that again in time. None: no rate may.
    pub(crate) fn with_burst(self, burst: u32) -> Option<Self> {
        if burst > COUNTED_MAX {
            return None;
        }
        let same = Self { burst, ..self };
        let faster = Self::of(burst.div_ceil(DAY_S), Per::Second, burst);
        Some(if same.is_soon_there() { same } else { faster })
    }

    /// After how long one is given back, in nanoseconds: rounded up, so that no rate gives more than it says.
    pub(crate) fn interval_ns(self) -> u64 {
        self.per.ns().div_ceil(u64::from(self.count).max(1))
    }

    /// How long it takes until everything is given back, as its numbers say.
    pub(crate) fn refill_ns(self) -> u128 {
        let all = u128::from(self.per.ns()).saturating_mul(u128::from(self.burst));
        all.div_ceil(u128::from(self.count).max(1))
    }

    /// The same as it is counted: a little more where the numbers divide no time into whole nanoseconds.
    pub(crate) fn capacity_ns(self) -> u64 {
        self.interval_ns().saturating_mul(u64::from(self.burst))
    }

    /// How many at once.
    pub(crate) fn burst(self) -> u32 {
        self.burst
    }

    /// How many in a second or a minute, and the key that says so.
    pub(crate) fn count(self) -> (u32, &'static str) {
        match self.per {
            Per::Second => (self.count, "per_second"),
            Per::Minute => (self.count, "per_minute"),
        }
    }

    /// Beyond which number a rate gives more, and the key of that number; none: no rate may. `count_max` is the most in its second or
    /// minute.
    pub(crate) fn gives_more_above(self, count_max: u64) -> Option<(u32, &'static str)> {
        if u64::from(self.count) < count_max {
            return Some(self.count());
        }
        match self.per {
            // As many in each second are sixty times as much.
            Per::Minute => Some((self.count / 60, "per_second")),
            Per::Second => None,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => "second",
            Per::Minute => "minute",
        };
        write!(f, "{} a {per}, {} at once", self.count, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT_MAX: u64 = 1_000_000_000;

    fn rate(per_second: Option<u64>, per_minute: Option<u64>, burst: Option<u64>) -> Result<Rate, RateError> {
        let request = RateRequest {
            per_second,
            per_minute,
            burst,
        };
        Rate::resolve(&request, COUNT_MAX)
    }

    #[test]
    fn a_rate_has_one_count_and_a_burst() {
        let ten = rate(Some(10), None, Some(20)).unwrap();
        assert_eq!((ten.interval_ns(), ten.capacity_ns()), (100_000_000, 2_000_000_000));
        assert_eq!(ten.to_string(), "10 a second, 20 at once");
        let minute = rate(None, Some(6), None).unwrap();
        assert_eq!((minute.interval_ns(), minute.burst()), (10_000_000_000, 6));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        assert_eq!(rate(None, None, Some(1)), Err(RateError::OneOf));
        assert_eq!(rate(Some(1), Some(1), None), Err(RateError::OneOf));
        for count in [0, COUNT_MAX + 1, u64::MAX] {
            let max = COUNT_MAX;
            assert_eq!(rate(Some(count), None, Some(1)), Err(RateError::Count { count, max }));
        }
        for burst in [0, BURST_MAX + 1] {
            assert_eq!(rate(Some(COUNT_MAX), None, Some(burst)), Err(RateError::Burst(burst)));
        }
        assert_eq!(rate(None, Some(1), Some(1441)), Err(RateError::Refill(1441)));
        assert!(rate(None, Some(1), Some(1440)).is_ok(), "exactly a day");
    }

    #[test]
    fn a_rate_with_another_burst_is_one_that_can_be_configured_or_there_is_none() {
        for rate in [
            rate(None, Some(1), None).unwrap(),
            rate(Some(1), None, None).unwrap(),
            rate(Some(COUNT_MAX), None, None).unwrap(),
        ] {
            for burst in [1, 1_440, 1_441, 86_401, u32::MAX - 1] {
                let other = rate.with_burst(burst).unwrap();
                let (count, key) = other.count();
                let count = Some(u64::from(count));
                let request = RateRequest {
                    per_second: count.filter(|_| key == "per_second"),
                    per_minute: count.filter(|_| key == "per_minute"),
                    burst: Some(u64::from(burst)),
                };
                assert_eq!(Rate::resolve(&request, COUNT_MAX), Ok(other), "{rate}: {burst}");
                assert!(other.interval_ns() <= rate.interval_ns(), "{rate}: {burst}");
            }
            assert_eq!(rate.with_burst(u32::MAX), None);
        }
    }

    /// Also where one is given back after a time that is no whole number of nanoseconds.
    #[test]
    fn a_burst_may_take_a_day_and_no_longer() {
        for count in [1, 7, 9, 11, 13, 60, 999] {
            for (times, is_by_minute) in [(1440, true), (86_400, false)] {
                let with = |burst| {
                    let (second, minute) = if is_by_minute {
                        (None, Some(count))
                    } else {
                        (Some(count), None)
                    };
                    rate(second, minute, Some(burst))
                };
                let most = count * times;
                assert_eq!(with(most).unwrap().refill_ns(), u128::from(REFILL_NS_MAX), "{count}");
                assert_eq!(with(most + 1), Err(RateError::Refill(most + 1)));
            }
        }
    }

    #[test]
    fn no_rate_gives_more_in_its_time_than_it_says() {
        for count in [1, 3, 7, 1_000_000, 3_000_000, 600_000_000, 999_999_999, COUNT_MAX] {
            for (rate, ns) in [
                (rate(Some(count), None, None).unwrap(), SECOND_NS),
                (rate(None, Some(count), None).unwrap(), 60 * SECOND_NS),
            ] {
                let given = ns / rate.interval_ns();
                assert!((1..=count).contains(&given), "{rate} gives {given}");
            }
        }
        assert_eq!(rate(Some(COUNT_MAX), None, None).unwrap().interval_ns(), 1);
    }
}
