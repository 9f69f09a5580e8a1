//! What most capabilities need: `use aral_guest::prelude::*;`.

pub use crate::{Context, Error, Result, capability, context, exec, files, http, log, memory, secret};
pub use schemars::{self, JsonSchema};
pub use serde::{self, Deserialize, Serialize};
