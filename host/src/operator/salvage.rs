//! What is left of a store whose opening is refused because records are lost, out into a backup.

use aral_contract::{Failure, rule};
use aral_memory::sealed::{Salvage, Tally};
use serde::Serialize;

use super::check::{DamagedRecord, NAMED_MAX};
use super::moves::{backup_key, moved_in_words, written};
use super::{Operator, Tell};
use crate::events::security;
use crate::storage::store_failure;

/// Writes what still opens into a backup, which comes piece by piece. No server does it: who has opened the store has lost
/// nothing.
#[derive(Debug)]
pub struct MemorySalvage {
    /// Whose private key can read it: a public key in PEM.
    pub to: String,
}

/// What was salvaged, and what was not.
#[derive(Debug, Serialize)]
pub struct Salvaged {
    /// How many records.
    pub records: u64,
    /// Of the key.
    pub key_id: String,
    /// Whether nothing is missing.
    pub whole: bool,
    /// Keys whose record is not there, or does not open.
    pub lost: u64,
    /// Keys without a record that a write may have left which was cut off before it was answered.
    pub unfinished: u64,
    /// Records whose keys are gone: deleted or replaced after what the database has, or damaged.
    pub keyless: u64,
    /// Whether those could be counted.
    pub looked_through: bool,
    /// The newest commit of the database; none: it says nothing of that.
    pub commit: Option<u64>,
    /// The newest one that is known of; none: the keys do not say of any.
    pub known_commit: Option<u64>,
    /// How many are missing at least; none: nobody can say.
    pub commits_lost: Option<u64>,
    /// How much of the database and of the keys was not read, in bytes: the disk does not read it, or what is there is not what a
    /// store writes, or keeps whoever looks through it.
    pub unreadable_bytes: u64,
    /// What is lost, as far as anything says so; the first 1,000 of them.
    pub found: Vec<DamagedRecord>,
}

impl MemorySalvage {
    /// Does it, and notes that it was a salvage. It waits for disks: call it where blocking is allowed.
    ///
    /// # Errors
    /// What is wrong with the key, or with the disk. That records are missing is none.
    pub fn act(&self, operator: &Operator, salvage: &Salvage, tell: Tell<'_>) -> Result<Salvaged, Failure> {
        let key = backup_key(&self.to)?;
        operator.check_recorded()?;
        let total = salvage.keys().map_err(store_failure)?;
        let (mut gone_out, mut found) = (Tally::default(), Vec::new());
        operator.record_kept(security(rule::MEMORY_SALVAGE_BEGUN, format!("key {}", key.id())))?;
        let ended = written(tell, total, &mut gone_out, |out, progress| {
            salvage.export(&key, out, progress, &mut |lost| {
                if found.len() < NAMED_MAX {
                    found.push(DamagedRecord::from(lost));
                }
            })
        });
        let missing = match &ended {
            Ok(salvaged) => format!("{} lost, {} without a key", salvaged.lost, salvaged.keyless),
            Err(_) => "how much is missing is not known".to_owned(),
        };
        let moved = moved_in_words(&key.id(), &gone_out, ended.as_ref().err());
        operator.record(security(rule::MEMORY_SALVAGED, format!("{moved}; {missing}")));
        let salvaged = ended?;
        Ok(Salvaged {
            records: salvaged.saved.records,
            key_id: key.id(),
            whole: salvaged.is_whole(),
            lost: salvaged.lost,
            unfinished: salvaged.unfinished,
            keyless: salvaged.keyless,
            looked_through: salvaged.is_looked_through,
            commit: salvaged.commit,
            known_commit: salvaged.known_commit,
            commits_lost: salvaged.commits_lost(),
            unreadable_bytes: salvaged.unreadable_bytes,
            found,
        })
    }
}
