//! `aral manifest`: what its three verbs share.

pub(crate) mod build;
pub(crate) mod sign;
pub(crate) mod verify;

use aral_capability::ManifestBody;
use aral_contract::Failure;
use jiff::{SignedDuration, Timestamp};

use super::text;

/// When a document that is issued at `now` ends.
pub(crate) fn expiry(now: Timestamp, valid_days: u32) -> Result<Timestamp, Failure> {
    let days = SignedDuration::from_hours(i64::from(valid_days).saturating_mul(24));
    now.checked_add(days).map_err(Failure::internal)
}

/// The serial of a document that is signed at `now`. The time in seconds grows by itself, also across documents that are made
/// anew.
pub(crate) fn serial(given: Option<u64>, now: Timestamp) -> Result<u64, Failure> {
    match given {
        Some(serial) => Ok(serial),
        None => u64::try_from(now.as_second()).map_err(Failure::internal),
    }
}

/// One line for each capability.
pub(crate) fn listing(body: &ManifestBody) -> String {
    let mut shown = String::new();
    for entry in body.capabilities() {
        let permissions = match entry.permissions.present().as_slice() {
            [] => "no permission".to_owned(),
            some => some.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
        };
        let title = text::line(&entry.title).into_owned();
        shown.push_str(&format!(
            "  {} {} ({})  {permissions}  {title}\n",
            entry.id, entry.version, entry.shape
        ));
    }
    shown
}
