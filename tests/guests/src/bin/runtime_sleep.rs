//! Waits inside the host for as many milliseconds as the input says.

use std::time::Duration;

use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let wait_ms = input["wait_ms"].as_u64().unwrap_or(u64::MAX / 2_000_000);
        marker("waiting");
        std::thread::sleep(Duration::from_millis(wait_ms));
        json!("awake")
    });
}
