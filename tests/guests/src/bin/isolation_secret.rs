//! Opens, reveals, attaches and stores the secrets of the input.

use aral_test_guests::imports::aral::capability::{secret_read, secret_write};
use aral_test_guests::imports::wasi::http::types::{Fields, OutgoingRequest};
use aral_test_guests::{attempt, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let names = input["names"]
            .as_array()
            .expect("names")
            .iter()
            .filter_map(Value::as_str);
        let attempts: Vec<Value> = names
            .flat_map(|name| {
                let opened = secret_read::open(name);
                let revealed = opened.as_ref().ok().map(secret_read::Secret::reveal);
                let request = OutgoingRequest::new(Fields::new());
                let attached = opened.as_ref().ok().map(|secret| secret.attach(&request));
                let mut attempts = vec![attempt(&format!("open {name}"), opened)];
                attempts.extend(attached.map(|value| attempt(&format!("attach {name}"), value)));
                attempts.extend(revealed.map(|value| attempt(&format!("reveal {name}"), value)));
                attempts.push(attempt(&format!("put {name}"), secret_write::put(name, b"value")));
                attempts
            })
            .collect();
        json!(attempts)
    });
}
