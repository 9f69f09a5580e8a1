//! Reads for a moment what still comes of a request that is answered, and throws it away. Whoever is refused before its body was
//! read, and sends it first, would often see an end of the connection or of the stream instead of the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::coop::consume_budget;

/// How long what a client still sends is read after its answer, and how much of it, in bytes. Stops one that goes on for ever from
/// holding a connection, or a request on it.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
pub(crate) const LINGER_BYTES_MAX: usize = 16 << 20;
/// So much of it at once.
pub(crate) const LINGER_BUFFER_BYTES: usize = 8 << 10;
/// Bodies of one connection of HTTP/2 that are read so at once. One beyond them is ended at once. Stops a stranger who is refused
/// again and again from having more kept for it than a connection of HTTP/1.1 keeps.
pub(crate) const LINGER_STREAMS_MAX: u8 = 4;

/// Of a connection of HTTP/1.1 whose last answer is sent. The system resets a connection that is closed while something is unread.
/// Connections that wait are not to take its memory: it is called in a box.
pub(crate) async fn connection<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) {
    let reading = async {
        // Hyper leaves that out where the request would have liked to go on in another protocol.
        let _shut_already = stream.shutdown().await;
        let (mut buffer, mut left) = (vec![0; LINGER_BUFFER_BYTES], LINGER_BYTES_MAX);
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                Ok(_) | Err(_) => return,
            }
        }
    };
    let _long_enough = tokio::time::timeout(LINGER, reading).await;
}

/// Of a request of HTTP/2 whose answer begins. A stream is reset when its body is dropped before the end of it has come, and curl 7.88
/// throws the answer away then.
pub(crate) async fn request<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let reading = async {
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            // Nothing waits where the next piece, which may be one byte, is always there. Without this the time would not be looked at.
            consume_budget().await;
            match body.frame().await {
                Some(Ok(frame)) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) | None => return,
            }
        }
    };
    let _long_enough = tokio::time::timeout(LINGER, reading).await;
}

/// The body of a request, and what is left of it once whoever answers has dropped it.
pub(crate) fn shared(body: Incoming) -> (Body, Rest) {
    let body = Arc::new(Mutex::new(body));
    (Body::new(Shared(Arc::clone(&body))), Rest(body))
}

/// What is left of a body.
pub(crate) struct Rest(Arc<Mutex<Incoming>>);

impl Rest {
    /// The body; none: all of it was read, or somebody still reads it.
    pub(crate) fn unread(self) -> Option<Incoming> {
        let body = Arc::into_inner(self.0)?;
        let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!body.is_end_stream()).then_some(body)
    }
}

struct Shared(Arc<Mutex<Incoming>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Incoming) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::read_beside_others;

    #[tokio::test]
    async fn a_body_whose_next_byte_is_always_there_lets_others_run() {
        read_beside_others(10_000, request).await;
    }
}
