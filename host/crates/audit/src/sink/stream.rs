//! Writes records as lines to a stream, such as standard output.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::LogId;

use super::{Delivery, DeliveryFuture, Exporter, Outgoing};

type To = Arc<Mutex<Box<dyn Write + Send>>>;

/// The stream.
pub struct Stream(To);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Writes to `to`.
    pub fn new(to: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }
}

/// All or none of it, as far as the stream can tell.
fn write(to: &To, text: &[u8]) -> std::io::Result<()> {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    to.write_all(text)?;
    to.flush()
}

impl Exporter for Stream {
    /// On a thread where it may block for as long as nobody reads the other end: other sinks go on meanwhile.
    fn deliver<'a>(&'a self, _log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        let mut text = Vec::new();
        for outgoing in batch {
            text.extend_from_slice(&outgoing.entry.line);
            text.push(b'\n');
        }
        let to = Arc::clone(&self.0);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || write(&to, &text)).await;
            match written.unwrap_or_else(|error| Err(error.into())) {
                Ok(()) => Delivery::Done { refused: Vec::new() },
                Err(error) => Delivery::again(batch, error, None),
            }
        })
    }
}
