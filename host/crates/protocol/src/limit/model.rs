//! GCRA as ITU-T I.371 has it (virtual scheduling), one cell at a time and without a thought of speed, with a list of what is put
//! aside: what the limits of this process and those in Redis are held against. Also a sink for the tests.

use std::collections::HashMap;
use std::time::Duration;

use aral_contract::{AuditSink, Event};
use proptest::prelude::*;

use super::charge::{Charge, Key};
use super::rate::{Per, Rate};
use super::rates::Limit;

/// Keeps nothing.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl AuditSink for Nowhere {
    fn record(&self, _event: Event) {}
}

/// The theoretical arrival time of the next cell of each key, in nanoseconds, and what is put aside for calls under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    arrivals: HashMap<Key, u64>,
    aside: Vec<Charge>,
}

impl Model {
    /// Counts all, or none.
    pub(crate) fn take(&mut self, now: u64, charges: &[Charge]) -> bool {
        let mut after = self.arrivals.clone();
        for charge in charges {
            let increment = charge.rate.interval_ns();
            let tolerance = increment * u64::from(charge.rate.burst() - 1);
            // Cells that are put aside come before every other one, whenever that comes.
            let before = self.aside_ns(&charge.key);
            for _cell in 0..charge.amount.get() {
                let arrival = after.get(&charge.key).copied().unwrap_or(0).max(now);
                if now + tolerance < arrival + before {
                    return false;
                }
                after.insert(charge.key, arrival + increment);
            }
        }
        for charge in charges {
            if charge.aside.is_some() {
                self.aside.push(*charge);
            } else if let Some(arrival) = after.get(&charge.key) {
                self.arrivals.insert(charge.key, *arrival);
            }
        }
        true
    }

    /// Takes so many cells from what there is now.
    pub(crate) fn give_back(&mut self, now: u64, charge: &Charge) {
        let arrival = self.arrivals.get(&charge.key).copied().unwrap_or(0).max(now);
        self.arrivals.insert(charge.key, arrival.saturating_sub(charge.ns()));
    }

    /// A number of what is put aside, out of any number; none: nothing is.
    pub(crate) fn aside(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.aside.len())
    }

    /// Ends what has this number, of which so many percent were used: as many cells come now. The last one gets its number.
    pub(crate) fn end(&mut self, now: u64, number: usize, percent: u32) -> (Charge, u32) {
        let charge = self.aside.swap_remove(number);
        let used = charge.amount.get() * percent / 100;
        for _cell in 0..used {
            let arrival = self.arrivals.get(&charge.key).copied().unwrap_or(0).max(now);
            self.arrivals.insert(charge.key, arrival + charge.rate.interval_ns());
        }
        (charge, used)
    }

    /// The same if everything that is put aside is used, and ends now.
    pub(crate) fn all_ended(&self, now: u64) -> Self {
        let mut after = self.clone();
        while !after.aside.is_empty() {
            after.end(now, 0, 100);
        }
        after
    }

    /// How far the next arrival lies ahead, if everything that is put aside comes before it.
    pub(crate) fn level(&self, now: u64, key: &Key) -> u64 {
        let arrival = self.arrivals.get(key).copied().unwrap_or(0);
        arrival.saturating_sub(now) + self.aside_ns(key)
    }

    fn aside_ns(&self, key: &Key) -> u64 {
        self.aside
            .iter()
            .filter(|charge| charge.key == *key)
            .map(Charge::ns)
            .sum()
    }
}

/// Something that happens to limits.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Take(Vec<Charge>),
    /// What was counted is given back, which only the limits in Redis do.
    GiveBack(Charge),
    /// One of what is put aside, out of any number, ends, and so many percent of it were used.
    End(usize, u32),
    Pass(Duration),
}

/// Longer than any test takes.
const ASIDE_MAX: Duration = Duration::from_secs(3_600);

/// Rates whose intervals are milliseconds, and one that does not come out even.
const RATES: [Rate; 4] = [
    Rate::of(100, Per::Second, 5),
    Rate::of(300, Per::Second, 20),
    Rate::of(6_000, Per::Minute, 1),
    Rate::of(7, Per::Second, 3),
];

/// Of one of them, costs are put aside.
const LIMITS: [Limit; 4] = [Limit::Global, Limit::Cost, Limit::Persona, Limit::Caller];

/// Keys of which each has one rate.
fn charge() -> impl Strategy<Value = Charge> {
    (0..RATES.len(), 0..2_u8, 1..8_u32).prop_map(|(index, name, amount)| Charge {
        key: Key::new(LIMITS[index], &[&name.to_string()]),
        rate: RATES[index],
        amount: amount.try_into().unwrap(),
        aside: (LIMITS[index] == Limit::Cost).then_some(ASIDE_MAX),
    })
}

/// What may happen, with pauses up to this long.
pub(crate) fn steps(pause_max: Duration, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let pause = 0..u64::try_from(pause_max.as_nanos()).unwrap();
    let one_request = |mut charges: Vec<Charge>| {
        let mut seen = Vec::new();
        charges.retain(|charge| !seen.contains(&charge.key) && (seen.push(charge.key), true).1);
        // A request is one call at most.
        let mut calls = 0;
        charges.retain(|charge| charge.aside.is_none() || (calls += 1, calls == 1).1);
        Step::Take(charges)
    };
    let step = prop_oneof![
        8 => prop::collection::vec(charge(), 1..4).prop_map(one_request),
        1 => charge().prop_filter_map("it is put aside", |charge| charge.aside.is_none().then_some(Step::GiveBack(charge))),
        3 => (any::<usize>(), 0..=100_u32).prop_map(|(which, percent)| Step::End(which, percent)),
        4 => pause.prop_map(|ns| Step::Pass(Duration::from_nanos(ns))),
    ];
    prop::collection::vec(step, 1..count)
}
