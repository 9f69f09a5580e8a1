//! The machine's clock. The only place that asks the machine for the time; everything above is handed a `Clock`.

use std::time::{Duration, Instant};

use aral_contract::Clock;
use jiff::Timestamp;

/// The machine's clock: time of day from the system, elapsed time since this value was made.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose elapsed time starts now.
    #[expect(clippy::disallowed_methods, reason = "this module owns the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
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
        self.start.elapsed()
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
}
