//! Counts in the agent's memory how often it was called for a name. Needs `memory:read` and `memory:write` for the
//! namespace `counters`.

use aral_guest::prelude::*;
use memory::{Precondition, PutOptions};

const NAMESPACE: &str = "counters";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// What to count.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// How often, this call included.
    count: u64,
}

fn remember(input: Input) -> Result<Output> {
    let before = memory::get(NAMESPACE, &input.name)?;
    let count = match &before {
        Some(entry) => entry.json::<u64>()?.saturating_add(1),
        None => 1,
    };
    // Two calls at once: the second to write is told so, and its caller tries again.
    let precondition = before.map_or(Precondition::Absent, |entry| Precondition::Version(entry.version));
    let options = PutOptions {
        precondition,
        ..PutOptions::default()
    };
    memory::put_json(NAMESPACE, &input.name, &count, options)?;
    Ok(Output { count })
}

capability! { title: "Count", description: "Counts how often it was called for a name.", run: remember }
