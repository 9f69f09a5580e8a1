//! `aral persona`: what its four verbs share.

pub(crate) mod new;
pub(crate) mod show;
pub(crate) mod sign;
pub(crate) mod verify;

use aral_contract::{Classification, Permission};
use aral_persona::PersonaBody;

use super::output::Output;

/// Says where everything is allowed, and where what is allowed is of little use.
fn warn(body: &PersonaBody, output: &Output) {
    for list in body.constraints.wildcards() {
        output.warn(&format!("`*` in {list} allows everything that the policy allows"));
    }
    if body.clearance == Classification::Public && body.constraints.allows_permission(Permission::MemoryWrite) {
        output.warn(
            "memory:write is allowed, and the clearance is `public`: the SDK writes records that are `internal` where a capability \
             says nothing else, and these are refused\nhint: `aral persona new --clearance internal`, in the file \
             \"clearance\": \"internal\"",
        );
    }
    if body.clearance < Classification::Secret && body.constraints.allows_permission(Permission::SecretWrite) {
        output.warn(&format!(
            "secret:write is allowed, and the clearance is `{}`: what a capability stores as a secret counts as `secret`, and is \
             refused\nhint: `aral persona new --clearance secret`, in the file \"clearance\": \"secret\"",
            body.clearance
        ));
    }
}
