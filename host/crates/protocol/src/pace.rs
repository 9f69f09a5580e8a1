//! How fast the other end of an HTTP/1.1 connection has to be. A connection is always in one of these phases, and may stay only
//! so long in each in which it is the other end's turn; a call has a bound of its own. It knows no HTTP beyond that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::bounds::{self, Bounds};
use crate::request_place::RequestPlace;

/// How long nothing is asked on a connection until it gives back what it needs for requests.
const REST: Duration = Duration::from_millis(200);

/// Is told what goes over a stream.
pub(crate) trait Watch: Unpin {
    /// These bytes have come.
    fn received(&self, bytes: &[u8]);

    /// Everything that was handed over is sent.
    fn sent(&self);

    /// No more is handed over.
    fn ending(&self) {}
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// A request has begun, and its header fields have not ended.
    Reading,
    /// A request is worked on.
    Busy,
    /// An answer is on its way.
    Writing,
    /// A part of an answer is on its way, and more may come.
    Streaming,
    /// All of it so far is sent, and there is nothing more yet.
    Quiet,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// The answer has been handed over; what is left of it waits to be sent.
    handed_over: bool,
    /// Held until the answer is sent, so that answers that nobody reads take the places of requests.
    place: Option<RequestPlace>,
}

/// The pace of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Pace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    idle: Duration,
    header: Duration,
    write: Duration,
}

impl Pace {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                phase: Phase::Idle,
                since: Instant::now(),
                handed_over: false,
                place: None,
            }),
            idle: bounds::ms(bounds.idle_ms),
            header: bounds::ms(bounds.header_ms),
            write: bounds::ms(bounds.write_ms),
        }))
    }

    /// A request is whole as far as its header fields go.
    pub(crate) fn busy(&self) {
        self.lock().enter(Phase::Busy);
    }

    /// Its answer begins. One that `streams` comes in pieces, each of which has the time of a whole answer.
    pub(crate) fn writing(&self, place: Option<RequestPlace>, streams: bool) {
        let mut state = self.lock();
        state.enter(if streams { Phase::Streaming } else { Phase::Writing });
        state.place = place;
    }

    /// A piece of an answer has been handed over.
    pub(crate) fn has_more(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Quiet {
            state.phase = Phase::Streaming;
            state.since = Instant::now();
        }
    }

    /// The last byte of the answer has been handed over to the connection, which has yet to send it.
    pub(crate) fn handed_over(&self) {
        self.lock().handed_over = true;
    }

    /// Whether nothing is asked, so that nobody misses the connection.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().phase == Phase::Idle
    }

    /// Ends when the other end has taken too long. While it has not, this looks now and then, and costs a request nothing.
    pub(crate) async fn expired(&self) {
        let shortest = self.0.idle.min(self.0.header).min(self.0.write);
        passed(shortest, || self.left()).await;
    }

    /// Ends when nothing has been asked for some time.
    pub(crate) async fn rested(&self) {
        passed(REST, || {
            let state = self.lock();
            match state.phase {
                Phase::Idle => REST.saturating_sub(state.since.elapsed()),
                _ => REST,
            }
        })
        .await;
    }

    fn left(&self) -> Duration {
        let state = self.lock();
        let allowed = match state.phase {
            Phase::Idle => self.0.idle,
            Phase::Reading => self.0.header,
            Phase::Writing | Phase::Streaming => self.0.write,
            Phase::Busy | Phase::Quiet => Duration::MAX,
        };
        allowed.saturating_sub(state.since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when no time is left. What is left may grow again meanwhile, and is asked after `shortest` at the latest.
pub(crate) async fn passed(shortest: Duration, left: impl Fn() -> Duration) {
    loop {
        let left = left();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(shortest)).await;
    }
}

impl Watch for Pace {
    /// What comes while a request is worked on belongs to it, or waits for its turn.
    fn received(&self, _bytes: &[u8]) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            state.enter(Phase::Reading);
        }
    }

    fn sent(&self) {
        let mut state = self.lock();
        match state.phase {
            Phase::Writing | Phase::Streaming | Phase::Quiet if state.handed_over => state.enter(Phase::Idle),
            Phase::Streaming => state.phase = Phase::Quiet,
            Phase::Idle | Phase::Reading | Phase::Busy | Phase::Writing | Phase::Quiet => {}
        }
    }

    /// The end of a connection is sent, too: until it is, nothing more may be read from it.
    fn ending(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            state.enter(Phase::Writing);
        }
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        self.handed_over = false;
        self.place = None;
    }
}

/// A stream that tells the pace when bytes come.
#[derive(Debug)]
pub(crate) struct Paced<T, W> {
    stream: T,
    pace: W,
    /// What was read and not handed on yet.
    unread: Bytes,
}

impl<T, W> Paced<T, W> {
    pub(crate) fn new(stream: T, pace: W) -> Self {
        Self {
            stream,
            pace,
            unread: Bytes::new(),
        }
    }
}

impl<T: AsyncRead + Unpin, W: Watch> Paced<T, W> {
    /// Takes back what was read and belongs to what comes next. Empty lines before a request are nothing (RFC 9112, section 2.2).
    pub(crate) fn take_back(&mut self, unread: &Bytes) {
        let from = unread.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        self.unread = from.map(|from| unread.slice(from..)).unwrap_or_default();
        if !self.unread.is_empty() {
            self.pace.received(&self.unread);
        }
    }

    /// Waits until something comes, and needs no memory for that. False: the other end has ended.
    ///
    /// # Errors
    /// As reading.
    pub(crate) async fn begins(&mut self) -> std::io::Result<bool> {
        if self.unread.is_empty() {
            let mut byte = [0];
            let count = self.read(&mut byte).await?;
            self.unread = Bytes::copy_from_slice(byte.get(..count).unwrap_or_default());
        }
        Ok(!self.unread.is_empty())
    }
}

impl<T: AsyncRead + Unpin, W: Watch> AsyncRead for Paced<T, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match buffer.filled().get(before..) {
            Some(new) if !new.is_empty() => self.pace.received(new),
            Some(_) | None => {}
        }
        read
    }
}

impl<T: AsyncWrite + Unpin, W: Watch> AsyncWrite for Paced<T, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = &flushed {
            self.pace.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.pace.ending();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_byte_that_shows_that_something_comes_is_read_first() {
        let (mut near, far) = tokio::io::duplex(16);
        let pace = Pace::new(&Bounds::default());
        let mut stream = Paced::new(far, pace.clone());
        near.write_all(b"abc").await.unwrap();
        assert!(pace.is_idle());
        assert!(stream.begins().await.unwrap());
        assert!(!pace.is_idle());
        let mut text = [0; 3];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"abc");
        // What was read too much is read again, without the empty lines before a request.
        stream.pace.lock().enter(Phase::Idle);
        stream.take_back(&Bytes::from_static(b"\r\n"));
        assert!(pace.is_idle());
        stream.take_back(&Bytes::from_static(b"\r\n\nxyz"));
        assert!(!pace.is_idle());
        assert!(stream.begins().await.unwrap());
        near.write_all(b"!").await.unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"xyz!");
        drop(near);
        assert!(!stream.begins().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_being_ended_does_not_rest() {
        let pace = Pace::new(&Bounds::default());
        pace.ending();
        assert!(tokio::time::timeout(REST * 10, pace.rested()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_while_nothing_is_asked_and_not_before() {
        let pace = Pace::new(&Bounds::default());
        pace.busy();
        let soon = || tokio::time::timeout(REST * 10, pace.rested());
        assert!(soon().await.is_err(), "a call is under way");
        pace.writing(None, false);
        pace.handed_over();
        assert!(soon().await.is_err(), "its answer is on the way");
        pace.sent();
        assert!(soon().await.is_ok());
    }
}
