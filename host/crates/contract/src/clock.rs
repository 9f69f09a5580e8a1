//! Time, injected. Nothing above layer 1 asks the machine for it.

use std::time::Duration;

use jiff::Timestamp;

/// Tells the time. Implemented by layer 1 for the machine's clock and by tests for theirs.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time of day, for expiry and for records.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never goes back. For durations and deadlines.
    fn elapsed(&self) -> Duration;
}
