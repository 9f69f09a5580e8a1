//! Gives back what it is given: for trying out a host, and for measuring what a call costs by itself.

use aral_guest::prelude::*;
use serde_json::Value;

fn echo(input: Value) -> Result<Value> {
    Ok(input)
}

capability! { title: "Echo", description: "Returns the JSON that it is given, unchanged.", run: echo }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_json_comes_back() {
        for text in [
            "null",
            "true",
            "-7",
            "1.5",
            r#""a\u0000\n""#,
            "[1,[],{}]",
            r#"{"a":{"b":[null]}}"#,
        ] {
            assert_eq!(aral_guest::serve(echo, text).as_deref(), Ok(text));
        }
        assert!(matches!(aral_guest::serve(echo, "{"), Err(Error::InvalidInput(_))));
    }
}
