//! Which slots are free, by the blocks of the disk that they lie in. Records that are written together get slots of few blocks,
//! since what is written is blocks: it pays to leave single free slots alone until more of their block are. It knows no file.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::slots::{DAMAGED, SLOT_BYTES, SlotIndex};
use crate::store::StoreError;

/// Slots of one block of 4 KiB, which is what file systems write at least.
pub(super) const BLOCK_SLOTS: u32 = 32;
const _: () = assert!(BLOCK_SLOTS as usize * SLOT_BYTES == 4096 && BLOCK_SLOTS == u32::BITS);
/// Slots that must be free in a block before it is filled again; until there is such a block the file grows. Where a quarter
/// of all slots is free some block has as many, if all are whole, so that it does not grow any more.
const WORTH_FILLING: u32 = BLOCK_SLOTS / 4;

/// The free slots. Only the one writer has them.
pub(crate) struct Allocation {
    /// One bit for each free slot of a block.
    blocks: Vec<u32>,
    /// Blocks with free slots and how many each has: the emptiest comes last, of those the one that lies first.
    emptiest: BTreeSet<(u32, Reverse<usize>)>,
    /// Slots are given out from here until it is full; then from none.
    filling: Option<usize>,
    /// It did not grow when it was asked to: it is not asked again before nothing is free.
    is_refused: bool,
    free: u32,
    total: u32,
}

impl Allocation {
    /// Of `total` slots, those that are free.
    pub(crate) fn new(total: u32, free: &[SlotIndex]) -> Self {
        let mut blocks = vec![0_u32; blocks(total)];
        for index in free.iter().filter(|index| **index < total) {
            if let Some(slots) = blocks.get_mut((index / BLOCK_SLOTS) as usize) {
                *slots |= 1 << (index % BLOCK_SLOTS);
            }
        }
        let numbered = blocks.iter().enumerate().filter(|(_, slots)| **slots != 0);
        Self {
            emptiest: numbered
                .map(|(block, slots)| (slots.count_ones(), Reverse(block)))
                .collect(),
            filling: None,
            is_refused: false,
            free: blocks.iter().map(|slots| slots.count_ones()).sum(),
            total,
            blocks,
        }
    }

    /// A free slot, which is free no longer. `grow` makes more of them, from how many there are, and says how many there are
    /// then.
    pub(crate) fn take(&mut self, grow: impl FnOnce(u32) -> Result<u32, StoreError>) -> Result<SlotIndex, StoreError> {
        let block = match self.filling {
            Some(block) => block,
            None => self.next_to_fill(grow)?,
        };
        let free = self.blocks.get(block).copied().unwrap_or_default();
        let bit = free.trailing_zeros();
        let index = u32::try_from(block)
            .ok()
            .and_then(|block| block.checked_mul(BLOCK_SLOTS)?.checked_add(bit))
            .filter(|_| bit < BLOCK_SLOTS)
            .ok_or(DAMAGED)?;
        self.mark(block, 1_u32 << bit, false);
        self.filling = (free.count_ones() > 1).then_some(block);
        Ok(index)
    }

    fn next_to_fill(&mut self, grow: impl FnOnce(u32) -> Result<u32, StoreError>) -> Result<usize, StoreError> {
        let emptiest = |known: &Self| known.emptiest.last().map(|(free, Reverse(block))| (*free, *block));
        let found = emptiest(self);
        let is_enough = |(free, _): &(u32, usize)| *free >= WORTH_FILLING || self.is_refused;
        if let Some((_, block)) = found.filter(is_enough) {
            return Ok(block);
        }
        match (grow(self.total), found) {
            (Ok(total), _) => {
                self.is_refused = false;
                self.add(total);
                emptiest(self).map(|(_, block)| block).ok_or(DAMAGED)
            }
            // A single free slot costs more to write, and no more than that.
            (Err(error), Some((_, block))) => {
                tracing::warn!(%error, "the slot file does not grow, so that slots lie far apart");
                self.is_refused = true;
                Ok(block)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// They are free from now on.
    pub(crate) fn give_back(&mut self, slots: &[SlotIndex]) {
        let total = self.total;
        for index in slots.iter().filter(|index| **index < total) {
            self.mark((index / BLOCK_SLOTS) as usize, 1 << (index % BLOCK_SLOTS), true);
        }
    }

    /// How many slots there are.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// How many of them are not free.
    pub(crate) fn used(&self) -> u32 {
        self.total.saturating_sub(self.free)
    }

    /// There are `total` now; those that are new are free.
    fn add(&mut self, total: u32) {
        let before = self.total;
        self.total = total.max(before);
        self.blocks.resize(blocks(self.total), 0);
        for block in before / BLOCK_SLOTS..self.total.div_ceil(BLOCK_SLOTS) {
            let new = below(self.total, block) & !below(before, block);
            self.mark(block as usize, new, true);
        }
    }

    fn mark(&mut self, block: usize, which: u32, is_free: bool) {
        let Some(slots) = self.blocks.get_mut(block) else {
            return;
        };
        let before = slots.count_ones();
        *slots = if is_free { *slots | which } else { *slots & !which };
        let after = slots.count_ones();
        if before == after {
            return;
        }
        self.free = self.free.saturating_sub(before).saturating_add(after);
        self.emptiest.remove(&(before, Reverse(block)));
        if after > 0 {
            self.emptiest.insert((after, Reverse(block)));
        }
    }
}

/// Blocks of so many slots; the last may not be whole.
fn blocks(total: u32) -> usize {
    total.div_ceil(BLOCK_SLOTS) as usize
}

/// Which slots of a block are among the first `total`.
fn below(total: u32, block: u32) -> u32 {
    let slots = total.saturating_sub(block.saturating_mul(BLOCK_SLOTS));
    1_u32.checked_shl(slots).map_or(u32::MAX, |end| end.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const GROWTH: u32 = 100;

    fn grow(total: u32) -> Result<u32, StoreError> {
        Ok(total + GROWTH)
    }

    fn full(_: u32) -> Result<u32, StoreError> {
        Err(StoreError::io("grow", "the disk is full"))
    }

    /// Blocks that slots lie in.
    fn touched(slots: &[SlotIndex]) -> usize {
        slots
            .iter()
            .map(|index| index / BLOCK_SLOTS)
            .collect::<BTreeSet<_>>()
            .len()
    }

    fn drawn(seed: &mut u64, below: usize) -> usize {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*seed >> 33).unwrap() % below
    }

    #[test]
    fn records_that_are_replaced_in_no_order_get_slots_of_few_blocks() {
        const TOGETHER: usize = 64;
        let mut allocation = Allocation::new(0, &[]);
        let mut used: Vec<SlotIndex> = (0..20_000).map(|_| allocation.take(grow).unwrap()).collect();
        let mut seed = 7;
        let mut blocks = 0;
        for round in 0..2000 {
            let new: Vec<SlotIndex> = (0..TOGETHER).map(|_| allocation.take(grow).unwrap()).collect();
            let old: Vec<SlotIndex> = new
                .iter()
                .map(|index| {
                    let at = drawn(&mut seed, used.len());
                    std::mem::replace(&mut used[at], *index)
                })
                .collect();
            allocation.give_back(&old);
            blocks += if round < 1000 { 0 } else { touched(&new) };
            assert!(touched(&old) > TOGETHER * 3 / 4, "the old ones lie far apart");
        }
        assert!(blocks / 1000 <= 8, "{blocks} in 1000 rounds");
        assert_eq!(allocation.used(), 20_000);
        assert!(
            allocation.total() <= 20_000 * 4 / 3 + 2 * GROWTH,
            "{}",
            allocation.total()
        );
    }

    #[test]
    fn neighbours_are_given_out_together_and_given_out_again() {
        let mut allocation = Allocation::new(64, &(10..64).collect::<Vec<_>>());
        let taken: Vec<SlotIndex> = (0..54).map(|_| allocation.take(full).unwrap()).collect();
        // The second block is empty, and comes first.
        assert_eq!(taken, (32..64).chain(10..32).collect::<Vec<_>>());
        assert!(matches!(allocation.take(full), Err(StoreError::Io { .. })));
        allocation.give_back(&[3]);
        assert_eq!(
            allocation.take(grow).unwrap(),
            64,
            "a block with one free slot is not worth filling"
        );
        assert_eq!((allocation.total(), allocation.used()), (164, 64));
    }

    #[test]
    fn a_full_disk_leaves_what_is_free_and_is_asked_when_nothing_is() {
        let mut allocation = Allocation::new(70, &[5, 40, 69]);
        let mut asked = 0;
        let mut take = |allocation: &mut Allocation| {
            allocation.take(|total| {
                asked += 1;
                full(total)
            })
        };
        let taken = [(); 3].map(|()| take(&mut allocation).unwrap());
        assert_eq!(taken, [5, 40, 69]);
        assert!(matches!(take(&mut allocation), Err(StoreError::Io { .. })));
        allocation.give_back(&[7, 69]);
        assert_eq!([(); 2].map(|()| take(&mut allocation).unwrap()), [7, 69]);
        assert_eq!(asked, 2, "once, and once where nothing else was left");
        assert_eq!(allocation.take(grow).unwrap(), 96);
        allocation.give_back(&[7]);
        allocation.give_back(&[170, u32::MAX]);
        assert_eq!(allocation.used(), 70, "what is behind the end is no slot");
    }

    #[test]
    fn a_growth_that_is_none_ends() {
        let mut allocation = Allocation::new(3, &[]);
        assert!(matches!(allocation.take(Ok), Err(StoreError::Corrupt { .. })));
        assert!(matches!(allocation.take(|_| Ok(0)), Err(StoreError::Corrupt { .. })));
        assert_eq!(allocation.total(), 3);
    }

    proptest! {
        #[test]
        fn no_slot_is_given_out_twice_or_lost(
            total in 0_u32..200,
            free in prop::collection::btree_set(0_u32..200, 0..200),
            acts in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..400),
        ) {
            let free: Vec<SlotIndex> = free.into_iter().filter(|index| *index < total).collect();
            let mut allocation = Allocation::new(total, &free);
            let mut used: Vec<SlotIndex> = (0..total).filter(|index| !free.contains(index)).collect();
            for (act, which) in acts {
                let none_free = allocation.used() == allocation.total();
                match act {
                    0 | 1 => {
                        let taken = allocation.take(if act == 0 { grow } else { full });
                        prop_assert_eq!(taken.is_err(), act == 1 && none_free);
                        if let Ok(index) = taken {
                            prop_assert!(!used.contains(&index) && index < allocation.total());
                            used.push(index);
                        }
                    }
                    _ if !used.is_empty() => {
                        let index = used.swap_remove(which.index(used.len()));
                        allocation.give_back(&[index]);
                    }
                    _ => {}
                }
                prop_assert_eq!(allocation.used() as usize, used.len());
            }
        }
    }
}
