//! Asks for as many random bytes at once as the input says.

use aral_test_guests::imports::wasi::random::random::get_random_bytes;
use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let bytes = input["bytes"].as_u64().expect("a size");
        marker("drawing");
        let drawn = get_random_bytes(bytes);
        let distinct: std::collections::BTreeSet<u8> = drawn.iter().copied().collect();
        json!({ "bytes": drawn.len(), "distinct": distinct.len() })
    });
}
