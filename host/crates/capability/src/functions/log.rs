//! `aral:capability/log`: lines that a guest writes, and the same for its standard error. Open to all, bounded by
//! `log_bytes`; a line never holds a control character.

use crate::bindings::aral::capability::log::{Host, Level};
use crate::call::sanitised;
use crate::state::State;

/// Longest single line, in bytes; a longer one is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 16 << 10;

/// What a line costs at least, in bytes of `log_bytes`: the shortest one is an event with a time and names, and the host does as much
/// for it. Stops one write of thousands of empty lines from being as many events.
pub(crate) const LOG_LINE_COST_MIN: u64 = 64;

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
    /// counts as its text with a line end, and as [`LOG_LINE_COST_MIN`] if that is less.
    pub(crate) fn take(&mut self, message: &str) -> Option<String> {
        let cost = |text: &str| {
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            bytes.saturating_add(1).max(LOG_LINE_COST_MIN)
        };
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
        let text = |bytes: usize| "x".repeat(bytes);
        let mut book = LogBook::new(164);
        assert_eq!(book.take(&text(99)), Some(text(99)));
        assert_eq!(book.take(&text(99)), None);
        assert_eq!(book.take(&text(64)), None);
        assert_eq!(book.take(&text(63)), Some(text(63)));
        assert_eq!(book.take(""), None);
        assert_eq!((book.kept(), book.dropped()), (100 + 64, 100 + 65 + 64));
    }

    #[test]
    fn a_short_line_costs_what_its_event_does() {
        let mut book = LogBook::new(2 * LOG_LINE_COST_MIN);
        assert_eq!(book.take("").as_deref(), Some(""));
        assert_eq!(book.take("x").as_deref(), Some("x"));
        assert_eq!(book.take(""), None);
        assert_eq!(
            (book.kept(), book.dropped()),
            (2 * LOG_LINE_COST_MIN, LOG_LINE_COST_MIN)
        );
    }

    #[test]
    fn escapes_count_and_a_long_line_is_cut() {
        let mut book = LogBook::new(100);
        assert_eq!(book.take(&"\n".repeat(60)), None, "120 bytes once escaped");
        let mut book = LogBook::new(1 << 20);
        let line = book.take(&"x".repeat(LOG_LINE_BYTES_MAX * 2)).unwrap();
        assert_eq!(line.len(), LOG_LINE_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn what_a_line_costs_is_documented_with_its_value() {
        let document = include_str!("../../../../../docs/defaults.md");
        assert!(document.contains(&format!("counts as {LOG_LINE_COST_MIN} bytes at least")));
    }
}
