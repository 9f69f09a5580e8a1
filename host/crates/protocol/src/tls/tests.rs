//! TLS between this server and real clients, over sockets, with certificates that the test made.
#![expect(
    clippy::disallowed_methods,
    reason = "tests replace files as an operator does, and look at the clock"
)]

mod authority;
mod believed;
mod clients;
mod files;
mod handshake;
mod http2;
mod limits;
mod peer;
mod renewal;
mod time;
