//! What is computed over the rows of a group. Sums of whole numbers are exact; sums of others are compensated, so that a
//! million small numbers add up to what they are.

use aral_guest::prelude::*;
use serde_json::Value;

use crate::value::{Cell, Number};

/// What to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    /// Rows, or cells that are not empty if a column is named.
    Count,
    /// The sum of the numbers.
    Sum,
    /// The smallest cell that is not empty.
    Min,
    /// The largest cell that is not empty.
    Max,
    /// The mean of the numbers.
    Avg,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
        }
    }
}

/// One column of the answer that is computed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Aggregate {
    /// What to compute.
    pub(crate) function: Function,
    /// Of which column; `count` can do without.
    pub(crate) column: Option<String>,
    /// What the column of the answer is called; `sum_price` and the like if absent.
    name: Option<String>,
}

impl Aggregate {
    pub(crate) fn name(&self) -> String {
        match (&self.name, &self.column) {
            (Some(name), _) => name.clone(),
            (None, Some(column)) => format!("{}_{column}", self.function.name()),
            (None, None) => self.function.name().to_owned(),
        }
    }
}

/// What is known of one group so far.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Count(u64),
    Sum(Sum),
    Avg(Sum),
    /// The best cell so far, and whether the largest is wanted.
    Extreme(Option<Value>, bool),
}

impl State {
    pub(crate) fn new(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(Sum::default()),
            Function::Avg => Self::Avg(Sum::default()),
            Function::Min => Self::Extreme(None, false),
            Function::Max => Self::Extreme(None, true),
        }
    }

    /// Takes a cell that is not empty. False if it is no number where one is needed; such a cell is left out.
    pub(crate) fn take(&mut self, cell: Cell<'_>) -> bool {
        match self {
            Self::Count(count) => *count = count.saturating_add(1),
            Self::Sum(sum) | Self::Avg(sum) => match cell.number() {
                Some(number) => sum.add(number),
                None => return false,
            },
            Self::Extreme(best, largest) => {
                let better = match best {
                    None => true,
                    Some(best) => {
                        let order = cell.compare(Cell::of_json(best));
                        if *largest { order.is_gt() } else { order.is_lt() }
                    }
                };
                if better {
                    *best = Some(cell.json());
                }
            }
        }
        true
    }

    pub(crate) fn count_row(&mut self) {
        if let Self::Count(count) = self {
            *count = count.saturating_add(1);
        }
    }

    /// Bytes that it holds beyond its own size.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Extreme(Some(Value::String(text)), _) => text.len(),
            _ => 0,
        }
    }

    pub(crate) fn result(&self) -> Value {
        match self {
            Self::Count(count) => (*count).into(),
            Self::Sum(sum) => sum.total(),
            Self::Avg(sum) => sum.mean(),
            Self::Extreme(best, _) => match best {
                // A number in a CSV file is text there, and a number in the answer.
                Some(best) => Cell::of_json(best).number().map_or_else(|| best.clone(), Number::json),
                None => Value::Null,
            },
        }
    }
}

/// A sum: exact over whole numbers, compensated (Neumaier) over others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    whole: i128,
    real: f64,
    compensation: f64,
    reals: u64,
    count: u64,
}

impl Sum {
    fn add(&mut self, number: Number) {
        self.count = self.count.saturating_add(1);
        match number {
            // 2^63 numbers of 2^63 fit.
            Number::Whole(whole) => self.whole = self.whole.saturating_add(i128::from(whole)),
            Number::Real(real) => {
                self.reals = self.reals.saturating_add(1);
                let sum = self.real + real;
                self.compensation += if self.real.abs() >= real.abs() {
                    (self.real - sum) + real
                } else {
                    (real - sum) + self.real
                };
                self.real = sum;
            }
        }
    }

    fn value(&self) -> f64 {
        self.whole as f64 + self.real + self.compensation
    }

    /// Null if there was no number.
    fn total(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        match i64::try_from(self.whole) {
            Ok(whole) if self.reals == 0 => whole.into(),
            _ => Number::Real(self.value()).json(),
        }
    }

    fn mean(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        Number::Real(self.value() / self.count as f64).json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(function: Function, cells: &[&str], expected: Value) {
        let mut state = State::new(function);
        for cell in cells {
            state.take(Cell::Text(cell));
        }
        assert_eq!(state.result(), expected, "{function:?} of {cells:?}");
    }

    #[test]
    fn functions() {
        check(Function::Count, &["a", "b"], json!(2));
        check(Function::Sum, &["1", "2", "x"], json!(3));
        check(
            Function::Sum,
            &["9007199254740993", "1"],
            json!(9_007_199_254_740_994_i64),
        );
        check(Function::Sum, &["1", "0.5"], json!(1.5));
        check(Function::Sum, &["x"], Value::Null);
        check(Function::Avg, &["1", "2"], json!(1.5));
        check(Function::Avg, &[], Value::Null);
        check(Function::Min, &["10", "9", "b"], json!(9));
        check(Function::Max, &["10", "9"], json!(10));
        check(Function::Max, &["2026-01-02", "2026-01-10"], json!("2026-01-10"));
        check(Function::Max, &[], Value::Null);
        check(
            Function::Sum,
            &["9223372036854775807", "1"],
            json!(9_223_372_036_854_775_808.0),
        );
    }

    #[test]
    fn small_numbers_add_up() {
        let mut sum = State::new(Function::Sum);
        for _ in 0..1_000_000 {
            assert!(sum.take(Cell::Text("0.1")));
        }
        assert_eq!(sum.result(), json!(100_000.0));
    }
}
