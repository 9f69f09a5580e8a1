//! Records that were read last, in memory as they lie on the disk: each sealed, beside the slot that holds its key sealed
//! too. Reading one again asks neither the database nor the slot file. Nothing here is plaintext, and nothing here is
//! believed: a record that comes from here is opened like any other.
//!
//! What a reader finds may be replaced before it comes to remember it. So the writer says before and after it changes a
//! record, and a reader that looked before the change was over remembers nothing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use sled::IVec;

use super::root::{PLACE_BYTES, Place};
use super::slots::{SLOT_BYTES, Slot};

/// Parts, each with a lock of its own, so that readers seldom meet.
const PARTS: usize = 32;
/// What a record takes here beside its entry, in bytes, about.
const OVERHEAD_BYTES: usize = PLACE_BYTES * 2 + SLOT_BYTES + 128;
/// What a record of a common size takes, in bytes. Sizes the tables, nothing else.
const COMMON_BYTES: u64 = 1024;

/// One record: its entry in the database and its slot.
type Sealed = (IVec, Slot);

/// When a reader looked: what it found is remembered if nothing of its part was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked(u64);

/// What is remembered of a place.
pub(super) enum Recent {
    /// This.
    Known(IVec, Slot),
    /// Nothing.
    Unknown(Looked),
}

struct Weight;

impl Weighter<Place, Sealed> for Weight {
    fn weight(&self, _place: &Place, (entry, _slot): &Sealed) -> u64 {
        entry.len().saturating_add(OVERHEAD_BYTES) as u64
    }
}

struct Part {
    /// Changes that are over.
    changes: u64,
    /// Places that are being changed.
    changing: HashSet<Place>,
    known: Cache<Place, Sealed, Weight>,
}

/// Sealed records in memory, at most so many bytes of them.
pub(super) struct Recents(Vec<Mutex<Part>>);

impl Recents {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes = bytes_max / PARTS as u64;
        let items = usize::try_from(bytes / COMMON_BYTES).unwrap_or(usize::MAX).max(1);
        let part = || Part {
            changes: 0,
            changing: HashSet::new(),
            known: Cache::with_weighter(items, bytes, Weight),
        };
        Self((0..PARTS).map(|_| Mutex::new(part())).collect())
    }

    /// The part of a place, which ends in a MAC: they are spread evenly.
    fn part(&self, place: &Place) -> Option<MutexGuard<'_, Part>> {
        let [.., last] = place;
        let part = self.0.get(usize::from(*last) % PARTS)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn find(&self, place: &Place) -> Recent {
        let Some(part) = self.part(place) else {
            return Recent::Unknown(Looked(0));
        };
        match part.known.get(place) {
            Some((entry, slot)) => Recent::Known(entry.clone(), *slot),
            None => Recent::Unknown(Looked(part.changes)),
        }
    }

    /// Remembers what was found after `looked`, and opened.
    pub(super) fn remember(&self, place: &Place, looked: Looked, entry: &IVec, slot: &Slot) {
        let Some(mut part) = self.part(place) else { return };
        if part.changes == looked.0 && !part.changing.contains(place) {
            part.known.insert(*place, (entry.clone(), *slot));
        }
    }

    /// For what did not open: it is read anew.
    pub(super) fn forget(&self, place: &Place) {
        if let Some(mut part) = self.part(place) {
            part.known.remove(place);
        }
    }

    /// Said before these places are changed. Until it is dropped nothing of them is remembered.
    pub(super) fn changing<'a>(&'a self, places: &'a [Place]) -> Changing<'a> {
        for place in places {
            if let Some(mut part) = self.part(place) {
                part.changing.insert(*place);
                part.known.remove(place);
            }
        }
        Changing { recents: self, places }
    }
}

/// A change that is under way.
pub(super) struct Changing<'a> {
    recents: &'a Recents,
    places: &'a [Place],
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for place in self.places {
            if let Some(mut part) = self.recents.part(place) {
                part.changing.remove(place);
                part.changes = part.changes.wrapping_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(last: u8) -> Place {
        let mut place = [1; PLACE_BYTES];
        if let Some(byte) = place.last_mut() {
            *byte = last;
        }
        place
    }

    fn looked(recents: &Recents, place: &Place) -> Looked {
        match recents.find(place) {
            Recent::Unknown(looked) => looked,
            Recent::Known(..) => panic!("it is known"),
        }
    }

    fn known(recents: &Recents, place: &Place) -> Option<Vec<u8>> {
        match recents.find(place) {
            Recent::Known(entry, _) => Some(entry.to_vec()),
            Recent::Unknown(_) => None,
        }
    }

    #[test]
    fn what_was_found_is_known_until_it_changes() {
        let recents = Recents::new(1 << 20);
        let (one, other) = (place(1), place(2));
        recents.remember(&one, looked(&recents, &one), &b"old".into(), &Slot::FREE);
        recents.remember(&other, looked(&recents, &other), &b"other".into(), &Slot::FREE);
        assert_eq!(known(&recents, &one), Some(b"old".to_vec()));
        drop(recents.changing(&[one]));
        assert_eq!(known(&recents, &one), None);
        assert_eq!(known(&recents, &other), Some(b"other".to_vec()));
        recents.forget(&other);
        assert_eq!(known(&recents, &other), None);
    }

    #[test]
    fn who_looked_before_a_change_or_during_it_remembers_nothing() {
        let recents = Recents::new(1 << 20);
        let one = place(1);
        let before = looked(&recents, &one);
        let places = [one];
        let change = recents.changing(&places);
        recents.remember(&one, before, &b"old".into(), &Slot::FREE);
        let during = looked(&recents, &one);
        recents.remember(&one, during, &b"old".into(), &Slot::FREE);
        assert_eq!(known(&recents, &one), None);
        drop(change);
        for looked in [before, during] {
            recents.remember(&one, looked, &b"old".into(), &Slot::FREE);
            assert_eq!(known(&recents, &one), None);
        }
        recents.remember(&one, looked(&recents, &one), &b"new".into(), &Slot::FREE);
        assert_eq!(known(&recents, &one), Some(b"new".to_vec()));
    }

    #[test]
    fn what_is_known_stays_within_its_bytes() {
        for bytes_max in [0, 1 << 16, 1 << 20] {
            let recents = Recents::new(bytes_max);
            for index in 0..4000_u32 {
                let mut one = place(0);
                for (to, from) in one.iter_mut().rev().zip(index.to_le_bytes()) {
                    *to = from;
                }
                recents.remember(&one, looked(&recents, &one), &vec![7; 1000].into(), &Slot::FREE);
            }
            let weight: u64 = recents.0.iter().map(|part| part.lock().unwrap().known.weight()).sum();
            assert!(weight <= bytes_max, "{weight} of {bytes_max}");
            assert!(weight >= bytes_max / 2, "{weight} of {bytes_max}");
        }
    }
}
