//! Taking out a record that does not open. Nothing of it can be believed, so that its keys are looked for, and what is left is
//! counted anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aral_contract::id::Namespace;

use super::commit::DOOMED_MAX;
use super::entry::Header;
use super::owner::SlotOwner;
use super::plan::{Located, Mark, Plan};
use super::root::{Place, Space, namespace_of};
use super::slots::{SlotFile, SlotIndex};
use crate::record::RecordName;
use crate::store::StoreError;

/// Slots that may say they are of one place. There is one, and after a cut two: more are somebody's who wrote the file.
pub(super) const SLOTS_MAX: usize = 16;

/// What the group of a plan discards or may have to, all of it, since all may have lost their slots: those are walked through once for
/// all that is known by then, and so at most once for each request that meets damage.
#[derive(Default)]
pub(super) struct Discarded {
    places: HashSet<Place>,
    /// The slots that say they are theirs; none: nobody has looked yet.
    slots: Option<HashMap<Place, Vec<SlotIndex>>>,
}

impl Discarded {
    /// More places. Whoever has looked for the others looks again, if these are asked for.
    pub(super) fn add(&mut self, places: impl IntoIterator<Item = Place>) {
        self.places.extend(places);
        self.slots = None;
    }

    /// The slots that say they are of this place, if it is one of the group's.
    fn slots(&mut self, place: &Place, file: &SlotFile, total: SlotIndex) -> Result<Vec<SlotIndex>, StoreError> {
        if !self.places.contains(place) {
            return Ok(Vec::new());
        }
        if self.slots.is_none() {
            self.slots = Some(slots_of(&self.places, file, total)?);
        }
        let slots = self.slots.as_ref().and_then(|slots| slots.get(place));
        Ok(slots.cloned().unwrap_or_default())
    }
}

fn slots_of(
    places: &HashSet<Place>,
    file: &SlotFile,
    total: SlotIndex,
) -> Result<HashMap<Place, Vec<SlotIndex>>, StoreError> {
    let mut slots: HashMap<Place, Vec<SlotIndex>> = HashMap::new();
    file.walk(0, total, &mut |index, slot| {
        if let Some(place) = slot.place().filter(|place| places.contains(*place) && !slot.is_free()) {
            let own = slots.entry(*place).or_default();
            if own.len() < SLOTS_MAX {
                own.push(index);
            }
        }
    })?;
    Ok(slots)
}

impl Plan<'_> {
    /// In which slots the keys of a record lie: in the one that it names, if that says so too, or else in each one that says so,
    /// and in the one that it names if that is damaged and no other record's. A key that stays without its record would be taken
    /// for that of a lost one, and is not destroyed.
    pub(super) fn keys_of(
        &mut self,
        place: &Place,
        header: Option<(&Header, SlotOwner)>,
    ) -> Result<Vec<SlotIndex>, StoreError> {
        if let Some((header, SlotOwner::Own)) = header {
            return Ok(vec![header.slot]);
        }
        // What lies behind is being added, or was added by nobody here.
        let total = self.allocation.total().min(self.slot_file.total()?);
        let mut slots = self.discarded.slots(place, self.slot_file, total)?;
        if let Some((header, SlotOwner::Rotten)) = header {
            slots.push(header.slot);
        }
        // A slot that is given back twice would be given out twice.
        slots.retain(|index| *index < total && !self.doomed.contains(index));
        Ok(slots)
    }

    /// Plans the destruction of the keys of one record: of all of them or of none.
    pub(super) fn doom(&mut self, slots: Vec<SlotIndex>) -> Result<(), StoreError> {
        let all = self.doomed.len().saturating_add(slots.len());
        if all.saturating_add(self.reserved) > DOOMED_MAX {
            return Err(StoreError::DAMAGED_RECORD);
        }
        self.doomed.extend(slots);
        Ok(())
    }

    /// Plans the end of an entry that does not open, if it is what it was: none, one whose header cannot be read. Its keys go
    /// too, wherever they lie, and what is in the slot that it names, if no record of its own names that. Whoever asks for this has the
    /// namespace counted anew: once for many.
    pub(super) fn discard(&mut self, place: &Place, was: Option<Header>, mark: &mut Mark) -> Result<bool, StoreError> {
        let header = match self.at(place) {
            Err(error) if error.is_damage() => None,
            Ok(None) => return Ok(false),
            other => other?,
        };
        if header != was {
            return Ok(false);
        }
        let owner = header.map(|header| self.owner_of_slot(place, &header)).transpose()?;
        let named = header.as_ref().zip(owner);
        let mut slots = self.keys_of(place, named)?;
        if let Some((header, SlotOwner::Lost)) = named
            && header.slot < self.allocation.total()
            && !self.doomed.contains(&header.slot)
        {
            slots.push(header.slot);
        }
        self.doom(slots)?;
        self.take_out(place, named, mark)?;
        Ok(true)
    }

    /// The record of a name, for whom it is enough that it is gone: what lies there and cannot even be read is discarded. Not what a
    /// newer version wrote: that is whole, and there is who can read it.
    pub(super) fn locate_or_discard(
        &mut self,
        space: Space,
        namespace: &Namespace,
        name: &RecordName,
        mark: &mut Mark,
    ) -> Result<Option<Located>, StoreError> {
        let keys = Arc::clone(&self.keys);
        for place in keys.places(space, namespace, name) {
            match self.at(&place) {
                Ok(Some(header)) => return Ok(Some(Located { place, header })),
                Ok(None) => {}
                Err(StoreError::Corrupt {
                    what: StoreError::RECORD,
                }) => {
                    self.discard(&place, None, mark)?;
                    // Nothing says how much of it was counted.
                    self.recount(namespace_of(&place), mark)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
