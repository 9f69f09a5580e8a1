//! One HTTP/1.1 connection from its first byte to its end: requests in, answers out, and an end when the other side is too
//! slow or the server stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{Extensions, HeaderValue, Request, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service as _;

use crate::accept::Stop;
use crate::admin;
use crate::bounds::{self, Bounds};
use crate::door::Door;
use crate::linger;
use crate::pace::{Pace, Paced};
use crate::request_place::RequestPlace;
use crate::stage::Current;
use crate::tls::ClientCertificate;

/// Says of an answer that it comes in pieces, with as much time between them as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streaming {
    /// There will be a last one.
    Ends,
    /// It goes on until its reader, or the server, ends it.
    Endless,
}

/// Says of a request that it came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secured;

/// Says of an answer that nothing more is asked on its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last;

/// Who answers on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Answers {
    /// Whatever the configuration of the moment says for a listener, at each request anew.
    Listener {
        /// What answers now.
        current: Current,
        /// Which of the listeners.
        index: usize,
        /// Whether a handshake of TLS came first.
        secured: bool,
        /// What the other end showed in it.
        certificate: Option<Arc<ClientCertificate>>,
    },
    /// Always the same.
    Management(Router),
}

impl Answers {
    pub(crate) fn router(&self) -> Router {
        match self {
            Self::Listener { current, index, .. } => current.stage().router(*index),
            Self::Management(router) => router.clone(),
        }
    }

    /// The same after a handshake, for an end that showed a certificate in it, or none.
    pub(crate) fn secured(self, certificate: Option<Arc<ClientCertificate>>) -> Self {
        match self {
            Self::Listener { current, index, .. } => Self::Listener {
                current,
                index,
                secured: true,
                certificate,
            },
            Self::Management(router) => Self::Management(router),
        }
    }

    /// The listener as the configuration of the moment has it; none: no configuration changes what answers.
    pub(crate) fn door(&self) -> Option<Arc<Door>> {
        match self {
            Self::Listener { current, index, .. } => current.stage().doors.get(*index).cloned(),
            Self::Management(_) => None,
        }
    }

    /// As of now.
    pub(crate) fn bounds(&self) -> Bounds {
        match self {
            Self::Listener { current, .. } => current.stage().bounds().clone(),
            Self::Management(_) => admin::bounds(),
        }
    }

    /// Tells a request who sends it, as far as the connection shows it.
    pub(crate) fn introduce(&self, extensions: &mut Extensions) {
        let Self::Listener {
            secured, certificate, ..
        } = self
        else {
            return;
        };
        if *secured {
            extensions.insert(Secured);
        }
        if let Some(certificate) = certificate {
            extensions.insert(Arc::clone(certificate));
        }
    }
}

/// Serves HTTP/1.1 until the other side leaves, is too slow, or the server stops.
/// The bounds of a connection are those of its beginning.
pub(crate) async fn serve<T, P>(stream: T, peer: P, answers: Answers, mut stop: Stop)
where
    T: AsyncRead + AsyncWrite + Unpin,
    P: Clone + std::fmt::Debug + Send + Sync + 'static,
{
    // A connection may outlive many configurations, and keeps none of them.
    let bounds = answers.bounds();
    let pace = Pace::new(&bounds);
    let has_body = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        has_body.store(!request.body().is_end_stream(), Ordering::Relaxed);
        Box::pin(answer(&answers, pace.clone(), peer.clone(), request))
    });
    // `pace` bounds the time of header fields, from their first byte on; hyper's own bound begins with the connection.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(bounds::size(bounds.header_bytes_max));
    let mut stream = Paced::new(stream, pace.clone());
    let mut expired = std::pin::pin!(pace.expired());
    loop {
        // Most connections wait, and what hyper needs for a request is five times what one takes that waits.
        tokio::select! {
            // A request that has begun goes before the end of the server.
            biased;
            begins = stream.begins() => match begins {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            },
            () = &mut expired => return tracing::debug!(?peer, "idle for too long"),
            () = stop.stopped() => return,
        }
        let mut connection = Box::new(builder.serve_connection(TokioIo::new(stream), &service));
        let ended = tokio::select! {
            // Hyper takes a connection of which it has read nothing for one that may end at once.
            biased;
            ended = &mut *connection => Some(ended),
            () = &mut expired => return tracing::debug!(?peer, "too slow, or idle for too long"),
            () = stop.stopped() => {
                if pace.is_idle() {
                    return;
                }
                Pin::new(&mut *connection).graceful_shutdown();
                tokio::select! {
                    ended = &mut *connection => Some(ended),
                    () = &mut expired => return tracing::debug!(?peer, "too slow"),
                }
            }
            () = pace.rested() => None,
        };
        match ended {
            Some(Ok(())) if has_body.load(Ordering::Relaxed) => {
                return Box::pin(linger::connection(connection.into_parts().io.into_inner())).await;
            }
            Some(ended) => return told(ended),
            None => {}
        }
        // No request is under way, so that this ends it at once, and leaves the stream open.
        Pin::new(&mut *connection).graceful_shutdown();
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => if ended.is_err() {
                return told(ended);
            },
            () = &mut expired => return tracing::debug!(?peer, "did not end in time"),
        }
        let parts = connection.into_parts();
        stream = parts.io.into_inner();
        // What came with the request before, and is no whole one.
        stream.take_back(&parts.read_buf);
    }
}

/// What a stranger does to a connection is nobody's error.
pub(crate) fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer<P: Clone + Send + Sync + 'static>(
    answers: &Answers,
    pace: Pace,
    peer: P,
    request: Request<Incoming>,
) -> Result<Response<Answering>, Infallible> {
    pace.busy();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    answers.introduce(request.extensions_mut());
    let mut router = answers.router();
    // Every `Router` is ready.
    let mut response = router.call(request).await?;
    let extensions = response.extensions_mut();
    let streams = extensions.remove::<Streaming>().is_some();
    let is_last = extensions.remove::<Last>().is_some();
    pace.writing(extensions.remove::<RequestPlace>(), streams);
    if is_last {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response.map(|body| Answering { body, pace }))
}

/// The body of an answer. It is dropped when the last of it has been handed over.
struct Answering {
    body: Body,
    pace: Pace,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.pace.has_more();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.pace.handed_over();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::linger::{LINGER, LINGER_BUFFER_BYTES, LINGER_BYTES_MAX};

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";

    /// Refuses everything before it has read it.
    fn refusing() -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(LINGER_BUFFER_BYTES);
        let (stopper, stop) = Stop::new();
        let serving = serve(far, (), Answers::Management(Router::new()), stop);
        (near, stopper, tokio::spawn(serving))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_it_sends_sees_why() {
        let (mut near, _stopper, serving) = refusing();
        near.write_all(HEAD).await.unwrap();
        near.write_all(&vec![b'x'; LINGER_BYTES_MAX / 2])
            .await
            .expect("it is taken");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let begun = Instant::now();
        drop(near);
        serving.await.unwrap();
        assert!(begun.elapsed() < LINGER, "nobody waits for who has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_sees_at_once_that_nothing_follows() {
        for field in ["", "connection: upgrade\r\nupgrade: h2c\r\n"] {
            let (mut near, _stopper, serving) = refusing();
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{field}content-length: 1\r\n\r\n");
            near.write_all(head.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            assert!(begun.elapsed() < LINGER, "{field}");
            drop(near);
            serving.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_on_is_not_listened_to_for_long() {
        let (mut near, _stopper, serving) = refusing();
        near.write_all(HEAD).await.unwrap();
        let begun = Instant::now();
        serving.await.unwrap();
        assert!(begun.elapsed() < LINGER * 2, "it sends nothing, and stays");

        let (mut near, _stopper, serving) = refusing();
        near.write_all(HEAD).await.unwrap();
        let piece = vec![b'x'; LINGER_BUFFER_BYTES];
        let mut sent = 0;
        while near.write_all(&piece).await.is_ok() {
            sent += piece.len();
            assert!(sent < LINGER_BYTES_MAX * 2, "it sends for ever");
        }
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_the_server_ends_sees_why_too() {
        let mut message = HEAD.to_vec();
        message.resize(LINGER_BYTES_MAX / 2, b'x');
        for sent in [4, LINGER_BYTES_MAX / 4] {
            let (mut near, stopper, serving) = refusing();
            let (first, rest) = message.split_at(sent);
            near.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            stopper.send(true).unwrap();
            tokio::task::yield_now().await;
            near.write_all(rest).await.expect("it is taken");
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            drop(near);
            serving.await.unwrap();
        }
    }
}
