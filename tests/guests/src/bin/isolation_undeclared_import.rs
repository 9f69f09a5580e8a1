//! Imports a governed interface. A manifest entry that does not declare it must not be admitted.

use aral_test_guests::imports::aral::capability::memory_write;
use aral_test_guests::imports::aral::capability::types::Classification;
use aral_test_guests::{attempt, run};

fn main() {
    run(|_| {
        let options = memory_write::PutOptions {
            ttl_seconds: None,
            classification: Classification::Public,
            precondition: memory_write::Precondition::Any,
        };
        let write = memory_write::Write {
            name: "name".to_owned(),
            value: b"value".to_vec(),
            options,
        };
        attempt("write", memory_write::put("notes", &write))
    });
}
