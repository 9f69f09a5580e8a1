//! Records that were refused while nothing else was taken. That says as much about the other end as about them: a proxy that
//! answers everything with an error refuses no record. They are set aside, and count as refused for good only if they are
//! refused again right after another one was taken.

use std::collections::BTreeSet;

use super::{Outgoing, Refused};

/// Refusals in a row, with nothing taken between them, after which each further one is waited for; and how many records one that
/// was taken speaks against. Stops a server that refuses everything from emptying the log as fast as the network goes.
pub const REFUSED_IN_A_ROW_MAX: usize = 3;

/// What was set aside of one batch.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    aside: Vec<Outgoing>,
    /// Every record that was set aside before.
    known: BTreeSet<u64>,
    /// Why the last one was refused.
    reason: String,
    in_a_row: usize,
    /// How many refusals are believed.
    believed: usize,
}

impl Doubted {
    /// A record was refused, and nothing that was sent with it was taken. Some: for good.
    pub(super) fn refused(&mut self, outgoing: Outgoing, reason: String) -> Option<Refused> {
        let seq = outgoing.entry.seq;
        if self.believed > 0 && self.known.contains(&seq) {
            self.believed = self.believed.saturating_sub(1);
            return Some(Refused { seq, reason });
        }
        self.known.insert(seq);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.reason = reason;
        self.aside.push(outgoing);
        None
    }

    /// Why to wait before the next one; none: there is no need to.
    pub(super) fn everything_refused(&self) -> Option<&str> {
        (self.in_a_row >= REFUSED_IN_A_ROW_MAX).then_some(self.reason.as_str())
    }

    /// Something was taken: what was set aside is to be sent once more.
    pub(super) fn taken(&mut self) -> Vec<Outgoing> {
        self.in_a_row = 0;
        self.believed = REFUSED_IN_A_ROW_MAX;
        std::mem::take(&mut self.aside)
    }

    /// The first record that is still aside, and why; none: there is none.
    pub(super) fn left(self) -> Option<(u64, String)> {
        let first = self.aside.iter().map(|outgoing| outgoing.entry.seq).min()?;
        Some((first, self.reason))
    }
}
