//! Compiled code on disk, for the next process, and what was found in components. Whoever can write there could have their machine code run by the host,
//! so each entry carries a MAC whose key lies elsewhere, over its name and its content. An entry is read into memory
//! once, checked there and used from there; one that fails the check is as good as none. It knows no engine.

mod key;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use aral_contract::Digest;
use cap_std::fs::Dir;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::compile::CODE_BYTES_MAX;
use crate::files::{self, FilesError};
use key::CacheKey;

/// Size of all entries together by default, in bytes. The oldest go first.
pub const CACHE_BYTES_MAX_DEFAULT: u64 = 1 << 30;
/// A half-written file that is older than this belongs to a process that died, and goes.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// Entries that a sweep looks at. Stops a folder full of strange files from holding up the host.
const SWEEP_ENTRIES_MAX: usize = 100_000;
/// First bytes of an entry, and domain of its MAC.
const MAGIC: &[u8; 8] = b"ARALAOT2";
const MAC_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + MAC_BYTES;

/// Where compiled code is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; made with mode 0700 if it is not there. Nobody else may have access to it.
    pub directory: PathBuf,
    /// The key of the MACs; made with mode 0600 if it is not there. Must lie outside of `directory`.
    pub key_file: PathBuf,
    /// Size of all entries together, in bytes.
    pub bytes_max: u64,
}

/// The cache could not be opened or written. A bad entry is no error: it is made anew.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A copy of the folder would hold the key to forge entries with.
    #[error("the key file `{}` lies inside the cache folder `{}`", key_file.display(), directory.display())]
    KeyInside {
        /// The key.
        key_file: PathBuf,
        /// The folder.
        directory: PathBuf,
    },
    /// The key file holds something else.
    #[error("the key file `{}` does not hold a key of 32 bytes", key_file.display())]
    KeyMalformed {
        /// The key.
        key_file: PathBuf,
    },
    /// The system has no randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] crate::entropy::EntropyError),
    /// A file or folder is not there, or not private.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// What an entry is for: a component under the settings of an engine, or in the form of what was found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryName {
    pub(crate) component: Digest,
    pub(crate) settings: Digest,
}

impl EntryName {
    fn file(&self) -> String {
        let mut both = [0; 64];
        let (component, settings) = both.split_at_mut(32);
        component.copy_from_slice(self.component.as_bytes());
        settings.copy_from_slice(self.settings.as_bytes());
        format!("{}.code", Digest::of(&both))
    }
}

/// An entry in memory, its MAC verified.
pub(crate) struct Entry(Vec<u8>);

impl Entry {
    pub(crate) fn code(&self) -> &[u8] {
        self.0.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// The cache: several processes may share one.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: Dir,
    key: CacheKey,
    bytes_max: u64,
}

impl Cache {
    /// Opens the folder and the key, or makes them.
    pub(crate) fn open(options: CacheOptions) -> Result<Self, CacheError> {
        let directory = files::create_private_dir(&options.directory)?;
        let key = CacheKey::load_or_create(&options.key_file)?;
        if files::is_inside(&options.key_file, &options.directory)? {
            return Err(CacheError::KeyInside {
                key_file: options.key_file,
                directory: options.directory,
            });
        }
        Ok(Self {
            directory,
            key,
            bytes_max: options.bytes_max,
        })
    }

    /// The entry, or nothing if it is not there or not made by a holder of the key for this very name.
    pub(crate) fn load(&self, name: &EntryName) -> Option<Entry> {
        let file = name.file();
        let bytes = match files::read_capped(
            &self.directory,
            &file,
            CODE_BYTES_MAX.saturating_add(HEADER_BYTES as u64),
        ) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                tracing::warn!(%error, file, "an entry of the cache is not read");
                return None;
            }
        };
        if self.verify(name, &bytes).is_some() {
            return Some(Entry(bytes));
        }
        tracing::warn!(file, "an entry of the cache is damaged or forged; it is made anew");
        None
    }

    /// Writes the entry, in place of whatever is there, and lets the oldest ones go if they are too many.
    pub(crate) fn store(&self, name: &EntryName, code: &[u8]) -> Result<(), CacheError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES.saturating_add(code.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.mac(name, code).finalize().into_bytes());
        bytes.extend_from_slice(code);
        let file = name.file();
        files::write_atomic(&self.directory, &file, &bytes, 0o600)?;
        self.sweep(&file)?;
        Ok(())
    }

    fn mac(&self, name: &EntryName, code: &[u8]) -> Hmac<Sha256> {
        // All parts but the last have a fixed length, so no two entries give the same input.
        Hmac::<Sha256>::new((&*self.key.block()).into())
            .chain_update(MAGIC)
            .chain_update(name.component.as_bytes())
            .chain_update(name.settings.as_bytes())
            .chain_update(code)
    }

    /// In constant time: how far a forged MAC agrees must not be measurable.
    fn verify(&self, name: &EntryName, bytes: &[u8]) -> Option<()> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (mac, code) = rest.split_at_checked(MAC_BYTES)?;
        self.mac(name, code).verify_slice(mac).ok()
    }

    /// Removes half-written files of processes that died, and the oldest entries beyond `bytes_max`, but never `newest`.
    fn sweep(&self, newest: &str) -> Result<(), CacheError> {
        let mut entries = files::list(&self.directory, SWEEP_ENTRIES_MAX)?.files;
        entries.retain(|entry| {
            let abandoned = files::is_temporary(&entry.name) && entry.age > ABANDONED_AFTER;
            if abandoned {
                self.remove(&entry.name);
            }
            !abandoned && entry.name != newest && entry.name.ends_with(".code")
        });
        entries.sort_by_key(|entry| entry.age);
        let newest_bytes = files::size(&self.directory, newest).unwrap_or(0);
        let mut sum = newest_bytes;
        for entry in entries {
            sum = sum.saturating_add(entry.bytes);
            if sum > self.bytes_max {
                self.remove(&entry.name);
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) {
        // Another process may have been quicker.
        if let Err(error) = self.directory.remove_file(name)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "an old entry of the cache stays");
        }
    }
}
