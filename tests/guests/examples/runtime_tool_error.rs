//! Answers with the error of the ABI that the input names, or with text that is no JSON.

use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    marker_log("about to fail");
    let text = || "in its own words".to_owned();
    match input.trim_matches('"') {
        "invalid-input" => Err(Error::InvalidInput(text())),
        "denied" => Err(Error::Denied(text())),
        "unavailable" => Err(Error::Unavailable(text())),
        "limit" => Err(Error::Limit(text())),
        "internal" => Err(Error::Internal(text())),
        "no-json" => Ok("{no json".to_owned()),
        "duplicate-keys" => Ok(r#"{"a":1,"a":2}"#.to_owned()),
        "number" => Ok("7".to_owned()),
        other => Ok(serde_json::Value::String(other.to_owned()).to_string()),
    }
}
