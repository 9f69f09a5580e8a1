//! Limits that one process keeps, by `governor`. All limits of a request are asked under one lock and at one time, and
//! either all of them are counted or none. What is put aside for calls under way, which `governor` does not know, is added to the
//! level.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::Clock;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};

use super::charge::{Charge, Level, Refused, Verdict};
use super::rate::Rate;
use super::table::{Kept, Table};
use crate::meters;

type Limiter = RateLimiter<super::charge::Key, Table, Table, NoOpMiddleware<Duration>>;

/// The limits.
#[derive(Debug)]
pub(crate) struct Local {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    /// One for each rate of the configuration that was used.
    limiters: HashMap<Rate, Limiter>,
}

impl Local {
    /// `name` is that of its table of keys in what is counted.
    pub(crate) fn new(name: &'static str, keys_max: usize, clock: Arc<dyn Clock>) -> Self {
        meters::rates_keys_max(keys_max);
        Self {
            clock,
            inner: Mutex::new(Inner {
                table: Table::new(keys_max, meters::rates_keys(name)),
                limiters: HashMap::new(),
            }),
        }
    }

    /// Counts all, or none.
    pub(crate) fn take(&self, charges: &[Charge]) -> Verdict {
        let mut inner = self.lock();
        let before: Vec<Kept> = charges.iter().map(|charge| inner.table.keep(&charge.key)).collect();
        let verdict = inner.take(charges);
        if let Verdict::Refused(_) = verdict {
            before.into_iter().for_each(|kept| inner.table.put_back(kept));
        }
        verdict
    }

    /// Whether [`Local::take`] would count it. Counts nothing.
    pub(crate) fn look(&self, charge: &Charge) -> Result<(), Refused> {
        self.lock().look(charge)
    }

    /// The call has ended for which this was put aside, and used so much of it.
    pub(crate) fn end(&self, charge: &Charge, used: u32) {
        let inner = self.lock();
        inner.table.end_aside(&charge.key, charge.ns(), charge.ns_of(used));
    }

    /// From now on so many keys are remembered at most. What is beyond that goes once it is whole again.
    pub(crate) fn resize(&self, keys_max: usize) {
        meters::rates_keys_max(keys_max);
        self.lock().table.resize(keys_max);
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.lock().table.len()
    }

    /// How full the key of this is.
    #[cfg(test)]
    pub(super) fn level(&self, charge: &Charge) -> u64 {
        self.lock().table.level(&charge.key)
    }

    /// Keys of which something is put aside.
    #[cfg(test)]
    pub(super) fn asides(&self) -> usize {
        self.lock().table.asides()
    }

    /// All that happens under this lock happens at one time.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed().as_nanos();
        inner.table.set_now(u64::try_from(now).unwrap_or(u64::MAX));
        inner
    }
}

impl Inner {
    fn take(&mut self, charges: &[Charge]) -> Verdict {
        let mut refused: Option<Refused> = None;
        for charge in charges {
            let counted = match charge.aside {
                Some(_) => self.look(charge),
                None => self.count(charge),
            };
            if let Err(new) = counted
                && new.outlasts(refused.as_ref())
            {
                refused = Some(new);
            }
        }
        match refused {
            Some(refused) => Verdict::Refused(refused),
            None => {
                for charge in charges.iter().filter(|charge| charge.aside.is_some()) {
                    self.table.put_aside(&charge.key, charge.ns());
                }
                let level = |charge| Level::new(charge, self.table.level(&charge.key));
                Verdict::Passed(charges.iter().map(level).collect())
            }
        }
    }

    /// Whether it passes. Counts nothing.
    fn look(&self, charge: &Charge) -> Result<(), Refused> {
        let level = self.table.level(&charge.key);
        let over = level
            .saturating_add(charge.ns())
            .saturating_sub(charge.rate.capacity_ns());
        if over == 0 {
            return Ok(());
        }
        let wait = charge.fits().then_some(Duration::from_nanos(over));
        Err(Refused::new(charge, level, wait))
    }

    /// Counts it, unless it does not pass.
    fn count(&mut self, charge: &Charge) -> Result<(), Refused> {
        let table = &self.table;
        let limiter = self
            .limiters
            .entry(charge.rate)
            .or_insert_with(|| limiter(charge.rate, table));
        let wait = match limiter.check_key_n(&charge.key, charge.amount) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => Some(until.wait_time_from(table.now())),
            Err(_more_than_the_burst) => None,
        };
        Err(Refused::new(charge, table.level(&charge.key), wait))
    }
}

/// Its time begins with the clock's, as that of every other one: they share a table.
fn limiter(rate: Rate, table: &Table) -> Limiter {
    let burst = NonZeroU32::new(rate.burst()).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(Duration::from_nanos(rate.interval_ns()));
    let quota = quota.unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
    let now = table.now();
    table.set_now(0);
    let limiter = RateLimiter::new(quota, table.clone(), table.clone());
    table.set_now(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    limiter
}

#[cfg(test)]
mod tests;
