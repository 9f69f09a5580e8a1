//! One moment by both clocks of the host.

use aral_contract::Clock;

/// A moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// By the clock that nobody puts forward or back, in milliseconds. What is counted goes by this one: otherwise setting
    /// the time of day would give back what an agent has used up.
    pub(super) elapsed_ms: i64,
    /// The time of day, in milliseconds since 1970. What is kept for other processes goes by this one, the only one that
    /// they share.
    pub(super) day_ms: i64,
}

impl Moment {
    /// Now.
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self {
            elapsed_ms: i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX),
            day_ms: clock.now().as_millisecond(),
        }
    }
}
