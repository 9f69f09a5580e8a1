//! One call, from the JSON that comes in to the JSON that goes out. It knows nothing of what a capability does.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::bindings::exports::aral::capability::tool;
use crate::{Descriptor, Error, Result};

/// From here on a float may stand for several integers.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// Runs a capability's function on JSON, as the host does; for unit tests on the build machine.
///
/// ```
/// use aral_guest::{Result, serve};
/// let double = |number: i64| -> Result<i64> { Ok(number * 2) };
/// assert_eq!(serve(double, "21"), Ok("42".to_owned()));
/// ```
///
/// # Errors
/// [`Error::InvalidInput`] if `input` is not what the function takes, else what the function or the serialiser answers.
pub fn serve<I, O, E>(run: impl Fn(I) -> Result<O, E>, input: &str) -> Result<String>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Error>,
{
    let output = run(read(input)?).map_err(Into::into)?;
    serde_json::to_string(&output).map_err(|error| Error::Internal(format!("the output has no JSON form: {error}")))
}

/// What the schema takes: to JSON Schema `5.0` and `5e0` are integers, and to serde they are not. Only an input that serde refuses is
/// read twice. Both times each float is the one that was written, as the host read it (`float_roundtrip` of `serde_json`).
fn read<I: DeserializeOwned>(input: &str) -> Result<I> {
    let refused = match serde_json::from_str(input) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let read_again = || {
        let mut value: Value = serde_json::from_str(input).ok()?;
        if !write_integers(&mut value) {
            return None;
        }
        serde_json::from_value(value).ok()
    };
    read_again().ok_or_else(|| Error::InvalidInput(refused.to_string()))
}

/// Makes integers of the floats that have no fraction. Whether there was one.
fn write_integers(value: &mut Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => {
            let is_whole = |float: &f64| float.fract() == 0.0 && float.abs() < EXACT_BELOW;
            let Some(whole) = number.as_f64().filter(is_whole) else {
                return false;
            };
            *number = Number::from(whole as i64);
            true
        }
        Value::Array(items) => items.iter_mut().fold(false, |found, item| write_integers(item) | found),
        Value::Object(members) => members
            .values_mut()
            .fold(false, |found, member| write_integers(member) | found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Behind `describe` of the component.
#[doc(hidden)]
pub fn describe<I, O, E>(title: &str, description: &str, run: impl Fn(I) -> Result<O, E>) -> tool::Descriptor
where
    I: JsonSchema,
    O: JsonSchema,
{
    log_panics();
    let descriptor = Descriptor::of(title, description, run);
    tool::Descriptor {
        title: descriptor.title,
        description: descriptor.description,
        input_schema: descriptor.input_schema.to_string(),
        output_schema: descriptor.output_schema.to_string(),
    }
}

/// Behind `invoke` of the component.
#[doc(hidden)]
pub fn invoke<I, O, E>(run: impl Fn(I) -> Result<O, E>, input: &str) -> Result<String, tool::Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Error>,
{
    log_panics();
    serve(run, input).map_err(Into::into)
}

/// A panic ends the call with a trap, which carries no text: its message goes to the operator's log first.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halve(number: i64) -> Result<i64> {
        if number % 2 == 0 {
            Ok(number / 2)
        } else {
            Err(Error::invalid_input("the number is odd"))
        }
    }

    #[test]
    fn values_pass_and_errors_keep_their_kind() {
        assert_eq!(serve(halve, "8"), Ok("4".to_owned()));
        assert_eq!(serve(halve, "7"), Err(Error::invalid_input("the number is odd")));
        assert!(matches!(serve(halve, r#""8""#), Err(Error::InvalidInput(text)) if text.contains("expected i64")));
        assert!(matches!(serve(halve, "8 8"), Err(Error::InvalidInput(_))));
    }

    #[test]
    fn an_integer_may_be_written_as_json_schema_takes_it() {
        for input in ["8.0", "8e0", "80e-1", "0.8E1"] {
            assert_eq!(serve(halve, input), Ok("4".to_owned()), "{input}");
        }
        assert_eq!(serve(halve, "-8.0"), Ok("-4".to_owned()));
        let same = |number: i64| -> Result<i64> { Ok(number) };
        for number in [
            1_900_000_000_000_001_i64,
            1_900_000_000_000_003,
            7_300_000_000_000_001,
            9_007_199_254_740_991,
            -9_007_199_254_740_991,
        ] {
            assert_eq!(serve(same, &format!("{number}.0")), Ok(number.to_string()));
        }
        for input in ["8.5", "9007199254740992.0", "1e300"] {
            let refused = serve(halve, input);
            assert!(
                matches!(&refused, Err(Error::InvalidInput(text)) if text.contains("expected i64")),
                "{input}: {refused:?}"
            );
        }
        let sum = |(count, parts): (u8, Vec<(u64, f64)>)| -> Result<f64> {
            Ok(parts.iter().map(|(_, part)| part).sum::<f64>() + f64::from(count))
        };
        assert_eq!(serve(sum, "[1.0, [[2.0, 3.0], [4, 0.5]]]"), Ok("4.5".to_owned()));
        let echo = |value: Value| -> Result<Value> { Ok(value) };
        assert_eq!(serve(echo, "[5.0]"), Ok("[5.0]".to_owned()), "nothing refused it");
    }

    #[test]
    fn an_output_without_a_json_form_is_the_capability_s_fault() {
        let pairs = |_: i64| -> Result<_> { Ok(std::collections::BTreeMap::from([((1, 2), 3)])) };
        assert!(matches!(serve(pairs, "1"), Err(Error::Internal(_))));
    }

    #[test]
    fn the_component_s_own_types_carry_the_same() {
        assert!(matches!(invoke(halve, "7"), Err(tool::Error::InvalidInput(text)) if text == "the number is odd"));
        let descriptor = describe("Halve", "Halves.", halve);
        assert_eq!(
            (descriptor.title.as_str(), descriptor.description.as_str()),
            ("Halve", "Halves.")
        );
        let schema: serde_json::Value = serde_json::from_str(&descriptor.input_schema).unwrap();
        assert_eq!(schema.get("type"), Some(&"integer".into()));
    }
}
