//! What is remembered of keys in this process: at most so many. It knows no rate.
//!
//! A key is forgotten once everything is given back to it, and not before, since forgetting it earlier would give it
//! everything at once. When the table is full of keys that are in use, all keys that are not in it count together, as one:
//! whoever fills it resets no limit, and gets less than before. What is put aside is remembered for each key beside that, for as
//! long as the calls are under way, of which there are only so many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::StateStore;
use metrics::Gauge;

use super::charge::Key;
use super::rates::Limit;
use crate::meters;

/// Keys for which nobody looks whether some can be forgotten.
const SWEEP_KEYS_MIN: usize = 1024;
/// How often a full table is looked through. Stops a flood of new keys from keeping everybody waiting.
const SWEEP_NS: u64 = 1_000_000_000;

/// The table, and the time that all limits of one request see. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Table(Arc<Mutex<State>>);

/// What is remembered of a key at one time, and of those of its limit that are not in the table: what is counted of a key in a table
/// without room is theirs.
#[derive(Debug)]
pub(super) struct Kept {
    key: Key,
    full_at: Option<u64>,
    rest: Option<u64>,
}

#[derive(Debug)]
struct State {
    /// When everything will be given back to a key, in nanoseconds.
    full_at: HashMap<Key, u64>,
    /// The same for all keys together that are not in the table.
    rest: HashMap<Limit, u64>,
    /// What is put aside of a key for calls under way, in nanoseconds. Time gives nothing of it back.
    aside: HashMap<Key, u64>,
    keys_max: usize,
    sweep_at: usize,
    swept: u64,
    now: u64,
    /// Says how many keys there are.
    gauge: Gauge,
}

impl Table {
    /// `gauge` says how many keys it remembers.
    pub(super) fn new(keys_max: usize, gauge: Gauge) -> Self {
        gauge.set(0.0);
        Self(Arc::new(Mutex::new(State {
            full_at: HashMap::new(),
            rest: HashMap::new(),
            aside: HashMap::new(),
            keys_max,
            sweep_at: SWEEP_KEYS_MIN,
            swept: 0,
            now: 0,
            gauge,
        })))
    }

    /// From here on it is so late.
    pub(super) fn set_now(&self, ns: u64) {
        self.lock().now = ns;
    }

    /// From here on so many keys at most.
    pub(super) fn resize(&self, keys_max: usize) {
        self.lock().keys_max = keys_max;
    }

    /// What is remembered of a key now.
    pub(super) fn keep(&self, key: &Key) -> Kept {
        let state = self.lock();
        Kept {
            key: *key,
            full_at: state.full_at.get(key).copied(),
            rest: state.rest.get(&key.limit).copied(),
        }
    }

    /// Nothing was counted since then.
    pub(super) fn put_back(&self, Kept { key, full_at, rest }: Kept) {
        let mut state = self.lock();
        match full_at {
            Some(at) => state.full_at.insert(key, at),
            None => state.full_at.remove(&key),
        };
        match rest {
            Some(at) => state.rest.insert(key.limit, at),
            None => state.rest.remove(&key.limit),
        };
        state.tell();
    }

    /// How full a key is: the time until everything is given back, if all that is put aside was used and ended now.
    pub(super) fn level(&self, key: &Key) -> u64 {
        let mut state = self.lock();
        let now = state.now;
        let falls = state.get(key).map_or(0, |at| at.saturating_sub(now));
        falls.saturating_add(state.aside(key))
    }

    /// Puts so much aside.
    pub(super) fn put_aside(&self, key: &Key, ns: u64) {
        let mut state = self.lock();
        let aside = state.aside(key).saturating_add(ns);
        state.aside.insert(*key, aside);
    }

    /// So much is put aside no more, and what was used of it counts from now on.
    pub(super) fn end_aside(&self, key: &Key, ns: u64, used_ns: u64) {
        let mut state = self.lock();
        match state.aside(key).saturating_sub(ns) {
            0 => state.aside.remove(key),
            left => state.aside.insert(*key, left),
        };
        if used_ns > 0 {
            let from = state.get(key).unwrap_or(0).max(state.now);
            state.set(key, from.saturating_add(used_ns));
        }
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().full_at.len()
    }

    /// Keys of which something is put aside.
    #[cfg(test)]
    pub(super) fn asides(&self) -> usize {
        self.lock().aside.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn aside(&self, key: &Key) -> u64 {
        self.aside.get(key).copied().unwrap_or(0)
    }

    fn get(&mut self, key: &Key) -> Option<u64> {
        match self.full_at.get(key).copied() {
            Some(at) => Some(at),
            None if self.has_room() => None,
            None => self.rest.get(&key.limit).copied(),
        }
    }

    fn set(&mut self, key: &Key, full_at: u64) {
        if self.full_at.contains_key(key) || self.has_room() {
            self.full_at.insert(*key, full_at);
        } else {
            self.rest.insert(key.limit, full_at);
        }
        self.tell();
    }

    fn tell(&self) {
        self.gauge.set(meters::to_f64(self.full_at.len()));
    }

    /// Whether another key can be remembered. Forgets those to which everything is given back, now and then.
    fn has_room(&mut self) -> bool {
        let keys = self.full_at.len();
        let late = self.now.saturating_sub(self.swept) >= SWEEP_NS;
        if keys >= self.sweep_at || (keys >= self.keys_max && late) {
            let now = self.now;
            self.full_at.retain(|_, at| *at > now);
            self.swept = now;
            self.sweep_at = self.full_at.len().saturating_mul(2).max(SWEEP_KEYS_MIN);
            self.full_at.shrink_to(self.sweep_at);
            self.tell();
        }
        self.full_at.len() < self.keys_max
    }
}

impl StateStore for Table {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut state = self.lock();
        let (told, full_at) = decide(state.get(key).map(Nanos::new))?;
        state.set(key, full_at.as_u64());
        Ok(told)
    }
}

impl Clock for Table {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.lock().now)
    }
}
