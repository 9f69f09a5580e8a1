//! How long a stage of a call takes. It knows nothing of what the stages are.

use std::time::Duration;

use aral_contract::Clock;
use metrics::Histogram;

/// From when it is made until it is dropped: also what is cut off has taken its time.
pub(super) struct Timed<'a> {
    clock: &'a dyn Clock,
    begun: Duration,
    histogram: &'a Histogram,
}

impl<'a> Timed<'a> {
    pub(super) fn begin(clock: &'a dyn Clock, histogram: &'a Histogram) -> Self {
        Self {
            clock,
            begun: clock.elapsed(),
            histogram,
        }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.histogram.record(self.clock.elapsed().saturating_sub(self.begun));
    }
}
