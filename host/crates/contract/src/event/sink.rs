//! The trait of whatever takes events, and what it answers. It knows no file and no format.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::id::LogId;

/// Takes events. Implemented by the audit log, by sinks for embedders, and by tests.
pub trait AuditSink: Send + Sync + std::fmt::Debug {
    /// Takes one event. It does not wait for a disk: what it cannot take at once it queues. Only where the queue is full
    /// does it hold the caller up, because an event is never dropped to save time. It holds up no thread of a runtime, which others
    /// need: what begins there waits for [`AuditSink::room`] before, so that the queue does not grow without end.
    fn record(&self, event: Event);

    /// Takes one event at once, in the order of the calls, and answers when it is kept as safely as this sink promises.
    /// Dropping the answer does not take the event back.
    fn append(&self, event: Event) -> RecordFuture {
        self.record(event);
        Box::pin(std::future::ready(Ok(AppendOutcome::Unreferenced)))
    }

    /// Whether events can be kept now. Who begins something that must be recorded asks first, and refuses it if not.
    ///
    /// # Errors
    /// Why they cannot.
    fn available(&self) -> Result<(), SinkUnavailable> {
        Ok(())
    }

    /// Room for the events of something that is about to begin: none, there is some, and [`AuditSink::record`] will take them at
    /// once; otherwise when there will be. Asking costs next to nothing where there is room.
    fn room(&self) -> Option<RoomFuture> {
        None
    }
}

/// The answer of [`AuditSink::append`], later.
pub type RecordFuture = Pin<Box<dyn Future<Output = Result<AppendOutcome, SinkUnavailable>> + Send>>;

/// The answer of [`AuditSink::room`], later but not much: that there is room, or why there is none.
pub type RoomFuture = Pin<Box<dyn Future<Output = Result<(), SinkUnavailable>> + Send>>;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// This sink keeps events that nobody can refer to, or none of this kind.
    Unreferenced,
    /// It is a record of a log.
    Recorded(RecordReference),
    /// It was counted with others like it, and stands for itself no longer.
    Aggregated,
}

/// Names one record. Whoever holds this can ask for its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordReference {
    /// Of which log.
    pub log: LogId,
    /// Its number there, from 0.
    pub seq: u64,
}

/// Events cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written: {reason}")]
pub struct SinkUnavailable {
    /// Why, and what would help.
    pub reason: String,
}
