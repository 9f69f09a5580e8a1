//! What was refused of a batch and nothing was taken since. That says as much about the other end as about the records: a proxy
//! that answers everything with an error refuses no record, whatever it took before. They are set aside until something is taken,
//! and are refused for good then; where nothing is, they are sent again. It sends nothing itself.

use super::Refused;

/// Pieces of a batch that are refused in a row, after which a record is tried that should be taken. Stops a server that refuses
/// everything from being asked about each record of a batch.
pub const REFUSED_IN_A_ROW_MAX: usize = 3;

/// What is doubted of one batch.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    aside: Vec<Refused>,
    pieces: usize,
}

impl Doubted {
    /// A piece of the batch was refused as a whole.
    pub(super) fn refused(&mut self, refused: impl IntoIterator<Item = Refused>) {
        self.pieces = self.pieces.saturating_add(1);
        self.aside.extend(refused);
    }

    /// Something was taken. Gives what is refused for good.
    pub(super) fn taken(&mut self) -> Vec<Refused> {
        self.pieces = 0;
        std::mem::take(&mut self.aside)
    }

    /// The first record that stands aside, and why, if something else is to be tried now.
    pub(super) fn wants_probe(&self, nothing_waits: bool) -> Option<(u64, String)> {
        let first = self.aside.iter().min_by_key(|refused| refused.seq)?;
        (nothing_waits || self.pieces >= REFUSED_IN_A_ROW_MAX).then(|| (first.seq, first.reason.clone()))
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
