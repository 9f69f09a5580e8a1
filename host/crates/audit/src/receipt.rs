//! Receipts: one record with the proof that it is in the log under a signed checkpoint. Whoever has the public key can
//! check it, without the log and without a network.

#[cfg(test)]
mod tests;

use std::path::Path;

use aral_contract::document::{DocumentError, JsonError, TrustStore, json};
use aral_contract::{Digest, LogId};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::blind::{Part, Salt};
use crate::checkpoint::{Checkpoint, dangerous_unverified_head};
use crate::line::{Line, Next};
use crate::merkle::{Window, leaf_hash, verify_inclusion};
use crate::schema::{Proven, Record};
use crate::segment::{self, SegmentError, SegmentReader};

const SCHEMA: &str = "aral.receipt/v1";
/// Largest receipt, in bytes: the longest record, a proof and a checkpoint. Stops a file from exhausting memory.
pub const RECEIPT_BYTES_MAX: usize = 512 << 10;

/// A receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    schema: String,
    /// The line of the log, byte for byte.
    record: String,
    /// The siblings on the way from the record to the root, lowest first.
    proof: Vec<Digest>,
    /// The signed checkpoint.
    checkpoint: Value,
}

/// A receipt that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Of which log.
    pub log: LogId,
    /// The record.
    pub record: Record,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

/// Why there is no receipt, or why it proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The folder cannot be opened.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The log cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The log has no such record.
    #[error("the log has no record {seq}, or not any more")]
    Unknown {
        /// Which.
        seq: u64,
    },
    /// No checkpoint is about it yet.
    #[error("no checkpoint is about record {seq} yet; try again in a second")]
    NotSigned {
        /// Which.
        seq: u64,
    },
    /// The log does not hold together around it.
    #[error("the log is damaged around record {seq}; run `aral audit verify`")]
    Damaged {
        /// Which.
        seq: u64,
    },
    /// Larger than [`RECEIPT_BYTES_MAX`].
    #[error("the receipt has more than {RECEIPT_BYTES_MAX} bytes")]
    TooLarge,
    /// Not strict JSON.
    #[error("the receipt is {0}")]
    Json(JsonError),
    /// Members that are missing, unknown or of the wrong type.
    #[error("the receipt has a wrong member: {0}")]
    Shape(String),
    /// Another kind of document, or another version.
    #[error("the document is `{}`, not `{SCHEMA}`", .0.escape_debug())]
    WrongKind(String),
    /// Its checkpoint is none, or not by a trusted key.
    #[error("the checkpoint of the receipt is not to be trusted")]
    Checkpoint(#[source] DocumentError),
    /// The record is not the one that the checkpoint was signed for.
    #[error(
        "record {seq} is not in the log that the checkpoint was signed for: it was changed, or belongs to another place"
    )]
    NotIncluded {
        /// Which it says to be.
        seq: u64,
    },
}

/// Makes the receipt of a record: under the first checkpoint that is about it.
///
/// # Errors
/// [`ReceiptError`].
pub fn prove(directory: &Path, seq: u64) -> Result<Receipt, ReceiptError> {
    prove_in(&files::open_root(directory)?, seq, &|_record| true)
}

/// The same for a record that is `wanted`; one that is not is as unknown as one that is not there.
pub(crate) fn prove_in(dir: &Dir, seq: u64, wanted: &dyn Fn(&Record) -> bool) -> Result<Receipt, ReceiptError> {
    let segments = segment::list(dir)?;
    let unknown = || ReceiptError::Unknown { seq };
    let damaged = || ReceiptError::Damaged { seq };
    let segment = segments
        .iter()
        .rfind(|segment| segment.first <= seq)
        .ok_or_else(unknown)?;
    let mut reader = match SegmentReader::open(dir, segment.first) {
        Err(SegmentError::Header { .. }) => return Err(damaged()),
        other => other?,
    };
    let mut size = reader.header.first;
    let mut window = Window::after(reader.header.tree().ok_or_else(damaged)?);
    let mut record = None;
    while reader.advance()? == Next::Whole {
        let line = reader.lines.line();
        match Line::parse(line) {
            Line::Record(link) if link.seq == size => {
                window.push(leaf_hash(line));
                size = size.saturating_add(1);
                if link.seq == seq {
                    let found: Record = serde_json::from_slice(line).map_err(|_| damaged())?;
                    if !wanted(&found) {
                        return Err(unknown());
                    }
                    record = Some(String::from_utf8(line.to_vec()).map_err(|_| damaged())?);
                }
            }
            Line::Checkpoint(document) => {
                let Some(record) = record.take_if(|_| size > seq) else {
                    continue;
                };
                let head = dangerous_unverified_head(document).ok_or_else(damaged)?;
                let proof = window.inclusion_proof(seq, head.size).ok_or_else(damaged)?;
                if !verify_inclusion(seq, head.size, &leaf_hash(record.as_bytes()), &proof, &head.root) {
                    return Err(damaged());
                }
                return Ok(Receipt {
                    schema: SCHEMA.to_owned(),
                    record,
                    proof,
                    checkpoint: serde_json::from_slice(document).map_err(|_| damaged())?,
                });
            }
            Line::Record(_) | Line::Segment(_) | Line::Unknown => return Err(damaged()),
        }
    }
    Err(if record.is_some() {
        ReceiptError::NotSigned { seq }
    } else {
        unknown()
    })
}

/// Checks a receipt.
///
/// # Errors
/// Why it proves nothing.
pub fn check(receipt: &[u8], trust: &TrustStore) -> Result<Checked, ReceiptError> {
    if receipt.len() > RECEIPT_BYTES_MAX {
        return Err(ReceiptError::TooLarge);
    }
    let value = json::parse(receipt).map_err(ReceiptError::Json)?;
    let found = value.get("schema").and_then(Value::as_str).unwrap_or_default();
    if found != SCHEMA {
        return Err(ReceiptError::WrongKind(found.chars().take(64).collect()));
    }
    let shape = |error: serde_json::Error| ReceiptError::Shape(json::unquoted(&error));
    let receipt: Receipt = serde_json::from_value(value).map_err(shape)?;
    let document = json::canonical(&receipt.checkpoint).map_err(ReceiptError::Json)?;
    let checkpoint = Checkpoint::verify(&document, trust).map_err(ReceiptError::Checkpoint)?;
    let line = receipt.record.as_bytes();
    let Line::Record(link) = Line::parse(line) else {
        return Err(ReceiptError::Shape("`record` is not a line of a log".to_owned()));
    };
    let head = &checkpoint.head;
    if !verify_inclusion(link.seq, head.size, &leaf_hash(line), &receipt.proof, &head.root) {
        return Err(ReceiptError::NotIncluded { seq: link.seq });
    }
    Ok(Checked {
        log: head.log,
        record: serde_json::from_slice(line).map_err(shape)?,
        checkpoint,
    })
}

impl Proven {
    /// Whether a call had this input or gave this output. Whoever has the salt of the call can ask.
    pub fn commits_to(&self, part: Part, salt: &Salt, value: &[u8]) -> bool {
        let commitment = match part {
            Part::Input => Some(self.input),
            Part::Output => self.output,
        };
        commitment == Some(salt.commit(value))
    }
}
