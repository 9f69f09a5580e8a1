//! Calls itself as deeply as the input says, or without end.

use std::hint::black_box;

use aral_test_guests::{marker, run};
use serde_json::json;

#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 {
        1
    } else {
        black_box(depth).rotate_left(3) ^ descend(depth - 1)
    }
}

fn main() {
    run(|input| {
        marker("descending");
        json!({ "sum": descend(input["depth"].as_u64().unwrap_or(u64::MAX)).to_string() })
    });
}
