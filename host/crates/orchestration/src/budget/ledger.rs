//! What was used up, in the form in which it is kept from one run of the host to the next. Shaped like the file.

use std::collections::BTreeMap;

use aral_contract::PersonaId;
use serde::{Deserialize, Serialize};

use super::HOUR_MS;
use super::window::Window;

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
            spent.requests = merged(&spent.requests, &more.requests, now_ms);
            spent.cost = merged(&spent.cost, &more.cost, now_ms);
        }
        for spent in self.personas.values_mut() {
            spent.requests = merged(&spent.requests, &[], now_ms);
            spent.cost = merged(&spent.cost, &[], now_ms);
        }
        self.personas.retain(|_, spent| !spent.is_empty());
    }
}

/// Two lists as one window has them. A moment that is yet to come is one of a clock that was wrong: it counts as of now.
pub(super) fn merged(one: &[Amount], other: &[Amount], now_ms: i64) -> Vec<Amount> {
    window(one.iter().chain(other).copied(), now_ms).amounts().collect()
}

/// The window that holds these amounts.
pub(super) fn window(amounts: impl Iterator<Item = Amount>, now_ms: i64) -> Window {
    let clamp = |one: Amount| Amount {
        at_ms: one.at_ms.min(now_ms),
        ..one
    };
    let mut all: Vec<Amount> = amounts.map(clamp).collect();
    all.sort_unstable_by_key(|one| one.at_ms);
    let mut window = Window::new(HOUR_MS);
    for one in all {
        window.forget(one.at_ms);
        window.add(one.at_ms, one.amount);
    }
    window.forget(now_ms);
    window
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
    fn the_text_is_small_and_read_strictly() {
        let ledger = spent(&[(5, 1)]);
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(text, r#"{"a":{"requests":[[5,1]],"cost":[]}}"#);
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        assert!(serde_json::from_str::<Ledger>(r#"{"a":{"requests":[],"cost":[],"more":1}}"#).is_err());
    }
}
