//! One HTTP/2 connection (RFC 9113) from its first byte to its end. What bounds an HTTP/1.1 connection bounds each request
//! on it, and the connection bounds how many there are. Its frames say where a request ends, so that no field has to.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use bytes::Buf;
use http::{Request, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service as _;

use crate::accept::Stop;
use crate::bounds;
use crate::connection::{Answers, Last, Place, Streaming, told};
use crate::door::Peer;
use crate::pace::Paced;
use crate::streams::{Piece, Stream, Streams};

/// What may come of the bodies of one request, and of all of a connection, before anybody reads it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How long a connection that ends may have nothing under way until its other end knows of that, if it has read what it was answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves until the other side leaves, is too slow, takes back too much, got its last answer, or the server stops.
pub(crate) async fn serve<T>(stream: T, peer: Peer, answers: Answers, mut stop: Stop)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A connection may outlive many configurations, and keeps none of them.
    let bounds = answers.bounds();
    let streams = Streams::new(&bounds);
    let service = {
        let streams = streams.clone();
        service_fn(move |request: Request<Incoming>| answer(answers.clone(), streams.begin(), peer, request))
    };
    let stream = TokioIo::new(Paced::new(stream, streams.clone()));
    let resets_max = bounds::size(bounds.resets_max);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::try_from(bounds.streams_max).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(resets_max)
        .max_local_error_reset_streams(resets_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return told(ended),
        () = streams.expired() => return tracing::debug!(peer = %peer.0, "too slow, idle for too long, or too many requests taken back"),
        // Its last answer is on the way.
        () = streams.ended() => {}
        () = stop.stopped() => {}
    }
    // Also where nothing is under way: whoever has just sent a request learns whether it was taken (RFC 9113, section 6.8).
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = &mut connection => told(ended),
        () = streams.expired() => tracing::debug!(peer = %peer.0, "too slow"),
        () = streams.rested(FAREWELL) => tracing::debug!(peer = %peer.0, "does not say that it knows of the end"),
    }
}

async fn answer(
    answers: Answers,
    stream: Stream,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Answering>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    answers.introduce(request.extensions_mut());
    let mut router = answers.router();
    // Every `Router` is ready.
    let mut response = router.call(request).await?;
    let extensions = response.extensions_mut();
    let streaming = extensions.remove::<Streaming>();
    if extensions.remove::<Last>().is_some() {
        stream.is_last();
    }
    stream.writing(extensions.remove::<Place>(), streaming);
    // A field of the connection has no place in an answer that shares it (RFC 9113, section 8.2.2).
    response.headers_mut().remove(header::CONNECTION);
    if response.body().is_end_stream() {
        stream.handed_over();
    }
    let stream = Arc::new(stream);
    Ok(response.map(|body| Answering { body, stream }))
}

/// The body of an answer.
struct Answering {
    body: Body,
    stream: Arc<Stream>,
}

impl HttpBody for Answering {
    type Data = Part;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.stream.handed_over();
        }
        let part = |bytes| Part {
            bytes,
            unsent: self.stream.piece(),
        };
        polled.map(|next| next.map(|result| result.map(|frame| frame.map_data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes of an answer. The connection has them, and with them what the answer occupies, until it sends them, however long the
/// other side takes to allow that. Few bytes it copies into its own buffer, which is bounded, and they count as sent then.
struct Part {
    bytes: Bytes,
    unsent: Piece,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.unsent.goes();
    }
}
