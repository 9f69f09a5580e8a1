//! A report as text in one of three formats. It knows no files.

use std::fmt::Write;

use aral_guest::prelude::*;
use serde_json::{Number, Value};

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Headings, text and pipe tables.
    #[default]
    Markdown,
    /// One table.
    Csv,
    /// The report as it is given.
    Json,
}

/// A report: a title and sections in order.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// The title.
    title: String,
    /// The sections, in order.
    #[serde(default)]
    sections: Vec<Section>,
}

/// A part of a report: each member may be left out.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Section {
    /// Its heading.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    heading: String,
    /// Its text, which may be Markdown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    /// A table below the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table>,
}

/// Columns and rows of the same width.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// What the columns are called.
    columns: Vec<String>,
    /// The rows; each has one cell for each column.
    rows: Vec<Vec<Cell>>,
}

/// What a cell can hold.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
enum Cell {
    Number(Number),
    Bool(bool),
    Text(String),
    Nothing(()),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Text(text) => text.clone(),
            Self::Nothing(()) => String::new(),
        }
    }
}

impl Format {
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    pub(crate) fn render(self, report: &Report) -> Result<String> {
        for table in report.sections.iter().filter_map(|section| section.table.as_ref()) {
            check_width(table)?;
        }
        match self {
            Self::Markdown => Ok(markdown(report)?),
            Self::Csv => csv(report),
            Self::Json => {
                let value: Value = serde_json::to_value(report)?;
                Ok(format!("{value:#}\n"))
            }
        }
    }
}

fn check_width(table: &Table) -> Result<()> {
    if table.columns.is_empty() {
        return Err(Error::invalid_input("a table has no columns"));
    }
    for (index, row) in table.rows.iter().enumerate() {
        if row.len() != table.columns.len() {
            return Err(Error::invalid_input(format!(
                "row {} of a table has {} cells for {} columns",
                index.saturating_add(1),
                row.len(),
                table.columns.len()
            )));
        }
    }
    Ok(())
}

fn markdown(report: &Report) -> std::result::Result<String, std::fmt::Error> {
    let mut out = format!("# {}\n", one_line(&report.title));
    for section in &report.sections {
        if !section.heading.is_empty() {
            writeln!(out, "\n## {}", one_line(&section.heading))?;
        }
        if !section.text.is_empty() {
            writeln!(out, "\n{}", section.text.trim_end())?;
        }
        if let Some(table) = &section.table {
            out.push('\n');
            row(&mut out, table.columns.iter().map(|column| markdown_cell(column)))?;
            row(&mut out, table.columns.iter().map(|_| "---".to_owned()))?;
            for cells in &table.rows {
                row(&mut out, cells.iter().map(|cell| markdown_cell(&cell.text())))?;
            }
        }
    }
    Ok(out)
}

fn row(out: &mut String, cells: impl Iterator<Item = String>) -> std::fmt::Result {
    out.push('|');
    for cell in cells {
        write!(out, " {cell} |")?;
    }
    out.push('\n');
    Ok(())
}

/// A heading that holds a line break would end early, and what follows would be read as text.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn markdown_cell(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|")
}

fn csv(report: &Report) -> Result<String> {
    let mut tables = report.sections.iter().filter_map(|section| section.table.as_ref());
    let (Some(table), None) = (tables.next(), tables.next()) else {
        return Err(Error::invalid_input(
            "a CSV file holds exactly one table: give one section with a `table`",
        ));
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let internal = |error: csv::Error| Error::internal(error.to_string());
    writer
        .write_record(table.columns.iter().map(|column| csv_cell(column)))
        .map_err(internal)?;
    for cells in &table.rows {
        let cells = cells.iter().map(|cell| match cell {
            Cell::Text(text) => csv_cell(text),
            other => other.text(),
        });
        writer.write_record(cells).map_err(internal)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(String::from_utf8(bytes)?)
}

/// A text that begins like a formula is run by spreadsheets when a person opens the file; an apostrophe keeps it a text.
fn csv_cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula && text.parse::<f64>().is_err() {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn markdown_cannot_be_broken_out_of_a_cell_or_a_heading() {
        let report = report(
            r##"{"title":"A\n# B","sections":[{"heading":"C\n\nD","table":{"columns":["x|y"],"rows":[["a\n| b \\"],[null]]}}]}"##,
        );
        assert_eq!(
            Format::Markdown.render(&report).unwrap(),
            "# A # B\n\n## C D\n\n| x\\|y |\n| --- |\n| a \\| b \\\\ |\n|  |\n"
        );
    }

    #[test]
    fn csv_is_quoted_and_holds_no_formulas() {
        let report = report(
            r#"{"title":"T","sections":[{"table":{"columns":["a","b"],"rows":[["x,\"y\"",1.5],["=1+1",true],["-3",null]]}}]}"#,
        );
        assert_eq!(
            Format::Csv.render(&report).unwrap(),
            "a,b\n\"x,\"\"y\"\"\",1.5\n'=1+1,true\n-3,\n"
        );
    }

    #[test]
    fn csv_needs_one_table() {
        for text in [
            r#"{"title":"T"}"#,
            r#"{"title":"T","sections":[{"table":{"columns":["a"],"rows":[]}},{"table":{"columns":["a"],"rows":[]}}]}"#,
        ] {
            assert!(matches!(Format::Csv.render(&report(text)), Err(Error::InvalidInput(_))));
        }
    }

    #[test]
    fn ragged_tables_are_refused_in_every_format() {
        let ragged = r#"{"title":"T","sections":[{"table":{"columns":["a","b"],"rows":[["1","2"],["3"]]}}]}"#;
        for format in [Format::Markdown, Format::Csv, Format::Json] {
            let answer = format.render(&report(ragged));
            assert!(matches!(answer, Err(Error::InvalidInput(text)) if text.contains("row 2")));
        }
    }

    #[test]
    fn json_keeps_what_was_given() {
        let text =
            r#"{"title":"T","sections":[{"heading":"H","table":{"columns":["a"],"rows":[[1],[null],["x"],[false]]}}]}"#;
        let rendered = Format::Json.render(&report(text)).unwrap();
        let given: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), given);
    }
}
