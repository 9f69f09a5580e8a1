//! Changes to bytes that were good: what somebody does to them who has a file or a line in hand and no key.

use arbitrary::Arbitrary;

/// More changes than these are no change any more but other bytes.
const EDITS_MAX: usize = 16;
/// Longest that edited bytes become, in times what they were, and a few bytes.
const GROWTH_MAX: usize = 2;
const GROWTH_BYTES: usize = 256;

/// One change. Places are taken modulo the length, so that each of them is one.
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
pub enum Edit {
    /// Another byte at a place.
    Set {
        /// Where.
        at: u32,
        /// Which one.
        to: u8,
    },
    /// A bit of a byte is another one.
    Flip {
        /// Where.
        at: u32,
        /// Which, modulo 8.
        bit: u8,
    },
    /// Bytes that go.
    Remove {
        /// From where.
        at: u32,
        /// How many.
        count: u8,
    },
    /// Bytes that come.
    Insert {
        /// Before which.
        at: u32,
        /// Which.
        bytes: Vec<u8>,
    },
    /// What stands at one place stands at another instead.
    Copy {
        /// Where from.
        from: u32,
        /// Where to.
        to: u32,
        /// How many bytes.
        count: u16,
    },
    /// A piece that is zero, as a disk gives back what it lost.
    Zero {
        /// From where.
        at: u32,
        /// How many bytes.
        count: u16,
    },
    /// The end is gone.
    Cut {
        /// From where.
        at: u32,
    },
}

/// Changes one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
pub struct Edits(pub Vec<Edit>);

impl Edits {
    /// The bytes as they are then.
    pub fn of(&self, good: &[u8]) -> Vec<u8> {
        let bytes_max = good.len().saturating_mul(GROWTH_MAX).saturating_add(GROWTH_BYTES);
        let mut bytes = good.to_vec();
        for edit in self.0.iter().take(EDITS_MAX) {
            edit.apply(&mut bytes);
            bytes.truncate(bytes_max);
        }
        bytes
    }
}

fn place(at: u32, length: usize) -> usize {
    usize::try_from(at).unwrap_or_default() % length.max(1)
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let end = |from: usize, count: usize| from.saturating_add(count).min(length);
        match self {
            Self::Set { at, to } => {
                if let Some(byte) = bytes.get_mut(place(*at, length)) {
                    *byte = *to;
                }
            }
            Self::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(place(*at, length)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Remove { at, count } => {
                let from = place(*at, length);
                bytes.drain(from.min(length)..end(from, usize::from(*count)));
            }
            Self::Insert { at, bytes: more } => {
                let from = place(*at, length.saturating_add(1));
                bytes.splice(from..from, more.iter().copied());
            }
            Self::Copy { from, to, count } => {
                let from = place(*from, length);
                let piece = bytes
                    .get(from..end(from, usize::from(*count)))
                    .unwrap_or_default()
                    .to_vec();
                let targets = bytes.iter_mut().skip(place(*to, length));
                targets.zip(piece).for_each(|(to, from)| *to = from);
            }
            Self::Zero { at, count } => {
                let pieces = bytes.iter_mut().skip(place(*at, length)).take(usize::from(*count));
                pieces.for_each(|byte| *byte = 0);
            }
            Self::Cut { at } => bytes.truncate(place(*at, length.saturating_add(1))),
        }
    }
}
