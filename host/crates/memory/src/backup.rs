//! Backups: every record of a store, sealed to a public key whose private half lies elsewhere. HPKE (RFC 9180, base mode,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), one message for each record, in order, and one that says the end.
//! Slots and keys of records are never in it. The layout is in docs/store-format.md.

mod keys;
mod stream;

#[cfg(test)]
mod tests;

use aral_contract::Classification;
use aral_contract::id::Namespace;
use serde::{Deserialize, Serialize};

pub use keys::{BackupKeyError, BackupPrivateKey, BackupPublicKey};
pub(crate) use stream::{Reader, Writer};

/// What stands before the value in the message of a record, or alone in the last one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Head {
    Record {
        space: String,
        namespace: Namespace,
        name: String,
        version: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
        classification: Classification,
    },
    End {
        records: u64,
    },
}

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("the backup cannot be {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not a backup.
    #[error("the backup is not one of a store")]
    NotABackup,
    /// Made by a newer version.
    #[error("the backup has format {found}, and this version reads up to {known}; use a newer version")]
    Version {
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// The key is not the one it was sealed to.
    #[error("the backup is sealed to the key `{wanted}`, and was given `{given}`")]
    WrongKey {
        /// Id of the key that opens it.
        wanted: String,
        /// Id of the key that was given.
        given: String,
    },
    /// A message does not open, or is not what it must be.
    #[error("the backup is damaged or was changed, in message {message}")]
    Damaged {
        /// Which message; the first is 1.
        message: u64,
    },
    /// It ends before its end.
    #[error("the backup is cut off after message {message}; nothing was restored")]
    CutOff {
        /// The last whole message.
        message: u64,
    },
    /// The store did not give or take a record.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
