//! Opens files that are none: a FIFO, a socket, a device. Each would hang, or reach past the folder.

use std::fs::{self, OpenOptions};
use std::io::Read;

use aral_test_guests::{attempt, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let paths = input["paths"]
            .as_array()
            .expect("paths")
            .iter()
            .filter_map(Value::as_str);
        let attempts: Vec<Value> = paths
            .flat_map(|path| {
                let read = fs::File::open(path).and_then(|mut file| file.read(&mut [0; 16]));
                [
                    attempt(&format!("read {path}"), read),
                    attempt(&format!("write {path}"), OpenOptions::new().write(true).open(path)),
                ]
            })
            .collect();
        let control = fs::read_to_string(input["file"].as_str().expect("a file")).map_err(|error| error.to_string());
        json!({ "attempts": attempts, "control": control.unwrap_or_else(|error| error) })
    });
}
