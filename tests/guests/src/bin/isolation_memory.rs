//! Uses the agent's memory in the namespace of the input.

use aral_test_guests::imports::aral::capability::types::Classification;
use aral_test_guests::imports::aral::capability::{memory_read, memory_write};
use aral_test_guests::{attempt, run};
use serde_json::json;

fn main() {
    run(|input| {
        let namespace = input["namespace"].as_str().expect("a namespace");
        let value = vec![b'x'; input["bytes"].as_u64().unwrap_or(1) as usize];
        let options = memory_write::PutOptions {
            ttl_seconds: None,
            classification: Classification::Public,
            precondition: memory_write::Precondition::Any,
        };
        let write = memory_write::Write {
            name: "name".to_owned(),
            value,
            options,
        };
        json!([
            attempt("get", memory_read::get(namespace, "name")),
            attempt("list", memory_read::list(namespace, "", None, 10)),
            attempt("put", memory_write::put(namespace, &write)),
            attempt(
                "delete",
                memory_write::delete(namespace, "name", memory_write::Precondition::Any)
            ),
            attempt(
                "batch",
                memory_write::batch(namespace, &[memory_write::Operation::Put(write.clone())])
            ),
        ])
    });
}
