//! Records out of a store into a backup, and out of a backup into a store.

use std::io::{Read, Seek, Write};

use aral_contract::Classification;
use aral_contract::id::Namespace;

use super::SealedStore;
use super::entry::Header;
use super::read::Found;
use super::root::{NamespacePlace, Place, Space};
use super::tree::{Scan, key, prefix};
use super::work::{Restored, Work};
use crate::backup::{BackupError, BackupPrivateKey, BackupPublicKey, Kept, Reader, Writer};
use crate::store::StoreError;

/// Places that are looked up at once. Bounds the memory of an export.
const AT_ONCE: usize = 256;

/// What to do with a record that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays.
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
    fn count(&mut self, space: Space, classification: Classification) {
        self.records = self.records.saturating_add(1);
        self.secrets = self.secrets.saturating_add(u64::from(space == Space::Secrets));
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
        let mut writer = Writer::begin(to, out)?;
        let mut tally = Tally::default();
        let keys = self.0.keys.load_full();
        // Oldest root first, and its namespaces when its turn comes: a rotation may have been cut off before, and a write takes
        // a record to the newest root.
        for root in &keys.roots {
            for space in Space::ALL {
                let mut namespaces: Vec<(NamespacePlace, Namespace)> = Vec::new();
                self.0.each_namespace(space, &mut |place, namespace| {
                    if root.namespace_place(space, &namespace) == place {
                        namespaces.push((place, namespace));
                    }
                    Scan::Next
                })?;
                for (place, namespace) in namespaces {
                    self.export_namespace(space, place, &namespace, &mut |kept| {
                        writer.record(&kept)?;
                        tally.count(space, kept.classification);
                        progress(&tally);
                        Ok(())
                    })?;
                }
            }
        }
        writer.end()?;
        Ok(tally)
    }

    fn export_namespace(
        &self,
        space: Space,
        place: NamespacePlace,
        namespace: &Namespace,
        write: &mut dyn FnMut(Kept) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let start = key(prefix::RECORD, &[&place]);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut some: Vec<Place> = Vec::with_capacity(AT_ONCE);
            self.0.tree.scan(&start, after.as_deref(), &mut |at, _| {
                some.extend(at.get(1..).and_then(|place| Place::try_from(place).ok()));
                Ok(if some.len() == AT_ONCE { Scan::Stop } else { Scan::Next })
            })?;
            let Some(last) = some.last() else { return Ok(()) };
            after = Some(key(prefix::RECORD, &[last]));
            for place in &some {
                if let Some(kept) = self.kept(space, place, namespace)? {
                    write(kept)?;
                }
            }
        }
    }

    /// A record by its place; none: it went, or its time is over.
    fn kept(&self, space: Space, place: &Place, namespace: &Namespace) -> Result<Option<Kept>, StoreError> {
        let mut before: Option<Header> = None;
        loop {
            let keys = self.0.keys.load_full();
            let Some(found) = self.0.entry(place)? else {
                return Ok(None);
            };
            if found.header.is_expired(self.0.now()) {
                return Ok(None);
            }
            let open = |found: &Found| -> Result<Kept, StoreError> {
                let damaged = StoreError::Corrupt { what: "a record" };
                let name = self.0.open_name(&keys, space, namespace, found)?.ok_or(damaged)?;
                let record = self.0.open_record(&keys, space, namespace, &name, found)?;
                Ok(Kept {
                    space,
                    namespace: namespace.clone(),
                    name,
                    value: record.value.into(),
                    version: record.version,
                    expires: found.header.expires,
                    classification: record.classification,
                })
            };
            match open(&found) {
                // Replaced between two looks, unless it is the same at the next.
                Err(StoreError::Corrupt { .. }) if before != Some(found.header) => before = Some(found.header),
                other => return other.map(Some),
            }
        }
    }

    /// Reads a backup twice: first to the end, to see that it is whole and the key is right, then into the store.
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
        progress: &mut dyn FnMut(&Imported),
    ) -> Result<Imported, BackupError> {
        let start = from.stream_position();
        let seek = |source| BackupError::Io { action: "read", source };
        let start = start.map_err(seek)?;
        let mut reader = Reader::begin(with, from)?;
        while reader.next()?.is_some() {}
        from.seek(std::io::SeekFrom::Start(start)).map_err(seek)?;
        let mut reader = Reader::begin(with, from)?;
        let mut imported = Imported::default();
        while let Some(kept) = reader.next()? {
            self.restore(kept, existing, &mut imported)?;
            progress(&imported);
        }
        Ok(imported)
    }

    fn restore(&self, kept: Kept, existing: Existing, imported: &mut Imported) -> Result<(), StoreError> {
        let count = |one: &mut u64| *one = one.saturating_add(1);
        if kept.expires.is_some_and(|expires| expires <= self.0.now()) {
            count(&mut imported.expired);
            return Ok(());
        }
        let (space, classification) = (kept.space, kept.classification);
        let work = Work::Restore {
            space: kept.space,
            namespace: kept.namespace,
            record: Restored {
                name: kept.name,
                value: kept.value,
                version: kept.version,
                expires: kept.expires,
                classification: kept.classification,
            },
            replace: existing == Existing::Replace,
        };
        match self.0.submit(work) {
            Ok(_) => imported.restored.count(space, classification),
            Err(StoreError::Precondition { .. }) => count(&mut imported.kept),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
