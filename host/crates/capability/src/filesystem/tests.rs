//! The view, driven the way a guest drives it, against real folders.
#![expect(
    clippy::disallowed_methods,
    reason = "lays out folders and looks at what became of them"
)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::sync::Weak;

use aral_contract::{Code, GrantParts, Limits, PersonaId};
use bytes::Bytes;
use futures::FutureExt as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, ErrorCode, HostDescriptor, HostDirectoryEntryStream, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::io::streams::{HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::{FsError, StreamError};

use super::access::{PATH_BYTES_MAX, PATH_PARTS_MAX};
use super::writing::Unfinished;
use super::*;
use crate::bound::Services;
use crate::testing::{self, Kept, Trial, one_thread, with_a_slow_disk};

const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;
fn none() -> OpenFlags {
    OpenFlags::empty()
}
const CREATE: OpenFlags = OpenFlags::CREATE;
const TRUNCATE: OpenFlags = OpenFlags::TRUNCATE;

fn tester() -> PersonaId {
    "tester".parse().unwrap()
}

/// `in/` to read, `out/` to change, `secret/` for nobody, all below one root.
struct World {
    folder: TempDir,
    table: ResourceTable,
    ctx: WasiFilesystemCtx,
    files: Files,
    kept: std::sync::Arc<Kept>,
}

fn lay_out() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["in/sub", "out", "secret"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("in/a.txt"), "hello").unwrap();
    fs::write(folder.path().join("in/sub/b.txt"), "below").unwrap();
    fs::write(folder.path().join("out/old.txt"), "0123456789").unwrap();
    fs::write(folder.path().join("secret/key"), "hidden").unwrap();
    symlink("../secret/key", folder.path().join("in/leak")).unwrap();
    symlink("/etc/passwd", folder.path().join("in/absolute")).unwrap();
    symlink("sub/b.txt", folder.path().join("in/inside")).unwrap();
    symlink("../secret", folder.path().join("out/leak")).unwrap();
    mknodat(CWD, folder.path().join("in/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    mknodat(CWD, folder.path().join("out/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    folder
}

fn roots(folder: &Path) -> Roots {
    let root: AbsolutePath = folder.to_str().unwrap().parse().unwrap();
    Roots {
        read: vec![root.clone()],
        write: vec![root],
    }
}

fn scopes(folder: &Path, bytes_max: u64, files_max: u64) -> Value {
    let host = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    json!({
        "file:read": { "paths": [{ "guest": "/data", "host": host("in") }] },
        "file:write": { "paths": [{ "guest": "/out", "host": host("out"), "bytes_max": bytes_max, "files_max": files_max }] },
    })
}

impl World {
    fn new(bytes_max: u64, files_max: u64) -> Self {
        let folder = lay_out();
        let scopes = scopes(folder.path(), bytes_max, files_max);
        Self::with(folder, scopes, Ungranted::Refuse)
    }

    fn with(folder: TempDir, scopes: Value, ungranted: Ungranted) -> Self {
        let grant = testing::grant(scopes, Limits::default(), &[]);
        Self::sharing(folder, grant, ungranted, FileWork::default())
    }

    /// A call of a persona, on a host that does so much with files.
    fn of(persona: &str, all: &FileWork) -> Self {
        let folder = lay_out();
        let parts = testing::grant_parts(scopes(folder.path(), 0, 0), Limits::default(), &[]);
        let grant = Grant::new(GrantParts {
            persona: persona.parse().unwrap(),
            ..parts
        });
        Self::sharing(folder, Arc::new(grant), Ungranted::Refuse, all.clone())
    }

    fn sharing(folder: TempDir, grant: Arc<Grant>, ungranted: Ungranted, file_work: FileWork) -> Self {
        let roots = roots(folder.path());
        let Trial { call, kept } = Trial::lending(grant, ungranted, |least| Services {
            roots,
            file_work,
            ..least
        });
        Self {
            folder,
            table: ResourceTable::new(),
            ctx: WasiFilesystemCtx::default(),
            files: Files::new(call),
            kept,
        }
    }

    fn view(&mut self) -> FilesView<'_> {
        FilesView::new(&mut self.ctx, &mut self.table, &mut self.files)
    }

    fn preopen(&mut self, guest: &str) -> Resource<Descriptor> {
        let folders = self.view().get_directories().unwrap();
        folders.into_iter().find(|(_, name)| name == guest).unwrap().0
    }

    async fn open(
        &mut self,
        guest: &str,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Descriptor>, ErrorCode> {
        let folder = self.preopen(guest);
        let opened = self
            .view()
            .open_at(folder, PathFlags::SYMLINK_FOLLOW, path.to_owned(), open, flags)
            .await;
        opened.map_err(code)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn code(error: FsError) -> ErrorCode {
    error.downcast().expect("a code and no trap")
}

fn again(handle: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(handle.rep())
}

#[tokio::test]
async fn what_is_granted_for_reading_is_read_and_recorded_once() {
    let mut world = World::new(100, 1);
    let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
    assert_eq!(world.view().read(file, 100, 0).await.unwrap().0, b"hello");
    let file = world.open("/data", "inside", none(), READ).await.unwrap();
    assert_eq!(world.view().read(file, 100, 0).await.unwrap().0, b"below");
    let folder = world.preopen("/data");
    let entries = world.view().read_directory(folder).await.unwrap();
    let mut names = Vec::new();
    while let Some(entry) = world
        .view()
        .read_directory_entry(Resource::new_borrow(entries.rep()))
        .await
        .unwrap()
    {
        names.push(entry.name);
    }
    names.sort();
    assert_eq!(names, ["a.txt", "absolute", "fifo", "inside", "leak", "sub"]);
    assert_eq!(
        world.kept.host_calls(),
        [(Permission::FileRead, "/data".to_owned(), None)]
    );
}

#[tokio::test]
async fn nothing_changes_below_a_folder_that_is_granted_for_reading() {
    let mut world = World::new(100, 1);
    for (open, flags) in [
        (none(), WRITE),
        (none(), READ | WRITE),
        (TRUNCATE, READ),
        (CREATE, READ),
        (CREATE | TRUNCATE, WRITE),
    ] {
        assert_eq!(
            world.open("/data", "a.txt", open, flags).await.unwrap_err(),
            ErrorCode::NotPermitted,
            "{open:?} {flags:?}"
        );
    }
    let (target, reason) = world.kept.denial();
    assert_eq!(target, "/data/a.txt");
    assert!(
        reason.contains("reading only")
            && reason.contains("[permissions.\"file:write\"]: paths = [{ guest = \"/data\""),
        "{reason}"
    );
    let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
    let folder = world.preopen("/data");
    let refused = |result: Result<(), FsError>| assert_eq!(result.map_err(code), Err(ErrorCode::NotPermitted));
    let mut view = world.view();
    refused(view.set_size(again(&file), 0).await);
    refused(view.write(again(&file), b"x".to_vec(), 0).await.map(drop));
    refused(view.write_via_stream(again(&file), 0).map(drop));
    refused(view.append_via_stream(again(&file)).map(drop));
    refused(view.set_times(again(&file), NewTimestamp::Now, NewTimestamp::Now).await);
    refused(
        view.set_times_at(
            again(&folder),
            PathFlags::empty(),
            "a.txt".into(),
            NewTimestamp::Now,
            NewTimestamp::Now,
        )
        .await,
    );
    refused(view.unlink_file_at(again(&folder), "a.txt".into()).await);
    refused(view.remove_directory_at(again(&folder), "sub".into()).await);
    refused(view.create_directory_at(again(&folder), "new".into()).await);
    refused(
        view.rename_at(again(&folder), "a.txt".into(), again(&folder), "b.txt".into())
            .await,
    );
    refused(view.symlink_at(again(&folder), "a.txt".into(), "link".into()).await);
    refused(
        view.link_at(
            again(&folder),
            PathFlags::empty(),
            "a.txt".into(),
            again(&folder),
            "hard".into(),
        )
        .await,
    );
    assert_eq!(fs::read(world.path("in/a.txt")).unwrap(), b"hello");
    assert_eq!(fs::read_dir(world.path("in")).unwrap().count(), 6);
}

/// What leads out is refused, and is on record once, under the path that does and the permission that its folder was granted by.
async fn led_out<T>(kept: &Kept, path: &str, operation: impl Future<Output = Result<T, FsError>>) {
    let before = kept.host_calls().len();
    let refused = operation.await.map(drop).map_err(code);
    assert_eq!(refused, Err(ErrorCode::NotPermitted), "{path}");
    let recorded = kept.host_calls().split_off(before);
    let [(permission, target, Some(reason))] = recorded.as_slice() else {
        panic!("{path}: {recorded:?}");
    };
    assert!(target == path && reason.contains("leads out"), "{target}: {reason}");
    let granted = match path.starts_with("/out/") {
        true => Permission::FileWrite,
        false => Permission::FileRead,
    };
    assert_eq!(*permission, granted, "{path}");
}

#[tokio::test]
async fn no_path_and_no_link_leads_out() {
    let mut world = World::new(1000, 10);
    for path in [
        "../secret/key",
        "sub/../../secret/key",
        "/etc/passwd",
        "leak",
        "absolute",
        "sub/../../in/../secret/key",
        "..",
        "/",
    ] {
        let error = world.open("/data", path, none(), READ).await.unwrap_err();
        assert_eq!(error, ErrorCode::NotPermitted, "{path}");
        assert!(world.kept.denial().1.contains("leads out"), "{path}");
    }
    for path in ["leak/new", "leak/key", "../in/a.txt", "leak/", "leak/../../in/a.txt"] {
        assert!(world.open("/out", path, CREATE, WRITE).await.is_err(), "{path}");
    }
    let (data, out) = (world.preopen("/data"), world.preopen("/out"));
    let kept = Arc::clone(&world.kept);
    let follow = PathFlags::SYMLINK_FOLLOW;
    for path in ["leak/key", "../secret/key", "/etc/passwd"] {
        let shown = format!("/out/{path}");
        let path = || path.to_owned();
        let handle = || again(&out);
        led_out(&kept, &shown, world.view().unlink_file_at(handle(), path())).await;
        led_out(&kept, &shown, world.view().remove_directory_at(handle(), path())).await;
        led_out(&kept, &shown, world.view().create_directory_at(handle(), path())).await;
        led_out(&kept, &shown, world.view().stat_at(handle(), follow, path())).await;
        led_out(&kept, &shown, world.view().readlink_at(handle(), path())).await;
        led_out(&kept, &shown, world.view().metadata_hash_at(handle(), follow, path())).await;
        let mut view = world.view();
        let into = view.rename_at(handle(), "old.txt".into(), handle(), path());
        led_out(&kept, &shown, into).await;
        let mut view = world.view();
        let out_of = view.rename_at(handle(), path(), handle(), "new.txt".into());
        led_out(&kept, &shown, out_of).await;
        let (access, change) = (NewTimestamp::NoChange, NewTimestamp::Now);
        let mut view = world.view();
        let touched = view.set_times_at(handle(), follow, path(), access, change);
        led_out(&kept, &shown, touched).await;
    }
    // What is there to be read is a path of the host.
    led_out(
        &kept,
        "/data/absolute",
        world.view().readlink_at(data, "absolute".into()),
    )
    .await;
    assert_eq!(fs::read(world.path("secret/key")).unwrap(), b"hidden");
    assert_eq!(fs::read_dir(world.path("secret")).unwrap().count(), 1);
}

/// Whoever opens a FIFO waits for its other end, and here that never comes.
#[tokio::test]
async fn what_is_no_file_is_never_opened_and_never_waited_for() {
    let mut world = World::new(1000, 10);
    for (guest, flags) in [("/data", READ), ("/out", READ), ("/out", WRITE), ("/out", READ | WRITE)] {
        assert_eq!(
            world.open(guest, "fifo", none(), flags).await.unwrap_err(),
            ErrorCode::NotPermitted
        );
        assert!(world.kept.denial().1.contains("neither a file nor a folder"));
    }
    let folder = world.preopen("/out");
    let times = world
        .view()
        .set_times_at(
            folder,
            PathFlags::empty(),
            "fifo".into(),
            NewTimestamp::Now,
            NewTimestamp::Now,
        )
        .await;
    assert_eq!(code(times.unwrap_err()), ErrorCode::NotPermitted);
    assert!(
        fs::symlink_metadata(world.path("in/fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[tokio::test]
async fn an_entry_that_is_exchanged_after_the_look_is_not_waited_for_either() {
    let world = World::new(0, 0);
    let folder = cap_std::fs::Dir::from_std_file(File::open(world.path("out")).unwrap());
    let wish = open::Wish::of(PathFlags::empty(), none(), READ).unwrap();
    assert!(matches!(
        open::existing(&folder, Path::new("fifo"), wish),
        Err(open::Refusal::Special)
    ));
}

#[tokio::test]
async fn bytes_are_paid_for_however_they_are_written() {
    let mut world = World::new(20, 10);
    let file = world.open("/out", "old.txt", none(), READ | WRITE).await.unwrap();
    let mut view = world.view();
    assert_eq!(view.write(again(&file), vec![b'x'; 10], 0).await.unwrap(), 10);
    // Six bytes more, of which five are a hole.
    assert_eq!(view.write(again(&file), vec![b'x'; 1], 15).await.unwrap(), 1);
    assert_eq!(
        code(view.write(again(&file), vec![b'x'; 5], 0).await.unwrap_err()),
        ErrorCode::Quota
    );
    assert_eq!(
        code(view.set_size(again(&file), 21).await.unwrap_err()),
        ErrorCode::Quota
    );
    let far = view.write_via_stream(again(&file), 1 << 40).unwrap();
    let stream = view.append_via_stream(again(&file)).unwrap();
    let far = world.table.get_mut(&far).unwrap();
    let refused = far.blocking_write_and_flush(Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(StreamError::LastOperationFailed(error)) if error.is::<quota::QuotaExceeded>()));
    let stream = world.table.get_mut(&stream).unwrap();
    stream
        .blocking_write_and_flush(Bytes::from_static(b"1234"))
        .await
        .unwrap();
    let error = stream
        .blocking_write_and_flush(Bytes::from_static(b"5"))
        .await
        .unwrap_err();
    let StreamError::LastOperationFailed(error) = error else {
        panic!("{error}")
    };
    let error = world.table.push(error).unwrap();
    let code =
        wasmtime_wasi::p2::bindings::filesystem::types::Host::filesystem_error_code(&mut world.view(), error).unwrap();
    assert_eq!(code, Some(ErrorCode::Quota));
    assert_eq!(fs::metadata(world.path("out/old.txt")).unwrap().len(), 20);
    assert!(world.kept.denial().1.contains("bytes_max"));
}

#[test]
fn nothing_asks_how_long_a_file_is_but_a_thread_that_may_block() {
    let file = |world: &mut World| {
        let file = std::fs::OpenOptions::new().write(true).open(world.path("out/old.txt"));
        let file = wasmtime_wasi::filesystem::File::new(file.unwrap(), FsPerms::ReadWrite, OpenMode::WRITE, false);
        let folder = world.preopen("/out");
        let place = world.view().place(&folder, "old.txt").unwrap();
        world.view().register(Descriptor::File(file), place).unwrap()
    };
    with_a_slow_disk(|disk| async move {
        let mut world = World::new(0, 0);
        let file = file(&mut world);
        let mut view = world.view();
        let mut refused = std::pin::pin!(view.set_size(again(&file), 1 << 40));
        assert!(refused.as_mut().now_or_never().is_none());
        drop(disk);
        assert_eq!(refused.await.map_err(code), Err(ErrorCode::Quota));
    });
    with_a_slow_disk(|disk| async move {
        let mut world = World::new(0, 0);
        let file = file(&mut world);
        let mut view = world.view();
        let mut refused = std::pin::pin!(view.write(again(&file), Vec::new(), 1 << 40));
        assert!(refused.as_mut().now_or_never().is_none());
        drop(disk);
        assert_eq!(refused.await.map_err(code), Err(ErrorCode::Quota));
    });
    with_a_slow_disk(|disk| async move {
        // The byte is paid for at once, and the hole before it is not.
        let mut world = World::new(1, 0);
        let file = file(&mut world);
        // Nothing is asked before something is written.
        let stream = world.view().write_via_stream(file, 1 << 40).unwrap();
        let stream = world.table.get_mut(&stream).unwrap();
        let mut refused = stream.blocking_write_and_flush(Bytes::from_static(b"x"));
        assert!((&mut refused).now_or_never().is_none());
        drop(disk);
        assert!(matches!(refused.await, Err(StreamError::LastOperationFailed(_))));
    });
}

/// Whether an operation goes on waiting when all that was to be done in the thread that may block is done.
async fn waits<T>(operation: impl Future<Output = T>) -> bool {
    let mut operation = std::pin::pin!(operation);
    let begun = operation.as_mut().now_or_never().is_none();
    tokio::task::spawn_blocking(|| ()).await.unwrap();
    begun && operation.as_mut().now_or_never().is_none()
}

macro_rules! assert_waits {
    ($($operation:expr;)+) => { $(assert!(waits($operation).await, "{}", stringify!($operation));)+ };
}

#[test]
fn nothing_is_asked_of_a_disk_without_a_turn() {
    one_thread().block_on(async {
        let mut world = World::new(100, 10);
        let file = world.open("/out", "old.txt", none(), READ | WRITE).await.unwrap();
        let folder = world.preopen("/out");
        assert!(!waits(world.view().stat(again(&file))).await);
        let turns: Vec<_> = std::iter::from_fn(|| world.files.work.turn_now()).collect();
        assert_eq!(turns.len(), work::FILE_WORK_PER_CALL_MAX);
        let (old, new) = (|| "old.txt".to_owned(), || "new".to_owned());
        let (direct, now) = (PathFlags::empty(), || NewTimestamp::Now);
        assert_waits! {
            world.view().open_at(again(&folder), direct, old(), none(), READ);
            world.view().read(again(&file), 1, 0);
            world.view().write(again(&file), b"x".to_vec(), 0);
            world.view().set_size(again(&file), 1);
            world.view().create_directory_at(again(&folder), new());
            world.view().rename_at(again(&folder), old(), again(&folder), new());
            world.view().remove_directory_at(again(&folder), old());
            world.view().unlink_file_at(again(&folder), old());
            world.view().set_times(again(&file), now(), now());
            world.view().set_times_at(again(&folder), direct, old(), now(), now());
            world.view().read_directory(again(&folder));
            world.view().stat_at(again(&folder), direct, old());
            world.view().readlink_at(again(&folder), old());
            world.view().metadata_hash_at(again(&folder), direct, old());
            world.view().get_type(again(&file));
            world.view().get_flags(again(&file));
            world.view().stat(again(&file));
            world.view().metadata_hash(again(&file));
            world.view().is_same_object(again(&file), again(&folder));
            world.view().advise(again(&file), 0, 1, Advice::Normal);
            world.view().sync(again(&file));
            world.view().sync_data(again(&file));
        }
        assert_eq!(fs::read(world.path("out/old.txt")).unwrap(), b"0123456789");
        // What is waited for no more has no turn either.
        drop(turns);
        assert_eq!(world.files.work.left(), work::FILE_WORK_PER_CALL_MAX);
        assert_eq!(world.view().read(again(&file), 2, 8).await.unwrap().0, b"89");
        assert!(world.view().is_same_object(again(&file), again(&file)).await.unwrap());
        assert!(!world.view().is_same_object(again(&file), again(&folder)).await.unwrap());
    });
}

/// A path through so many folders, each in the one before.
fn deep(parts: usize) -> String {
    vec!["a"; parts].join("/")
}

/// Each of these is refused for its path, and waits for nothing.
macro_rules! assert_too_long {
    ($($operation:expr;)+) => { $(
        let answer = $operation.now_or_never().map(|answer| answer.map(drop).map_err(code));
        assert_eq!(answer, Some(Err(ErrorCode::NameTooLong)), "{}", stringify!($operation));
    )+ };
}

#[tokio::test]
async fn a_path_that_would_take_too_much_of_the_host_is_refused_before_anything_is_asked() {
    for (path, why) in [
        (deep(PATH_PARTS_MAX + 1), "65 parts"),
        (format!("{}/..", deep(PATH_PARTS_MAX)), "65 parts"),
        ("a".repeat(PATH_BYTES_MAX + 1), "4097 bytes"),
        ("../".repeat(1 << 20), "3145728 bytes"),
    ] {
        let mut world = World::new(0, 0);
        fs::create_dir_all(world.path("out").join(deep(PATH_PARTS_MAX + 1))).unwrap();
        let (data, out) = (world.preopen("/data"), world.preopen("/out"));
        // Whoever asks for a turn waits.
        let turns: Vec<_> = std::iter::from_fn(|| world.files.work.turn_now()).collect();
        let (handle, path) = (|| again(&out), || path.clone());
        let (direct, now) = (PathFlags::empty(), || NewTimestamp::Now);
        assert_too_long! {
            world.view().open_at(handle(), direct, path(), none(), READ);
            world.view().open_at(handle(), direct, path(), CREATE, WRITE);
            world.view().create_directory_at(handle(), path());
            world.view().rename_at(handle(), path(), handle(), "new".to_owned());
            world.view().remove_directory_at(handle(), path());
            world.view().unlink_file_at(handle(), path());
            world.view().set_times_at(handle(), direct, path(), now(), now());
            world.view().stat_at(handle(), direct, path());
            world.view().readlink_at(handle(), path());
            world.view().metadata_hash_at(handle(), direct, path());
        }
        // No use of the folder is on record, and each refusal is.
        let recorded = world.kept.host_calls();
        assert_eq!(recorded.len(), 10, "{recorded:?}");
        for (permission, _, reason) in &recorded {
            let is_told = reason.as_ref().is_some_and(|reason| reason.contains(why));
            assert!(*permission == Permission::FileWrite && is_told, "{why}: {recorded:?}");
        }
        // The other path of the two is well, and uses the folder.
        assert_too_long! {
            world.view().rename_at(handle(), "old.txt".to_owned(), handle(), path());
            world.view().stat_at(again(&data), direct, path());
        }
        let later = world.kept.host_calls().split_off(10);
        let later: Vec<_> = later.iter().map(|(by, _, reason)| (*by, reason.is_some())).collect();
        let (read, write) = (Permission::FileRead, Permission::FileWrite);
        assert_eq!(later, [(write, false), (write, true), (read, true)]);
        drop(turns);
    }
}

#[tokio::test]
async fn a_path_of_as_many_parts_and_bytes_as_it_may_have_is_followed() {
    let mut world = World::new(100, 10);
    let folder = deep(PATH_PARTS_MAX - 1);
    fs::create_dir_all(world.path("out").join(&folder)).unwrap();
    let (old, new) = (format!("{folder}/old"), format!("{folder}/new"));
    assert!(world.open("/out", &old, CREATE, WRITE).await.is_ok());
    let out = world.preopen("/out");
    let mut view = world.view();
    let moved = view.rename_at(again(&out), old, again(&out), new.clone()).await;
    moved.map_err(code).unwrap();
    fs::write(world.path("out/f"), "").unwrap();
    // One byte of the system's own stands behind the path.
    let dots = "./".repeat(PATH_BYTES_MAX / 2 - 1);
    for path in [
        format!("./{new}"),
        new,
        format!("{folder}//./new"),
        format!("{folder}/.."),
        format!("{dots}f"),
    ] {
        let mut view = world.view();
        let looked = view.stat_at(again(&out), PathFlags::empty(), path.clone()).await;
        assert!(looked.is_ok(), "{path}");
    }
}

#[test]
fn the_bounds_of_paths_stand_in_the_document() {
    let document = include_str!("../../../../../docs/defaults.md");
    let row = format!("| `PATH_PARTS_MAX`, `PATH_BYTES_MAX` of files | {PATH_PARTS_MAX}, {PATH_BYTES_MAX} |");
    let all = PATH_PARTS_MAX * work::FILE_WORK_MAX;
    let at_once = format!("{} for one persona, {all} for all", all / work::FILE_WORK_SHARE);
    for text in [row, at_once] {
        assert!(document.contains(&text), "docs/defaults.md does not say {text}");
    }
}

#[tokio::test]
async fn a_larger_quota_lets_the_same_write_through() {
    let mut world = World::new(1000, 10);
    let file = world.open("/out", "old.txt", TRUNCATE, WRITE).await.unwrap();
    assert_eq!(world.view().write(file, vec![b'x'; 900], 0).await.unwrap(), 900);
}

#[tokio::test]
async fn new_files_and_folders_are_paid_for() {
    let mut world = World::new(100, 2);
    assert!(world.open("/out", "one", CREATE, WRITE).await.is_ok());
    assert!(
        world.open("/out", "one", CREATE, WRITE).await.is_ok(),
        "opening it again costs nothing"
    );
    assert!(
        world
            .open("/out", "old.txt", CREATE | OpenFlags::EXCLUSIVE, WRITE)
            .await
            .is_err()
    );
    let folder = world.preopen("/out");
    world
        .view()
        .create_directory_at(again(&folder), "two".into())
        .await
        .unwrap();
    assert_eq!(
        world.open("/out", "three", CREATE, WRITE).await.unwrap_err(),
        ErrorCode::Quota
    );
    assert_eq!(
        code(
            world
                .view()
                .create_directory_at(folder, "three".into())
                .await
                .unwrap_err()
        ),
        ErrorCode::Quota
    );
    assert!(world.kept.denial().1.contains("files_max"));
    assert!(!world.path("out/three").exists());
}

#[tokio::test]
async fn a_folder_that_is_there_needs_no_file_of_the_quota() {
    let mut world = World::new(100, 0);
    fs::create_dir(world.path("out/sub")).unwrap();
    let folder = world.preopen("/out");
    for (path, expected, denials) in [
        ("sub", ErrorCode::Exist, 0),
        // What it leads to does not count.
        ("leak", ErrorCode::Exist, 0),
        ("old.txt/new", ErrorCode::NotDirectory, 0),
        ("leak/new", ErrorCode::NotPermitted, 1),
        ("new", ErrorCode::Quota, 1),
    ] {
        let denied = |kept: &Kept| {
            let calls = kept.host_calls().into_iter();
            calls.filter(|(_, _, reason)| reason.is_some()).count()
        };
        let before = denied(&world.kept);
        let made = world.view().create_directory_at(again(&folder), path.into()).await;
        assert_eq!(code(made.unwrap_err()), expected, "{path}");
        assert_eq!(denied(&world.kept) - before, denials, "{path}");
    }
}

#[tokio::test]
async fn links_are_never_made_and_nothing_moves_between_folders() {
    let folder = lay_out();
    let mut scopes = scopes(folder.path(), 1000, 10);
    let second = json!({ "guest": "/two", "host": folder.path().join("in/sub").to_str().unwrap(), "bytes_max": 10, "files_max": 1 });
    scopes["file:write"]["paths"].as_array_mut().unwrap().push(second);
    let mut world = World::with(folder, scopes, Ungranted::Refuse);
    let (data, out, two) = (world.preopen("/data"), world.preopen("/out"), world.preopen("/two"));
    let refused = |result: Result<(), FsError>| assert_eq!(result.map_err(code), Err(ErrorCode::NotPermitted));
    let mut view = world.view();
    refused(
        view.link_at(
            again(&out),
            PathFlags::empty(),
            "old.txt".into(),
            again(&out),
            "hard".into(),
        )
        .await,
    );
    refused(
        view.link_at(
            again(&data),
            PathFlags::empty(),
            "a.txt".into(),
            again(&out),
            "hard".into(),
        )
        .await,
    );
    refused(view.symlink_at(again(&out), "/etc/passwd".into(), "link".into()).await);
    refused(
        view.rename_at(again(&data), "a.txt".into(), again(&out), "a.txt".into())
            .await,
    );
    refused(
        view.rename_at(again(&out), "old.txt".into(), again(&data), "old.txt".into())
            .await,
    );
    refused(
        view.rename_at(again(&out), "old.txt".into(), again(&two), "old.txt".into())
            .await,
    );
    view.rename_at(again(&out), "old.txt".into(), again(&out), "new.txt".into())
        .await
        .unwrap();
    view.unlink_file_at(again(&out), "new.txt".into()).await.unwrap();
    assert_eq!(
        fs::read_dir(world.path("out")).unwrap().count(),
        2,
        "the fifo and the link"
    );
}

#[tokio::test]
async fn a_link_stays_where_it_is_and_leads_where_it_led() {
    let mut world = World::new(1000, 10);
    fs::create_dir(world.path("out/sub")).unwrap();
    symlink("../old.txt", world.path("out/sub/link")).unwrap();
    let out = world.preopen("/out");
    for (link, to) in [
        ("sub/link", "link"),
        ("sub/link", "old.txt"),
        ("leak", "sub/leak"),
        ("leak/", "moved"),
    ] {
        let mut view = world.view();
        let moved = view.rename_at(again(&out), link.into(), again(&out), to.into());
        assert_eq!(moved.await.map_err(code), Err(ErrorCode::NotPermitted), "{link}");
        let (target, reason) = world.kept.denial();
        assert_eq!(target, format!("/out/{link}"));
        assert!(reason.contains("links are never moved"), "{reason}");
    }
    assert_eq!(fs::read(world.path("out/sub/link")).unwrap(), b"0123456789");
    // What is no link may take the place of one.
    let mut view = world.view();
    let replaced = view.rename_at(again(&out), "old.txt".into(), again(&out), "sub/link".into());
    replaced.await.unwrap();
    assert!(fs::symlink_metadata(world.path("out/sub/link")).unwrap().is_file());
}

#[tokio::test]
async fn a_folder_opened_below_keeps_the_rights_of_its_mount() {
    let mut world = World::new(5, 1);
    let sub = world.open("/data", "sub", OpenFlags::DIRECTORY, READ).await.unwrap();
    let follow = PathFlags::SYMLINK_FOLLOW;
    let opened = world
        .view()
        .open_at(again(&sub), follow, "b.txt".into(), none(), WRITE)
        .await;
    assert_eq!(code(opened.unwrap_err()), ErrorCode::NotPermitted);
    assert_eq!(world.kept.denial().0, "/data/sub/b.txt");
    assert!(
        world
            .view()
            .open_at(again(&sub), follow, "b.txt".into(), none(), READ)
            .await
            .is_ok()
    );
    let up = world
        .view()
        .open_at(again(&sub), follow, "../a.txt".into(), none(), READ)
        .await;
    assert!(up.is_err(), "a handle of a folder reaches only what is below it");
}

#[tokio::test]
async fn observing_denies_and_records_every_path() {
    let folder = lay_out();
    let mut world = World::with(folder, json!({}), Ungranted::Observe);
    assert_eq!(
        world.open("/", "etc/passwd", none(), READ).await.unwrap_err(),
        ErrorCode::NotPermitted
    );
    assert_eq!(
        world.open("/", "tmp/x", CREATE, WRITE).await.unwrap_err(),
        ErrorCode::NotPermitted
    );
    let root = world.preopen("/");
    assert!(
        world
            .view()
            .stat_at(root, PathFlags::empty(), "home/me".into())
            .await
            .is_err()
    );
    let calls = world.kept.host_calls();
    let targets: Vec<_> = calls
        .iter()
        .map(|(permission, target, _)| (*permission, target.as_str()))
        .collect();
    assert_eq!(
        targets,
        [
            (Permission::FileRead, "/etc/passwd"),
            (Permission::FileWrite, "/tmp/x"),
            (Permission::FileRead, "/home/me"),
        ]
    );
    assert!(
        world.kept.denial().1.contains("guest = \"/home\""),
        "{:?}",
        world.kept.denial()
    );
}

#[test]
fn folders_are_opened_below_a_root_or_not_at_all() {
    let folder = lay_out();
    symlink("../secret", folder.path().join("in/way-out")).unwrap();
    symlink("sub", folder.path().join("in/way-in")).unwrap();
    let below = Roots {
        read: vec![folder.path().join("in").to_str().unwrap().parse().unwrap()],
        write: vec![],
    };
    let check = |name: &str, roots: &Roots| {
        let host = folder.path().join(name).to_str().unwrap().to_owned();
        let scope = json!({ "file:read": { "paths": [{ "guest": "/data", "host": host }] } });
        let permissions = serde_json::from_value(scope).unwrap();
        let all = FileWork::default();
        mount(&permissions, roots, &|| all.room_for_folder(&tester()))
            .map(|mounts| mounts.len())
            .map_err(|failure| (failure.code, failure.to_string()))
    };
    assert_eq!(check("in", &below), Ok(1));
    assert_eq!(check("in/sub", &below), Ok(1));
    assert_eq!(check("in/way-in", &below), Ok(1));
    for (name, code, text) in [
        ("secret", Code::PermissionDenied, "none of the operator's roots"),
        ("in/way-out", Code::PermissionDenied, "by a symbolic link"),
        ("in/missing", Code::PermissionDenied, "does not exist"),
        ("in/a.txt", Code::PermissionDenied, "cannot be opened"),
        ("in/fifo", Code::PermissionDenied, "cannot be opened"),
    ] {
        let (found, message) = check(name, &below).unwrap_err();
        assert_eq!(found, code, "{name}: {message}");
        assert!(message.contains(text), "{name}: {message}");
    }
    assert_eq!(check("in", &Roots::default()).unwrap_err().0, Code::PermissionDenied);
}

#[tokio::test]
async fn a_line_that_is_to_be_added_is_one_value_whatever_a_folder_is_called() {
    let folder = lay_out();
    let host = folder.path().join("in").to_str().unwrap().to_owned();
    let guest = "/a\\\", host = \"/etc";
    let scope = json!({ "file:read": { "paths": [{ "guest": guest, "host": host }] } });
    let mut world = World::with(folder, scope, Ungranted::Refuse);
    world.open(guest, "a.txt", none(), WRITE).await.unwrap_err();
    let (_, reason) = world.kept.denial();
    let line = reason.split_once("[permissions.\"file:write\"]: ").unwrap().1;
    let line = line.strip_suffix(", and to the policy").unwrap();
    let scope: toml::Table = toml::from_str(line).unwrap();
    assert_eq!(scope["paths"][0]["guest"].as_str(), Some(guest), "{line}");
    assert_eq!(scope["paths"][0]["host"].as_str(), Some("…"), "{line}");

    let host = "/srv\\\", \"/etc";
    let scope = json!({ "file:read": { "paths": [{ "guest": "/data", "host": host }] } });
    let all = FileWork::default();
    let room = || all.room_for_folder(&tester());
    let failure = mount(&serde_json::from_value(scope).unwrap(), &Roots::default(), &room).err();
    let hint = failure.unwrap().hint.unwrap();
    let line = hint.strip_prefix("aral.toml, [policy.file]: ").unwrap();
    let roots: toml::Table = toml::from_str(line).unwrap();
    assert_eq!(roots["read_roots"].as_array().unwrap().len(), 1, "{line}");
    assert_eq!(roots["read_roots"][0].as_str(), Some(host), "{line}");
}

#[tokio::test]
async fn a_call_holds_a_bounded_number_of_files_open() {
    let mut world = World::new(0, 0);
    let first = world.open("/data", "a.txt", none(), READ).await.unwrap();
    let stream = world.view().read_via_stream(again(&first), 0).unwrap();
    for _ in 1..OPEN_FILES_MAX {
        world.open("/data", "a.txt", none(), READ).await.unwrap();
    }
    assert_eq!(
        world.open("/data", "a.txt", none(), READ).await.unwrap_err(),
        ErrorCode::InsufficientMemory
    );
    HostDescriptor::drop(&mut world.view(), first).unwrap();
    assert!(
        world.open("/data", "a.txt", none(), READ).await.is_err(),
        "its stream still holds the file"
    );
    world.table.delete(stream).unwrap();
    assert!(world.open("/data", "a.txt", none(), READ).await.is_ok());
}

#[tokio::test]
async fn all_calls_of_a_persona_hold_a_bounded_number_of_files_open() {
    // Eight for a persona.
    let all = FileWork::within(Some(128));
    let (mut one, mut two) = (World::of("one", &all), World::of("one", &all));
    let first = one.open("/data", "a.txt", none(), READ).await.unwrap();
    let folder = one.open("/data", "sub", OpenFlags::DIRECTORY, READ).await.unwrap();
    let stream = one.view().read_via_stream(again(&first), 0).unwrap();
    two.open("/out", "old.txt", none(), WRITE).await.unwrap();
    for _ in 0..5 {
        two.open("/data", "a.txt", none(), READ).await.unwrap();
    }
    for world in [&mut one, &mut two] {
        let refused = world.open("/data", "a.txt", none(), READ).await;
        assert_eq!(refused.unwrap_err(), ErrorCode::InsufficientMemory);
        // What is open for a moment takes room as well.
        let out = world.preopen("/out");
        let now = || NewTimestamp::Now;
        let times = world
            .view()
            .set_times_at(out, PathFlags::empty(), "old.txt".into(), now(), now())
            .await;
        assert_eq!(code(times.unwrap_err()), ErrorCode::InsufficientMemory);
    }
    let mut other = World::of("another", &all);
    assert!(other.open("/data", "a.txt", none(), READ).await.is_ok());

    HostDescriptor::drop(&mut one.view(), first).unwrap();
    one.files.close().await;
    assert!(
        two.open("/data", "a.txt", none(), READ).await.is_err(),
        "its stream still holds the file"
    );
    HostInputStream::drop(&mut one.table, stream).await.unwrap();
    // What a call lets go of is closed before it gets more, and does not count any longer.
    one.open("/data", "a.txt", none(), READ).await.unwrap();
    HostDescriptor::drop(&mut one.view(), folder).unwrap();
    one.files.close().await;
    two.open("/data", "sub", OpenFlags::DIRECTORY, READ).await.unwrap();
    assert!(two.open("/data", "a.txt", none(), READ).await.is_err());

    // A call that ends gives back all that it had open.
    let World { table, files, .. } = two;
    drop(table);
    files.close().await;
    for _ in 0..7 {
        one.open("/data", "a.txt", none(), READ).await.unwrap();
    }
    assert!(one.open("/data", "a.txt", none(), READ).await.is_err());
}

#[tokio::test]
async fn what_could_not_be_opened_takes_no_room() {
    // Four for a persona.
    let mut world = World::of("one", &FileWork::within(Some(64)));
    for _ in 0..4 {
        let refused = world.open("/data", "missing", none(), READ).await;
        assert_eq!(refused.unwrap_err(), ErrorCode::NoEntry);
        let refused = world.open("/data", "fifo", none(), READ).await;
        assert_eq!(refused.unwrap_err(), ErrorCode::NotPermitted);
    }
    assert!(world.open("/data", "a.txt", none(), READ).await.is_ok());
}

#[test]
fn there_is_room_for_all_folders_of_a_grant_before_one_is_opened() {
    let folder = lay_out();
    let host = folder.path().join("in/missing").to_str().unwrap().to_owned();
    let paths = json!([{ "guest": "/a", "host": host }, { "guest": "/b", "host": host }]);
    let permissions = serde_json::from_value(json!({ "file:read": { "paths": paths } })).unwrap();
    for (descriptors, expected) in [(4, Code::Unavailable), (16, Code::PermissionDenied)] {
        let all = FileWork::within(Some(descriptors));
        let mounted = mount(&permissions, &roots(folder.path()), &|| all.room_for_folder(&tester()));
        assert_eq!(mounted.err().unwrap().code, expected, "{descriptors}");
        assert!(all.room_for_folder(&tester()).is_ok(), "it was given back");
    }
}

#[test]
fn granted_folders_are_bounded_apart_from_what_guests_open() {
    let folder = lay_out();
    let permissions = serde_json::from_value(scopes(folder.path(), 0, 0)).unwrap();
    let roots = roots(folder.path());
    // Four folders for all, two for a persona: those of one grant.
    let all = FileWork::within(Some(16));
    let mounted = |persona: &str| {
        let persona = persona.parse().unwrap();
        mount(&permissions, &roots, &|| all.room_for_folder(&persona))
    };
    let first = mounted("one").unwrap();
    let failure = mounted("one").err().unwrap();
    assert_eq!(failure.code, Code::Unavailable);
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("16 descriptors") && hint.contains("open_files_max"),
        "{hint}"
    );
    let second = mounted("two").unwrap();
    assert!(mounted("three").is_err(), "those of all are open");
    drop(second);
    assert!(mounted("three").is_ok());
    drop(first);
    assert!(mounted("one").is_ok());
}

/// What tells whether a file that a guest has open is closed.
fn watched(world: &mut World, file: &Resource<Descriptor>) -> Weak<File> {
    Arc::downgrade(&world.view().file(file).unwrap().file)
}

#[test]
fn files_are_closed_in_a_thread_that_may_block() {
    one_thread().block_on(async {
        let mut world = World::new(0, 0);
        let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
        let other = world.open("/data", "a.txt", none(), READ).await.unwrap();
        let open = [watched(&mut world, &file), watched(&mut world, &other)];
        let are_open = || open.each_ref().map(|file| file.strong_count() > 0);
        // The disk does not answer.
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
        HostDescriptor::drop(&mut world.view(), file).unwrap();
        assert_eq!(are_open(), [true; 2]);
        let World { table, files, .. } = world;
        drop(table);
        let mut closed = std::pin::pin!(files.close());
        assert!(closed.as_mut().now_or_never().is_none());
        assert_eq!(are_open(), [true; 2]);
        drop(disk);
        closed.await;
        assert_eq!(are_open(), [false; 2]);
        assert!(held.await.unwrap());
    });
}

#[test]
fn files_that_nobody_waits_for_any_more_are_closed_there_too() {
    one_thread().block_on(async {
        let mut world = World::new(0, 0);
        let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
        let open = watched(&mut world, &file);
        // The disk does not answer.
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
        let World { table, files, .. } = world;
        drop(table);
        assert!(files.close().now_or_never().is_none());
        drop(files);
        tokio::task::yield_now().await;
        assert_eq!(open.strong_count(), 1);
        drop(disk);
        assert!(held.await.unwrap());
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(open.strong_count(), 0);
    });
}

#[test]
fn what_a_guest_did_not_wait_for_is_written_before_its_files_are_closed_unless_the_call_was_cut_off() {
    for (has_turn, is_cut_off) in [(true, false), (false, false), (true, true), (false, true)] {
        one_thread().block_on(async {
            let mut world = World::new(100, 10);
            let path = world.path("out/new");
            let file = world.open("/out", "new", CREATE, WRITE).await.unwrap();
            let open = watched(&mut world, &file);
            let stream = world.view().write_via_stream(file, 0).unwrap();
            // The disk does not answer.
            let (disk, slow) = std::sync::mpsc::channel::<()>();
            let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
            let turns = std::iter::from_fn(|| world.files.work.turn_now());
            let turns: Vec<_> = turns.take(if has_turn { 0 } else { 100 }).collect();
            let stream = world.table.get_mut(&stream).unwrap();
            stream.write(Bytes::from_static(b"hello")).unwrap();
            // The guest ends.
            let World { table, files, .. } = world;
            drop(table);
            if is_cut_off {
                drop(files);
                assert!(open.strong_count() > 0, "not closed here");
                assert!(has_turn || open.strong_count() == 1, "nor anywhere but with the rest");
                drop(turns);
                tokio::task::yield_now().await;
                drop(disk);
                assert!(held.await.unwrap());
                tokio::task::spawn_blocking(|| ()).await.unwrap();
            } else {
                let mut closed = std::pin::pin!(files.close());
                assert!(closed.as_mut().now_or_never().is_none());
                drop((turns, disk));
                closed.await;
                assert!(held.await.unwrap());
            }
            assert_eq!(open.strong_count(), 0);
            let expected = if is_cut_off { "" } else { "hello" };
            assert_eq!(fs::read_to_string(path).unwrap(), expected, "{has_turn}");
        });
    }
}

#[test]
fn a_write_that_hangs_holds_back_nothing_that_was_given_to_other_files() {
    one_thread().block_on(async {
        let mut world = World::new(100, 10);
        let path = world.path("out/new");
        let file = world.open("/out", "new", CREATE, WRITE).await.unwrap();
        let stream = world.view().write_via_stream(file, 0).unwrap();
        // This one comes first, and never ends.
        let hanging = wasmtime_wasi::runtime::spawn(std::future::pending());
        world.files.work.leave(Unfinished::Writing(hanging));
        let turns: Vec<_> = std::iter::from_fn(|| world.files.work.turn_now()).collect();
        let stream = world.table.get_mut(&stream).unwrap();
        stream.write(Bytes::from_static(b"hello")).unwrap();
        // The guest ends.
        let World { table, files, .. } = world;
        drop((table, turns));
        let mut closed = std::pin::pin!(files.close());
        assert!(closed.as_mut().now_or_never().is_none());
        // The only thread does one thing after the other.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "hello");
        assert!(
            closed.as_mut().now_or_never().is_none(),
            "the first is still waited for"
        );
    });
}

#[tokio::test]
async fn what_a_guest_lets_go_of_is_closed_before_it_gets_anything_else() {
    let mut world = World::new(0, 0);
    let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
    let open = watched(&mut world, &file);
    let stream = world.view().read_via_stream(again(&file), 0).unwrap();
    HostDescriptor::drop(&mut world.view(), file).unwrap();
    for (expected, who) in [(true, "its stream has it"), (false, "nobody has it")] {
        let seen = Weak::clone(&open);
        let is_open = world.files.work.run(move || seen.strong_count() > 0).await.unwrap();
        assert_eq!(is_open, expected, "{who}");
        if expected {
            HostInputStream::drop(&mut world.table, Resource::new_own(stream.rep()))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_reads_through_a_bounded_number_of_streams() {
    let mut world = World::new(0, 0);
    let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..reading::READ_STREAMS_MAX {
        streams.push(world.view().read_via_stream(again(&file), 0).unwrap());
    }
    let refused = world.view().read_via_stream(again(&file), 0);
    assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::InsufficientMemory);
    let last = streams.pop().unwrap();
    HostInputStream::drop(&mut world.table, last).await.unwrap();
    let stream = world.view().read_via_stream(again(&file), 1).unwrap();
    let read = HostInputStream::blocking_read(&mut world.table, stream, 100).await;
    assert_eq!(read.unwrap(), b"ello");
}

#[tokio::test]
async fn a_call_writes_through_a_bounded_number_of_streams() {
    let mut world = World::new(100, 1);
    let file = world.open("/out", "old.txt", none(), WRITE).await.unwrap();
    let mut streams = Vec::new();
    for index in 0..writing::WRITE_STREAMS_MAX {
        streams.push(match index % 2 {
            0 => world.view().write_via_stream(again(&file), 0).unwrap(),
            _ => world.view().append_via_stream(again(&file)).unwrap(),
        });
    }
    let refused = world.view().write_via_stream(again(&file), 0);
    assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::InsufficientMemory);
    let refused = world.view().append_via_stream(again(&file));
    assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::InsufficientMemory);
    let last = streams.pop().unwrap();
    HostOutputStream::drop(&mut world.table, last).await.unwrap();
    let stream = world.view().write_via_stream(again(&file), 9).unwrap();
    let written = HostOutputStream::blocking_write_and_flush(&mut world.table, stream, b"end".to_vec()).await;
    written.unwrap();
    assert_eq!(fs::read(world.path("out/old.txt")).unwrap(), b"012345678end");
    let folder = world.preopen("/out");
    let refused = world.view().write_via_stream(folder, 0);
    assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::BadDescriptor);
}

#[tokio::test]
async fn each_file_that_a_call_has_open_is_read_through_a_stream_of_its_own() {
    let mut world = World::new(0, 0);
    let mut open = Vec::new();
    for _ in 0..OPEN_FILES_MAX {
        let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
        let stream = world.view().read_via_stream(again(&file), 0).unwrap();
        let borrowed = Resource::new_borrow(stream.rep());
        let read = HostInputStream::blocking_read(&mut world.table, borrowed, 1).await;
        assert_eq!(read.unwrap(), b"h");
        open.push((file, stream));
    }
    assert_eq!(open.len(), OPEN_FILES_MAX);
}

#[tokio::test]
async fn a_stream_that_cannot_be_had_is_not_counted() {
    let mut world = World::new(0, 0);
    let folder = world.open("/data", "sub", none(), READ).await.unwrap();
    for _ in 0..=reading::READ_STREAMS_MAX {
        let refused = world.view().read_via_stream(again(&folder), 0);
        assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::IsDirectory);
    }
    let file = world.open("/data", "a.txt", none(), READ).await.unwrap();
    assert!(world.view().read_via_stream(file, 0).is_ok());
}

#[test]
fn entries_are_counted_before_they_are_read() {
    let folder = lay_out();
    let handle = File::open(folder.path().join("in")).unwrap();
    assert_eq!(open::count_entries(&handle, 6).unwrap(), 6);
    assert_eq!(
        open::count_entries(&handle, 4).unwrap(),
        5,
        "it looked at more than it was told to"
    );
}

#[tokio::test]
async fn listings_that_a_guest_keeps_count_together() {
    let mut world = World::new(100, 1);
    for index in 0..FOLDER_ENTRIES_MAX / 4 {
        fs::write(world.path(&format!("in/sub/{index}")), "").unwrap();
    }
    let folder = world.open("/data", "sub", none(), READ).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(world.view().read_directory(again(&folder)).await.unwrap());
    }
    let refused = world.view().read_directory(again(&folder)).await;
    assert_eq!(refused.map_err(code).unwrap_err(), ErrorCode::InsufficientMemory);
    // Who gives a listing back may make another.
    HostDirectoryEntryStream::drop(&mut world.view(), kept.pop().unwrap()).unwrap();
    assert!(world.view().read_directory(folder).await.is_ok());
}
