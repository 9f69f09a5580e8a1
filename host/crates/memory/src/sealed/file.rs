//! Opening the files of a store.

use std::fs::File;
use std::io;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;

/// A file of the store, to be read and overwritten in place. Never a link.
pub(super) fn open_file(dir: &Dir, name: &str) -> io::Result<File> {
    open_as(dir, name, true)
}

/// The same, where nothing can or may be written.
pub(super) fn open_to_read(dir: &Dir, name: &str) -> io::Result<File> {
    open_as(dir, name, false)
}

fn open_as(dir: &Dir, name: &str, is_written: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(is_written)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    dir.open_with(name, &options).map(cap_std::fs::File::into_std)
}
