//! What is asked for, and the checks that need no host: a request that cannot be sent fails here with a text that says
//! why. Whether it may be sent is the host's decision and none of this module's business.

use http::header::{HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};

use crate::bindings::wasi::http::types::OutgoingRequest;
use crate::secret::Secret;
use crate::{Error, Result};

/// Milliseconds that a request may take unless [`Request::timeout_ms`] says otherwise.
const TIMEOUT_MS: u64 = 10_000;

/// Bytes of an answer that are read unless [`Request::body_bytes_max`] says otherwise: what fits a small guest's memory.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is done at the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the headers only.
    Head,
    /// Asks what can be done.
    Options,
    /// Sends something.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

/// What happens to an answer that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    Fail,
    Cut,
}

/// A secret together with the call that uses it. The function is named only by [`Request::secret`]: a capability that
/// attaches no secret does not import `secret-read`, and needs no permission for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attachment<'a> {
    secret: &'a Secret,
    attach: fn(&Secret, &OutgoingRequest) -> Result<()>,
}

impl Attachment<'_> {
    pub(super) fn apply(&self, request: &OutgoingRequest) -> Result<()> {
        (self.attach)(self.secret, request)
    }
}

/// One request. Nothing is checked before [`send`](Request::send).
///
/// ```no_run
/// use aral_guest::http::Request;
/// # fn main() -> aral_guest::Result<()> {
/// let response = Request::get("https://api.example.com/items?limit=3").header("accept", "application/json").send()?;
/// let items: Vec<String> = response.json()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) method: Method,
    url: String,
    headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) attachment: Option<Attachment<'a>>,
    pub(super) timeout_ms: u64,
    pub(super) body_bytes_max: usize,
    pub(super) overflow: Overflow,
}

impl<'a> Request<'a> {
    /// A request with this method to an `http://` or `https://` URL.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            attachment: None,
            timeout_ms: TIMEOUT_MS,
            body_bytes_max: BODY_BYTES_MAX,
            overflow: Overflow::Fail,
        }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// A POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Lets the host add a secret when it sends the request: to the header that the manifest entry names, only to the
    /// hosts that it names, and without showing the value here.
    #[must_use]
    pub fn secret(mut self, secret: &'a Secret) -> Self {
        self.attachment = Some(Attachment {
            secret,
            attach: Secret::attach,
        });
        self
    }

    /// Milliseconds from sending to the last byte of the answer; 10,000 unless set. The host may allow less.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// A longer answer is an [`Error::Limit`]; 8 MiB unless set. The host may allow less.
    #[must_use]
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self.overflow = Overflow::Fail;
        self
    }

    /// A longer answer is cut here and marked [`truncated`](super::Response::truncated).
    #[must_use]
    pub fn body_bytes_kept(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self.overflow = Overflow::Cut;
        self
    }

    /// Sends the request and reads the whole answer. Any status is an answer, 404 and 500 too.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a URL or header that cannot be sent, [`Error::Denied`] if the host does not allow it,
    /// [`Error::Unavailable`] if the server does not answer in time or not in HTTP, [`Error::Limit`] if it says too much.
    pub fn send(&self) -> Result<super::Response> {
        let target = Target::parse(&self.url)?;
        let headers = self.checked_headers()?;
        if cfg!(not(target_family = "wasm")) {
            return Err(Error::outside_host());
        }
        super::send::send(self, &target, &headers)
    }

    fn checked_headers(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut checked = Vec::with_capacity(self.headers.len() + 1);
        for (name, value) in &self.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Error::invalid_input(format!("`{}` is not a header name", name.escape_debug())))?;
            let value = HeaderValue::from_str(value).map_err(|_| {
                Error::invalid_input(format!(
                    "the value of header `{header}` holds a character that headers cannot carry"
                ))
            })?;
            checked.push((header.as_str().to_owned(), value.as_bytes().to_vec()));
        }
        if let Some(body) = &self.body {
            // Without it the body travels in chunks, which small servers behind webhooks often do not read.
            checked.retain(|(name, _)| name != "content-length");
            checked.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        Ok(checked)
    }
}

/// A URL in the three parts that a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) secure: bool,
    pub(super) authority: String,
    pub(super) path_with_query: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            let shown: String = url.chars().take(200).collect();
            Error::invalid_input(format!("`{}` is not a URL to send to: {reason}", shown.escape_debug()))
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| refuse(&error.to_string()))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refuse("it must begin with `https://` or `http://`")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse(
                "a user name in a URL is not supported: use a header or a secret",
            ));
        }
        Ok(Self {
            secure,
            authority: authority.as_str().to_owned(),
            // What `Uri` calls path and query may lack the path.
            path_with_query: match uri.query() {
                Some(query) => format!("{}?{query}", uri.path()),
                None => uri.path().to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_three_parts() {
        fn check(url: &str, secure: bool, authority: &str, path_with_query: &str) {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.secure, &*target.authority, &*target.path_with_query),
                (secure, authority, path_with_query)
            );
        }
        check("https://example.com", true, "example.com", "/");
        check("HTTPS://Example.com/a?b=c#d", true, "Example.com", "/a?b=c");
        check("http://127.0.0.1:8080/x", false, "127.0.0.1:8080", "/x");
        check("http://[::1]:8080?q", false, "[::1]:8080", "/?q");
    }

    #[test]
    fn urls_that_cannot_be_sent() {
        for (url, reason) in [
            ("", "empty"),
            ("example.com", "must begin"),
            ("/path", "must begin"),
            ("ftp://example.com/", "must begin"),
            ("https://user:password@example.com/", "user name"),
            ("https://example.com/a b", "invalid uri character"),
            ("https://exa\nmple.com/", "invalid uri character"),
        ] {
            match Target::parse(url) {
                Err(Error::InvalidInput(text)) => assert!(text.contains(reason), "{url:?}: {text}"),
                other => panic!("{url:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_long_url_is_not_repeated_in_full() {
        let error = Target::parse(&format!("gopher://{}", "x".repeat(10_000))).unwrap_err();
        assert!(error.text().len() < 400, "{error}");
    }

    #[test]
    fn headers_are_checked_and_the_length_is_ours() {
        let headers = Request::post("https://example.com")
            .header("Content-Type", "text/plain")
            .header("Content-Length", "1")
            .body("four")
            .checked_headers()
            .unwrap();
        assert_eq!(
            headers,
            [
                ("content-type".to_owned(), b"text/plain".to_vec()),
                ("content-length".to_owned(), b"4".to_vec())
            ]
        );
        for (name, value) in [("", "x"), ("a b", "x"), ("a", "x\r\nb: c"), ("a\0", "x")] {
            let request = Request::get("https://example.com").header(name, value);
            assert!(
                matches!(request.send(), Err(Error::InvalidInput(_))),
                "{name:?}: {value:?}"
            );
        }
    }

    #[test]
    fn what_can_be_sent_needs_a_host() {
        assert!(matches!(
            Request::get("https://example.com").send(),
            Err(Error::Unavailable(_))
        ));
    }
}
