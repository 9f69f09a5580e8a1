//! What is under the lock: the records that wait, and how the log is doing.

use std::sync::Arc;

use aral_contract::TraceId;
use aral_contract::event::SinkUnavailable;
use jiff::Timestamp;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::repeats::{Repeats, Source};
use crate::schema::AuditEvent;

/// Records for which a queue has room from the start at most.
const ROOM_AT_FIRST_MAX: usize = 8192;

/// An event as its record says it, without anything that a record must not say.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) at: Timestamp,
    pub(super) trace: Option<TraceId>,
    pub(super) event: AuditEvent,
    pub(super) source: Option<Source>,
}

#[derive(Serialize)]
struct Body<'a> {
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
    event: &'a AuditEvent,
}

impl Prepared {
    pub(super) fn new(at: Timestamp, trace: Option<TraceId>, event: AuditEvent) -> Self {
        Self {
            at,
            trace,
            source: Source::of(&event),
            event,
        }
    }

    /// The body of its record, as a JSON object, in place of what is in `to`.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.clear();
        let body = Body {
            at: self.at,
            trace: self.trace,
            event: &self.event,
        };
        // Writing to memory fails only for maps with keys that are not text, and there are none in an event.
        if let Err(error) = serde_json::to_writer(to, &body) {
            tracing::error!(%error, "an event has no JSON form");
        }
    }
}

/// How the log is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    /// The disk is full, and what is under way is written into the space that was held for that: nothing new may begin.
    Reserve(String),
    /// Nothing can be written now.
    Failing(String),
}

#[derive(Debug)]
pub(crate) struct State {
    /// Records that wait. Their bodies are made by whoever writes them: callers have better things to do.
    pub(crate) queue: Vec<Prepared>,
    /// The number of the next record.
    pub(crate) next: u64,
    /// Records below this number are on stable storage.
    pub(crate) durable: u64,
    pub(crate) condition: Condition,
    /// Events that were lost and that no record speaks of yet.
    pub(crate) lost: u64,
    pub(crate) repeats: Repeats,
    /// Somebody waits until records below this number are on stable storage.
    pub(crate) flush_to: u64,
    /// The newest checkpoint that is on stable storage.
    pub(crate) checkpoint: Option<Arc<Checkpoint>>,
    /// The writer sleeps until it is told.
    pub(crate) asleep: bool,
    pub(crate) stopping: bool,
    /// The writer is gone.
    pub(crate) stopped: bool,
}

impl State {
    /// A queue that goes on after record `next - 1`, all of which are on stable storage.
    pub(crate) fn new(next: u64, repeats: Repeats, queue_max: usize) -> Self {
        Self {
            queue: queue_of(queue_max),
            next,
            durable: next,
            condition: Condition::Ready,
            lost: 0,
            repeats,
            flush_to: 0,
            checkpoint: None,
            asleep: false,
            stopping: false,
            stopped: false,
        }
    }

    /// Whether something new may begin.
    pub(crate) fn check_available(&self) -> Result<(), SinkUnavailable> {
        match &self.condition {
            Condition::Reserve(reason) => Err(SinkUnavailable { reason: reason.clone() }),
            Condition::Ready | Condition::Failing(_) => self.check_writable(),
        }
    }

    /// Whether what is queued will be written soon.
    pub(super) fn check_writable(&self) -> Result<(), SinkUnavailable> {
        match &self.condition {
            _ if self.stopped => Err(closed()),
            Condition::Failing(reason) => Err(SinkUnavailable { reason: reason.clone() }),
            Condition::Ready | Condition::Reserve(_) => Ok(()),
        }
    }

    /// Gives a record its number.
    pub(super) fn push(&mut self, prepared: Prepared) -> u64 {
        let seq = self.next;
        self.queue.push(prepared);
        self.next = self.next.saturating_add(1);
        seq
    }

    /// Queues an event of the log itself.
    pub(crate) fn push_own(&mut self, at: Timestamp, event: AuditEvent) -> u64 {
        self.push(Prepared::new(at, None, event))
    }
}

/// An empty queue with room for so many records, or for what is usual. It does not grow bit by bit: each piece that it left
/// behind would stay with the process.
pub(crate) fn queue_of(records_max: usize) -> Vec<Prepared> {
    Vec::with_capacity(records_max.min(ROOM_AT_FIRST_MAX))
}

pub(super) fn closed() -> SinkUnavailable {
    SinkUnavailable {
        reason: "it is closed".to_owned(),
    }
}
