//! What the tree says of a namespace: how much it holds, and, sealed, what it is called.

use aral_contract::id::Namespace;
use aral_runtime::entropy;

use super::bytes::joined;
use super::root::{NamespacePlace, Root, Space};
use super::tree::{Tree, key, prefix};
use crate::crypto::NONCE_BYTES;
use crate::record::Usage;
use crate::store::StoreError;

const DAMAGED: StoreError = StoreError::Corrupt {
    what: "the entry of a namespace",
};

pub(super) fn to_bytes(usage: Usage) -> [u8; 16] {
    joined(&[&usage.bytes.to_le_bytes(), &usage.records.to_le_bytes()])
}

/// What a namespace holds under one root.
pub(super) fn read(tree: &Tree, place: &NamespacePlace) -> Result<Usage, StoreError> {
    let Some(bytes) = tree.get(&key(prefix::USAGE, &[place]))? else {
        return Ok(Usage::default());
    };
    let (count, rest) = bytes.split_first_chunk().ok_or(DAMAGED)?;
    let records = rest.first_chunk().ok_or(DAMAGED)?;
    Ok(Usage {
        bytes: u64::from_le_bytes(*count),
        records: u64::from_le_bytes(*records),
    })
}

pub(super) fn seal_name(
    root: &Root,
    space: Space,
    place: &NamespacePlace,
    namespace: &Namespace,
) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE_BYTES];
    entropy::fill(&mut nonce)?;
    let mut name = namespace.as_str().as_bytes().to_vec();
    let sealed = root
        .namespaces
        .seal_joined(&nonce, &associated(space, place), &mut name);
    sealed.map_err(|_| DAMAGED)?;
    Ok([&nonce[..], &name].concat())
}

/// What a namespace is called; none: it is not one of this root.
pub(super) fn open_name(root: &Root, space: Space, place: &NamespacePlace, sealed: &[u8]) -> Option<Namespace> {
    let (nonce, name) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let name = root.namespaces.opened(nonce, &associated(space, place), name).ok()?;
    String::from_utf8(name).ok()?.parse().ok()
}

fn associated(space: Space, place: &NamespacePlace) -> Vec<u8> {
    [b"aral.memory/v1/namespace".as_slice(), &[space.byte()], place].concat()
}
