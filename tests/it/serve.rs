//! `aral serve` as a client meets it: the program, a port, and bytes.

mod admin;
mod admin_verbs;
mod calls;
mod denials;
mod limits;
mod metrics;
mod receipts;
mod reload;
mod start;
#[cfg(feature = "services")]
mod telemetry;
mod trace;
mod wire;
