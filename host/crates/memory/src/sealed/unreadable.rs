//! Reading slots from a disk that does not read all of them: each block that it does not costs its own slots, and no others.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

use super::allocation::BLOCK_SLOTS;
use super::slots::SLOT_BYTES;

/// Fills a part with what lies at an offset.
type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<()>;

/// Blocks that the disk does not read.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<BTreeSet<u64>>);

impl Unreadable {
    const BLOCK_BYTES: u64 = BLOCK_SLOTS as u64 * SLOT_BYTES as u64;

    /// How much that is, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (blocks.len() as u64).saturating_mul(Self::BLOCK_BYTES)
    }

    /// Reads, with zeros for what the disk does not read, which is noted. A disk takes seconds to say that it does not read a block:
    /// it is not asked again.
    pub(super) fn read(&self, read: ReadAt<'_>, part: &mut [u8], from: u64) -> io::Result<()> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let to = from.saturating_add(part.len() as u64);
        let known = blocks.range(from / Self::BLOCK_BYTES..).next();
        if known.is_none_or(|block| block.saturating_mul(Self::BLOCK_BYTES) >= to) {
            match read(part, from) {
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => {}
                other => return other,
            }
        }
        let mut at = from;
        for slots in part.chunks_mut(BLOCK_SLOTS as usize * SLOT_BYTES) {
            let block = at / Self::BLOCK_BYTES;
            if blocks.contains(&block) || read(slots, at).is_err() {
                slots.fill(0);
                blocks.insert(block);
            }
            at = at.saturating_add(slots.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_the_disk_does_not_read_costs_its_own_slots() {
        let block = BLOCK_SLOTS as usize * SLOT_BYTES;
        let at = block as u64;
        let bad = at + block as u64;
        let asked = std::cell::Cell::new(0);
        let read = |part: &mut [u8], from: u64| {
            let to = from + part.len() as u64;
            if from < bad + block as u64 && to > bad {
                asked.set(asked.get() + 1);
                return Err(io::Error::other("the disk does not read"));
            }
            part.fill(7);
            Ok(())
        };
        let unreadable = Unreadable::default();
        let mut slots = vec![1; 3 * block];
        for _ in 0..2 {
            unreadable.read(&read, &mut slots, at).unwrap();
            assert_eq!(unreadable.bytes(), block as u64);
            assert_eq!(asked.get(), 2, "with the others and alone, and never again");
        }
        let mut slot = [1; SLOT_BYTES];
        unreadable.read(&read, &mut slot, bad + 256).unwrap();
        assert_eq!((slot, asked.get()), ([0; SLOT_BYTES], 2));
        let read_and_not = [vec![7; block], vec![0; block], vec![7; block]].concat();
        assert!(slots == read_and_not);
    }
}
