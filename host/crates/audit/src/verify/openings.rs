//! What a host found each time it opened the log: a host that was killed leaves records that nobody has signed for, and so
//! does somebody who writes some there while no host runs. The next host goes on behind them and signs for them all, so that
//! later nothing but the order of records and checkpoints tells which they were.

#[cfg(test)]
mod tests;

use memchr::memmem;

use crate::schema::{AuditEvent, Record};

/// What every record holds that speaks of the log itself. No text holds it: in a text each `"` is escaped.
const OF_THE_LOG: &[u8] = b"\"type\":\"log_";

/// What stood at the end of the log, unsigned, when a host opened it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// How many records.
    pub records: u64,
    /// The first of them; none: there were none.
    pub first: Option<u64>,
    /// How many bytes were no records in their place, and were cut off.
    pub cut_bytes: u64,
}

/// Goes along with the walk, record by record and checkpoint by checkpoint.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// From where on the log says that it is kept: in what was signed by the host that wrote it.
    retired: u64,
    /// The same, where nobody has signed yet.
    retired_unsigned: u64,
    /// The last opening: what stands before it has been counted.
    seen: u64,
    taken_over: TakenOver,
}

impl Openings {
    /// A record, its number, and how many records before it are signed for.
    pub(super) fn record(&mut self, line: &[u8], seq: u64, signed: u64) {
        if memmem::find(line, OF_THE_LOG).is_none() {
            return;
        }
        match serde_json::from_slice::<Record>(line).map(|record| record.event) {
            Ok(AuditEvent::LogRetired(event)) => {
                self.retired_unsigned = self.retired_unsigned.max(event.kept_from);
            }
            Ok(AuditEvent::LogOpened(event)) => {
                // Whoever signs from here on did not write what stands before, and cannot vouch for it.
                self.retired_unsigned = 0;
                let from = signed.max(self.seen);
                let count = seq.saturating_sub(from);
                if count > 0 {
                    self.taken_over.first = self.taken_over.first.or(Some(from));
                }
                self.taken_over.records = self.taken_over.records.saturating_add(count);
                self.taken_over.cut_bytes = self.taken_over.cut_bytes.saturating_add(event.cut_bytes);
                self.seen = seq;
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// A checkpoint that is good.
    pub(super) fn signed(&mut self) {
        self.retired = self.retired.max(std::mem::take(&mut self.retired_unsigned));
    }

    pub(super) fn retired(&self) -> u64 {
        self.retired
    }

    pub(super) fn taken_over(&self) -> TakenOver {
        self.taken_over
    }
}
