//! What an agent has used up of what it may: requests, and money. One standing for each persona counts for all its
//! sessions. It knows no file and asks no clock: whoever asks brings the time, and whoever keeps what was used takes it
//! from here.

pub mod ledger;
mod moment;
mod never;
mod register;
mod standing;
mod terms;
mod window;

pub use ledger::{Ledger, Spent};
pub(crate) use moment::Moment;
pub use never::Never;
pub(crate) use never::{never, taken_of};
pub(crate) use register::Register;
pub use register::{AGENTS_MAX, Refused};
pub(crate) use standing::{Exceeded, Standing};
pub(crate) use terms::depth_bound;
pub use terms::{Bound, TermRow, Terms, agent_rows};

/// The first of the two times for which requests are counted, in milliseconds.
pub(crate) const MINUTE_MS: i64 = 60_000;
/// The second, which is also the one for which money is counted.
pub(crate) const HOUR_MS: i64 = 3_600_000;
