//! Reads the body of a request, at most so long and at most so slowly.

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as HttpBody;
use tokio::task::coop::consume_budget;

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
    match tokio::time::timeout(bounds::ms(bounds.body_ms), whole(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Unread::TooLarge)) => Err(too_large()),
        Ok(Err(Unread::Broken)) => Err(Problem::malformed_body("the body ends too early").closing()),
        Err(_elapsed) => {
            let message = format!("the body did not come within {} ms", bounds.body_ms);
            let hint = bounds::raise("body_ms", bounds.body_ms);
            Err(Problem::request(StatusCode::REQUEST_TIMEOUT, message)
                .with_hint(hint)
                .closing())
        }
    }
}

/// Why a body is not there as a whole.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    TooLarge,
    Broken,
}

/// All pieces of a body as one. Each piece that is kept has memory of its own, so a body of one byte each would take many times what
/// it may.
async fn whole<B: HttpBody<Data = Bytes> + Unpin>(mut body: B, bytes_max: usize) -> Result<Bytes, Unread> {
    let mut read = BytesMut::new();
    loop {
        // Nothing waits where the next piece, which may be one byte, is always there. Without this the time would not be looked at.
        consume_budget().await;
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(Unread::Broken),
            None => return Ok(read.freeze()),
        };
        let Some(piece) = frame.data_ref() else { continue };
        if piece.len() > bytes_max.saturating_sub(read.len()) {
            return Err(Unread::TooLarge);
        }
        read.extend_from_slice(piece);
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
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::tests::read_beside_others;

    /// One byte that counts how many of it there are.
    struct Counted(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_body_in_single_bytes_keeps_no_piece_of_it() {
        const BYTES: usize = 10_000;
        let alive = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (counted, highest) = (Arc::clone(&alive), Arc::clone(&most));
        let bytes = (0..BYTES).map(move |_| {
            let now = counted.fetch_add(1, Ordering::Relaxed) + 1;
            highest.fetch_max(now, Ordering::Relaxed);
            let piece = Bytes::from_owner(Counted(Arc::clone(&counted)));
            Ok::<_, Infallible>(Frame::data(piece))
        });
        let read = whole(StreamBody::new(stream::iter(bytes)), BYTES).await.unwrap();
        assert_eq!(read, vec![b'x'; BYTES]);
        assert!(most.load(Ordering::Relaxed) < 10, "{most:?}");
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_taken_lets_others_run_where_its_next_byte_is_always_there() {
        const BYTES: usize = 10_000;
        let read = read_beside_others(BYTES, |body| whole(body, BYTES)).await;
        assert_eq!(read.map(|read| read.len()), Ok(BYTES));
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_may_be_and_no_longer() {
        let pieces = || {
            let pieces =
                ["ab", "", "cd"].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece.as_bytes()))));
            StreamBody::new(stream::iter(pieces))
        };
        assert_eq!(whole(pieces(), 4).await, Ok(Bytes::from_static(b"abcd")));
        assert_eq!(whole(pieces(), 3).await, Err(Unread::TooLarge));
        let broken = [Ok(Frame::data(Bytes::from_static(b"ab"))), Err("it broke")];
        let broken = StreamBody::new(stream::iter(broken));
        assert_eq!(whole(broken, 4).await, Err(Unread::Broken));
    }

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
