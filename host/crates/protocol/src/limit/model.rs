//! GCRA as ITU-T I.371 has it (virtual scheduling), one cell at a time and without a thought of speed: what the limits of this
//! process and those in Redis are held against. Also a sink for the tests.

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

/// The theoretical arrival time of the next cell of each key, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model(HashMap<Key, u64>);

impl Model {
    /// Counts all, or none.
    pub(crate) fn take(&mut self, now: u64, charges: &[Charge]) -> bool {
        let mut after = self.0.clone();
        for charge in charges {
            let increment = charge.rate.interval_ns();
            let tolerance = increment * u64::from(charge.rate.burst() - 1);
            for _cell in 0..charge.amount.get() {
                let arrival = after.get(&charge.key).copied().unwrap_or(0);
                if now + tolerance < arrival {
                    return false;
                }
                after.insert(charge.key, arrival.max(now) + increment);
            }
        }
        self.0 = after;
        true
    }

    /// Takes cells back, as if they had never come.
    pub(crate) fn give_back(&mut self, now: u64, charge: &Charge) {
        let arrival = self.0.get(&charge.key).copied().unwrap_or(0).max(now);
        let earlier = u64::from(charge.amount.get()) * charge.rate.interval_ns();
        self.0.insert(charge.key, arrival.saturating_sub(earlier));
    }

    /// How far the next arrival lies ahead.
    pub(crate) fn level(&self, now: u64, key: &Key) -> u64 {
        self.0.get(key).copied().unwrap_or(0).saturating_sub(now)
    }
}

/// Something that happens to limits.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Take(Vec<Charge>),
    GiveBack(Charge),
    Pass(Duration),
}

/// Rates whose intervals are milliseconds, and one that does not come out even.
const RATES: [Rate; 4] = [
    Rate::of(100, Per::Second, 5),
    Rate::of(300, Per::Second, 20),
    Rate::of(6_000, Per::Minute, 1),
    Rate::of(7, Per::Second, 3),
];

/// Keys of which each has one rate.
fn charge() -> impl Strategy<Value = Charge> {
    (0..RATES.len(), 0..2_u8, 1..8_u32).prop_map(|(index, name, amount)| Charge {
        key: Key::new(Limit::ALL[index], &[&name.to_string()]),
        rate: RATES[index],
        amount: amount.try_into().unwrap(),
    })
}

/// What may happen, with pauses up to this long.
pub(crate) fn steps(pause_max: Duration, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let pause = 0..u64::try_from(pause_max.as_nanos()).unwrap();
    let one_key_once = |mut charges: Vec<Charge>| {
        let mut seen = Vec::new();
        charges.retain(|charge| !seen.contains(&charge.key) && (seen.push(charge.key), true).1);
        Step::Take(charges)
    };
    let step = prop_oneof![
        8 => prop::collection::vec(charge(), 1..4).prop_map(one_key_once),
        1 => charge().prop_map(Step::GiveBack),
        4 => pause.prop_map(|ns| Step::Pass(Duration::from_nanos(ns))),
    ];
    prop::collection::vec(step, 1..count)
}
