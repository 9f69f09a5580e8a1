//! Layer 0: the words that every layer shares. It knows no file, no socket, no clock and no wasmtime: it can be
//! read, tested and reused without running anything.
#![forbid(unsafe_code)]

pub mod address;
pub mod allow;
pub mod classification;
pub mod clock;
pub mod document;
pub mod event;
pub mod failure;
pub mod grant;
pub mod host_pattern;
pub mod id;
pub mod limits;
pub mod metric;
pub mod permission;
pub mod quote;
pub mod rule;
pub mod scope;
pub mod secret;
pub mod sensitive;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
pub mod version;

pub use address::{network, site};
pub use allow::{AllowList, CapabilityPattern};
pub use classification::Classification;
pub use clock::Clock;
pub use event::{AuditSink, Event, EventKind, Evidence};
pub use failure::{Blame, Code, Failure};
pub use grant::{Cut, Grant, GrantParts, Metering};
pub use host_pattern::HostPattern;
pub use id::{CapabilityId, Digest, KeyId, LogId, PersonaId, SpanId, TierName, TraceId};
pub use limits::{Limits, LimitsRequest, Usage};
pub use permission::Permission;
pub use scope::Permissions;
pub use secret::{SecretBuffer, SecretError, SecretReference, SecretSource, SecretValue};
pub use sensitive::Sensitive;
pub use trace::{Sampling, TraceContext};
