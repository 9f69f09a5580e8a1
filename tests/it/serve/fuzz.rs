//! Requests that nobody here thought of: schemathesis reads `/openapi.json` and sends what fits it and what does not, the same
//! in each run. Which capabilities there are it learns from the links of the description, and calls them. Needs what
//! `cargo xtask test --services` installs.

use std::process::Command;

use aral_contract::Digest;
use serde_json::json;

use super::metrics::{metrics, number};
use super::receipts::{reference, signed};
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::python;
use crate::support::server::{Server, desk};

/// Examples for each operation and phase: some thousand requests in all.
const EXAMPLES: &str = "40";
/// The same requests in each run.
const SEED: &str = "2026";

/// What no description says: the number of a call that is on record (half of the numbers that are asked for are others, which may be
/// those of calls that are not signed yet), and that a key with which another request was made is refused.
fn configuration(seq: &str) -> String {
    format!(
        r#"
[dictionaries.calls]
values = [{seq}]

[[operations]]
include-name = "POST /v1/invoke/{{capability}}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "422"]

[[operations]]
include-name = "GET /v1/receipts/{{seq}}"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]

[operations.parameters]
"path.seq" = {{ dictionary = "calls", probability = 0.5 }}
"#
    )
}

/// Calls that were made, and receipts that were given.
fn done(desk: &Desk) -> [f64; 2] {
    let counted = metrics(desk);
    [
        "aral_calls_total{capability=\"runtime-echo-tool\",code=\"ok\"}",
        "aral_http_requests_total{method=\"GET\",route=\"/v1/receipts/{seq}\",status=\"200\"}",
    ]
    .map(|series| number(&counted, series))
}

#[test]
fn what_schemathesis_sends_is_answered_as_the_description_says() {
    let key = format!("aral_{}", "5c".repeat(16));
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"][0]["keys"] = json!([Digest::of(key.as_bytes()).to_string()]);
        // It asks more often, and shows more wrong keys, than anybody may by default.
        config["serve"]["limits"]["public_per_second"] = json!(1_000_000);
        config["serve"]["rates"] = aral_fuzzing::given::rates(100_000).into();
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let address = server.address();
    let authorization = format!("Bearer {key}");
    let call = || {
        let fields = [("Authorization", authorization.as_str())];
        server
            .wire()
            .invoke(&RUNTIME_ECHO_TOOL.id(), &fields, "{\"still\":\"there\"}")
    };
    let first = call();
    let (seq, _) = reference(&first);
    assert_eq!(signed(&server, &key, &seq).status, 200);
    desk.write("schemathesis.toml", configuration(&seq).as_bytes());
    let before = done(&desk);
    let output = Command::new(python::program())
        .current_dir(desk.root())
        .args([
            "-I",
            "-m",
            "schemathesis.cli",
            "run",
            &format!("http://{address}/openapi.json"),
        ])
        .args(["--header", &format!("Authorization: {authorization}")])
        .args([
            "--max-examples",
            EXAMPLES,
            "--seed",
            SEED,
            "--generation-database",
            "none",
        ])
        .args(["--checks", "all", "--no-color", "--continue-on-failure"])
        .output()
        .expect("schemathesis starts");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        !said.contains("Unresolvable"),
        "parts of the description are left out: {said}"
    );
    assert!(
        !said.contains("No links point"),
        "nothing leads to parts of the description: {said}"
    );
    let after = done(&desk);
    assert!(
        before.iter().zip(&after).all(|(before, after)| after > before),
        "no call that succeeds, or no receipt: {before:?}, then {after:?}: {said}"
    );
    // Whatever was sent, the server is there and does its work.
    let reply = call();
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"still\":\"there\"}"));
}
