//! What the fuzzers draw, and what must hold of it: each function takes what was drawn, and panics where a promise of the host
//! does not hold. `fuzz/` calls them for as long as one likes, and the tests here for a moment. A panic anywhere below them is a
//! finding too, also one that the host would have caught: a fuzzer ends at each, and in the tests the threads of a host are watched.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "an oracle speaks by panicking"
)]

mod answers;
mod around;
mod connection;
mod documents;
mod edits;
pub mod given;
mod host_calls;
pub mod http2;
mod inspection;
mod lab;
mod log;
mod panics;
mod scratch;
mod store;
mod texts;

pub use around::Around;
pub use connection::Connections;
pub use documents::{backup, checkpoint, manifest, persona, receipt};
pub use edits::{Edit, Edits};
pub use host_calls::HostCalls;
pub use inspection::component;
pub use lab::guest;
pub use log::audit_log;
pub use store::{Changed, store};
pub use texts::{capability_toml, configuration, json};

#[cfg(test)]
mod tests;
