//! One page of the keyring, as it lies in the file. The layout is in docs/store-format.md. It knows no file and no key.

use sha2::{Digest as _, Sha256};

use super::keyring::{Content, FORMAT, StoreId};
use crate::store::StoreError;

/// How long it is.
pub(super) const BYTES: usize = 16 << 10;
const MAGIC: &[u8; 8] = b"ARALKEYS";
const CHECKSUM_BYTES: usize = 32;

/// The bytes of one.
pub(super) fn write(store: &StoreId, sequence: u64, content: &Content) -> Result<Vec<u8>, StoreError> {
    let payload = serde_json::to_vec(content).map_err(|error| StoreError::io("write its keyring", error))?;
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut page = Vec::with_capacity(BYTES);
    page.extend_from_slice(MAGIC);
    page.extend_from_slice(&FORMAT.to_le_bytes());
    page.extend_from_slice(&sequence.to_le_bytes());
    page.extend_from_slice(store);
    page.extend_from_slice(&length.to_le_bytes());
    page.extend_from_slice(&payload);
    let room = BYTES.saturating_sub(CHECKSUM_BYTES);
    if page.len() > room {
        return Err(StoreError::Invalid(match content.epochs_to_destroy.first() {
            None => "the keyring is full: too many keys open this store".to_owned(),
            Some(oldest) => format!(
                "the keyring is full: {} old epoch keys could not be destroyed, such as `{}`; let the host delete them in the key service",
                content.epochs_to_destroy.len(),
                oldest.escape_debug()
            ),
        }));
    }
    page.resize(room, 0);
    let checksum = Sha256::digest(&page);
    page.extend_from_slice(&checksum);
    Ok(page)
}

/// Why what is there is none.
pub(super) enum Fault {
    /// Torn, or not a page.
    Damaged,
    /// Made by a newer version.
    Format(u32),
}

/// What one says: its sequence, whose it is, and its content.
pub(super) fn read(page: &[u8]) -> Result<(u64, StoreId, Content), Fault> {
    let damaged = || Fault::Damaged;
    let (body, checksum) = page
        .split_at_checked(BYTES.saturating_sub(CHECKSUM_BYTES))
        .ok_or_else(damaged)?;
    let (magic, rest) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    // The checksum has its place in every format. Where it is wrong, the bytes that say the format may be what is damaged.
    if magic != MAGIC || Sha256::digest(body).as_slice() != checksum {
        return Err(Fault::Damaged);
    }
    match u32::from_le_bytes(*format) {
        FORMAT => {}
        0 => return Err(Fault::Damaged),
        newer => return Err(Fault::Format(newer)),
    }
    let (sequence, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (store, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let payload = rest.get(..length).ok_or_else(damaged)?;
    let content: Content = serde_json::from_slice(payload).map_err(|_| Fault::Damaged)?;
    if content.roots.is_empty() {
        return Err(Fault::Damaged);
    }
    Ok((u64::from_le_bytes(*sequence), *store, content))
}
