//! What goes into a guest and what may come out of it: sizes, strict JSON, schemas. Pure functions.

use aral_contract::document::json;
use aral_contract::{Code, Failure};
use serde_json::Value;

use crate::schema::Schema;

/// Whether a length is over a limit.
fn exceeds(length: usize, bytes_max: u64) -> bool {
    u64::try_from(length).unwrap_or(u64::MAX) > bytes_max
}

/// The text that the guest gets: the input, parsed strictly, checked against the schema and written again, so that the
/// guest's parser sees nothing that ours did not.
pub(super) fn check_input(input: &[u8], bytes_max: u64, schema: &Schema) -> Result<String, Failure> {
    let fits = |length: usize| {
        if exceeds(length, bytes_max) {
            let message = format!("the input has {length} bytes, more than `input_bytes`, {bytes_max}");
            return Err(Failure::new(Code::InputTooLarge, message));
        }
        Ok(())
    };
    fits(input.len())?;
    let value =
        json::parse(input).map_err(|error| Failure::new(Code::InputInvalid, format!("the input is {error}")))?;
    schema
        .check(&value)
        .map_err(|violation| Failure::new(Code::InputInvalid, format!("the input breaks the schema {violation}")))?;
    let text = written_again(&value, input.len())?;
    fits(text.len())?;
    Ok(text)
}

/// The answer of a guest, checked and written again.
pub(super) fn check_output(output: &[u8], bytes_max: u64, schema: &Schema) -> Result<String, Failure> {
    if exceeds(output.len(), bytes_max) {
        return Err(too_large(bytes_max));
    }
    let value =
        json::parse(output).map_err(|error| Failure::new(Code::OutputInvalid, format!("the answer is {error}")))?;
    schema
        .check(&value)
        .map_err(|violation| Failure::new(Code::OutputInvalid, format!("the answer breaks the schema {violation}")))?;
    let text = written_again(&value, output.len())?;
    if exceeds(text.len(), bytes_max) {
        return Err(too_large(bytes_max));
    }
    Ok(text)
}

/// Into a text that is seldom longer than the one that was read: `1e15` is, and counts as it is written.
fn written_again(value: &Value, length: usize) -> Result<String, Failure> {
    let mut text = Vec::with_capacity(length);
    serde_json::to_writer(&mut text, value).map_err(Failure::internal)?;
    String::from_utf8(text).map_err(Failure::internal)
}

/// The answer is longer than the limit.
pub(super) fn too_large(bytes_max: u64) -> Failure {
    Failure::new(
        Code::OutputTooLarge,
        format!("the answer is longer than `output_bytes`, {bytes_max} bytes"),
    )
    .with_hint("raise `output_bytes` under [limits] in capability.toml, and in the policy if it is the ceiling")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn input_is_capped_parsed_checked_and_written_again() {
        let schema = Schema::compile("input_schema", &json!({ "type": "object", "required": ["a"] })).unwrap();
        let check = |text: &str| check_input(text.as_bytes(), 20, &schema).map_err(|failure| failure.code);
        assert_eq!(check("{ \"a\" :\n1}").as_deref(), Ok("{\"a\":1}"));
        assert_eq!(
            check(&format!("{{\"a\":1}}{}", " ".repeat(14))),
            Err(Code::InputTooLarge)
        );
        for bad in ["{\"a\":1,\"a\":2}", "{\"b\":1}", "{\"a\":1", "", "[]", "{\"a\":1}x"] {
            assert_eq!(check(bad), Err(Code::InputInvalid), "{bad}");
        }
    }

    #[test]
    fn output_is_held_to_the_same() {
        let schema = Schema::compile("output_schema", &json!({ "type": "integer" })).unwrap();
        let check = |text: &str| check_output(text.as_bytes(), 5, &schema).map_err(|failure| failure.code);
        assert_eq!(check(" 7 \n").as_deref(), Ok("7"));
        assert_eq!(check("123456"), Err(Code::OutputTooLarge));
        assert_eq!(check("\"7\""), Err(Code::OutputInvalid));
        assert_eq!(check("7 8"), Err(Code::OutputInvalid));
    }

    #[test]
    fn what_is_longer_once_it_is_written_again_counts_as_it_is_written() {
        let schema = Schema::compile("schema", &json!({ "type": "array" })).unwrap();
        let text = b"[1e15,1e15]";
        let written = check_input(text, 100, &schema).unwrap();
        assert!(written.len() > text.len(), "{written}");
        let most = written.len() as u64;
        for (bytes_max, input, output) in [
            (most, None, None),
            (most - 1, Some(Code::InputTooLarge), Some(Code::OutputTooLarge)),
        ] {
            let code = |checked: Result<String, Failure>| checked.err().map(|failure| failure.code);
            assert_eq!(code(check_input(text, bytes_max, &schema)), input, "{bytes_max}");
            assert_eq!(code(check_output(text, bytes_max, &schema)), output, "{bytes_max}");
        }
    }
}
