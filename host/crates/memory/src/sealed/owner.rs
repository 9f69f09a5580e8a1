//! Whose the slot is that a record names.

use super::entry::Header;
use super::plan::Plan;
use super::root::Place;
use crate::store::StoreError;

/// Whose a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotOwner {
    /// The record's that names it.
    Own,
    /// No record's: it is free, or says that it is of a record that does not name it.
    Nobody,
    Another,
}

impl Plan<'_> {
    /// Whose the slot is that a record names. What is in the tree was not authenticated, and must not get another record's key
    /// destroyed.
    pub(super) fn owner_of_slot(&self, place: &Place, header: &Header) -> Result<SlotOwner, StoreError> {
        let index = header.slot;
        let planned = self.slots.iter().find(|(slot, _)| *slot == index);
        let slot = match planned {
            Some((_, slot)) => *slot,
            None => self.slot_file.read(index)?,
        };
        let Some(of) = slot.place().filter(|_| !slot.is_free()) else {
            return Ok(SlotOwner::Nobody);
        };
        if of == place {
            return Ok(SlotOwner::Own);
        }
        match self.at(of) {
            Ok(Some(other)) if other.slot == index => Ok(SlotOwner::Another),
            Ok(_) => Ok(SlotOwner::Nobody),
            // Nobody can tell.
            Err(error) if error.is_damage() => Ok(SlotOwner::Another),
            Err(error) => Err(error),
        }
    }
}
