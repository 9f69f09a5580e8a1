//! Which rows count.

use aral_guest::prelude::*;
use serde_json::Value;

use crate::row::Row;
use crate::value::Cell;

/// Conditions in one query, and values in one list.
const CONDITIONS_MAX: usize = 50;
const VALUES_MAX: usize = 1_000;

/// How conditions combine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Matching {
    /// All must hold.
    #[default]
    All,
    /// One must hold.
    Any,
}

/// How a cell is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operator {
    /// The same number or text.
    Equals,
    /// Another number or text.
    NotEquals,
    /// Below the value.
    Less,
    /// Below the value, or the same.
    AtMost,
    /// Above the value.
    Greater,
    /// Above the value, or the same.
    AtLeast,
    /// Has the value in its text.
    Contains,
    /// Its text begins with the value.
    StartsWith,
    /// Its text ends with the value.
    EndsWith,
    /// The same as one of `values`.
    OneOf,
    /// There is no cell, or no text in it.
    Empty,
    /// There is something in the cell.
    NotEmpty,
}

/// One condition on a cell. A number is compared with cells that are numbers only, a text with the text of a cell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// The column.
    pub(crate) column: String,
    /// How its cell is looked at.
    operator: Operator,
    /// What it is compared with: a text, a number, true or false. Not for `one_of`, `empty` and `not_empty`.
    value: Option<Scalar>,
    /// For `one_of`: what it may be.
    #[serde(default)]
    values: Vec<Scalar>,
}

/// A text, a number, true or false.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool(truth) => truth.into(),
            Scalar::Number(number) => number.into(),
            Scalar::Text(text) => text.into(),
        }
    }
}

/// Conditions that are known to make sense, on slots of a row.
pub(crate) struct Filter {
    matching: Matching,
    tests: Vec<(usize, Operator, Vec<Value>)>,
}

impl Filter {
    /// `slot` says where a row holds a column.
    pub(crate) fn new(
        conditions: &[Condition],
        matching: Matching,
        mut slot: impl FnMut(&str) -> Result<usize>,
    ) -> Result<Self> {
        if conditions.len() > CONDITIONS_MAX {
            return Err(Error::invalid_input(format!(
                "at most {CONDITIONS_MAX} conditions can be given"
            )));
        }
        let mut tests = Vec::with_capacity(conditions.len());
        for condition in conditions {
            tests.push((slot(&condition.column)?, condition.operator, checked_values(condition)?));
        }
        Ok(Self { matching, tests })
    }

    pub(crate) fn lets_through(&self, row: &Row) -> bool {
        let mut holds = self
            .tests
            .iter()
            .map(|(slot, operator, values)| holds(row.cell(*slot), *operator, values));
        match self.matching {
            Matching::All => holds.all(|one| one),
            Matching::Any => self.tests.is_empty() || holds.any(|one| one),
        }
    }
}

fn checked_values(condition: &Condition) -> Result<Vec<Value>> {
    let wrong = |what: &str| {
        Err(Error::invalid_input(format!(
            "the condition on `{}` {what}",
            condition.column
        )))
    };
    let value = condition.value.clone().map(Value::from);
    match (condition.operator, value, condition.values.len()) {
        (Operator::Empty | Operator::NotEmpty, None, 0) => Ok(Vec::new()),
        (Operator::Empty | Operator::NotEmpty, ..) => wrong("takes no value"),
        (Operator::OneOf, None, 1..=VALUES_MAX) => Ok(condition.values.iter().cloned().map(Value::from).collect()),
        (Operator::OneOf, ..) => wrong("needs `values`, 1 to 1000 of them, and no `value`"),
        (_, Some(value), 0) => Ok(vec![value]),
        (..) => wrong("needs a `value`, and no `values`"),
    }
}

fn holds(cell: Cell<'_>, operator: Operator, values: &[Value]) -> bool {
    let any = |test: fn(Cell<'_>, Cell<'_>) -> bool| values.iter().any(|value| test(cell, Cell::of_json(value)));
    match operator {
        Operator::Equals | Operator::OneOf => any(equal),
        Operator::NotEquals => !any(equal),
        Operator::Less => any(|cell, value| comparable(cell, value) && cell.compare(value).is_lt()),
        Operator::AtMost => any(|cell, value| comparable(cell, value) && cell.compare(value).is_le()),
        Operator::Greater => any(|cell, value| comparable(cell, value) && cell.compare(value).is_gt()),
        Operator::AtLeast => any(|cell, value| comparable(cell, value) && cell.compare(value).is_ge()),
        Operator::Contains => any(|cell, value| cell.text().contains(&*value.text())),
        Operator::StartsWith => any(|cell, value| cell.text().starts_with(&*value.text())),
        Operator::EndsWith => any(|cell, value| cell.text().ends_with(&*value.text())),
        Operator::Empty => cell.is_empty(),
        Operator::NotEmpty => !cell.is_empty(),
    }
}

fn equal(cell: Cell<'_>, value: Cell<'_>) -> bool {
    match (cell, value) {
        // An empty text and a missing cell are the same to whoever asks for "".
        (Cell::Nothing, value) => value == Cell::Text(""),
        (cell, value) => cell.compare(value).is_eq(),
    }
}

/// An empty cell is neither below nor above anything, and a text neither below nor above a number.
fn comparable(cell: Cell<'_>, value: Cell<'_>) -> bool {
    !cell.is_empty() && cell.number().is_some() == value.number().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cell: Cell<'_>, condition: &str, expected: bool) {
        let condition: Condition = serde_json::from_str(&format!(r#"{{"column":"c",{condition}}}"#)).unwrap();
        let filter = Filter::new(&[condition], Matching::All, |_| Ok(0)).unwrap();
        let mut row = Row::default();
        row.reset(1);
        row.set(0, cell);
        assert_eq!(filter.lets_through(&row), expected, "{cell:?}");
    }

    #[test]
    fn operators() {
        let text = Cell::Text;
        check(text("10"), r#""operator":"greater","value":9"#, true);
        check(text("10"), r#""operator":"greater","value":"9""#, true);
        check(text("ten"), r#""operator":"greater","value":9"#, false);
        check(text("ten"), r#""operator":"less","value":9"#, false);
        check(text(""), r#""operator":"less","value":9"#, false);
        check(Cell::Nothing, r#""operator":"at_most","value":"z""#, false);
        check(
            text("2026-11-23"),
            r#""operator":"at_least","value":"2026-11-01""#,
            true,
        );
        check(text("1.0"), r#""operator":"equals","value":1"#, true);
        check(text("a"), r#""operator":"not_equals","value":"a""#, false);
        check(Cell::Bool(true), r#""operator":"equals","value":true"#, true);
        check(Cell::Nothing, r#""operator":"equals","value":"""#, true);
        check(text("abc"), r#""operator":"contains","value":"b""#, true);
        check(text("abc"), r#""operator":"starts_with","value":"b""#, false);
        check(text("abc"), r#""operator":"ends_with","value":"bc""#, true);
        check(text("b"), r#""operator":"one_of","values":["a","b"]"#, true);
        check(text("c"), r#""operator":"one_of","values":["a","b"]"#, false);
        check(text(""), r#""operator":"empty""#, true);
        check(text("x"), r#""operator":"not_empty""#, true);
    }

    #[test]
    fn conditions_that_make_no_sense() {
        for bad in [
            r#""operator":"equals""#,
            r#""operator":"empty","value":1"#,
            r#""operator":"one_of","value":1"#,
            r#""operator":"one_of","values":[]"#,
            r#""operator":"less","value":1,"values":[2]"#,
        ] {
            let condition: Condition = serde_json::from_str(&format!(r#"{{"column":"c",{bad}}}"#)).unwrap();
            assert!(
                matches!(
                    Filter::new(&[condition], Matching::All, |_| Ok(0)),
                    Err(Error::InvalidInput(_))
                ),
                "{bad}"
            );
        }
        assert!(serde_json::from_str::<Condition>(r#"{"column":"c","operator":"like","value":1}"#).is_err());
        assert!(serde_json::from_str::<Condition>(r#"{"column":"c","operator":"equals","value":[1]}"#).is_err());
    }
}
