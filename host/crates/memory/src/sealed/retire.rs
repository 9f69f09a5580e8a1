//! The end of a rotation: nothing lies under an old root any more, so that it, its slots and the old master key are taken out
//! of the store. Looking for that takes as long as the store is large. It is done beside those who write: since the newest root
//! began nothing is written under an older one, so that what is not found cannot come.

use std::sync::{Arc, PoisonError};

use super::Inner;
use super::entry::Header;
use super::keyring::{DAMAGED, RootEntry};
use super::root::{Keys, Root};
use super::slots::{Slot, SlotIndex};
use super::tree::{Scan, prefix};
use crate::key::MasterKey;
use crate::store::StoreError;

/// Records that are looked at before whoever watches is asked whether that goes on.
const AT_ONCE: u64 = 1000;
/// The same of slots: 8 MiB of them.
const SLOTS_AT_ONCE: SlotIndex = 1 << 16;

fn is_old(slot: &Slot, newest: &Root) -> bool {
    !slot.is_free() && slot.generation() < newest.first_generation
}

impl Inner {
    /// What was to be moved was found by namespace. Nothing is destroyed before it is certain that nothing was missed. Gives the
    /// slots that are still of an old root. `looked` is called now and then, and ends it with its error.
    pub(super) fn none_is_missed(
        &self,
        newest: &Root,
        looked: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<Vec<SlotIndex>, StoreError> {
        self.all_named()?;
        let mut records = 0_u64;
        self.tree.scan(&[prefix::RECORD], None, &mut |_, entry| {
            if Header::read(entry)?.generation < newest.first_generation {
                return Err(StoreError::Corrupt {
                    what: "the index of the store, which misses a record,",
                });
            }
            records = records.saturating_add(1);
            if records.is_multiple_of(AT_ONCE) {
                looked()?;
            }
            Ok(Scan::Next)
        })?;
        let total = self.writer()?.allocation.total();
        let mut found: Vec<SlotIndex> = Vec::new();
        let mut from = 0;
        while from < total {
            looked()?;
            let to = from.saturating_add(SLOTS_AT_ONCE).min(total);
            self.slots.walk(from, to, &mut |index, slot| {
                if is_old(slot, newest) {
                    found.push(index);
                }
            })?;
            from = to;
        }
        Ok(found)
    }

    /// Nothing lies under an old root any more: takes it, its slots, which were `found`, and the old master key out of the store.
    /// Names the old epoch keys that are still there.
    pub(super) fn retire(
        &self,
        new: &MasterKey,
        newest: &Root,
        found: Vec<SlotIndex>,
    ) -> Result<Vec<String>, StoreError> {
        let mut writer = self.writer()?;
        if writer.keyring.content.roots.last().map(|root| root.number) != Some(newest.number) {
            return Err(DAMAGED);
        }
        // One that was being destroyed or written while it was looked at may be another record's by now.
        let mut orphans = Vec::with_capacity(found.len());
        for index in found {
            if is_old(&self.slots.read(index)?, newest) {
                orphans.push(index);
            }
        }
        self.destroy_orphans(&mut writer, &orphans)?;
        let mut content = writer.keyring.content.clone();
        let (mut kept, gone): (Vec<RootEntry>, Vec<RootEntry>) = content
            .roots
            .into_iter()
            .partition(|entry| entry.number == newest.number);
        for entry in &mut kept {
            entry.name_seal(new);
            entry.seals.retain(|seal| seal.key == new.id());
        }
        content.roots = kept;
        content
            .epochs_to_destroy
            .extend(gone.into_iter().filter_map(|entry| entry.epoch));
        let root = self.keys.load().newest().clone();
        let keys = Keys::new(vec![root], content.generation)?;
        self.replace_keyring(&mut writer, content)?;
        self.keys.store(Arc::new(keys));
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
        drop(writer);
        // The rotation is over whatever becomes of these.
        Ok(self.destroy_epochs())
    }
}
