//! Bodies with a size and an end. Each frame is counted as it passes, in both directions; what comes late or is too much
//! ends the exchange, however slowly it drips.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::call::CallRecord;

/// Counts bytes up to a limit.
#[derive(Debug)]
struct Allowance {
    left: u64,
    limit: u64,
}

impl Allowance {
    fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// False: this frame is more than is left.
    fn take(&mut self, frame: &Frame<Bytes>) -> bool {
        let length = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (None, Some(trailers)) => trailers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum(),
            (None, None) => 0,
        };
        match self.left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// What a guest sends, up to a limit. It is whole only if the guest says so.
pub(super) struct RequestBody {
    inner: WasiBody,
    allowance: Allowance,
    call: Arc<CallRecord>,
}

impl RequestBody {
    pub(super) fn new(inner: WasiBody, call: &Arc<CallRecord>) -> Self {
        Self {
            inner,
            allowance: Allowance::new(call.frame.grant.limits.http_request_bytes),
            call: Arc::clone(call),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) if !self.allowance.take(&frame) => {
                Some(Err(Error::HttpRequestBodySize(Some(self.allowance.limit))))
            }
            // The library ends a body that went with its guest like one that the guest finished. The server would take a part for
            // the whole; after an error it gets no end.
            None if self.call.has_guest_ended() => Some(Err(Error::HttpProtocolError)),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a server answers, up to a limit and a moment.
pub(super) struct ResponseBody {
    inner: Incoming,
    allowance: Allowance,
    deadline: Pin<Box<Sleep>>,
    between_bytes: Option<Duration>,
    /// Until when the next frame is waited for, from when it was first asked for and was not there.
    idle: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl ResponseBody {
    pub(super) fn bounded(
        inner: Incoming,
        bytes_max: u64,
        deadline: Instant,
        between_bytes: Option<Duration>,
    ) -> WasiBody {
        let body = Self {
            inner,
            allowance: Allowance::new(bytes_max),
            deadline: Box::pin(sleep_until(deadline)),
            between_bytes,
            idle: None,
            ended: false,
        };
        body.boxed_unsync()
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.ended = true;
        Poll::Ready(Some(Err(error)))
    }

    /// Waits for the server. Ready: for longer than the guest wants to.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(between) = self.between_bytes else {
            return Poll::Pending;
        };
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(between)));
        idle.as_mut().poll(context)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The deadline first: a server that always has one more byte ready must not keep it from being looked at.
        if self.deadline.as_mut().poll(context).is_ready() {
            return self.fail(Error::HttpResponseTimeout);
        }
        // The pause last: how long a guest takes to read what is there is not the server's time.
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            ready!(self.poll_idle(context));
            return self.fail(Error::HttpResponseTimeout);
        };
        self.idle = None;
        match frame {
            Some(Ok(frame)) if !self.allowance.take(&frame) => {
                let limit = self.allowance.limit;
                self.fail(Error::HttpResponseBodySize(Some(limit)))
            }
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => self.fail(Error::Hyper(error)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An answer of two chunks, the second so much later than the first, of which nothing is to be read after a minute.
    async fn answer(pause: Duration, between_bytes: Option<Duration>) -> WasiBody {
        let (client, mut server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let _length = server.read(&mut [0; 1024]).await.unwrap();
            let first = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
            server.write_all(first).await.unwrap();
            sleep(pause).await;
            // Whoever asked may be gone.
            let _ = server.write_all(b"1\r\nb\r\n0\r\n\r\n").await;
        });
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(Request::new(Empty::new())).await.unwrap();
        ResponseBody::bounded(response.into_body(), 100, Instant::now() + SECOND * 60, between_bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_read_however_late_a_guest_asks_for_it() {
        let mut body = answer(Duration::ZERO, Some(SECOND)).await;
        for expected in ["a", "b"] {
            sleep(SECOND * 3).await;
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), expected);
        }
        sleep(SECOND * 3).await;
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_pauses_for_longer_than_a_guest_wants_to_wait_is_cut_off() {
        for (between_bytes, is_cut) in [(Some(SECOND), true), (Some(SECOND * 3), false), (None, false)] {
            let mut body = answer(SECOND * 2, between_bytes).await;
            assert!(body.frame().await.unwrap().is_ok());
            let second = body.frame().await.unwrap();
            assert_eq!(second.is_err(), is_cut, "{between_bytes:?}");
            if is_cut {
                assert!(matches!(second, Err(Error::HttpResponseTimeout)), "{second:?}");
                assert!(body.frame().await.is_none());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_after_the_deadline_although_it_is_there() {
        let mut body = answer(Duration::ZERO, None).await;
        sleep(SECOND * 61).await;
        let first = body.frame().await.unwrap();
        assert!(matches!(first, Err(Error::HttpResponseTimeout)), "{first:?}");
    }
}
