//! What the slot file begins with: whose it is, and which commit is on stable storage. The layout is in docs/store-format.md. It
//! knows no slot.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;

use super::keyring::{FORMAT, StoreId};
use super::slots::{DAMAGED, reading};
use crate::store::StoreError;

/// How long it is.
pub(super) const BYTES: usize = 4096;
/// Where it has the number of a commit that is on stable storage with all before it.
pub(super) const DURABLE_OFFSET: u64 = 8 + 4 + 16;
const MAGIC: &[u8; 8] = b"ARALSLOT";

/// That of a new file.
pub(super) fn new(store: &StoreId) -> Vec<u8> {
    let mut header = Vec::with_capacity(BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(store);
    header.resize(BYTES, 0);
    header
}

/// The commit that it says is on stable storage.
pub(super) fn read(file: &File, store: &StoreId) -> Result<u64, StoreError> {
    let mut header = vec![0; BYTES];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(DAMAGED),
        Err(error) => return Err(reading(error)),
    }
    let (magic, rest) = header.split_first_chunk::<8>().ok_or(DAMAGED)?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or(DAMAGED)?;
    if magic != MAGIC {
        return Err(DAMAGED);
    }
    // What format the store has its keyring says, under a checksum, and that was read before this.
    if u32::from_le_bytes(*format) != FORMAT {
        return Err(StoreError::Corrupt {
            what: StoreError::SLOTS_FORMAT,
        });
    }
    if !rest.starts_with(store) {
        return Err(StoreError::Corrupt {
            what: StoreError::SLOTS_STRANGE,
        });
    }
    let durable = rest.get(store.len()..).and_then(<[u8]>::first_chunk).ok_or(DAMAGED)?;
    Ok(u64::from_le_bytes(*durable))
}
