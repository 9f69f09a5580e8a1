//! Uses a handle number that it was never given: another capability, or another call, may have a secret under it.

use aral_test_guests::imports::aral::capability::secret_read::Secret;
use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let number = input["number"].as_u64().expect("a number") as u32;
        marker(&format!("reveal handle {number}"));
        // SAFETY: there is no such handle, and whether the host finds that out is what is tested.
        let secret = unsafe { Secret::from_handle(number) };
        json!(format!("{:?}", secret.reveal()))
    });
}
