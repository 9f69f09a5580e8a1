//! Opening the files of a store, and listing its folders.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;

/// A file of the store, to be read and overwritten in place. Never a link, and nothing but a regular file.
pub(super) fn open_file(dir: &Dir, name: impl AsRef<Path>) -> io::Result<File> {
    open_as(dir, name.as_ref(), true)
}

/// The same, where nothing can or may be written.
pub(super) fn open_to_read(dir: &Dir, name: impl AsRef<Path>) -> io::Result<File> {
    open_as(dir, name.as_ref(), false)
}

/// What is in a folder of the store, if it is there. Anything but files and folders is refused.
pub(super) fn entries_of(dir: &Dir, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match dir.read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() || metadata.is_dir() => found.push(path),
            Ok(_) => return Err(no_regular_file(&path)),
            // Gone meanwhile: sled's own threads write for a while after it was closed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn no_regular_file(name: &Path) -> io::Error {
    io::Error::other(format!("`{}` is not a regular file", name.display()))
}

/// Without waiting: opening a FIFO to read waits for a writer who may never come. Looked at by name first: where the kernel has no
/// `openat2`, cap-std follows a link whatever the flag says, and the flag alone does not name the file.
fn open_as(dir: &Dir, name: &Path, is_written: bool) -> io::Result<File> {
    if !dir.symlink_metadata(name)?.is_file() {
        return Err(no_regular_file(name));
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(is_written)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let file = dir.open_with(name, &options)?.into_std();
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(no_regular_file(name))
    }
}
