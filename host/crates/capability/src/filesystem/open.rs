//! Opening a file or folder below a handle. cap-std keeps the path inside; this module keeps everything out that is
//! neither a regular file nor a folder, and never waits for one: a FIFO opened the plain way would hold a thread of the
//! host for as long as nobody writes into it.

use std::fs::File;
use std::io;
use std::path::Path;

use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use super::quota::{Quota, QuotaExceeded};

/// What a guest wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    pub(super) folder: bool,
    pub(super) follow: bool,
}

impl Wish {
    /// From the three sets of flags, if they fit together.
    pub(super) fn of(path: PathFlags, open: OpenFlags, descriptor: DescriptorFlags) -> Result<Self, ErrorCode> {
        let synchronised = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if descriptor.intersects(synchronised) {
            return Err(ErrorCode::Unsupported);
        }
        let changes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if open.contains(OpenFlags::DIRECTORY) && open.intersects(changes) {
            return Err(ErrorCode::Invalid);
        }
        Ok(Self {
            read: descriptor.contains(DescriptorFlags::READ),
            write: descriptor.contains(DescriptorFlags::WRITE),
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            folder: open.contains(OpenFlags::DIRECTORY),
            follow: path.contains(PathFlags::SYMLINK_FOLLOW),
        })
    }

    /// Whether anything could change through it.
    pub(super) fn mutates(self) -> bool {
        self.write || self.create || self.truncate
    }
}

/// What was opened.
#[derive(Debug)]
pub(super) enum Opened {
    File(File),
    Folder(File),
}

/// Why not.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The system or the sandbox says no.
    Io(io::Error),
    /// A FIFO, a device or a socket.
    Special,
    /// A file was asked for as a folder.
    NotFolder,
    /// No file is left of the quota.
    Quota,
    /// As many are open as may be, in other calls too.
    Full,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<QuotaExceeded> for Refusal {
    fn from(_: QuotaExceeded) -> Self {
        Self::Quota
    }
}

impl From<Refusal> for FsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Io(error) if is_escape(&error) => ErrorCode::NotPermitted.into(),
            Refusal::Io(error) => error.into(),
            Refusal::Special => ErrorCode::NotPermitted.into(),
            Refusal::NotFolder => ErrorCode::NotDirectory.into(),
            Refusal::Quota => ErrorCode::Quota.into(),
            Refusal::Full => ErrorCode::InsufficientMemory.into(),
        }
    }
}

/// Whether the sandbox stopped a path that led out of its folder.
pub(super) fn is_escape(error: &io::Error) -> bool {
    let outside = error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none();
    outside || error.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error())
}

fn is_plain(metadata: &Metadata) -> bool {
    metadata.is_file() || metadata.is_dir() || metadata.is_symlink()
}

/// Opens `path` below `folder`. May block for as long as the file system does: call it where that is allowed.
pub(super) fn open(folder: &File, path: &Path, wish: Wish, quota: Option<&Quota>) -> Result<Opened, Refusal> {
    let folder = Dir::from_std_file(folder.try_clone()?);
    let found = if wish.follow {
        folder.metadata(path)
    } else {
        folder.symlink_metadata(path)
    };
    match found {
        Ok(metadata) if !is_plain(&metadata) => return Err(Refusal::Special),
        Ok(_) if wish.exclusive && wish.create => return Err(io::Error::from(rustix::io::Errno::EXIST).into()),
        Ok(_) => return existing(&folder, path, wish),
        Err(error) if error.kind() == io::ErrorKind::NotFound && wish.create => {}
        Err(error) => return Err(error.into()),
    }
    let quota = quota.ok_or(Refusal::Quota)?;
    quota.take_file()?;
    match folder.open_with(path, options(wish, true).create_new(true)) {
        Ok(file) => Ok(Opened::File(file.into_std())),
        Err(error) => {
            quota.return_file();
            // Somebody else made it in between, or it is a link that leads nowhere.
            if error.kind() == io::ErrorKind::AlreadyExists && !wish.exclusive {
                return existing(&folder, path, wish);
            }
            Err(error.into())
        }
    }
}

/// Opens what is there, and looks again at what it got: the entry may have been exchanged since it was looked at.
pub(super) fn existing(folder: &Dir, path: &Path, wish: Wish) -> Result<Opened, Refusal> {
    let file = folder.open_with(path, &options(wish, wish.write || wish.truncate))?;
    let metadata = file.metadata()?;
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => Ok(Opened::Folder(file.into_std())),
        (false, true) if wish.folder => Err(Refusal::NotFolder),
        (false, true) => {
            let file = file.into_std();
            // After the look, so that nothing but a regular file is ever cut.
            if wish.truncate {
                file.set_len(0)?;
            }
            Ok(Opened::File(file))
        }
        (false, false) => Err(Refusal::Special),
    }
}

/// How many entries a folder has, counted to `max` and one more.
pub(super) fn count_entries(folder: &File, max: usize) -> io::Result<usize> {
    let entries = Dir::from_std_file(folder.try_clone()?).entries()?;
    Ok(entries.take(max.saturating_add(1)).count())
}

fn options(wish: Wish, write: bool) -> OpenOptions {
    // Without `O_NONBLOCK` a FIFO would block here; without `O_NOFOLLOW` a link would be followed unasked.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if !wish.follow {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = OpenOptions::new();
    options
        .read(wish.read || !wish.write)
        .write(write)
        .custom_flags(flags.bits().cast_signed());
    options
}
