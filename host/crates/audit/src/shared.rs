//! What callers and the writer share: the queue, and what became of the records that went through it. A record gets its
//! number here, under one short lock, so that a caller can refer to it before it is written.

mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::event::{AppendOutcome, RecordReference, RoomFuture, SinkUnavailable};
use aral_contract::{Clock, Event, LogId, TraceId};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::blind::Blinder;
use crate::convert::convert;
use crate::options::Durability;
use crate::repeats::Verdict;

use state::closed;
pub(crate) use state::{Condition, Prepared, State, queue_of};

/// Most that one caller waits for room in the queue while the log cannot be written. Then its event is lost and counted,
/// because a host that hangs can neither end what is under way nor be looked at.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest that something new waits for room in the queue before it is refused. Stops what cannot be recorded from piling up
/// behind a disk that hangs, which says nothing of how long it will.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// What became of an event that was offered.
#[derive(Debug)]
enum Offered {
    Queued(u64),
    Counted,
    NoRoom(Box<Prepared>),
    Closed,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: LogId,
    pub(crate) durability: Durability,
    pub(crate) clock: Arc<dyn Clock>,
    blinder: Arc<Blinder>,
    queue_max: usize,
    /// Whether so much is queued that nothing new should begin. Written under the lock, and read without it by whoever begins
    /// something.
    crowded: AtomicBool,
    state: Mutex<State>,
    /// Wakes the writer.
    pub(crate) work: Condvar,
    /// Wakes threads that wait for room or for the disk.
    progress: Condvar,
    /// Wakes tasks that do.
    changed: Notify,
}

impl Shared {
    pub(crate) fn new(
        log: LogId,
        durability: Durability,
        clock: Arc<dyn Clock>,
        blinder: Arc<Blinder>,
        queue_max: usize,
        state: State,
    ) -> Self {
        Self {
            log,
            durability,
            clock,
            blinder,
            queue_max: queue_max.max(1),
            crowded: AtomicBool::new(false),
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            changed: Notify::new(),
        }
    }

    /// Nothing panics while it holds the lock, and what it guards is whole at every moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue_max(&self) -> usize {
        self.queue_max
    }

    /// From so many records on nothing new begins: the last quarter is for what is under way.
    fn crowd(&self) -> usize {
        self.queue_max.saturating_sub(self.queue_max >> 2)
    }

    /// What is queued, for whoever writes it. It goes on with an empty queue.
    pub(crate) fn take_queue(&self, state: &mut State, empty: Vec<Prepared>) -> Vec<Prepared> {
        self.crowded.store(false, Ordering::Relaxed);
        std::mem::replace(&mut state.queue, empty)
    }

    /// Tells everybody who waits.
    pub(crate) fn announce(&self) {
        self.progress.notify_all();
        self.changed.notify_waiters();
    }

    /// Says how the log is doing. The lock is not held for the line about it: whoever reads the log of the host may stand
    /// still.
    pub(crate) fn set_condition(&self, condition: Condition) {
        let before = std::mem::replace(&mut self.lock().condition, condition.clone());
        self.announce();
        if before != condition {
            tracing::error!(?condition, "the audit log cannot be written as it should");
        }
    }

    /// Completes at the next announcement, if it is polled or enabled before that.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn prepare(&self, event: Event) -> Option<Prepared> {
        let (at, trace) = (event.at, event.trace);
        convert(event, &self.blinder).map(|event| Prepared::new(at, trace, event))
    }

    fn offer(&self, state: &mut State, mut prepared: Prepared) -> Offered {
        if state.stopping {
            return Offered::Closed;
        }
        if let Some(source) = prepared.source.take() {
            let elapsed = self.clock.elapsed();
            if state.repeats.take(source, prepared.at, elapsed) == Verdict::Count {
                return Offered::Counted;
            }
        }
        if state.queue.len() >= self.queue_max {
            return Offered::NoRoom(Box::new(prepared));
        }
        Offered::Queued(self.queue(state, prepared))
    }

    fn queue(&self, state: &mut State, prepared: Prepared) -> u64 {
        let seq = state.push(prepared);
        if state.queue.len() >= self.crowd() {
            self.crowded.store(true, Ordering::Relaxed);
        }
        // A writer that is at work looks at the queue again by itself; waking it costs more than all the rest.
        if state.asleep || state.queue.len() == self.queue_max.div_ceil(2) {
            self.work.notify_one();
        }
        seq
    }

    /// Queues an event. Where there is no room the thread waits, unless it belongs to a runtime: others need that one, and a disk that
    /// hangs must not stand in the way of what asks nothing of it. There the event goes beyond the end; what a task begins has
    /// waited for [`Shared::room`], so that these are few.
    pub(crate) fn record(&self, event: Event) {
        let trace = event.trace;
        let Some(prepared) = self.prepare(event) else { return };
        let offered = {
            let mut state = self.lock();
            match self.offer(&mut state, prepared) {
                Offered::NoRoom(prepared) if Handle::try_current().is_ok() => {
                    Offered::Queued(self.queue(&mut state, *prepared))
                }
                done @ (Offered::Queued(_) | Offered::Counted | Offered::NoRoom(_) | Offered::Closed) => done,
            }
        };
        let offered = match offered {
            Offered::NoRoom(prepared) => self.offer_again(*prepared),
            done @ (Offered::Queued(_) | Offered::Counted | Offered::Closed) => done,
        };
        if let Offered::Closed = offered {
            self.lose(trace);
        }
    }

    /// Counts and tells that an event is in no record. The lock is not held for the line about it.
    fn lose(&self, trace: Option<TraceId>) {
        let mut state = self.lock();
        state.lost = state.lost.saturating_add(1);
        drop(state);
        tracing::error!(trace = ?trace, "an event could not be recorded: the audit log is closed or cannot be written");
    }

    /// Offers an event until it is taken. Waits on this thread.
    fn offer_again(&self, prepared: Prepared) -> Offered {
        let begun = self.clock.elapsed();
        let mut state = self.lock();
        let mut offered = self.offer(&mut state, prepared);
        while let Offered::NoRoom(prepared) = offered {
            let waited = self.clock.elapsed().saturating_sub(begun);
            if waited >= ROOM_WAIT_MAX && state.check_writable().is_err() {
                return Offered::Closed;
            }
            state = self
                .progress
                .wait_timeout(state, ROOM_WAIT_MAX)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
            offered = self.offer(&mut state, *prepared);
        }
        offered
    }

    /// Room for what is about to begin; none: there is some now.
    pub(crate) fn room(self: &Arc<Self>) -> Option<RoomFuture> {
        if !self.crowded.load(Ordering::Relaxed) {
            return None;
        }
        let shared = Arc::clone(self);
        Some(Box::pin(async move {
            let waited = tokio::time::timeout(ROOM_PATIENCE, shared.thinned()).await;
            waited.unwrap_or_else(|_elapsed| {
                let seconds = ROOM_PATIENCE.as_secs();
                let reason = format!("its disk took nothing for {seconds} s, and its queue is full");
                Err(SinkUnavailable { reason })
            })
        }))
    }

    /// Waits until there is room for something new, or until it turns out that there will be none soon.
    async fn thinned(&self) -> Result<(), SinkUnavailable> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                if !self.crowded.load(Ordering::Relaxed) {
                    return Ok(());
                }
                state.check_writable()?;
            }
            changed.await;
        }
    }

    /// Queues an event, at once if there is room, and later says what became of it.
    pub(crate) fn append(
        self: &Arc<Self>,
        event: Event,
    ) -> impl Future<Output = Result<AppendOutcome, SinkUnavailable>> + Send + use<> {
        let trace = event.trace;
        let offered = self
            .prepare(event)
            .map(|prepared| self.offer(&mut self.lock(), prepared));
        if let Some(Offered::Closed) = offered {
            // Also where nobody waits for the answer.
            self.lose(trace);
        }
        let (first, waiting) = match offered {
            None => (Some(Ok(AppendOutcome::Unreferenced)), None),
            Some(Offered::Counted) => (Some(Ok(AppendOutcome::Aggregated)), None),
            Some(Offered::Queued(seq)) => (Some(Ok(self.reference(seq))), None),
            Some(Offered::Closed) => (Some(Err(closed())), None),
            Some(Offered::NoRoom(prepared)) => (None, Some(prepared)),
        };
        let mut waiting = Waiting {
            shared: Arc::clone(self),
            prepared: waiting,
        };
        async move {
            let kept = match first {
                Some(kept) => kept?,
                None => waiting.queue().await?,
            };
            if let (AppendOutcome::Recorded(reference), Durability::Sync) = (kept, waiting.shared.durability) {
                waiting.shared.durable(reference.seq).await?;
            }
            Ok(kept)
        }
    }

    fn reference(&self, seq: u64) -> AppendOutcome {
        AppendOutcome::Recorded(RecordReference { log: self.log, seq })
    }

    /// Waits until a record is on stable storage, or until it turns out that it cannot be brought there now. What nobody waits for is
    /// brought there with it, or with the next checkpoint.
    async fn durable(&self, seq: u64) -> Result<(), SinkUnavailable> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.durable > seq {
                    return Ok(());
                }
                state.check_writable()?;
                if state.flush_to <= seq {
                    state.flush_to = seq.saturating_add(1);
                    // It may have written the record already, and sleep; at work it looks by itself.
                    if state.asleep {
                        self.work.notify_one();
                    }
                }
            }
            changed.await;
        }
    }

    /// Waits, on this thread, until every record that is queued now is on stable storage.
    pub(crate) fn flush(&self) -> Result<(), SinkUnavailable> {
        let mut state = self.lock();
        let end = state.next;
        state.flush_to = state.flush_to.max(end);
        self.work.notify_one();
        while state.durable < end {
            state.check_writable()?;
            state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// An event for which there was no room. Whoever stops waiting leaves it in the queue all the same, beyond its end: how
/// many do that is bounded by how many calls there are at once, and for strangers by what is counted of what repeats, which goes on for as
/// long as the writer stands.
#[derive(Debug)]
struct Waiting {
    shared: Arc<Shared>,
    prepared: Option<Box<Prepared>>,
}

impl Waiting {
    /// Waits for room: as long as it takes while the log is written, for a while when it cannot be.
    async fn queue(&mut self) -> Result<AppendOutcome, SinkUnavailable> {
        loop {
            if let Ok(kept) = tokio::time::timeout(ROOM_WAIT_MAX, self.room()).await {
                return kept;
            }
            let writable = self.shared.lock().check_writable();
            if let Err(unavailable) = writable {
                if let Some(prepared) = self.prepared.take() {
                    self.shared.lose(prepared.trace);
                }
                return Err(unavailable);
            }
        }
    }

    async fn room(&mut self) -> Result<AppendOutcome, SinkUnavailable> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if state.stopped {
                    return Err(closed());
                }
                if state.queue.len() < self.shared.queue_max
                    && let Some(prepared) = self.prepared.take()
                {
                    let seq = self.shared.queue(&mut state, *prepared);
                    return Ok(self.shared.reference(seq));
                }
            }
            changed.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(prepared) = self.prepared.take() else { return };
        let mut state = self.shared.lock();
        if state.stopped {
            drop(state);
            return self.shared.lose(prepared.trace);
        }
        self.shared.queue(&mut state, *prepared);
    }
}
