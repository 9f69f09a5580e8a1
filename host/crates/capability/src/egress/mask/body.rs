//! A body whose echoes are overwritten. Its end is held back for as long as an echo could have begun there; how much that
//! is does not depend on what stands in it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use wasmtime_wasi_http::{Error, WasiBody};

use super::{Echoes, Masker};

/// Bytes of a body that are looked through in one turn. Stops a server whose frames are long, or many at once, from holding a thread
/// of the runtime.
const TURN_BYTES: usize = 4 << 10;

/// The same body, echoes overwritten.
pub(in super::super) fn masked(inner: WasiBody, echoes: Arc<Echoes>) -> WasiBody {
    let body = MaskedBody {
        inner,
        masker: Masker::new(Arc::clone(&echoes)),
        echoes,
        unread: Bytes::new(),
        held: BytesMut::new(),
        held_from: 0,
        last_zero: None,
        ready: VecDeque::new(),
        ended: false,
    };
    body.boxed_unsync()
}

struct MaskedBody {
    inner: WasiBody,
    echoes: Arc<Echoes>,
    masker: Masker,
    /// What of the last frame was not looked through yet.
    unread: Bytes,
    held: BytesMut,
    /// Where in the body the first byte that is held stands.
    held_from: u64,
    /// Where in the body the last zero stands.
    last_zero: Option<u64>,
    /// The last frames, once the inner body has ended.
    ready: VecDeque<Frame<Bytes>>,
    ended: bool,
}

impl MaskedBody {
    /// Looks through as much of the last frame as is left of this turn.
    fn read(&mut self, left: &mut usize) {
        let piece = self.unread.split_to(self.unread.len().min(*left));
        *left = left.saturating_sub(piece.len());
        self.take(&piece);
    }

    fn take(&mut self, bytes: &[u8]) {
        let length = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        // As it was sent: what is found in it changes nothing here.
        if let Some(zero) = bytes.iter().rposition(|byte| *byte == 0) {
            let at = self.held_from.saturating_add(length(self.held.len()));
            self.last_zero = Some(at.saturating_add(length(zero)));
        }
        self.held.extend_from_slice(bytes);
        self.masker.feed(bytes);
        self.masker.marks.overwrite(&mut self.held, self.held_from);
    }

    /// Gives out what no echo can reach any more.
    fn free(&mut self) -> Option<Bytes> {
        let zeros = self.last_zero.is_some_and(|zero| zero >= self.held_from);
        let free = self.held.len().checked_sub(self.echoes.held_back(zeros))?;
        self.release(free)
    }

    fn release(&mut self, length: usize) -> Option<Bytes> {
        if length == 0 {
            return None;
        }
        self.held_from = self.held_from.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Some(self.held.split_to(length.min(self.held.len())).freeze())
    }

    fn end(&mut self, last: Option<Frame<Bytes>>) {
        self.ended = true;
        let rest = self.release(self.held.len());
        self.ready.extend(rest.map(Frame::data));
        self.ready.extend(last);
    }
}

impl Body for MaskedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut left = TURN_BYTES;
        loop {
            if self.ended {
                return Poll::Ready(self.ready.pop_front().map(Ok));
            }
            if !self.unread.is_empty() {
                if left == 0 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.read(&mut left);
                // However many turns it takes, no more than one frame is given out for one that came.
                if !self.unread.is_empty() {
                    continue;
                }
                if let Some(free) = self.free() {
                    return Poll::Ready(Some(Ok(Frame::data(free))));
                }
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => self.end(None),
                Some(Err(error)) => {
                    // What is held back may be the half of an echo.
                    self.ended = true;
                    self.held.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.unread = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        let masked = trailers.map(|trailers| Frame::trailers(self.echoes.mask_fields(&trailers)));
                        self.end(masked);
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty()
    }
}
