//! HTTP requests, one at a time and blocking. Permission `network:read` (GET, HEAD, OPTIONS) or `network:write` (POST,
//! PUT, PATCH, DELETE). The host decides where a request may go; redirects are never followed.

mod request;
mod send;

use serde::de::DeserializeOwned;

pub use request::{Method, Request};

use crate::{Error, Result};

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// Names in lower case, with their values, in the order of arrival.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body was longer than [`Request::body_bytes_kept`] allows, and cut.
    pub truncated: bool,
}

impl Response {
    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name that is text; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .filter(|(one, _)| one.eq_ignore_ascii_case(name))
            .find_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The body as UTF-8 text.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is not UTF-8: the server is at fault, not the caller.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Error::unavailable(format!("the answer is not UTF-8 text: {error}")))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is not that JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::unavailable(format!("the answer is not the JSON expected: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(body: &[u8]) -> Response {
        Response {
            status: 204,
            headers: vec![("x-one".to_owned(), vec![0xff]), ("x-one".to_owned(), b"two".to_vec())],
            body: body.to_vec(),
            truncated: false,
        }
    }

    #[test]
    fn headers_in_any_case_and_bodies_as_text_or_json() {
        assert_eq!(response(b"").header("X-One"), Some("two"));
        assert_eq!(response(b"").header("x-two"), None);
        assert_eq!(response(b"[1]").json::<Vec<u8>>(), Ok(vec![1]));
        assert!(matches!(response(b"[").json::<Vec<u8>>(), Err(Error::Unavailable(_))));
        assert!(matches!(response(&[0xff]).text(), Err(Error::Unavailable(_))));
        assert!(response(b"").is_success());
    }
}
