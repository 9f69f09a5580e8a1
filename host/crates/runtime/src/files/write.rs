//! Writing: whole or not at all, and never through a link that somebody else put there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, File, MetadataExt as _, OpenOptions, OpenOptionsExt as _};

use super::{FilesError, check_owner, during, open_parent, open_root};

const TEMPORARY_PREFIX: &str = ".aral-tmp-";

/// Writes `name` in `dir` so that readers see the old content or the new one, also after a power failure: a new file
/// is filled, synced, and renamed over the old one.
pub fn write_atomic(dir: &Dir, name: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let name = name.as_ref();
    let temporary = write_temporary(dir, bytes, mode)?;
    let renamed = dir.rename(&temporary, dir, name).map_err(during("replace", name));
    finish(dir, &temporary, renamed)
}

/// As [`write_atomic`], for a path on the command line. `replace` says whether a file that is there may go.
pub fn write_path(path: &Path, bytes: &[u8], mode: u32, replace: Replace) -> Result<(), FilesError> {
    let (dir, name) = open_parent(path)?;
    match replace {
        Replace::Allow => write_atomic(&dir, name, bytes, mode),
        Replace::Refuse => create_file(&dir, &name, path, bytes, mode),
    }
}

/// Makes a file that must not exist yet, with mode 0600, out of what `fill` writes piece by piece. It appears under its name
/// when it is whole and on the disk, or never.
pub fn stream_private<T, E: From<FilesError>>(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> Result<T, E>,
) -> Result<T, E> {
    let (dir, name) = open_parent(path)?;
    if dir.symlink_metadata(&name).is_ok() {
        return Err(FilesError::Exists { path: path.to_owned() }.into());
    }
    let (temporary, file) = open_temporary(&dir, 0o600)?;
    let mut file = file.into_std();
    let filled = fill(&mut file).and_then(|done| {
        file.sync_all().map_err(during("write", path))?;
        link_new(&dir, &temporary, &name, path)?;
        Ok(done)
    });
    let removed = dir.remove_file(&temporary).map_err(during("remove", &temporary));
    let done = filled?;
    finish(&dir, &temporary, removed)?;
    Ok(done)
}

/// A file of this folder to write and read, which has no name and is gone when it is closed.
pub fn unnamed(dir: &Dir) -> Result<std::fs::File, FilesError> {
    let (name, file) = open_temporary(dir, 0o600)?;
    dir.remove_file(&name).map_err(during("remove", &name))?;
    Ok(file.into_std())
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

/// Opens a folder that only this user has access to, and makes it, with those above it, if it is not there.
pub fn create_private_dir(path: &Path) -> Result<Dir, FilesError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let dir = match open_root(path) {
        Err(error) if error.is_not_found() => {
            create_missing(path, &builder)?;
            open_root(path)?
        }
        other => other?,
    };
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
        other => other.map(drop),
    }
}

/// Whether a name is that of a file that was being written.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX)
}

/// Goes up to the first folder that exists, and makes the rest below its handle.
fn create_missing(path: &Path, builder: &DirBuilder) -> Result<(), FilesError> {
    let existing = path
        .ancestors()
        .skip(1)
        .map(|above| if above == Path::new("") { Path::new(".") } else { above })
        .find_map(|above| open_root(above).ok().map(|dir| (dir, above)));
    let Some((dir, above)) = existing else {
        return Err(during("make", path)(std::io::ErrorKind::NotFound.into()));
    };
    let missing = path.strip_prefix(above).unwrap_or(path);
    match dir.create_dir_with(missing, builder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(during("make", path)),
    }
}

/// The name appears with the content behind it, or not at all: a link to a file that is written already.
fn create_file(dir: &Dir, name: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let temporary = write_temporary(dir, bytes, mode)?;
    let linked = link_new(dir, &temporary, name, path);
    let removed = dir.remove_file(&temporary).map_err(during("remove", &temporary));
    finish(dir, &temporary, linked.and(removed))
}

/// Gives a file a second name, which must be new.
fn link_new(dir: &Dir, temporary: &Path, name: &Path, path: &Path) -> Result<(), FilesError> {
    match dir.hard_link(temporary, dir, name) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(FilesError::Exists { path: path.to_owned() })
        }
        other => other.map_err(during("make", path)),
    }
}

/// Fills and syncs a file of a new name.
fn write_temporary(dir: &Dir, bytes: &[u8], mode: u32) -> Result<PathBuf, FilesError> {
    let (name, mut file) = open_temporary(dir, mode)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(during("write", &name));
    if written.is_err() {
        let _stays = dir.remove_file(&name);
    }
    written.map(|()| name)
}

/// An empty file of a new name.
fn open_temporary(dir: &Dir, mode: u32) -> Result<(PathBuf, File), FilesError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = PathBuf::from(format!(
        "{TEMPORARY_PREFIX}{}-{}-{count}",
        std::process::id(),
        crate::entropy::trace_id()
    ));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let file = dir.open_with(&name, &options).map_err(during("make", &name))?;
    Ok((name, file))
}

/// Syncs the folder, so that the new name survives a power failure; or cleans up.
fn finish(dir: &Dir, temporary: &Path, result: Result<(), FilesError>) -> Result<(), FilesError> {
    if result.is_err() {
        let _gone_or_stays = dir.remove_file(temporary);
        return result;
    }
    let here = Path::new(".");
    let handle = dir.open(here).map_err(during("sync", here))?;
    handle.sync_all().map_err(during("sync", here))
}
