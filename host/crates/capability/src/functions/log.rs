//! `aral:capability/log`: lines that a guest writes, and the same for its standard error. Open to all, bounded by
//! `log_bytes`; a line never holds a control character.

use crate::bindings::aral::capability::log::{Host, Level};
use crate::call::sanitised;
use crate::state::State;

/// Longest single line, in bytes; a longer one is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 16 << 10;

/// How much a call has logged.
#[derive(Debug)]
pub(crate) struct LogBook {
    bytes_max: u64,
    kept: u64,
    dropped: u64,
}

impl LogBook {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            kept: 0,
            dropped: 0,
        }
    }

    /// The line as it is kept, or none: the limit of the call is reached, and the line is counted and dropped. A line
    /// counts as one byte more than its text, so that empty lines are not free.
    pub(crate) fn take(&mut self, message: &str) -> Option<String> {
        let cost = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        let left = self.bytes_max.saturating_sub(self.kept);
        let raw = message.len().min(LOG_LINE_BYTES_MAX);
        if u64::try_from(raw).unwrap_or(u64::MAX) < left {
            let line = sanitised(message, LOG_LINE_BYTES_MAX);
            let line_cost = cost(&line);
            if line_cost <= left {
                self.kept = self.kept.saturating_add(line_cost);
                return Some(line);
            }
        }
        self.dropped = self.dropped.saturating_add(cost(message));
        None
    }

    /// Bytes kept.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes dropped at the limit.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Host for State {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        self.call.logged(level, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_counted_and_dropped() {
        let mut book = LogBook::new(10);
        assert_eq!(book.take("12345").as_deref(), Some("12345"));
        assert_eq!(book.take("12345"), None);
        assert_eq!(book.take("123").as_deref(), Some("123"));
        assert_eq!(book.take(""), None);
        assert_eq!((book.kept(), book.dropped()), (10, 7));
    }

    #[test]
    fn escapes_count_and_a_long_line_is_cut() {
        let mut book = LogBook::new(10);
        assert_eq!(book.take("\n\n\n\n\n\n"), None, "twelve bytes once escaped");
        let mut book = LogBook::new(1 << 20);
        let line = book.take(&"x".repeat(LOG_LINE_BYTES_MAX * 2)).unwrap();
        assert_eq!(line.len(), LOG_LINE_BYTES_MAX + '…'.len_utf8());
    }
}
