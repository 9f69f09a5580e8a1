//! The command line of `aral memory` and `aral secret`. A value is never an argument: those are seen by every user of the
//! machine and kept by the shell.

use std::path::PathBuf;

use aral_contract::Classification;
use aral_contract::id::{Namespace, SecretName};
use aral_memory::RecordName;
use aral_memory::record::TTL_SECONDS_MAX;
use clap::{Args, Subcommand, ValueHint};

use super::written;

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum Memory {
    /// Make a master key, or a key pair for backups
    Keygen(MemoryKeygen),
    /// Show a record: size, version, classification, expiry; its value with --reveal
    Get(MemoryGet),
    /// Write a record; the value comes from standard input, a file or a hidden prompt
    Put(MemoryPut),
    /// Delete a record and destroy its key
    Delete(MemoryDelete),
    /// List the names of a namespace, in an order that says nothing about them
    List(MemoryList),
    /// Show what the store holds, and the state of its keys and its disk
    Stats,
    /// Open every record, and say which are damaged
    Check(MemoryCheck),
    /// Seal the store under another master key; can be interrupted and started again
    RotateKey(MemoryRotateKey),
    /// Begin a new epoch and destroy the key of the old one; a host that runs does so by itself
    RotateEpoch,
    /// Write everything in the store to a file that one private key alone can read
    Export(MemoryExport),
    /// Read such a file into the store
    Import(MemoryImport),
}

/// Make a master key.
#[derive(Debug, Args)]
pub(crate) struct MemoryKeygen {
    /// The master key goes to this file (64 hex digits, mode 0600), which must not exist
    #[arg(value_name = "FILE", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) name: PathBuf,
    /// Make an X25519 pair for backups instead: the private key goes to `FILE.pem`, the public key to `FILE.pub.pem`
    #[arg(long)]
    pub(crate) backup: bool,
}

/// Look for damage.
#[derive(Debug, Args)]
pub(crate) struct MemoryCheck {
    /// Delete the records that do not open and destroy their keys: they stop listings, rotations and backups
    #[arg(long)]
    pub(crate) delete_damaged: bool,
    /// Delete all records of a namespace whose name is lost: who knows the name could still read them
    #[arg(long)]
    pub(crate) delete_nameless: bool,
}

/// Show a record.
#[derive(Debug, Args)]
pub(crate) struct MemoryGet {
    /// The namespace
    pub(crate) namespace: Namespace,
    /// The record's name in it
    pub(crate) name: RecordName,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Whether a value is handed out, and where to.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Print the value on standard output, byte for byte
    #[arg(long, conflicts_with = "out")]
    pub(crate) reveal: bool,
    /// Write the value to this file (mode 0600), which must not exist
    #[arg(long, value_name = "FILE", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Write a record.
#[derive(Debug, Args)]
pub(crate) struct MemoryPut {
    /// The namespace
    pub(crate) namespace: Namespace,
    /// The record's name in it
    pub(crate) name: RecordName,
    /// Where the value comes from: `@FILE`, or `-` for standard input; without it standard input, or on a terminal a hidden
    /// prompt
    #[arg(value_name = "@FILE|-")]
    pub(crate) value: Option<String>,
    /// Seconds until the record is gone; without it, it stays
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TTL_SECONDS_MAX))]
    pub(crate) ttl: Option<u64>,
    /// How sensitive it is: public, internal, confidential or secret; without it as the record that is there, and at least
    /// confidential
    #[arg(long, value_name = "WORD")]
    pub(crate) classification: Option<Classification>,
    /// Only if there is no such record
    #[arg(long, conflicts_with = "if_version")]
    pub(crate) if_absent: bool,
    /// Only if the record has this version
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,
}

/// Delete a record.
#[derive(Debug, Args)]
pub(crate) struct MemoryDelete {
    /// The namespace
    pub(crate) namespace: Namespace,
    /// The record's name in it
    pub(crate) name: RecordName,
    /// Only if the record has this version
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,
}

/// List names.
#[derive(Debug, Args)]
pub(crate) struct MemoryList {
    /// The namespace
    pub(crate) namespace: Namespace,
    /// Only names that begin with this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
}

/// Seal the store under another master key.
#[derive(Debug, Args)]
#[group(id = "new_key", required = true, multiple = false, args = ["to", "to_transit"])]
pub(crate) struct MemoryRotateKey {
    /// The new master key, as `aral memory keygen` writes it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: Option<PathBuf>,
    /// Or a key in a transit engine of the server of [secrets.vault]
    #[arg(long, value_name = "MOUNT/KEY")]
    pub(crate) to_transit: Option<String>,
}

/// Write a backup.
#[derive(Debug, Args)]
pub(crate) struct MemoryExport {
    /// Whose private key can read it: a public key, as `aral memory keygen --backup` writes it
    #[arg(long, value_name = "BACKUP.pub.pem", value_hint = ValueHint::FilePath)]
    pub(crate) to: PathBuf,
    /// Where the backup goes (mode 0600); the file must not exist
    #[arg(long, value_name = "FILE", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// From a store that does not open because records are lost: write those that are whole, and say what is missing.
    /// Nothing in the store is changed; its database is copied beside FILE until the end
    #[arg(long)]
    pub(crate) salvage: bool,
}

/// Read a backup.
#[derive(Debug, Args)]
pub(crate) struct MemoryImport {
    /// The private key
    #[arg(long, value_name = "BACKUP.pem", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// The backup
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Replace records that are in the store already; without it they stay, and are counted
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Show where a secret is kept; its value with --reveal
    Get(SecretGet),
    /// Store a secret where the configuration says, and show its reference
    Put(SecretPut),
    /// List secrets and where they are kept, never their values
    List,
    /// Replace a secret that is there by a new value; the old one is destroyed
    Rotate(SecretPut),
    /// Delete a secret of the store and destroy its key; what lies elsewhere is deleted there
    Delete(SecretDelete),
}

/// Show a secret.
#[derive(Debug, Args)]
pub(crate) struct SecretGet {
    /// The secret
    pub(crate) name: SecretName,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Delete a secret.
#[derive(Debug, Args)]
pub(crate) struct SecretDelete {
    /// The secret
    pub(crate) name: SecretName,
}

/// Store a secret.
#[derive(Debug, Args)]
pub(crate) struct SecretPut {
    /// The secret
    pub(crate) name: SecretName,
    /// Where the value comes from: `@FILE`, or `-` for standard input; without it standard input, or on a terminal a hidden
    /// prompt. One line end after the value is taken off
    #[arg(value_name = "@FILE|-")]
    pub(crate) value: Option<String>,
    /// Take the value byte for byte, with its last line end
    #[arg(long)]
    pub(crate) exact: bool,
}
