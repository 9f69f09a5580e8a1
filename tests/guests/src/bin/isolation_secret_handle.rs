//! Uses a handle number that it was never given: another capability, or another call, may have a secret under it. With a
//! secret of its own (`own`) the number is that of its handle, to show that a number is all that it takes.

use aral_test_guests::imports::aral::capability::secret_read::{self, Secret};
use aral_test_guests::{attempt, marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let own = input["own"]
            .as_str()
            .map(|name| secret_read::open(name).expect("its own"));
        let number = match &own {
            Some(own) => own.handle(),
            None => input["number"].as_u64().expect("a number") as u32,
        };
        marker(&format!("reveal handle {number}"));
        // SAFETY: without a secret of its own there is no such handle, and whether the host finds that out is what is tested. With
        // one, the other owner of its handle is forgotten below and not used before.
        let secret = unsafe { Secret::from_handle(number) };
        let revealed = attempt("reveal", secret.reveal());
        // A handle is given back once.
        std::mem::forget(own);
        json!({ "number": number, "revealed": revealed })
    });
}
