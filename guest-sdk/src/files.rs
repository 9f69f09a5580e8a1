//! The folders that the host has granted. Reading and writing below them is plain `std::fs`; this module only tells
//! where they are. Permission `file:read` or `file:write`.

use crate::bindings::wasi::filesystem::preopens;
use crate::{Error, Result};

/// The guest paths of the granted folders, in the order of the grant.
///
/// # Errors
/// [`Error::Unavailable`] on the build machine.
pub fn roots() -> Result<Vec<String>> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(preopens::get_directories().into_iter().map(|(_, path)| path).collect())
}

/// The folder that a capability works in when its caller names none: the first that is granted.
///
/// # Errors
/// [`Error::Denied`] if no folder is granted.
pub fn first_root() -> Result<String> {
    roots()?.into_iter().next().ok_or_else(|| {
        Error::denied("no folder is granted: the manifest entry needs a `paths` list under `file:read` or `file:write`")
    })
}
