//! What a request counts against: keys, amounts, and how full a key is afterwards. It counts nothing itself.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use aral_contract::{Digest, network};

use super::rate::Rate;
use super::rates::Limit;

/// Whose use is counted, under which limit. Names are in it as a digest alone, so that what keeps it learns none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) limit: Limit,
    digest: Digest,
}

impl Key {
    /// For what has these names under this limit.
    pub(crate) fn new(limit: Limit, names: &[&str]) -> Self {
        let words = std::iter::once(limit.as_str()).chain(names.iter().copied());
        // No name has one, so that no two lists of names are one text.
        let parts = words.flat_map(|word| ["\0", word]).skip(1);
        Self {
            limit,
            digest: Digest::of_parts(parts.map(str::as_bytes)),
        }
    }

    /// For an address.
    pub(crate) fn of_address(limit: Limit, address: IpAddr) -> Self {
        Self::new(limit, &[&network(address).to_string()])
    }

    /// Names it in a store that others read too.
    pub(crate) fn text(&self, prefix: &str) -> String {
        format!("{prefix}:{}:{}", self.limit.as_str(), self.digest)
    }
}

/// So much under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) key: Key,
    pub(crate) rate: Rate,
    pub(crate) amount: NonZeroU32,
    /// It is put aside for a call that takes so long at most: time gives nothing of it back before the call has ended, and then what
    /// the call used counts from its end on. None: it counts from now on.
    pub(crate) aside: Option<Duration>,
}

impl Charge {
    /// One request.
    pub(crate) fn one(key: Key, rate: Rate) -> Self {
        Self {
            key,
            rate,
            amount: NonZeroU32::MIN,
            aside: None,
        }
    }

    /// The amount as the time after which it is given back.
    pub(crate) fn ns(&self) -> u64 {
        self.ns_of(self.amount.get())
    }

    /// The same of another amount.
    pub(crate) fn ns_of(&self, amount: u32) -> u64 {
        self.rate.interval_ns().saturating_mul(u64::from(amount))
    }

    /// Whether it could pass if nobody else asked.
    pub(crate) fn fits(&self) -> bool {
        self.amount.get() <= self.rate.burst()
    }
}

/// How full a key is: the time after which everything is given back, if all that is put aside was used and ended now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: Limit,
    pub(crate) rate: Rate,
    pub(crate) ns: u64,
}

impl Level {
    pub(crate) fn new(charge: &Charge, ns: u64) -> Self {
        Self {
            limit: charge.key.limit,
            rate: charge.rate,
            ns,
        }
    }

    /// How many more pass now.
    pub(crate) fn remaining(&self) -> u64 {
        let free = self.rate.capacity_ns().saturating_sub(self.ns);
        free.checked_div(self.rate.interval_ns()).unwrap_or(0)
    }

    /// When one more than these passes; zero: everything is there.
    pub(crate) fn next(&self) -> Duration {
        if self.ns == 0 {
            return Duration::ZERO;
        }
        let more = self
            .remaining()
            .saturating_add(1)
            .saturating_mul(self.rate.interval_ns());
        Duration::from_nanos(self.ns.saturating_add(more).saturating_sub(self.rate.capacity_ns()))
    }
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything was counted, and this is how full the keys are, in their order.
    Passed(Vec<Level>),
    /// Nothing was counted. This limit stands against it longest.
    Refused(Refused),
}

/// Which limit stands against a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) level: Level,
    /// How long, if all that is put aside was used and ended now; none: for ever, since it is more than may be had at once.
    pub(crate) wait: Option<Duration>,
    /// How much was wanted.
    pub(crate) amount: NonZeroU32,
}

impl Refused {
    pub(crate) fn new(charge: &Charge, ns: u64, wait: Option<Duration>) -> Self {
        Self {
            level: Level::new(charge, ns),
            wait,
            amount: charge.amount,
        }
    }

    /// Whether it stands longer than another one.
    pub(crate) fn outlasts(&self, other: Option<&Self>) -> bool {
        let endless = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
        other.is_none_or(|other| endless(self.wait) > endless(other.wait))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::RateRequest;
    use super::*;

    #[test]
    fn addresses_of_one_network_have_one_key() {
        let key = |text: &str| Key::of_address(Limit::Address, text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        let failures = Key::of_address(Limit::Failures, "192.0.2.1".parse().unwrap());
        assert_ne!(key("192.0.2.1"), failures);
    }

    #[test]
    fn names_are_kept_apart_and_not_shown() {
        assert_ne!(
            Key::new(Limit::Caller, &["a", "bc"]),
            Key::new(Limit::Caller, &["ab", "c"])
        );
        let text = Key::new(Limit::Persona, &["analyst"]).text("aral");
        assert!(text.starts_with("aral:persona:") && !text.contains("analyst"), "{text}");
    }

    #[test]
    fn a_level_says_what_is_left_and_when_there_is_more() {
        let request = RateRequest {
            per_second: Some(10),
            burst: Some(5),
            ..RateRequest::default()
        };
        let rate = Rate::resolve(&request, Limit::Persona.count_max());
        let level = |ns| Level {
            limit: Limit::Persona,
            rate: rate.unwrap(),
            ns,
        };
        assert_eq!((level(0).remaining(), level(0).next()), (5, Duration::ZERO));
        let one = level(100_000_000);
        assert_eq!((one.remaining(), one.next()), (4, Duration::from_millis(100)));
        let half = level(150_000_000);
        assert_eq!((half.remaining(), half.next()), (3, Duration::from_millis(50)));
        let full = level(500_000_000);
        assert_eq!((full.remaining(), full.next()), (0, Duration::from_millis(100)));
        let beyond = level(900_000_000);
        assert_eq!((beyond.remaining(), beyond.next()), (0, Duration::from_millis(500)));
    }
}
