//! The first rows of a sorted answer, kept while the others go by: memory for `offset + limit` rows, whatever the file.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use aral_guest::prelude::*;
use serde_json::Value;

use crate::value::{Cell, json_bytes};

/// Bytes of the rows that are kept, about.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which way to sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The smallest first.
    #[default]
    Ascending,
    /// The largest first.
    Descending,
}

/// A column to sort by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SortColumn {
    /// A column of the answer.
    pub(crate) column: String,
    /// Which way.
    #[serde(default)]
    pub(crate) order: Order,
}

/// By which places of a row to sort. Without any, rows keep the order in which they came.
pub(crate) type SortKeys = Rc<[(usize, Order)]>;

pub(crate) struct Top {
    keys: SortKeys,
    rows_max: usize,
    heap: BinaryHeap<Kept>,
    bytes: usize,
    sequence: u64,
    overflowed: bool,
}

struct Kept {
    cells: Vec<Value>,
    sequence: u64,
    keys: SortKeys,
}

impl Top {
    pub(crate) fn new(keys: SortKeys, rows_max: usize) -> Self {
        Self {
            keys,
            rows_max,
            heap: BinaryHeap::new(),
            bytes: 0,
            sequence: 0,
            overflowed: false,
        }
    }

    /// Whether rows that come now cannot change the answer: it is full, and nothing is sorted.
    pub(crate) fn is_settled(&self) -> bool {
        self.overflowed && self.keys.is_empty()
    }

    /// Takes a row if it belongs to the first ones. `cell` shows the row, so that one that does not costs no copy.
    pub(crate) fn take<'a>(&mut self, width: usize, cell: impl Fn(usize) -> Cell<'a>) -> Result<()> {
        if self.heap.len() >= self.rows_max {
            self.overflowed = true;
            let beats_last = self
                .heap
                .peek()
                .is_some_and(|last| compare(&self.keys, &cell, |place| last.cell(place)).is_lt());
            if !beats_last {
                return Ok(());
            }
            if let Some(last) = self.heap.pop() {
                self.bytes = self.bytes.saturating_sub(row_bytes(&last.cells));
            }
        }
        let cells: Vec<Value> = (0..width).map(|place| cell(place).json()).collect();
        self.bytes = self.bytes.saturating_add(row_bytes(&cells));
        if self.bytes > KEPT_BYTES_MAX {
            return Err(Error::limit(format!(
                "the rows to return take more than {KEPT_BYTES_MAX} bytes: ask for fewer rows or columns"
            )));
        }
        self.heap.push(Kept {
            cells,
            sequence: self.sequence,
            keys: Rc::clone(&self.keys),
        });
        self.sequence = self.sequence.saturating_add(1);
        Ok(())
    }

    /// The rows in order, and whether there were more.
    pub(crate) fn finish(self) -> (Vec<Vec<Value>>, bool) {
        let rows = self.heap.into_sorted_vec().into_iter().map(|kept| kept.cells).collect();
        (rows, self.overflowed)
    }
}

fn row_bytes(cells: &[Value]) -> usize {
    cells.iter().map(json_bytes).fold(32, usize::saturating_add)
}

impl Kept {
    fn cell(&self, place: usize) -> Cell<'_> {
        self.cells.get(place).map_or(Cell::Nothing, Cell::of_json)
    }
}

fn compare<'a, 'b>(
    keys: &[(usize, Order)],
    one: impl Fn(usize) -> Cell<'a>,
    two: impl Fn(usize) -> Cell<'b>,
) -> Ordering {
    keys.iter()
        .map(|(place, order)| {
            let (one, two) = (one(*place), two(*place));
            // Empty cells come last either way.
            match (one.is_empty(), two.is_empty(), order) {
                (true, true, _) => Ordering::Equal,
                (true, false, _) => Ordering::Greater,
                (false, true, _) => Ordering::Less,
                (false, false, Order::Ascending) => one.compare(two),
                (false, false, Order::Descending) => two.compare(one),
            }
        })
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.keys, |place| self.cell(place), |place| other.cell(place))
            .then(self.sequence.cmp(&other.sequence))
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(keys: &[(usize, Order)], rows_max: usize, rows: &[&[&str]]) -> (Vec<String>, bool) {
        let mut top = Top::new(keys.into(), rows_max);
        for row in rows {
            top.take(row.len(), |place| Cell::Text(row[place])).unwrap();
        }
        let (rows, more) = top.finish();
        let text = |row: Vec<Value>| {
            row.iter()
                .map(|cell| cell.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        (rows.into_iter().map(text).collect(), more)
    }

    #[test]
    fn the_first_rows_in_order() {
        let rows: &[&[&str]] = &[&["b", "2"], &["a", "10"], &["", "3"], &["a", "9"], &["c", "1"]];
        let check = |keys: &[(usize, Order)], rows_max, expected: &[&str], more| {
            let (got, got_more) = top(keys, rows_max, rows);
            assert_eq!(
                (got.as_slice(), got_more),
                (
                    expected
                        .iter()
                        .map(|row| (*row).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    more
                )
            );
        };
        check(&[], 2, &["b 2", "a 10"], true);
        check(&[(1, Order::Descending)], 2, &["a 10", "a 9"], true);
        check(
            &[(0, Order::Ascending), (1, Order::Ascending)],
            9,
            &["a 9", "a 10", "b 2", "c 1", " 3"],
            false,
        );
        check(
            &[(0, Order::Descending)],
            9,
            &["c 1", "b 2", "a 10", "a 9", " 3"],
            false,
        );
        check(&[(0, Order::Ascending)], 1, &["a 10"], true);
    }

    #[test]
    fn rows_that_are_too_long_for_memory() {
        let long = "x".repeat(1024 * 1024);
        let mut top = Top::new([].into(), 100);
        let answer = (0..100).try_for_each(|_| top.take(1, |_| Cell::Text(&long)));
        assert!(matches!(answer, Err(Error::Limit(_))));
    }
}
