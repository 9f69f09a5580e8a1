//! The view through which a guest uses `wasi:filesystem`. Each operation is asked of the grant first; reading is then left
//! to wasmtime-wasi, whose sandbox keeps paths inside. Links are never made, and nothing moves between two folders.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aral_contract::Permission;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, File, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, Host, HostDescriptor,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::open::{self, Opened, Refusal, Wish};
use super::quota::{self, Quota, QuotaExceeded, QuotaStream};
use super::{Access, Files, Place};

type Handle = Resource<Descriptor>;
type Entries = Resource<ReaddirIterator>;

const READ_ONLY: &str = "the folder is granted for reading only";
const NOT_GRANTED: &str = "the path is not granted";

/// The files of a call, borrowed for one host function.
pub(crate) struct FilesView<'a> {
    wasi: WasiFilesystemCtxView<'a>,
    files: &'a mut Files,
}

impl<'a> FilesView<'a> {
    pub(crate) fn new(ctx: &'a mut WasiFilesystemCtx, table: &'a mut ResourceTable, files: &'a mut Files) -> Self {
        Self {
            wasi: WasiFilesystemCtxView { ctx, table },
            files,
        }
    }

    /// Where a handle points, with `path` below it. A handle that nobody registered ends the guest.
    fn place(&self, handle: &Handle, path: &str) -> FsResult<Place> {
        let base = self.files.places.get(&handle.rep());
        let base = base.ok_or_else(|| FsError::trap(wasmtime::format_err!("a file handle without a place")))?;
        let path = match (base.path.as_str(), path) {
            (base, "") => base.to_owned(),
            ("", path) => path.to_owned(),
            (base, path) => format!("{base}/{path}"),
        };
        Ok(Place {
            mount: base.mount,
            path,
        })
    }

    fn access(&self, place: &Place) -> Access {
        self.files.mount(place).map_or(Access::Nothing, |mount| mount.access)
    }

    /// Whether the grant lets the guest look at this place.
    fn may_read(&mut self, handle: &Handle, path: &str) -> FsResult<Place> {
        let place = self.place(handle, path)?;
        let permission = match self.access(&place) {
            Access::Read => Permission::FileRead,
            Access::Write { .. } => Permission::FileWrite,
            Access::Nothing => {
                self.files.record_denial(&place, Permission::FileRead, NOT_GRANTED);
                return Err(ErrorCode::NotPermitted.into());
            }
        };
        self.files.record_use(&place, permission);
        Ok(place)
    }

    /// Whether the grant lets the guest change this place, and what it may still write there.
    fn may_write(&mut self, handle: &Handle, path: &str) -> FsResult<(Place, Arc<Quota>)> {
        let place = self.place(handle, path)?;
        let why = match self.access(&place) {
            Access::Write { .. } => {
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

    /// Refuses what no grant opens.
    fn never<T>(&mut self, handle: &Handle, path: &str, why: &str) -> FsResult<T> {
        let (place, _) = self.may_write(handle, path)?;
        let target = self.files.guest_path(&place);
        self.files.call.denied(Permission::FileWrite, &target, why);
        Err(ErrorCode::NotPermitted.into())
    }

    fn over_quota(&self, place: &Place, key: &str) -> FsError {
        quota::record(&self.files.call, &self.files.guest_path(place), key);
        ErrorCode::Quota.into()
    }

    fn pay(&self, place: &Place, quota: &Quota, bytes: u64) -> FsResult<()> {
        quota.take_bytes(bytes).map_err(|_| self.over_quota(place, "bytes_max"))
    }

    fn file(&self, handle: &Handle) -> FsResult<&File> {
        match self.wasi.table.get(handle)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn register(&mut self, descriptor: Descriptor, place: Place) -> FsResult<Handle> {
        let handle = self.wasi.table.push(descriptor)?;
        self.files.places.insert(handle.rep(), place);
        Ok(handle)
    }

    /// Opens below a handle, off the executor's threads.
    async fn open(
        &mut self,
        handle: &Handle,
        place: &Place,
        path: String,
        wish: Wish,
        quota: Option<Arc<Quota>>,
    ) -> FsResult<Opened> {
        let folder = match self.wasi.table.get(handle)? {
            Descriptor::Dir(folder) => Arc::clone(&folder.dir),
            Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
        };
        let open = move || open::open(&folder, Path::new(&path), wish, quota.as_deref());
        let opened = tokio::task::spawn_blocking(open).await.map_err(FsError::trap)?;
        opened.map_err(|refusal| {
            let permission = if wish.mutates() {
                Permission::FileWrite
            } else {
                Permission::FileRead
            };
            match &refusal {
                Refusal::Quota => return self.over_quota(place, "files_max"),
                Refusal::Special => self.deny(
                    permission,
                    place,
                    "it is neither a file nor a folder: such entries are never opened",
                ),
                Refusal::Io(error) if open::is_escape(error) => {
                    self.deny(permission, place, "the path leads out of the granted folder");
                }
                Refusal::Io(_) | Refusal::NotFolder => {}
            }
            refusal.into()
        })
    }

    fn deny(&self, permission: Permission, place: &Place, why: &str) {
        self.files.call.denied(permission, &self.files.guest_path(place), why);
    }

    fn system_time(&self, time: NewTimestamp) -> FsResult<Option<SystemTime>> {
        match time {
            NewTimestamp::NoChange => Ok(None),
            NewTimestamp::Now => Ok(Some(self.files.call.frame.clock.now().into())),
            NewTimestamp::Timestamp(time) => {
                let since_epoch = std::time::Duration::from_secs(time.seconds)
                    .checked_add(std::time::Duration::from_nanos(time.nanoseconds.into()));
                let time = since_epoch.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                time.map(Some).ok_or_else(|| ErrorCode::Overflow.into())
            }
        }
    }
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let frame = Arc::clone(&self.files.call.frame);
        if self.files.quotas.is_empty() {
            self.files
                .quotas
                .extend(frame.mounts.iter().map(|mount| match mount.access {
                    Access::Write { bytes_max, files_max } => Arc::new(Quota::new(bytes_max, files_max)),
                    Access::Read | Access::Nothing => Arc::new(Quota::new(0, 0)),
                }));
        }
        let mut folders = Vec::with_capacity(frame.mounts.len());
        for (mount, one) in frame.mounts.iter().enumerate() {
            let handle = self.wasi.table.push(Descriptor::Dir(one.folder.clone()))?;
            let path = String::new();
            self.files.places.insert(handle.rep(), Place { mount, path });
            folders.push((handle, one.guest.clone()));
        }
        Ok(folders)
    }
}

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        if self.wasi.table.get(&error)?.downcast_ref::<QuotaExceeded>().is_some() {
            return Ok(Some(ErrorCode::Quota));
        }
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDescriptor for FilesView<'_> {
    async fn open_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let wish = Wish::of(path_flags, open_flags, flags)?;
        let (place, quota) = if wish.mutates() {
            let (place, quota) = self.may_write(&handle, &path)?;
            (place, Some(quota))
        } else {
            (self.may_read(&handle, &path)?, None)
        };
        let writable = matches!(self.access(&place), Access::Write { .. });
        let perms = if writable {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, wish.read || !wish.write);
        mode.set(OpenMode::WRITE, wish.mutates());
        let descriptor = match self.open(&handle, &place, path, wish, quota).await? {
            Opened::File(file) => Descriptor::File(File::new(file, perms, mode, false)),
            Opened::Folder(folder) => Descriptor::Dir(wasmtime_wasi::filesystem::Dir::new(folder, perms, mode, false)),
        };
        self.register(descriptor, place)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.files.places.remove(&handle.rep());
        HostDescriptor::drop(&mut self.wasi, handle)
    }

    async fn read(&mut self, handle: Handle, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.may_read(&handle, "")?;
        self.wasi.read(handle, length, offset).await
    }

    fn read_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.may_read(&handle, "")?;
        self.wasi.read_via_stream(handle, offset)
    }

    async fn write(&mut self, handle: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let (place, quota) = self.may_write(&handle, "")?;
        let hole = self.hole(&handle, offset)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.pay(&place, &quota, length.saturating_add(hole))?;
        self.wasi.write(handle, bytes, offset).await
    }

    fn write_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let (place, quota) = self.may_write(&handle, "")?;
        let hole = self.hole(&handle, offset)?;
        self.pay(&place, &quota, hole)?;
        let stream = self.wasi.write_via_stream(handle, offset)?;
        self.with_quota(stream, &place, quota)
    }

    fn append_via_stream(&mut self, handle: Handle) -> FsResult<Resource<DynOutputStream>> {
        let (place, quota) = self.may_write(&handle, "")?;
        let stream = self.wasi.append_via_stream(handle)?;
        self.with_quota(stream, &place, quota)
    }

    async fn set_size(&mut self, handle: Handle, size: Filesize) -> FsResult<()> {
        let (place, quota) = self.may_write(&handle, "")?;
        let hole = self.hole(&handle, size)?;
        self.pay(&place, &quota, hole)?;
        self.wasi.set_size(handle, size).await
    }

    async fn create_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let (place, quota) = self.may_write(&handle, &path)?;
        quota.take_file().map_err(|_| self.over_quota(&place, "files_max"))?;
        let created = self.wasi.create_directory_at(handle, path).await;
        if created.is_err() {
            quota.return_file();
        }
        created
    }

    async fn link_at(
        &mut self,
        handle: Handle,
        _flags: PathFlags,
        old_path: String,
        _new_handle: Handle,
        _new_path: String,
    ) -> FsResult<()> {
        // A second name for a file would outlive every check that is made by name.
        self.never(&handle, &old_path, "hard links are never made")
    }

    async fn symlink_at(&mut self, handle: Handle, _old_path: String, new_path: String) -> FsResult<()> {
        // The next reader of the folder may follow a link that this guest could not.
        self.never(&handle, &new_path, "symbolic links are never made")
    }

    async fn rename_at(
        &mut self,
        handle: Handle,
        old_path: String,
        new_handle: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let (from, _) = self.may_write(&handle, &old_path)?;
        let (to, _) = self.may_write(&new_handle, &new_path)?;
        if from.mount != to.mount {
            // It would carry files past the quota, and past the scope, of the other folder.
            return self.never(&new_handle, &new_path, "nothing is moved between two granted folders");
        }
        self.wasi.rename_at(handle, old_path, new_handle, new_path).await
    }

    async fn remove_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        self.may_write(&handle, &path)?;
        self.wasi.remove_directory_at(handle, path).await
    }

    async fn unlink_file_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        self.may_write(&handle, &path)?;
        self.wasi.unlink_file_at(handle, path).await
    }

    async fn set_times(&mut self, handle: Handle, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        self.may_write(&handle, "")?;
        self.wasi.set_times(handle, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (place, _) = self.may_write(&handle, &path)?;
        let mut times = std::fs::FileTimes::new();
        if let Some(time) = self.system_time(accessed)? {
            times = times.set_accessed(time);
        }
        if let Some(time) = self.system_time(modified)? {
            times = times.set_modified(time);
        }
        // Not left to wasmtime-wasi, which opens the path for writing and would wait for the other end of a FIFO.
        let wish = Wish::of(path_flags, OpenFlags::empty(), DescriptorFlags::READ)?;
        let (Opened::File(file) | Opened::Folder(file)) = self.open(&handle, &place, path, wish, None).await?;
        Ok(file.set_times(times)?)
    }

    async fn read_directory(&mut self, handle: Handle) -> FsResult<Entries> {
        self.may_read(&handle, "")?;
        self.wasi.read_directory(handle).await
    }

    async fn stat_at(&mut self, handle: Handle, path_flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.may_read(&handle, &path)?;
        self.wasi.stat_at(handle, path_flags, path).await
    }

    async fn readlink_at(&mut self, handle: Handle, path: String) -> FsResult<String> {
        self.may_read(&handle, &path)?;
        self.wasi.readlink_at(handle, path).await
    }

    async fn metadata_hash_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.may_read(&handle, &path)?;
        self.wasi.metadata_hash_at(handle, path_flags, path).await
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<DescriptorType> {
        // A program asks this of every folder before it uses any: no attempt on anything yet.
        match self.access(&self.place(&handle, "")?) {
            Access::Nothing => Ok(DescriptorType::Directory),
            Access::Read | Access::Write { .. } => self.wasi.get_type(handle).await,
        }
    }

    async fn get_flags(&mut self, handle: Handle) -> FsResult<DescriptorFlags> {
        match self.access(&self.place(&handle, "")?) {
            Access::Nothing => Ok(DescriptorFlags::READ),
            Access::Read | Access::Write { .. } => self.wasi.get_flags(handle).await,
        }
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<DescriptorStat> {
        self.may_read(&handle, "")?;
        self.wasi.stat(handle).await
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<MetadataHashValue> {
        self.may_read(&handle, "")?;
        self.wasi.metadata_hash(handle).await
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(one, other).await
    }

    async fn advise(&mut self, handle: Handle, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.wasi.advise(handle, offset, length, advice).await
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.wasi.sync(handle).await
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.wasi.sync_data(handle).await
    }
}

impl FilesView<'_> {
    /// Bytes that a file would grow by before the first byte at `offset`: they are paid for like those written.
    fn hole(&self, handle: &Handle, offset: u64) -> FsResult<u64> {
        Ok(offset.saturating_sub(self.file(handle)?.file.metadata()?.len()))
    }

    fn with_quota(
        &mut self,
        stream: Resource<DynOutputStream>,
        place: &Place,
        quota: Arc<Quota>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(QuotaStream {
            inner: self.wasi.table.delete(stream)?,
            quota,
            call: Arc::clone(&self.files.call),
            target: self.files.guest_path(place),
        });
        Ok(self.wasi.table.push(stream)?)
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(&mut self, entries: Entries) -> FsResult<Option<DirectoryEntry>> {
        self.wasi.read_directory_entry(entries).await
    }

    fn drop(&mut self, entries: Entries) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, entries)
    }
}
