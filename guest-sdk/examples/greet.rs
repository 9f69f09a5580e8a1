//! The smallest capability: text in, text out, no permission.

use aral_guest::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Who to greet.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// The greeting.
    greeting: String,
}

fn greet(input: Input) -> Result<Output> {
    if input.name.trim().is_empty() {
        return Err(Error::invalid_input("`name` is empty"));
    }
    Ok(Output {
        greeting: format!("Hello, {}!", input.name.trim()),
    })
}

capability! { title: "Greet", description: "Greets a person by name.", run: greet }
