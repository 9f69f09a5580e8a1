//! Questions to a table in a file: filter, group, aggregate, sort, limit, over CSV, TSV or JSON Lines of any length. The
//! file is read once, row by row; memory grows with the answer and the number of groups, each of which has a limit, never
//! with the file.

mod aggregate;
mod filter;
mod group;
mod query;
mod row;
mod source;
mod top;
mod value;

use aral_guest::prelude::*;

use crate::value::Output;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The file, relative to `folder`.
    file: String,
    /// The folder; the first granted one if absent.
    folder: Option<String>,
    /// How the file is written; by its ending (`.csv`, `.tsv`, `.jsonl`, `.ndjson`) if absent.
    format: Option<source::Format>,
    /// The character between the cells of a CSV file, such as `;`.
    delimiter: Option<char>,
    /// Whether the first row of a CSV or TSV file names the columns. Otherwise they are called `1`, `2`, …
    #[serde(default = "yes")]
    header: bool,
    /// The columns to return, in this order; all if empty. Not together with `group_by` or `aggregates`.
    #[serde(default)]
    select: Vec<String>,
    /// Which rows count.
    #[serde(default, rename = "where")]
    conditions: Vec<filter::Condition>,
    /// Whether all conditions must hold, or any.
    #[serde(default, rename = "match")]
    matching: filter::Matching,
    /// Columns whose values make the groups.
    #[serde(default)]
    group_by: Vec<String>,
    /// What to compute for each group, or for all rows if there is no `group_by`.
    #[serde(default)]
    aggregates: Vec<aggregate::Aggregate>,
    /// By which columns of the answer to sort, the most important first. Empty cells come last.
    #[serde(default)]
    sort: Vec<top::SortColumn>,
    /// Rows to leave out at the beginning of the answer.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100000))]
    offset: usize,
    /// Rows to return.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 10000))]
    limit: usize,
}

fn yes() -> bool {
    true
}

fn default_limit() -> usize {
    100
}

fn run(input: Input) -> Result<Output> {
    let source = source::open(&input)?;
    let output = query::run(&input, source)?;
    log::debug(format_args!(
        "read {} rows, {} matched",
        output.rows_read, output.rows_matched
    ));
    Ok(output)
}

capability! {
    title: "Query a table",
    description: "Filters, groups, aggregates and sorts the rows of a CSV, TSV or JSON Lines file of any length. Cells that \
                  are numbers are compared and summed as numbers, all others as text.",
    run: run,
}

#[cfg(test)]
mod tests;
