//! Taking out a record that does not open. Nothing of it can be believed, so that what belongs to it is looked for.

use super::entry::Header;
use super::plan::{Mark, Plan};
use super::root::Place;
use super::slots::{Slot, SlotIndex};
use crate::store::StoreError;

impl Plan<'_> {
    /// Plans the end of an entry that does not open, if it is what it was: none, one whose header cannot be read. Its keys go
    /// too, wherever they lie: a key without a record would be taken for a lost record.
    pub(super) fn discard(&mut self, place: &Place, was: Option<Header>, mark: &mut Mark) -> Result<bool, StoreError> {
        let header = match self.at(place) {
            Err(StoreError::Corrupt { .. }) => None,
            Ok(None) => return Ok(false),
            other => other?,
        };
        if header != was {
            return Ok(false);
        }
        let mut own = Vec::new();
        let mut named = None;
        self.slot_file.walk(0, self.slot_file.total()?, &mut |index, slot| {
            if slot.place() == Some(place) && !slot.is_free() {
                own.push(index);
            } else if header.is_some_and(|header| header.slot == index) {
                named = Some((index, *slot));
            }
        })?;
        if let Some((index, slot)) = named
            && !slot.is_free()
            && !self.is_of_another(index, &slot)?
        {
            own.push(index);
        }
        // A slot that is given back twice would be given out twice.
        own.retain(|index| !self.doomed.contains(index));
        self.doomed.extend(own);
        self.take_out(place, header.as_ref(), mark)?;
        Ok(true)
    }

    /// Whether the record that a slot says it is of says so too.
    fn is_of_another(&self, index: SlotIndex, slot: &Slot) -> Result<bool, StoreError> {
        match slot.place().map(|owner| self.at(owner)).transpose() {
            Ok(owner) => Ok(owner.flatten().is_some_and(|owner| owner.slot == index)),
            // Nobody can tell.
            Err(StoreError::Corrupt { .. } | StoreError::Version { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
