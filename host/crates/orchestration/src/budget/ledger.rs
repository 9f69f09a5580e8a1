//! What was used up, in the form in which it is kept from one run of the host to the next. Shaped like the file.

use std::collections::BTreeMap;

use aral_contract::PersonaId;
use serde::{Deserialize, Serialize};

use super::HOUR_MS;
use super::window::{Window, part_of};

pub use super::window::Amount;

/// What was used up in the last hour, by persona.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    /// Each persona that used anything.
    pub personas: BTreeMap<PersonaId, Spent>,
}

/// What one persona used up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Calls.
    pub requests: Vec<Amount>,
    /// Money, in millionths.
    pub cost: Vec<Amount>,
}

impl Spent {
    pub(super) fn of(requests: &Window, cost: &Window) -> Self {
        Self {
            requests: requests.amounts().collect(),
            cost: cost.amounts().collect(),
        }
    }

    /// Both, without what is older than an hour.
    pub(super) fn and(&self, more: &Self, now_ms: i64) -> Self {
        Self {
            requests: merged(&self.requests, &more.requests, now_ms),
            cost: merged(&self.cost, &more.cost, now_ms),
        }
    }

    /// This without the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self {
            requests: without(&self.requests, &other.requests),
            cost: without(&self.cost, &other.cost),
        }
    }

    /// What of this is new to who knows the other.
    pub(super) fn news(&self, known: &Self) -> Self {
        Self {
            requests: news(&self.requests, &known.requests),
            cost: news(&self.cost, &known.cost),
        }
    }

    /// The same on a clock that is ahead by so much, in milliseconds.
    pub(super) fn moved(&self, ahead_ms: i64) -> Self {
        let moved = |list: &[Amount]| {
            let one = |one: &Amount| Amount {
                at_ms: one.at_ms.saturating_add(ahead_ms),
                ..*one
            };
            list.iter().map(one).collect()
        };
        Self {
            requests: moved(&self.requests),
            cost: moved(&self.cost),
        }
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.cost.is_empty()
    }
}

impl Ledger {
    /// Adds what others used up, and lets go of what is older than an hour.
    pub fn add(&mut self, more: Self, now_ms: i64) {
        for (id, more) in more.personas {
            let spent = self.personas.entry(id).or_default();
            *spent = spent.and(&more, now_ms);
        }
        for spent in self.personas.values_mut() {
            *spent = spent.and(&Spent::default(), now_ms);
        }
        self.personas.retain(|_, spent| !spent.is_empty());
    }
}

/// Two lists as one window has them.
fn merged(one: &[Amount], other: &[Amount], now_ms: i64) -> Vec<Amount> {
    let both = one.iter().chain(other).copied();
    Window::of(HOUR_MS, both, now_ms).amounts().collect()
}

/// What one list has and the other does not, part by part; both as a window has them.
fn without(all: &[Amount], other: &[Amount]) -> Vec<Amount> {
    let part = |one: &Amount| part_of(HOUR_MS, one.at_ms);
    let mut less: BTreeMap<i64, u64> = BTreeMap::new();
    for one in other {
        let sum = less.entry(part(one)).or_default();
        *sum = sum.saturating_add(one.amount);
    }
    let left = |one: &Amount| Amount {
        amount: one
            .amount
            .saturating_sub(less.get(&part(one)).copied().unwrap_or_default()),
        ..*one
    };
    all.iter().map(left).filter(|one| one.amount > 0).collect()
}

/// What is kept and was not known. Amounts that only moved, because somebody's clock was put back, are not new.
fn news(kept: &[Amount], known: &[Amount]) -> Vec<Amount> {
    let sum = |list: &[Amount]| list.iter().fold(0_u64, |sum, one| sum.saturating_add(one.amount));
    let mut most = sum(kept).saturating_sub(sum(known));
    let mut news = without(kept, known);
    for one in news.iter_mut().rev() {
        one.amount = one.amount.min(most);
        most = most.saturating_sub(one.amount);
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(requests: &[(i64, u64)]) -> Ledger {
        let requests = requests.iter().copied().map(Amount::from).collect();
        let spent = Spent {
            requests,
            cost: Vec::new(),
        };
        Ledger {
            personas: [("a".parse().unwrap(), spent)].into(),
        }
    }

    #[test]
    fn what_two_processes_used_is_added_and_what_is_old_goes() {
        let mut ledger = spent(&[(0, 1), (1_000_000, 2)]);
        ledger.add(spent(&[(500_000, 4), (9_000_000, 8)]), 3_600_000);
        assert_eq!(ledger, spent(&[(500_000, 4), (1_000_000, 2), (3_600_000, 8)]));
        ledger.add(Ledger::default(), 10_000_000);
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn what_is_new_is_what_was_not_known_and_not_what_moved() {
        let list = |list: &[(i64, u64)]| -> Vec<Amount> { list.iter().copied().map(Amount::from).collect() };
        for (kept, known, new) in [
            (&[(1, 5), (20_000, 3)][..], &[][..], &[(1, 5), (20_000, 3)][..]),
            (&[(1, 5), (20_000, 3)], &[(0, 5)], &[(20_000, 3)]),
            (&[(1, 5), (20_000, 3)], &[(0, 2), (20_000, 3)], &[(1, 3)]),
            // A clock was put back: what was in two parts is in an earlier one, and one is new.
            (&[(1, 9)], &[(20_000, 3), (40_000, 5)], &[(1, 1)]),
            (&[(1, 8)], &[(20_000, 3), (40_000, 5)], &[(1, 0)]),
            (&[], &[(1, 5)], &[]),
        ] {
            assert_eq!(news(&list(kept), &list(known)), list(new), "{kept:?} {known:?}");
        }
    }

    #[test]
    fn the_text_is_small_and_read_strictly() {
        let ledger = spent(&[(5, 1)]);
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(text, r#"{"a":{"requests":[[5,1]],"cost":[]}}"#);
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        assert!(serde_json::from_str::<Ledger>(r#"{"a":{"requests":[],"cost":[],"more":1}}"#).is_err());
    }
}
