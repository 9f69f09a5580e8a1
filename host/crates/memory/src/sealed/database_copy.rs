//! A copy of the database of a store, for whoever must not change that one: sled writes as soon as it opens its file. Nobody
//! else has access to the copy, and it goes when it is not needed any more. There are no keys in it: those stay where they can
//! be destroyed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};

use super::file::open_to_read;
use super::room::Room;
use super::tree;
use crate::store::StoreError;

/// sled's folder for what is too large for its file.
const BLOBS: &str = "blobs";
/// The folder of another database than the one that was copied.
const ANOTHER: &str = "another";
/// Bytes that are copied at once.
const AT_ONCE: usize = 1 << 20;
/// What is given up where the disk cannot read: a block of it.
const BLOCK_BYTES: usize = 4096;

/// The copy.
pub(super) struct DatabaseCopy {
    parent: Dir,
    name: PathBuf,
    /// Where it is. The database lies in it by the name that it has in a store.
    pub(super) path: PathBuf,
    pub(super) dir: Dir,
    /// How much of the database could not be read. There are zeros in its place.
    pub(super) unreadable_bytes: u64,
}

impl DatabaseCopy {
    /// Copies the database of the store in the folder `of` to `path`, which must not exist, on a disk of which `free_bytes_min`
    /// stay free.
    pub(super) fn make(of: &Dir, path: &Path, free_bytes_min: u64) -> Result<Self, StoreError> {
        let held = open_to_read(of, tree::file()).map_err(copying)?;
        // Not while sled is still closing it.
        tree::lock_when_closed(&held).map_err(copying)?;
        let (parent, name) = files::open_parent(path)?;
        match parent.create_dir_with(&name, &private_folder()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(FilesError::Exists { path: path.to_owned() }.into());
            }
            other => other.map_err(copying)?,
        }
        let mut copy = Self {
            dir: parent.open_dir(&name).map_err(copying)?,
            parent,
            name,
            path: path.to_owned(),
            unreadable_bytes: 0,
        };
        copy.fill(of, free_bytes_min)?;
        Ok(copy)
    }

    fn fill(&mut self, of: &Dir, free_bytes_min: u64) -> Result<(), StoreError> {
        let from = of.open_dir(tree::NAME).map_err(copying)?;
        let files = files_of(&from).map_err(copying)?;
        let bytes = files.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        Room::on(&self.dir, free_bytes_min)?.holds(bytes)?;
        let made = self.dir.create_dir_with(tree::NAME, &private_folder());
        let to = made.and_then(|()| self.dir.open_dir(tree::NAME)).map_err(copying)?;
        to.create_dir_with(BLOBS, &private_folder()).map_err(copying)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        for (name, bytes) in files {
            let from = open_to_read(&from, &name).map_err(copying)?;
            let to = to.open_with(&name, &options).map_err(copying)?.into_std();
            let unreadable = copy(&|part, at| from.read_at(part, at), bytes, &to).map_err(copying)?;
            self.unreadable_bytes = self.unreadable_bytes.saturating_add(unreadable);
        }
        Ok(())
    }

    /// Has sled work out from its log alone what it keeps beside it.
    pub(super) fn forget_all_but_the_log(&self) -> Result<(), StoreError> {
        let forget = || -> io::Result<()> {
            for entry in self.dir.read_dir(tree::NAME)? {
                let name = entry?.file_name();
                if name
                    .to_str()
                    .is_some_and(|name| name.starts_with("snap.") || name == "conf")
                {
                    self.dir.remove_file(Path::new(tree::NAME).join(name))?;
                }
            }
            Ok(())
        };
        forget().map_err(copying)
    }
}

impl DatabaseCopy {
    /// A folder for another database, which goes with the copy.
    pub(super) fn another(&self) -> Result<(Dir, PathBuf), StoreError> {
        let made = self.dir.create_dir_with(ANOTHER, &private_folder());
        let dir = made.and_then(|()| self.dir.open_dir(ANOTHER)).map_err(copying)?;
        Ok((dir, self.path.join(ANOTHER)))
    }
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        // sled's own threads write for a while after it was closed.
        for folder in [Path::new(""), Path::new(ANOTHER)] {
            if let Ok(file) = self.dir.open(folder.join(tree::file())) {
                let _or_it_goes_while_they_write = tree::lock_when_closed(&file.into_std());
            }
        }
        if let Err(error) = self.parent.remove_dir_all(&self.name) {
            tracing::warn!(%error, "remove by hand what is left of a copy: `{}`", self.path.display());
        }
    }
}

fn copying(error: io::Error) -> StoreError {
    StoreError::io("copy its records", error)
}

fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// sled's files, with their sizes.
fn files_of(records: &Dir) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for folder in [Path::new(""), Path::new(BLOBS)] {
        let entries = if folder.as_os_str().is_empty() {
            records.entries()
        } else {
            records.read_dir(folder)
        };
        let entries = match entries {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((folder.join(entry.file_name()), metadata.len()));
            }
        }
    }
    Ok(files)
}

/// Copies what can be read, and says how many bytes cannot.
fn copy(read: &dyn Fn(&mut [u8], u64) -> io::Result<usize>, bytes: u64, to: &File) -> io::Result<u64> {
    let mut buffer = vec![0; AT_ONCE];
    let (mut at, mut unreadable) = (0_u64, 0_u64);
    let mut step = AT_ONCE;
    while at < bytes {
        let left = usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let part = buffer.get_mut(..left.min(step)).unwrap_or_default();
        let count = match read(part, at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) if step > BLOCK_BYTES => {
                step = BLOCK_BYTES;
                continue;
            }
            // What was there is damaged for sled; what is around it is whole.
            Err(_) => {
                part.fill(0);
                unreadable = unreadable.saturating_add(part.len() as u64);
                part.len()
            }
        };
        to.write_all_at(part.get(..count).unwrap_or_default(), at)?;
        at = at.saturating_add(count as u64);
        if at.is_multiple_of(AT_ONCE as u64) {
            step = AT_ONCE;
        }
    }
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_cannot_read_costs_its_block_and_no_more() {
        let content: Vec<u8> = (0..AT_ONCE * 2 + 100).map(|at| (at % 251) as u8 + 1).collect();
        let bad = BLOCK_BYTES * 3..BLOCK_BYTES * 4;
        let read = |part: &mut [u8], at: u64| {
            let from = usize::try_from(at).unwrap();
            if from < bad.end && from + part.len() > bad.start {
                return Err(io::Error::other("the disk does not read"));
            }
            part.copy_from_slice(&content[from..from + part.len()]);
            Ok(part.len())
        };
        let to = tempfile::tempfile().unwrap();
        let unreadable = copy(&read, content.len() as u64, &to).unwrap();
        assert_eq!(unreadable, BLOCK_BYTES as u64);
        let mut copied = vec![0; content.len()];
        to.read_exact_at(&mut copied, 0).unwrap();
        let mut wanted = content.clone();
        wanted[bad.clone()].fill(0);
        assert!(copied == wanted);
        assert_eq!(to.metadata().unwrap().len(), content.len() as u64);
    }
}
