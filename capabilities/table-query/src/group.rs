//! Groups: rows with the same values in some columns, and what is known of each so far. What they take in memory has a
//! limit, and reaching it is an error that says what to do, not a call that dies.

use std::collections::HashMap;

use aral_guest::prelude::*;
use serde_json::Value;

use crate::aggregate::{Aggregate, Function, State};
use crate::row::Row;
use crate::value::Cell;

/// Groups in one answer.
const GROUPS_MAX: usize = 100_000;

/// Bytes that all groups may take, about.
const GROUP_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Bytes that a group takes besides its texts, about.
const GROUP_BYTES: usize = 128;

/// Separates the parts of a key; escaped inside of them.
const SEPARATOR: char = '\u{1f}';

pub(crate) struct Groups {
    key_slots: Vec<usize>,
    functions: Vec<(Function, Option<usize>)>,
    names: Vec<String>,
    groups: HashMap<String, Group>,
    key: String,
    bytes: usize,
    /// For each aggregate, how many cells were no numbers.
    not_numbers: Vec<u64>,
}

struct Group {
    values: Vec<Value>,
    states: Vec<State>,
}

impl Groups {
    /// `slot` says where a row holds a column.
    pub(crate) fn new(
        group_by: &[String],
        aggregates: &[Aggregate],
        mut slot: impl FnMut(&str) -> Result<usize>,
    ) -> Result<Self> {
        let key_slots = group_by.iter().map(|column| slot(column)).collect::<Result<Vec<_>>>()?;
        let mut functions = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            let slot = match &aggregate.column {
                Some(column) => Some(slot(column)?),
                None if aggregate.function == Function::Count => None,
                None => return Err(Error::invalid_input("each aggregate but `count` needs a `column`")),
            };
            functions.push((aggregate.function, slot));
        }
        let mut groups = Self {
            key_slots,
            not_numbers: vec![0; functions.len()],
            functions,
            names: aggregates.iter().map(Aggregate::name).collect(),
            groups: HashMap::new(),
            key: String::new(),
            bytes: 0,
        };
        if group_by.is_empty() {
            // No rows at all have a count, too.
            groups.insert(&Row::default())?;
        }
        Ok(groups)
    }

    pub(crate) fn take(&mut self, row: &Row) -> Result<()> {
        self.key.clear();
        for slot in &self.key_slots {
            push_key(&mut self.key, row.cell(*slot));
        }
        if !self.groups.contains_key(self.key.as_str()) {
            self.insert(row)?;
        }
        let Some(group) = self.groups.get_mut(self.key.as_str()) else {
            return Err(Error::internal("a group was lost"));
        };
        for (((_, slot), state), not_numbers) in self.functions.iter().zip(&mut group.states).zip(&mut self.not_numbers)
        {
            let Some(slot) = slot else {
                state.count_row();
                continue;
            };
            let cell = row.cell(*slot);
            if cell.is_empty() {
                continue;
            }
            let before = state.held_bytes();
            if !state.take(cell) {
                *not_numbers = not_numbers.saturating_add(1);
            }
            self.bytes = self.bytes.saturating_add(state.held_bytes()).saturating_sub(before);
        }
        check_bytes(self.bytes)
    }

    fn insert(&mut self, row: &Row) -> Result<()> {
        if self.groups.len() >= GROUPS_MAX {
            return Err(Error::limit(format!(
                "there are more than {GROUPS_MAX} groups: group by a column with fewer values, or filter first"
            )));
        }
        let states = self
            .functions
            .iter()
            .map(|(function, _)| State::new(*function))
            .collect::<Vec<_>>();
        self.bytes = self
            .bytes
            .saturating_add(GROUP_BYTES)
            .saturating_add(self.key.len().saturating_mul(2))
            .saturating_add(states.len().saturating_mul(size_of::<State>()));
        check_bytes(self.bytes)?;
        let values = self.key_slots.iter().map(|slot| row.cell(*slot).json()).collect();
        self.groups.insert(self.key.clone(), Group { values, states });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// What was left out, for each aggregate where something was.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let counted = self
            .names
            .iter()
            .zip(&self.not_numbers)
            .filter(|(_, count)| **count > 0);
        counted
            .map(|(name, count)| format!("`{name}` leaves out {count} cells that are not numbers"))
            .collect()
    }

    /// Each group as a row of the answer, in the order of the keys.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Vec<Value>> {
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
        groups.into_iter().map(|(_, group)| {
            let results = group.states.iter().map(State::result);
            group.values.iter().cloned().chain(results).collect()
        })
    }
}

fn check_bytes(bytes: usize) -> Result<()> {
    if bytes > GROUP_BYTES_MAX {
        return Err(Error::limit(format!(
            "the groups take more than {GROUP_BYTES_MAX} bytes: group by shorter or fewer values, or filter first"
        )));
    }
    Ok(())
}

/// Cells of different kinds, and parts of different lengths, never look alike in a key.
fn push_key(key: &mut String, cell: Cell<'_>) {
    match cell {
        Cell::Nothing => key.push('n'),
        Cell::Bool(_) => key.push('b'),
        Cell::Number(_) => key.push('d'),
        Cell::Text(_) => key.push('t'),
    }
    let text = cell.text();
    if text.contains([SEPARATOR, '\\']) {
        key.push_str(&text.replace('\\', "\\\\").replace(SEPARATOR, "\\u"));
    } else {
        key.push_str(&text);
    }
    key.push(SEPARATOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_look_alike() {
        let keys = [
            [Cell::Text("a"), Cell::Text("b")],
            [Cell::Text("a\u{1f}tb"), Cell::Text("")],
            [Cell::Text("a\\u"), Cell::Text("b")],
            [Cell::Text("a\u{1f}"), Cell::Text("b")],
            [Cell::Nothing, Cell::Text("")],
            [Cell::Text(""), Cell::Nothing],
            [Cell::Bool(true), Cell::Text("x")],
            [Cell::Text("true"), Cell::Text("x")],
        ]
        .map(|cells| {
            let mut key = String::new();
            cells.into_iter().for_each(|cell| push_key(&mut key, cell));
            key
        });
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn too_many_groups_and_too_long_ones() {
        let fill = |text: fn(usize) -> String| -> Result<()> {
            let mut groups = Groups::new(&["a".to_owned()], &[], |_| Ok(0))?;
            let mut row = Row::default();
            for number in 0..=GROUPS_MAX {
                row.reset(1);
                row.set(0, Cell::Text(&text(number)));
                groups.take(&row)?;
            }
            Ok(())
        };
        assert!(matches!(fill(|number| number.to_string()), Err(Error::Limit(text)) if text.contains("100000 groups")));
        assert!(matches!(fill(|number| format!("{number:02000}")), Err(Error::Limit(text)) if text.contains("bytes")));
    }
}
