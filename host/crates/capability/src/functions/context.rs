//! `aral:capability/context`: facts about the call that is under way. Open to all.

use crate::bindings::aral::capability::context::{Host, Invocation};
use crate::state::State;

impl Host for State {
    fn current(&mut self) -> wasmtime::Result<Invocation> {
        let grant = &self.call.frame.grant;
        Ok(Invocation {
            trace_id: self.call.context.trace.to_string(),
            persona_id: grant.persona.to_string(),
            capability_id: grant.capability.to_string(),
            capability_version: grant.version.to_string(),
        })
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call.remaining_ms())
    }
}
