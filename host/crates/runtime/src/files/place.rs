//! Where a file is looked at now and written over later. Links are followed once, at the look: what is put in the way afterwards
//! is neither followed nor written over.

use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptionsExt as _};

use super::write::{create_file, replace};
use super::{FilesError, canonical, during, open_parent, read_to_cap, reading, regular};

/// A place for one file. Messages call it what the user called it.
#[derive(Debug)]
pub struct Place {
    dir: Dir,
    name: PathBuf,
    path: PathBuf,
    /// What was in it at the look; none: nothing was there.
    bytes: Option<Vec<u8>>,
}

impl Place {
    /// That of a regular file of at most `bytes_max` bytes, wherever links lead. A pipe is not waited for.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, FilesError> {
        let (dir, name) = open_parent(&canonical(path)?)?;
        let (bytes, _) = read(&dir, &name, path, bytes_max)?;
        Ok(Self {
            dir,
            name,
            path: path.to_owned(),
            bytes: Some(bytes),
        })
    }

    /// That of a file that is still to be made. A link has the name already, also one that leads nowhere.
    pub fn free(path: &Path) -> Result<Self, FilesError> {
        let (dir, name) = open_parent(path)?;
        if dir.symlink_metadata(&name).is_ok() {
            return Err(FilesError::Exists { path: path.to_owned() });
        }
        Ok(Self {
            dir,
            name,
            path: path.to_owned(),
            bytes: None,
        })
    }

    /// What was in it at the look; none: nothing was there.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    /// Writes the file, whole, if what was looked at is still there, or still nothing. A file that was there keeps its owner, its
    /// group and its mode; a new one has mode 0644.
    pub fn write(&self, bytes: &[u8]) -> Result<(), FilesError> {
        let Some(old) = &self.bytes else {
            return create_file(&self.dir, &self.name, &self.path, bytes, 0o644);
        };
        let metadata = match read(&self.dir, &self.name, &self.path, old.len() as u64) {
            Ok((now, metadata)) if now == *old => metadata,
            Err(error) if error.is_of_disk() => return Err(error),
            Ok(_) | Err(_) => {
                return Err(FilesError::Changed {
                    path: self.path.clone(),
                });
            }
        };
        replace(&self.dir, &self.name, &self.path, bytes, 0o600, |file| {
            self.keep(file, &metadata)
        })
    }

    /// Gives the new file the owner, the group and the mode of the old one, whatever the umask takes away.
    fn keep(&self, file: &std::fs::File, old: &Metadata) -> Result<(), FilesError> {
        let look = || {
            rustix::fs::fstat(file)
                .map_err(std::io::Error::from)
                .map_err(during("look at", &self.path))
        };
        let (owner, group) = (old.uid(), old.gid());
        let mut new = look()?;
        if (new.st_uid, new.st_gid) != (owner, group) {
            if fchown(file, Some(owner), Some(group)).is_err() {
                let _alone_if_at_all = fchown(file, None, Some(group));
            }
            new = look()?;
        }
        let mode = kept_mode(old.mode() & 0o777, new.st_uid == owner, new.st_gid == group);
        let Some(mode) = mode else {
            return Err(FilesError::Foreign {
                path: self.path.clone(),
                owner,
                group,
            });
        };
        if new.st_mode & 0o777 == mode {
            return Ok(());
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(during("set the mode of", &self.path))
    }
}

/// The mode of a file that has the same owner, or the same group, or neither; none: somebody who read it could not any more. Nobody may
/// write it who could not before.
fn kept_mode(mode: u32, same_owner: bool, same_group: bool) -> Option<u32> {
    let all_read = mode & 0o004 != 0;
    let is_lost = !same_owner || (!same_group && mode & 0o070 != 0);
    if is_lost && !all_read {
        return None;
    }
    Some(if same_group { mode } else { mode & !0o020 })
}

/// Reads a regular file that has this very name, and is no link.
fn read(dir: &Dir, name: &Path, path: &Path, bytes_max: u64) -> Result<(Vec<u8>, Metadata), FilesError> {
    let mut options = reading();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let file = dir.open_with(name, &options).map_err(during("open", path))?;
    let metadata = regular(&file, path)?;
    Ok((read_to_cap(file, path, bytes_max)?, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_stays_readable_for_whom_it_was() {
        for (mode, same_owner, same_group, expected) in [
            (0o600, true, false, Some(0o600)),
            (0o640, true, false, None),
            (0o664, false, true, Some(0o664)),
            (0o640, false, true, None),
            (0o664, false, false, Some(0o644)),
            (0o660, true, true, Some(0o660)),
        ] {
            let found = kept_mode(mode, same_owner, same_group);
            assert_eq!(found, expected, "{mode:o} {same_owner} {same_group}");
        }
    }
}
