//! What one group of requests changes, worked out before anything is written: preconditions and quotas are checked here,
//! keys are made, and records are sealed. A request that fails leaves nothing behind. It knows no disk but to read it.

use std::collections::HashMap;
use std::sync::Arc;

use aral_contract::Classification;
use aral_contract::id::Namespace;

use super::allocation::Allocation;
use super::commit::Writer;
use super::counts::{Change, Count};
use super::discard::Discarded;
use super::entry::{self, Drawn, Header, Owner};
use super::expiry::BelievedTime;
use super::owner::SlotOwner;
use super::root::{Keys, NamespacePlace, Place, Space, namespace_of};
use super::slots::{Slot, SlotFile, SlotIndex};
use super::stored::Stored;
use super::tree::{Added, Commit, Tree, expiry_key, key, prefix};
use crate::record::{RecordName, Usage};
use crate::store::StoreError;

/// One record to write, with everything decided.
pub(super) struct NewRecord<'a> {
    pub(super) space: Space,
    pub(super) namespace: &'a Namespace,
    pub(super) name: &'a RecordName,
    pub(super) value: &'a [u8],
    pub(super) version: u64,
    pub(super) expires: Option<u64>,
    pub(super) classification: Classification,
}

/// A record that is there.
#[derive(Clone, Copy)]
pub(super) struct Located {
    pub(super) place: Place,
    pub(super) header: Header,
}

/// The changes of one group.
pub(super) struct Plan<'a> {
    pub(super) tree: &'a Tree,
    pub(super) slot_file: &'a SlotFile,
    pub(super) keys: Arc<Keys>,
    pub(super) store: &'a super::StoreId,
    pub(super) allocation: &'a mut Allocation,
    /// By which what has expired is removed.
    pub(super) time: &'a mut BelievedTime,
    /// Seconds since 1970.
    pub(super) now: u64,
    /// The same, with a second that has begun counted.
    pub(super) now_up: u64,
    /// The number of this commit.
    commit: u64,
    /// Records as they will be; none: removed.
    pub(super) records: HashMap<Place, Option<Header>>,
    pub(super) usages: HashMap<NamespacePlace, Change>,
    pub(super) changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) slots: Vec<(SlotIndex, Slot)>,
    pub(super) doomed: Vec<SlotIndex>,
    /// How many more those of the group may doom that are planned later.
    pub(super) reserved: usize,
    pub(super) discarded: Discarded,
}

/// What is to be written, in this order.
pub(super) struct Written {
    pub(super) slots: Vec<(SlotIndex, Slot)>,
    pub(super) batch: sled::Batch,
    pub(super) is_empty: bool,
    /// Nothing is removed or replaced: whatever of it is lost, nothing that was there is.
    pub(super) only_adds: bool,
    /// Records that are made, replaced or removed.
    pub(super) places: Vec<Place>,
    /// Slots whose records are gone or replaced.
    pub(super) doomed: Vec<SlotIndex>,
}

/// How far a plan has come, to go back there.
pub(super) struct Mark {
    changes: usize,
    slots: usize,
    doomed: usize,
    records: Vec<(Place, Option<Option<Header>>)>,
    pub(super) usages: Vec<(NamespacePlace, Option<Count>)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        slot_file: &'a SlotFile,
        keys: Arc<Keys>,
        store: &'a super::StoreId,
        writer: &'a mut Writer,
        (now, now_up): (u64, u64),
    ) -> Self {
        Self {
            tree,
            slot_file,
            keys,
            store,
            allocation: &mut writer.allocation,
            time: &mut writer.time,
            now,
            now_up,
            commit: writer.commit.saturating_add(1),
            records: HashMap::new(),
            usages: HashMap::new(),
            changes: Vec::new(),
            slots: Vec::new(),
            doomed: Vec::new(),
            reserved: 0,
            discarded: Discarded::default(),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            changes: self.changes.len(),
            slots: self.slots.len(),
            doomed: self.doomed.len(),
            records: Vec::new(),
            usages: Vec::new(),
        }
    }

    /// Undoes what was planned since the mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.changes.truncate(mark.changes);
        self.give_back(mark.slots);
        self.doomed.truncate(mark.doomed);
        for (place, before) in mark.records.into_iter().rev() {
            match before {
                Some(before) => self.records.insert(place, before),
                None => self.records.remove(&place),
            };
        }
        for (place, before) in mark.usages.into_iter().rev() {
            match (before, self.usages.get_mut(&place)) {
                (Some(count), Some(change)) => change.count = count,
                (None, _) => drop(self.usages.remove(&place)),
                (Some(_), None) => {}
            }
        }
    }

    /// Gives back slots that were taken, but the first `kept`.
    fn give_back(&mut self, kept: usize) {
        let taken: Vec<SlotIndex> = self.slots.drain(kept..).map(|(index, _)| index).collect();
        self.allocation.give_back(&taken);
    }

    /// The record at a place, as it will be.
    pub(super) fn at(&self, place: &Place) -> Result<Option<Header>, StoreError> {
        if let Some(planned) = self.records.get(place) {
            return Ok(*planned);
        }
        let found = self.tree.get(&key(prefix::RECORD, &[place]))?;
        found.map(|entry| Header::read(&entry)).transpose()
    }

    /// The record of a name, whichever root it lies under.
    pub(super) fn locate(
        &self,
        space: Space,
        namespace: &Namespace,
        name: &RecordName,
    ) -> Result<Option<Located>, StoreError> {
        for place in self.keys.places(space, namespace, name) {
            if let Some(header) = self.at(&place)? {
                return Ok(Some(Located { place, header }));
            }
        }
        Ok(None)
    }

    fn note(&mut self, place: Place, header: Option<Header>, mark: &mut Mark) {
        let before = self.records.insert(place, header);
        mark.records.push((place, before));
    }

    /// Plans the end of a record: its key, wherever that lies, its entry, its chunks and its place among those that expire.
    pub(super) fn remove(&mut self, gone: &Located, mark: &mut Mark) -> Result<(), StoreError> {
        let owner = self.owner_of_slot(&gone.place, &gone.header)?;
        let header = (&gone.header, owner);
        let slots = self.keys_of(&gone.place, Some(header))?;
        self.doom(slots)?;
        let is_as_said = self.take_out(&gone.place, Some(header), mark)?;
        if !is_as_said {
            // A quota is judged by what was stored of it. For how much it was counted, nothing says: that is put right once it is gone.
            self.recount(namespace_of(&gone.place), mark)?;
        }
        Ok(())
    }

    /// Plans the end of an entry. Parts of a value lie by the slot that the header names: they stay if that is another record's,
    /// since what is in the tree was not authenticated, and must not get another record's value removed. Says whether what is stored
    /// is what the header says of it.
    pub(super) fn take_out(
        &mut self,
        place: &Place,
        header: Option<(&Header, SlotOwner)>,
        mark: &mut Mark,
    ) -> Result<bool, StoreError> {
        self.changes.push((key(prefix::RECORD, &[place]), None));
        let (mut charged, mut is_as_said) = (0, false);
        if let Some((header, owner)) = header {
            let stored = self.stored(place, header)?;
            let is_anothers = owner == SlotOwner::Another;
            if !is_anothers {
                for index in 0..stored.chunks {
                    let chunk = header.chunk_place(index);
                    self.changes.push((key(prefix::CHUNK, &[&chunk]), None));
                }
            }
            if let Some(expires) = header.expires {
                self.changes.push((expiry_key(expires, place), None));
            }
            charged = stored.charged;
            is_as_said = stored.is_as_said && !is_anothers;
        }
        self.change(namespace_of(place), mark, |change| {
            let usage = &mut change.count.usage;
            usage.bytes = usage.bytes.saturating_sub(charged);
            usage.records = usage.records.saturating_sub(1);
        })?;
        self.note(*place, None, mark);
        Ok(is_as_said)
    }

    /// How much is stored of the record at a place.
    fn stored(&self, place: &Place, header: &Header) -> Result<Stored, StoreError> {
        // What this group writes was made here.
        if self.records.contains_key(place) {
            return Ok(Stored::as_said(header));
        }
        let entry = self.tree.get(&key(prefix::RECORD, &[place]))?;
        self.tree.stored(header, entry.as_deref().unwrap_or_default())
    }

    /// Takes a stale entry out of the order of expiry.
    pub(super) fn forget_expiry(&mut self, expires: u64, place: &Place) {
        self.changes.push((expiry_key(expires, place), None));
    }

    /// Plans a new record, after the one before was planned to be removed.
    pub(super) fn insert(&mut self, new: &NewRecord<'_>, mark: &mut Mark) -> Result<(), StoreError> {
        let root = Arc::clone(self.keys.newest());
        let namespace_place = root.namespace_place(new.space, new.namespace);
        let place = root.place(&namespace_place, new.name);
        let drawn = Drawn::draw()?;
        let slot = self.allocation.take(|total| self.slot_file.grow(total))?;
        // Planned at once, so that a failure below gives the slot back.
        let sealed_slot = Slot::seal(&self.keys, self.store, slot, &place, &drawn, self.commit);
        let sealed_slot = match sealed_slot {
            Ok(sealed) => sealed,
            Err(error) => {
                self.allocation.give_back(&[slot]);
                return Err(error);
            }
        };
        self.slots.push((slot, sealed_slot));
        let header = Header {
            classification: new.classification,
            slot,
            generation: self.keys.generation,
            version: new.version,
            expires: new.expires,
            value_bytes: u32::try_from(new.value.len()).unwrap_or(u32::MAX),
            name_bytes: u16::try_from(new.name.as_str().len()).unwrap_or(u16::MAX),
            chunks_id: drawn.chunks_id,
        };
        let owner = Owner {
            store: self.store,
            space: new.space,
            namespace: new.namespace,
        };
        let sealed = entry::seal(owner, header, &drawn.key, new.name, new.value)?;
        self.changes.push((key(prefix::RECORD, &[&place]), Some(sealed.entry)));
        for (index, chunk) in (0..).zip(sealed.chunks) {
            let at = key(prefix::CHUNK, &[&header.chunk_place(index)]);
            self.changes.push((at, Some(chunk)));
        }
        if let Some(expires) = header.expires {
            self.changes.push((expiry_key(expires, &place), Some(Vec::new())));
        }
        self.change(namespace_place, mark, |change| {
            let bytes = header.charged_bytes();
            change.count.usage += Usage { bytes, records: 1 };
            change.call(&root, new);
        })?;
        // What lies under an older root, while keys are rotated, may have lost its name, and then nothing else knows it.
        let keys = Arc::clone(&self.keys);
        for older in keys.roots.iter().filter(|older| older.number != root.number) {
            let place = older.namespace_place(new.space, new.namespace);
            if self.tree.has_records(&place)? {
                self.change(place, mark, |change| change.call(older, new))?;
            }
        }
        self.note(place, Some(header), mark);
        Ok(())
    }

    /// Everything that was planned.
    pub(super) fn finish(mut self) -> Result<Written, StoreError> {
        if let Err(error) = self.count() {
            self.give_back(0);
            return Err(error);
        }
        let is_empty = self.changes.is_empty();
        let removes =
            |(key, value): &(Vec<u8>, Option<Vec<u8>>)| value.is_none() && key.first() == Some(&prefix::RECORD);
        let places: Vec<Place> = self.records.into_keys().collect();
        let is_noted = places.len() <= Added::PLACES_MAX;
        let only_adds = is_noted && !self.slots.is_empty() && !self.changes.iter().any(removes);
        if only_adds {
            let added = Added {
                number: self.commit,
                places: places.clone(),
            };
            self.changes.push((key(prefix::ADDED, &[]), Some(added.to_bytes())));
        }
        let commit = Commit {
            number: self.commit,
            doomed: self.doomed.clone(),
        };
        self.changes.push((key(prefix::COMMIT, &[]), Some(commit.to_bytes())));
        let mut batch = sled::Batch::default();
        for (key, value) in self.changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Ok(Written {
            slots: self.slots,
            batch,
            is_empty,
            only_adds,
            places,
            doomed: self.doomed,
        })
    }
}
