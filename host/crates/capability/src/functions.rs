//! The host functions of `aral:capability`, one module for each interface. Each first asks the grant, then acts, and
//! reports both to the call's record.

pub(crate) mod context;
pub(crate) mod exec;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod secret;

use crate::bindings::aral::capability::types::Error;
use crate::call::CallRecord;
use aral_contract::Permission;

impl crate::bindings::aral::capability::types::Host for crate::state::State {}

/// Records a refusal and words it for the guest, which may pass it on to its caller.
fn denied(call: &CallRecord, permission: Permission, target: &str, reason: &str) -> Error {
    call.denied(permission, target, reason);
    Error::Denied(reason.to_owned())
}
