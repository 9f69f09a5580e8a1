//! The host's own files: the one module that opens any by path. What it opens it checks on the open handle, never by a
//! second look at the path, and reads with a cap. Folders come out as cap-std handles, through which nothing outside of
//! them can be reached. It knows no format.

mod fix;
mod list;
mod place;
mod socket;
mod write;

#[cfg(test)]
mod tests;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cap_std::AmbientAuthority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use zeroize::Zeroizing;

pub use list::{Listed, Listing, list};
pub use place::Place;
pub use socket::{SocketName, bind_private, connect};
pub use write::{
    Replace, create_private_dir, create_private_file, create_private_parent, is_temporary, open_lock, stream_private,
    unnamed, write_atomic, write_path,
};

/// A file or folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system said no.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More than is read.
    #[error("`{}` has more than {bytes_max} bytes", path.display())]
    TooLarge {
        /// What.
        path: PathBuf,
        /// The most that is read.
        bytes_max: u64,
    },
    /// A FIFO would block, and a device would never end.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// What.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("`{}` belongs to user {owner}, and not to this one ({user}) or root", path.display())]
    Owner {
        /// What.
        path: PathBuf,
        /// To whom it belongs.
        owner: u32,
        /// Who is running.
        user: u32,
    },
    /// Others have access that they must not have.
    #[error("`{}` has mode {mode:04o}, and others must not have access; run `chmod {wanted} {}`", path.display(), path.display())]
    Mode {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What `chmod` needs.
        wanted: &'static str,
    },
    /// It is there already, and is not to be replaced.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// Somebody else wrote it after it was looked at.
    #[error("`{}` was changed meanwhile, and is not written over", path.display())]
    Changed {
        /// What.
        path: PathBuf,
    },
    /// What takes its place would not be readable for whom it is there.
    #[error("`{}` belongs to user {owner} and group {group}, and what takes its place cannot be given to them", path.display())]
    Foreign {
        /// What.
        path: PathBuf,
        /// To which user it belongs.
        owner: u32,
        /// To which group.
        group: u32,
    },
}

impl FilesError {
    /// Whether there simply is no such file.
    pub fn is_not_found(&self) -> bool {
        self.said() == Some(io::ErrorKind::NotFound)
    }

    /// Whether there is nothing, or no folder where the path goes through one.
    pub fn is_absent(&self) -> bool {
        self.said()
            .is_some_and(|kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }

    /// Whether it is not for this user: another one may see what is there.
    pub fn is_denied(&self) -> bool {
        self.said() == Some(io::ErrorKind::PermissionDenied)
    }

    /// What the system said; none: it was not asked.
    fn said(&self) -> Option<io::ErrorKind> {
        let Self::Io { source, .. } = self else { return None };
        Some(source.kind())
    }

    /// Whether the disk says no, so that the same may work later. Else the path is wrong, or who may do what there.
    pub fn is_of_disk(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        let is_of_path = matches!(
            source.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput
        );
        // What the standard library calls a loop has no stable name.
        !is_of_path && source.raw_os_error() != Some(libc::ELOOP)
    }

    /// With the whole path of what was named from `folder` on.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        let (Self::Io { path, .. }
        | Self::TooLarge { path, .. }
        | Self::NotAFile { path }
        | Self::Owner { path, .. }
        | Self::Mode { path, .. }
        | Self::Exists { path }
        | Self::Changed { path }
        | Self::Foreign { path, .. }) = &mut self;
        let is_folder = path.as_path() == Path::new(".");
        *path = if is_folder {
            folder.to_owned()
        } else {
            folder.join(&*path)
        };
        self
    }
}

/// Opens a folder. Everything below is reached through the handle.
pub fn open_root(path: &Path) -> Result<Dir, FilesError> {
    Dir::open_ambient_dir(path, authority()).map_err(during("open", path))
}

/// Opens the folder that `path` lies in, and gives the name of `path` in it.
pub fn open_parent(path: &Path) -> Result<(Dir, PathBuf), FilesError> {
    let name = path
        .file_name()
        .ok_or_else(|| FilesError::NotAFile { path: path.to_owned() })?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    Ok((open_root(parent)?, PathBuf::from(name)))
}

/// Whether there is a file or folder at `path`. What a link leads to in another folder does not count.
pub fn is_there(path: &Path) -> bool {
    open_parent(path).is_ok_and(|(dir, name)| dir.exists(name))
}

/// Reads the regular file `name` in or below `dir`, if it has at most `bytes_max` bytes.
pub fn read_capped(dir: &Dir, name: impl AsRef<Path>, bytes_max: u64) -> Result<Vec<u8>, FilesError> {
    let name = name.as_ref();
    let file = dir.open_with(name, &reading()).map_err(during("open", name))?;
    regular(&file, name)?;
    read_to_cap(file, name, bytes_max)
}

/// Reads the file that somebody named on the command line; it may be a link or a pipe.
pub fn read_path(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FilesError> {
    read_to_cap(File::from_std(open_path(path)?), path, bytes_max)
}

/// Reads the regular file at a path that a file names; it may be a link. Nobody named it on the command line, so that a pipe is
/// refused and not waited for.
pub fn read_regular(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FilesError> {
    let (file, _metadata) = open_regular(path)?;
    read_to_cap(file, path, bytes_max)
}

/// Opens the file that somebody named on the command line, to be read piece by piece; it may be a link or a pipe.
pub fn open_path(path: &Path) -> Result<std::fs::File, FilesError> {
    let file = File::open_ambient(path, authority()).map_err(during("open", path))?;
    if file.metadata().map_err(during("look at", path))?.is_dir() {
        return Err(FilesError::NotAFile { path: path.to_owned() });
    }
    Ok(file.into_std())
}

/// Reads a file that holds a secret: it must belong to this user or root, and nobody else may have access to it.
pub fn read_private(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, FilesError> {
    read_checked(path, bytes_max, 0o077, "600").map(Zeroizing::new)
}

/// Reads a file that decides what is allowed: it must belong to this user or root, and nobody else may write it.
pub fn read_trusted(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FilesError> {
    read_checked(path, bytes_max, 0o022, "go-w")
}

/// The size of a file, in bytes.
pub fn size(dir: &Dir, name: impl AsRef<Path>) -> Result<u64, FilesError> {
    let name = name.as_ref();
    dir.symlink_metadata(name)
        .map(|metadata| metadata.len())
        .map_err(during("look at", name))
}

/// Whether `path`, which need not exist, lies in `directory` or below, once links are followed.
pub fn is_inside(path: &Path, directory: &Path) -> Result<bool, FilesError> {
    let (parent, _name) = match path.parent() {
        Some(parent) if parent != Path::new("") => (parent, path),
        Some(_) | None => (Path::new("."), path),
    };
    let parent = match canonical(parent) {
        Err(error) if error.is_not_found() => return Ok(false),
        other => other?,
    };
    Ok(parent.starts_with(canonical(directory)?))
}

/// The absolute path of what is there, with every link followed.
#[expect(clippy::disallowed_methods, reason = "this module opens files by path")]
pub fn canonical(path: &Path) -> Result<PathBuf, FilesError> {
    path.canonicalize().map_err(during("find", path))
}

/// Whether two paths lead to one file or folder, every link followed. One to what is not there leads where it says.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| canonical(path).unwrap_or_else(|_| path.to_owned());
    found(one) == found(other)
}

/// Who this process runs as.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The right to open anything by path. It does not leave this module.
#[expect(clippy::disallowed_methods, reason = "this module opens files by path")]
fn authority() -> AmbientAuthority {
    cap_std::ambient_authority()
}

fn during<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FilesError + 'a {
    move |source| FilesError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Without waiting: opening a FIFO to read waits for a writer who may never come.
fn reading() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options
}

fn open_regular(path: &Path) -> Result<(File, Metadata), FilesError> {
    let file = File::open_ambient_with(path, &reading(), authority()).map_err(during("open", path))?;
    let metadata = regular(&file, path)?;
    Ok((file, metadata))
}

fn regular(file: &File, path: &Path) -> Result<Metadata, FilesError> {
    let metadata = file.metadata().map_err(during("look at", path))?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(FilesError::NotAFile { path: path.to_owned() })
    }
}

fn read_checked(path: &Path, bytes_max: u64, forbidden: u32, wanted: &'static str) -> Result<Vec<u8>, FilesError> {
    let (file, metadata) = open_regular(path)?;
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(FilesError::Mode {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    read_to_cap(file, path, bytes_max)
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), FilesError> {
    let user = user();
    let owner = metadata.uid();
    if owner == user || owner == 0 {
        return Ok(());
    }
    Err(FilesError::Owner {
        path: path.to_owned(),
        owner,
        user,
    })
}

/// The size is not asked for first: a file may grow while it is read.
fn read_to_cap(file: File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, FilesError> {
    let expected = file.metadata().map_or(0, |metadata| metadata.len()).min(bytes_max);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(during("read", path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(FilesError::TooLarge {
            path: path.to_owned(),
            bytes_max,
        });
    }
    Ok(bytes)
}
