//! Layer 7: HTTP in, HTTP out. It finds out who calls, bounds what the wire may cost, and turns requests into calls of the
//! one dispatch path and outcomes into answers. It decides nothing about rights, and no other crate knows the HTTP status of
//! a failure.
#![forbid(unsafe_code)]

// In reading order: what a server is made from, what a request passes, what answers it, what carries it.
pub mod bounds;
pub mod caller;
pub mod health;
pub mod limit;
pub mod listener;
pub mod server;
pub mod tls;

mod authenticate;
mod bind_error;
mod body;
mod door;
mod enter;
mod guard;
mod meters;
pub mod problem;
mod protected;
mod signature;
mod token;
mod traces;

mod capabilities;
mod invoke;
mod mcp;
mod openapi;
pub mod receipts;
mod replay;
mod router;
mod stage;

pub mod admin;

mod accept;
mod connection;
mod frames;
mod http2;
mod linger;
mod pace;
mod places;
mod request_place;
mod secure;
mod streams;
mod tally;
mod turn;
mod unsent;

pub use admin::{AdminOptions, AdminParts, AdminServer};
pub use bind_error::{BindError, Lack};
pub use bounds::{Bounds, BoundsRequest, OutOfRange};
pub use caller::{Caller, Callers, CallersError, SignatureRule};
pub use health::{Check, Health};
pub use limit::{ForwardedField, Proxies, Rates, RedisOptions};
pub use listener::{HostName, ListenerOptions, Origin};
pub use mcp::{Paths, StdioError, StdioParts, serve_stdio, standard_streams};
pub use openapi::openapi;
pub use problem::Problem;
pub use protected::{Resource, ResourceError};
pub use receipts::Receipts;
pub use server::{Prepared, Renewal, Server, ServerHandle, ServerOptions, ServerParts};
pub use tls::{
    CertificateName, ClientAuth, ClientOptions, PemFault, TlsError, TlsOptions, TlsPart, TlsReloader, TlsTerm,
};
pub use token::{IssuerOptions, Issuers, KeySet, KeySetError, KeysPlace, RemoteKeys, TokenAlgorithm};

#[cfg(test)]
mod tests;
