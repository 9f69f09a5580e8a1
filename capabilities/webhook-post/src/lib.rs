//! Posts JSON to a webhook. The token that the webhook asks for is attached by the host when it sends the request: this
//! code names the secret, and never sees it.

use aral_guest::prelude::*;
use serde_json::Value;

/// Bytes of an answer that are given back: enough for an identifier or an error text.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The `https://` address of the webhook.
    url: String,
    /// What to post, as JSON.
    payload: Value,
    /// Which secret to send along: a name from the manifest entry.
    #[serde(default = "default_secret")]
    secret: String,
    /// Milliseconds to wait for the answer.
    #[serde(default = "default_timeout_ms")]
    #[schemars(range(min = 1, max = 60000))]
    timeout_ms: u64,
}

fn default_secret() -> String {
    "webhook-token".to_owned()
}

fn default_timeout_ms() -> u64 {
    10_000
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// The status code of the answer. Codes from 200 to 299 mean that the webhook took it.
    status: u16,
    /// Whether the webhook took it.
    accepted: bool,
    /// The text of the answer, at most 64 KiB.
    answer: String,
    /// Whether the answer was longer.
    truncated: bool,
}

fn post(input: Input) -> Result<Output> {
    let body = checked_body(&input)?;
    let secret = secret::open(&input.secret).context(|| format!("opening secret `{}`", input.secret))?;
    let response = http::Request::post(&input.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/plain;q=0.9")
        .body(body)
        .secret(&secret)
        .timeout_ms(input.timeout_ms)
        .body_bytes_kept(ANSWER_BYTES_MAX)
        .send()
        .context(|| format!("posting to `{}`", input.url))?;
    log::info(format_args!("the webhook answered with status {}", response.status));
    Ok(output_of(&response))
}

/// The bytes to post, once what can be checked without the host has been: a secret is not opened for a call that fails.
fn checked_body(input: &Input) -> Result<Vec<u8>> {
    if !input.url.starts_with("https://") && !input.url.starts_with("http://") {
        return Err(Error::invalid_input("`url` must begin with `https://`"));
    }
    if !(1..=60_000).contains(&input.timeout_ms) {
        return Err(Error::invalid_input("`timeout_ms` is 1 to 60000"));
    }
    Ok(serde_json::to_vec(&input.payload)?)
}

fn output_of(response: &http::Response) -> Output {
    Output {
        status: response.status,
        accepted: response.is_success(),
        answer: String::from_utf8_lossy(&response.body).into_owned(),
        truncated: response.truncated,
    }
}

capability! {
    title: "Post to a webhook",
    description: "Posts JSON to a webhook, with the token that the operator has stored for it.",
    run: post,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Input {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_real_payload_is_posted_as_it_is() {
        let text = include_str!("../tests/data/build-finished.json");
        let body = checked_body(&input(text)).unwrap();
        let posted: Value = serde_json::from_slice(&body).unwrap();
        let given: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Some(&posted), given.get("payload"));
        // Everything but the host is there.
        assert!(matches!(aral_guest::serve(post, text), Err(Error::Unavailable(_))));
    }

    #[test]
    fn bad_calls_fail_before_the_secret_is_opened() {
        for bad in [
            r#"{"url":"ftp://example.com","payload":1}"#,
            r#"{"url":"https://example.com","payload":1,"timeout_ms":0}"#,
            r#"{"url":"https://example.com","payload":1,"header":"x"}"#,
            r#"{"url":"https://example.com"}"#,
        ] {
            assert!(
                matches!(aral_guest::serve(post, bad), Err(Error::InvalidInput(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn answers_keep_their_status() {
        let response = http::Response {
            status: 429,
            headers: Vec::new(),
            body: b"slow \xff down".to_vec(),
            truncated: false,
        };
        let output = output_of(&response);
        assert_eq!(
            (output.status, output.accepted, output.answer.as_str()),
            (429, false, "slow \u{fffd} down")
        );
    }
}
