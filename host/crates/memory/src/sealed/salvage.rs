//! What is left of a store whose database has lost records, so that it does not open. The keys say what there must be; each
//! is looked up in a copy of the database, and what opens under it is whole and the newest that there was: the keys of what was
//! deleted or replaced are gone. Nothing of the store is changed, and nothing is guessed.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use aral_contract::id::Namespace;
use aral_runtime::files;
use cap_std::fs::Dir;
use quick_cache::sync::Cache;

use super::carve;
use super::check::{Damaged, Look};
use super::database_copy::DatabaseCopy;
use super::entry::Header;
use super::keyring::{self, Keyring};
use super::open::Parts;
use super::root::{NamespacePlace, PLACE_BYTES, Place, Space, namespace_of};
use super::slots::{Slot, SlotFile, SlotIndex};
use super::transfer::Tally;
use super::tree::{self, Commit, Scan, Tree, prefix};
use super::{Inner, SealedStore, StoreOptions, holder};
use crate::backup::{self, BackupError, BackupPublicKey, Kept};
use crate::key::hex;
use crate::store::StoreError;

/// Slots that are read at once. Bounds memory.
const AT_ONCE: SlotIndex = 8192;
/// Namespaces whose names are remembered: where a part of the database is missing, sled looks for it long, each time anew.
const REMEMBERED_MAX: usize = 1024;

/// What namespaces are called; none: nothing says so.
type Names = Cache<NamespacePlace, Option<Namespace>>;

/// A store that is read although records of it are lost. It is held as if it were open.
pub struct Salvage {
    /// It has the copy in place of its database, and takes no writes.
    pub(super) store: SealedStore,
    /// The newest commit that the database has.
    commit: Option<u64>,
    /// Whether more was put into it from its log, also what had been removed.
    is_carved: bool,
    /// The newest one that it is known to have had.
    durable: u64,
    /// Last: it goes when its database is closed.
    copy: DatabaseCopy,
}

/// What a salvage came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Records that were written.
    pub saved: Tally,
    /// Keys whose record is not there, or does not open. They are of records that were acknowledged, but for those that a killed
    /// process may have left where the end of the database is lost.
    pub lost: u64,
    /// Keys without a record that a killed process may have left. None of them need ever have been acknowledged.
    pub unfinished: u64,
    /// Records in the database whose keys are gone: they were deleted or replaced after what the database has, or the keys are
    /// damaged.
    pub keyless: u64,
    /// Whether those could be counted. Not where more was put into the copy from the log: what was removed is among that.
    pub is_looked_through: bool,
    /// The newest commit that the database has; none: it says nothing of that.
    pub commit: Option<u64>,
    /// The newest one that is known of; there may have been more.
    pub known_commit: u64,
    /// How much of the database the disk could not read, in bytes.
    pub unreadable_bytes: u64,
}

impl Salvaged {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        let has_all_commits = self.commit.is_some_and(|commit| commit >= self.known_commit);
        self.lost == 0 && self.keyless == 0 && self.is_looked_through && self.unreadable_bytes == 0 && has_all_commits
    }

    /// How many commits are missing at least; none: nobody can say.
    pub fn commits_lost(&self) -> Option<u64> {
        self.commit.map(|commit| self.known_commit.saturating_sub(commit))
    }
}

impl Salvage {
    /// Opens what is left. Its database is copied to the folder `copy`, which must not exist and goes when this is dropped. In the
    /// store itself nothing is changed but the file `lock`.
    ///
    /// # Errors
    /// As [`SealedStore::open`], but that lost records are none; [`StoreError::Full`] if there is no room for the copy;
    /// [`StoreError::Corrupt`] if nothing can be made of the database.
    pub fn open(options: StoreOptions, copy: &Path) -> Result<Self, StoreError> {
        Self::open_as(options, copy, database)
    }

    pub(super) fn open_as(options: StoreOptions, copy: &Path, open: OpenDatabase) -> Result<Self, StoreError> {
        // No folder is made where there is none.
        if !files::open_root(&options.path)?.exists(keyring::NAME) {
            return Err(StoreError::Invalid(
                "there is no store in the folder, or none with a keyring, without which it is noise".to_owned(),
            ));
        }
        let dir = files::create_private_dir(&options.path)?;
        let lock = holder::take(&dir, &options.path, &options.holder, &*options.clock)?;
        let keyring = Keyring::load(&dir)?.ok_or(keyring::DAMAGED)?;
        let keys = super::open::unlocked(&keyring, &options)?;
        let (slots, allocation, durable) =
            SlotFile::open(&dir, &keyring.store, options.free_bytes_min, options.steps.clone())?;
        let copy = DatabaseCopy::make(&dir, copy, options.free_bytes_min)?;
        let Database {
            tree,
            commit,
            is_carved,
        } = open(&dir, &copy, super::open::pages(&options))?;
        let number = commit.as_ref().map(|commit| commit.number);
        let log = log_of(&dir)?;
        let parts = Parts {
            dir,
            lock,
            keyring,
            keys,
            slots,
            allocation,
            durable,
            tree,
            commit: commit.unwrap_or_default(),
        };
        // Not closed, so that nothing is noted in it when it goes.
        let store = parts.assemble(options, false)?;
        store.0.refuse_writes();
        let mut salvage = Self {
            store,
            commit: number,
            is_carved,
            durable,
            copy,
        };
        if !is_carved && salvage.lacks_records()? {
            salvage.is_carved = true;
            salvage.fill_in(&log)?;
        }
        Ok(salvage)
    }

    /// Whether the database does not have all that it had.
    fn is_behind(&self) -> bool {
        self.commit.is_none_or(|commit| commit < self.durable)
    }

    /// The same, or whether a key is without its record and no process that was killed can have left it so.
    fn lacks_records(&self) -> Result<bool, StoreError> {
        let inner = &self.store.0;
        let mut lacks = self.is_behind();
        inner.slots.walk(0, inner.slots.total()?, &mut |index, slot| {
            let is_explained = |slot: &Slot| inner.leftovers.explain(index, slot.commit());
            lacks = lacks || (!slot.is_free() && !inner.has_record(index, slot) && !is_explained(slot));
        })?;
        Ok(lacks)
    }

    /// sled leaves out what lies behind the first tear in its log. What is whole there goes into the copy, where that has nothing,
    /// or a record without a key.
    fn fill_in(&self, log: &File) -> Result<(), StoreError> {
        let inner = &self.store.0;
        carve::carve(log, &inner.tree, &|key| match key.split_first() {
            Some((&prefix::RECORD, _)) => !inner.has_key(key),
            Some((&prefix::NAMESPACE, place)) => {
                let space = Space::ALL
                    .into_iter()
                    .find(|space| place.first() == Some(&space.byte()));
                let place: Option<NamespacePlace> = place.try_into().ok();
                let known = space.zip(place);
                known.is_some_and(|(space, place)| inner.namespace_at(space, &place).ok().flatten().is_none())
            }
            _ => inner.tree.get(key).ok().flatten().is_none(),
        })
    }

    /// How many keys there are: as many as there were records.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keys(&self) -> Result<u64, StoreError> {
        Ok(self.store.status()?.slots_used.into())
    }

    /// Writes every record of both spaces that opens, sealed to `to`, and says of each how many they are then. `found` is told of
    /// each key whose record is not there or does not open: where, and how much of its name still opens. That of a namespace is
    /// missing where nothing says it; then `place` is that of the record all the same. What has expired is left out.
    ///
    /// # Errors
    /// [`BackupError`], where the backup cannot be written or the keys cannot be read.
    pub fn export(
        &self,
        to: &BackupPublicKey,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&Tally),
        found: &mut dyn FnMut(Damaged),
    ) -> Result<Salvaged, BackupError> {
        let inner = &self.store.0;
        let mut writer = backup::Writer::begin(to, out)?;
        let mut salvaged = Salvaged {
            commit: self.commit,
            known_commit: self.durable,
            unreadable_bytes: self.copy.unreadable_bytes,
            ..Salvaged::default()
        };
        let is_behind = self.is_behind();
        let names = Names::new(REMEMBERED_MAX);
        let (mut from, total) = (0, inner.slots.total()?);
        while from < total {
            let next = from.saturating_add(AT_ONCE).min(total);
            let mut used: Vec<(SlotIndex, Slot)> = Vec::new();
            inner.slots.walk(from, next, &mut |index, slot| {
                if !slot.is_free() {
                    used.push((index, *slot));
                }
            })?;
            for (index, slot) in used {
                match inner.salvage(&names, index, &slot) {
                    Ok(kept) if kept.expires.is_some_and(|expires| expires <= inner.now()) => {}
                    Ok(kept) => {
                        writer.record(&kept)?;
                        salvaged.saved.count(kept.space, kept.classification);
                        progress(&salvaged.saved);
                    }
                    Err(lost) if lost.is_absent && !is_behind && inner.leftovers.explain(index, slot.commit()) => {
                        salvaged.unfinished = salvaged.unfinished.saturating_add(1);
                    }
                    Err(lost) => {
                        salvaged.lost = salvaged.lost.saturating_add(1);
                        salvaged.known_commit = salvaged.known_commit.max(slot.commit());
                        found(lost.told);
                    }
                }
            }
            from = next;
        }
        writer.end()?;
        let keyless = (!self.is_carved).then(|| inner.keyless()).flatten();
        salvaged.is_looked_through = keyless.is_some();
        salvaged.keyless = keyless.unwrap_or(0);
        Ok(salvaged)
    }
}

impl fmt::Debug for Salvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salvage({:?})", self.store)
    }
}

/// What records are looked up in.
pub(super) struct Database {
    tree: Tree,
    commit: Option<Commit>,
    is_carved: bool,
}

/// Makes one of the store in a folder and the copy of its database.
type OpenDatabase = fn(&Dir, &DatabaseCopy, u64) -> Result<Database, StoreError>;

/// Opens the copy, as far as sled makes anything of it.
fn database(store: &Dir, copy: &DatabaseCopy, cache_bytes: u64) -> Result<Database, StoreError> {
    let open = || Tree::open(&copy.dir, &copy.path, cache_bytes);
    let opened = open().or_else(|error| {
        // The log alone may say as much.
        copy.forget_all_but_the_log()?;
        open().map_err(|_| error)
    });
    let tree = match opened {
        Ok(tree) => tree,
        Err(error) => return carved(store, copy, cache_bytes).map_err(|_| error),
    };
    let commit = match tree.find_commit() {
        Ok(commit) => commit,
        Err(error) if error.is_damage() => None,
        Err(error) => return Err(error),
    };
    Ok(Database {
        tree,
        commit,
        is_carved: false,
    })
}

/// Makes another database of what is whole in the log: in that of the store, since sled has written in the copy by now.
pub(super) fn carved(store: &Dir, copy: &DatabaseCopy, cache_bytes: u64) -> Result<Database, StoreError> {
    let log = log_of(store)?;
    let (dir, path) = copy.another()?;
    let tree = Tree::open(&dir, &path, cache_bytes)?;
    carve::carve(&log, &tree, &|_| true)?;
    Ok(Database {
        tree,
        commit: None,
        is_carved: true,
    })
}

fn log_of(store: &Dir) -> Result<File, StoreError> {
    let log = store.open(Path::new(tree::NAME).join("db"));
    log.map(cap_std::fs::File::into_std)
        .map_err(|error| StoreError::io("open its records", error))
}

/// A key without a record that opens.
struct Lost {
    /// Whether the database has no record that names the key, and not one that does not open.
    is_absent: bool,
    told: Damaged,
}

impl Inner {
    /// The record of a used slot. Whatever keeps it from being read, it is lost.
    fn salvage(&self, names: &Names, index: SlotIndex, slot: &Slot) -> Result<Kept, Lost> {
        let place = slot.place().copied().unwrap_or([0; PLACE_BYTES]);
        let space = Space::ALL
            .into_iter()
            .find(|space| place.first() == Some(&space.byte()));
        let namespace = space.and_then(|space| self.name_of_namespace(names, space, &namespace_of(&place)));
        let entry = self.entry(&place);
        let is_absent = match &entry {
            Ok(found) => found.as_ref().is_none_or(|found| found.header.slot != index),
            Err(_) => false,
        };
        let is_own = entry.is_ok() && !is_absent;
        let mut name = None;
        if let (Some(space), Some(namespace), true) = (space, &namespace, is_own) {
            match self.look(space, namespace, &place) {
                Ok(Look::Whole(kept)) => return Ok(kept),
                Ok(Look::Gone | Look::Damaged(_)) | Err(_) => name = self.name_at(space, namespace, &place),
            }
        }
        Err(Lost {
            is_absent,
            told: Damaged {
                namespace,
                is_secret: space == Some(Space::Secrets),
                name,
                place: hex(&place),
                deleted: false,
            },
        })
    }

    fn name_of_namespace(&self, names: &Names, space: Space, place: &NamespacePlace) -> Option<Namespace> {
        names.get(place).unwrap_or_else(|| {
            let name = self.namespace_at(space, place).ok().flatten();
            names.insert(*place, name.clone());
            name
        })
    }

    /// Whether the database has a record that names this slot.
    fn has_record(&self, index: SlotIndex, slot: &Slot) -> bool {
        let found = slot.place().and_then(|place| self.entry(place).ok().flatten());
        found.is_some_and(|found| found.header.slot == index)
    }

    /// Whether there is a record by this key of the database, and the slot that it names is its own.
    fn has_key(&self, key: &[u8]) -> bool {
        let entry = self.tree.get(key).ok().flatten();
        entry.is_some_and(|entry| self.is_keyed(key, &entry))
    }

    fn is_keyed(&self, key: &[u8], entry: &[u8]) -> bool {
        let place: Option<Place> = tree::place(key);
        let slot = Header::read(entry).and_then(|header| self.slots.read(header.slot));
        slot.is_ok_and(|slot| !slot.is_free() && slot.place() == place.as_ref())
    }

    /// How many records name a slot that is not theirs; none: the database cannot be looked through to its end.
    fn keyless(&self) -> Option<u64> {
        let mut count = 0_u64;
        let looked = self.tree.scan(&[prefix::RECORD], None, &mut |at, entry| {
            count = count.saturating_add(u64::from(!self.is_keyed(at, entry)));
            Ok(Scan::Next)
        });
        looked.ok().map(|()| count)
    }
}
