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
    /// No record's: there is no key in it.
    Free,
    /// No record's: it says that it is of one that does not name it, and does not open. What a damaged slot says is nothing.
    Rotten,
    /// That of a record that does not name it, or is not there. It opens: it is all that is left of that, and says that it is lost.
    Lost,
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
            return Ok(SlotOwner::Free);
        };
        if of == place {
            return Ok(SlotOwner::Own);
        }
        match self.at(of) {
            Ok(Some(other)) if other.slot == index => Ok(SlotOwner::Another),
            Ok(_) => Ok(match slot.open(&self.keys, self.store, index, of) {
                Some(_) => SlotOwner::Lost,
                None => SlotOwner::Rotten,
            }),
            // Nobody can tell.
            Err(error) if error.is_damage() => Ok(SlotOwner::Another),
            Err(error) => Err(error),
        }
    }
}
