//! The Merkle tree over the records, with the hashing of RFC 9162, section 2.1. A tree that grows is kept as the roots of
//! its whole subtrees alone, at most 64 of them, so that it takes no memory and a log can go on from any segment. It
//! knows no record and no file.

#[cfg(test)]
mod tests;

use aral_contract::Digest;
use sha2::{Digest as _, Sha256};

/// Longest inclusion proof: a tree has fewer than 2^64 leaves. Stops a receipt that is made of hashes.
pub const PROOF_NODES_MAX: usize = 64;

/// The hash of a leaf. The first byte keeps a leaf from passing for a node.
pub fn leaf_hash(record: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::new().chain_update([0]).chain_update(record).finalize().into())
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut both = [1u8; 65];
    let children = left.as_bytes().iter().chain(right.as_bytes());
    both.iter_mut().skip(1).zip(children).for_each(|(to, from)| *to = *from);
    Digest::from_bytes(Sha256::digest(both).into())
}

/// The largest power of two below `size`, where a tree of that size is parted. None below two.
fn parting(size: u64) -> Option<u64> {
    size.checked_sub(1)?
        .checked_ilog2()
        .and_then(|power| 1u64.checked_shl(power))
}

/// A tree that grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Roots of the whole subtrees, largest and leftmost first: one for each bit that is set in `size`.
    peaks: Vec<Digest>,
}

impl Tree {
    /// A tree of `size` leaves from the roots of its whole subtrees. None if there are more or fewer of them than it has.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() as u64 == u64::from(size.count_ones())).then_some(Self { size, peaks })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the whole subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Digest) {
        let mut root = leaf;
        // Each bit at the end that is set is a whole subtree as large as the one that is now whole.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                root = node_hash(&left, &root);
            }
        }
        self.peaks.push(root);
        self.size = self.size.saturating_add(1);
    }

    /// The root. That of the empty tree is the hash of nothing.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(smallest) => peaks.fold(*smallest, |right, left| node_hash(left, &right)),
            None => Digest::of(b""),
        }
    }
}

/// What is known of a tree whose first leaves are gone: the roots of the whole subtrees over those, and every later leaf.
#[derive(Debug, Clone)]
pub struct Window {
    before: Tree,
    leaves: Vec<Digest>,
}

impl Window {
    /// Nothing but what came before.
    pub fn after(before: Tree) -> Self {
        Self {
            before,
            leaves: Vec::new(),
        }
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Digest) {
        self.leaves.push(leaf);
    }

    /// The proof that leaf `index` is in the tree of the first `size` leaves: the siblings on its way to the root,
    /// lowest first. None if that leaf or that tree is not in this window.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        let end = self.before.size.checked_add(self.leaves.len() as u64)?;
        if index < self.before.size || index >= size || size > end {
            return None;
        }
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while let Some(left) = parting(end.checked_sub(start)?) {
            let middle = start.checked_add(left)?;
            if index < middle {
                path.push(self.node(middle, end)?);
                end = middle;
            } else {
                path.push(self.node(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The root of the subtree over the leaves from `start` to `end`.
    fn node(&self, start: u64, end: u64) -> Option<Digest> {
        if end <= self.before.size {
            return self.peak(start, end);
        }
        if end.checked_sub(start)? == 1 {
            let place = usize::try_from(start.checked_sub(self.before.size)?).ok()?;
            return self.leaves.get(place).copied();
        }
        let middle = start.checked_add(parting(end.checked_sub(start)?)?)?;
        Some(node_hash(&self.node(start, middle)?, &self.node(middle, end)?))
    }

    /// A subtree that lies before the window, and whose sibling does not, is one of those whose roots are kept.
    fn peak(&self, start: u64, end: u64) -> Option<Digest> {
        let mut at = 0u64;
        for (bit, peak) in (0..u64::BITS)
            .rev()
            .filter(|bit| self.before.size >> bit & 1 == 1)
            .zip(&self.before.peaks)
        {
            let next = at.checked_add(1 << bit)?;
            if (at, next) == (start, end) {
                return Some(*peak);
            }
            at = next;
        }
        None
    }
}

/// Whether `proof` shows that `leaf` is number `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(index: u64, size: u64, leaf: &Digest, proof: &[Digest], root: &Digest) -> bool {
    if index >= size || proof.len() > PROOF_NODES_MAX {
        return false;
    }
    let (mut place, mut last) = (index, size.saturating_sub(1));
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            // Levels at which this node has no sibling leave no trace in the proof.
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == *root
}
