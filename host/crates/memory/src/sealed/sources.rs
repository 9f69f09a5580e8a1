//! Where a salvage looks records up: in what sled makes of a copy of the database, and in what is whole in the log of the store. What
//! opens under its key is the record, wherever it was found: each was written once under that key.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use sled::IVec;

use super::Inner;
use super::carve::{Carved, LogKey};
use super::entry::Header;
use super::read::Found;
use super::root::{NamespacePlace, Place, namespace_of};
use super::slots::{Slot, SlotIndex};
use super::tree::{self, Scan, key, prefix};
use crate::store::StoreError;

/// How often sled may miss a page before it is asked no more. It looks a million times for one that is not there, each time anew.
const MISSING_MAX: usize = 16;

/// Both of them.
pub(super) struct Sources {
    log: File,
    /// What was found in the log, once that was needed.
    carved: OnceLock<Carved>,
    /// How often sled missed a page.
    missing: AtomicUsize,
}

/// What is there for a slot.
#[derive(Default)]
pub(super) struct Candidates {
    pub(super) found: Vec<Found>,
    /// Whether there is something, though nothing can be read of it but that.
    pub(super) is_unreadable: bool,
}

impl Candidates {
    pub(super) fn is_absent(&self) -> bool {
        self.found.is_empty() && !self.is_unreadable
    }
}

impl Sources {
    pub(super) fn new(log: File) -> Self {
        Self {
            log,
            carved: OnceLock::new(),
            missing: AtomicUsize::new(0),
        }
    }

    /// What was found in the log; none: it was not looked through.
    pub(super) fn carved(&self) -> Option<&Carved> {
        self.carved.get()
    }

    /// Looks through the log, if that was not done. It may take minutes.
    pub(super) fn carve(&self, inner: &Inner) -> Result<&Carved, StoreError> {
        if let Some(carved) = self.carved.get() {
            return Ok(carved);
        }
        let mut namespaces: HashSet<NamespacePlace> = HashSet::new();
        inner.slots.walk(0, inner.slots.total()?, &mut |_, slot| {
            if let Some(place) = slot.place().filter(|_| !slot.is_free()) {
                namespaces.insert(namespace_of(place));
            }
        })?;
        let log = self.log.try_clone();
        let log = log.map_err(|error| StoreError::io("read what is left of its records", error))?;
        let carved = Carved::from(log, &|key, value| inner.kept_by(&namespaces, key, value))?;
        Ok(self.carved.get_or_init(|| carved))
    }

    /// Everything that names this slot and is of this place.
    pub(super) fn candidates(&self, inner: &Inner, place: &Place, slot: SlotIndex) -> Result<Candidates, StoreError> {
        let mut candidates = Candidates::default();
        let mut add = |entry: Option<IVec>| match entry.map(|entry| Found::new(&inner.slots, *place, entry)) {
            Some(Ok(found)) if found.header.slot == slot => {
                candidates.found.push(found);
                Ok(())
            }
            Some(Err(error)) if error.is_damage() => {
                candidates.is_unreadable = true;
                Ok(())
            }
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(()),
        };
        add(self.of_sled(inner, &key(prefix::RECORD, &[place]))?)?;
        add(self.of_log(&key_of_slot(place, slot)))?;
        Ok(candidates)
    }

    /// The other slots in use that something in the log names which is of this place.
    pub(super) fn others(&self, place: &Place, slot: SlotIndex) -> Vec<SlotIndex> {
        let Some(carved) = self.carved.get() else {
            return Vec::new();
        };
        let with = key(prefix::RECORD, &[place]);
        let slots = carved.keys(&with).filter_map(|key| key.last_chunk::<4>());
        let slots = slots.map(|index| SlotIndex::from_be_bytes(*index));
        slots.filter(|index| *index != slot).collect()
    }

    /// What lies by any other key: a part of a value, the name of a namespace. What was written by it once is the same for ever.
    pub(super) fn get(&self, inner: &Inner, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        let found = self.of_sled(inner, key)?;
        Ok(found.or_else(|| self.of_log(key)))
    }

    fn of_log(&self, key: &[u8]) -> Option<IVec> {
        self.carved.get()?.get(key)
    }

    /// What sled has. Where it misses a page the log is looked through instead.
    fn of_sled(&self, inner: &Inner, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        if self.missing.load(Ordering::Relaxed) >= MISSING_MAX {
            return Ok(None);
        }
        match inner.tree.get(key) {
            Err(error) if !is_of_the_machine(&error) => {
                self.missing.fetch_add(1, Ordering::Relaxed);
                self.carve(inner).map(|_| None)
            }
            other => other,
        }
    }
}

impl Inner {
    /// By which key something of the log is kept: only what a slot in use may open, or belongs to what one may. A record is kept by
    /// its slot too: a write that was cut off leaves two of them, and its own may lack parts.
    fn kept_by(
        &self,
        namespaces: &HashSet<NamespacePlace>,
        key: LogKey<'_>,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = match key {
            LogKey::Whole(key) => key,
            LogKey::End(end) => return self.record_kept_by(end, value),
        };
        let Some((kind, rest)) = key.split_first() else {
            return Ok(None);
        };
        Ok(match *kind {
            prefix::RECORD => self.record_kept_by(rest, value)?,
            prefix::CHUNK => {
                let Some(slot) = rest.first_chunk::<4>() else {
                    return Ok(None);
                };
                let slot = self.slots.read(SlotIndex::from_be_bytes(*slot))?;
                (!slot.is_free()).then(|| key.to_vec())
            }
            prefix::NAMESPACE => {
                let place = NamespacePlace::try_from(rest);
                place
                    .is_ok_and(|place| namespaces.contains(&place))
                    .then(|| key.to_vec())
            }
            _ => None,
        })
    }
}

impl Inner {
    /// The same of a record, if it is one, of the end of its place: its slot says all of it.
    fn record_kept_by(&self, end: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(header) = Header::read(value) else {
            return Ok(None);
        };
        let slot = self.slots.read(header.slot)?;
        let is_own = slot.generation() == header.generation && !slot.is_free() && !end.is_empty();
        let place = slot.place().filter(|place| is_own && place.ends_with(end));
        Ok(place.map(|place| key_of_slot(place, header.slot)))
    }

    /// The commit that a slot was written in, if it opens: a damaged one says anything.
    pub(super) fn commit_of(&self, index: SlotIndex, slot: &Slot) -> Option<u64> {
        self.opens(index, slot).then(|| slot.commit())
    }

    /// Whether a slot holds a key that was written there, of the record that it says.
    pub(super) fn opens(&self, index: SlotIndex, slot: &Slot) -> bool {
        slot.opens(&self.keys.load(), &self.store, index)
    }

    fn is_keyed(&self, key: &[u8], entry: &[u8]) -> Result<bool, StoreError> {
        let place: Option<Place> = tree::place(key);
        let slot = match Header::read(entry) {
            Ok(header) => self.slots.read(header.slot)?,
            Err(_) => return Ok(false),
        };
        Ok(!slot.is_free() && slot.place() == place.as_ref())
    }

    /// How many records name a slot that is not theirs; none: the database cannot be looked through to its end.
    pub(super) fn keyless(&self) -> Result<Option<u64>, StoreError> {
        let mut count = 0_u64;
        let looked = self.tree.scan(&[prefix::RECORD], None, &mut |at, entry| {
            count = count.saturating_add(u64::from(!self.is_keyed(at, entry)?));
            Ok(Scan::Next)
        });
        match looked {
            Ok(()) => Ok(Some(count)),
            Err(error) if is_of_the_machine(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// By what a record of the log is kept.
fn key_of_slot(place: &Place, slot: SlotIndex) -> Vec<u8> {
    key(prefix::RECORD, &[place, &slot.to_be_bytes()])
}

/// Whether it is the machine that failed, such as a full disk, and not what the database holds: sled also takes an error of the
/// system for what a damaged page led it to. What the machine did not let be read is not lost.
pub(super) fn is_of_the_machine(error: &StoreError) -> bool {
    let StoreError::Io { source, .. } = error else {
        return !error.is_damage();
    };
    let of_sled = || match source.downcast_ref::<sled::Error>() {
        Some(sled::Error::Io(error)) => Some(error),
        _ => None,
    };
    let Some(error) = source.downcast_ref::<io::Error>().or_else(of_sled) else {
        return false;
    };
    let of_the_system = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| of_the_system.contains(&code))
        || matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::PermissionDenied
                | ErrorKind::OutOfMemory
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_taken_for_what_the_database_has_lost() {
        let io = |error: io::Error| StoreError::io("read its records", error);
        let sled = |error: io::Error| StoreError::io("read its records", sled::Error::Io(error));
        let system = |code: Errno| io::Error::from_raw_os_error(code.raw_os_error());
        for error in [
            io(system(Errno::NOSPC)),
            io(ErrorKind::StorageFull.into()),
            sled(system(Errno::IO)),
            sled(system(Errno::MFILE)),
            StoreError::Full {
                free_bytes: 0,
                needed_bytes: 1,
            },
        ] {
            assert!(is_of_the_machine(&error), "{error:?}");
        }
        for error in [
            StoreError::DAMAGED_RECORD,
            io(ErrorKind::UnexpectedEof.into()),
            // Where a page is said to lie.
            sled(system(Errno::INVAL)),
            sled(system(Errno::NOENT)),
        ] {
            assert!(!is_of_the_machine(&error), "{error:?}");
        }
    }
}
