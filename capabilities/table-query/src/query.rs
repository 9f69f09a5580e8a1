//! One question from beginning to end: which columns are needed, one pass over the rows, and the answer.

use aral_guest::prelude::*;
use serde_json::Value;

use crate::Input;
use crate::aggregate::Aggregate;
use crate::filter::Filter;
use crate::group::Groups;
use crate::row::Row;
use crate::source::Source;
use crate::top::{SortKeys, Top};
use crate::value::{Cell, Output, json_bytes};

/// Rows that `offset` and `limit` may ask for.
const LIMIT_MAX: usize = 10_000;
const OFFSET_MAX: usize = 100_000;

/// Columns of an answer.
const OUTPUT_COLUMNS_MAX: usize = 200;

/// Bytes of an answer, about: as JSON it stays below the host's output limit.
const OUTPUT_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(crate) fn run(input: &Input, mut source: Source) -> Result<Output> {
    check(input)?;
    let grouped = !input.group_by.is_empty() || !input.aggregates.is_empty();
    let mut wanted = Wanted::default();
    let filter = Filter::new(&input.conditions, input.matching, |column| wanted.slot(column))?;
    let columns = output_columns(input, &source, grouped)?;
    let keys = sort_keys(input, &columns)?;
    let mut top = Top::new(keys, input.offset.saturating_add(input.limit));

    if grouped {
        let mut groups = Groups::new(&input.group_by, &input.aggregates, |column| wanted.slot(column))?;
        source.want(&wanted.columns)?;
        let (rows_read, rows_matched) = each_row(&mut source, &filter, |row| groups.take(row).map(|()| Next::Go))?;
        let mut warnings = source.warnings();
        warnings.append(&mut groups.warnings());
        let group_count = groups.len();
        for row in groups.into_rows() {
            top.take(row.len(), |place| row.get(place).map_or(Cell::Nothing, Cell::of_json))?;
        }
        let groups = (!input.group_by.is_empty()).then_some(group_count);
        answer(input, columns, top, (rows_read, rows_matched), groups, warnings)
    } else {
        let slots = columns
            .iter()
            .map(|column| wanted.slot(column))
            .collect::<Result<Vec<_>>>()?;
        source.want(&wanted.columns)?;
        let counts = each_row(&mut source, &filter, |row| {
            top.take(slots.len(), |place| {
                slots.get(place).map_or(Cell::Nothing, |slot| row.cell(*slot))
            })?;
            Ok(if top.is_settled() { Next::Stop } else { Next::Go })
        })?;
        let warnings = source.warnings();
        answer(input, columns, top, counts, None, warnings)
    }
}

fn check(input: &Input) -> Result<()> {
    if !(1..=LIMIT_MAX).contains(&input.limit) || input.offset > OFFSET_MAX {
        return Err(Error::invalid_input(format!(
            "`limit` is 1 to {LIMIT_MAX} and `offset` at most {OFFSET_MAX}"
        )));
    }
    let grouped = !input.group_by.is_empty() || !input.aggregates.is_empty();
    if grouped && !input.select.is_empty() {
        return Err(Error::invalid_input(
            "`select` goes with neither `group_by` nor `aggregates`",
        ));
    }
    Ok(())
}

/// The columns that rows must hold, each once.
#[derive(Default)]
struct Wanted {
    columns: Vec<String>,
}

impl Wanted {
    fn slot(&mut self, column: &str) -> Result<usize> {
        if let Some(slot) = self.columns.iter().position(|wanted| wanted == column) {
            return Ok(slot);
        }
        self.columns.push(column.to_owned());
        Ok(self.columns.len().saturating_sub(1))
    }
}

fn output_columns(input: &Input, source: &Source, grouped: bool) -> Result<Vec<String>> {
    let columns: Vec<String> = if grouped {
        input
            .group_by
            .iter()
            .cloned()
            .chain(input.aggregates.iter().map(Aggregate::name))
            .collect()
    } else if input.select.is_empty() {
        source.columns().to_vec()
    } else {
        input.select.clone()
    };
    if columns.len() > OUTPUT_COLUMNS_MAX {
        return Err(Error::limit(format!(
            "the answer has {} columns, at most {OUTPUT_COLUMNS_MAX} are possible: name those you need in `select`",
            columns.len()
        )));
    }
    Ok(columns)
}

fn sort_keys(input: &Input, columns: &[String]) -> Result<SortKeys> {
    let mut keys = Vec::with_capacity(input.sort.len());
    for sort in &input.sort {
        let place = columns
            .iter()
            .position(|column| *column == sort.column)
            .ok_or_else(|| {
                let known: Vec<_> = columns.iter().take(50).map(|column| format!("`{column}`")).collect();
                Error::invalid_input(format!(
                    "`sort` names `{}`; the answer has {}",
                    sort.column,
                    known.join(", ")
                ))
            })?;
        keys.push((place, sort.order));
    }
    Ok(keys.into())
}

enum Next {
    Go,
    Stop,
}

/// How many rows were read, and how many the filter let through.
fn each_row(source: &mut Source, filter: &Filter, mut take: impl FnMut(&Row) -> Result<Next>) -> Result<(u64, u64)> {
    let mut row = Row::default();
    let (mut read, mut matched) = (0_u64, 0_u64);
    while source.read(&mut row)? {
        read = read.saturating_add(1);
        if filter.lets_through(&row) {
            matched = matched.saturating_add(1);
            if let Next::Stop = take(&row)? {
                break;
            }
        }
    }
    Ok((read, matched))
}

fn answer(
    input: &Input,
    columns: Vec<String>,
    top: Top,
    (rows_read, rows_matched): (u64, u64),
    groups: Option<usize>,
    warnings: Vec<String>,
) -> Result<Output> {
    let (rows, truncated) = top.finish();
    let rows: Vec<Vec<Value>> = rows.into_iter().skip(input.offset).collect();
    let bytes = rows.iter().flatten().map(json_bytes).fold(0, usize::saturating_add);
    if bytes > OUTPUT_BYTES_MAX {
        return Err(Error::limit(format!(
            "the answer takes more than {OUTPUT_BYTES_MAX} bytes: ask for fewer rows or columns"
        )));
    }
    Ok(Output {
        columns,
        rows,
        rows_read,
        rows_matched,
        groups,
        truncated,
        warnings,
    })
}
