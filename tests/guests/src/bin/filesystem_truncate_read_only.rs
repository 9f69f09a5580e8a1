//! Tries to change a file that it may only read: truncate, append, create, times, size, through every flag of `open`.

use std::fs::{self, File, OpenOptions};
use std::time::SystemTime;

use aral_test_guests::{attempt, run};
use serde_json::json;

fn main() {
    run(|input| {
        let path = input["path"].as_str().expect("a file");
        let new = format!("{path}.new");
        let mut truncate = OpenOptions::new();
        truncate.write(true).truncate(true);
        let attempts = [
            attempt("truncate", truncate.open(path)),
            attempt("read and truncate", truncate.read(true).open(path)),
            attempt("append", OpenOptions::new().append(true).open(path)),
            attempt("write", OpenOptions::new().write(true).open(path)),
            attempt("create", File::create(&new)),
            attempt("create new", OpenOptions::new().write(true).create_new(true).open(&new)),
            attempt("set the size", File::open(path).and_then(|file| file.set_len(0))),
            attempt(
                "set the time",
                File::open(path).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH)),
            ),
        ];
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        json!({ "attempts": attempts, "text": text.unwrap_or_else(|error| error) })
    });
}
