//! Keys without records: what a process leaves that is killed between writing a key and its record, or between removing a
//! record and destroying its key. Found by a walk over the slots after the store was not closed.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::plan::Located;
use super::read::Found;
use super::slots::{Slot, SlotIndex};
use super::tree::Added;
use super::{Inner, SealedStore};
use crate::store::StoreError;

/// Slots that are looked at while nobody else can write. Bounds how long a writer waits.
const AT_ONCE: u32 = 512;

/// What a process can have left that was killed: what it wrote after the last commit that is known to be on stable
/// storage, and what that commit left to be destroyed. A key without a record that is neither has lost its record, and
/// is kept: it is all that is left of it.
pub(super) struct Leftovers {
    pub(super) durable: u64,
    pub(super) doomed: HashSet<SlotIndex>,
}

impl Leftovers {
    pub(super) fn explain(&self, slot: SlotIndex, commit: u64) -> bool {
        // The number comes last in a slot: without one the slot was being written.
        commit == 0 || commit > self.durable || self.doomed.contains(&slot)
    }

    /// The same of one that does not open. That it has a later number is no reason: what is damaged says anything, and a record may
    /// name it that was acknowledged. One that was being written, or destroyed, lacks what comes first or last.
    fn explain_unopened(&self, index: SlotIndex, slot: &Slot) -> bool {
        let is_torn = slot.generation() == 0 || slot.commit() == 0;
        self.doomed.contains(&index) || (is_torn && self.explain(index, slot.commit()))
    }
}

const LOST: StoreError = StoreError::Corrupt { what: StoreError::LOST };

enum Walked {
    Some { next: SlotIndex, orphans: usize },
    End,
}

impl Inner {
    /// Looks at some slots while nobody writes, so that a key whose record is on its way is not taken for an orphan.
    fn reclaim_some(&self, from: SlotIndex) -> Result<Walked, StoreError> {
        let mut writer = self.writer()?;
        let total = writer.allocation.total();
        if from >= total {
            return Ok(Walked::End);
        }
        let next = from.saturating_add(AT_ONCE).min(total);
        let mut used: Vec<(SlotIndex, Slot)> = Vec::new();
        self.slots.walk(from, next, &mut |index, slot| {
            if !slot.is_free() {
                used.push((index, *slot));
            }
        })?;
        let (mut orphans, mut damaged) = (Vec::new(), 0_usize);
        for (index, slot) in used {
            let owner = match slot.place().map(|place| self.entry(place)).transpose() {
                Ok(owner) => owner.flatten(),
                // Damaged, but there: its key is not for us to destroy.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            if owner.is_some_and(|owner| owner.header.slot == index) {
                continue;
            }
            // Where it lies and whose it is are authenticated: one that opens was a record's, whatever became of that. One that does
            // not is damage, and says of no record that it is lost.
            if self.opens(index, &slot) {
                if !self.leftovers.explain(index, slot.commit()) {
                    return Err(LOST);
                }
                orphans.push(index);
            } else if self.leftovers.explain_unopened(index, &slot) {
                orphans.push(index);
            } else {
                damaged = damaged.saturating_add(1);
            }
        }
        if damaged > 0 {
            tracing::warn!(
                slots = damaged,
                "keys that no record names do not open, and stay: the slot file is damaged"
            );
        }
        self.destroy_orphans(&mut writer, &orphans)?;
        Ok(Walked::Some {
            next,
            orphans: orphans.len(),
        })
    }
}

impl Inner {
    /// Takes back what the newest commit added if any of it came without its key. Keys and records that are added go to the
    /// disk at the same time: a cut can leave some of each. Nobody was told of them: the answer comes after both.
    pub(super) fn take_back_torn(&self) -> Result<(), StoreError> {
        let mut writer = self.writer()?;
        let newest = |added: &Added| added.number == writer.commit && added.number > self.leftovers.durable;
        let Some(added) = self.tree.added()?.filter(newest) else {
            return Ok(());
        };
        let mut is_torn = false;
        let mut own: Vec<Found> = Vec::with_capacity(added.places.len());
        for place in added.places {
            let found = match self.entry(&place) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            // A key that did not come leaves its slot free, and one that did not come whole lacks what comes first or last.
            // Whatever else is there is damage, and is kept.
            let is_missing = found.slot.generation() == 0 || found.slot.commit() == 0;
            is_torn |= is_missing;
            if is_missing || (found.slot.commit() == added.number && found.slot.place() == Some(&place)) {
                own.push(found);
            }
        }
        if !is_torn {
            // Written once more: where a sync failed, the system may count as written what the disk does not have.
            let slots: Vec<(SlotIndex, Slot)> = own.iter().map(|found| (found.header.slot, found.slot)).collect();
            self.slots.write(&slots)?;
            return self.slots.sync();
        }
        tracing::warn!(
            records = own.len(),
            "records that were never acknowledged are taken back: their keys did not reach the disk"
        );
        let mut plan = self.plan(&mut writer);
        let mut mark = plan.mark();
        for Found { place, header, .. } in own {
            plan.remove(&Located { place, header }, &mut mark)?;
        }
        let written = plan.finish()?;
        self.write(&mut writer, written)
    }

    /// Looks through all slots, unless the store was closed the last time.
    pub(super) fn reclaim(&self) -> Result<(), StoreError> {
        let mut from = 0;
        while !self.reclaimed.load(Ordering::Acquire) {
            match self.reclaim_some(from)? {
                Walked::Some { next, orphans } => {
                    from = next;
                    self.orphans.fetch_add(orphans, Ordering::AcqRel);
                }
                Walked::End => {
                    self.clear_free()?;
                    self.reclaimed.store(true, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    /// Writes all free slots once more: where a sync failed, the system may show zeros, and count them as written, where the disk
    /// has a key. It would be there for ever, and after a cut stand for a record that was lost. Not before all slots were looked
    /// at: a store whose opening is refused is left as it is.
    fn clear_free(&self) -> Result<(), StoreError> {
        let writer = self.writer()?;
        self.slots.clear_free(writer.allocation.total())?;
        self.slots.sync()
    }
}

impl SealedStore {
    /// How many keys without records were destroyed when the store was opened.
    pub fn reclaimed(&self) -> usize {
        self.0.orphans.load(Ordering::Acquire)
    }
}
