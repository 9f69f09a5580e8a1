//! Layer 2: what happened, kept so that it proves itself. It knows no guest and no policy: it is handed events, and decides
//! nothing.
#![forbid(unsafe_code)]

pub mod schema;
pub mod text;

pub mod blind;
pub mod host_calls;
pub mod merkle;

pub use blind::{Blinder, Part, Salt};
pub use host_calls::HostCallList;
pub use schema::{AuditEvent, Record};
