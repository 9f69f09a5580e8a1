//! Reads each path of the input, and answers with what it read or why it could not.

use aral_test_guests::{marker, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let paths = input["paths"]
            .as_array()
            .expect("paths")
            .iter()
            .filter_map(Value::as_str);
        let read = paths.map(|path| {
            marker(path);
            match std::fs::read(path) {
                Ok(bytes) => json!({ "what": path, "result": "ok", "text": String::from_utf8_lossy(&bytes) }),
                Err(error) => json!({ "what": path, "result": format!("{:?}: {error}", error.kind()) }),
            }
        });
        json!(read.collect::<Vec<_>>())
    });
}
