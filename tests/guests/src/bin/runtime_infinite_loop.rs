//! Computes for `rounds`, or forever if there are none.

use std::hint::black_box;

use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        marker("looping");
        let mut sum = 0_u64;
        let rounds = input["rounds"].as_u64().unwrap_or(u64::MAX);
        for round in 0..rounds {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(round));
        }
        json!({ "sum": sum.to_string() })
    });
}
