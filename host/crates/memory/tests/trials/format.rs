//! The format of a store, written a second time from docs/store-format.md: what the attacker reads with and the vectors are
//! made with. It shares no code with the store, so that the two agree on the document or not at all.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// Where slots begin in their file.
pub(crate) const SLOTS_FROM: usize = 4096;
pub(crate) const SLOT_BYTES: usize = 128;
pub(crate) const PLACE_BYTES: usize = 49;
pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
const PAGE_BYTES: usize = 16 << 10;
/// Of the database.
pub(crate) const SEGMENT_BYTES: usize = 2 << 20;

pub(crate) type Key = [u8; 32];

pub(crate) fn derive(salt: &[u8], key: &[u8], purpose: &[u8]) -> Key {
    let mut out = [0; 32];
    let derived = Hkdf::<Sha256>::new(Some(salt), key).expand(purpose, &mut out);
    derived.expect("32 bytes");
    out
}

/// The MAC over each part behind its length.
pub(crate) fn mac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(&u32::try_from(part.len()).expect("short").to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(crate) fn cipher(key: &Key) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

pub(crate) fn open(cipher: &Aes256Gcm, nonce: &[u8], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
    let nonce = Nonce::try_from(nonce).ok()?;
    cipher.decrypt(&nonce, Payload { msg, aad }).ok()
}

pub(crate) fn seal(key: &Key, nonce: [u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let sealed = cipher(key).encrypt(&Nonce::from(nonce), Payload { msg, aad });
    sealed.expect("a short text")
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

pub(crate) fn chunk_nonce(index: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[0] = 1;
    nonce[1..5].copy_from_slice(&index.to_le_bytes());
    nonce
}

/// What seals the slots of a generation.
pub(crate) fn slot_key(store: &[u8], root: &Key, generation: u32) -> Key {
    let purpose = [b"aral.memory/v1/slots".as_slice(), &generation.to_le_bytes()].concat();
    derive(store, root, &purpose)
}

/// What is sealed along with a root key.
pub(crate) fn root_associated(store: &[u8], number: u32) -> Vec<u8> {
    [b"aral.memory/v1/root".as_slice(), store, &number.to_le_bytes()].concat()
}

/// What is sealed along with the key in a slot.
pub(crate) fn slot_associated(store: &[u8], number: u32, generation: u32, place: &[u8]) -> Vec<u8> {
    [store, &number.to_le_bytes(), &generation.to_le_bytes(), place].concat()
}

/// What is sealed along with a name; along with a value the name comes behind it.
pub(crate) fn record_associated(store: &[u8], header: &[u8], space: u8, namespace: &str) -> Vec<u8> {
    let length = u8::try_from(namespace.len()).expect("a namespace");
    [
        b"aral.memory/v1/record".as_slice(),
        store,
        header,
        &[space, length],
        namespace.as_bytes(),
    ]
    .concat()
}

/// One page of a keyring.
pub(crate) fn page(format: u32, sequence: u64, store: &[u8], json: &str) -> Vec<u8> {
    let length = u32::try_from(json.len()).expect("short");
    let mut page = [
        b"ARALKEYS".as_slice(),
        &format.to_le_bytes(),
        &sequence.to_le_bytes(),
        store,
        &length.to_le_bytes(),
        json.as_bytes(),
    ]
    .concat();
    page.resize(PAGE_BYTES - 32, 0);
    let checksum = Sha256::digest(&page);
    page.extend_from_slice(&checksum);
    page
}

/// What the slot file begins with.
pub(crate) fn slots_header(format: u32, store: &[u8]) -> Vec<u8> {
    let mut header = [b"ARALSLOT".as_slice(), &format.to_le_bytes(), store].concat();
    header.resize(SLOTS_FROM, 0);
    header
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
