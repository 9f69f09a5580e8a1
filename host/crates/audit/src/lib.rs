//! Layer 2: what happened, kept so that it proves itself. An append-only log of hash-chained records under signed
//! checkpoints, receipts of single records, verification with a public key alone, and the sinks that it is copied to. It
//! knows no guest and no policy: it is handed events, and decides nothing.
#![forbid(unsafe_code)]

pub mod schema;
#[cfg(test)]
mod testing;
pub mod text;

pub mod blind;
mod convert;

pub mod checkpoint;
mod line;
pub mod merkle;
pub mod segment;

mod age;
mod ending;
mod holds;
mod keepsake;
pub mod log;
pub mod options;
mod output;
pub mod recover;
mod repeats;
mod reserve;
mod retain;
mod shared;
mod writer;

pub mod cursor;
pub mod host_calls;
pub mod query;
pub mod receipt;
pub mod sink;
pub mod verify;

pub use blind::{Blinder, Part, Salt};
pub use checkpoint::{Checkpoint, Head};
pub use convert::shown;
pub use cursor::{Cursor, Entry, ReadError};
pub use host_calls::{HostCallList, HostCalls};
pub use log::{AuditLog, Progress};
pub use options::{Durability, LogOptions};
pub use query::{Filter, query};
pub use receipt::{Receipt, check, prove};
pub use recover::OpenError;
pub use schema::{AuditEvent, Record};
pub use verify::{Report, newest_checkpoint, verify};
