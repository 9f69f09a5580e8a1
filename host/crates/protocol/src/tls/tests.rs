//! TLS between this server and real clients, over sockets, with certificates that the test made.

mod authority;
mod clients;
mod files;
mod handshake;
mod http2;
mod peer;
