//! Records out of a store into a backup, and out of a backup into a store.

use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;

use aral_contract::Classification;
use aral_contract::id::Namespace;

use super::SealedStore;
use super::check::Look;
use super::commit::GROUP_MAX;
use super::queue::Together;
use super::root::Space;
use super::whole_record::WholeRecord;
use super::work::Work;
use crate::backup::{BackupError, BackupPrivateKey, BackupPublicKey, Reader, Writer};
use crate::record::RecordName;
use crate::store::StoreError;

/// What to do with a record that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, unless its name does not open.
    #[default]
    Keep,
    /// It goes.
    Replace,
}

/// Records that went out or came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub records: u64,
    /// How many of them are secrets.
    pub secrets: u64,
    /// How sensitive the most sensitive one is; none: there was none.
    pub highest: Option<Classification>,
}

impl Tally {
    pub(super) fn count(&mut self, is_secret: bool, classification: Classification) {
        self.records = self.records.saturating_add(1);
        self.secrets = self.secrets.saturating_add(u64::from(is_secret));
        self.highest = self.highest.max(Some(classification));
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were written.
    pub restored: Tally,
    /// Records that were there already, and stayed.
    pub kept: u64,
    /// Records whose time is over.
    pub expired: u64,
}

impl Imported {
    /// Records that were looked at.
    pub fn seen(&self) -> u64 {
        self.restored
            .records
            .saturating_add(self.kept)
            .saturating_add(self.expired)
    }
}

/// A record that an import wrote.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Whether it is a secret of the operator's, and no record of an agent.
    pub is_secret: bool,
    /// In which namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: RecordName,
    /// How sensitive it is.
    pub classification: Classification,
    /// Size of the value.
    pub bytes: u64,
}

impl SealedStore {
    /// Writes every record of both spaces, sealed to `to`, and says of each how many they are then. Reading and writing go on
    /// meanwhile: what changes while this runs is in the backup as it was or as it is.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn export(
        &self,
        to: &BackupPublicKey,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&Tally),
    ) -> Result<Tally, BackupError> {
        // A record that moves between roots while this runs could be missed in both.
        let _alone = self.0.alone()?;
        self.0.all_named()?;
        let mut writer = Writer::begin(to, out)?;
        let mut tally = Tally::default();
        self.0.each_place(&mut |space, namespace, place| {
            let is_over = |expires: Option<u64>| expires.is_some_and(|expires| expires <= self.0.now());
            let record = match self.0.look(space, namespace, place)? {
                Look::Whole(record) if !is_over(record.expires) => record,
                Look::Damaged(header) if header.is_none_or(|header| !is_over(header.expires)) => {
                    return Err(StoreError::DAMAGED_RECORD.into());
                }
                Look::Gone | Look::Whole(_) | Look::Damaged(_) => return Ok(()),
            };
            writer.record(&record)?;
            tally.count(space == Space::Secrets, record.classification);
            progress(&tally);
            Ok::<(), BackupError>(())
        })?;
        writer.end()?;
        Ok(tally)
    }

    /// Reads a backup twice: first to the end, to see that it is whole and the key is right, then into the store. `told` of what
    /// was written since it was told before, and of all of it in numbers, after each commit, and of nothing while it is read first; it may
    /// end the import there.
    ///
    /// # Errors
    /// [`BackupError`]. If the backup is not whole, or not for this key, nothing was changed; if the store or the file fails
    /// later, what was restored until then is there, and the import can be repeated.
    ///
    /// Whoever has the public key can make a backup: import what you know the origin of.
    pub fn import(
        &self,
        with: &BackupPrivateKey,
        from: &mut (impl Read + Seek),
        existing: Existing,
        told: &mut dyn FnMut(&Imported, &[Arrived]) -> ControlFlow<()>,
    ) -> Result<Imported, BackupError> {
        let start = from.stream_position();
        let seek = |source| BackupError::Io { action: "read", source };
        let start = start.map_err(seek)?;
        let mut reader = Reader::begin(with, from)?;
        let (mut imported, mut read) = (Imported::default(), 0_usize);
        while reader.next()?.is_some() {
            read = read.wrapping_add(1);
            if read.is_multiple_of(GROUP_MAX) && told(&imported, &[]).is_break() {
                return Ok(imported);
            }
        }
        if told(&imported, &[]).is_break() {
            return Ok(imported);
        }
        from.seek(std::io::SeekFrom::Start(start)).map_err(seek)?;
        let mut reader = Reader::begin(with, from)?;
        let (mut together, mut size) = (Vec::new(), Together::default());
        while let Some(record) = reader.next()? {
            if record.expires.is_some_and(|expires| expires <= self.0.now()) {
                imported.expired = imported.expired.saturating_add(1);
                continue;
            }
            let one = Restoring::new(record, existing);
            let (bytes, records) = (one.work.bytes(), one.work.records());
            if !size.takes(bytes, records) {
                size = Together::default();
                let _it_is_the_first = size.takes(bytes, records);
                let ended = self.restore(std::mem::take(&mut together), &mut imported, told)?;
                if ended.is_break() {
                    return Ok(imported);
                }
            }
            together.push(one);
        }
        let _at_its_end = self.restore(together, &mut imported, told)?;
        Ok(imported)
    }

    /// Writes these together: a commit of its own for each would wait for the disk as often.
    fn restore(
        &self,
        together: Vec<Restoring>,
        imported: &mut Imported,
        told: &mut dyn FnMut(&Imported, &[Arrived]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let (works, coming): (Vec<_>, Vec<_>) = together.into_iter().map(|one| (one.work, one.arrived)).unzip();
        let mut restored = Ok(());
        let mut arrived = Vec::with_capacity(coming.len());
        for (done, record) in self.0.submit_each(works).into_iter().zip(coming) {
            match done {
                Ok(_) => {
                    imported.restored.count(record.is_secret, record.classification);
                    arrived.push(record);
                }
                Err(StoreError::Precondition { .. }) => imported.kept = imported.kept.saturating_add(1),
                Err(error) => restored = restored.and(Err(error)),
            }
        }
        let ended = told(imported, &arrived);
        restored.map(|()| ended)
    }
}

/// A record on its way into the store.
struct Restoring {
    /// What is told of it once it is written.
    arrived: Arrived,
    work: Work,
}

impl Restoring {
    fn new(record: WholeRecord, existing: Existing) -> Self {
        Self {
            arrived: Arrived {
                is_secret: record.space == Space::Secrets,
                namespace: record.namespace.clone(),
                name: record.name.clone(),
                classification: record.classification,
                bytes: u64::try_from(record.value.len()).unwrap_or(u64::MAX),
            },
            work: Work::Restore {
                record,
                replace: existing == Existing::Replace,
            },
        }
    }
}
