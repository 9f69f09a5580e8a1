//! Sends the requests of the input, one after the other, and answers with what came back or why nothing did.

use aral_test_guests::{http, marker, run};
use serde_json::{Value, json};

fn main() {
    run(|input| {
        let requests = input["requests"].as_array().expect("requests");
        let send = |request: &Value| {
            marker(&format!(
                "{} {}",
                request["method"].as_str().unwrap_or("GET"),
                request["url"].as_str().unwrap_or_default()
            ));
            match http::send(request) {
                Ok(response) => json!({ "result": "ok", "response": response }),
                Err(error) => json!({ "result": format!("{error:?}") }),
            }
        };
        json!(requests.iter().map(send).collect::<Vec<_>>())
    });
}
