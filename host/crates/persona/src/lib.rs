//! Layer 5: personas, the signed identities of agents, and the constraints that they bring. Pure: it knows no file, no
//! clock and no policy; it answers for itself alone and never learns what the others said.
#![forbid(unsafe_code)]

pub mod constraints;
mod list;
pub mod persona;
mod text;

pub use constraints::{Constraints, RateLimits};
pub use persona::{Persona, PersonaBody};
