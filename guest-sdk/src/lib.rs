//! Writes capabilities for the Aral host: programs that an agent may call, compiled to `wasm32-wasip2`, that reach
//! nothing but what their manifest asks for and the host grants.
//!
//! ```
//! use aral_guest::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Input {
//!     /// Who to greet.
//!     name: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Output {
//!     /// The greeting.
//!     greeting: String,
//! }
//!
//! fn greet(input: Input) -> Result<Output> {
//!     Ok(Output { greeting: format!("Hello, {}!", input.name) })
//! }
//!
//! capability! { title: "Greet", description: "Greets a person by name.", run: greet }
//! # fn main() {}
//! ```
//!
//! The types become the schemas that the host validates against, the doc comments of their fields the descriptions that a
//! model reads. What a capability does not call it does not import, so the import list of a component shows what it can
//! ask for. Everything compiles for the build machine too, where logic is unit-tested; there, calls to the host answer
//! [`Error::Unavailable`].

#[doc(hidden)]
pub mod bindings;
mod macros;
mod serve;

pub mod context;
pub mod descriptor;
pub mod error;
pub mod exec;
pub mod files;
pub mod http;
pub mod log;
pub mod memory;
pub mod prelude;
pub mod secret;

pub use descriptor::Descriptor;
pub use error::{Context, Error, Result};
pub use serve::serve;

/// What the macro [`capability!`] expands to; not for direct use.
#[doc(hidden)]
pub mod expansion {
    pub use crate::bindings::export_tool;
    pub use crate::bindings::exports::aral::capability::tool::{Descriptor, Error, Guest};
    pub use crate::serve::{describe, invoke};
}
