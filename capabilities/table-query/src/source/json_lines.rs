//! JSON Lines: an object on each line. Members that nobody asks for are passed over, not kept.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

use aral_guest::prelude::*;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::limited::{Limited, TOO_LONG};
use crate::row::Row;
use crate::value::Cell;

/// Bytes that are read from the file at once: each read is a call to the host.
const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct JsonLines {
    reader: BufReader<Limited>,
    row_bytes_max: usize,
    columns: Vec<String>,
    wanted: Vec<String>,
    /// For each wanted column, whether a row has had it.
    seen: Vec<bool>,
    line: Vec<u8>,
    /// Whether `line` holds the first line, which was read to name the columns.
    first: bool,
    number: u64,
    nested: u64,
}

impl JsonLines {
    pub(super) fn new(bytes: Box<dyn Read>, row_bytes_max: usize) -> Result<Self> {
        let mut lines = Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, Limited::new(bytes, row_bytes_max)),
            row_bytes_max,
            columns: Vec::new(),
            wanted: Vec::new(),
            seen: Vec::new(),
            line: Vec::new(),
            first: false,
            number: 0,
            nested: 0,
        };
        lines.first = lines.next_line()?;
        if lines.first {
            lines.columns = serde_json::Deserializer::from_slice(&lines.line)
                .deserialize_map(Names)
                .map_err(|error| lines.bad_line(&error))?;
        }
        Ok(lines)
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn want(&mut self, columns: &[String]) {
        self.wanted = columns.to_vec();
        self.seen = vec![false; columns.len()];
    }

    pub(super) fn read(&mut self, row: &mut Row) -> Result<bool> {
        if !std::mem::take(&mut self.first) && !self.next_line()? {
            return Ok(false);
        }
        row.reset(self.wanted.len());
        let members = Members {
            wanted: &self.wanted,
            seen: &mut self.seen,
            nested: &mut self.nested,
            row,
        };
        let mut deserializer = serde_json::Deserializer::from_slice(&self.line);
        let read = members.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|error| self.bad_line(&error))?;
        Ok(true)
    }

    /// The next line that is not empty; false at the end.
    fn next_line(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            let count = self.reader.read_until(b'\n', &mut self.line)?;
            if count == 0 {
                return Ok(false);
            }
            self.reader.get_mut().row_done();
            self.number = self.number.saturating_add(1);
            if count > self.row_bytes_max {
                return Err(Error::limit(format!("line {}: {TOO_LONG}", self.number)));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn bad_line(&self, error: &serde_json::Error) -> Error {
        Error::invalid_input(format!("line {} is not a JSON object: {error}", self.number))
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (column, _) in self.wanted.iter().zip(&self.seen).filter(|(_, seen)| !**seen) {
            warnings.push(format!("no row has a member `{column}`"));
        }
        if self.nested > 0 {
            warnings.push(format!(
                "{} cells hold a list or an object and count as empty",
                self.nested
            ));
        }
        warnings
    }
}

/// The names of the members, in order.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Vec<String>, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = members.next_key()? {
            members.next_value::<IgnoredAny>()?;
            names.push(name);
        }
        Ok(names)
    }
}

/// The members that are wanted, into a row.
struct Members<'a> {
    wanted: &'a [String],
    seen: &'a mut [bool],
    nested: &'a mut u64,
    row: &'a mut Row,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<(), A::Error> {
        while let Some(Name(name)) = members.next_key::<Name<'de>>()? {
            let Some(slot) = self.wanted.iter().position(|wanted| *wanted == name) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: Value = members.next_value()?;
            if value.is_array() || value.is_object() {
                *self.nested = self.nested.saturating_add(1);
            }
            self.row.set(slot, Cell::of_json(&value));
            if let Some(seen) = self.seen.get_mut(slot) {
                *seen = true;
            }
        }
        Ok(())
    }
}

/// A name, copied only if it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
