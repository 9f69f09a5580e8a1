//! What was refused of a batch of which nothing was taken. That says as much about the other end as about the records: a proxy
//! that answers everything with an error refuses no record. They are set aside until something is taken, of the batch or from
//! further on, and are refused for good then; where nothing is, all of it is sent again. It sends nothing itself.

use super::Refused;

/// Pieces of a batch that are refused before anything of it is taken, after which a record from further on is tried instead of the
/// rest. Stops a server that refuses everything from being asked about each record of a batch.
pub const REFUSED_IN_A_ROW_MAX: usize = 3;

/// What is doubted of one batch.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    aside: Vec<Refused>,
    pieces: usize,
    is_taken: bool,
}

impl Doubted {
    /// A piece of the batch was refused as a whole. Gives what is refused for good.
    pub(super) fn refused(&mut self, refused: Vec<Refused>) -> Vec<Refused> {
        if self.is_taken {
            return refused;
        }
        self.pieces = self.pieces.saturating_add(1);
        self.aside.extend(refused);
        Vec::new()
    }

    /// Something was taken. Gives what is refused for good.
    pub(super) fn taken(&mut self) -> Vec<Refused> {
        self.is_taken = true;
        std::mem::take(&mut self.aside)
    }

    /// Why something from further on is to be tried now; none: it is not.
    pub(super) fn wants_probe(&self, nothing_waits: bool) -> Option<String> {
        let last = self.aside.last()?;
        (nothing_waits || self.pieces >= REFUSED_IN_A_ROW_MAX).then(|| last.reason.clone())
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
