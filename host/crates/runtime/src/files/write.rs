//! Writing: whole or not at all, and never through a link that somebody else put there.

use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{FilesError, check_owner, during, open_parent, open_root};

const TEMPORARY_PREFIX: &str = ".aral-tmp-";

/// Writes `name` in `dir` so that readers see the old content or the new one, also after a power failure: a new file
/// is filled, synced, and renamed over the old one.
pub fn write_atomic(dir: &Dir, name: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let name = name.as_ref();
    replace(dir, name, name, bytes, mode, |_| Ok(()))
}

/// As [`write_atomic`], for a path on the command line. `replace` says whether a file that is there may go.
pub fn write_path(path: &Path, bytes: &[u8], mode: u32, replace: Replace) -> Result<(), FilesError> {
    let (dir, name) = open_parent(path)?;
    match replace {
        Replace::Allow => self::replace(&dir, &name, path, bytes, mode, |_| Ok(())),
        Replace::Refuse => create_file(&dir, &name, path, bytes, mode),
    }
}

/// Makes a file that must not exist yet, with mode 0600, out of what `fill` writes piece by piece. It appears under its name
/// when it is whole and on the disk, or never. Who is killed before leaves nothing where the file system makes files without a name.
pub fn stream_private<T, E: From<FilesError>>(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> Result<T, E>,
) -> Result<T, E> {
    let (dir, name) = open_parent(path)?;
    if dir.symlink_metadata(&name).is_ok() {
        return Err(FilesError::Exists { path: path.to_owned() }.into());
    }
    let mut file = Unlinked::new(&dir, path, 0o600)?;
    let done = fill(&mut file.file)?;
    file.appear(&name, path)?;
    Ok(done)
}

/// A file of this folder to write and read, which has no name and is gone when it is closed.
pub fn unnamed(dir: &Dir) -> Result<std::fs::File, FilesError> {
    Unlinked::new(dir, Path::new("."), 0o600).map(|file| file.file)
}

/// Whether a file that is there already may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It may.
    Allow,
    /// It is an error.
    Refuse,
}

/// Makes the file, whole, with mode 0600. If somebody else was quicker their file stays, and that is no error.
pub fn create_private_file(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let (dir, name) = open_parent(path)?;
    match create_file(&dir, &name, path, bytes, 0o600) {
        Err(FilesError::Exists { .. }) => Ok(()),
        other => other,
    }
}

/// Opens a folder that only this user has access to, and makes it, with those above it, if it is not there. Where nothing lies in it
/// yet, its name is on the disk afterwards.
pub fn create_private_dir(path: &Path) -> Result<Dir, FilesError> {
    let dir = match open_root(path) {
        Err(error) if error.is_not_found() => {
            create_missing(path)?;
            open_root(path)?
        }
        other => other?,
    };
    sync_name(&dir, path)?;
    let metadata = dir.dir_metadata().map_err(during("look at", path))?;
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FilesError::Mode {
            path: path.to_owned(),
            mode,
            wanted: "700",
        });
    }
    Ok(dir)
}

/// Opens a file to lock, which other processes lock too, and makes it if it is not there. It is never read or written.
pub fn open_lock(dir: &Dir, name: impl AsRef<Path>) -> Result<std::fs::File, FilesError> {
    let name = name.as_ref();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    let file = dir.open_with(name, &options).map_err(during("open", name))?;
    Ok(file.into_std())
}

/// Makes the folder that `path` lies in, for this user alone, if it is not there.
pub fn create_private_parent(path: &Path) -> Result<(), FilesError> {
    match open_parent(path) {
        Err(error) if error.is_not_found() => create_private_dir(path.parent().unwrap_or(Path::new("/"))).map(drop),
        other => sync_name(&other?.0, path),
    }
}

/// Whether a name is that of a file that was being written.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX)
}

/// Goes up to the first folder that exists, and makes the rest below its handle. Each folder is synced into the one above it before
/// anything is made in it. The name of the last one is left to whoever calls this.
fn create_missing(path: &Path) -> Result<(), FilesError> {
    let existing = path
        .ancestors()
        .skip(1)
        .map(|above| if above == Path::new("") { Path::new(".") } else { above })
        .find_map(|above| open_root(above).ok().map(|dir| (dir, above)));
    let Some((dir, above)) = existing else {
        return Err(during("make", path)(std::io::ErrorKind::NotFound.into()));
    };
    let missing = path.strip_prefix(above).unwrap_or(path);
    let mut levels: Vec<&Path> = missing.ancestors().filter(|level| *level != Path::new("")).collect();
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    let mut made: Option<Dir> = None;
    while let Some(level) = levels.pop() {
        sync_name(made.as_ref().unwrap_or(&dir), path)?;
        match dir.create_dir_with(level, &builder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(during("make", path)(error)),
            Ok(()) | Err(_) => {}
        }
        made = Some(dir.open_dir(level).map_err(during("make", path))?);
    }
    Ok(())
}

/// Syncs the name of an empty folder, which is in the one above it: what is synced in the folder later would be lost with its name.
/// Whoever made it may have been cut off before that, so that every empty one is taken for new. One that is not empty has been synced.
/// `path` is what messages call it.
fn sync_name(dir: &Dir, path: &Path) -> Result<(), FilesError> {
    if !dir.entries().is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = match rustix::fs::openat(dir, "..", flags, Mode::empty()) {
        // Another user's, who made this one in it.
        Err(Errno::ACCESS) => return Ok(()),
        above => above
            .map_err(io::Error::from)
            .and_then(|above| std::fs::File::from(above).sync_all()),
    };
    match synced {
        // Its file system syncs no folders.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(during("sync the folder of", path)),
    }
}

/// The name appears with the content behind it, or not at all.
pub(super) fn create_file(dir: &Dir, name: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let mut file = Unlinked::new(dir, path, mode)?;
    file.file.write_all(bytes).map_err(during("write", path))?;
    file.appear(name, path)
}

/// The name has the old content or the new one. `path` is what messages call it. `finish` sees the new file before it has the name.
pub(super) fn replace(
    dir: &Dir,
    name: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    finish: impl FnOnce(&std::fs::File) -> Result<(), FilesError>,
) -> Result<(), FilesError> {
    let (temporary, mut file) = open_temporary(dir, path, mode)?;
    let renamed = file
        .write_all(bytes)
        .map_err(during("write", path))
        .and_then(|()| finish(&file))
        .and_then(|()| file.sync_all().map_err(during("write", path)))
        .and_then(|()| {
            let renamed = dir.rename(&temporary, dir, name);
            renamed.map_err(during("replace", path))
        });
    if renamed.is_err() {
        let _gone_or_stays = dir.remove_file(&temporary);
        return renamed;
    }
    sync(dir, path)
}

/// A file that is not there until it appears: dropped before, it is gone.
pub(super) struct Unlinked<'a> {
    dir: &'a Dir,
    pub(super) file: std::fs::File,
    /// What it is called meanwhile where the file system makes no file without a name.
    temporary: Option<Temporary<'a>>,
}

/// A name that goes when this is dropped. Who is killed leaves it.
struct Temporary<'a> {
    dir: &'a Dir,
    name: PathBuf,
}

impl<'a> Unlinked<'a> {
    /// `path` is what messages call it.
    fn new(dir: &'a Dir, path: &Path, mode: u32) -> Result<Self, FilesError> {
        match without_name(dir, mode) {
            Some(file) => Ok(Self {
                dir,
                file,
                temporary: None,
            }),
            None => Self::named(dir, path, mode),
        }
    }

    /// The same on any file system.
    pub(super) fn named(dir: &'a Dir, path: &Path, mode: u32) -> Result<Self, FilesError> {
        let (name, file) = open_temporary(dir, path, mode)?;
        Ok(Self {
            dir,
            file,
            temporary: Some(Temporary { dir, name }),
        })
    }

    /// Gives what was written so far a name, which must be new, when it is on the disk; the name is on the disk afterwards.
    pub(super) fn appear(self, name: &Path, path: &Path) -> Result<(), FilesError> {
        self.file.sync_all().map_err(during("write", path))?;
        let linked = match &self.temporary {
            Some(temporary) => self.dir.hard_link(&temporary.name, self.dir, name),
            None => rustix::fs::linkat(CWD, by_handle(&self.file), self.dir, name, AtFlags::SYMLINK_FOLLOW)
                .map_err(io::Error::from),
        };
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FilesError::Exists { path: path.to_owned() },
            _other => during("make", path)(error),
        })?;
        drop(self.temporary);
        sync(self.dir, path)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _gone_or_stays = self.dir.remove_file(&self.name);
    }
}

/// A new file that no name leads to. None: the file system makes none, or nothing shows the handles by which it could get a name.
fn without_name(dir: &Dir, mode: u32) -> Option<std::fs::File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(mode)).ok()?);
    rustix::fs::stat(by_handle(&file)).ok()?;
    Some(file)
}

/// Where the system shows what is open.
fn by_handle(file: &std::fs::File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// An empty file of a new name. `path` is what messages call it.
fn open_temporary(dir: &Dir, path: &Path, mode: u32) -> Result<(PathBuf, std::fs::File), FilesError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = PathBuf::from(format!(
        "{TEMPORARY_PREFIX}{}-{}-{count}",
        std::process::id(),
        crate::entropy::trace_id()
    ));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let file = dir.open_with(&name, &options).map_err(during("write", path))?;
    Ok((name, file.into_std()))
}

/// So that a new name in a folder survives a power failure.
fn sync(dir: &Dir, path: &Path) -> Result<(), FilesError> {
    let synced = dir.open(Path::new(".")).and_then(|folder| folder.sync_all());
    synced.map_err(during("sync the folder of", path))
}
