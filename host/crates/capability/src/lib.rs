//! Layer 3: manifests, registry, import check, linker from grants, host functions and one invocation. It knows nothing
//! of personas, policies or protocols: a grant comes in from above, and rights only shrink from here on down.
#![forbid(unsafe_code)]

// Documents: what a capability is, what it asks for, and whether it may be admitted. No execution.
pub mod diff;
pub mod imports;
pub mod inspect;
pub mod manifest;
pub mod registry;

// Running: one capability bound to one grant, its host functions, and one invocation.
mod bindings;
pub mod bound;
mod call;
pub mod describe;
pub mod egress;
mod fault;
mod fields;
mod filesystem;
mod functions;
mod linker;
mod places;
mod schema;
mod state;
pub mod storage;

pub use bound::{Bound, Call, Completion, Roots, Running, Services, Ungranted, bind};
pub use describe::describe;
pub use egress::{Egress, EgressOptions};
pub use filesystem::{FileWork, FoldersMissing};
pub use functions::exec::Programs;
pub use imports::check::{Warning, check_imports};
pub use inspect::{Inspection, Shape, inspect, inspect_by};
pub use manifest::{Descriptor, Entry, ManifestBody};
pub use registry::{Capability, Registry};
pub use storage::{Memory, SecretUses};

#[cfg(test)]
mod testing;
