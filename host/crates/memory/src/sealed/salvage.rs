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

use super::check::Damaged;
use super::database_copy::DatabaseCopy;
use super::file::open_to_read;
use super::keyring::{self, Keyring};
use super::open::Parts;
use super::root::{NamespacePlace, PLACE_BYTES, Place, Space, namespace_of};
use super::salvaged::Salvaged;
use super::slots::{Slot, SlotFile, SlotIndex};
use super::sources::{Sources, is_of_the_machine};
use super::transfer::Tally;
use super::tree::{self, Commit, Tree, key, prefix};
use super::unreadable::Unreadable;
use super::whole_record::WholeRecord;
use super::{SealedStore, StoreOptions, holder, listing, slot_header};
use crate::backup::{self, BackupError, BackupPublicKey};
use crate::key::hex;
use crate::store::StoreError;

/// Slots that are read at once. Bounds memory.
const AT_ONCE: SlotIndex = 8192;
/// Namespaces whose names are remembered.
const REMEMBERED_MAX: usize = 1024;

/// What namespaces are called.
type Names = Cache<NamespacePlace, Namespace>;

/// A store that is read although records of it are lost. It is held as if it were open.
pub struct Salvage {
    /// It has the copy in place of its database, and takes no writes.
    pub(super) store: SealedStore,
    /// The newest commit that the database has.
    commit: Option<u64>,
    /// The newest one that it is known to have had; none: the header that says so is not whole.
    durable: Option<u64>,
    sources: Sources,
    /// Last: it goes when its database is closed.
    copy: DatabaseCopy,
}

impl Salvage {
    /// Opens what is left. Its database is copied to the folder `copy`, which must not exist and goes when this is dropped. In the
    /// store itself nothing is changed but the file `lock`, and that only where it can be.
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
            return Err(StoreError::Invalid(format!(
                "there is no store in `{}`, or none with a keyring, without which it is noise",
                options.path.display()
            )));
        }
        let dir = files::create_private_dir(&options.path)?;
        let lock = holder::take_to_read(&dir, &options.path, &options.holder, &*options.clock)?;
        let keyring = Keyring::load_to_read(&dir)?;
        let keys = super::open::unlocked(&keyring, &options)?;
        let (slots, allocation, durable) = SlotFile::open_to_read(&dir, &keyring.store, &keys)?;
        let copy = DatabaseCopy::make(&dir, copy, options.free_bytes_min)?;
        let Database { tree, commit, is_empty } = open(&copy, super::open::pages(&options))?;
        let number = commit.as_ref().map(|commit| commit.number);
        let log = log_of(&dir)?;
        let parts = Parts {
            dir,
            lock,
            keyring,
            keys,
            slots,
            allocation,
            durable: durable.unwrap_or(0),
            tree,
            commit: commit.unwrap_or_default(),
        };
        // Not closed, so that nothing is noted in it when it goes.
        let store = parts.assemble(options, false)?;
        store.0.refuse_writes();
        let salvage = Self {
            store,
            commit: number,
            durable,
            sources: Sources::new(log),
            copy,
        };
        if is_empty || salvage.lacks_records()? {
            salvage.sources.carve(&salvage.store.0)?;
        }
        Ok(salvage)
    }

    /// Whether the database does not have all that it had, or nobody can say so.
    fn is_behind(&self) -> bool {
        self.durable.is_none_or(|durable| self.commit < Some(durable))
    }

    /// The same, or whether a key is without its record and no process that was killed can have left it so.
    fn lacks_records(&self) -> Result<bool, StoreError> {
        let inner = &self.store.0;
        let mut lacks = Ok(self.is_behind());
        inner.slots.walk(0, inner.slots.total()?, &mut |index, slot| {
            let is_in_question = !slot.is_free() && !inner.leftovers.explain(index, slot.commit());
            if let (Ok(false), true, Some(place)) = (&lacks, is_in_question, slot.place()) {
                let candidates = self.sources.candidates(inner, place, index);
                lacks = candidates.map(|candidates| candidates.found.is_empty());
            }
        })?;
        lacks
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
        let names = Names::new(REMEMBERED_MAX);
        self.prepare(&names)?;
        self.each_used(&mut |index, slot| {
            match self.salvage(&names, index, slot)? {
                Looked::Whole(record) if record.expires.is_some_and(|expires| expires <= inner.now()) => {}
                Looked::Whole(record) => {
                    writer.record(&record)?;
                    salvaged
                        .saved
                        .count(record.space == Space::Secrets, record.classification);
                    progress(&salvaged.saved);
                }
                Looked::Replaced => salvaged.unfinished = salvaged.unfinished.saturating_add(1),
                Looked::Not(lost) if self.is_unfinished(&lost, index, slot) => {
                    salvaged.unfinished = salvaged.unfinished.saturating_add(1);
                }
                Looked::Not(lost) => {
                    salvaged.lost = salvaged.lost.saturating_add(1);
                    // One that the database has says nothing of how many there were.
                    let later = inner.commit_of(index, slot).filter(|of| self.commit < Some(*of));
                    salvaged.known_commit = salvaged.known_commit.max(later);
                    found(lost.told);
                }
            }
            Ok::<(), BackupError>(())
        })?;
        writer.end()?;
        let carved = self.sources.carved();
        let skipped_bytes = carved.map_or(0, |carved| carved.skipped_bytes);
        let unreadable_bytes = inner.slots.unreadable.as_ref().map_or(0, Unreadable::bytes);
        let header_bytes = self.durable.map_or(slot_header::BYTES as u64, |_| 0);
        for bytes in [skipped_bytes, unreadable_bytes, header_bytes] {
            salvaged.unreadable_bytes = salvaged.unreadable_bytes.saturating_add(bytes);
        }
        let keyless = match carved {
            None => inner.keyless()?,
            Some(_) => None,
        };
        salvaged.is_looked_through = keyless.is_some();
        salvaged.keyless = keyless.unwrap_or(0);
        Ok(salvaged)
    }

    /// Shows each slot that is used.
    fn each_used<E: From<StoreError>>(&self, show: &mut dyn FnMut(SlotIndex, &Slot) -> Result<(), E>) -> Result<(), E> {
        let slots = &self.store.0.slots;
        let (mut from, total) = (0, slots.total()?);
        while from < total {
            let next = from.saturating_add(AT_ONCE).min(total);
            let mut used: Vec<(SlotIndex, Slot)> = Vec::new();
            slots.walk(from, next, &mut |index, slot| {
                if !slot.is_free() {
                    used.push((index, *slot));
                }
            })?;
            used.iter().try_for_each(|(index, slot)| show(*index, slot))?;
            from = next;
        }
        Ok(())
    }

    /// Looks through the log if any key lacks a record that opens, before anything is written: the log may have a newer one of a name
    /// that is written already.
    fn prepare(&self, names: &Names) -> Result<(), StoreError> {
        self.each_used(&mut |index, slot| {
            // Also where sled has missed a page meanwhile.
            if self.sources.carved().is_some() {
                return Ok(());
            }
            match self.look(names, index, &place_of(slot))? {
                Looked::Not(lost) if !self.is_unfinished(&lost, index, slot) => {
                    self.sources.carve(&self.store.0).map(|_| ())
                }
                Looked::Not(_) | Looked::Whole(_) | Looked::Replaced => Ok(()),
            }
        })
    }

    /// Whether a process that was killed may have left a key without its record, and nothing else can have.
    fn is_unfinished(&self, lost: &Lost, index: SlotIndex, slot: &Slot) -> bool {
        lost.is_absent && !self.is_behind() && self.store.0.leftovers.explain(index, slot.commit())
    }

    /// The record of a used slot.
    fn salvage(&self, names: &Names, index: SlotIndex, slot: &Slot) -> Result<Looked, StoreError> {
        let inner = &self.store.0;
        let place = place_of(slot);
        let looked = self.look(names, index, &place)?;
        if matches!(looked, Looked::Whole(_)) {
            // A write that was cut off may have left both the old record and the new one.
            for other in self.sources.others(&place, index) {
                let is_newer = inner.slots.read(other)?.commit() > slot.commit();
                if is_newer && matches!(self.look(names, other, &place)?, Looked::Whole(_)) {
                    return Ok(Looked::Replaced);
                }
            }
        }
        Ok(looked)
    }

    /// What of a place opens with the key in a slot.
    fn look(&self, names: &Names, index: SlotIndex, place: &Place) -> Result<Looked, StoreError> {
        let inner = &self.store.0;
        let space = Space::ALL
            .into_iter()
            .find(|space| place.first() == Some(&space.byte()));
        let namespace = match space {
            Some(space) => self.name_of_namespace(names, space, &namespace_of(place))?,
            None => None,
        };
        let candidates = self.sources.candidates(inner, place, index)?;
        let is_absent = candidates.is_absent();
        let mut name = None;
        if let (Some(space), Some(namespace)) = (space, &namespace) {
            let keys = inner.keys.load_full();
            let owner = inner.owner(space, namespace);
            for found in candidates.found {
                let read = |key: &[u8]| self.sources.get(inner, key);
                match inner.whole(&keys, owner, &found, &read) {
                    Ok(record) => return Ok(Looked::Whole(record)),
                    Err(error) if is_of_the_machine(&error) => return Err(error),
                    Err(_) => name = inner.open_name(&keys, owner, &found).ok().flatten().or(name),
                }
            }
        }
        Ok(Looked::Not(Lost {
            is_absent,
            told: Damaged {
                namespace,
                is_secret: space == Some(Space::Secrets),
                name,
                place: hex(place),
                deleted: false,
            },
        }))
    }

    fn name_of_namespace(
        &self,
        names: &Names,
        space: Space,
        place: &NamespacePlace,
    ) -> Result<Option<Namespace>, StoreError> {
        if let Some(name) = names.get(place) {
            return Ok(Some(name));
        }
        let inner = &self.store.0;
        let sealed = self.sources.get(inner, &key(prefix::NAMESPACE, &[place]))?;
        let name = sealed.and_then(|sealed| listing::called(&inner.keys.load(), space, place, &sealed));
        if let Some(name) = &name {
            names.insert(*place, name.clone());
        }
        Ok(name)
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
    /// Whether sled made nothing of the copy.
    is_empty: bool,
}

/// Makes one of the copy of that of a store.
type OpenDatabase = fn(&DatabaseCopy, u64) -> Result<Database, StoreError>;

/// Opens the copy, as far as sled makes anything of it.
fn database(copy: &DatabaseCopy, cache_bytes: u64) -> Result<Database, StoreError> {
    let open = || Tree::open(&copy.dir, &copy.path, cache_bytes);
    let opened = open().or_else(|error| {
        if is_of_the_machine(&error) {
            return Err(error);
        }
        // The log alone may say as much.
        copy.forget_all_but_the_log()?;
        open()
    });
    let tree = match opened {
        Ok(tree) => tree,
        Err(error) if is_of_the_machine(&error) => return Err(error),
        Err(_) => return empty(copy, cache_bytes),
    };
    let commit = match tree.find_commit() {
        Ok(commit) => commit,
        Err(error) if is_of_the_machine(&error) => return Err(error),
        Err(_) => None,
    };
    Ok(Database {
        tree,
        commit,
        is_empty: false,
    })
}

/// Makes an empty one, where sled makes nothing of the copy: everything is looked up in the log of the store.
pub(super) fn empty(copy: &DatabaseCopy, cache_bytes: u64) -> Result<Database, StoreError> {
    let (dir, path) = copy.another()?;
    Ok(Database {
        tree: Tree::open(&dir, &path, cache_bytes)?,
        commit: None,
        is_empty: true,
    })
}

fn place_of(slot: &Slot) -> Place {
    slot.place().copied().unwrap_or([0; PLACE_BYTES])
}

fn log_of(store: &Dir) -> Result<File, StoreError> {
    open_to_read(store, tree::file()).map_err(|error| StoreError::io("open its records", error))
}

/// What there is of a key.
enum Looked {
    Whole(WholeRecord),
    /// Another that is newer took its place: the key was to be destroyed.
    Replaced,
    Not(Lost),
}

/// A key without a record that opens.
struct Lost {
    /// Whether nothing names the key, not even what does not open.
    is_absent: bool,
    told: Damaged,
}
