//! What was refused of a batch and nothing was taken since. That says as much about the other end as about the records: a proxy
//! that answers everything with an error refuses no record, whatever it took before. They are set aside until something is taken,
//! and wait then once more, before everything else: what was taken shows that one server takes something, and behind its address
//! there may be another one that refuses everything. What is refused again each time is refused for good, if something is taken
//! once all of them were sent again. It sends nothing itself.

use std::collections::VecDeque;

use super::{Outgoing, Refused};

/// Pieces of a batch that are refused in a row, after which a record is tried that should be taken. Stops a server that refuses
/// everything from being asked about each record of a batch.
pub const REFUSED_IN_A_ROW_MAX: usize = 3;
/// How often a piece that was refused is sent again once something else was taken, one time right after the other, until it is
/// refused for good. Stops one of two servers behind one address, which refuses everything, from losing records: where they take
/// turns, the second time reaches the other one.
pub const REFUSED_AGAIN_MAX: usize = 2;

/// What is doubted of one batch.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    /// What stands aside, in order, and why the first of it does.
    aside: Vec<Outgoing>,
    reason: String,
    /// The last record of each piece of it.
    pieces: Vec<u64>,
    /// The last record of each piece that is sent again. They wait before everything else.
    again: VecDeque<u64>,
    /// How often the first of these was refused again.
    refused_again: usize,
    /// What of them was refused again each time.
    in_vain: Option<InVain>,
}

/// What was refused again each time.
#[derive(Debug)]
pub(super) struct InVain {
    /// Its first record.
    pub(super) first: u64,
    /// Its last record.
    pub(super) last: u64,
    /// What was said of each, at least one.
    pub(super) refused: Vec<Refused>,
}

impl Doubted {
    /// How many of those that wait are sent at once at most. Nothing else goes with a piece that is sent again: what it is refused
    /// for says nothing about others.
    pub(super) fn together(&mut self, waiting: &[Outgoing]) -> usize {
        while let Some(last) = self.again.front().copied() {
            let piece = waiting.partition_point(|outgoing| outgoing.entry.seq <= last);
            if piece > 0 {
                return piece;
            }
            self.again.pop_front();
        }
        waiting.len()
    }

    /// A piece, the first `count` of those that wait, was refused as a whole.
    pub(super) fn refused(&mut self, waiting: &mut Vec<Outgoing>, count: usize, refused: Vec<Refused>) {
        if self.again.is_empty() {
            if let Some(first) = refused.into_iter().next().filter(|_| self.aside.is_empty()) {
                self.reason = first.reason;
            }
            self.aside.extend(waiting.drain(..count));
            self.pieces.extend(self.aside.last().map(|outgoing| outgoing.entry.seq));
            return;
        }
        self.refused_again = self.refused_again.saturating_add(1);
        if self.refused_again < REFUSED_AGAIN_MAX {
            return;
        }
        self.refused_again = 0;
        let mut piece = waiting.drain(..count).map(|outgoing| outgoing.entry.seq);
        let Some(first) = piece.next() else {
            return;
        };
        let last = piece.next_back().unwrap_or(first);
        let in_vain = self.in_vain.get_or_insert_with(|| InVain {
            first,
            last,
            refused: Vec::new(),
        });
        in_vain.last = last;
        in_vain.refused.extend(refused);
    }

    /// What was refused again each time, once nothing of what is sent again waits any more. It is asked for together, as each time
    /// that something is tried is another copy of a record where the other end keeps them all.
    pub(super) fn in_vain(&mut self, waiting: &[Outgoing]) -> Option<InVain> {
        let next = waiting.first().map(|outgoing| outgoing.entry.seq);
        let is_over = self.again.back().zip(next).is_none_or(|(last, next)| next > *last);
        self.in_vain.take_if(|_| is_over)
    }

    /// The same at a pause: what was refused before it says nothing about who answers after it.
    pub(super) fn give_up(&mut self) -> Option<InVain> {
        self.in_vain.take()
    }

    /// Something was taken: what stands aside waits again.
    pub(super) fn taken(&mut self, waiting: &mut Vec<Outgoing>) {
        self.refused_again = 0;
        self.again.extend(self.pieces.drain(..));
        let behind = std::mem::replace(waiting, std::mem::take(&mut self.aside));
        waiting.extend(behind);
    }

    /// The first record that stands aside, and why, if something else is to be tried now.
    pub(super) fn wants_probe(&self, nothing_waits: bool) -> Option<(u64, String)> {
        let first = self.aside.first()?;
        (nothing_waits || self.pieces.len() >= REFUSED_IN_A_ROW_MAX).then(|| (first.entry.seq, self.reason.clone()))
    }
}

/// The record to try of those from `untried` to before `end`, none if there are none: the newest, the first, and then by turns
/// one that is nearer to the middle, so that records which are refused as well do not hold up the others for ever.
pub(super) fn probe_at(untried: u64, end: u64, in_vain: u64) -> Option<u64> {
    let last = end.checked_sub(1).filter(|last| *last >= untried)?;
    let step = (in_vain / 2).checked_rem(end.saturating_sub(untried))?;
    if in_vain.is_multiple_of(2) {
        Some(last.saturating_sub(step))
    } else {
        Some(untried.saturating_add(step))
    }
}
