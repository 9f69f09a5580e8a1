//! Reads a page or document over HTTP: status, headers and text, and, if asked for, only what a person would read of an
//! HTML page. It never follows a redirect: it says where it leads, and the caller decides. Where requests may go is the
//! host's decision.

mod charset;
mod readable;

use std::collections::BTreeMap;

use aral_guest::prelude::*;
use http::{Method, Request, Response};

/// Bytes of a body that are kept unless the caller asks for less. As text in JSON it stays below the host's output limit.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Headers that a caller may send along: more are no sensible request.
const HEADERS_MAX: usize = 32;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    /// Reads.
    #[default]
    Get,
    /// Reads the headers only.
    Head,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// An `https://` or `http://` address.
    url: String,
    /// What to do there.
    #[serde(default)]
    method: Verb,
    /// Headers to send along, at most 32.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Whether an HTML page is reduced to its title and the text that a person would read.
    #[serde(default)]
    readable: bool,
    /// Milliseconds to wait for the whole answer.
    #[serde(default = "default_timeout_ms")]
    #[schemars(range(min = 1, max = 60000))]
    timeout_ms: u64,
    /// Bytes of the body to keep; what comes after is cut.
    #[serde(default = "default_body_bytes_max")]
    #[schemars(range(min = 0, max = 1048576))]
    body_bytes_max: usize,
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_body_bytes_max() -> usize {
    BODY_BYTES_MAX
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// The status code.
    status: u16,
    /// The headers, names in lower case; several of one name are joined by `, `.
    headers: BTreeMap<String, String>,
    /// Where a redirect leads. It was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// The text of the body; absent if the body is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The title of the page, if `readable` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The name of the character set that the text was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    charset: Option<String>,
    /// Bytes of the body that were read.
    body_bytes: usize,
    /// Whether the body was longer.
    truncated: bool,
}

fn fetch(input: Input) -> Result<Output> {
    if input.headers.len() > HEADERS_MAX {
        return Err(Error::invalid_input(format!(
            "at most {HEADERS_MAX} headers can be sent"
        )));
    }
    if !(1..=60_000).contains(&input.timeout_ms) || input.body_bytes_max > BODY_BYTES_MAX {
        return Err(Error::invalid_input(
            "`timeout_ms` is 1 to 60000 and `body_bytes_max` at most 1048576",
        ));
    }
    let method = match input.method {
        Verb::Get => Method::Get,
        Verb::Head => Method::Head,
    };
    let mut request = Request::new(method, &input.url)
        .timeout_ms(input.timeout_ms)
        .body_bytes_kept(input.body_bytes_max);
    for (name, value) in &input.headers {
        request = request.header(name, value);
    }
    let response = request.send().context(|| format!("reading `{}`", input.url))?;
    Ok(output_of(&response, input.readable))
}

fn output_of(response: &Response, readable: bool) -> Output {
    let content_type = response.header("content-type").unwrap_or_default();
    let media_type = media_type(content_type);
    let mut output = Output {
        status: response.status,
        headers: joined_headers(response),
        location: response
            .header("location")
            .filter(|_| (300..400).contains(&response.status))
            .map(str::to_owned),
        text: None,
        title: None,
        charset: None,
        body_bytes: response.body.len(),
        truncated: response.truncated,
    };
    if response.body.is_empty() || !is_text(&media_type, &response.body) {
        return output;
    }
    let html = media_type == "text/html" || media_type == "application/xhtml+xml";
    let (text, charset) = charset::decode(&response.body, content_type, html);
    output.charset = Some(charset.to_owned());
    if readable && html {
        let page = readable::extract(&text);
        output.title = page.title;
        output.text = Some(page.text);
    } else {
        output.text = Some(without_controls(&text));
    }
    output
}

fn joined_headers(response: &Response) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &response.headers {
        let value = without_controls(&String::from_utf8_lossy(value));
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&value);
            })
            .or_insert(value);
    }
    headers
}

fn media_type(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// By what the server says; if it says nothing, a body without NUL near its beginning counts as text.
fn is_text(media_type: &str, body: &[u8]) -> bool {
    const TEXT: [&str; 7] = [
        "application/json",
        "application/xml",
        "application/javascript",
        "application/x-ndjson",
        "application/yaml",
        "application/toml",
        "application/x-www-form-urlencoded",
    ];
    if media_type.is_empty() || media_type == "application/octet-stream" {
        return !body.iter().take(8192).any(|byte| *byte == 0);
    }
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || TEXT.contains(&media_type)
}

/// Control characters say nothing to a reader, and each takes six bytes in JSON: the answer would grow past its limit.
fn without_controls(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect()
}

capability! {
    title: "Fetch a page",
    description: "Reads a web page or document and returns status, headers and text; can reduce HTML to readable text. \
                  Redirects are reported, not followed.",
    run: fetch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(content_type: &str, body: &[u8]) -> Response {
        Response {
            status: 200,
            headers: vec![("content-type".to_owned(), content_type.as_bytes().to_vec())],
            body: body.to_vec(),
            truncated: false,
        }
    }

    #[test]
    fn a_real_page() {
        let page = include_bytes!("../tests/data/article.html");
        let output = output_of(&response("text/html; charset=utf-8", page), true);
        assert_eq!(output.title.as_deref(), Some("Tides & moons – Harbour notes"));
        assert_eq!(output.text.as_deref(), Some(include_str!("../tests/data/article.txt")));
        let whole = output_of(&response("text/html", page), false);
        assert_eq!(whole.text.as_deref(), std::str::from_utf8(page).ok());
    }

    #[test]
    fn text_is_told_from_other_things() {
        fn check(content_type: &str, body: &[u8], text: bool) {
            assert_eq!(
                output_of(&response(content_type, body), true).text.is_some(),
                text,
                "{content_type}"
            );
        }
        check("text/plain", b"a", true);
        check("Application/JSON; charset=utf-8", b"{}", true);
        check("image/svg+xml", b"<svg/>", true);
        check("image/png", b"\x89PNG", false);
        check("", b"plain", true);
        check("", b"\0\x01", false);
        check("application/octet-stream", b"a\0", false);
        check("text/plain", b"", false);
    }

    #[test]
    fn a_redirect_is_reported() {
        let mut redirect = response("text/html", b"moved");
        redirect.status = 302;
        redirect
            .headers
            .push(("location".to_owned(), b"http://169.254.169.254/".to_vec()));
        assert_eq!(
            output_of(&redirect, false).location.as_deref(),
            Some("http://169.254.169.254/")
        );
        redirect.status = 200;
        assert_eq!(output_of(&redirect, false).location, None);
    }

    #[test]
    fn headers_of_one_name_are_joined_and_cleaned() {
        let mut answer = response("text/plain", b"a\x07b\r\nc");
        answer.headers.push(("Vary".to_owned(), b"accept".to_vec()));
        answer.headers.push(("vary".to_owned(), b"\xffx\x1b".to_vec()));
        let output = output_of(&answer, false);
        assert_eq!(
            output.headers.get("vary").map(String::as_str),
            Some("accept, \u{fffd}x")
        );
        assert_eq!(output.text.as_deref(), Some("ab\nc"));
    }

    #[test]
    fn bad_calls_fail_before_anything_is_sent() {
        for bad in [
            r#"{"url":"gopher://example.com"}"#,
            r#"{"url":"https://example.com","method":"POST"}"#,
            r#"{"url":"https://example.com","timeout_ms":0}"#,
            r#"{"url":"https://example.com","body_bytes_max":9999999}"#,
            r#"{"url":"https://example.com","headers":{"a b":"c"}}"#,
            r#"{"url":"https://example.com","follow":true}"#,
        ] {
            let answer = aral_guest::serve(fetch, bad);
            assert!(matches!(answer, Err(Error::InvalidInput(_))), "{bad}: {answer:?}");
        }
        let answer = aral_guest::serve(
            fetch,
            r#"{"url":"https://example.com","headers":{"accept":"text/html"}}"#,
        );
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    }
}
