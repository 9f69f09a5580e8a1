//! One persona's standing: which issue of it holds, and what its sessions have used up together. Counting takes one short
//! lock and allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ledger::Spent;
use super::moment::Moment;
use super::window::Window;
use super::{Bound, HOUR_MS, MINUTE_MS, Terms};

/// How long to wait where calls in flight hold what is missing: they give back what they do not use when they end.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

/// What an agent has not enough of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// Requests in a time.
    Rate {
        /// `requests_per_minute` or `requests_per_hour`.
        name: &'static str,
        bound: Bound,
        /// None: no waiting helps.
        wait: Option<Duration>,
    },
    /// Money in an hour.
    Cost {
        bound: Bound,
        /// What is left.
        left: u64,
        /// None: no waiting helps, one call can cost more than an hour may.
        wait: Option<Duration>,
    },
}

#[derive(Debug)]
pub(crate) struct Standing {
    /// Grows when another document takes this persona's place.
    issue: AtomicU64,
    used: Mutex<Used>,
}

/// Moments in the windows are those of [`Used::at`]; those of `known` are the times of day that are kept.
#[derive(Debug)]
struct Used {
    /// What the time of day was when the other clock began, as seen at the first moment.
    began_ms: Option<i64>,
    minute: Window,
    hour: Window,
    cost: Window,
    /// Put aside for calls that are under way.
    reserved: u64,
    /// What nobody has taken to keep yet.
    unsaved_requests: Window,
    unsaved_cost: Window,
    /// What is kept, as far as it is counted here: what was taken from here and what was loaded.
    known: Spent,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self {
            issue: AtomicU64::new(0),
            used: Mutex::new(Used {
                began_ms: None,
                minute: Window::new(MINUTE_MS),
                hour: Window::new(HOUR_MS),
                cost: Window::new(HOUR_MS),
                reserved: 0,
                unsaved_requests: Window::new(HOUR_MS),
                unsaved_cost: Window::new(HOUR_MS),
                known: Spent::default(),
            }),
        }
    }

    pub(crate) fn issue(&self) -> u64 {
        self.issue.load(Ordering::Acquire)
    }

    /// Another document holds from now on; its number.
    pub(crate) fn reissue(&self) -> u64 {
        self.issue.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Counts one request and puts aside what it can cost, or neither.
    pub(crate) fn take(&self, terms: &Terms, now: Moment) -> Result<(), Exceeded> {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.forget(now_ms);
        let rates = [
            ("requests_per_minute", terms.requests_per_minute, &used.minute),
            ("requests_per_hour", terms.requests_per_hour, &used.hour),
        ];
        for (name, bound, window) in rates {
            if window.sum() >= bound.most {
                let over = window.sum().saturating_sub(bound.most).saturating_add(1);
                let wait = window.wait_ms(now_ms, over).map(Duration::from_millis);
                return Err(Exceeded::Rate { name, bound, wait });
            }
        }
        let (most, cost) = (terms.cost_per_hour_micro.most, terms.call_cost_max_micro);
        let taken = used.cost.sum().saturating_add(used.reserved);
        let wanted = taken.saturating_add(cost);
        if wanted > most {
            let over = wanted.saturating_sub(most);
            let wait = used
                .cost
                .wait_ms(now_ms, over)
                .map_or(IN_FLIGHT_WAIT, Duration::from_millis);
            return Err(Exceeded::Cost {
                bound: terms.cost_per_hour_micro,
                left: most.saturating_sub(taken),
                wait: (cost <= most).then_some(wait),
            });
        }
        used.minute.add(now_ms, 1);
        used.hour.add(now_ms, 1);
        used.unsaved_requests.add(now_ms, 1);
        used.reserved = used.reserved.saturating_add(cost);
        Ok(())
    }

    /// Gives back what was put aside, and counts what the call did cost.
    pub(crate) fn settle(&self, reserved: u64, cost: u64, now: Moment) {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.reserved = used.reserved.saturating_sub(reserved);
        used.forget(now_ms);
        used.cost.add(now_ms, cost);
        used.unsaved_cost.add(now_ms, cost);
    }

    /// What was used since this was asked last, for whoever keeps it.
    pub(crate) fn take_unsaved(&self, now: Moment) -> Spent {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.forget(now_ms);
        let spent = Spent::of(&used.unsaved_requests, &used.unsaved_cost);
        let spent = spent.moved(now.day_ms.saturating_sub(now_ms));
        used.unsaved_requests.clear();
        used.unsaved_cost.clear();
        used.known = used.known.and(&spent, now.day_ms);
        spent
    }

    /// What was taken could not be kept.
    pub(crate) fn give_back(&self, spent: &Spent, now: Moment) {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.known = used.known.without(spent);
        let spent = spent.moved(now_ms.saturating_sub(now.day_ms));
        used.unsaved_requests.learn(now_ms, &spent.requests);
        used.unsaved_cost.learn(now_ms, &spent.cost);
    }

    /// What is kept holds from now on, too. What was counted here stays as exact as it was: of the minute, what others did is
    /// known from the parts of the hour alone.
    pub(crate) fn load(&self, kept: &Spent, now: Moment) {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.forget(now_ms);
        let nothing = Spent::default();
        let kept = kept.and(&nothing, now.day_ms);
        let new = kept.news(&used.known.and(&nothing, now.day_ms));
        let new = new.moved(now_ms.saturating_sub(now.day_ms));
        used.minute.learn(now_ms, &new.requests);
        used.hour.learn(now_ms, &new.requests);
        used.cost.learn(now_ms, &new.cost);
        used.known = kept;
    }

    /// Whether forgetting all of it would make no difference.
    pub(crate) fn is_idle(&self, now: Moment) -> bool {
        let mut used = self.lock();
        let now_ms = used.at(now);
        used.forget(now_ms);
        used.hour.sum() == 0 && used.cost.sum() == 0 && used.reserved == 0
    }

    /// Nothing under the lock panics half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// The moment as it is counted: the time of day of the beginning and what has passed since, whatever the time of day is
    /// put to. Parts of a window thus are those that are kept, as long as nobody does.
    fn at(&mut self, now: Moment) -> i64 {
        let began_ms = *self.began_ms.get_or_insert(now.day_ms.saturating_sub(now.elapsed_ms));
        began_ms.saturating_add(now.elapsed_ms)
    }

    fn forget(&mut self, now_ms: i64) {
        let Self {
            minute,
            hour,
            cost,
            unsaved_requests,
            unsaved_cost,
            reserved: _,
            known: _,
            began_ms: _,
        } = self;
        for window in [minute, hour, cost, unsaved_requests, unsaved_cost] {
            window.forget(now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
