//! What the tests share. It knows the guests and the servers, and nothing of what a test expects.

pub(crate) mod desk;
pub(crate) mod dns;
pub(crate) mod guests;
pub(crate) mod http;
pub(crate) mod issuer;
mod kept;
pub(crate) mod lab;
pub(crate) mod listener;
pub(crate) mod mcp;
pub(crate) mod outcome;
#[cfg(feature = "services")]
pub(crate) mod port;
#[cfg(feature = "services")]
pub(crate) mod python;
#[cfg(feature = "services")]
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod signer;
pub(crate) mod task;
pub(crate) mod tls;
pub(crate) mod wire;
