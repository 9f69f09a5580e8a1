//! The file `keyring`: which root keys there are, each sealed under the master keys that may open the store. It has two pages
//! that are overwritten in place, so that nothing of the past stays in either. The layout is in docs/store-format.md. It knows no
//! record.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use aral_runtime::{LockedKey, entropy, files};
use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use super::Epoch;
use super::file::{open_file, open_to_read};
use super::page;
use super::pages::Pages;
use super::root::Root;
use crate::key::{MasterKey, Standing, hex, unhex};
use crate::key_service::KeyServiceError;
use crate::store::StoreError;

/// The newest format that this version reads, and the one that it writes.
pub(crate) const FORMAT: u32 = 1;
/// Its name in the folder of a store.
pub(crate) const NAME: &str = "keyring";

const STORE_ID_BYTES: usize = 16;
/// Generations after which keys must be rotated before another one begins, counted from the first of the oldest root.
const GENERATIONS_MAX: u32 = 4096;
/// Further ones while keys are rotated.
const GENERATIONS_OF_ROTATION: u32 = 1024;
/// Generations that a keyring may have. Stops a file that somebody made up from taking all memory.
const GENERATIONS_READ: u32 = GENERATIONS_MAX + GENERATIONS_OF_ROTATION;

/// Names a store. Goes into everything that is sealed in it, so that nothing of one store passes for a part of another.
pub(crate) type StoreId = [u8; STORE_ID_BYTES];

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    /// Oldest first; more than one while keys are rotated.
    pub(crate) roots: Vec<RootEntry>,
    /// Under which slots are written now.
    pub(crate) generation: u32,
    /// How many slots may have been sealed in this generation. Counted in steps, so that it is written rarely.
    pub(crate) seals: u64,
    /// Epoch keys that nothing is sealed under any more, and that may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) epochs_to_destroy: Vec<String>,
}

/// One root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootEntry {
    pub(crate) number: u32,
    /// The first generation of slots that is sealed under it; up to the first of the next root.
    pub(crate) first_generation: u32,
    /// The key of the key service that it is sealed under as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<String>,
    /// Once for each master key that opens it.
    pub(crate) seals: Vec<Seal>,
}

/// A root key, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// Id of the master key.
    pub(crate) key: String,
    /// Hex of what the master key, and then the epoch key, made of it.
    pub(crate) sealed: String,
}

impl Content {
    /// Ids of the master keys that open the store.
    pub(crate) fn keys(&self) -> Vec<String> {
        let seals = self.roots.iter().flat_map(|root| &root.seals);
        let mut keys: Vec<String> = seals.map(|seal| seal.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The open file.
pub(crate) struct Keyring {
    pub(super) file: File,
    pub(crate) store: StoreId,
    pages: Pages,
    pub(crate) content: Content,
}

/// What is sealed with a root key: whose it is.
fn associated(store: &StoreId, number: u32) -> Vec<u8> {
    [b"aral.memory/v1/root".as_slice(), store, &number.to_le_bytes()].concat()
}

impl RootEntry {
    /// A new root key, and its entry sealed under `masters`.
    pub(crate) fn make(
        store: &StoreId,
        number: u32,
        first_generation: u32,
        masters: &[(&MasterKey, Standing)],
        epoch: Option<&Epoch>,
    ) -> Result<(Self, Root), StoreError> {
        let key = LockedKey::random()?;
        let epoch_key = epoch.map(|epoch| epoch.key_of(store, number));
        if let (Some(epoch), Some(name)) = (epoch, &epoch_key) {
            epoch.service.create(name).map_err(of_new_epoch)?;
        }
        let mut entry = Self {
            number,
            first_generation,
            epoch: epoch_key,
            seals: Vec::new(),
        };
        for (master, standing) in masters {
            entry.admit(store, &key, master, *standing, epoch)?;
        }
        let root = Root::new(store, number, first_generation, key)?;
        Ok((entry, root))
    }

    /// Lets another master key open this root too.
    pub(crate) fn admit(
        &mut self,
        store: &StoreId,
        root: &LockedKey,
        master: &MasterKey,
        standing: Standing,
        epoch: Option<&Epoch>,
    ) -> Result<(), StoreError> {
        let id = master.id();
        if self.seals.iter().any(|seal| seal.key == id) {
            return Ok(());
        }
        let mut sealed = master.seal(root, &associated(store, self.number), standing)?;
        if let Some(name) = &self.epoch {
            let service = &required(epoch)?.service;
            // The first seal shows that the key is fit. The others must be possible whatever became of it since.
            sealed = if self.seals.is_empty() {
                service.wrap(name, &sealed).map_err(of_new_epoch)?
            } else {
                service.wrap_again(name, &sealed).map_err(of_epoch)?
            };
        }
        self.seals.push(Seal {
            key: id,
            sealed: hex(&sealed),
        });
        Ok(())
    }

    /// Where the seal of `master` is, as far as its id says so. One of its name in another engine is taken if it is the only
    /// one: with several, nobody could say which of them it was.
    pub(crate) fn seal_of(&self, master: &MasterKey) -> Option<usize> {
        let id = master.id();
        let same = self.seals.iter().position(|seal| seal.key == id);
        same.or_else(|| self.seals.iter().position(|seal| master.may_be(&seal.key)))
            .or_else(|| {
                let moved = |seal: &Seal| master.may_have_been(&seal.key);
                let at = self.seals.iter().position(moved)?;
                (self.seals.iter().filter(|seal| moved(seal)).count() == 1).then_some(at)
            })
    }

    /// Gives the seal that `master` has opened the id that such keys have now.
    pub(crate) fn name_seal(&mut self, master: &MasterKey) {
        let found = self.seal_of(master);
        if let Some(seal) = found.and_then(|at| self.seals.get_mut(at)) {
            seal.key = master.id();
        }
    }

    /// The root, if `master` opens it.
    pub(crate) fn open(&self, store: &StoreId, master: &MasterKey, epoch: Option<&Epoch>) -> Result<Root, StoreError> {
        let wrong = |service| {
            let wanted: Vec<String> = self.seals.iter().map(|seal| format!("`{}`", seal.key)).collect();
            StoreError::WrongKey {
                wanted: wanted.join(" or "),
                given: master.id(),
                service,
            }
        };
        let seal = self.seal_of(master).and_then(|at| self.seals.get(at));
        let seal = seal.ok_or_else(|| wrong(None))?;
        let mut sealed = unhex(&seal.sealed).ok_or(DAMAGED)?;
        if let Some(name) = &self.epoch {
            let service = &required(epoch)?.service;
            sealed = service.unwrap(name, &sealed).map_err(of_epoch)?.to_vec();
        }
        let key = master.open(&sealed, &associated(store, self.number));
        let key =
            key.map_err(|error| match error {
                StoreError::KeyService(
                    error @ (KeyServiceError::Refused { .. } | KeyServiceError::NotFound { .. }),
                ) if master.may_have_been(&seal.key) => wrong(Some(Box::new(error))),
                error => error,
            })?;
        Root::new(store, self.number, self.first_generation, key)
    }
}

pub(super) const DAMAGED: StoreError = StoreError::Corrupt { what: "the keyring" };

/// A master key that is not there may have to be made; a key of an epoch that is gone is never made again.
fn of_epoch(error: KeyServiceError) -> StoreError {
    match error {
        gone @ KeyServiceError::NotFound { .. } => StoreError::EpochKey(gone),
        other => StoreError::KeyService(other),
    }
}

/// Nothing is sealed under the key of an epoch that begins: where it is not found, its engine is not there.
fn of_new_epoch(error: KeyServiceError) -> StoreError {
    match error {
        nowhere @ KeyServiceError::NotFound { .. } => StoreError::NoEpochKey(nowhere),
        other => StoreError::KeyService(other),
    }
}

fn required(epoch: Option<&Epoch>) -> Result<&Epoch, StoreError> {
    epoch.ok_or_else(|| {
        StoreError::Invalid("the store is sealed under epoch keys: name their key service in [memory.epoch]".to_owned())
    })
}

impl Keyring {
    /// Makes the file, whole or not at all.
    pub(crate) fn create(dir: &Dir, content: Content, store: StoreId) -> Result<Self, StoreError> {
        let page = page::write(&store, 1, &content)?;
        files::write_atomic(dir, NAME, &[page.as_slice(), &page].concat(), 0o600)?;
        Ok(Self {
            file: open(dir)?,
            store,
            pages: Pages::new(),
            content,
        })
    }

    /// Reads the newest whole page. None: there is no such file.
    pub(crate) fn load(dir: &Dir) -> Result<Option<Self>, StoreError> {
        if !dir.exists(NAME) {
            return Ok(None);
        }
        Self::read(open(dir)?).map(Some)
    }

    /// The same of a file that may only be read: what would replace it fails.
    pub(super) fn load_to_read(dir: &Dir) -> Result<Self, StoreError> {
        let file = open_to_read(dir, NAME).map_err(|error| StoreError::io("open its keyring", error))?;
        Self::read(file)
    }

    fn read(file: File) -> Result<Self, StoreError> {
        let (pages, store, content) = Pages::read(&|page, offset| file.read_exact_at(page, offset))?;
        Ok(Self {
            file,
            store,
            pages,
            content,
        })
    }

    /// Replaces the content. When this returns, both pages hold the new one on stable storage, and the old one is gone.
    pub(crate) fn replace(&mut self, content: Content) -> Result<(), StoreError> {
        self.pages.replace(&self.store, &content, &mut |page, offset| {
            overwrite(&self.file, page, offset)
        })?;
        self.content = content;
        Ok(())
    }

    /// Ends a replacement that was cut off. Does nothing where the system shows both pages alike.
    pub(crate) fn mend(&mut self) -> Result<(), StoreError> {
        self.pages.mend(&self.store, &self.content, &mut |page, offset| {
            overwrite(&self.file, page, offset)
        })
    }

    /// Sees to it that both pages are alike on stable storage, too.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        self.pages
            .settle(&mut |page, offset| overwrite(&self.file, page, offset))
    }

    /// Refuses what no store writes, before anything is done because of it: the file as a whole is not authenticated.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let newest = self.content.roots.last().ok_or(DAMAGED)?;
        let in_order = self
            .content
            .roots
            .is_sorted_by(|one, next| one.number < next.number && one.first_generation < next.first_generation);
        let before = self.content.generation.checked_sub(self.first_generation());
        let few = before.is_some_and(|count| count < GENERATIONS_READ);
        if in_order && few && self.content.generation >= newest.first_generation {
            Ok(())
        } else {
            Err(DAMAGED)
        }
    }

    fn first_generation(&self) -> u32 {
        self.content.roots.first().map_or(0, |root| root.first_generation)
    }

    /// The generation after this one, as long as [`Keyring::check`] takes it.
    pub(crate) fn next_generation(&self) -> Result<u32, StoreError> {
        let next = self.content.generation.saturating_add(1);
        let most = if self.content.roots.len() > 1 {
            GENERATIONS_READ
        } else {
            GENERATIONS_MAX
        };
        if next.saturating_sub(self.first_generation()) >= most {
            return Err(StoreError::Invalid(
                "the root key of the store has sealed all that it may: rotate it, with `aral memory rotate-key`"
                    .to_owned(),
            ));
        }
        Ok(next)
    }
}

/// A new name for a store.
pub(crate) fn store_id() -> Result<StoreId, StoreError> {
    let mut id = [0; STORE_ID_BYTES];
    entropy::fill(&mut id)?;
    Ok(id)
}

fn open(dir: &Dir) -> Result<File, StoreError> {
    open_file(dir, NAME).map_err(|error| StoreError::io("open its keyring", error))
}

/// When this returns, the page is on stable storage.
fn overwrite(file: &File, page: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(page, offset)?;
    file.sync_all()
}
