//! How many calls there may be at once, and how many may wait for how long. Beyond that a caller is told at once, so
//! that a flood fills neither memory nor patience.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aral_contract::{Code, Failure};
use aral_runtime::runtime::CONCURRENT_CALLS_MAX_DEFAULT;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Default of [`GateOptions::waiting_max`].
const WAITING_CALLS_MAX: u32 = 1_000;
/// Default of [`GateOptions::wait_ms`].
const WAIT_MS: u64 = 5_000;

/// The size of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateOptions {
    /// Calls in flight at once.
    pub concurrent_max: u32,
    /// Calls that may wait for one of those to end. Stops a flood from piling up in memory.
    pub waiting_max: u32,
    /// How long one of them waits, in milliseconds. Stops callers from hanging behind a stuck host.
    pub wait_ms: u64,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            concurrent_max: CONCURRENT_CALLS_MAX_DEFAULT,
            waiting_max: WAITING_CALLS_MAX,
            wait_ms: WAIT_MS,
        }
    }
}

/// How many calls there are now, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Calls in flight.
    pub running: u32,
    /// [`GateOptions::concurrent_max`].
    pub running_max: u32,
    /// Calls that wait for one of those to end.
    pub waiting: u32,
    /// [`GateOptions::waiting_max`].
    pub waiting_max: u32,
}

#[derive(Debug)]
pub(super) struct Gate {
    options: GateOptions,
    running: Semaphore,
    waiting: AtomicU32,
}

impl Gate {
    pub(super) fn new(options: GateOptions) -> Self {
        Self {
            running: Semaphore::new(usize::try_from(options.concurrent_max).unwrap_or(Semaphore::MAX_PERMITS)),
            waiting: AtomicU32::new(0),
            options,
        }
    }

    pub(super) fn load(&self) -> Load {
        let free = u32::try_from(self.running.available_permits()).unwrap_or(u32::MAX);
        Load {
            running: self.options.concurrent_max.saturating_sub(free),
            running_max: self.options.concurrent_max,
            waiting: self.waiting.load(Ordering::Acquire),
            waiting_max: self.options.waiting_max,
        }
    }

    /// A place among the calls in flight, held until it is dropped.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.running.try_acquire() {
            return Ok(place);
        }
        let _waiting = Waiting::begin(&self.waiting, self.options.waiting_max).ok_or_else(|| {
            let (running, waiting) = (self.options.concurrent_max, self.options.waiting_max);
            busy(format!("{running} calls are in flight and {waiting} are waiting"))
        })?;
        let wait = Duration::from_millis(self.options.wait_ms);
        match tokio::time::timeout(wait, self.running.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(busy("the host is shutting down".to_owned())),
            Err(_) => Err(busy(format!("no place became free within {} ms", self.options.wait_ms))),
        }
    }
}

fn busy(message: String) -> Failure {
    Failure::new(Code::Unavailable, message).with_hint("call again later")
}

/// One caller that waits; leaves the queue when dropped, whatever the reason.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU32, max: u32) -> Option<Self> {
        let next = |waiting: u32| (waiting < max).then(|| waiting.saturating_add(1));
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()
            .map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrent_max: u32, waiting_max: u32, wait_ms: u64) -> Gate {
        Gate::new(GateOptions {
            concurrent_max,
            waiting_max,
            wait_ms,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_and_one_more_is_refused_at_once() {
        let gate = gate(1, 1, 100);
        let place = gate.enter().await.unwrap();
        let mut second = std::pin::pin!(gate.enter());
        assert!(futures::poll!(second.as_mut()).is_pending());
        let load = Load {
            running: 1,
            running_max: 1,
            waiting: 1,
            waiting_max: 1,
        };
        assert_eq!(gate.load(), load);
        let third = gate.enter().await.unwrap_err();
        assert_eq!(third.code, Code::Unavailable);
        assert!(third.message.contains("1 calls are in flight and 1 are waiting"));
        drop(place);
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends() {
        let gate = gate(1, 1, 100);
        let _place = gate.enter().await.unwrap();
        let failure = gate.enter().await.unwrap_err();
        assert!(failure.message.contains("within 100 ms"), "{failure}");
        // The queue is empty again: the next one may wait too.
        assert!(gate.enter().await.unwrap_err().message.contains("within 100 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_the_queue() {
        let gate = gate(1, 1, 100);
        let place = gate.enter().await.unwrap();
        {
            let mut given_up = Box::pin(gate.enter());
            assert!(futures::poll!(given_up.as_mut()).is_pending());
        }
        let mut next = std::pin::pin!(gate.enter());
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(place);
        assert!(next.await.is_ok());
    }
}
