//! Rotating keys, online: a new root key, under the old master key and the new one until every record is written again
//! under it, then under the new one alone. A rotation that was cut off goes on where it was: what is still to do is what
//! lies under an old root. It knows no file of a key.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aral_contract::failure::chain;
use aral_contract::id::Namespace;

use super::check::Look;
use super::keyring::{DAMAGED, RootEntry};
use super::root::{Keys, Place, Root, Space};
use super::tree::Scan;
use super::work::Work;
use super::{Inner, SealedStore};
use crate::key::{MasterKey, Standing, hex};
use crate::store::StoreError;

/// Bytes that are written at once.
const BYTES_AT_ONCE: u64 = 8 << 20;

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Records that are written again.
    pub done: u64,
    /// Records that were to be written when it began.
    pub total: u64,
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Records that were written again.
    pub records: u64,
    /// Whether it went on with one that had been cut off.
    pub resumed: bool,
    /// Names of the old epoch keys that could not be destroyed, or are not the store's to destroy. The log says why.
    pub epochs_left: Vec<String>,
    /// After a new epoch, also one that another rotation had to end first: what is wrong with the master key that the epoch began under,
    /// as far as the store can see that. A store would not open with this key.
    pub unfit: Option<String>,
}

impl SealedStore {
    /// Seals everything anew, so that `new` alone opens the store. Reading and writing go on meanwhile, and either key
    /// opens the store if the process ends before this returns; call it again then, with the same key, or with the old one
    /// to stay with that.
    ///
    /// Who copied the store while this ran, and has the old key, can read what is under the new root: then rotate once
    /// more.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while keys are rotated or a backup is made; [`StoreError::Invalid`] if the key is the old one, or
    /// another one than that of a rotation that was cut off, or [`StoreError::WrongKey`] if it only has the name of that; and as
    /// [`RecordStore::apply`](crate::RecordStore::apply).
    pub fn rotate_key(&self, new: &MasterKey, progress: &mut dyn FnMut(Progress)) -> Result<Rotated, StoreError> {
        let mut to_the_end = |step| {
            progress(step);
            ControlFlow::Continue(())
        };
        self.alone()?.rotate_key(new, &mut to_the_end)
    }

    /// Begins a new epoch: seals everything anew under the same master key and a new epoch key, and destroys the old epoch
    /// key, and with it whatever an overwrite in place left of the old slots. It ends where `progress` says so, and goes on
    /// from there when it is called again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the store has no epochs, or if it was ended; and as [`SealedStore::rotate_key`].
    pub fn rotate_epoch(&self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Rotated, StoreError> {
        self.alone()?.rotate_epoch(progress)
    }

    /// Waits for nobody: keeps others from rotating keys, checking and making a backup until it is dropped.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while one of them does.
    pub fn alone(&self) -> Result<Alone<'_>, StoreError> {
        Ok(Alone {
            store: self,
            _alone: self.0.alone()?,
        })
    }
}

/// A store in which nobody else moves records between keys.
pub struct Alone<'a> {
    store: &'a SealedStore,
    _alone: Moving<'a>,
}

impl Alone<'_> {
    /// As [`SealedStore::rotate_key`], and ends where `progress` says so: either key opens the store then, and it goes on from there when
    /// it is called again.
    ///
    /// # Errors
    /// The same, but for [`StoreError::Busy`]; and [`StoreError::Invalid`] if it was ended.
    pub fn rotate_key(
        &self,
        new: &MasterKey,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Rotated, StoreError> {
        let store = &self.store.0;
        let unfit = match store.begun()? {
            Begun::Epoch => store.new_epoch(progress)?.unfit,
            Begun::Nothing | Begun::Key => None,
        };
        let resumed = store.begin(new)?;
        let rotated = store.finish(new, resumed, progress)?;
        Ok(Rotated { unfit, ..rotated })
    }

    /// As [`SealedStore::rotate_epoch`].
    ///
    /// # Errors
    /// The same, but for [`StoreError::Busy`].
    pub fn rotate_epoch(&self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Rotated, StoreError> {
        self.store.0.new_epoch(progress)
    }
}

/// The right to move records between roots, until it is dropped.
pub(super) struct Moving<'a>(&'a AtomicBool);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What was begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    /// A new root under the same master key.
    Epoch,
    /// A new root under two master keys, one of them new.
    Key,
}

/// A namespace under one root.
type Rooted<'a> = (Space, &'a Arc<Root>, Namespace);

impl Inner {
    fn master(&self) -> MasterKey {
        let key = self.key.lock();
        key.unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The right to move records between roots, or to see that nobody does.
    pub(super) fn alone(&self) -> Result<Moving<'_>, StoreError> {
        // Whoever only asks whether somebody has it takes it from nobody.
        if self.rotating.swap(true, Ordering::AcqRel) {
            return Err(StoreError::Busy);
        }
        Ok(Moving(&self.rotating))
    }

    fn new_epoch(&self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Rotated, StoreError> {
        if self.epoch.is_none() {
            return Err(StoreError::Invalid(
                "the store has no epoch keys: there is no [memory.epoch]".to_owned(),
            ));
        }
        if self.begun()? == Begun::Key {
            return Err(StoreError::Invalid(
                "a rotation to another key was begun: end it first, with `aral memory rotate-key`".to_owned(),
            ));
        }
        let key = self.master();
        let resumed = self.begin_root(&key)?;
        let rotated = self.finish(&key, resumed, progress)?;
        // The epoch has ended, whoever answers now or does not.
        let unfit = key.unfit().unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "nobody says whether the master key is still fit");
            None
        });
        let unfit = unfit.map(|reason| format!("the master key `{}`: {reason}", key.id()));
        if let Some(reason) = &unfit {
            tracing::warn!("a new epoch began under {reason}");
        }
        Ok(Rotated { unfit, ..rotated })
    }

    fn begun(&self) -> Result<Begun, StoreError> {
        let writer = self.writer()?;
        Ok(match writer.keyring.content.roots.as_slice() {
            [] | [_] => Begun::Nothing,
            [.., newest] if newest.seals.len() == 1 => Begun::Epoch,
            [..] => Begun::Key,
        })
    }

    /// The new root, under both master keys. True: there was one already.
    fn begin(&self, new: &MasterKey) -> Result<bool, StoreError> {
        if new.id() == self.master().id() && !self.keys.load().is_rotating() {
            return Err(StoreError::Invalid(format!(
                "`{}` is the key that the store has already",
                new.id()
            )));
        }
        self.begin_root(new)
    }

    fn begin_root(&self, new: &MasterKey) -> Result<bool, StoreError> {
        self.all_named()?;
        let before = self.writer()?.keyring.content.roots.clone();
        let keys = self.keys.load_full();
        if keys.is_rotating() {
            let newest = before.last().ok_or(DAMAGED)?;
            // Its engine may have moved since; the seal gets its id when the rotation ends.
            if newest.seal_of(new).is_some() {
                // It is about to be the only one that opens the store.
                newest.open(&self.store, new, self.epoch.as_ref())?;
                return Ok(true);
            }
            let wanted: Vec<String> = newest.seals.iter().map(|seal| format!("`{}`", seal.key)).collect();
            return Err(StoreError::Invalid(format!(
                "a rotation to another key was begun: end it first, with the one of {} that is new",
                wanted.join(" and ")
            )));
        }
        // The keyring must have room for another root, and those that could not be destroyed take it up. Once there is none, no
        // rotation comes to where they are destroyed otherwise.
        self.destroy_epochs();
        let old = self.master();
        let epoch = self.epoch.as_ref();
        let number = keys.newest().number.saturating_add(1);
        // No writer waits while key services are asked. No root comes or goes meanwhile, but a generation may begin: the
        // first one of the new root is known below.
        let mut entries = before.clone();
        for (entry, root) in entries.iter_mut().zip(&keys.roots) {
            entry.admit(&self.store, root.key(), new, Standing::New, epoch)?;
        }
        // The old key need not be fit any more: otherwise no store could leave a key of which somebody can take a copy. In a new epoch
        // the old key is the new one, too, and what was deleted has to go whatever became of it.
        let masters = [(&old, Standing::Known), (new, Standing::New)];
        let (mut entry, mut root) = RootEntry::make(&self.store, number, u32::MAX, &masters, epoch)?;
        let mut writer = self.writer()?;
        let mut content = writer.keyring.content.clone();
        if content.roots != before {
            return Err(DAMAGED);
        }
        let generation = content.generation.saturating_add(1);
        entry.first_generation = generation;
        root.first_generation = generation;
        entries.push(entry);
        content.roots = entries;
        content.generation = generation;
        content.seals = 0;
        let mut roots = keys.roots.clone();
        roots.push(Arc::new(root));
        let keys = Keys::new(roots, generation)?;
        self.replace_keyring(&mut writer, content)?;
        writer.seals_left = 0;
        self.keys.store(Arc::new(keys));
        Ok(false)
    }

    fn finish(
        &self,
        new: &MasterKey,
        resumed: bool,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Rotated, StoreError> {
        let keys = self.keys.load_full();
        let newest = Arc::clone(keys.newest());
        let old: Vec<&Arc<Root>> = keys.roots.iter().filter(|root| root.number != newest.number).collect();
        let total = self.count(&old)?;
        let mut done = 0_u64;
        let mut step = |done: u64| match progress(Progress {
            done: done.min(total),
            total,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Invalid(
                "the rotation was ended before it was done; it goes on when it is started again".to_owned(),
            )),
        };
        step(done)?;
        // Whatever is written from now on lies under the newest root: a pass that finds nothing is the last.
        loop {
            let mut moved = 0_u64;
            for (space, root, namespace) in self.old_namespaces(&old)? {
                moved = moved.saturating_add(self.rewrite(space, root, &namespace, &mut |records| {
                    done = done.saturating_add(records);
                    step(done)
                })?);
            }
            if moved == 0 {
                break;
            }
        }
        let left = self.none_is_missed(&newest, &mut || step(done))?;
        let epochs_left = self.retire(new, &newest, left)?;
        Ok(Rotated {
            records: done,
            resumed,
            epochs_left,
            unfit: None,
        })
    }

    fn old_namespaces<'a>(&self, old: &[&'a Arc<Root>]) -> Result<Vec<Rooted<'a>>, StoreError> {
        let mut found = Vec::new();
        for space in Space::ALL {
            self.each_namespace(space, &mut |place, namespace| {
                // One without a name has no records: a rotation does not begin before that, and does not end without a look.
                let Some(namespace) = namespace else {
                    return Ok(Scan::Next);
                };
                let root = old.iter().find(|root| root.namespace_place(space, &namespace) == place);
                found.extend(root.map(|root| (space, *root, namespace)));
                Ok(Scan::Next)
            })?;
        }
        Ok(found)
    }

    fn count(&self, old: &[&Arc<Root>]) -> Result<u64, StoreError> {
        let mut total = 0_u64;
        for (space, root, namespace) in self.old_namespaces(old)? {
            let usage = super::usage::read(&self.tree, &root.namespace_place(space, &namespace))?;
            total = total.saturating_add(usage.records);
        }
        Ok(total)
    }

    /// Writes the records of one namespace again. Says how many.
    fn rewrite(
        &self,
        space: Space,
        root: &Root,
        namespace: &Namespace,
        moved: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        self.each_some(&root.namespace_place(space, namespace), &mut |some| {
            let mut records = 0_u64;
            let mut works = Vec::new();
            let mut bytes = 0_u64;
            for place in some {
                let Some(work) = self.work_of(space, namespace, place)? else {
                    continue;
                };
                bytes = bytes.saturating_add(work.bytes());
                works.push(work);
                if bytes >= BYTES_AT_ONCE {
                    records = records.saturating_add(works.len() as u64);
                    self.submit_all(std::mem::take(&mut works))?;
                    bytes = 0;
                }
            }
            records = records.saturating_add(works.len() as u64);
            self.submit_all(works)?;
            sum = sum.saturating_add(records);
            moved(records)
        })?;
        Ok(sum)
    }

    /// How to write a record again; none: it went meanwhile.
    fn work_of(&self, space: Space, namespace: &Namespace, place: &Place) -> Result<Option<Work>, StoreError> {
        match self.look(space, namespace, place)? {
            Look::Gone => Ok(None),
            Look::Whole(record) => Ok(Some(Work::Rewrite { place: *place, record })),
            Look::Damaged(_) => {
                let tag = hex(place.get(..20).unwrap_or_default());
                tracing::error!(%namespace, place = %tag, "a record is damaged and keeps keys from being rotated: `aral memory check`");
                Err(StoreError::DAMAGED_RECORD)
            }
        }
    }
}
