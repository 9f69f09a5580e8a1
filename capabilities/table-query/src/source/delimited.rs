//! CSV and TSV.

use std::io::Read;

use aral_guest::prelude::*;
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::limited::Limited;
use crate::row::Row;
use crate::value::Cell;

/// Bytes that are read from the file at once: each read is a call to the host.
const BUFFER_BYTES: usize = 64 * 1024;

/// Columns of a file.
const COLUMNS_MAX: usize = 10_000;

pub(crate) struct Delimited {
    reader: Reader<Limited>,
    columns: Vec<String>,
    wanted: Vec<usize>,
    record: ByteRecord,
    /// The first row of a file without a header, which was read to count its columns.
    first: Option<ByteRecord>,
    ragged: u64,
    not_text: u64,
}

impl Delimited {
    pub(super) fn new(bytes: Box<dyn Read>, delimiter: u8, header: bool, row_bytes_max: usize) -> Result<Self> {
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Limited::new(bytes, row_bytes_max));
        let mut first = ByteRecord::new();
        reader.read_byte_record(&mut first).map_err(read_error)?;
        reader.get_mut().row_done();
        if first.len() > COLUMNS_MAX {
            return Err(Error::limit(format!("the file has more than {COLUMNS_MAX} columns")));
        }
        let name = |(index, cell): (usize, &[u8])| {
            if header {
                String::from_utf8_lossy(cell).trim().to_owned()
            } else {
                index.saturating_add(1).to_string()
            }
        };
        Ok(Self {
            columns: first.iter().enumerate().map(name).collect(),
            first: (!header && !first.is_empty()).then_some(first),
            reader,
            wanted: Vec::new(),
            record: ByteRecord::new(),
            ragged: 0,
            not_text: 0,
        })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn want(&mut self, columns: &[String]) -> Result<()> {
        let place = |wanted: &String| {
            self.columns
                .iter()
                .position(|column| column == wanted)
                .ok_or_else(|| unknown(wanted, &self.columns))
        };
        self.wanted = columns.iter().map(place).collect::<Result<_>>()?;
        Ok(())
    }

    pub(super) fn read(&mut self, row: &mut Row) -> Result<bool> {
        match self.first.take() {
            Some(first) => self.record = first,
            None => {
                if !self.reader.read_byte_record(&mut self.record).map_err(read_error)? {
                    return Ok(false);
                }
                self.reader.get_mut().row_done();
            }
        }
        if self.record.len() != self.columns.len() {
            self.ragged = self.ragged.saturating_add(1);
        }
        row.reset(self.wanted.len());
        for (slot, index) in self.wanted.iter().enumerate() {
            let Some(bytes) = self.record.get(*index) else { continue };
            match std::str::from_utf8(bytes) {
                Ok(text) => row.set(slot, Cell::Text(text)),
                Err(_) => {
                    self.not_text = self.not_text.saturating_add(1);
                    row.set(slot, Cell::Text(&String::from_utf8_lossy(bytes)));
                }
            }
        }
        Ok(true)
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.ragged > 0 {
            warnings.push(format!("{} rows do not have {} cells", self.ragged, self.columns.len()));
        }
        if self.not_text > 0 {
            warnings.push(format!("{} cells are not UTF-8", self.not_text));
        }
        warnings
    }
}

fn unknown(wanted: &str, columns: &[String]) -> Error {
    let known: Vec<_> = columns.iter().take(50).map(|column| format!("`{column}`")).collect();
    Error::invalid_input(format!(
        "there is no column `{wanted}`; the columns are {}",
        known.join(", ")
    ))
}

fn read_error(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => Error::invalid_input(format!("the file cannot be read as a table: {other:?}")),
    }
}
