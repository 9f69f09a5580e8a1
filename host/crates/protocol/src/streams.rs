//! How fast the other end of an HTTP/2 connection has to be. Many requests are under way on it at once, each with an
//! answer of its own that may be read slowly; what is bounded is the slowest of them, and the connection ends with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bounds::{self, Bounds};
use crate::connection::Place;
use crate::frames::Frames;
use crate::pace::{Watch, passed};

/// Of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Too many requests were taken back.
    abused: Notify,
    idle: Duration,
    header: Duration,
    write: Duration,
    resets_max: u64,
}

#[derive(Debug)]
struct State {
    frames: Frames,
    /// Since when something has begun that holds up what is behind it.
    begun: Option<Instant>,
    /// What is under way, and since when its answer is.
    open: BTreeMap<u64, Option<Instant>>,
    next: u64,
    /// Since when nothing is under way, if nothing is.
    idle_since: Instant,
    /// Requests that were taken back, less those that were answered.
    taken_back: u64,
}

impl Streams {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                frames: Frames::new(),
                begun: None,
                open: BTreeMap::new(),
                next: 0,
                idle_since: Instant::now(),
                taken_back: 0,
            }),
            abused: Notify::new(),
            idle: bounds::ms(bounds.idle_ms),
            header: bounds::ms(bounds.header_ms),
            write: bounds::ms(bounds.write_ms),
            resets_max: bounds.resets_max,
        }))
    }

    /// A request has come, as far as its header fields go.
    pub(crate) fn begin(&self) -> Stream {
        let mut state = self.lock();
        let id = state.next;
        state.next = state.next.wrapping_add(1);
        state.open.insert(id, None);
        Stream {
            id,
            streams: self.clone(),
            place: Mutex::new(None),
            handed_over: Mutex::new(false),
        }
    }

    /// Ends when the other end has taken too long, or has taken back too many requests.
    pub(crate) async fn expired(&self) {
        tokio::select! {
            () = self.0.abused.notified() => {}
            () = self.slow() => {}
        }
    }

    async fn slow(&self) {
        let shortest = self.0.idle.min(self.0.header).min(self.0.write);
        passed(shortest, || self.left()).await;
    }

    fn left(&self) -> Duration {
        let state = self.lock();
        let left = |since: Instant, allowed: Duration| allowed.saturating_sub(since.elapsed());
        let begun = state.begun.map(|since| left(since, self.0.header));
        let written = state
            .open
            .values()
            .flatten()
            .min()
            .map(|since| left(*since, self.0.write));
        let idle = state.open.is_empty().then(|| left(state.idle_since, self.0.idle));
        [begun, written, idle]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// Whether nothing is under way, so that nobody misses the connection.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.open.is_empty() && state.begun.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Streams {
    fn received(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let progress = state.frames.advance(bytes);
        state.begun = match state.begun {
            _ if !progress.begun => None,
            Some(since) if !progress.ended => Some(since),
            Some(_) | None => Some(Instant::now()),
        };
    }

    /// Each answer says by itself when it is sent.
    fn sent(&self) {}
}

/// A request and its answer, until the last byte is sent or the other side takes it back. It is dropped then.
#[derive(Debug)]
pub(crate) struct Stream {
    id: u64,
    streams: Streams,
    /// Held until the answer is sent, so that answers that nobody reads take the places of requests.
    place: Mutex<Option<Place>>,
    handed_over: Mutex<bool>,
}

impl Stream {
    /// Its answer begins.
    pub(crate) fn writing(&self, place: Option<Place>) {
        if let Some(since) = self.streams.lock().open.get_mut(&self.id) {
            *since = Some(Instant::now());
        }
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// The last byte of the answer has been handed over to the connection, which has yet to send it.
    pub(crate) fn handed_over(&self) {
        *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let answered = *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.streams.lock();
        state.open.remove(&self.id);
        if state.open.is_empty() {
            state.idle_since = Instant::now();
        }
        if answered {
            state.taken_back = state.taken_back.saturating_sub(1);
            return;
        }
        state.taken_back = state.taken_back.saturating_add(1);
        if state.taken_back > self.streams.0.resets_max {
            self.streams.0.abused.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        Streams::new(&Bounds {
            idle_ms: 1_000,
            header_ms: 100,
            write_ms: 300,
            resets_max: 2,
            ..Bounds::default()
        })
    }

    async fn expires_within(streams: &Streams, ms: u64) -> bool {
        let expired = tokio::time::timeout(Duration::from_millis(ms), streams.expired());
        expired.await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_bound() {
        let idle = streams();
        assert!(!expires_within(&idle, 900).await);
        assert!(expires_within(&idle, 200).await);

        let busy = streams();
        let stream = busy.begin();
        assert!(!expires_within(&busy, 100_000).await, "a call has a bound of its own");
        stream.writing(None);
        let other = busy.begin();
        assert!(!expires_within(&busy, 200).await);
        assert!(
            expires_within(&busy, 200).await,
            "the slowest answer, whatever else goes on"
        );
        drop((stream, other));

        let reading = streams();
        reading.received(&[0; 30]);
        let _stream = reading.begin();
        assert!(!expires_within(&reading, 90).await);
        // A byte now and then does not help.
        reading.received(&[0]);
        assert!(expires_within(&reading, 20).await);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_taken_back_are_paid_for_with_answers() {
        let streams = streams();
        let answered = || {
            let stream = streams.begin();
            stream.writing(None);
            stream.handed_over();
        };
        for _ in 0..10 {
            drop(streams.begin());
            drop(streams.begin());
            answered();
            answered();
        }
        let _open = streams.begin();
        assert!(!expires_within(&streams, 100_000).await);
        for _ in 0..3 {
            drop(streams.begin());
        }
        assert!(expires_within(&streams, 1).await);
    }
}
