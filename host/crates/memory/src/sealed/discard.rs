//! Taking out a record that does not open. Nothing of it can be believed, so that what belongs to it is looked for, and what is
//! left is counted anew.

use super::entry::Header;
use super::plan::{Mark, Plan, namespace_of};
use super::root::{NamespacePlace, Place};
use super::slots::{Slot, SlotIndex};
use super::tree::{self, Scan, key, prefix};
use crate::record::Usage;
use crate::store::StoreError;

/// Slots that may say they are of one place. There is one, and after a cut two: more are somebody's who wrote the file.
const SLOTS_MAX: usize = 16;

impl Plan<'_> {
    /// Plans the end of an entry that does not open, if it is what it was: none, one whose header cannot be read. Its keys go
    /// too, wherever they lie: a key without a record would be taken for a lost record.
    pub(super) fn discard(&mut self, place: &Place, was: Option<Header>, mark: &mut Mark) -> Result<bool, StoreError> {
        let header = match self.at(place) {
            Err(error) if error.is_damage() => None,
            Ok(None) => return Ok(false),
            other => other?,
        };
        if header != was {
            return Ok(false);
        }
        let mut slots = self.slots_of(place, header.as_ref())?;
        let is_own_slot = header.is_some_and(|header| slots.contains(&header.slot));
        // A slot that is given back twice would be given out twice.
        slots.retain(|index| !self.doomed.contains(index));
        self.doomed.extend(slots);
        self.take_out(place, header.as_ref(), is_own_slot, mark)?;
        Ok(true)
    }

    /// The slots of a record: the one that it names, if that says so too, or else every one that says so, and the one that it
    /// names if no record of its own names it.
    fn slots_of(&self, place: &Place, header: Option<&Header>) -> Result<Vec<SlotIndex>, StoreError> {
        // What lies behind is being added, or was added by nobody here.
        let total = self.allocation.total.min(self.slot_file.total()?);
        let named = header.map(|header| header.slot).filter(|index| *index < total);
        let slot = named.map(|index| self.slot_file.read(index)).transpose()?;
        if let (Some(index), Some(slot)) = (named, slot)
            && slot.place() == Some(place)
        {
            return Ok(vec![index]);
        }
        let mut own = Vec::new();
        self.slot_file.walk(0, total, &mut |index, slot| {
            if slot.place() == Some(place) && !slot.is_free() && own.len() < SLOTS_MAX {
                own.push(index);
            }
        })?;
        if let (Some(index), Some(slot)) = (named, slot)
            && !slot.is_free()
            && !self.is_of_another(index, &slot)?
        {
            own.push(index);
        }
        Ok(own)
    }

    /// Whether the record that a slot says it is of says so too.
    fn is_of_another(&self, index: SlotIndex, slot: &Slot) -> Result<bool, StoreError> {
        match slot.place().map(|owner| self.at(owner)).transpose() {
            Ok(owner) => Ok(owner.flatten().is_some_and(|owner| owner.slot == index)),
            // Nobody can tell.
            Err(error) if error.is_damage() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether anything will lie in a namespace, whatever was counted.
    pub(super) fn has_records(&self, namespace: &NamespacePlace) -> Result<bool, StoreError> {
        let mut has = false;
        self.tree.scan(&key(prefix::RECORD, &[namespace]), None, &mut |at, _| {
            let place = tree::place(at);
            let is_removed = place.is_some_and(|place| self.records.get(&place).is_some_and(Option::is_none));
            has = !is_removed;
            Ok(if has { Scan::Stop } else { Scan::Next })
        })?;
        Ok(has)
    }

    /// Counts what will lie in a namespace.
    pub(super) fn recount(&mut self, namespace: NamespacePlace, mark: &mut Mark) -> Result<(), StoreError> {
        let mut usage = Usage::default();
        let mut count = |bytes: u64| {
            usage.records = usage.records.saturating_add(1);
            usage.bytes = usage.bytes.saturating_add(bytes);
        };
        self.tree
            .scan(&key(prefix::RECORD, &[&namespace]), None, &mut |at, entry| {
                let place = tree::place(at);
                if !place.is_some_and(|place| self.records.contains_key(&place)) {
                    count(Header::read(entry).map_or(0, |header| header.charged_bytes()));
                }
                Ok(Scan::Next)
            })?;
        let planned = self
            .records
            .iter()
            .filter(|(place, _)| namespace_of(place) == namespace);
        for header in planned.filter_map(|(_, header)| *header) {
            count(header.charged_bytes());
        }
        self.change(namespace, mark, |change| change.usage = usage)
    }
}
