//! Reads the body of a request, at most so long and at most so slowly.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::bounds::{self, Bounds};
use crate::problem::Problem;

/// The body as a whole.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bounds: &Bounds) -> Result<Bytes, Problem> {
    let bytes_max = bounds::size(bounds.body_bytes_max);
    let too_large = || {
        let hint = bounds::raise("body_bytes_max", bounds.body_bytes_max);
        Problem::body_too_large(bytes_max).with_hint(hint)
    };
    // Who says beforehand that it is too much need not send it.
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bounds.body_bytes_max) {
        return Err(too_large());
    }
    let collected = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(bounds::ms(bounds.body_ms), collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_broken)) => Err(Problem::malformed_body("the body ends too early").closing()),
        Err(_elapsed) => {
            let message = format!("the body did not come within {} ms", bounds.body_ms);
            let hint = bounds::raise("body_ms", bounds.body_ms);
            Err(Problem::request(StatusCode::REQUEST_TIMEOUT, message)
                .with_hint(hint)
                .closing())
        }
    }
}

/// The same request, once all of its body is there.
pub(crate) async fn arrived(request: Request, bounds: &Bounds) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read(&parts.headers, body, bounds).await?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Only JSON is taken, and only if the request says so: what a page can send without asking says something else.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let kind = match (given.next(), given.next()) {
        (Some(one), None) => one.to_str().unwrap_or_default(),
        _ => "",
    };
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let charset = parameters.trim();
    let known = charset.is_empty()
        || charset.eq_ignore_ascii_case("charset=utf-8")
        || charset.eq_ignore_ascii_case("charset=\"utf-8\"");
    if essence.trim().eq_ignore_ascii_case("application/json") && known {
        return Ok(());
    }
    Err(
        Problem::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not declared as JSON")
            .with_hint("send `Content-Type: application/json`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_utf_8_is_taken() {
        let takes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            check_json(&headers).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8"] {
            assert!(takes(good), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/jsonp",
            "",
        ] {
            assert!(!takes(bad), "{bad}");
        }
        assert!(check_json(&HeaderMap::new()).is_err());
    }
}
