//! Tries to carry a file from a folder that may only be read to one that may be written, and back: hard link and rename.

use std::fs;

use aral_test_guests::{attempt, run};
use serde_json::json;

fn main() {
    run(|input| {
        let read = input["read"].as_str().expect("the folder to read");
        let write = input["write"].as_str().expect("the folder to write");
        let seed = fs::write(format!("{write}/own.txt"), "own");
        let attempts = [
            attempt(
                "link out of the read-only folder",
                fs::hard_link(format!("{read}/data.txt"), format!("{write}/linked.txt")),
            ),
            attempt(
                "link into the read-only folder",
                fs::hard_link(format!("{write}/own.txt"), format!("{read}/linked.txt")),
            ),
            attempt(
                "link inside the read-only folder",
                fs::hard_link(format!("{read}/data.txt"), format!("{read}/again.txt")),
            ),
            attempt(
                "rename out of the read-only folder",
                fs::rename(format!("{read}/data.txt"), format!("{write}/moved.txt")),
            ),
            attempt(
                "rename into the read-only folder",
                fs::rename(format!("{write}/own.txt"), format!("{read}/moved.txt")),
            ),
            attempt(
                "rename inside the read-only folder",
                fs::rename(format!("{read}/data.txt"), format!("{read}/other.txt")),
            ),
            attempt(
                "remove from the read-only folder",
                fs::remove_file(format!("{read}/data.txt")),
            ),
            attempt(
                "make a folder in the read-only folder",
                fs::create_dir(format!("{read}/made")),
            ),
            attempt(
                "write through the link",
                fs::write(format!("{write}/linked.txt"), "changed"),
            ),
        ];
        // What the write permission does allow.
        let control = seed
            .and_then(|()| fs::rename(format!("{write}/own.txt"), format!("{write}/renamed.txt")))
            .and_then(|()| fs::read_to_string(format!("{write}/renamed.txt")))
            .map_err(|error| error.to_string());
        json!({ "attempts": attempts, "control": control.unwrap_or_else(|error| error) })
    });
}
