//! Runs the programs of the input and answers with what they printed.

use aral_test_guests::imports::aral::capability::exec;
use aral_test_guests::{marker, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let runs = input["runs"].as_array().expect("runs").iter().map(|one| {
            let program = one["program"].as_str().expect("a program");
            let texts = one["arguments"].as_array().expect("arguments").iter();
            let arguments: Vec<String> = texts.filter_map(Value::as_str).map(str::to_owned).collect();
            let stdin = one["stdin"].as_str().unwrap_or_default();
            marker(&format!("run {program} {arguments:?}"));
            match exec::run(program, &arguments, stdin.as_bytes()) {
                Ok(output) => json!({
                    "result": "ok",
                    "status": format!("{:?}", output.status),
                    "stdout": String::from_utf8_lossy(&output.stdout),
                    "stderr": String::from_utf8_lossy(&output.stderr),
                    "truncated": output.truncated,
                }),
                Err(error) => json!({ "result": format!("{error:?}") }),
            }
        });
        json!(runs.collect::<Vec<_>>())
    });
}
