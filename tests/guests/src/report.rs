//! How a guest reports. It knows the two shapes: a command speaks over standard streams, a tool over the ABI.

use std::fmt::Debug;
use std::io::Read;

use serde_json::{Value, json};

use crate::imports::aral::capability::log;

/// Runs a command: JSON on standard input, JSON on standard output.
pub fn run(attack: impl FnOnce(Value) -> Value) {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .expect("the input is readable");
    let input = serde_json::from_str(&text).expect("the input is JSON");
    println!("{}", attack(input));
}

/// Says that the attacking line comes next. The host shows it as a log event, also when the call fails after it.
pub fn marker(text: &str) {
    eprintln!("marker: {text}");
}

/// The same, through the log function of the ABI.
pub fn marker_log(text: &str) {
    log::log(log::Level::Info, &format!("marker: {text}"));
}

/// One attempt, as the answer lists it: what was tried, and either `ok` or how it failed.
pub fn attempt<T, E: Debug>(what: &str, result: Result<T, E>) -> Value {
    marker(what);
    match result {
        Ok(_) => json!({ "what": what, "result": "ok" }),
        Err(error) => json!({ "what": what, "result": format!("{error:?}") }),
    }
}
