//! Keys without records: what a process leaves that is killed between writing a key and its record, or between removing a
//! record and destroying its key. Found by a walk over the slots after the store was not closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::root::Place;
use super::slots::SlotIndex;
use super::{Inner, SealedStore};
use crate::store::StoreError;

/// Slots that are looked at while nobody else can write. Bounds how long a writer waits.
const AT_ONCE: u32 = 512;

/// Walks on a thread of its own, until the end or until the store is closed.
pub(super) fn start(store: &Arc<Inner>) -> Result<JoinHandle<()>, StoreError> {
    let store = Arc::clone(store);
    std::thread::Builder::new()
        .name("aral-store-reclaim".to_owned())
        .spawn(move || {
            if let Err(error) = store.reclaim() {
                tracing::error!(%error, "keys without records could not be destroyed");
            }
        })
        .map_err(|error| StoreError::io("start its clean-up", error))
}

enum Walked {
    Some { next: SlotIndex, orphans: usize },
    End,
}

impl Inner {
    /// Looks at some slots while nobody writes, so that a key whose record is on its way is not taken for an orphan.
    fn reclaim_some(&self, from: SlotIndex) -> Result<Walked, StoreError> {
        let mut writer = self.writer()?;
        let total = writer.allocation.total;
        if from >= total {
            return Ok(Walked::End);
        }
        let next = from.saturating_add(AT_ONCE).min(total);
        let mut used: Vec<(SlotIndex, Option<Place>)> = Vec::new();
        self.slots.walk(from, next, &mut |index, slot| {
            if !slot.is_free() {
                used.push((index, slot.place().copied()));
            }
        })?;
        let mut orphans = Vec::new();
        for (index, place) in used {
            let owner = place.map(|place| self.entry(&place)).transpose()?.flatten();
            if owner.is_none_or(|owner| owner.header.slot != index) {
                orphans.push(index);
            }
        }
        if !orphans.is_empty() {
            self.slots.destroy(&orphans)?;
            self.slots.sync()?;
            writer.allocation.give_back(&orphans);
        }
        Ok(Walked::Some {
            next,
            orphans: orphans.len(),
        })
    }
}

impl Inner {
    fn reclaim(&self) -> Result<usize, StoreError> {
        let (mut from, mut destroyed) = (0, 0_usize);
        while !self.reclaimed.load(Ordering::Acquire) && !self.closing.load(Ordering::Acquire) {
            match self.reclaim_some(from)? {
                Walked::Some { next, orphans } => {
                    from = next;
                    destroyed = destroyed.saturating_add(orphans);
                }
                Walked::End => {
                    self.reclaimed.store(true, Ordering::Release);
                    tracing::debug!(destroyed, "the slots were looked through for keys without records");
                }
            }
        }
        Ok(destroyed)
    }
}

impl SealedStore {
    /// Waits until every key without a record is destroyed, and says how many were found here; at once, if the store was
    /// closed the last time.
    ///
    /// # Errors
    /// As the walk itself.
    pub fn reclaim(&self) -> Result<usize, StoreError> {
        self.0.reclaim()
    }
}
