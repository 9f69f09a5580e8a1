//! Copies of the log elsewhere. The file is the log; a sink reads it from where it stood, delivers, and then remembers
//! where it stands, so that nothing is lost while what it delivers to is down, and what was delivered twice is the same
//! record under the same name. It knows formats and answers, and no socket: whoever assembles the host hands it a
//! transport.

mod doubted;
pub mod elastic;
mod name;
pub mod otlp;
mod position;
mod shipper;
pub mod stream;
mod unwinding;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aral_contract::{Digest, LogId};

use crate::cursor::{Cursor, Entry, ReadError};
use crate::schema::Record;

pub use doubted::{REFUSED_AGAIN_MAX, REFUSED_IN_A_ROW_MAX};
pub use name::{SinkName, SinkNameError};
pub use position::{PositionError, check_position};
pub use shipper::{Shipper, SinkStatus};

/// Most records that are delivered at once.
pub const BATCH_RECORDS_MAX: usize = 500;
/// Most bytes of records that are delivered at once. Stops one request from being larger than servers take.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Largest answer that is read. Stops a server from filling memory.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A record on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// As it stands in the log.
    pub entry: Entry,
    /// What it says.
    pub record: Record,
}

impl Outgoing {
    /// Its leaf in the Merkle tree: with it a copy can be compared with the log.
    pub fn leaf(&self) -> Digest {
        self.entry.leaf()
    }

    fn read(cursor: &mut Cursor) -> Result<Option<Self>, ReadError> {
        let Some(entry) = cursor.advance()? else {
            return Ok(None);
        };
        let record = entry.record()?;
        Ok(Some(Self { entry, record }))
    }
}

/// A record that was refused. It is for good if others are taken in the same answer, or another one after that and it is still
/// refused when it is sent again; then it stays in the file alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub seq: u64,
    /// Why, in the words of who refused it.
    pub reason: String,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is over: delivered, or refused.
    Done {
        /// What was refused. If that is all of it, it is sent again: at once where something else is taken, and later if not.
        refused: Vec<Refused>,
    },
    /// Some have to be sent again, later.
    Again {
        /// The numbers of these.
        seqs: Vec<u64>,
        /// What was refused.
        refused: Vec<Refused>,
        /// Why.
        reason: String,
        /// When, if the other end said so.
        after: Option<Duration>,
    },
    /// The whole was refused: it is sent in smaller pieces, so that only what is really wrong stays out.
    Split {
        /// Why.
        reason: String,
    },
}

impl Delivery {
    fn again(batch: &[Outgoing], reason: impl fmt::Display, after: Option<Duration>) -> Self {
        Self::Again {
            seqs: batch.iter().map(|outgoing| outgoing.entry.seq).collect(),
            refused: Vec::new(),
            reason: reason.to_string(),
            after,
        }
    }
}

/// The answer of an exporter, later.
pub type DeliveryFuture<'a> = Pin<Box<dyn Future<Output = Delivery> + Send + 'a>>;

/// Brings records to one place.
pub trait Exporter: Send + Sync + fmt::Debug {
    /// Delivers a batch of a log, or says what became of it. The order of the records is that of the log.
    fn deliver<'a>(&'a self, log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a>;
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// When to come again, if it says so.
    pub retry_after: Option<Duration>,
    /// At most [`ANSWER_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// Nothing came back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// The answer of a transport, later.
pub type AnswerFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send + 'a>>;

/// Sends a body to a server: one whose address, certificates and credentials whoever made this has decided.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends `body` with POST to a path of the server, and reads the answer with a cap and a deadline.
    fn post<'a>(&'a self, path: &'a str, content_type: &'static str, body: Vec<u8>) -> AnswerFuture<'a>;
}

/// Whether the server took the request as a whole, and its answer is worth reading.
fn taken(answer: &Answer) -> bool {
    (200..=299).contains(&answer.status) && answer.body.len() <= ANSWER_BYTES_MAX
}

/// What it means that it did not.
fn failed(batch: &[Outgoing], answer: &Answer) -> Delivery {
    if answer.body.len() > ANSWER_BYTES_MAX {
        return Delivery::again(batch, "the answer of the server is too long", None);
    }
    let reason = format!("the server answered with status {}", answer.status);
    match answer.status {
        400 | 413 | 422 => Delivery::Split { reason },
        // A wrong key or address is a mistake that somebody will correct, and until then nothing is lost.
        _ => Delivery::again(batch, reason, answer.retry_after),
    }
}
