//! `aral persona`: what its four verbs share.

pub(crate) mod new;
pub(crate) mod show;
pub(crate) mod sign;
pub(crate) mod verify;

use aral_persona::PersonaBody;

use super::output::Output;

/// Says where everything is allowed.
fn warn(body: &PersonaBody, output: &Output) {
    for list in body.constraints.wildcards() {
        output.warn(&format!("`*` in {list} allows everything that the policy allows"));
    }
}
