//! How fast the other end of an HTTP/2 connection has to be. Many requests are under way on it at once, each with an
//! answer of its own that may be read slowly; what is bounded is the slowest of them, and the connection ends with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bounds::{self, Bounds};
use crate::connection::Streaming;
use crate::frames::Frames;
use crate::linger::LINGER_STREAMS_MAX;
use crate::pace::{Watch, passed};
use crate::request_place::RequestPlace;

/// Of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Too many requests were taken back.
    abused: Notify,
    /// Nothing more is answered.
    ended: Notify,
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
    /// When the last byte of an answer was handed to the transport.
    answered: Option<Instant>,
    /// The transport has not sent all of that.
    unsent: bool,
    /// Requests that were taken back, less those that were answered.
    taken_back: u64,
    /// Bodies of answered requests that are read on.
    lingering: u8,
}

impl State {
    /// Nobody waits for anything, and nothing is waited for.
    fn is_at_rest(&self) -> bool {
        self.open.is_empty() && self.lingering == 0
    }
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
                answered: None,
                unsent: false,
                taken_back: 0,
                lingering: 0,
            }),
            abused: Notify::new(),
            ended: Notify::new(),
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
            answer: Mutex::default(),
        }
    }

    /// Ends when the other end has taken too long, or has taken back too many requests.
    pub(crate) async fn expired(&self) {
        self.over(|| self.left().min(self.left_at_rest())).await;
    }

    /// The same of a connection that ends. How long it waits where nothing is under way is for [`rested`](Self::rested) to say.
    pub(crate) async fn expired_at_the_end(&self) {
        self.over(|| self.left()).await;
    }

    /// Ends when an answer is the last one.
    pub(crate) async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Ends when none of this is left, or too many requests were taken back.
    async fn over(&self, left: impl Fn() -> Duration) {
        let shortest = self.0.idle.min(self.0.header).min(self.0.write);
        tokio::select! {
            () = self.0.abused.notified() => {}
            () = passed(shortest, left) => {}
        }
    }

    /// What is left for what is under way.
    fn left(&self) -> Duration {
        let state = self.lock();
        let begun = state.begun.map(|since| left(since, self.0.header));
        let slowest = state.open.values().flatten().min();
        let written = slowest.map(|since| left(*since, self.0.write));
        begun.into_iter().chain(written).min().unwrap_or(Duration::MAX)
    }

    /// What is left where nothing is under way. What was handed over is an answer on its way until it is sent, and the connection is not
    /// idle before.
    fn left_at_rest(&self) -> Duration {
        let state = self.lock();
        if !state.is_at_rest() {
            return Duration::MAX;
        }
        match state.answered.filter(|_| state.unsent) {
            Some(since) => left(since, self.0.write),
            None => left(state.idle_since, self.0.idle),
        }
    }

    /// Ends once nothing has been under way for so long, from now on. Whoever was answered has the time of an answer until then, also
    /// where the transport has sent everything: the system may have the end of it, says nothing of that, and throws it away when a
    /// connection is closed whose other end still sends.
    pub(crate) async fn rested(&self, time: Duration) {
        let now = Instant::now();
        let waits = || {
            let state = self.lock();
            if !state.is_at_rest() || state.begun.is_some() {
                return Duration::MAX;
            }
            let read = state.answered.map(|since| left(since, self.0.write));
            let rest = left(state.idle_since.max(now), time);
            rest.max(read.unwrap_or_default())
        };
        passed(time, waits).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of what is allowed since then.
fn left(since: Instant, allowed: Duration) -> Duration {
    allowed.saturating_sub(since.elapsed())
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

    /// Each answer says by itself when the transport has it. Idle is who was sent all of it.
    fn sent(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.unsent) && state.is_at_rest() {
            state.idle_since = Instant::now();
        }
    }
}

/// A request and its answer, until the last byte is sent or the other side takes it back. It is dropped then.
#[derive(Debug)]
pub(crate) struct Stream {
    id: u64,
    streams: Streams,
    answer: Mutex<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    /// Held until the answer is sent, so that answers that nobody reads take the places of requests.
    place: Option<RequestPlace>,
    /// The last byte has been handed over to the connection, which has yet to send it.
    handed_over: bool,
    /// It comes in pieces, each of which has the time of a whole answer.
    in_pieces: Option<Streaming>,
    /// Since when the connection has each piece that it has not sent, in the order in which it sends them.
    unsent: VecDeque<Instant>,
    /// Something of it has been sent.
    is_begun: bool,
}

impl Stream {
    /// Its answer begins. One that comes in pieces is on its way while one of them is.
    pub(crate) fn writing(&self, place: Option<RequestPlace>, in_pieces: Option<Streaming>) {
        let mut answer = self.answer();
        answer.place = place;
        answer.in_pieces = in_pieces;
        if in_pieces.is_none() {
            self.on_its_way(Some(Instant::now()));
        }
    }

    /// What comes of its body is read on after the answer; none: there are enough of those.
    pub(crate) fn linger(&self) -> Option<Lingering> {
        let mut state = self.streams.lock();
        state.lingering = state
            .lingering
            .checked_add(1)
            .filter(|count| *count <= LINGER_STREAMS_MAX)?;
        drop(state);
        Some(Lingering(self.streams.clone()))
    }

    /// No request after it is answered.
    pub(crate) fn is_last(&self) {
        self.streams.0.ended.notify_one();
    }

    /// The last byte of the answer has been handed over to the connection, which has yet to send it.
    pub(crate) fn handed_over(&self) {
        self.answer().handed_over = true;
    }

    /// A piece of the answer has been handed over to the connection, which has it until it is sent.
    pub(crate) fn piece(self: &Arc<Self>) -> Piece {
        let mut answer = self.answer();
        answer.unsent.push_back(Instant::now());
        self.told(&answer);
        drop(answer);
        Piece(Arc::clone(self))
    }

    /// Of an answer in pieces the one that is sent next counts.
    fn told(&self, answer: &Answer) {
        if answer.in_pieces.is_some() {
            self.on_its_way(answer.unsent.front().copied());
        }
    }

    fn on_its_way(&self, since: Option<Instant>) {
        if let Some(known) = self.streams.lock().open.get_mut(&self.id) {
            *known = since;
        }
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body of an answered request that is read on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lingering(Streams);

impl Drop for Lingering {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.lingering = state.lingering.saturating_sub(1);
        if state.is_at_rest() {
            state.idle_since = Instant::now();
        }
    }
}

/// A piece of an answer that is not sent yet.
#[derive(Debug)]
pub(crate) struct Piece(Arc<Stream>);

impl Piece {
    /// Some of its bytes are sent.
    pub(crate) fn goes(&self) {
        self.0.answer().is_begun = true;
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut answer = self.0.answer();
        answer.unsent.pop_front();
        self.0.told(&answer);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (answered, ended) = {
            let answer = self.answer();
            // What has no end is ended by who reads it.
            let is_endless = answer.in_pieces == Some(Streaming::Endless);
            (answer.handed_over, is_endless && answer.is_begun)
        };
        let mut state = self.streams.lock();
        state.open.remove(&self.id);
        if state.is_at_rest() {
            state.idle_since = Instant::now();
        }
        if answered {
            state.answered = Some(Instant::now());
            state.unsent = true;
            state.taken_back = state.taken_back.saturating_sub(1);
            return;
        }
        if ended {
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

    /// A request comes, and the last byte of its answer is handed over.
    fn answer(streams: &Streams) {
        let stream = streams.begin();
        stream.writing(None, None);
        stream.handed_over();
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
        stream.writing(None, None);
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
    async fn who_does_not_know_of_the_end_is_waited_for_while_something_is_under_way() {
        let time = Duration::from_millis(100);
        let rests = async |streams: &Streams, ms| {
            let rested = tokio::time::timeout(Duration::from_millis(ms), streams.rested(time));
            rested.await.is_ok()
        };
        let streams = streams();
        tokio::time::sleep(time * 2).await;
        assert!(!rests(&streams, 90).await, "what was before does not count");
        assert!(rests(&streams, 110).await);
        let stream = streams.begin();
        assert!(!rests(&streams, 10_000).await, "a request came all the same");
        drop(stream);
        assert!(rests(&streams, 110).await);
        streams.received(&[0; 30]);
        assert!(!rests(&streams, 10_000).await, "one begins to come");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_has_the_time_of_an_answer_to_read_it_before_the_end() {
        let time = Duration::from_millis(100);
        for sent in [false, true] {
            let streams = streams();
            answer(&streams);
            if sent {
                streams.sent();
            }
            let rests = async |ms| {
                let rested = tokio::time::timeout(Duration::from_millis(ms), streams.rested(time));
                rested.await.is_ok()
            };
            assert!(!rests(290).await, "the end of it is in a buffer: sent = {sent}");
            assert!(rests(110).await, "sent = {sent}");
            assert!(!rests(90).await, "it does not know of the end: sent = {sent}");
            assert!(rests(110).await, "sent = {sent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_has_that_time_at_the_end_also_where_idle_connections_have_less() {
        let streams = Streams::new(&Bounds {
            idle_ms: 100,
            write_ms: 300,
            ..Bounds::default()
        });
        answer(&streams);
        streams.sent();
        let ends = async || {
            tokio::select! {
                () = streams.expired_at_the_end() => "expired",
                () = streams.rested(Duration::from_millis(50)) => "rested",
            }
        };
        let early = tokio::time::timeout(Duration::from_millis(290), ends()).await;
        assert_eq!(early.ok(), None);
        let late = tokio::time::timeout(Duration::from_millis(110), ends()).await;
        assert_eq!(late.ok(), Some("rested"));
        // An answer that is not read is too slow at the end, too, and so are header fields that do not end.
        let stream = streams.begin();
        stream.writing(None, None);
        let slow = tokio::time::timeout(Duration::from_millis(310), ends()).await;
        assert_eq!(slow.ok(), Some("expired"));
        drop(stream);
        streams.received(&[0; 30]);
        let slow = tokio::time::timeout(streams.0.header * 2, ends()).await;
        assert_eq!(slow.ok(), Some("expired"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_waits_to_be_sent_has_its_time_also_where_idle_connections_have_less() {
        let streams = Streams::new(&Bounds {
            idle_ms: 100,
            write_ms: 300,
            ..Bounds::default()
        });
        answer(&streams);
        assert!(!expires_within(&streams, 250).await);
        assert!(expires_within(&streams, 100).await);
        answer(&streams);
        assert!(!expires_within(&streams, 250).await);
        streams.sent();
        assert!(!expires_within(&streams, 90).await, "idle from here on");
        streams.sent();
        assert!(expires_within(&streams, 20).await, "nothing was left to be sent");
    }

    #[tokio::test(start_paused = true)]
    async fn each_piece_of_a_stream_has_the_time_of_an_answer() {
        let streams = streams();
        let stream = Arc::new(streams.begin());
        stream.writing(None, Some(Streaming::Endless));
        assert!(!expires_within(&streams, 100_000).await, "there is nothing yet");
        for _ in 0..5 {
            let pieces = [stream.piece(), stream.piece()];
            assert!(!expires_within(&streams, 200).await);
            drop(pieces);
            assert!(!expires_within(&streams, 100_000).await, "all of it is sent");
        }
        // There is always one that is not sent, and none for long.
        let mut last = stream.piece();
        for _ in 0..5 {
            assert!(!expires_within(&streams, 200).await);
            last = stream.piece();
        }
        assert!(!expires_within(&streams, 200).await);
        // Another piece is no more time for the one before.
        let another = stream.piece();
        assert!(expires_within(&streams, 200).await);
        drop((last, another));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_ended_by_who_reads_it_was_not_taken_back() {
        let streams = streams();
        let _open = streams.begin();
        let thrice = |in_pieces, goes: bool| {
            for _ in 0..3 {
                let stream = Arc::new(streams.begin());
                stream.writing(None, in_pieces);
                let piece = stream.piece();
                if goes {
                    piece.goes();
                }
            }
        };
        thrice(Some(Streaming::Endless), true);
        assert_eq!(streams.lock().taken_back, 0);
        for (in_pieces, goes) in [
            (None, true),
            (Some(Streaming::Ends), true),
            (Some(Streaming::Endless), false),
        ] {
            let before = streams.lock().taken_back;
            thrice(in_pieces, goes);
            assert_eq!(streams.lock().taken_back, before + 3, "{in_pieces:?}, {goes}");
        }
        assert!(expires_within(&streams, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_while_a_refused_body_comes() {
        let streams = streams();
        let stream = streams.begin();
        stream.writing(None, None);
        stream.handed_over();
        let lingering = stream.linger();
        assert!(lingering.is_some());
        drop(stream);
        streams.sent();
        assert!(!expires_within(&streams, 100_000).await);
        let rested = tokio::time::timeout(Duration::from_secs(100), streams.rested(Duration::from_millis(100)));
        assert!(rested.await.is_err(), "it is cut off");
        drop(lingering);
        assert!(!expires_within(&streams, 900).await, "idle from here on");
        assert!(expires_within(&streams, 200).await);
    }

    #[tokio::test]
    async fn a_few_refused_bodies_of_a_connection_are_read_on_at_once() {
        let stream = streams().begin();
        let mut kept: Vec<_> = std::iter::from_fn(|| stream.linger()).collect();
        assert_eq!(kept.len(), usize::from(LINGER_STREAMS_MAX));
        drop(kept.pop());
        assert!(stream.linger().is_some(), "one has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_taken_back_are_paid_for_with_answers() {
        let streams = streams();
        let answered = || {
            let stream = streams.begin();
            stream.writing(None, None);
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
