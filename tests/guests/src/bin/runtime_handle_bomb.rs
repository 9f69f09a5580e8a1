//! Makes as many resources in the host as the input says, and keeps them all.

use aral_test_guests::imports::wasi::http::types::Fields;
use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let count = input["count"].as_u64().unwrap_or(u64::MAX);
        let mut held = Vec::new();
        marker("taking handles");
        for _ in 0..count {
            held.push(Fields::new());
        }
        json!({ "held": held.len() })
    });
}
