//! Layer 7: HTTP in, HTTP out. It finds out who calls, bounds what the wire may cost, and turns requests into calls of the
//! one dispatch path and outcomes into answers. It decides nothing about rights, and no other crate knows an HTTP status.
#![forbid(unsafe_code)]

// In reading order: what a server is made from, what a request passes, what answers it, what carries it.
pub mod bounds;
pub mod caller;
pub mod health;
pub mod listener;
pub mod server;

mod authenticate;
mod body;
mod door;
mod enter;
mod guard;
mod meters;
pub mod problem;

mod capabilities;
mod invoke;
mod openapi;
pub mod receipts;
mod replay;
mod router;
mod stage;

pub mod admin;

mod accept;
mod connection;
mod pace;
mod places;

pub use admin::{AdminOptions, AdminParts, AdminServer};
pub use bounds::{Bounds, BoundsRequest, OutOfRange};
pub use caller::{Caller, Callers, CallersError};
pub use health::{Check, Health};
pub use listener::{HostName, ListenerOptions, Origin};
pub use openapi::openapi;
pub use problem::Problem;
pub use receipts::Receipts;
pub use server::{BindError, Prepared, Renewal, Server, ServerHandle, ServerOptions, ServerParts};

#[cfg(test)]
mod tests;
