//! The view through which a guest uses `wasi:filesystem`. Each operation is asked of the grant first; reading is then left
//! to wasmtime-wasi, whose sandbox keeps paths inside, in a thread that may block. Links are never made nor moved by
//! themselves, and nothing moves between two folders.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, Host, HostDescriptor,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{FsPerms, OpenMode};

use super::access::{FilesView, Handle};
use super::open::{self, Opened, Wish};
use super::quota::{Quota, QuotaExceeded};
use super::reading::ReadStream;
use super::{Access, IN_THIS_THREAD, Place};

type Entries = Resource<ReaddirIterator>;

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
        let held = Arc::clone(self.files.work.held());
        let hold = move |opened, room| {
            // Here: if nobody waits any more, it is closed by whoever comes next, and not by whoever lets go of it.
            Ok(match opened {
                Opened::File(file) => {
                    let file = File::new(file, perms, mode, IN_THIS_THREAD);
                    held.hold(&file.file, room);
                    Descriptor::File(file)
                }
                Opened::Folder(folder) => {
                    let folder = Dir::new(folder, perms, mode, IN_THIS_THREAD);
                    held.hold(&folder.dir, room);
                    Descriptor::Dir(folder)
                }
            })
        };
        let descriptor = self.open(&handle, &place, path, wish, quota, hold).await?;
        self.register(descriptor, place)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.files.places.remove(&handle.rep());
        HostDescriptor::drop(&mut self.wasi, handle)
    }

    async fn read(&mut self, handle: Handle, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.may_read(&handle, "")?;
        self.ask(&handle, move |wasi, handle| in_tokio(wasi.read(handle, length, offset)))
            .await
    }

    fn read_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.may_read(&handle, "")?;
        let file = match self.wasi.table.get(&handle)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let stream = ReadStream::one_more(&self.files.work, file, offset);
        let stream: DynInputStream = Box::new(stream.ok_or(ErrorCode::InsufficientMemory)?);
        Ok(self.wasi.table.push(stream)?)
    }

    async fn write(&mut self, handle: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let target = self.target(&handle)?;
        Ok(self.files.work.run(move || target.write(&bytes, offset)).await??)
    }

    fn write_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.write_stream(&handle, Some(offset))
    }

    fn append_via_stream(&mut self, handle: Handle) -> FsResult<Resource<DynOutputStream>> {
        self.write_stream(&handle, None)
    }

    async fn set_size(&mut self, handle: Handle, size: Filesize) -> FsResult<()> {
        let target = self.target(&handle)?;
        Ok(self.files.work.run(move || target.set_size(size)).await??)
    }

    async fn create_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let (place, quota) = self.may_write(&handle, &path)?;
        if quota.take_file().is_err() {
            // What is there needs no file: programs make a folder to be sure of it, and that is no attempt on the quota.
            let looked = self.ask_at(&handle, &place, move |wasi, handle| {
                in_tokio(wasi.stat_at(handle, PathFlags::empty(), path))
            });
            return Err(match looked.await {
                Ok(_) => ErrorCode::Exist.into(),
                Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::NoEntry)) => {
                    self.over_quota(&place, "files_max")
                }
                Err(error) => error,
            });
        }
        let created = self
            .ask_at(&handle, &place, move |wasi, handle| {
                in_tokio(wasi.create_directory_at(handle, path))
            })
            .await;
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
        // Looked at by itself first, so that it is on record which of the two paths leads out.
        let path = old_path.clone();
        let looked = self.ask_at(&handle, &from, move |wasi, handle| {
            in_tokio(wasi.stat_at(handle, PathFlags::empty(), path))
        });
        if matches!(looked.await?.type_, DescriptorType::SymbolicLink) {
            // A relative link leads elsewhere from another place: a moved one is like a new one. One that lies in a folder that is
            // moved goes with it.
            return self.never(&handle, &old_path, "symbolic links are never moved");
        }
        let new_folder = self.wasi.table.get(&new_handle)?.clone();
        self.ask_at(&handle, &to, move |wasi, handle| {
            let new_handle = wasi.table.push(new_folder)?;
            in_tokio(wasi.rename_at(handle, old_path, new_handle, new_path))
        })
        .await
    }

    async fn remove_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let (place, _) = self.may_write(&handle, &path)?;
        self.ask_at(&handle, &place, move |wasi, handle| {
            in_tokio(wasi.remove_directory_at(handle, path))
        })
        .await
    }

    async fn unlink_file_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let (place, _) = self.may_write(&handle, &path)?;
        self.ask_at(&handle, &place, move |wasi, handle| {
            in_tokio(wasi.unlink_file_at(handle, path))
        })
        .await
    }

    async fn set_times(&mut self, handle: Handle, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        self.may_write(&handle, "")?;
        self.ask(&handle, move |wasi, handle| {
            in_tokio(wasi.set_times(handle, accessed, modified))
        })
        .await
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
        // Locals go before what is given: the file is closed when its room is given back.
        let set = move |opened, _room| {
            let (Opened::File(file) | Opened::Folder(file)) = opened;
            file.set_times(times)
        };
        self.open(&handle, &place, path, wish, None, set).await
    }

    async fn read_directory(&mut self, handle: Handle) -> FsResult<Entries> {
        self.may_read(&handle, "")?;
        let folder = self.folder(&handle)?;
        let left = self.files.entries_left();
        let listed = self.ask(&handle, move |wasi, handle| {
            let count = open::count_entries(&folder, left)?;
            if count > left {
                return Err(ErrorCode::InsufficientMemory.into());
            }
            let entries = in_tokio(wasi.read_directory(handle))?;
            Ok((count, wasi.table.delete(entries)?))
        });
        let (count, entries) = listed.await?;
        let entries = self.wasi.table.push(entries)?;
        // An empty one counts too: it takes room all the same.
        self.files.listed.insert(entries.rep(), count.saturating_add(1));
        Ok(entries)
    }

    async fn stat_at(&mut self, handle: Handle, path_flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let place = self.may_read(&handle, &path)?;
        self.ask_at(&handle, &place, move |wasi, handle| {
            in_tokio(wasi.stat_at(handle, path_flags, path))
        })
        .await
    }

    async fn readlink_at(&mut self, handle: Handle, path: String) -> FsResult<String> {
        let place = self.may_read(&handle, &path)?;
        self.ask_at(&handle, &place, move |wasi, handle| {
            in_tokio(wasi.readlink_at(handle, path))
        })
        .await
    }

    async fn metadata_hash_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let place = self.may_read(&handle, &path)?;
        self.ask_at(&handle, &place, move |wasi, handle| {
            in_tokio(wasi.metadata_hash_at(handle, path_flags, path))
        })
        .await
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<DescriptorType> {
        // A program asks this of every folder before it uses any: no attempt on anything yet.
        self.place(&handle, "")?;
        if matches!(self.wasi.table.get(&handle)?, Descriptor::Dir(_)) {
            return Ok(DescriptorType::Directory);
        }
        self.ask(&handle, |wasi, handle| in_tokio(wasi.get_type(handle))).await
    }

    async fn get_flags(&mut self, handle: Handle) -> FsResult<DescriptorFlags> {
        match self.access(&self.place(&handle, "")?) {
            Access::Nothing => Ok(DescriptorFlags::READ),
            Access::Read | Access::Write { .. } => {
                self.ask(&handle, |wasi, handle| in_tokio(wasi.get_flags(handle))).await
            }
        }
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<DescriptorStat> {
        self.may_read(&handle, "")?;
        self.ask(&handle, |wasi, handle| in_tokio(wasi.stat(handle))).await
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<MetadataHashValue> {
        self.may_read(&handle, "")?;
        self.ask(&handle, |wasi, handle| in_tokio(wasi.metadata_hash(handle)))
            .await
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let other = self.wasi.table.get(&other)?.clone();
        let same = self.ask(&one, move |wasi, one| {
            let other = wasi.table.push(other)?;
            in_tokio(wasi.is_same_object(one, other)).map_err(FsError::trap)
        });
        Ok(same.await?)
    }

    async fn advise(&mut self, handle: Handle, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.ask(&handle, move |wasi, handle| {
            in_tokio(wasi.advise(handle, offset, length, advice))
        })
        .await
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.ask(&handle, |wasi, handle| in_tokio(wasi.sync(handle))).await
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        self.may_read(&handle, "")?;
        self.ask(&handle, |wasi, handle| in_tokio(wasi.sync_data(handle))).await
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(&mut self, entries: Entries) -> FsResult<Option<DirectoryEntry>> {
        self.wasi.read_directory_entry(entries).await
    }

    fn drop(&mut self, entries: Entries) -> wasmtime::Result<()> {
        self.files.listed.remove(&entries.rep());
        HostDirectoryEntryStream::drop(&mut self.wasi, entries)
    }
}
