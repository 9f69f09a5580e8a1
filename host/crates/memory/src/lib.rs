//! Layer 2: what outlives a call. The encrypted record store, its keys and backups, and the places that keep secrets. It
//! knows no guest, no grant and no policy: whoever calls has asked those.
#![forbid(unsafe_code)]

pub mod backup;
mod crypto;
pub mod key;
pub mod key_service;
pub mod record;
pub mod sealed;
pub mod secret;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vault;

#[cfg(test)]
mod tests;

pub use backup::{BackupError, BackupPrivateKey, BackupPublicKey};
pub use key::MasterKey;
pub use key_service::{KeyService, KeyServiceError};
pub use record::{Operation, Outcome, Page, Precondition, Quota, Record, RecordName, Usage, Value, Write};
pub use sealed::{Epoch, SealedStore, StoreOptions};
pub use secret::{
    CacheLimits, EnvironmentSecrets, LocalSecrets, SecretPage, SecretPlace, Secrets, SecretsParts, VaultSecrets,
    WriteEnded,
};
pub use store::{RecordStore, StoreError};
pub use vault::{Credential, TransitKeys, Vault, VaultError, VaultLogin, VaultOptions};
