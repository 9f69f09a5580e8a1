//! Bodies with a size and an end. Each frame is counted as it passes, in both directions; what comes late or is too much
//! ends the exchange, however slowly it drips.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

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

/// What a guest sends, up to a limit.
pub(super) struct RequestBody {
    inner: WasiBody,
    allowance: Allowance,
}

impl RequestBody {
    pub(super) fn new(inner: WasiBody, bytes_max: u64) -> Self {
        Self {
            inner,
            allowance: Allowance::new(bytes_max),
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
    deadline: Instant,
    between_bytes: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl ResponseBody {
    pub(super) fn bounded(
        inner: Incoming,
        bytes_max: u64,
        deadline: Instant,
        between_bytes: Option<Duration>,
    ) -> WasiBody {
        let timer = Box::pin(sleep_until(next(deadline, between_bytes)));
        let body = Self {
            inner,
            allowance: Allowance::new(bytes_max),
            deadline,
            between_bytes,
            timer,
            ended: false,
        };
        body.boxed_unsync()
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.ended = true;
        Poll::Ready(Some(Err(error)))
    }
}

fn next(deadline: Instant, between_bytes: Option<Duration>) -> Instant {
    let idle = between_bytes.and_then(|between| Instant::now().checked_add(between));
    idle.map_or(deadline, |idle| idle.min(deadline))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The clock first: a server that always has one more byte ready must not keep it from being looked at.
        if self.timer.as_mut().poll(context).is_ready() {
            return self.fail(Error::HttpResponseTimeout);
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) if !self.allowance.take(&frame) => {
                let limit = self.allowance.limit;
                self.fail(Error::HttpResponseBodySize(Some(limit)))
            }
            Some(Ok(frame)) => {
                if self.between_bytes.is_some() {
                    let until = next(self.deadline, self.between_bytes);
                    self.timer.as_mut().reset(until);
                }
                Poll::Ready(Some(Ok(frame)))
            }
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
