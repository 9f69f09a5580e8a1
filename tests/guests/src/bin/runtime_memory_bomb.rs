//! Takes memory, a mebibyte at a time, until it has as many as the input says, or forever.

use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let mebibytes = input["mebibytes"].as_u64().unwrap_or(u64::MAX);
        let mut held = Vec::new();
        marker("taking memory");
        for _ in 0..mebibytes {
            held.push(vec![1_u8; 1 << 20]);
        }
        json!({ "mebibytes": held.len() })
    });
}
