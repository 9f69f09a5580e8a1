//! Unix sockets for this user alone. One appears under its name with mode 0600 or not at all, replaces one that a process
//! left behind, and goes when its owner does. Folders are handles: no path is looked up twice, and none is too long.

use std::fs::TryLockError;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use rustix::fs::{AtFlags, Mode};

use super::{FilesError, check_owner, create_private_parent, during, open_lock, open_parent};

/// What the socket is called before it has its name.
const UNNAMED: &str = "s";

/// Device and inode.
type Identity = (u64, u64);

/// The name of a socket. It is removed with this, unless somebody has put another in its place.
#[derive(Debug)]
pub struct SocketName {
    dir: Dir,
    name: PathBuf,
    identity: Identity,
    /// Released last, and when the process ends in whatever way.
    _lock: std::fs::File,
}

/// Listens on a socket that only this user and root can reach. The folder is made for this user alone if it is not there;
/// one that is there must be writable by its owner alone. A socket that a process left behind is replaced.
///
/// # Errors
/// [`FilesError::Io`] with `AddrInUse` if somebody listens there; [`FilesError::Exists`] if something else is there, a link
/// above all; [`FilesError::Mode`] or [`FilesError::Owner`] for the folder.
pub fn bind_private(path: &Path) -> Result<(UnixListener, SocketName), FilesError> {
    create_private_parent(path)?;
    let (dir, name) = open_parent(path)?;
    let folder = dir.dir_metadata().map_err(during("look at", path))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    check_owner(parent, &folder)?;
    let mode = folder.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(FilesError::Mode {
            path: parent.to_owned(),
            mode,
            wanted: "go-w",
        });
    }
    let lock = open_lock(&dir, beside(&name, "lock")).map_err(|error| error.below(parent))?;
    let is_held = match lock.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(during("lock the file beside", path)(error)),
    };
    if is_held || open(&dir, &name).is_ok() {
        return Err(FilesError::Io {
            action: "listen on",
            path: path.to_owned(),
            source: io::Error::from(io::ErrorKind::AddrInUse),
        });
    }
    match dir.symlink_metadata(&name) {
        Ok(there) if !there.file_type().is_socket() => return Err(FilesError::Exists { path: path.to_owned() }),
        Ok(_) | Err(_) => {}
    }
    let (listener, identity) = bind(&dir, &name).map_err(during("listen on", path))?;
    let name = SocketName {
        dir,
        name,
        identity,
        _lock: lock,
    };
    Ok((listener, name))
}

/// Connects to a socket, and says whose folder it lies in; none: nobody listens there.
///
/// # Errors
/// It is not known whether anybody does: this user may not go there, above all ([`FilesError::is_denied`]).
pub fn connect(path: &Path) -> Result<Option<(UnixStream, u32)>, FilesError> {
    let connected = open_parent(path).and_then(|(dir, name)| {
        let folder = dir.dir_metadata().map_err(during("look at", path))?;
        let stream = open(&dir, &name).map_err(during("connect to", path))?;
        Ok((stream, folder.uid()))
    });
    match connected {
        Ok(connected) => Ok(Some(connected)),
        Err(error) if error.is_absent() || error.said() == Some(io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Through the handle of the folder: the address of a socket has room for a hundred bytes, and paths may be longer.
fn through(dir: &Dir, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

fn open(dir: &Dir, name: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(through(dir, name))
}

/// Made in a folder that nobody else can enter, so that it has its mode before it has its name.
fn bind(dir: &Dir, name: &Path) -> io::Result<(UnixListener, Identity)> {
    let making = beside(name, "new");
    match dir.remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    dir.create_dir_with(&making, &builder)?;
    let made = || -> io::Result<(UnixListener, Identity)> {
        let inner = dir.open_dir(&making)?;
        let listener = UnixListener::bind(through(&inner, Path::new(UNNAMED)))?;
        rustix::fs::chmodat(&inner, UNNAMED, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        let metadata = inner.symlink_metadata(UNNAMED)?;
        inner.rename(UNNAMED, dir, name)?;
        Ok((listener, (metadata.dev(), metadata.ino())))
    };
    let made = made();
    dir.remove_dir_all(&making)?;
    made
}

fn beside(name: &Path, suffix: &str) -> PathBuf {
    let mut text = name.as_os_str().to_owned();
    text.push(".");
    text.push(suffix);
    PathBuf::from(text)
}

impl Drop for SocketName {
    fn drop(&mut self) {
        let there = self.dir.symlink_metadata(&self.name);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == self.identity) {
            let _gone_already = self.dir.remove_file(&self.name);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make what is in the way of a socket")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn in_use(error: &FilesError) -> bool {
        matches!(error, FilesError::Io { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    #[test]
    fn a_socket_is_private_one_at_a_time_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than the address of a socket may be.
        let path = folder.path().join("d".repeat(120)).join("admin.sock");
        let (listener, name) = bind_private(&path).unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(in_use(&bind_private(&path).unwrap_err()));
        let (_stream, uid) = connect(&path).unwrap().unwrap();
        assert_eq!(uid, rustix::process::geteuid().as_raw());
        listener.accept().unwrap();
        drop((listener, name));
        assert!(std::fs::symlink_metadata(&path).is_err());
        assert!(connect(&path).unwrap().is_none());
    }

    #[test]
    fn that_nobody_listens_is_said_only_where_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        drop(UnixListener::bind(at("left behind")).unwrap());
        std::fs::write(at("a file"), b"").unwrap();
        for nobody in ["left behind", "a file", "a file/s", "nothing", "nothing/s"] {
            assert!(connect(&at(nobody)).unwrap().is_none(), "{nobody}");
        }
        // Root may go everywhere, so that a folder without rights shows nothing.
        symlink(at("loop"), at("loop")).unwrap();
        assert!(connect(&at("loop/s")).is_err());
        let denied = during("open", folder.path())(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(denied.is_denied() && !denied.is_absent(), "{denied}");
    }

    #[test]
    fn what_a_process_left_behind_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (listener, name) = bind_private(&path).unwrap();
        // Somebody else's, by now.
        std::fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop((listener, name));
        assert!(std::fs::symlink_metadata(&path).is_ok());
        assert!(in_use(&bind_private(&path).unwrap_err()), "it is listened on");
        drop(theirs);
        for there in ["a file", "a link", "a folder"] {
            let path = folder.path().join(there);
            match there {
                "a file" => std::fs::write(&path, b"").unwrap(),
                "a link" => symlink(folder.path().join("elsewhere"), &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            assert!(
                matches!(bind_private(&path).unwrap_err(), FilesError::Exists { .. }),
                "{there}"
            );
        }
        assert!(std::fs::symlink_metadata(folder.path().join("elsewhere")).is_err());
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = bind_private(&folder.path().join("admin.sock")).unwrap_err();
        assert!(matches!(refused, FilesError::Mode { wanted: "go-w", .. }), "{refused}");
    }
}
