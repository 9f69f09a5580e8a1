//! Runs into an unreachable instruction, if the input says so.

use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        marker("about to trap");
        if input["trap"] == true {
            core::arch::wasm32::unreachable();
        }
        json!("whole")
    });
}
