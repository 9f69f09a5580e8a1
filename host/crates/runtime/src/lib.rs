//! Layer 1: what stands between a guest and the machine. The wasmtime engines with every setting and its reason, the
//! limits of a call, compilation in a child process, the cache of compiled code, process limits, the jail of child
//! processes, and the host's own files, requests, variables, clock and randomness. It knows no manifest, no persona and no
//! policy: it is handed bytes and limits, and bounds what they can do.
#![deny(unsafe_code)]

mod admit;
pub mod cache;
pub mod clock;
pub mod compile;
mod danger;
pub mod engine;
pub mod entropy;
pub mod environment;
pub mod fault;
pub mod files;
pub mod guard;
pub mod jail;
pub mod locked;
pub mod outbound;
pub mod process;
pub mod runtime;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod weight;

pub use cache::CacheOptions;
pub use clock::SystemClock;
pub use compile::{CompileError, CompilerKind, Looker};
pub use engine::{Allocation, Engine};
pub use environment::{EnvironmentError, take_variables};
pub use fault::{Fault, fault_of, within_wall};
pub use guard::{Guard, Guarded};
pub use jail::{JailLimits, jailed_command};
pub use locked::LockedKey;
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
