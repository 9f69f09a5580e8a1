//! The machine's clock. The only place that asks the machine for the time; everything above is handed a `Clock`.

use std::time::Duration;

use aral_contract::Clock;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The machine's clock: time of day from the system, elapsed time since this value was made. Elapsed is what passed outside,
/// time in which the machine slept included: what may be kept for a minute is too old after a night.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    /// Since the machine started.
    start: Duration,
}

fn since_boot() -> Duration {
    // No system says that it started in the future.
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// What managers of services count by (`CLOCK_MONOTONIC`): since the machine started, without the time in which it slept.
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap_or_default()
}

impl SystemClock {
    /// A clock whose elapsed time starts now.
    pub fn new() -> Self {
        Self { start: since_boot() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this module owns the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let clock = SystemClock::new();
        let (day, before) = (clock.now(), clock.elapsed());
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now() > day);
        assert!(clock.elapsed() >= before + Duration::from_millis(5));
    }

    #[test]
    fn elapsed_is_since_the_machine_started_and_not_since_it_woke_up() {
        let clock = SystemClock { start: Duration::ZERO };
        let boot = |id| Duration::try_from(clock_gettime(id)).unwrap();
        let (before, elapsed, after) = (boot(ClockId::Boottime), clock.elapsed(), boot(ClockId::Boottime));
        assert!(
            before <= elapsed && elapsed <= after,
            "{before:?} {elapsed:?} {after:?}"
        );
    }

    #[test]
    fn managers_of_services_count_by_the_same_time() {
        let system = || Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
        let (before, counted, after) = (system(), monotonic(), system());
        assert!(
            before <= counted && counted <= after,
            "{before:?} {counted:?} {after:?}"
        );
    }
}
