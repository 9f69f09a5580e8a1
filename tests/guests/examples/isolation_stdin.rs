//! Reads standard input as a tool: whatever the host process has there is none of its business.

use std::io::Read;

use aral_test_guests::marker_log;
use serde_json::json;

aral_test_guests::tool!(serve);

fn serve(_input: &str) -> Result<String, Error> {
    marker_log("reading standard input");
    let mut bytes = Vec::new();
    let result = std::io::stdin().read_to_end(&mut bytes).map_err(|error| error.kind());
    Ok(json!({ "bytes": bytes.len(), "result": format!("{result:?}") }).to_string())
}
