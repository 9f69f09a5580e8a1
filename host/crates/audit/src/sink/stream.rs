//! Writes records as lines to a stream, such as standard output.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use aral_contract::LogId;

use super::{Delivery, DeliveryFuture, Exporter, Outgoing};

/// The stream.
pub struct Stream(Mutex<Box<dyn Write + Send>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Writes to `to`.
    pub fn new(to: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(to))
    }

    /// All or none of them, as far as the stream can tell.
    fn write(&self, batch: &[Outgoing]) -> std::io::Result<()> {
        let mut text = Vec::new();
        for outgoing in batch {
            text.extend_from_slice(&outgoing.entry.line);
            text.push(b'\n');
        }
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        to.write_all(&text)?;
        to.flush()
    }
}

impl Exporter for Stream {
    fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        let delivery = match self.write(batch) {
            Ok(()) => Delivery::Done { refused: Vec::new() },
            Err(error) => Delivery::again(batch, error, None),
        };
        Box::pin(std::future::ready(delivery))
    }
}
