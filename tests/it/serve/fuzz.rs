//! Requests that nobody here thought of: schemathesis reads `/openapi.json` and sends what fits it and what does not, the same
//! in each run. Needs what `cargo xtask test --services` installs.

use std::process::Command;

use aral_contract::Digest;
use serde_json::json;

use crate::support::guests::*;
use crate::support::server::{Server, desk};

/// Examples for each operation and phase: some thousand requests in all.
const EXAMPLES: &str = "40";
/// The same requests in each run.
const SEED: &str = "2026";

#[test]
fn what_schemathesis_sends_is_answered_as_the_description_says() {
    let python =
        std::env::var_os("ARAL_SERVICE_PYTHON").expect("ARAL_SERVICE_PYTHON: run `cargo xtask test --services`");
    let key = format!("aral_{}", "5c".repeat(16));
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"][0]["keys"] = json!([Digest::of(key.as_bytes()).to_string()]);
        // It asks more often, and shows more wrong keys, than anybody may by default.
        config["serve"]["limits"]["public_per_second"] = json!(1_000_000);
        let often = json!({ "per_second": 100_000, "burst": 100_000 });
        config["serve"]["rates"] = [
            "global",
            "address",
            "failures",
            "persona",
            "capability",
            "cost",
            "caller",
        ]
        .into_iter()
        .map(|limit| (limit.to_owned(), often.clone()))
        .collect();
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let address = server.address();
    let output = Command::new(python)
        .current_dir(desk.root())
        .args([
            "-I",
            "-m",
            "schemathesis.cli",
            "run",
            &format!("http://{address}/openapi.json"),
        ])
        .args(["--header", &format!("Authorization: Bearer {key}")])
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
    // Whatever was sent, the server is there and does its work.
    let reply = server.wire().invoke(
        &RUNTIME_ECHO_TOOL.id(),
        &[("authorization", &format!("Bearer {key}"))],
        "{\"still\":\"there\"}",
    );
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"still\":\"there\"}"));
}
