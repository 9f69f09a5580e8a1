//! Reading one record, beside a writer that may replace it and destroy its key at any moment.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use aral_contract::Classification;
use aral_contract::id::Namespace;
use sled::IVec;

use super::entry::{self, Header, Owner};
use super::keyring::FORMAT;
use super::recent::{Looked, Recent};
use super::root::{Keys, Place, Space};
use super::slots::{RecordKey, Slot, SlotFile};
use super::tree::{key, prefix};
use super::{Inner, Status};
use crate::key::hex;
use crate::record::{Record, RecordName};
use crate::store::StoreError;

/// How often a record that changes while it is read is read again.
const ATTEMPTS_MAX: usize = 100;
const DAMAGED: StoreError = StoreError::DAMAGED_RECORD;

/// What was found of a record, and the keys that it was found with.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) entry: IVec,
    pub(super) header: Header,
    pub(super) slot: Slot,
    /// Since when nobody changed it; none: it is not to be remembered.
    looked: Option<Looked>,
}

impl Found {
    /// What was found in the database, and the slot that it names.
    pub(super) fn new(slots: &SlotFile, place: Place, entry: IVec) -> Result<Self, StoreError> {
        let header = Header::read(&entry)?;
        Ok(Self {
            place,
            entry,
            header,
            slot: slots.read(header.slot)?,
            looked: None,
        })
    }
}

/// Looks up what lies in the database by a key.
pub(super) type Read<'a> = &'a dyn Fn(&[u8]) -> Result<Option<IVec>, StoreError>;

impl Inner {
    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or(0)
    }

    /// The same, with a second that has begun counted: what lives for a second lives for one at least.
    pub(super) fn now_up(&self) -> u64 {
        let now = self.clock.now();
        let begun = u64::from(now.subsec_nanosecond() > 0);
        u64::try_from(now.as_second()).unwrap_or(0).saturating_add(begun)
    }

    pub(super) fn entry(&self, place: &Place) -> Result<Option<Found>, StoreError> {
        let entry = self.tree.get(&key(prefix::RECORD, &[place]))?;
        entry.map(|entry| Found::new(&self.slots, *place, entry)).transpose()
    }

    /// The same, from memory if it was read not long ago.
    fn recent_entry(&self, place: &Place) -> Result<Option<Found>, StoreError> {
        match self.recents.find(place) {
            Recent::Known(entry, slot) => Ok(Some(Found {
                place: *place,
                header: Header::read(&entry)?,
                entry,
                slot,
                looked: None,
            })),
            Recent::Unknown(looked) => Ok(self.entry(place)?.map(|found| Found {
                looked: Some(looked),
                ..found
            })),
        }
    }

    fn find(&self, keys: &Keys, owner: Owner<'_>, name: &RecordName) -> Result<Option<Found>, StoreError> {
        // Also for what is in memory: it may be of a write that failed.
        self.tree.log_sync.check()?;
        for place in keys.places(owner.space, owner.namespace, name) {
            if let Some(found) = self.recent_entry(&place)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record's key; none: the slot is not its own, or not any more.
    pub(super) fn key_of(&self, keys: &Keys, found: &Found) -> Option<RecordKey> {
        if found.slot.generation() != found.header.generation {
            return None;
        }
        found.slot.open(keys, &self.store, found.header.slot, &found.place)
    }

    /// Reads until what was read did not change meanwhile: a writer that replaces a record destroys its key. A record that
    /// does not open and did not change either is damaged.
    fn steady<T>(
        &self,
        owner: Owner<'_>,
        name: &RecordName,
        open: impl Fn(&Keys, &Found) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut before: Option<Header> = None;
        for _ in 0..ATTEMPTS_MAX {
            let keys = self.keys.load();
            let Some(found) = self.find(&keys, owner, name)? else {
                // While keys are rotated a record moves from one place to another between two looks.
                let moved = keys.is_rotating() && self.find(&self.keys.load(), owner, name)?.is_some();
                if moved || self.keys.load().generation != keys.generation {
                    continue;
                }
                return Ok(None);
            };
            if found.header.is_expired(|| self.now()) {
                return Ok(None);
            }
            match open(&keys, &found) {
                Err(StoreError::Corrupt { .. }) if before != Some(found.header) => {
                    before = Some(found.header);
                    self.recents.forget(&found.place);
                }
                Err(error) => return Err(error),
                Ok(opened) => {
                    if let Some(looked) = found.looked {
                        self.recents.remember(&found.place, looked, &found.entry, &found.slot);
                    }
                    return Ok(Some(opened));
                }
            }
        }
        Err(DAMAGED)
    }

    pub(super) fn get(&self, owner: Owner<'_>, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.steady(owner, name, |keys, found| {
            self.open_record(keys, owner, name, found, &|at| self.tree.get(at))
        })
    }

    /// What was found, opened; `read` has what lies beside it.
    pub(super) fn open_record(
        &self,
        keys: &Keys,
        owner: Owner<'_>,
        name: &RecordName,
        found: &Found,
        read: Read<'_>,
    ) -> Result<Record, StoreError> {
        let key_of_record = self.key_of(keys, found).ok_or(DAMAGED)?;
        let chunk = |index| read(&key(prefix::CHUNK, &[&found.header.chunk_place(index)]));
        let value = entry::open_value(owner, &found.header, &key_of_record, name, &found.entry, chunk)?;
        Ok(Record {
            value,
            version: found.header.version,
            classification: found.header.classification,
            expires_at: found.header.expires_at(),
        })
    }

    /// The name is opened too, so that a classification that somebody changed is found out.
    pub(super) fn classification(
        &self,
        owner: Owner<'_>,
        name: &RecordName,
    ) -> Result<Option<Classification>, StoreError> {
        self.steady(owner, name, |keys, found| {
            let opened = self.open_name(keys, owner, found)?.ok_or(DAMAGED)?;
            if opened == *name {
                Ok(found.header.classification)
            } else {
                Err(DAMAGED)
            }
        })
    }

    /// The name of what was found; none: its key is gone.
    pub(super) fn open_name(
        &self,
        keys: &Keys,
        owner: Owner<'_>,
        found: &Found,
    ) -> Result<Option<RecordName>, StoreError> {
        let Some(key_of_record) = self.key_of(keys, found) else {
            return Ok(None);
        };
        entry::open_name(owner, &found.header, &key_of_record, &found.entry).map(Some)
    }

    pub(super) fn owner<'a>(&'a self, space: Space, namespace: &'a Namespace) -> Owner<'a> {
        Owner {
            store: &self.store,
            space,
            namespace,
        }
    }

    pub(super) fn status(&self) -> Result<Status, StoreError> {
        let free_bytes = self.room()?.free_bytes;
        // Also after a failed write: whoever wants to know, or to make a backup, wants it most then.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let content = &writer.keyring.content;
        let is_rotating = content.roots.len() > 1;
        Ok(Status {
            store: hex(&self.store),
            format: FORMAT,
            keys: content.keys(),
            is_rotating,
            is_under_way: is_rotating && self.rotating.load(Ordering::Acquire),
            epochs: content.roots.iter().filter_map(|root| root.epoch.clone()).collect(),
            slots_used: writer.allocation.used(),
            slots: writer.allocation.total(),
            free_bytes,
        })
    }
}
