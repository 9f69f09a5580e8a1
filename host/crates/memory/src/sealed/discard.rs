//! Taking out a record that does not open. Nothing of it can be believed, so that what belongs to it is looked for, and what is
//! left is counted anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aral_contract::id::Namespace;

use super::entry::Header;
use super::owner::SlotOwner;
use super::plan::{Located, Mark, Plan};
use super::root::{Place, Space, namespace_of};
use super::slots::{SlotFile, SlotIndex};
use crate::record::RecordName;
use crate::store::StoreError;

/// Slots that may say they are of one place. There is one, and after a cut two: more are somebody's who wrote the file.
pub(super) const SLOTS_MAX: usize = 16;

/// What the group of a plan discards, all of it: the slots are walked through once for all, since all may have lost theirs.
#[derive(Default)]
pub(super) struct Discarded {
    pub(super) places: HashSet<Place>,
    /// The slots that say they are theirs; none: nobody has looked yet.
    slots: Option<HashMap<Place, Vec<SlotIndex>>>,
}

impl Discarded {
    /// The slots that say they are of this place, which is one of the group's.
    fn slots(&mut self, place: &Place, file: &SlotFile, total: SlotIndex) -> Result<Vec<SlotIndex>, StoreError> {
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
    /// Plans the end of an entry that does not open, if it is what it was: none, one whose header cannot be read. Its keys go
    /// too, wherever they lie: a key without a record would be taken for a lost record. They are in the slot that it names, if
    /// that says so too, or else in each one that says so, and in the one that it names if that is no other record's.
    pub(super) fn discard(&mut self, place: &Place, was: Option<Header>, mark: &mut Mark) -> Result<bool, StoreError> {
        let header = match self.at(place) {
            Err(error) if error.is_damage() => None,
            Ok(None) => return Ok(false),
            other => other?,
        };
        if header != was {
            return Ok(false);
        }
        // What lies behind is being added, or was added by nobody here.
        let total = self.allocation.total().min(self.slot_file.total()?);
        let named = header.map(|header| header.slot).filter(|index| *index < total);
        let owner = header.map(|header| self.owner_of_slot(place, &header)).transpose()?;
        let mut slots = match owner {
            Some(SlotOwner::Own) => Vec::new(),
            Some(SlotOwner::Nobody | SlotOwner::Another) | None => {
                self.discarded.slots(place, self.slot_file, total)?
            }
        };
        if let Some(index) = named.filter(|_| owner != Some(SlotOwner::Another))
            && !self.slot_file.read(index)?.is_free()
        {
            slots.push(index);
        }
        // A slot that is given back twice would be given out twice.
        slots.retain(|index| !self.doomed.contains(index));
        self.doomed.extend(slots);
        self.take_out(place, header.as_ref().zip(owner), mark)?;
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
