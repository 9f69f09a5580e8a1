//! One row, holding only the columns that a query uses. It is filled again and again: reading a row allocates nothing once
//! the buffer has grown to the longest.

use crate::value::{Cell, Number};

#[derive(Debug, Clone, Copy)]
enum Slot {
    Nothing,
    Bool(bool),
    Number(Number),
    Text { begin: usize, end: usize },
}

/// A row with a slot for each column in use.
#[derive(Debug, Default)]
pub(crate) struct Row {
    text: String,
    slots: Vec<Slot>,
}

impl Row {
    /// Empties the row and gives it this many slots.
    pub(crate) fn reset(&mut self, slots: usize) {
        self.text.clear();
        self.slots.clear();
        self.slots.resize(slots, Slot::Nothing);
    }

    pub(crate) fn set(&mut self, slot: usize, cell: Cell<'_>) {
        let value = match cell {
            Cell::Nothing => Slot::Nothing,
            Cell::Bool(truth) => Slot::Bool(truth),
            Cell::Number(number) => Slot::Number(number),
            Cell::Text(text) => {
                let begin = self.text.len();
                self.text.push_str(text);
                Slot::Text {
                    begin,
                    end: self.text.len(),
                }
            }
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = value;
        }
    }

    /// The cell of a slot; nothing for a slot that is not there.
    pub(crate) fn cell(&self, slot: usize) -> Cell<'_> {
        match self.slots.get(slot).copied() {
            None | Some(Slot::Nothing) => Cell::Nothing,
            Some(Slot::Bool(truth)) => Cell::Bool(truth),
            Some(Slot::Number(number)) => Cell::Number(number),
            Some(Slot::Text { begin, end }) => self.text.get(begin..end).map_or(Cell::Nothing, Cell::Text),
        }
    }
}
