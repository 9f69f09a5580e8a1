//! What a salvage came to, in numbers.

use super::transfer::Tally;

/// What a salvage came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Records that were written.
    pub saved: Tally,
    /// Keys whose record is not there, or does not open. They are of records that were acknowledged, but for those that a killed
    /// process may have left where the end of the database is lost.
    pub lost: u64,
    /// Keys without a record that a killed process may have left, or with one that another took the place of. None of them need
    /// ever have been acknowledged.
    pub unfinished: u64,
    /// Records in the database whose keys are gone: they were deleted or replaced after what the database has, or the keys are
    /// damaged.
    pub keyless: u64,
    /// Whether those could be counted. Not where the log was looked through: what was removed is among what it has.
    pub is_looked_through: bool,
    /// The newest commit that the database has; none: it says nothing of that.
    pub commit: Option<u64>,
    /// The newest one that is known of; there may have been more. None: the header of the slots, which says which was on stable
    /// storage, is not whole, and no lost record is of a later one than the database has.
    pub known_commit: Option<u64>,
    /// How much of the database and the slot file was not read, in bytes: the disk did not, or what is there is not what a store
    /// writes, such as in the header of the slots, or keeps whoever looks through it. There are 32 keys in 4,096 bytes of the slot
    /// file behind its header, and none of those counts as lost.
    pub unreadable_bytes: u64,
}

impl Salvaged {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.lost == 0
            && self.keyless == 0
            && self.is_looked_through
            && self.unreadable_bytes == 0
            && self.commits_lost() == Some(0)
    }

    /// How many commits are missing at least; none: nobody can say.
    pub fn commits_lost(&self) -> Option<u64> {
        let both = self.commit.zip(self.known_commit);
        both.map(|(commit, known)| known.saturating_sub(commit))
    }
}
