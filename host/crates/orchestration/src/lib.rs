//! Layer 6: the operator's policy, the three yeses, and the one path on which a capability runs. It knows no file, no
//! command line and no HTTP.
#![forbid(unsafe_code)]

pub mod authorize;
mod breaker;
pub mod budget;
pub mod dispatch;
mod meters;
pub mod policy;
pub mod session;

pub use authorize::{Decision, Denial, authorize};
pub use dispatch::{Dispatcher, DispatcherParts, Outcome, Request};
pub use policy::{Policy, RawPolicy};
pub use session::Session;
