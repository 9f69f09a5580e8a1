//! Tries to leave the granted folder by name: `..` in every dress, absolute paths, and a folder opened from another.

use std::fs;

use aral_test_guests::{attempt, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let base = input["base"].as_str().expect("a granted folder");
        let secret = input["secret"].as_str().expect("the absolute path of a file outside");
        let name = secret.rsplit('/').next().expect("a name");
        let paths = [
            format!("{base}/../{name}"),
            format!("{base}/inner/../../{name}"),
            format!("{base}/./inner/../.././{name}"),
            format!("{base}/inner/../../../../../../../../../../..{secret}"),
            format!("{base}//..//{name}"),
            format!("{base}/..\\{name}"),
            secret.to_owned(),
            format!("/proc/self/cwd/{name}"),
            "/etc/passwd".to_owned(),
            format!("{base}/\0/../../{name}"),
        ];
        let mut attempts: Vec<Value> = paths.iter().map(|path| attempt(path, fs::read(path))).collect();
        attempts.push(attempt(
            "list ..",
            fs::read_dir(format!("{base}/..")).map(Iterator::count),
        ));
        attempts.push(attempt("make ..", fs::create_dir(format!("{base}/../made"))));
        attempts.push(attempt("write ..", fs::write(format!("{base}/../written"), "x")));
        let control = fs::read_to_string(format!("{base}/inner/allowed.txt")).map_err(|error| error.to_string());
        json!({ "attempts": attempts, "control": control.unwrap_or_else(|error| error) })
    });
}
