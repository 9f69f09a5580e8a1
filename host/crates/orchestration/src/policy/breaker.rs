//! After how many failures a capability is not called for a persona any more, and for how long, by the word of the policy.
//! Numbers alone; what counts as a failure and who is refused is elsewhere.

use std::time::Duration;

use serde::Serialize;

use super::PolicyError;
use super::raw::RawBreaker;

/// Default of `breaker.failures`. Stops a capability that is broken from using up places, processor time and money in vain.
pub const BREAKER_FAILURES: u32 = 20;
/// Default of `breaker.open_ms`, in milliseconds. Long enough for whatever stands behind a capability to come back.
pub const BREAKER_OPEN_MS: u64 = 5_000;
/// Default of `breaker.open_max_ms`, in milliseconds. What was repaired is called again within this.
pub const BREAKER_OPEN_MAX_MS: u64 = 300_000;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BreakerLimits {
    /// So many failures in a row open it. At least 1.
    pub failures: u32,
    /// The first pause, in milliseconds. At least 1.
    pub open_ms: u64,
    /// The longest pause, in milliseconds: each one is twice as long as the one before, up to this. At least `open_ms`.
    pub open_max_ms: u64,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures: BREAKER_FAILURES,
            open_ms: BREAKER_OPEN_MS,
            open_max_ms: BREAKER_OPEN_MAX_MS,
        }
    }
}

impl From<RawBreaker> for BreakerLimits {
    fn from(raw: RawBreaker) -> Self {
        Self {
            failures: raw.failures.unwrap_or(BREAKER_FAILURES),
            open_ms: raw.open_ms.unwrap_or(BREAKER_OPEN_MS),
            open_max_ms: raw.open_max_ms.unwrap_or(BREAKER_OPEN_MAX_MS),
        }
    }
}

impl BreakerLimits {
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.open_ms)
    }

    pub(crate) fn pause_max(&self) -> Duration {
        Duration::from_millis(self.open_max_ms)
    }
}

/// No failure at all would open it for ever, and a pause of nothing would never grow.
pub(super) fn check(limits: &BreakerLimits) -> Result<(), PolicyError> {
    for (key, value, least) in [
        ("failures", u64::from(limits.failures), 1),
        ("open_ms", limits.open_ms, 1),
        ("open_max_ms", limits.open_max_ms, limits.open_ms),
    ] {
        if value < least {
            return Err(PolicyError::Breaker { key, value, least });
        }
    }
    Ok(())
}
