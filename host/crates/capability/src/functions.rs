//! The host functions of `aral:capability`, one module for each interface. Each first asks the grant, then acts, and
//! reports both to the call's record.

pub(crate) mod context;
pub(crate) mod exec;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod secret;

use crate::bindings::aral::capability::types::Error;
use crate::call::CallRecord;
use aral_contract::{Classification, Grant, Permission, Permissions};

impl crate::bindings::aral::capability::types::Host for crate::state::State {}

/// Records a refusal and words it for the guest, which may pass it on to its caller.
fn denied(call: &CallRecord, permission: Permission, target: &str, reason: &str) -> Error {
    call.denied(permission, target, reason);
    Error::Denied(reason.to_owned())
}

/// The same of a use that is granted, and beyond a limit.
fn beyond(call: &CallRecord, permission: Permission, target: &str, reason: String) -> Error {
    call.denied(permission, target, &reason);
    Error::Limit(reason)
}

/// Why what `is_in` finds is not granted although the manifest asks for it. None: the manifest does not.
pub(crate) fn held_back(grant: &Grant, what: &str, is_in: impl Fn(&Permissions) -> bool) -> Option<String> {
    let who_gives = grant.cut.who_gives(is_in)?;
    Some(format!(
        "{what} is not granted: capability.toml asks for it, and {who_gives} less: `aral explain {} --why-not` names the line",
        grant.capability
    ))
}

/// The words of an error.
pub(crate) fn reason_of(error: &Error) -> &str {
    match error {
        Error::InvalidInput(text)
        | Error::Denied(text)
        | Error::Unavailable(text)
        | Error::Limit(text)
        | Error::Internal(text) => text,
    }
}

/// Whether the persona is cleared for a value that is so sensitive; else why not, with the line that would clear it.
fn cleared(call: &CallRecord, classification: Classification) -> Result<(), String> {
    let clearance = call.frame.grant.clearance;
    if classification <= clearance {
        return Ok(());
    }
    Err(format!(
        "the value is `{classification}`, and the persona is cleared for `{clearance}`: persona, \"clearance\": \"{classification}\""
    ))
}
