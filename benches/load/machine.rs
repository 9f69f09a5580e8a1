//! What the machine did besides. A virtual one does not have its processors all of the time, and what is measured while
//! somebody else has them says little about any server.

use anyhow::{Context as _, Result};

/// The columns of the first line of `/proc/stat` that add up to all of the time, and which of them was given to others.
const COLUMNS: usize = 8;
const STOLEN: usize = 7;

/// Time of processors since the machine started, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    stolen: u64,
    all: u64,
}

impl Times {
    /// As of now.
    pub(crate) fn now() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("`/proc/stat` is not what it was")
    }

    fn parse(text: &str) -> Option<Self> {
        let columns = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let columns: Option<Vec<u64>> = columns.take(COLUMNS).map(|column| column.parse().ok()).collect();
        let columns = columns?;
        Some(Self {
            stolen: *columns.get(STOLEN)?,
            all: columns.iter().sum(),
        })
    }

    /// The part of the time since then that was given to others, in percent.
    pub(crate) fn stolen_since(self, begin: Self) -> f64 {
        let all = self.all.saturating_sub(begin.all).max(1);
        self.stolen.saturating_sub(begin.stolen) as f64 * 100.0 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stolen_is_a_part_of_all_that_passed() {
        let begin = Times::parse("cpu  10 0 10 60 0 0 0 20 5 0\ncpu0 1 2\n").unwrap();
        let end = Times::parse("cpu  20 0 20 80 0 0 0 80 9 0\n").unwrap();
        assert_eq!(end.stolen_since(begin), 60.0);
        assert_eq!(begin.stolen_since(begin), 0.0);
        assert!(Times::parse("cpu  1 2 3\n").is_none());
    }
}
