//! Using and storing secrets. Permissions `secret:read` and `secret:write`. A secret is best never seen: attach it to a
//! request ([`http::Request::secret`](crate::http::Request::secret)) and the host fills in the value when it sends it.

use std::fmt;

use crate::bindings::aral::capability::{secret_read, secret_write};
use crate::bindings::wasi::http::types::OutgoingRequest;
use crate::{Error, Result};

/// A secret that this call may use. The value stays in the host unless [`reveal`](Secret::reveal) hands it out.
pub struct Secret(secret_read::Secret);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The value, if the manifest entry says `use = "reveal"`.
    ///
    /// # Errors
    /// [`Error::Denied`] otherwise.
    pub fn reveal(&self) -> Result<Vec<u8>> {
        Ok(self.0.reveal()?)
    }

    pub(crate) fn attach(&self, request: &OutgoingRequest) -> Result<()> {
        Ok(self.0.attach(request)?)
    }
}

/// Opens a secret by name.
///
/// # Errors
/// [`Error::Denied`] if the manifest entry does not name it, [`Error::Unavailable`] if the store does not answer.
pub fn open(name: &str) -> Result<Secret> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(Secret(secret_read::open(name)?))
}

/// Stores a value under a name, replacing the one before. Permission `secret:write`.
///
/// # Errors
/// [`Error::Denied`] if the manifest entry does not name it, [`Error::Unavailable`] if the store does not answer.
pub fn put(name: &str, value: &[u8]) -> Result<()> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(secret_write::put(name, value)?)
}
