//! Reads a JSON document over HTTP and returns one member of it. Needs `network:read` for the host.

use aral_guest::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The `https://` address of a JSON document.
    url: String,
    /// A JSON pointer (RFC 6901) to the wanted member, such as `/items/0/name`; the whole document if it is empty.
    #[serde(default)]
    pointer: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// What the pointer leads to.
    value: serde_json::Value,
}

fn fetch(input: Input) -> Result<Output> {
    let response = http::Request::get(&input.url)
        .header("accept", "application/json")
        .timeout_ms(5_000)
        .body_bytes_max(1024 * 1024)
        .send()
        .context(|| format!("reading `{}`", input.url))?;
    if !response.is_success() {
        return Err(Error::unavailable(format!(
            "the server answered with status {}",
            response.status
        )));
    }
    let document: serde_json::Value = response.json()?;
    let value = document
        .pointer(&input.pointer)
        .ok_or_else(|| Error::invalid_input(format!("nothing is at `{}`", input.pointer)))?;
    log::info(format_args!("read {} bytes", response.body.len()));
    Ok(Output { value: value.clone() })
}

capability! { title: "Fetch JSON", description: "Reads a JSON document and returns a part of it.", run: fetch }
