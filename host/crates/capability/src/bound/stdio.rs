//! Where the standard streams of a guest lead: to the log of its call, or, for the shape `command`, to its answer. Both
//! are bounded. No guest ever reaches the streams of the host.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::call::CallRecord;
use crate::functions::log::LOG_LINE_BYTES_MAX;

/// Bytes that a guest may write at once. Stops one host call from holding a thread of the executor while it cuts millions of lines.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The library passes on whatever a guest writes, also more than `check-write` permitted.
fn check_permitted(bytes: &Bytes) -> StreamResult<()> {
    if bytes.len() > WRITE_BYTES_MAX {
        return Err(StreamError::trap("a write longer than `check-write` permitted"));
    }
    Ok(())
}

/// What the standard streams of one call are.
pub(crate) enum StandardStreams {
    /// No input; what is written goes to the log.
    Log,
    /// JSON in, JSON out; standard error goes to the log.
    Answer {
        stdin: MemoryInputPipe,
        stdout: CappedOutput,
    },
}

impl StandardStreams {
    pub(crate) fn answer(input: String, stdout: &CappedOutput) -> Self {
        Self::Answer {
            stdin: MemoryInputPipe::new(input),
            stdout: stdout.clone(),
        }
    }
}

#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    overflowed: bool,
}

/// Collects the answer of a command, up to `output_bytes`; the first byte more ends the guest.
#[derive(Debug, Clone)]
pub(crate) struct CappedOutput {
    collected: Arc<Mutex<Collected>>,
    bytes_max: usize,
}

impl CappedOutput {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            collected: Arc::default(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Collected) -> R) -> R {
        act(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was written.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.with(|collected| std::mem::take(&mut collected.bytes))
    }

    /// Whether more was written than fits.
    pub(crate) fn overflowed(&self) -> bool {
        self.with(|collected| collected.overflowed)
    }
}

impl IsTerminal for CappedOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CappedOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, which this host does not link.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for CappedOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for CappedOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        check_permitted(&bytes)?;
        let bytes_max = self.bytes_max;
        self.with(|collected| {
            if bytes.len() > bytes_max.saturating_sub(collected.bytes.len()) {
                collected.overflowed = true;
                return Err(StreamError::trap("the answer is longer than `output_bytes`"));
            }
            collected.bytes.extend_from_slice(&bytes);
            Ok(())
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

/// Turns what a guest writes into log lines. What is left without a line end is logged when the stream goes.
#[derive(Clone)]
pub(crate) struct LogStream {
    call: Arc<CallRecord>,
    level: &'static str,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    pub(crate) fn new(call: Arc<CallRecord>, level: &'static str) -> Self {
        Self {
            call,
            level,
            line: Arc::default(),
        }
    }

    fn log(&self, line: &mut Vec<u8>) {
        self.call.logged(self.level, &String::from_utf8_lossy(line));
        line.clear();
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte == b'\n' {
                self.log(&mut line);
                continue;
            }
            line.push(*byte);
            if line.len() >= LOG_LINE_BYTES_MAX {
                self.log(&mut line);
            }
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() && Arc::strong_count(&self.line) == 1 {
            let rest = std::mem::take(&mut *line);
            self.call.logged(self.level, &String::from_utf8_lossy(&rest));
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        check_permitted(&bytes)?;
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::Limits;
    use serde_json::json;

    use super::*;
    use crate::functions::log::LOG_LINE_COST_MIN;
    use crate::testing::{self, Trial};

    #[test]
    fn a_write_longer_than_permitted_ends_the_guest_and_is_cut_into_no_lines() {
        let limits = Limits::default();
        let lines_max = limits.log_bytes / LOG_LINE_COST_MIN;
        let Trial { call, kept } = Trial::new(testing::grant(json!({}), limits, &[]));
        let log = LogStream::new(Arc::clone(&call), "info");
        for mut stream in [log.p2_stream(), CappedOutput::new(1 << 20).p2_stream()] {
            assert_eq!(stream.check_write().unwrap(), WRITE_BYTES_MAX);
            let lines = |count: usize| Bytes::from(vec![b'\n'; count]);
            let refused = stream.write(lines(WRITE_BYTES_MAX + 1));
            assert!(matches!(refused, Err(StreamError::Trap(_))), "{refused:?}");
            assert!(stream.write(lines(WRITE_BYTES_MAX)).is_ok());
        }
        let taken = call.with_log(|log| log.kept() + log.dropped());
        assert_eq!(taken, WRITE_BYTES_MAX as u64 * LOG_LINE_COST_MIN);
        // Most of the lines of one write that is permitted make no event.
        assert_eq!(kept.lines().len() as u64, lines_max);
        assert!(lines_max <= 1024);
    }

    #[test]
    fn a_line_without_an_end_is_logged_in_pieces_and_not_gathered() {
        let Trial { call, kept } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        let log = LogStream::new(Arc::clone(&call), "info");
        let mut stream = log.p2_stream();
        for _ in 0..6 {
            stream.write(Bytes::from(vec![b'x'; LOG_LINE_BYTES_MAX / 2])).unwrap();
        }
        stream.write(Bytes::from_static(b"rest")).unwrap();
        assert_eq!(log.line.lock().unwrap().as_slice(), b"rest");
        let lengths: Vec<usize> = kept.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [LOG_LINE_BYTES_MAX; 3]);
    }
}
