//! The file `slots`: one place of 128 bytes for the key of each record, overwritten in place. What is zero there is gone:
//! without the key the record is noise, wherever copies of it may lie. The layout is in docs/store-format.md.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

use aral_contract::failure::chain;
use aral_runtime::files;
use cap_std::fs::Dir;
use zeroize::Zeroizing;

use super::allocation::{Allocation, BLOCK_SLOTS};
use super::beside::Beside;
use super::bytes::joined;
use super::entry::Drawn;
use super::file::{open_file, open_to_read};
use super::keyring::StoreId;
use super::room::Room;
use super::root::{Keys, PLACE_BYTES, Place};
use super::slot_header::{self, DURABLE_OFFSET};
use super::unreadable::Unreadable;
use super::{Step, Steps};
use crate::crypto::{KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use crate::store::StoreError;

/// Its name in the folder of a store.
pub(crate) const NAME: &str = "slots";
/// Size of one slot. Divides a sector, so that no slot is torn by the write of its neighbour.
pub(crate) const SLOT_BYTES: usize = 128;

/// Slots that the file grows by at least: 128 KiB.
const GROWTH: u32 = 1024;
const SEALED_BYTES: usize = KEY_BYTES + TAG_BYTES;
const PLACE_FROM: usize = 4 + NONCE_BYTES + SEALED_BYTES;
const COMMIT_FROM: usize = PLACE_FROM + PLACE_BYTES;
pub(super) const DAMAGED: StoreError = StoreError::Corrupt {
    what: StoreError::SLOTS,
};
const MISSING: StoreError = StoreError::Corrupt {
    what: "the slot file, which is not there,",
};

/// The key of one record, erased when dropped.
pub(crate) type RecordKey = Zeroizing<[u8; KEY_BYTES]>;
/// Which slot.
pub(crate) type SlotIndex = u32;

/// One slot as it lies in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot([u8; SLOT_BYTES]);

impl Slot {
    /// What a slot is that holds no key.
    pub(crate) const FREE: Self = Self([0; SLOT_BYTES]);

    /// Nothing at all is in it: one whose destruction was cut off must not be given out with what is left of it.
    pub(crate) fn is_free(&self) -> bool {
        *self == Self::FREE
    }

    pub(crate) fn generation(&self) -> u32 {
        self.0.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Which record it belongs to.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.0.get(PLACE_FROM..COMMIT_FROM)?.try_into().ok()
    }

    /// In which commit it was written.
    pub(crate) fn commit(&self) -> u64 {
        let bytes = self.0.get(COMMIT_FROM..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Seals a record's key into the slot `index`, under a nonce that was drawn for it.
    pub(crate) fn seal(
        keys: &Keys,
        store: &StoreId,
        index: SlotIndex,
        place: &Place,
        drawn: &Drawn,
        commit: u64,
    ) -> Result<Self, StoreError> {
        let generation = keys.generation;
        let nonce = &drawn.nonce;
        let mut sealed = Zeroizing::new(*drawn.key);
        let cipher = keys.slots(generation).ok_or(DAMAGED)?;
        let tag = cipher
            .seal(nonce, &associated(store, index, generation, place), sealed.as_mut())
            .map_err(|_| DAMAGED)?;
        Ok(Self(joined(&[
            &generation.to_le_bytes(),
            nonce,
            sealed.as_slice(),
            &tag,
            place,
            &commit.to_le_bytes(),
        ])))
    }

    /// The record's key; none: this is not the slot of that record, or no longer.
    pub(crate) fn open(&self, keys: &Keys, store: &StoreId, index: SlotIndex, place: &Place) -> Option<RecordKey> {
        let (generation, rest) = self.0.split_first_chunk::<4>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (sealed, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
        let tag = rest.first_chunk::<TAG_BYTES>()?;
        // What says whose slot it is outside of the seal decides what a walk over the slots destroys.
        self.place().filter(|stored| *stored == place)?;
        let generation = u32::from_le_bytes(*generation);
        let mut key = Zeroizing::new(*sealed);
        let cipher = keys.slots(generation)?;
        let opened = cipher.open(nonce, &associated(store, index, generation, place), key.as_mut(), tag);
        opened.ok().map(|()| key)
    }

    /// Whether it holds a key that was written there, of the record that it says.
    pub(super) fn opens(&self, keys: &Keys, store: &StoreId, index: SlotIndex) -> bool {
        let of = self.place();
        of.is_some_and(|place| self.open(keys, store, index, place).is_some())
    }
}

/// What is sealed with a record's key: where the slot is and whose it is.
fn associated(store: &StoreId, index: SlotIndex, generation: u32, place: &Place) -> [u8; 16 + 4 + 4 + PLACE_BYTES] {
    joined(&[store, &index.to_le_bytes(), &generation.to_le_bytes(), place])
}

/// The open file.
pub(crate) struct SlotFile {
    file: File,
    steps: Steps,
    /// What the disk keeps free when this grows, in bytes.
    free_bytes_min: u64,
    /// Which blocks the disk does not read: their slots are taken for free ones. None: it is an error.
    pub(super) unreadable: Option<Unreadable>,
    /// How often it was walked through.
    #[cfg(test)]
    pub(super) walks: std::sync::atomic::AtomicUsize,
}

impl SlotFile {
    /// Makes the file, whole or not at all, with no slot in use.
    pub(crate) fn create(dir: &Dir, store: &StoreId) -> Result<(), StoreError> {
        Ok(files::write_atomic(dir, NAME, &slot_header::new(store), 0o600)?)
    }

    /// Opens the file and finds what is free in it.
    pub(crate) fn open(
        dir: &Dir,
        store: &StoreId,
        free_bytes_min: u64,
        steps: Steps,
    ) -> Result<(Self, Allocation, u64), StoreError> {
        let slots = Self::of(open_file(dir, NAME), free_bytes_min, steps)?;
        let durable = slot_header::read(&slots.file, store)?;
        // What a process left that was killed may be in the memory of the system alone: it is not judged, or built on, before
        // it is on stable storage.
        slots.sync()?;
        let allocation = slots.scan()?;
        Ok((slots, allocation, durable))
    }

    /// The same, where nothing is written and one block that is not read is not to cost all the others. None: that is the header,
    /// and nobody can say which commit is on stable storage. Whose a slot is its seal says too, and a header is not taken for
    /// damaged that says it is of another format, or of another store, where no slot says otherwise.
    pub(super) fn open_to_read(
        dir: &Dir,
        store: &StoreId,
        keys: &Keys,
    ) -> Result<(Self, Allocation, Option<u64>), StoreError> {
        let mut slots = Self::of(open_to_read(dir, NAME), 0, Steps::default())?;
        let header = slot_header::read(&slots.file, store);
        slots.unreadable = Some(Unreadable::default());
        let durable = match header {
            Ok(durable) => Some(durable),
            Err(error) if slots.total()? == 0 || slots.are_strange(store, keys)? => return Err(error),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the slots are read without their header");
                None
            }
        };
        let allocation = slots.scan()?;
        Ok((slots, allocation, durable))
    }

    /// Whether there are slots in use, and none of them opens.
    fn are_strange(&self, store: &StoreId, keys: &Keys) -> Result<bool, StoreError> {
        let (mut used, mut own) = (false, false);
        self.walk(0, self.total()?, &mut |index, slot| {
            used |= !slot.is_free();
            own = own || slot.opens(keys, store, index);
        })?;
        Ok(used && !own)
    }

    fn of(file: io::Result<File>, free_bytes_min: u64, steps: Steps) -> Result<Self, StoreError> {
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(MISSING),
            Err(error) => return Err(StoreError::io("open its slot file", error)),
        };
        Ok(Self {
            file,
            steps,
            free_bytes_min,
            unreadable: None,
            #[cfg(test)]
            walks: std::sync::atomic::AtomicUsize::default(),
        })
    }

    fn read_at(&self, part: &mut [u8], first: SlotIndex) -> io::Result<()> {
        let read = |part: &mut [u8], at: u64| self.file.read_exact_at(part, at);
        match &self.unreadable {
            None => read(part, offset(first)),
            Some(unreadable) => unreadable.read(&read, part, offset(first)),
        }
    }

    /// How many slots the file has; a torn last one does not count.
    pub(crate) fn total(&self) -> Result<u32, StoreError> {
        let bytes = self.file.metadata().map_err(reading)?.len();
        let slots = bytes.saturating_sub(slot_header::BYTES as u64) / SLOT_BYTES as u64;
        Ok(u32::try_from(slots).unwrap_or(u32::MAX))
    }

    fn scan(&self) -> Result<Allocation, StoreError> {
        let total = self.total()?;
        let mut free = Vec::new();
        self.walk(0, total, &mut |index, slot| {
            if slot.is_free() {
                free.push(index);
            }
        })?;
        Ok(Allocation::new(total, &free))
    }

    /// Shows every slot from `from` up to `to`, in order.
    pub(crate) fn walk(
        &self,
        from: SlotIndex,
        to: SlotIndex,
        show: &mut dyn FnMut(SlotIndex, &Slot),
    ) -> Result<(), StoreError> {
        const AT_ONCE: u32 = 8192;
        #[cfg(test)]
        self.walks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut buffer = vec![0; AT_ONCE as usize * SLOT_BYTES];
        let mut first = from;
        while first < to {
            let count = to.saturating_sub(first).min(AT_ONCE);
            let part = buffer.get_mut(..count as usize * SLOT_BYTES).ok_or(DAMAGED)?;
            self.read_at(part, first).map_err(reading)?;
            let (slots, _) = part.as_chunks::<SLOT_BYTES>();
            for (index, slot) in (first..).zip(slots) {
                show(index, &Slot(*slot));
            }
            first = first.saturating_add(count);
        }
        Ok(())
    }

    pub(crate) fn read(&self, index: SlotIndex) -> Result<Slot, StoreError> {
        let mut slot = [0; SLOT_BYTES];
        match self.read_at(&mut slot, index) {
            // A record that names a slot behind the end is damaged, and that is found out by whoever asked.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Slot::FREE),
            other => other.map(|()| Slot(slot)).map_err(reading),
        }
    }

    /// Writes slots; they are on stable storage after [`SlotFile::sync`].
    pub(crate) fn write(&self, slots: &[(SlotIndex, Slot)]) -> Result<(), StoreError> {
        for run in runs(slots) {
            let Some((first, _)) = run.first() else { continue };
            let bytes: Vec<u8> = run.iter().flat_map(|(_, slot)| slot.0).collect();
            if self.steps.are_watched() {
                let (half, rest) = bytes.split_at(SLOT_BYTES / 2);
                self.write_at(half, offset(*first))?;
                self.steps.reached(Step::SlotHalfWritten);
                self.write_at(rest, offset(*first).saturating_add(half.len() as u64))?;
            } else {
                self.write_at(&bytes, offset(*first))?;
            }
        }
        Ok(())
    }

    /// Overwrites slots with zeros; they are gone from stable storage after [`SlotFile::sync`].
    pub(crate) fn destroy(&self, indices: &[SlotIndex]) -> Result<(), StoreError> {
        let mut free: Vec<(SlotIndex, Slot)> = indices.iter().map(|index| (*index, Slot::FREE)).collect();
        free.sort_unstable_by_key(|(index, _)| *index);
        self.write(&free)
    }

    /// Writes zeros once more to the first `total` slots, as far as they are free; they are on stable storage after
    /// [`SlotFile::sync`].
    pub(super) fn clear_free(&self, total: SlotIndex) -> Result<(), StoreError> {
        const AT_ONCE: SlotIndex = 1 << 16;
        let mut from = 0;
        while from < total {
            let to = from.saturating_add(AT_ONCE).min(total);
            let mut free: Vec<SlotIndex> = Vec::new();
            self.walk(from, to, &mut |index, slot| {
                if slot.is_free() {
                    free.push(index);
                }
            })?;
            for run in free.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
                let Some(first) = run.first() else { continue };
                self.write_at(&vec![0_u8; run.len().saturating_mul(SLOT_BYTES)], offset(*first))?;
            }
            from = to;
        }
        Ok(())
    }

    /// Notes that this commit and all before it are on stable storage; part of the next [`SlotFile::sync`].
    pub(crate) fn note_durable(&self, commit: u64) -> Result<(), StoreError> {
        self.write_at(&commit.to_le_bytes(), DURABLE_OFFSET)
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(syncing)
    }

    /// Syncs this file while something else is done.
    pub(super) fn beside(&self) -> Result<Beside, StoreError> {
        self.file.try_clone().and_then(Beside::start).map_err(syncing)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.file
            .write_all_at(bytes, at)
            .map_err(|error| StoreError::io("write its slot file", error))
    }

    /// Makes room for at least one more slot, filled with zeros: a slot then lies in blocks that are its own and written, so
    /// that writing it finds no full disk and syncing it needs no journal. Where that fails, nothing of it stays.
    pub(super) fn grow(&self, total: u32) -> Result<u32, StoreError> {
        let grown = self.grown(total)?;
        let zeros = vec![0; GROWTH as usize * SLOT_BYTES];
        let (mut at, to) = (offset(total), offset(grown));
        let mut written = Ok(());
        while at < to && written.is_ok() {
            let left = usize::try_from(to.saturating_sub(at)).unwrap_or(usize::MAX);
            let part = zeros.get(..left.min(zeros.len())).ok_or(DAMAGED)?;
            written = self.file.write_all_at(part, at);
            at = at.saturating_add(part.len() as u64);
        }
        match written.and_then(|()| self.file.sync_all()) {
            Ok(()) => Ok(grown),
            Err(error) => {
                let _what_stays_is_written_over = self.file.set_len(offset(total));
                Err(StoreError::io("grow its slot file", error))
            }
        }
    }

    /// How many slots there will be: as many more as the disk has room for, above what it keeps free.
    fn grown(&self, total: u32) -> Result<u32, StoreError> {
        let most = u32::MAX - 1;
        if total >= most {
            return Err(StoreError::Invalid(
                "the store has as many records as it can hold".to_owned(),
            ));
        }
        let room = Room::on(&self.file, self.free_bytes_min)?;
        let holds = |slots: u32| room.holds(u64::from(slots).saturating_mul(SLOT_BYTES as u64));
        let usual = GROWTH.max((total / 8).next_multiple_of(BLOCK_SLOTS));
        let more = match holds(usual) {
            Ok(()) => usual,
            Err(_) => holds(GROWTH).map(|()| GROWTH)?,
        };
        Ok(total.saturating_add(more).min(most))
    }
}

pub(super) fn syncing(error: std::io::Error) -> StoreError {
    StoreError::io("sync its slot file", error)
}

pub(super) fn reading(error: std::io::Error) -> StoreError {
    StoreError::io("read its slot file", error)
}

fn offset(index: SlotIndex) -> u64 {
    (slot_header::BYTES as u64).saturating_add(u64::from(index).saturating_mul(SLOT_BYTES as u64))
}

/// Neighbours, together.
fn runs(slots: &[(SlotIndex, Slot)]) -> impl Iterator<Item = &[(SlotIndex, Slot)]> {
    slots.chunk_by(|(one, _), (next, _)| one.checked_add(1) == Some(*next))
}
