//! Opening and closing: the folder is made or read, the key is tried, and nothing is touched before that has worked.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aral_contract::failure::chain;
use aral_runtime::files;
use arc_swap::ArcSwap;
use cap_std::fs::{Dir, OpenOptions};

use super::allocation::Allocation;
use super::commit::Writer;
use super::expiry::BelievedTime;
use super::keyring::{self, Content, Keyring, RootEntry, StoreId};
use super::queue::Queue;
use super::recent::Recents;
use super::reclaim::Leftovers;
use super::root::{Keys, Root};
use super::segments;
use super::slots::{self, SlotFile};
use super::tree::{self, Tree};
use super::{Inner, SealedStore, StoreOptions, holder};
use crate::key::Standing;
use crate::store::StoreError;

/// Says that the store was closed and nothing was left to do. Its content is nothing.
const CLOSED: &str = "closed";

/// Says that a write or a sync failed, and that nobody has opened the store since.
pub(super) const UNSYNCED: &str = "unsynced";

/// What a store is made of, once its key has opened it.
pub(super) struct Parts {
    pub(super) dir: Dir,
    pub(super) lock: File,
    pub(super) keyring: Keyring,
    pub(super) keys: Keys,
    pub(super) slots: SlotFile,
    pub(super) allocation: Allocation,
    /// The commit that is known to be on stable storage.
    pub(super) durable: u64,
    pub(super) tree: Tree,
    /// The newest commit of the tree.
    pub(super) commit: tree::Commit,
}

impl Parts {
    /// The store. `is_closed`: no slot is used without a record.
    pub(super) fn assemble(self, options: StoreOptions, is_closed: bool) -> Result<SealedStore, StoreError> {
        let leftovers = Leftovers {
            durable: self.durable,
            doomed: self.commit.doomed.into_iter().collect(),
        };
        let beside = self.slots.beside()?;
        let time = BelievedTime::new(Arc::clone(&options.clock));
        Ok(SealedStore(Arc::new(Inner {
            store: self.keyring.store,
            dir: self.dir,
            tree: self.tree,
            slots: self.slots,
            recents: Recents::new(recents(&options)),
            keys: ArcSwap::from_pointee(self.keys),
            wanted: ArcSwap::from_pointee(self.keyring.content.keys()),
            writer: Mutex::new(Writer::new(
                beside,
                self.allocation,
                self.keyring,
                self.commit.number,
                time,
            )),
            rotating: AtomicBool::new(false),
            leftovers,
            queue: Queue::default(),
            clock: options.clock,
            free_bytes_min: options.free_bytes_min,
            key: Mutex::new(options.key),
            epoch: options.epoch,
            steps: options.steps,
            reclaimed: AtomicBool::new(is_closed),
            orphans: AtomicUsize::new(0),
            _lock: self.lock,
        })))
    }
}

/// Of the cache, what is for single records, in bytes.
const fn recents(options: &StoreOptions) -> u64 {
    options.cache_bytes / 2
}

/// What is for pages of the database.
pub(super) const fn pages(options: &StoreOptions) -> u64 {
    options.cache_bytes.saturating_sub(recents(options))
}

pub(super) fn open(options: StoreOptions) -> Result<SealedStore, StoreError> {
    let dir = files::create_private_dir(&options.path)?;
    refuse_strange(&dir, &options.path)?;
    let lock = holder::take(&dir, &options.path, &options.holder, &*options.clock)?;
    let found = Keyring::load(&dir)?;
    let is_new = found.is_none();
    let (keyring, keys) = match found {
        Some(keyring) => unlock(keyring, &options).inspect_err(|error| mark_failed(&dir, error))?,
        None => create(&dir, &options).map_err(|error| error.below(&options.path))?,
    };
    if !options.key.is_locked() {
        tracing::warn!("the master key may be swapped out: raise `ulimit -l`");
    }
    let (slots, allocation, durable) =
        SlotFile::open(&dir, &keyring.store, options.free_bytes_min, options.steps.clone())?;
    let is_unused = durable == 0 && allocation.used() == 0;
    if allocation.used() > 0 && !tree::is_there(&dir) {
        return Err(StoreError::Corrupt {
            what: "the database of the store, which is not there or empty though there are keys,",
        });
    }
    // What sled would leave out of the database without a word, the walk over the slots tells.
    let is_closed = is_new || (dir.exists(CLOSED) && segments::are_whole(&dir));
    // Whatever it is: what a link leads to says nothing.
    let is_unsynced = dir.symlink_metadata(UNSYNCED).is_ok();
    if is_unsynced && tree::is_there(&dir) {
        segments::write_again(&dir).map_err(|error| StoreError::io("write its records once more", error))?;
    }
    let database = || -> Result<(Tree, tree::Commit), StoreError> {
        let tree = Tree::open(&dir, &options.path, pages(&options))?;
        // What was ever acknowledged and noted has a commit.
        let commit = if is_unused { tree.first_commit() } else { tree.commit() };
        Ok((tree, commit?))
    };
    let opened = match database() {
        // A cut while it was made: no commit was ever answered, and no key is there. It is made anew.
        Err(StoreError::Corrupt { .. }) if is_unused => dir
            .remove_dir_all(tree::NAME)
            .map_err(|error| StoreError::io("make its database anew", error))
            .and_then(|()| database()),
        other => other,
    };
    let (tree, commit) = opened.inspect_err(|error| mark_failed(&dir, error))?;
    if commit.number < durable {
        return Err(StoreError::Corrupt {
            what: StoreError::OLDER,
        });
    }
    remove(&dir, CLOSED)?;
    let parts = Parts {
        dir,
        lock,
        keyring,
        keys,
        slots,
        allocation,
        durable,
        tree,
        commit,
    };
    let store = parts.assemble(options, is_closed)?;
    if !is_closed {
        store.0.take_back_torn()?;
    }
    store.0.reclaim()?;
    if !is_closed || is_unsynced {
        // Both pages of the keyring may be alike for the system alone, and the old one of a rotation be on the disk. Not before: a
        // store whose opening is refused is left as it is.
        let settled = store.0.writer()?.keyring.settle();
        settled.inspect_err(|error| mark_failed(&store.0.dir, error))?;
    }
    remove(&store.0.dir, UNSYNCED)?;
    // Keys that could not be destroyed when their epochs ended.
    store.0.destroy_epochs();
    Ok(store)
}

/// Opens the roots, and changes nothing.
pub(super) fn unlocked(keyring: &Keyring, options: &StoreOptions) -> Result<Keys, StoreError> {
    keyring.check()?;
    let open = |entry: &RootEntry| entry.open(&keyring.store, &options.key, options.epoch.as_ref());
    let roots: Result<Vec<Arc<Root>>, StoreError> = keyring
        .content
        .roots
        .iter()
        .map(|entry| open(entry).map(Arc::new))
        .collect();
    Keys::new(roots?, keyring.content.generation)
}

fn unlock(mut keyring: Keyring, options: &StoreOptions) -> Result<(Keyring, Keys), StoreError> {
    let keys = unlocked(&keyring, options)?;
    let mut content = keyring.content.clone();
    content.roots.iter_mut().for_each(|entry| entry.name_seal(&options.key));
    if content == keyring.content {
        keyring.mend()?;
    } else {
        keyring.replace(content)?;
    }
    Ok((keyring, keys))
}

/// The keyring comes last: a folder without one is not a store yet.
fn create(dir: &Dir, options: &StoreOptions) -> Result<(Keyring, Keys), StoreError> {
    clear(dir)?;
    let store: StoreId = keyring::store_id()?;
    let (entry, root) = RootEntry::make(&store, 1, 1, &[(&options.key, Standing::New)], options.epoch.as_ref())?;
    let content = Content {
        roots: vec![entry],
        generation: 1,
        seals: 0,
        epochs_to_destroy: Vec::new(),
    };
    SlotFile::create(dir, &store)?;
    let keyring = Keyring::create(dir, content, store)?;
    Ok((keyring, Keys::new(vec![Arc::new(root)], 1)?))
}

/// A folder with other things is not for a store, and nothing is made in it, not even a lock.
fn refuse_strange(dir: &Dir, path: &Path) -> Result<(), StoreError> {
    let looking = |error| StoreError::io("look at its folder", error);
    for entry in dir.entries().map_err(looking)? {
        let name = entry.map_err(looking)?.file_name();
        // What a store leaves that was cut off while it was made.
        let own = name == holder::NAME || name == slots::NAME || name.to_str().is_some_and(files::is_temporary);
        if !own {
            // Looked at last: another process may be making a store, and then the keyring is there before anything else that is not its own.
            let is_store = dir.exists(keyring::NAME) || dir.exists(tree::NAME);
            return if is_store {
                Ok(())
            } else {
                Err(StoreError::NotAStore { path: path.to_owned() })
            };
        }
    }
    Ok(())
}

/// Takes away what a store left that was cut off while it was made. A folder with records and without a keyring has lost it: a new
/// one would make all of them noise for ever.
fn clear(dir: &Dir) -> Result<(), StoreError> {
    if dir.exists(tree::NAME) {
        return Err(StoreError::Corrupt {
            what: "the store, which has records and no keyring,",
        });
    }
    if dir.exists(slots::NAME) {
        dir.remove_file(slots::NAME)
            .map_err(|error| StoreError::io("make its slot file", error))?;
    }
    Ok(())
}

/// Leaves word that the system may show what the disk does not have, and count it as written, so that whoever opens the store has
/// to write that once more. It is needed as long as the system remembers, and need not be synced. What is there already says the same,
/// whatever it is: it is not opened, since that may be a pipe, or a link to another file of the store.
pub(super) fn mark_unsynced(dir: &Dir) {
    match dir.open_with(UNSYNCED, OpenOptions::new().write(true).create_new(true)) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            tracing::error!(%error, "a write failed; restart the machine before the store is opened again");
        }
        Ok(_) | Err(_) => {}
    }
}

/// The same, if it was a sync that may have failed. That is told once: whoever tries again is told that all is well.
fn mark_failed(dir: &Dir, error: &StoreError) {
    if matches!(error, StoreError::Io { .. }) {
        mark_unsynced(dir);
    }
}

/// Takes a mark away: from now on it does not hold.
fn remove(dir: &Dir, mark: &str) -> Result<(), StoreError> {
    match dir.remove_file(mark) {
        Ok(()) => sync(dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("open its folder", error)),
    }
}

fn sync(dir: &Dir) -> Result<(), StoreError> {
    let synced = dir.open(".").and_then(|folder| folder.sync_all());
    synced.map_err(|error| StoreError::io("sync its folder", error))
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What was refused is left as it is: what it says is on stable storage may not be.
        if !self.reclaimed.load(Ordering::Acquire) {
            return;
        }
        // Everything that was acknowledged is on the disk already. This saves the next start a walk over the slots.
        let noted = self.writer().and_then(|mut writer| {
            self.slots.note_durable(writer.commit)?;
            self.slots.sync()?;
            // So that a store that is often opened for one write does not use up its generations.
            self.give_back_seals(&mut writer)
        });
        if noted.is_err() {
            return;
        }
        // Also what sled wrote for who only read.
        match self.tree.flush().and_then(|()| self.tree.sync()) {
            Ok(()) => {
                let _the_walk_is_done_then = files::write_atomic(&self.dir, CLOSED, b"", 0o600);
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the store was not closed in order");
                mark_unsynced(&self.dir);
            }
        }
    }
}
