//! `wasi:filesystem` as a grant allows it. Folders are opened once, when the capability is bound; a guest gets handles of
//! those and never a path of the host. Read-only means no change of any kind; what may be changed has a quota; and what
//! is neither a file nor a folder is never opened.

mod access;
mod held;
mod open;
mod quota;
mod reading;
mod view;
mod work;
mod writing;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aral_contract::quote::quoted;
use aral_contract::scope::AbsolutePath;
use aral_contract::{Code, Failure, Grant, Permission, Permissions};
use aral_runtime::files;
use tokio::runtime::Handle;
use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::bound::{Roots, Ungranted};
use crate::call::CallRecord;
use crate::places;
use quota::Quota;
use work::Work;

pub(crate) use access::FilesView;
pub use work::{FileWork, FoldersMissing};

/// Files and folders that one call holds open. Stops a guest from using up the descriptors of the host.
const OPEN_FILES_MAX: usize = 256;
/// Entries of all folders that one call is listing, together. Stops folders from filling memory: the entries of each are
/// read at once, and kept for as long as the guest keeps the listing.
const FOLDER_ENTRIES_MAX: usize = 100_000;

/// wasmtime-wasi works in the thread that asks it, and it is asked in those that may block.
const IN_THIS_THREAD: bool = true;

/// A granted folder: open, with what may be done in it.
pub(crate) struct Mount {
    guest: String,
    folder: Dir,
    access: Access,
    /// Behind the folder: it is given back once that is closed.
    _room: places::Place,
}

/// What may be done in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Look and read.
    Read,
    /// Change, up to a quota for each call.
    Write { bytes_max: u64, files_max: u64 },
    /// Nothing: each attempt is denied and recorded. The folder `/` of `--observe`.
    Nothing,
}

/// The folders that a guest gets under a grant. They are opened in a turn of its persona's, as everything that guests ask of files:
/// a mount that hangs then holds up those who wait for it, for as long as they wait, and no thread of the executor.
pub(crate) async fn mounts(
    grant: &Arc<Grant>,
    roots: &Roots,
    all: &FileWork,
    ungranted: Ungranted,
) -> Result<Vec<Mount>, Failure> {
    let permissions = &grant.permissions;
    let mut mounts = if permissions.file_read.is_none() && permissions.file_write.is_none() {
        Vec::new()
    } else {
        let work = Work::new(all.clone(), grant.persona.clone());
        let (grant, roots, all) = (Arc::clone(grant), roots.clone(), all.clone());
        let open = move || mount(&grant.permissions, &roots, &|| all.room_for_folder(&grant.persona));
        work.run(open).await.map_err(Failure::internal)??
    };
    if ungranted == Ungranted::Observe {
        mounts.extend(mount_nothing(&mounts, &|| all.room_for_folder(&grant.persona))?);
    }
    Ok(mounts)
}

/// Gives room for one more folder, or says why there is none.
pub(crate) type Room<'a> = &'a dyn Fn() -> Result<places::Place, Failure>;

/// Opens the folders of a grant, each from the operator's root that it lies below, and each in the room that it is given. The room for
/// all of them is taken first: two grants of which each has half of its folders open would both be refused. May block for as long as
/// the file system does.
pub(crate) fn mount(permissions: &Permissions, roots: &Roots, room: Room<'_>) -> Result<Vec<Mount>, Failure> {
    let read = permissions.file_read.iter().flat_map(|scope| &scope.paths);
    let read = read.map(|path| room().map(|room| (path, room)));
    let read = read.collect::<Result<Vec<_>, Failure>>()?;
    let written = permissions.file_write.iter().flat_map(|scope| &scope.paths);
    let written = written.map(|path| room().map(|room| (path, room)));
    let written = written.collect::<Result<Vec<_>, Failure>>()?;
    let mut mounts = Vec::new();
    for (path, room) in read {
        let folder = open_below(&roots.read, &path.host, Permission::FileRead)?;
        mounts.push(Mount {
            guest: path.guest.to_string(),
            folder: Dir::new(folder, FsPerms::ReadOnly, OpenMode::READ, IN_THIS_THREAD),
            access: Access::Read,
            _room: room,
        });
    }
    for (path, room) in written {
        let folder = open_below(&roots.write, &path.host, Permission::FileWrite)?;
        mounts.push(Mount {
            guest: path.guest.to_string(),
            folder: Dir::new(
                folder,
                FsPerms::ReadWrite,
                OpenMode::READ | OpenMode::WRITE,
                IN_THIS_THREAD,
            ),
            access: Access::Write {
                bytes_max: path.bytes_max,
                files_max: path.files_max,
            },
            _room: room,
        });
    }
    Ok(mounts)
}

/// The folder `/` of `--observe`, unless `/` is granted: a handle of nothing. Behind it is an anonymous file, so that even
/// an operation that slipped past the view could reach no folder of the host.
pub(crate) fn mount_nothing(granted: &[Mount], room: Room<'_>) -> Result<Option<Mount>, Failure> {
    if granted.iter().any(|mount| mount.guest == "/") {
        return Ok(None);
    }
    let room = room()?;
    let nothing =
        rustix::fs::memfd_create("aral-nothing", rustix::fs::MemfdFlags::CLOEXEC).map_err(Failure::internal)?;
    Ok(Some(Mount {
        guest: "/".to_owned(),
        folder: Dir::new(File::from(nothing), FsPerms::ReadOnly, OpenMode::READ, IN_THIS_THREAD),
        access: Access::Nothing,
        _room: room,
    }))
}

/// Opens `host` from the nearest of `roots` above it. Symbolic links on the way are followed only inside that root.
fn open_below(roots: &[AbsolutePath], host: &AbsolutePath, permission: Permission) -> Result<File, Failure> {
    let key = match permission {
        Permission::FileWrite => "write_roots",
        _ => "read_roots",
    };
    let Some(root) = host.nearest_of(roots) else {
        return Err(Failure::new(
            Code::PermissionDenied,
            format!("folder `{host}` of {permission} lies below none of the operator's roots"),
        )
        .with_hint(format!("aral.toml, [policy.file]: {key} = [{}]", quoted(host.as_str()))));
    };
    // The caller is not to blame, and the operator has the step that helps.
    let denied = |what: &str| {
        Failure::new(
            Code::PermissionDenied,
            format!("folder `{host}` of {permission} {what}"),
        )
    };
    let failed = |error: &dyn std::fmt::Display, missing: bool, escaped: bool| match (missing, escaped) {
        (true, _) => denied("does not exist").with_hint(format!("create `{host}`, or change `paths` of {permission}")),
        (false, true) => denied(&format!("leads out of the root `{root}` by a symbolic link")).with_hint(format!(
            "name the folder that the link leads to in [policy.file] {key} and in `paths`"
        )),
        (false, false) => denied("cannot be opened").with_internal(error),
    };
    let opened =
        files::open_root(Path::new(root.as_str())).map_err(|error| failed(&error, error.is_not_found(), false))?;
    let below = Path::new(host.as_str())
        .strip_prefix(root.as_str())
        .unwrap_or(Path::new(""));
    let folder = if below.as_os_str().is_empty() {
        opened
    } else {
        opened.open_dir(below).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            failed(&error, missing, open::is_escape(&error))
        })?
    };
    // A handle that cannot be read as a folder would fail later, in the guest's face.
    let is_folder = folder
        .dir_metadata()
        .map_err(|error| failed(&error, false, false))?
        .is_dir();
    if !is_folder {
        return Err(failed(&"not a folder", false, false));
    }
    Ok(folder.into_std_file())
}

/// Where a handle of the guest points: a mount, and the path in it as the guest wrote it, for events.
#[derive(Debug, Clone)]
struct Place {
    mount: usize,
    path: String,
}

/// The files of one call.
pub(crate) struct Files {
    call: Arc<CallRecord>,
    /// By the number of the guest's handle. A handle that is not here is not used.
    places: HashMap<u32, Place>,
    /// One for each mount; made when the guest first asks for its folders.
    quotas: Vec<Arc<Quota>>,
    /// Mounts whose use was recorded: once for each call.
    recorded: Vec<bool>,
    /// Entries of each listing that the guest holds, by the number of its handle.
    listed: HashMap<u32, usize>,
    work: Arc<Work>,
}

impl Files {
    pub(crate) fn new(call: Arc<CallRecord>) -> Self {
        let work = Work::new(call.frame.services.file_work.clone(), call.frame.grant.persona.clone());
        Self {
            call,
            places: HashMap::new(),
            quotas: Vec::new(),
            recorded: Vec::new(),
            listed: HashMap::new(),
            work: Arc::new(work),
        }
    }

    /// Whether the call may hold one more file open. A stream may keep one open after its handle is gone.
    fn has_room(&self) -> bool {
        self.work.held().used() < OPEN_FILES_MAX
    }

    /// Writes what streams that are gone have left, and closes what nobody has any more, in turns like everything else. If nobody waits
    /// for that any longer, it is written no more, and closed when this is dropped.
    pub(crate) async fn close(&self) {
        let unfinished = self.work.take_unfinished().into_iter();
        // All at once, as far as there are turns: a write that hangs holds up none behind it.
        futures::future::join_all(unfinished.map(|one| one.write(&self.work))).await;
        if !self.work.held().is_empty() {
            // Each turn begins with that.
            let _closed = self.work.run(|| ()).await;
        }
    }

    /// How many more entries of folders the call may hold.
    fn entries_left(&self) -> usize {
        FOLDER_ENTRIES_MAX.saturating_sub(self.listed.values().sum())
    }

    fn mount(&self, place: &Place) -> Option<&Mount> {
        self.call.frame.mounts.get(place.mount)
    }

    fn guest_path(&self, place: &Place) -> String {
        let base = self.mount(place).map_or("", |mount| mount.guest.trim_end_matches('/'));
        format!("{base}/{}", place.path)
    }

    /// Records the first use of a mount in this call.
    fn record_use(&mut self, place: &Place, permission: Permission) {
        if self.recorded.len() <= place.mount {
            self.recorded.resize(place.mount.saturating_add(1), false);
        }
        if let Some(recorded) = self.recorded.get_mut(place.mount)
            && !std::mem::replace(recorded, true)
            && let Some(mount) = self.call.frame.mounts.get(place.mount)
        {
            self.call.allowed(permission, &mount.guest);
        }
    }

    /// Records a refusal, with the line that would allow it.
    fn record_denial(&self, place: &Place, permission: Permission, why: &str) {
        let target = self.guest_path(place);
        let observed = self.call.frame.ungranted == Ungranted::Observe;
        let guest = match self.mount(place) {
            Some(mount) if mount.access != Access::Nothing => mount.guest.as_str(),
            _ if observed => Path::new(&target).parent().and_then(Path::to_str).unwrap_or("/"),
            _ => "/",
        };
        let quota = match permission {
            Permission::FileWrite => ", bytes_max = 1048576, files_max = 10",
            _ => "",
        };
        let guest = quoted(&crate::call::sanitised(guest, 256));
        let line = format!("[permissions.\"{permission}\"]: paths = [{{ guest = {guest}, host = \"…\"{quota} }}]");
        let reason = format!("{why}: add to capability.toml, {line}, and to the policy");
        self.call.denied(permission, &target, &reason);
    }
}

impl Drop for Files {
    /// Closes what is still open, in a turn like everything else and without anybody who waits for it: the call was cut off. Handles
    /// and streams have gone before, and a thread that is still at a file closes it itself.
    fn drop(&mut self) {
        // While the files are held: to let go of what is not written any more closes none of them here.
        drop(self.work.take_unfinished());
        let held = self.work.held().end();
        if held.is_empty() {
            return;
        }
        // Without an executor there is none that this could hold up.
        if let Ok(executor) = Handle::try_current() {
            let work = Arc::clone(&self.work);
            executor.spawn(async move {
                let _closed = work.run(move || drop(held)).await;
            });
        }
    }
}
