//! Breakers: a capability that fails for a persona many times in a row is not called for it for a while, and then by one call
//! at a time, until one shows that it works again. One for each persona and capability, so that nobody shuts a capability for
//! others by what they send to it. What counts as a failure and what a caller is told is said elsewhere.
//!
//! Closed, it counts failures; open, it refuses until its pause is over; then it is half open: one call is the trial, and all
//! others are refused until that has ended. Whatever becomes of a call, it leaves no place taken: a pass that is dropped gives
//! its trial back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::{CapabilityId, Clock, PersonaId};

use crate::policy::BreakerLimits;

/// Breakers kept at once. Stops personas with many broken capabilities from filling memory: those that are closed go first,
/// the oldest first, then those that nobody has tried since their pause was over. One that refuses is never forgotten, so that
/// nobody closes it by having others fail; while all of them refuse, no further one opens.
const BREAKERS_MAX: usize = 8192;
/// How long to wait for the trial of somebody else: nobody knows how long it takes.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

/// Whose calls of what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) persona: PersonaId,
    pub(crate) capability: CapabilityId,
}

/// What the end of a call says of the capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Answered,
    /// It does not.
    Failed,
    /// Nothing.
    Silent,
}

/// What became of a breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It refuses calls from now on, for the first time or once more.
    Opened(Key),
    /// It lets everybody through again.
    Closed(Key),
}

/// The breakers of a host. Those that are not kept are closed, and have counted nothing.
#[derive(Debug)]
pub(crate) struct Breakers {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

/// A call that may be made. Dropped without a word it says nothing of the capability.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breakers: &'a Breakers,
    key: Key,
    limits: BreakerLimits,
    /// The number of the trial that it is, if it is one.
    trial: Option<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    breakers: HashMap<Key, Breaker>,
    /// Grows with each change and each trial: tells which is older, and one trial from the other.
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Breaker {
    state: State,
    /// When it was changed last.
    changed: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many failures in a row.
    Closed { failures: u32 },
    /// Nobody gets through before the pause is over, and then one at a time.
    Open {
        since: Duration,
        pause: Duration,
        trial: Option<u64>,
    },
}

impl Breakers {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            kept: Mutex::default(),
        }
    }

    /// Whether a call may be made now; if not, when to come again. The numbers are those in force, also for a breaker that
    /// opened under others.
    pub(crate) fn enter(&self, key: Key, limits: BreakerLimits) -> Result<Pass<'_>, Duration> {
        let now = self.clock.elapsed();
        let trial = self.lock().enter(&key, limits, now)?;
        Ok(Pass {
            breakers: self,
            key,
            limits,
            trial,
        })
    }

    /// How many let no call through now.
    pub(crate) fn refusing(&self, limits: BreakerLimits) -> u64 {
        let now = self.clock.elapsed();
        let kept = self.lock();
        let refusing = kept.breakers.values().filter(|one| one.state.refuses(limits, now));
        u64::try_from(refusing.count()).unwrap_or(u64::MAX)
    }

    fn answered(&self, key: &Key, trial: Option<u64>) -> Option<Change> {
        self.lock().answered(key, trial)
    }

    fn failed(&self, key: &Key, trial: Option<u64>, limits: BreakerLimits) -> Option<Change> {
        let now = self.clock.elapsed();
        self.lock().failed(key, trial, limits, now)
    }

    fn give_back(&self, key: &Key, trial: u64) {
        self.lock().give_back(key, trial);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The call has ended.
    pub(crate) fn end(self, verdict: Verdict) -> Option<Change> {
        match verdict {
            Verdict::Answered => self.breakers.answered(&self.key, self.trial),
            Verdict::Failed => self.breakers.failed(&self.key, self.trial, self.limits),
            Verdict::Silent => None,
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(trial) = self.trial {
            self.breakers.give_back(&self.key, trial);
        }
    }
}

impl State {
    /// How much is left of a pause: a shorter one that is configured meanwhile holds for it too.
    fn left(since: Duration, pause: Duration, limits: BreakerLimits, now: Duration) -> Duration {
        let pause = pause.min(limits.pause_max());
        pause.saturating_sub(now.saturating_sub(since))
    }

    fn refuses(self, limits: BreakerLimits, now: Duration) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Open { since, pause, trial } => trial.is_some() || !Self::left(since, pause, limits, now).is_zero(),
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

impl Kept {
    /// The number of the trial that the call is; none: it is none.
    fn enter(&mut self, key: &Key, limits: BreakerLimits, now: Duration) -> Result<Option<u64>, Duration> {
        let Some(breaker) = self.breakers.get_mut(key) else {
            return Ok(None);
        };
        let State::Open { since, pause, trial } = &mut breaker.state else {
            return Ok(None);
        };
        let left = State::left(*since, *pause, limits, now);
        if !left.is_zero() {
            return Err(left);
        }
        if trial.is_some() {
            return Err(TRIAL_WAIT);
        }
        self.number = self.number.wrapping_add(1);
        *trial = Some(self.number);
        Ok(Some(self.number))
    }

    fn answered(&mut self, key: &Key, trial: Option<u64>) -> Option<Change> {
        let state = self.breakers.get(key)?.state;
        match state {
            State::Closed { .. } => {
                self.breakers.remove(key);
                None
            }
            State::Open { trial: current, .. } => {
                // Of a call that began before it opened: it says nothing of now.
                if trial.is_none() || trial != current {
                    return None;
                }
                self.breakers.remove(key);
                Some(Change::Closed(key.clone()))
            }
        }
    }

    fn failed(&mut self, key: &Key, trial: Option<u64>, limits: BreakerLimits, now: Duration) -> Option<Change> {
        let before = self.breakers.get(key).map(|breaker| breaker.state);
        let pause = match before.unwrap_or(State::Closed { failures: 0 }) {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                if failures < limits.failures {
                    self.keep(key, State::Closed { failures }, limits, now);
                    return None;
                }
                limits.pause()
            }
            State::Open { trial: current, .. } if trial.is_none() || trial != current => return None,
            State::Open { pause, .. } => pause.saturating_mul(2).max(limits.pause()),
        };
        let open = State::Open {
            since: now,
            pause: pause.min(limits.pause_max()),
            trial: None,
        };
        self.keep(key, open, limits, now).then(|| Change::Opened(key.clone()))
    }

    fn give_back(&mut self, key: &Key, number: u64) {
        if let Some(breaker) = self.breakers.get_mut(key)
            && let State::Open { trial, .. } = &mut breaker.state
            && *trial == Some(number)
        {
            *trial = None;
        }
    }

    /// Whether there was room for it.
    fn keep(&mut self, key: &Key, state: State, limits: BreakerLimits, now: Duration) -> bool {
        let is_new = !self.breakers.contains_key(key);
        if is_new && self.breakers.len() >= BREAKERS_MAX && !self.forget_one(limits, now) {
            return false;
        }
        self.number = self.number.wrapping_add(1);
        let changed = self.number;
        self.breakers.insert(key.clone(), Breaker { state, changed });
        true
    }

    /// Whether there was one that may be forgotten.
    fn forget_one(&mut self, limits: BreakerLimits, now: Duration) -> bool {
        let spare = self.breakers.iter().filter(|(_, one)| !one.state.refuses(limits, now));
        let oldest = spare.min_by_key(|(_, one)| (one.state.is_open(), one.changed));
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.breakers.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests;
