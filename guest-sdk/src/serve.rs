//! One call, from the JSON that comes in to the JSON that goes out. It knows nothing of what a capability does.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::exports::aral::capability::tool;
use crate::{Descriptor, Error, Result};

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
    let input = serde_json::from_str(input).map_err(|error| Error::InvalidInput(error.to_string()))?;
    let output = run(input).map_err(Into::into)?;
    serde_json::to_string(&output).map_err(|error| Error::Internal(format!("the output has no JSON form: {error}")))
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
