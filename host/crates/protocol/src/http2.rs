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
use crate::connection::{Answers, Last, Streaming, told};
use crate::door::Peer;
use crate::linger::{self, Rest};
use crate::pace::Paced;
use crate::request_place::RequestPlace;
use crate::streams::{Piece, Stream, Streams};

/// What may come of the bodies of one request, and of all of a connection, before anybody reads it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How long a connection that ends may have nothing under way until its other end knows of that, if its last answer is long ago.
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
        () = streams.expired_at_the_end() => tracing::debug!(peer = %peer.0, "too slow"),
        () = streams.rested(FAREWELL) => tracing::debug!(peer = %peer.0, "does not say that it knows of the end"),
    }
}

async fn answer(
    answers: Answers,
    stream: Stream,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Answering>, Infallible> {
    let (head, body) = request.into_parts();
    let (body, rest) = if body.is_end_stream() {
        (Body::empty(), None)
    } else {
        let (body, rest) = linger::shared(body);
        (body, Some(rest))
    };
    let mut request = Request::from_parts(head, body);
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
    stream.writing(extensions.remove::<RequestPlace>(), streaming);
    // A field of the connection has no place in an answer that shares it (RFC 9113, section 8.2.2).
    response.headers_mut().remove(header::CONNECTION);
    if response.body().is_end_stream() {
        stream.handed_over();
    }
    if let Some(unread) = rest.and_then(Rest::unread)
        && let Some(lingering) = stream.linger()
    {
        tokio::spawn(async move {
            linger::request(unread).await;
            drop(lingering);
        });
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

#[cfg(test)]
mod tests {
    use std::io;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadBuf};
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::sync::watch;

    use super::*;
    use crate::linger::{LINGER, LINGER_BYTES_MAX, LINGER_STREAMS_MAX};
    use crate::tests::next_frame;

    const ANSWER_BYTES: usize = 128 << 10;
    /// Room for all of the answer with the system of the server, and for a part of it with that of the client.
    const SEND_BUFFER_BYTES: u32 = 208 << 10;
    const RECEIVE_BUFFER_BYTES: u32 = 16 << 10;

    /// Counts what the system has taken to send it.
    struct Counted {
        stream: TcpStream,
        taken: watch::Sender<usize>,
    }

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
            if let Poll::Ready(Ok(count)) = &written {
                self.taken.send_modify(|taken| *taken += count);
            }
            written
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    const ACK: u8 = 1;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// A frame, of whatever stream (RFC 9113, section 4.1).
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, stream][..], payload].concat()
    }

    /// A client of a server that refuses everything before it has read it.
    struct Refused {
        near: DuplexStream,
        _stopper: watch::Sender<bool>,
        /// Reasons of the streams that were reset.
        resets: Vec<Vec<u8>>,
        /// Answers whose end has come.
        answered: usize,
    }

    impl Refused {
        /// With so many requests, whose bodies do not come yet, all of them answered.
        async fn with(requests: u8) -> Self {
            let (near, far) = tokio::io::duplex(64 << 10);
            let (stopper, stop) = Stop::new();
            let answers = Answers::Management(Router::new().fallback(|| async { "no" }));
            tokio::spawn(serve(far, Peer(([192, 0, 2, 1], 1).into()), answers, stop));
            let mut client = Self {
                near,
                _stopper: stopper,
                resets: Vec::new(),
                answered: 0,
            };
            client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
            for number in 0..requests {
                // `POST http://localhost/`, of which more follows.
                let head = b"\x83\x84\x86\x41\x09localhost";
                client.send(&frame(HEADERS, END_HEADERS, number * 2 + 1, head)).await;
            }
            while client.answered < usize::from(requests) {
                client.next().await;
            }
            client
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.near.write_all(bytes).await.unwrap();
        }

        /// Whether what came is the answer to a ping.
        async fn next(&mut self) -> bool {
            let (kind, flags, payload) = next_frame(&mut self.near).await.expect("the connection has ended");
            match kind {
                DATA if flags & END_STREAM != 0 => self.answered += 1,
                RST_STREAM => self.resets.push(payload),
                PING => return flags & ACK != 0,
                _ => {}
            }
            false
        }

        /// Sends, and reads what the server says to it.
        async fn exchange(&mut self, bytes: &[u8]) {
            self.send(bytes).await;
            self.send(&frame(PING, 0, 0, &[0; 8])).await;
            while !self.next().await {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_its_body_is_on_its_way_sees_no_reset() {
        let mut client = Refused::with(1).await;
        // The server has nothing more to do when the clock goes on.
        tokio::time::sleep(LINGER / 2).await;
        client.exchange(&frame(DATA, END_STREAM, 1, b"{}")).await;
        tokio::time::sleep(LINGER * 2).await;
        client.exchange(&[]).await;
        assert_eq!(client.resets.len(), 0);
    }

    /// No error (RFC 9113, section 8.1).
    const NO_ERROR: [u8; 4] = [0; 4];

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_and_sends_on_is_not_listened_to_for_long() {
        let mut client = Refused::with(1).await;
        client.exchange(&frame(DATA, 0, 1, b"{")).await;
        tokio::time::sleep(LINGER * 2).await;
        client.exchange(&[]).await;
        assert_eq!(client.resets, [NO_ERROR], "it sends nothing more, and stays");

        let mut client = Refused::with(1).await;
        let piece = vec![b'x'; 16 << 10];
        let mut sent = 0;
        while client.resets.is_empty() {
            client.exchange(&frame(DATA, 0, 1, &piece)).await;
            sent += piece.len();
            assert!(sent < LINGER_BYTES_MAX * 2, "it sends for ever");
        }
        assert!(sent >= LINGER_BYTES_MAX, "only {sent} bytes were read");
        assert_eq!(client.resets, [NO_ERROR]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_refused_bodies_a_few_are_listened_to() {
        let mut client = Refused::with(LINGER_STREAMS_MAX + 3).await;
        tokio::time::sleep(LINGER / 2).await;
        client.exchange(&[]).await;
        assert_eq!(client.resets, [NO_ERROR; 3]);
    }

    #[tokio::test]
    async fn an_answer_that_the_system_has_taken_outlasts_the_end_of_the_server() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SEND_BUFFER_BYTES).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let mut client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let (taken, mut watched) = watch::channel(0);
        let router = Router::new().route("/", get(|| async { vec![7_u8; ANSWER_BYTES] }));
        let (stopper, stop) = Stop::new();
        let answers = Answers::Management(router);
        let server = tokio::spawn(serve(Counted { stream, taken }, Peer(address), answers, stop));
        let megabyte = [0, 16, 0, 0];
        let request = [
            PREFACE.to_vec(),
            // SETTINGS_INITIAL_WINDOW_SIZE, and the same for the connection.
            frame(SETTINGS, 0, 0, &[&[0, 4][..], &megabyte].concat()),
            frame(WINDOW_UPDATE, 0, 0, &megabyte),
            // `GET http://localhost/` in one frame, with nothing behind it.
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x84\x86\x41\x09localhost"),
        ];
        client.write_all(&request.concat()).await.unwrap();
        let all = watched.wait_for(|taken| *taken > ANSWER_BYTES);
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .unwrap()
            .unwrap();
        stopper.send(true).unwrap();
        tokio::time::pause();
        tokio::time::sleep(FAREWELL * 3).await;
        tokio::time::resume();
        // A system that has thrown the answer away answers this with a reset.
        client.write_all(&frame(WINDOW_UPDATE, 0, 0, &megabyte)).await.unwrap();
        let reading = async {
            let mut bytes = 0;
            while let Some((kind, flags, payload)) = next_frame(&mut client).await {
                match kind {
                    DATA => bytes += payload.len(),
                    PING if flags != ACK => client.write_all(&frame(PING, ACK, 0, &payload)).await.unwrap(),
                    _ => {}
                }
            }
            bytes
        };
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        assert_eq!(read.unwrap(), ANSWER_BYTES);
        server.await.unwrap();
    }
}
