//! One record as it lies in the tree: a header that anybody may read and nobody may change, the sealed name, and the
//! sealed value, whole or in chunks. The layout is in docs/store-format.md. It knows no tree and no slot file.

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_runtime::entropy;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::bytes::joined;
use super::keyring::StoreId;
use super::root::Space;
use super::slots::{RecordKey, SlotIndex};
use crate::crypto::{Cipher, KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use crate::record::{RecordName, VALUE_BYTES_MAX, Value};
use crate::store::StoreError;

/// The newest format of records, and the one that is written.
const FORMAT: u8 = 1;
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 40;
/// Largest part of a value that is sealed in one piece. sled puts a node that is too large for its file into one that it never
/// syncs: a full node of such pieces must fit (`SEGMENT_BYTES` in `tree.rs`).
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
/// Bytes that tell the chunks of one write from those of every other.
const CHUNKS_ID_BYTES: usize = 8;

/// Nonces: each record has a key of its own, so that counting is enough.
const NAME_NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

fn chunk_nonce(index: u32) -> [u8; NONCE_BYTES] {
    joined(&[&[1], &index.to_le_bytes()])
}

/// What can be read without a key, and is part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) classification: Classification,
    pub(crate) slot: SlotIndex,
    /// Of the slot.
    pub(crate) generation: u32,
    pub(crate) version: u64,
    /// Seconds since 1970; none: it stays.
    pub(crate) expires: Option<u64>,
    /// Bytes of the value.
    pub(crate) value_bytes: u32,
    /// Bytes of the name.
    pub(crate) name_bytes: u16,
    pub(crate) chunks_id: [u8; CHUNKS_ID_BYTES],
}

const fn class_byte(classification: Classification) -> u8 {
    match classification {
        Classification::Public => 0,
        Classification::Internal => 1,
        Classification::Confidential => 2,
        Classification::Secret => 3,
    }
}

fn class_of(byte: u8) -> Option<Classification> {
    Classification::ALL.into_iter().find(|one| class_byte(*one) == byte)
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        joined(&[
            &[FORMAT, class_byte(self.classification)],
            &self.name_bytes.to_le_bytes(),
            &self.slot.to_le_bytes(),
            &self.generation.to_le_bytes(),
            &self.version.to_le_bytes(),
            &self.expires.unwrap_or(0).to_le_bytes(),
            &self.value_bytes.to_le_bytes(),
            &self.chunks_id,
        ])
    }

    pub(crate) fn read(entry: &[u8]) -> Result<Self, StoreError> {
        let format = entry.first().copied().ok_or(DAMAGED)?;
        if format != FORMAT {
            return Err(match format {
                0 => DAMAGED,
                newer => StoreError::Version {
                    found: newer.into(),
                    known: FORMAT.into(),
                },
            });
        }
        Self::parse(entry).ok_or(DAMAGED)
    }

    fn parse(entry: &[u8]) -> Option<Self> {
        let (_, rest) = entry.split_first()?;
        let (class, rest) = rest.split_first()?;
        let (name, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let expires = u64::from_le_bytes(*expires);
        Some(Self {
            classification: class_of(*class)?,
            name_bytes: u16::from_le_bytes(*name),
            slot: u32::from_le_bytes(*slot),
            generation: u32::from_le_bytes(*generation),
            version: u64::from_le_bytes(*version),
            expires: (expires != 0).then_some(expires),
            value_bytes: u32::from_le_bytes(*value),
            chunks_id: *rest.first_chunk()?,
        })
    }

    /// Asks the clock only where that counts: it takes a noticeable part of the time that a short value is read in.
    pub(crate) fn is_expired(&self, now: impl FnOnce() -> u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now())
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        let seconds = i64::try_from(self.expires?).ok()?;
        Timestamp::from_second(seconds).ok()
    }

    /// Chunks that lie beside the entry; none if the value is in it.
    pub(crate) fn chunks(&self) -> u32 {
        let bytes = usize::try_from(self.value_bytes).unwrap_or(usize::MAX);
        if bytes <= CHUNK_BYTES {
            return 0;
        }
        u32::try_from(bytes.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
    }

    /// Where chunk `index` lies in the tree, without the tree's prefix.
    pub(crate) fn chunk_place(&self, index: u32) -> [u8; 16] {
        joined(&[&self.slot.to_be_bytes(), &self.chunks_id, &index.to_be_bytes()])
    }

    /// Where all of its chunks lie, without the tree's prefix.
    pub(crate) fn chunks_place(&self) -> [u8; 12] {
        joined(&[&self.slot.to_be_bytes(), &self.chunks_id])
    }

    /// How long the entry is, if the header is right.
    pub(crate) fn entry_bytes(&self) -> usize {
        let without_value = usize::from(self.name_bytes).saturating_add(HEADER_BYTES + TAG_BYTES);
        if self.chunks() == 0 {
            let value = usize::try_from(self.value_bytes).unwrap_or(usize::MAX);
            without_value.saturating_add(value).saturating_add(TAG_BYTES)
        } else {
            without_value
        }
    }

    /// How long the last chunk is, if the header is right.
    pub(crate) fn last_chunk_bytes(&self) -> usize {
        let value = usize::try_from(self.value_bytes).unwrap_or(usize::MAX);
        (value.saturating_sub(1) % CHUNK_BYTES).saturating_add(1 + TAG_BYTES)
    }

    /// What the record takes of its namespace's quota. A damaged header does not count for more than any value has.
    pub(crate) fn charged_bytes(&self) -> u64 {
        let value = u64::from(self.value_bytes).min(VALUE_BYTES_MAX as u64);
        value.saturating_add(self.name_bytes.into())
    }
}

const DAMAGED: StoreError = StoreError::DAMAGED_RECORD;

/// Whose record it is: what is known before it is opened.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) store: &'a StoreId,
    pub(crate) space: Space,
    pub(crate) namespace: &'a Namespace,
}

/// What is authenticated with the sealed name.
fn name_associated(owner: Owner<'_>, header: &[u8; HEADER_BYTES]) -> Vec<u8> {
    let namespace = owner.namespace.as_str().as_bytes();
    // 128 bytes at most.
    let length = u8::try_from(namespace.len()).unwrap_or(u8::MAX);
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(b"aral.memory/v1/record");
    text.extend_from_slice(owner.store);
    text.extend_from_slice(header);
    text.extend_from_slice(&[owner.space.byte(), length]);
    text.extend_from_slice(namespace);
    text
}

/// A record, sealed.
pub(crate) struct Sealed {
    /// What lies at the record's place.
    pub(crate) entry: Vec<u8>,
    /// What lies beside it.
    pub(crate) chunks: Vec<Vec<u8>>,
}

/// What is drawn for one write.
pub(crate) struct Drawn {
    /// The record's key.
    pub(crate) key: RecordKey,
    /// For sealing the key into its slot.
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) chunks_id: [u8; CHUNKS_ID_BYTES],
}

impl Drawn {
    /// In one call: three would be a noticeable part of a short write.
    pub(crate) fn draw() -> Result<Self, StoreError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + NONCE_BYTES + CHUNKS_ID_BYTES]);
        entropy::fill(bytes.as_mut())?;
        let (key, rest) = bytes.split_first_chunk().ok_or(DAMAGED)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(DAMAGED)?;
        let chunks_id = rest.first_chunk().ok_or(DAMAGED)?;
        Ok(Self {
            key: Zeroizing::new(*key),
            nonce: *nonce,
            chunks_id: *chunks_id,
        })
    }
}

/// Seals a record under its key.
pub(crate) fn seal(
    owner: Owner<'_>,
    header: Header,
    key: &RecordKey,
    name: &RecordName,
    value: &[u8],
) -> Result<Sealed, StoreError> {
    let cipher = Cipher::new(key);
    let header_bytes = header.to_bytes();
    let mut associated = name_associated(owner, &header_bytes);
    let mut entry =
        Vec::with_capacity(HEADER_BYTES + name.as_str().len() + value.len().min(CHUNK_BYTES) + 2 * TAG_BYTES);
    entry.extend_from_slice(&header_bytes);
    append_sealed(&cipher, &NAME_NONCE, &associated, name.as_str().as_bytes(), &mut entry)?;
    associated.extend_from_slice(name.as_str().as_bytes());
    let mut chunks = Vec::new();
    if header.chunks() == 0 {
        append_sealed(&cipher, &chunk_nonce(0), &associated, value, &mut entry)?;
    } else {
        for (index, chunk) in (0..).zip(value.chunks(CHUNK_BYTES)) {
            let mut sealed = Vec::with_capacity(chunk.len() + TAG_BYTES);
            append_sealed(&cipher, &chunk_nonce(index), &associated, chunk, &mut sealed)?;
            chunks.push(sealed);
        }
    }
    Ok(Sealed { entry, chunks })
}

fn append_sealed(
    cipher: &Cipher,
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let from = out.len();
    // There is room for all of it, so that no half-sealed copy stays behind.
    out.extend_from_slice(plain);
    let body = out.get_mut(from..).ok_or(DAMAGED)?;
    let tag = cipher.seal(nonce, associated, body).map_err(|_| DAMAGED)?;
    out.extend_from_slice(&tag);
    Ok(())
}

/// The header, the sealed name, and what is behind it.
type Parts<'a> = (&'a [u8; HEADER_BYTES], &'a [u8], &'a [u8]);

/// The sealed name and, behind it, the value if it is not in chunks.
fn parts<'a>(header: &Header, entry: &'a [u8]) -> Result<Parts<'a>, StoreError> {
    let (bytes, rest) = entry.split_first_chunk::<HEADER_BYTES>().ok_or(DAMAGED)?;
    let name = usize::from(header.name_bytes).saturating_add(TAG_BYTES);
    let (name, value) = rest.split_at_checked(name).ok_or(DAMAGED)?;
    Ok((bytes, name, value))
}

/// The name of a record.
pub(crate) fn open_name(
    owner: Owner<'_>,
    header: &Header,
    key: &RecordKey,
    entry: &[u8],
) -> Result<RecordName, StoreError> {
    let (bytes, sealed, _) = parts(header, entry)?;
    let name = Cipher::new(key)
        .opened(&NAME_NONCE, &name_associated(owner, bytes), sealed)
        .map_err(|_| DAMAGED)?;
    let text = String::from_utf8(name).map_err(|_| DAMAGED)?;
    RecordName::try_from(text).map_err(|_| DAMAGED)
}

/// The value of the record of this name. `chunk` fetches what lies beside the entry.
pub(crate) fn open_value<Chunk: AsRef<[u8]>>(
    owner: Owner<'_>,
    header: &Header,
    key: &RecordKey,
    name: &RecordName,
    entry: &[u8],
    chunk: impl Fn(u32) -> Result<Option<Chunk>, StoreError>,
) -> Result<Value, StoreError> {
    let (bytes, _, sealed) = parts(header, entry)?;
    let cipher = Cipher::new(key);
    let mut associated = name_associated(owner, bytes);
    associated.extend_from_slice(name.as_str().as_bytes());
    let opened = |index, sealed: &[u8]| {
        let opened = cipher.opened(&chunk_nonce(index), &associated, sealed);
        opened.map(Value::from).map_err(|_| DAMAGED)
    };
    let whole = usize::try_from(header.value_bytes).map_err(|_| DAMAGED)?;
    if header.chunks() == 0 {
        let value = opened(0, sealed)?;
        return if value.len() == whole { Ok(value) } else { Err(DAMAGED) };
    }
    // The length in the header is authenticated only by the first chunk: memory is taken as chunks turn out to be there.
    let mut value = Value::default();
    for index in 0..header.chunks() {
        let piece = opened(index, chunk(index)?.ok_or(DAMAGED)?.as_ref())?;
        if index == 0 {
            value.reserve_exact(whole);
        }
        value.extend_from_slice(&piece);
    }
    if value.len() == whole { Ok(value) } else { Err(DAMAGED) }
}
