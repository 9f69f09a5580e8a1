//! `Content-Digest` (RFC 9530 section 2): that the body is the one that the field speaks of.

use http::HeaderMap;
use sfv::{BareItem, ListEntry};
use sha2::{Digest as _, Sha256, Sha512};

use super::CONTENT_DIGEST;
use super::fields::dictionary;

/// Every digest whose algorithm is a strong one must be that of the body, and there must be one.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let mut strong = 0_usize;
    for (algorithm, entry) in dictionary(headers, &CONTENT_DIGEST)? {
        let digest = match algorithm.as_str() {
            "sha-256" => Sha256::digest(body).to_vec(),
            "sha-512" => Sha512::digest(body).to_vec(),
            // RFC 9530 section 5: the others are for accidents, not for attackers.
            _ => continue,
        };
        let ListEntry::Item(item) = entry else {
            return Err("a digest of the body that is a list");
        };
        if item.bare_item != BareItem::ByteSequence(digest) {
            return Err("a body that is not the one of its digest");
        }
        strong = strong.saturating_add(1);
    }
    if strong == 0 {
        return Err("a body without a digest that is strong enough");
    }
    Ok(())
}
