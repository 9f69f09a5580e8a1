//! Facts about the call that is under way. Needs no permission.

use std::time::Duration;

use crate::bindings::aral::capability::context as host;
use crate::{Error, Result};

/// Who is calling what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// 32 lower-case hex digits, the same in every log line and audit record of this call.
    pub trace_id: String,
    /// Identifier of the persona that the call is made for.
    pub persona_id: String,
    /// Identifier of the running capability, as its manifest entry has it.
    pub capability_id: String,
    /// Version of the running capability, as its manifest entry has it.
    pub capability_version: String,
}

/// The call under way.
///
/// # Errors
/// [`Error::Unavailable`] on the build machine.
pub fn current() -> Result<Invocation> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    let invocation = host::current();
    Ok(Invocation {
        trace_id: invocation.trace_id,
        persona_id: invocation.persona_id,
        capability_id: invocation.capability_id,
        capability_version: invocation.capability_version,
    })
}

/// The time until the host ends the call.
///
/// # Errors
/// [`Error::Unavailable`] on the build machine.
pub fn remaining() -> Result<Duration> {
    if cfg!(not(target_family = "wasm")) {
        return Err(Error::outside_host());
    }
    Ok(Duration::from_millis(host::remaining_ms()))
}
