//! `aral serve` as a client meets it: the program, a port, and bytes.

mod admin;
mod admin_verbs;
mod anything;
mod breaker;
mod calls;
mod collector;
mod denials;
mod doctor;
#[cfg(feature = "services")]
mod fuzz;
mod killed;
mod limits;
mod log;
mod metrics;
mod rates;
#[cfg(feature = "services")]
mod rates_shared;
mod receipts;
mod reload;
mod signatures;
mod start;
mod storm;
#[cfg(feature = "services")]
mod telemetry;
mod tls;
mod tokens;
mod trace;
mod wire;
