//! Taking out a record that does not open. Nothing of it can be believed, so that what belongs to it is looked for, and what is
//! left is counted anew.

use super::entry::Header;
use super::owner::SlotOwner;
use super::plan::{Mark, Plan};
use super::root::{NamespacePlace, Place, namespace_of};
use super::tree::{self, Scan, key, prefix};
use crate::record::Usage;
use crate::store::StoreError;

/// Slots that may say they are of one place. There is one, and after a cut two: more are somebody's who wrote the file.
const SLOTS_MAX: usize = 16;

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
        let mut slots = Vec::new();
        if owner != Some(SlotOwner::Own) {
            self.slot_file.walk(0, total, &mut |index, slot| {
                if slot.place() == Some(place) && !slot.is_free() && slots.len() < SLOTS_MAX {
                    slots.push(index);
                }
            })?;
        }
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

    /// What will lie in a namespace, whatever was counted.
    pub(super) fn counted(&self, namespace: &NamespacePlace) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let mut count = |bytes: u64| usage += Usage { bytes, records: 1 };
        self.tree
            .scan(&key(prefix::RECORD, &[namespace]), None, &mut |at, entry| {
                if !tree::place(at).is_some_and(|place| self.records.contains_key(&place)) {
                    count(Header::read(entry).map_or(0, |header| header.charged_bytes()));
                }
                Ok(Scan::Next)
            })?;
        let planned = self
            .records
            .iter()
            .filter(|(place, _)| namespace_of(place) == *namespace);
        for header in planned.filter_map(|(_, header)| *header) {
            count(header.charged_bytes());
        }
        Ok(usage)
    }

    /// Counts a namespace anew.
    pub(super) fn recount(&mut self, namespace: NamespacePlace, mark: &mut Mark) -> Result<(), StoreError> {
        let usage = self.counted(&namespace)?;
        self.change(namespace, mark, |change| change.usage = usage)
    }
}
