//! Layer 2: what outlives a call. The encrypted record store, its keys and backups, and the places that keep secrets. It
//! knows no guest, no grant and no policy: whoever calls has asked those.
#![forbid(unsafe_code)]

pub mod key_service;
pub mod record;
pub mod store;

pub use key_service::{KeyService, KeyServiceError};
pub use record::{Operation, Outcome, Page, Precondition, Quota, Record, RecordName, Usage, Write};
pub use store::{RecordStore, StoreError};
