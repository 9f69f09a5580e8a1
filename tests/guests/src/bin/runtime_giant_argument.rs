//! Hands the host a log line of as many bytes as the input says.

use aral_test_guests::imports::aral::capability::log::{Level, log};
use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let bytes = input["bytes"].as_u64().expect("a size") as usize;
        let line = "x".repeat(bytes);
        marker("passing");
        log(Level::Info, &line);
        json!({ "passed": bytes })
    });
}
