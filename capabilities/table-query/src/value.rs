//! Cells: what a row shows of itself, how cells compare, and what an answer holds.

use std::borrow::Cow;
use std::cmp::Ordering;

use aral_guest::prelude::*;
use serde_json::{Number as JsonNumber, Value};

/// The answer.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// The names of the columns.
    pub(crate) columns: Vec<String>,
    /// The rows: a cell for each column, null where there is none.
    pub(crate) rows: Vec<Vec<Value>>,
    /// Rows of the file that were read. Without `sort`, `group_by` and `aggregates` reading ends when the answer is full.
    pub(crate) rows_read: u64,
    /// Of those, the rows that the conditions let through.
    pub(crate) rows_matched: u64,
    /// How many groups there are; absent without `group_by`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<usize>,
    /// Whether there are more rows after the last one returned.
    pub(crate) truncated: bool,
    /// What was odd about the file.
    pub(crate) warnings: Vec<String>,
}

/// A number: whole as long as it can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Whole(i64),
    Real(f64),
}

impl Number {
    /// Decimal notation only: `nan`, `inf` and hexadecimal are text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
            return None;
        }
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        let decimal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
        if !text.bytes().all(decimal) {
            return None;
        }
        text.parse().ok().filter(|real: &f64| real.is_finite()).map(Self::Real)
    }

    pub(crate) fn of_json(number: &JsonNumber) -> Option<Self> {
        number
            .as_i64()
            .map(Self::Whole)
            .or_else(|| number.as_f64().map(Self::Real))
    }

    pub(crate) fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    pub(crate) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one.cmp(&two),
            _ => self.real().total_cmp(&other.real()),
        }
    }

    pub(crate) fn json(self) -> Value {
        match self {
            Self::Whole(whole) => whole.into(),
            Self::Real(real) => JsonNumber::from_f64(real).map_or(Value::Null, Value::Number),
        }
    }
}

/// One cell of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    /// No such cell, or JSON null.
    Nothing,
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

impl<'a> Cell<'a> {
    pub(crate) fn is_empty(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.is_empty(),
            Self::Bool(_) | Self::Number(_) => false,
        }
    }

    /// The number that it is, or that its text says.
    pub(crate) fn number(self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => Number::parse(text),
            Self::Nothing | Self::Bool(_) => None,
        }
    }

    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Nothing => Cow::Borrowed(""),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Number(Number::Whole(whole)) => Cow::Owned(whole.to_string()),
            Self::Number(Number::Real(real)) => Cow::Owned(real.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    pub(crate) fn json(self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Bool(truth) => truth.into(),
            Self::Number(number) => number.json(),
            Self::Text(text) => text.into(),
        }
    }

    pub(crate) fn of_json(value: &'a Value) -> Self {
        match value {
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Nothing,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => Number::of_json(number).map_or(Self::Nothing, Self::Number),
            Value::String(text) => Self::Text(text),
        }
    }

    /// Numbers before texts; whoever asks has taken care of empty cells.
    pub(crate) fn compare(self, other: Cell<'_>) -> Ordering {
        match (self.number(), other.number()) {
            (Some(one), Some(two)) => one.compare(two),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.text().cmp(&other.text()),
        }
    }
}

/// About how many bytes a cell takes in an answer.
pub(crate) fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len().saturating_add(8),
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number() {
        for (text, expected) in [
            ("12", Some(Number::Whole(12))),
            (" -3 ", Some(Number::Whole(-3))),
            ("+7", Some(Number::Whole(7))),
            ("1.5", Some(Number::Real(1.5))),
            (".5", Some(Number::Real(0.5))),
            ("1e3", Some(Number::Real(1000.0))),
            ("99999999999999999999", Some(Number::Real(1e20))),
            ("", None),
            ("-", None),
            ("nan", None),
            ("inf", None),
            ("-inf", None),
            ("1e999", None),
            ("0x10", None),
            ("1,5", None),
            ("12 km", None),
            ("2026-11-23", None),
        ] {
            assert_eq!(Number::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn comparing_is_a_total_order() {
        let cells = ["10", "9", "9.5", "b", "a", "2026-01-01", "-1", "10x"].map(Cell::Text);
        let mut sorted = cells.to_vec();
        sorted.sort_by(|one, two| one.compare(*two));
        assert_eq!(
            sorted,
            ["-1", "9", "9.5", "10", "10x", "2026-01-01", "a", "b"].map(Cell::Text)
        );
        let whole = |number| Cell::Number(Number::Whole(number));
        assert_eq!(whole(i64::MAX).compare(whole(i64::MAX - 1)), Ordering::Greater);
    }
}
