//! What a host found each time it opened the log: a host that was killed leaves records that nobody has signed for, and so
//! does somebody who writes some there while no host runs. The next host goes on behind them and signs for them all, so that
//! later nothing but the order of records and checkpoints tells which they were.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use memchr::memmem;

use super::finding::What;
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

/// Most seconds that records without a checkpoint span. A log signs after one; a clock that was set while a host was killed may
/// make it look like more.
const UNSIGNED_SECONDS_MAX: i64 = 60;
/// What stands before the time of a record, and how far into its line at most.
const AT: (&[u8], usize) = (b",\"at\":\"", 160);

/// Goes along with the walk, record by record and checkpoint by checkpoint.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// From where on the log says that it is kept: in what was signed by the host that wrote it.
    retired: u64,
    /// The same, where nobody has signed yet.
    retired_unsigned: u64,
    /// The last opening: what stands before it has been counted.
    seen: u64,
    /// When the earliest and the latest record were written that nobody has signed for, of those since the last opening.
    unsigned: Option<(Timestamp, Timestamp)>,
    taken_over: TakenOver,
}

impl Openings {
    /// A record, its number, and how many records before it are signed for. What it shows to be wrong, and from which record on.
    pub(super) fn record(&mut self, line: &[u8], seq: u64, signed: u64) -> Option<(u64, What)> {
        let mut wrong = None;
        if memmem::find(line, OF_THE_LOG).is_some() {
            wrong = self.of_the_log(line, seq, signed).map(|what| (signed, what));
        }
        let Some(at) = time(line) else {
            return wrong.or(Some((seq, What::NotALine)));
        };
        let (first, last) = self.unsigned.unwrap_or((at, at));
        self.unsigned = Some((first.min(at), last.max(at)));
        wrong
    }

    fn of_the_log(&mut self, line: &[u8], seq: u64, signed: u64) -> Option<What> {
        match serde_json::from_slice::<Record>(line).map(|record| record.event) {
            Ok(AuditEvent::LogRetired(event)) => {
                self.retired_unsigned = self.retired_unsigned.max(event.kept_from);
                None
            }
            Ok(AuditEvent::LogOpened(event)) => {
                let too_long = self.unsigned_for();
                // Whoever signs from here on did not write what stands before, and cannot vouch for it.
                self.retired_unsigned = 0;
                self.unsigned = None;
                let from = signed.max(self.seen);
                let count = seq.saturating_sub(from);
                if count > 0 {
                    self.taken_over.first = self.taken_over.first.or(Some(from));
                }
                self.taken_over.records = self.taken_over.records.saturating_add(count);
                self.taken_over.cut_bytes = self.taken_over.cut_bytes.saturating_add(event.cut_bytes);
                self.seen = seq;
                let found_signed = (event.clean && seq > signed).then_some(What::OpenedSigned { opened: seq });
                found_signed.or(too_long)
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// A checkpoint that is good.
    pub(super) fn signed(&mut self) {
        self.retired = self.retired.max(std::mem::take(&mut self.retired_unsigned));
        self.unsigned = None;
    }

    /// That the records since the last opening span more time than a host leaves unsigned, if they do.
    pub(super) fn unsigned_for(&self) -> Option<What> {
        let (first, last) = self.unsigned?;
        let seconds = last.duration_since(first).as_secs();
        (seconds > UNSIGNED_SECONDS_MAX).then_some(What::UnsignedFor { seconds })
    }

    /// The last record in which a host says that it opened the log; 0: there was none, or it is the first one.
    pub(super) fn opened(&self) -> u64 {
        self.seen
    }

    pub(super) fn retired(&self) -> u64 {
        self.retired
    }

    pub(super) fn taken_over(&self) -> TakenOver {
        self.taken_over
    }
}

/// When a record says that it was written.
fn time(line: &[u8]) -> Option<Timestamp> {
    let (before, within) = AT;
    let start = line.get(..within.min(line.len())).unwrap_or_default();
    let rest = line.get(memmem::find(start, before)?.saturating_add(before.len())..)?;
    let text = rest.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}
