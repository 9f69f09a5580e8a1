//! Rows from a file, one at a time, of bounded length. It knows which columns are wanted, and nothing of what is asked.

mod delimited;
mod json_lines;
mod limited;

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use aral_guest::prelude::*;

use crate::Input;
use crate::row::Row;

/// Bytes of one row: an unclosed quote makes the rest of a file one row.
const ROW_BYTES_MAX: usize = 1024 * 1024;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Cells between commas, in quotes where needed (RFC 4180).
    Csv,
    /// Cells between tabs.
    Tsv,
    /// A JSON object on each line.
    Jsonl,
}

/// Rows, from one of the formats.
pub(crate) enum Source {
    Delimited(delimited::Delimited),
    JsonLines(json_lines::JsonLines),
}

impl Source {
    /// The names of all columns, in order. Of JSON Lines, the members of the first object.
    pub(crate) fn columns(&self) -> &[String] {
        match self {
            Self::Delimited(rows) => rows.columns(),
            Self::JsonLines(rows) => rows.columns(),
        }
    }

    /// Names the columns that rows are to hold from now on, in the order of the slots.
    pub(crate) fn want(&mut self, columns: &[String]) -> Result<()> {
        match self {
            Self::Delimited(rows) => rows.want(columns),
            Self::JsonLines(rows) => {
                rows.want(columns);
                Ok(())
            }
        }
    }

    /// Fills `row` with the next row; false at the end.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool> {
        match self {
            Self::Delimited(rows) => rows.read(row),
            Self::JsonLines(rows) => rows.read(row),
        }
    }

    /// What was odd so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Delimited(rows) => rows.warnings(),
            Self::JsonLines(rows) => rows.warnings(),
        }
    }
}

/// Opens the file that a query names.
pub(crate) fn open(input: &Input) -> Result<Source> {
    let relative = checked_path(&input.file)?;
    let format = match input.format {
        Some(format) => format,
        None => format_of(relative)?,
    };
    let folder = match &input.folder {
        Some(folder) => folder.clone(),
        None => files::first_root()?,
    };
    let path: PathBuf = Path::new(&folder).join(relative);
    let file = File::open(&path).context(|| format!("opening `{}`", input.file))?;
    source_of(format, input, Box::new(file))
}

/// The same over any bytes.
pub(crate) fn source_of(format: Format, input: &Input, bytes: Box<dyn Read>) -> Result<Source> {
    let delimiter = match (input.delimiter, format) {
        (None, Format::Tsv) => b'\t',
        (None, _) => b',',
        (Some(_), Format::Jsonl) => return Err(Error::invalid_input("JSON Lines have no `delimiter`")),
        (Some(delimiter), _) => u8::try_from(delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r'))
            .ok_or_else(|| {
                Error::invalid_input("`delimiter` must be one ASCII character, no quote and no line break")
            })?,
    };
    match format {
        Format::Csv | Format::Tsv => {
            delimited::Delimited::new(bytes, delimiter, input.header, ROW_BYTES_MAX).map(Source::Delimited)
        }
        Format::Jsonl => json_lines::JsonLines::new(bytes, ROW_BYTES_MAX).map(Source::JsonLines),
    }
}

/// The host lets nobody out of the folder; this says so in words.
fn checked_path(file: &str) -> Result<&Path> {
    let path = Path::new(file);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if file.is_empty() || file.contains('\0') || !path.components().all(plain) {
        return Err(Error::invalid_input(
            "`file` must be a path inside the folder, without `..`",
        ));
    }
    Ok(path)
}

fn format_of(path: &Path) -> Result<Format> {
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match ending.as_str() {
        "csv" => Ok(Format::Csv),
        "tsv" | "tab" => Ok(Format::Tsv),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        _ => Err(Error::invalid_input(
            "the ending of `file` says no format: set `format` to csv, tsv or jsonl",
        )),
    }
}
