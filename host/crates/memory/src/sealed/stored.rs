//! How much is stored of a record. What its header says of that was not authenticated: it counts where what is there agrees with it.

use super::entry::{CHUNK_BYTES, HEADER_BYTES, Header};
use super::tree::{Scan, Tree, key, prefix};
use crate::crypto::TAG_BYTES;
use crate::record::VALUE_BYTES_MAX;
use crate::store::StoreError;

/// Parts of the longest value.
const CHUNKS_MAX: u32 = VALUE_BYTES_MAX.div_ceil(CHUNK_BYTES) as u32;

/// How much is stored of a record.
pub(super) struct Stored {
    /// What it takes of its namespace's quota.
    pub(super) charged: u64,
    /// Parts of its value.
    pub(super) chunks: u32,
    /// Whether this is what its header says.
    pub(super) is_as_said: bool,
}

impl Stored {
    /// What a header says that was made here.
    pub(super) fn as_said(header: &Header) -> Self {
        Self {
            charged: header.charged_bytes(),
            chunks: header.chunks(),
            is_as_said: true,
        }
    }
}

impl Tree {
    /// How much is stored of the record of this entry. It looks at the record alone, and at no more of it than any value has.
    pub(super) fn stored(&self, header: &Header, entry: &[u8]) -> Result<Stored, StoreError> {
        if self.is_as_said(header, entry)? {
            return Ok(Stored::as_said(header));
        }
        let mut last: Option<(u32, usize)> = None;
        self.scan(
            &key(prefix::CHUNK, &[&header.chunks_place()]),
            None,
            &mut |at, chunk| {
                let index = at.last_chunk().map_or(CHUNKS_MAX, |index| u32::from_be_bytes(*index));
                if index >= CHUNKS_MAX {
                    return Ok(Scan::Stop);
                }
                last = Some((index, chunk.len()));
                Ok(Scan::Next)
            },
        )?;
        let mut charged = entry.len().saturating_sub(HEADER_BYTES + TAG_BYTES) as u64;
        match last {
            // All parts but the last one are full.
            Some((index, bytes)) => {
                let before = u64::from(index).saturating_mul(CHUNK_BYTES as u64);
                charged = charged
                    .saturating_add(before)
                    .saturating_add(bytes.saturating_sub(TAG_BYTES) as u64);
            }
            // The value lies elsewhere, or is lost: nothing else says how long it was.
            None if entry.len() == header.entry_bytes() => charged = header.charged_bytes(),
            // The value is in the entry, whatever the header says.
            None => charged = charged.saturating_sub(TAG_BYTES as u64),
        }
        Ok(Stored {
            charged,
            chunks: last.map_or(0, |(index, _)| index.saturating_add(1)),
            is_as_said: false,
        })
    }

    /// Whether what is there of a record is as long as its header says.
    fn is_as_said(&self, header: &Header, entry: &[u8]) -> Result<bool, StoreError> {
        let chunks = header.chunks();
        if entry.len() != header.entry_bytes() || chunks > CHUNKS_MAX {
            return Ok(false);
        }
        let Some(last) = chunks.checked_sub(1) else {
            return Ok(true);
        };
        let chunk = |index| self.get(&key(prefix::CHUNK, &[&header.chunk_place(index)]));
        let is_whole = chunk(last)?.is_some_and(|chunk| chunk.len() == header.last_chunk_bytes());
        Ok(is_whole && chunk(chunks)?.is_none())
    }
}
