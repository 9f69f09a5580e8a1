//! What is on record of keys of the store that rotate, whoever has them rotate.

use aral_contract::event::LifecycleChange;
use aral_contract::failure::chain;
use aral_contract::{EventKind, rule};
use aral_memory::StoreError;

use crate::events::security;

/// What rotates when an epoch ends.
pub(crate) const EPOCH: &str = "memory epoch";

/// Before it begins, so that no way to end leaves nothing.
pub(crate) fn begun(subject: &str) -> EventKind {
    security(rule::MEMORY_ROTATION_BEGUN, subject.to_owned())
}

/// When it does not end. Until one does, what was deleted can still be opened by whoever has the old keys.
pub(crate) fn failed(subject: &str, error: &StoreError) -> EventKind {
    security(rule::MEMORY_ROTATION_FAILED, format!("{subject}: {}", chain(error)))
}

/// When the file that says since when an epoch lasts says something later than before, or nothing any more.
pub(crate) fn moved() -> EventKind {
    security(rule::MEMORY_EPOCH_MOVED, EPOCH.to_owned())
}

/// When an epoch has ended under a master key that is not fit any more: somebody may have a copy of the key.
pub(crate) fn unfit(reason: &str) -> EventKind {
    security(rule::MEMORY_KEY_UNFIT, format!("{EPOCH}: {reason}"))
}

/// When it is over.
pub(crate) fn rotated(subject: &str) -> EventKind {
    EventKind::Lifecycle {
        change: LifecycleChange::KeyRotated,
        subject: subject.to_owned(),
        digest: None,
    }
}
