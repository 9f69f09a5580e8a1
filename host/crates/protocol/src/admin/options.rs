//! Where the management is, and what its port must be.

use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::Digest;

use super::AdminError;

/// Where the management is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminOptions {
    /// The socket; none: there is none.
    pub socket: Option<PathBuf>,
    /// A port of the loopback besides; none: there is none.
    pub address: Option<SocketAddr>,
    /// SHA-256 of each key that opens that port.
    pub keys: Vec<Digest>,
}

impl AdminOptions {
    /// Whether the port, if there is one, is of the loopback and asks for a key.
    ///
    /// # Errors
    /// [`AdminError::Exposed`] and [`AdminError::NoKey`].
    pub fn check(&self) -> Result<(), AdminError> {
        match self.address {
            Some(address) if !address.ip().is_loopback() => Err(AdminError::Exposed(address)),
            Some(address) if self.keys.is_empty() => Err(AdminError::NoKey(address)),
            Some(_) | None => Ok(()),
        }
    }
}
