//! Sends the requests of the input with secrets attached, looks for the values wherever it can see, and answers with what
//! it saw. With `dropped`, the secrets are attached to a request that is then dropped, so that its place in the host's
//! table is free for the one that is sent.

use aral_test_guests::imports::aral::capability::secret_read;
use aral_test_guests::imports::wasi::http::types::{Fields, OutgoingRequest};
use aral_test_guests::{http, marker, run};
use serde_json::{Value, json};

/// Each attempt, and the number of the handle.
fn attach(request: &OutgoingRequest, names: &Value) -> Vec<(String, Option<u32>)> {
    let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
    let attached = names.map(|name| match secret_read::open(name) {
        Ok(secret) => (format!("{:?}", secret.attach(request)), Some(secret.handle())),
        Err(error) => (format!("{error:?}"), None),
    });
    attached.collect()
}

fn seen(request: &OutgoingRequest) -> Vec<String> {
    let entries = request.headers().entries().into_iter();
    entries
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
        .collect()
}

fn send(request: &Value) -> Value {
    marker(request["url"].as_str().unwrap_or_default());
    let (mut attached, mut headers) = (Vec::new(), Vec::new());
    if !request["dropped"].is_null() {
        for _ in 0..3 {
            let gone = OutgoingRequest::new(Fields::new());
            attached.extend(attach(&gone, &request["dropped"]));
        }
    }
    let sent = http::send_changed(request, |outgoing| {
        attached.extend(attach(outgoing, &request["secrets"]));
        headers = seen(outgoing);
    });
    let (result, response) = match sent {
        Ok(response) => ("ok".to_owned(), response),
        Err(error) => (format!("{error:?}"), Value::Null),
    };
    let (attached, handles): (Vec<String>, Vec<Option<u32>>) = attached.into_iter().unzip();
    json!({ "result": result, "response": response, "attached": attached, "handles": handles, "headers": headers })
}

fn main() {
    run(|input| {
        let requests = input["requests"].as_array().expect("requests");
        json!(requests.iter().map(send).collect::<Vec<_>>())
    });
}
