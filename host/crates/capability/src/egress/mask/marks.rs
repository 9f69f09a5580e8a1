//! Where echoes are. Each byte is overwritten once, however many echoes it is in: a secret that repeats itself ends at every byte
//! of an answer that does, in every way to read it.

use std::collections::VecDeque;
use std::ops::Range;

use super::MASK;

#[derive(Default)]
pub(super) struct Marks {
    /// What is marked, in order; no two of them meet.
    marked: VecDeque<Range<u64>>,
    /// What of it is still to be overwritten.
    pub(super) fresh: Vec<Range<u64>>,
}

impl Marks {
    /// Marks one more place.
    pub(super) fn add(&mut self, mark: Range<u64>) {
        let first = self.marked.partition_point(|other| other.end < mark.start);
        let behind = self.marked.partition_point(|other| other.start <= mark.end).max(first);
        let mut whole = mark.clone();
        let mut unmarked = mark.start;
        // Nearly all are at the end, where the stream is read: few stand behind them.
        for other in self.marked.drain(first..behind) {
            if unmarked < other.start {
                self.fresh.push(unmarked..other.start);
            }
            unmarked = unmarked.max(other.end);
            whole = whole.start.min(other.start)..whole.end.max(other.end);
        }
        if unmarked < mark.end {
            self.fresh.push(unmarked..mark.end);
        }
        self.marked.insert(first, whole);
    }

    /// Overwrites what was marked since the last time. The bytes begin at `start` of the stream; what stood before them is gone.
    pub(super) fn overwrite(&mut self, bytes: &mut [u8], start: u64) {
        let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        for mark in self.fresh.drain(..) {
            let (from, to) = (within(mark.start), within(mark.end).min(bytes.len()));
            if let Some(echo) = bytes.get_mut(from..to) {
                echo.fill(MASK);
            }
        }
        let gone = self.marked.partition_point(|mark| mark.end <= start);
        self.marked.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order, each byte that is marked is overwritten once, and no other.
        #[test]
        fn each_marked_byte_is_overwritten_once(
            places in prop::collection::vec((0_u64..60, 1_u64..12), 0..40),
            pause in 1_usize..10,
        ) {
            let mut marks = Marks::default();
            let (mut bytes, mut expected, mut times) = ([b'.'; 80], [b'.'; 80], [0; 80]);
            for places in places.chunks(pause) {
                for (start, length) in places {
                    marks.add(*start..*start + *length);
                    for at in *start..*start + *length {
                        expected[usize::try_from(at).unwrap()] = MASK;
                    }
                }
                for at in marks.fresh.iter().cloned().flatten() {
                    times[usize::try_from(at).unwrap()] += 1;
                }
                marks.overwrite(&mut bytes, 0);
                prop_assert_eq!(&bytes[..], &expected[..]);
            }
            prop_assert!(times.iter().zip(&bytes).all(|(times, byte)| *times == i32::from(*byte == MASK)));
            let ordered = marks.marked.make_contiguous().windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(ordered, "{:?}", marks.marked);
        }
    }

    #[test]
    fn what_stands_before_the_bytes_is_forgotten() {
        let mut marks = Marks::default();
        marks.add(2..5);
        marks.add(8..12);
        let mut bytes = [b'.'; 6];
        marks.overwrite(&mut bytes, 10);
        assert_eq!((&bytes, marks.marked.len()), (b"**....", 1));
        // It reaches back, and over what is marked already.
        marks.add(1..14);
        marks.overwrite(&mut bytes, 10);
        assert_eq!(&bytes, b"****..");
    }
}
