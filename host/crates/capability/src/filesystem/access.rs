//! What each operation asks before it does anything: whose folder a handle belongs to, what the grant lets the guest do
//! there, and what is left of the quota. Refusals are recorded here, with the line that would allow them.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::SystemTime;

use aral_contract::Permission;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, File, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, NewTimestamp};
use wasmtime_wasi::p2::{DynOutputStream, FsError, FsResult};

use super::open::{self, Opened, Refusal, Wish};
use super::quota::{self, Quota};
use super::writing::{Target, WriteStream};
use super::{Access, Files, Place};
use crate::places;

pub(super) type Handle = Resource<Descriptor>;

const READ_ONLY: &str = "the folder is granted for reading only";
const NOT_GRANTED: &str = "the path is not granted";
const LEADS_OUT: &str = "the path leads out of the granted folder";
const LEADS_OUT_OR_FORBIDDEN: &str = "the path leads out of the granted folder, or the system forbids this";

/// Longest path that is kept of a place, in bytes: what events show of it is shorter. A guest makes it longer with each folder that
/// it opens below another, which may be the same one again.
const SHOWN_BYTES_MAX: usize = 4096;

/// Parts of one path that a guest names; `.` and empty ones are none. Stops deep paths from using up the descriptors of the host: where
/// the kernel does not follow a path (`openat2` is forbidden, or things are renamed all the time), each part of it is opened, and stays
/// open until the last one is found.
pub(super) const PATH_PARTS_MAX: usize = 64;
/// The same in bytes. Stops long paths from filling memory: a path that the kernel does not follow is taken apart as a whole first.
pub(super) const PATH_BYTES_MAX: usize = 4096;

/// Why a path is refused, wherever it leads.
fn too_long(path: &str) -> Option<String> {
    let step = "open a folder on the way first, and go on from there";
    let bytes = path.len();
    if bytes > PATH_BYTES_MAX {
        return Some(format!(
            "the path has {bytes} bytes, and may have at most {PATH_BYTES_MAX}: {step}"
        ));
    }
    let parts = Path::new(path)
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .count();
    (parts > PATH_PARTS_MAX)
        .then(|| format!("the path has {parts} parts, and may have at most {PATH_PARTS_MAX}: {step}"))
}

/// What is shown of a path below another.
fn shown(base: &str, path: &str) -> String {
    let whole = match (base, path) {
        (base, "") => return base.to_owned(),
        ("", path) => path.len(),
        (base, path) => base.len().saturating_add(1).saturating_add(path.len()),
    };
    let over = whole.saturating_sub(SHOWN_BYTES_MAX);
    let end = path.floor_char_boundary(path.len().saturating_sub(over));
    let path = path.get(..end).unwrap_or_default();
    match (base, path) {
        ("", path) => path.to_owned(),
        (base, "") => base.to_owned(),
        (base, path) => format!("{base}/{path}"),
    }
}

/// The files of a call, borrowed for one host function.
pub(crate) struct FilesView<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) files: &'a mut Files,
}

impl<'a> FilesView<'a> {
    pub(crate) fn new(ctx: &'a mut WasiFilesystemCtx, table: &'a mut ResourceTable, files: &'a mut Files) -> Self {
        Self {
            wasi: WasiFilesystemCtxView { ctx, table },
            files,
        }
    }

    /// Where a handle points, with `path` below it. A handle that nobody registered ends the guest.
    pub(super) fn place(&self, handle: &Handle, path: &str) -> FsResult<Place> {
        let base = self.files.places.get(&handle.rep());
        let base = base.ok_or_else(|| FsError::trap(wasmtime::format_err!("a file handle without a place")))?;
        Ok(Place {
            mount: base.mount,
            path: shown(&base.path, path),
        })
    }

    pub(super) fn access(&self, place: &Place) -> Access {
        self.files.mount(place).map_or(Access::Nothing, |mount| mount.access)
    }

    /// The permission by which the guest has the folder of this place: what may be written may be looked at, too. Where it has none,
    /// it is the one by which it could look.
    fn permission(&self, place: &Place) -> Permission {
        match self.access(place) {
            Access::Write { .. } => Permission::FileWrite,
            Access::Read | Access::Nothing => Permission::FileRead,
        }
    }

    /// Whether the grant lets the guest look at this place.
    pub(super) fn may_read(&mut self, handle: &Handle, path: &str) -> FsResult<Place> {
        let place = self.place(handle, path)?;
        let permission = self.permission(&place);
        if self.access(&place) == Access::Nothing {
            self.files.record_denial(&place, permission, NOT_GRANTED);
            return Err(ErrorCode::NotPermitted.into());
        }
        self.bounded(&place, path)?;
        self.files.record_use(&place, permission);
        Ok(place)
    }

    /// Whether the grant lets the guest change this place, and what it may still write there.
    pub(super) fn may_write(&mut self, handle: &Handle, path: &str) -> FsResult<(Place, Arc<Quota>)> {
        let place = self.place(handle, path)?;
        let why = match self.access(&place) {
            Access::Write { .. } => {
                self.bounded(&place, path)?;
                self.files.record_use(&place, Permission::FileWrite);
                let quota = self.files.quotas.get(place.mount).map(Arc::clone);
                let quota = quota.ok_or_else(|| FsError::trap(wasmtime::format_err!("a folder without a quota")))?;
                return Ok((place, quota));
            }
            Access::Read => READ_ONLY,
            Access::Nothing => NOT_GRANTED,
        };
        self.files.record_denial(&place, Permission::FileWrite, why);
        Err(ErrorCode::NotPermitted.into())
    }

    /// Refuses a path that would take too much of the host, before anything is asked about it. The refusal is on record.
    fn bounded(&self, place: &Place, path: &str) -> FsResult<()> {
        too_long(path).map_or(Ok(()), |why| {
            self.deny(place, &why);
            Err(ErrorCode::NameTooLong.into())
        })
    }

    /// Refuses what no grant opens.
    pub(super) fn never<T>(&mut self, handle: &Handle, path: &str, why: &str) -> FsResult<T> {
        let (place, _) = self.may_write(handle, path)?;
        let target = self.files.guest_path(&place);
        self.files.call.denied(Permission::FileWrite, &target, why);
        Err(ErrorCode::NotPermitted.into())
    }

    pub(super) fn over_quota(&self, place: &Place, key: &str) -> FsError {
        quota::record(&self.files.call, &self.files.guest_path(place), key);
        ErrorCode::Quota.into()
    }

    pub(super) fn file(&self, handle: &Handle) -> FsResult<&File> {
        match self.wasi.table.get(handle)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    pub(super) fn folder(&self, handle: &Handle) -> FsResult<Arc<std::fs::File>> {
        match self.wasi.table.get(handle)? {
            Descriptor::Dir(folder) => Ok(Arc::clone(&folder.dir)),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    pub(super) fn register(&mut self, descriptor: Descriptor, place: Place) -> FsResult<Handle> {
        let handle = self.wasi.table.push(descriptor)?;
        self.files.places.insert(handle.rep(), place);
        Ok(handle)
    }

    /// Asks wasmtime-wasi of what is behind a handle, off the executor's threads. A thread may outlive the call, so it has nothing of
    /// that but this, in a table of its own.
    pub(super) async fn ask<T: Send + 'static>(
        &mut self,
        handle: &Handle,
        act: impl FnOnce(&mut WasiFilesystemCtxView<'_>, Handle) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let descriptor = self.wasi.table.get(handle)?.clone();
        let alone = move || -> FsResult<T> {
            let (mut ctx, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
            let handle = table.push(descriptor)?;
            let mut wasi = WasiFilesystemCtxView {
                ctx: &mut ctx,
                table: &mut table,
            };
            act(&mut wasi, handle)
        };
        self.files.work.run(alone).await?
    }

    /// The same of a path below it, which is `place`. A refusal is put on record here: only wasmtime-wasi knows where a path leads. It
    /// gives the same error for a path that leads out and for what the system forbids.
    pub(super) async fn ask_at<T: Send + 'static>(
        &mut self,
        handle: &Handle,
        place: &Place,
        act: impl FnOnce(&mut WasiFilesystemCtxView<'_>, Handle) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let answer = self.ask(handle, act).await;
        if let Err(error) = &answer
            && matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted))
        {
            self.deny(place, LEADS_OUT_OR_FORBIDDEN);
        }
        answer
    }

    /// Opens below a handle, and does `act` with what it got and the room for that, off the executor's threads.
    pub(super) async fn open<T: Send + 'static>(
        &mut self,
        handle: &Handle,
        place: &Place,
        path: String,
        wish: Wish,
        quota: Option<Arc<Quota>>,
        act: impl FnOnce(Opened, places::Place) -> io::Result<T> + Send + 'static,
    ) -> FsResult<T> {
        let folder = self.folder(handle)?;
        if !self.files.has_room() {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let work = Arc::clone(&self.files.work);
        let open = move || -> Result<T, Refusal> {
            let room = work.room().ok_or(Refusal::Full)?;
            let opened = open::open(&folder, Path::new(&path), wish, quota.as_deref())?;
            Ok(act(opened, room)?)
        };
        let done = self.files.work.run(open).await?;
        done.map_err(|refusal| {
            match &refusal {
                Refusal::Quota => return self.over_quota(place, "files_max"),
                Refusal::Special => self.deny(
                    place,
                    "it is neither a file nor a folder: such entries are never opened",
                ),
                Refusal::Io(error) if open::is_escape(error) => self.deny(place, LEADS_OUT),
                Refusal::Io(_) | Refusal::NotFolder | Refusal::Full => {}
            }
            refusal.into()
        })
    }

    /// Records that a granted folder has something that the guest may not reach all the same. No grant would open it, so that the
    /// permission is the one that the guest has.
    fn deny(&self, place: &Place, why: &str) {
        let permission = self.permission(place);
        self.files.call.denied(permission, &self.files.guest_path(place), why);
    }

    pub(super) fn system_time(&self, time: NewTimestamp) -> FsResult<Option<SystemTime>> {
        match time {
            NewTimestamp::NoChange => Ok(None),
            NewTimestamp::Now => Ok(Some(self.files.call.frame.services.clock.now().into())),
            NewTimestamp::Timestamp(time) => {
                let since_epoch = std::time::Duration::from_secs(time.seconds)
                    .checked_add(std::time::Duration::from_nanos(time.nanoseconds.into()));
                let time = since_epoch.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                time.map(Some).ok_or_else(|| ErrorCode::Overflow.into())
            }
        }
    }

    /// What a file may be written through, if it may be.
    pub(super) fn target(&mut self, handle: &Handle) -> FsResult<Target> {
        let (place, quota) = self.may_write(handle, "")?;
        Ok(Target {
            file: Arc::clone(&self.file(handle)?.file),
            quota,
            call: Arc::clone(&self.files.call),
            shown: self.files.guest_path(&place),
        })
    }

    /// A stream into a file from `offset` on, or at its end.
    pub(super) fn write_stream(&mut self, handle: &Handle, offset: Option<u64>) -> FsResult<Resource<DynOutputStream>> {
        let target = self.target(handle)?;
        let stream = WriteStream::one_more(&self.files.work, target, offset);
        let stream: DynOutputStream = Box::new(stream.ok_or(ErrorCode::InsufficientMemory)?);
        Ok(self.wasi.table.push(stream)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_path_does_not_grow_with_each_folder_that_is_opened() {
        assert_eq!(shown("", "a/b"), "a/b");
        assert_eq!(shown("a", ""), "a");
        assert_eq!(shown("a", "b"), "a/b");
        let long = "é./".repeat(1000);
        let mut base = String::new();
        for _ in 0..100 {
            base = shown(&base, &long);
            assert!(base.len() <= SHOWN_BYTES_MAX, "{}", base.len());
        }
        assert!(base.len() > SHOWN_BYTES_MAX - 4, "as much as there is room for");
    }
}
