//! A record with all that makes it up, as a store or a backup has it. It knows no key and no place.

use aral_contract::Classification;
use aral_contract::id::Namespace;
use zeroize::Zeroizing;

use super::root::Space;
use crate::record::RecordName;

/// One record, opened.
pub(crate) struct WholeRecord {
    pub(crate) space: Space,
    pub(crate) namespace: Namespace,
    pub(crate) name: RecordName,
    pub(crate) value: Zeroizing<Vec<u8>>,
    pub(crate) version: u64,
    /// Seconds since 1970.
    pub(crate) expires: Option<u64>,
    pub(crate) classification: Classification,
}
