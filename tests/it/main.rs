//! Integration tests: everything goes through the host as an embedder or a shell would use it.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod audit_trials;
mod bad_input;
mod capabilities;
mod cli;
mod cli_audit;
mod cli_environment;
mod cli_memory;
mod cli_persona;
mod cli_run;
mod cli_scaffold;
mod cli_secret;
mod cli_yeses;
#[cfg(feature = "services")]
mod environment;
mod filesystem;
mod hints;
mod isolation;
mod limits;
mod mcp;
mod network;
mod operating;
mod permissions;
#[cfg(feature = "services")]
mod python;
#[cfg(feature = "services")]
mod readme;
mod runtime;
mod serve;
mod support;
mod vectors;
mod vectors_persona;
