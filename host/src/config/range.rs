//! A number of `aral.toml` that has a least and a most.

use std::fmt::Display;

/// A number that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value} is not between {min} and {max}")]
pub struct OutOfRange {
    /// Which key.
    pub key: &'static str,
    /// What it says.
    pub value: String,
    /// What it may say at least.
    pub min: String,
    /// What it may say at most.
    pub max: String,
}

/// The value, if it is in the range; both ends are.
pub(super) fn between<T: Copy + Ord + Display>(
    key: &'static str,
    value: T,
    (min, max): (T, T),
) -> Result<T, OutOfRange> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(OutOfRange {
        key,
        value: value.to_string(),
        min: min.to_string(),
        max: max.to_string(),
    })
}
