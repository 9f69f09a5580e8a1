//! What is opened is checked, what is written is whole.
#![expect(clippy::disallowed_methods, reason = "tests look at files")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::unless_removed;
use super::write::{Unlinked, create_file};
use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

fn put(path: &Path, mode: u32) {
    std::fs::write(path, b"content").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn reading_stops_at_the_cap() {
    let (_folder, path) = folder();
    put(&path.join("f"), 0o644);
    let dir = open_root(&path).unwrap();
    assert_eq!(read_capped(&dir, "f", 7).unwrap(), b"content");
    assert!(matches!(
        read_capped(&dir, "f", 6).unwrap_err(),
        FilesError::TooLarge { bytes_max: 6, .. }
    ));
    assert_eq!(read_path(&path.join("f"), 7).unwrap(), b"content");
    assert!(matches!(
        read_path(&path.join("f"), 6).unwrap_err(),
        FilesError::TooLarge { .. }
    ));
    assert!(read_capped(&dir, "g", 7).unwrap_err().is_not_found());
    // A device has no end, and is cut as well.
    assert!(matches!(
        read_path(Path::new("/dev/zero"), 1000).unwrap_err(),
        FilesError::TooLarge { .. }
    ));
    assert!(matches!(read_path(&path, 7).unwrap_err(), FilesError::NotAFile { .. }));
}

#[test]
fn a_file_that_was_named_from_a_folder_on_is_told_with_its_whole_path() {
    let (_folder, path) = folder();
    let dir = open_root(&path).unwrap();
    let told = |error: FilesError| error.below(&path).to_string();
    let whole = |name: &str| format!("`{}`", path.join(name).display());
    assert_eq!(
        told(read_capped(&dir, "sub/f", 7).unwrap_err()),
        format!("cannot open {}", whole("sub/f"))
    );
    put(&path.join("f"), 0o644);
    let long = told(read_capped(&dir, "f", 6).unwrap_err());
    assert!(long.starts_with(&whole("f")), "{long}");
    let of_folder = told(during("list", Path::new("."))(io::ErrorKind::Other.into()));
    assert_eq!(of_folder, format!("cannot list `{}`", path.display()));
    // What is named from the root on stays.
    let other = Path::new("/nowhere/f");
    assert!(told(read_path(other, 7).unwrap_err()).contains("`/nowhere/f`"));
}

#[test]
fn a_disk_that_says_no_is_told_from_a_path_that_is_wrong() {
    let failed = |error: io::Error| during("write", Path::new("f"))(error);
    for (error, is_of_disk) in [
        (libc::ENOSPC, true),
        (libc::EDQUOT, true),
        (libc::EROFS, true),
        (libc::EIO, true),
        (libc::EMFILE, true),
        (libc::ENOENT, false),
        (libc::ENOTDIR, false),
        (libc::EISDIR, false),
        (libc::EEXIST, false),
        (libc::EACCES, false),
        (libc::EPERM, false),
        (libc::ENAMETOOLONG, false),
        (libc::ELOOP, false),
    ] {
        let found = failed(io::Error::from_raw_os_error(error));
        assert_eq!(found.is_of_disk(), is_of_disk, "{found:?}");
    }
    let (_folder, path) = folder();
    assert!(!read_path(&path, 7).unwrap_err().is_of_disk(), "a folder is no file");
}

#[test]
fn what_a_command_makes_usable_is_told_with_it() {
    let (_folder, path) = folder();
    let file = path.join("f");
    put(&file, 0o644);
    let fix = read_private(&file, 100).unwrap_err().fix();
    assert_eq!(fix, Some(format!("chmod 600 {}", file.display())));
    let owner = FilesError::Owner {
        path: file.clone(),
        owner: 7,
        user: 8,
    };
    assert_eq!(owner.fix(), Some(format!("chown \"$(id -u)\" {}", file.display())));
    assert_eq!(read_private(&path.join("g"), 100).unwrap_err().fix(), None);
}

#[test]
fn root_is_not_told_to_take_a_file_from_the_user_of_a_server() {
    let owner = FilesError::Owner {
        path: "/var/lib/aral/master.key".into(),
        owner: 65_534,
        user: 0,
    };
    let fix = owner.fix().unwrap();
    assert!(
        fix.contains("`sudo -u '#65534' aral …`") && !fix.contains("chown"),
        "{fix}"
    );
}

#[test]
fn a_write_that_fails_names_the_file_that_was_meant() {
    let (_folder, path) = folder();
    let dir = open_root(&path).unwrap();
    std::fs::remove_dir(&path).unwrap();
    let file = path.join("f");
    for error in [
        write_atomic(&dir, "f", b"x", 0o600).unwrap_err().below(&path),
        create_file(&dir, Path::new("f"), &file, b"x", 0o600).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("cannot write `{}`", file.display()));
    }
}

#[test]
fn nothing_outside_of_a_folder_is_reached_through_it() {
    let (_folder, path) = folder();
    std::fs::create_dir(path.join("inside")).unwrap();
    put(&path.join("secret"), 0o644);
    std::os::unix::fs::symlink(path.join("secret"), path.join("inside/absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", path.join("inside/relative")).unwrap();
    let dir = open_root(&path.join("inside")).unwrap();
    for name in ["../secret", "absolute", "relative", "/etc/hostname"] {
        assert!(
            matches!(read_capped(&dir, name, 100).unwrap_err(), FilesError::Io { .. }),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let (_folder, path) = folder();
    assert!(
        Command::new("mkfifo")
            .arg(path.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    std::fs::set_permissions(path.join("fifo"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let dir = open_root(&path).unwrap();
    assert!(matches!(
        read_capped(&dir, "fifo", 7).unwrap_err(),
        FilesError::NotAFile { .. }
    ));
    assert!(matches!(
        read_private(&path.join("fifo"), 7).unwrap_err(),
        FilesError::NotAFile { .. }
    ));
    std::os::unix::fs::symlink("fifo", path.join("link")).unwrap();
    for name in ["fifo", "link"] {
        assert!(matches!(
            read_regular(&path.join(name), 7).unwrap_err(),
            FilesError::NotAFile { .. }
        ));
    }
    assert!(matches!(
        read_capped(&dir, ".", 7).unwrap_err(),
        FilesError::NotAFile { .. }
    ));
}

#[test]
fn private_and_trusted_files_must_have_the_right_mode() {
    let (_folder, path) = folder();
    let file = path.join("f");
    for (mode, private, trusted) in [
        (0o600, true, true),
        (0o400, true, true),
        (0o640, false, true),
        (0o604, false, true),
        (0o644, false, true),
        (0o620, false, false),
        (0o602, false, false),
        (0o666, false, false),
    ] {
        put(&file, mode);
        assert_eq!(read_private(&file, 100).is_ok(), private, "{mode:o}");
        assert_eq!(read_trusted(&file, 100).is_ok(), trusted, "{mode:o}");
    }
    put(&file, 0o644);
    let error = read_private(&file, 100).unwrap_err().to_string();
    assert!(
        error.contains("mode 0644") && error.contains(&format!("chmod 600 {}", file.display())),
        "{error}"
    );
}

#[test]
fn files_of_other_users_are_refused() {
    let (_folder, path) = folder();
    let file = path.join("f");
    put(&file, 0o600);
    // Only root can give a file away; others have such files in plenty, but none that they can read and that is private.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        assert!(matches!(
            read_private(&file, 100).unwrap_err(),
            FilesError::Owner { owner: 65_534, .. }
        ));
        assert!(matches!(
            read_trusted(&file, 100).unwrap_err(),
            FilesError::Owner { owner: 65_534, .. }
        ));
    }
    let metadata = open_root(Path::new("/")).unwrap().dir_metadata().unwrap();
    check_owner(Path::new("/"), &metadata).unwrap();
}

#[test]
fn writing_is_whole_replaces_links_and_leaves_nothing_behind() {
    let (_folder, path) = folder();
    let dir = open_root(&path).unwrap();
    put(&path.join("target"), 0o644);
    std::os::unix::fs::symlink("target", path.join("link")).unwrap();
    write_atomic(&dir, "link", b"new", 0o600).unwrap();
    assert_eq!(std::fs::read(path.join("target")).unwrap(), b"content");
    assert_eq!(std::fs::read(path.join("link")).unwrap(), b"new");
    let metadata = std::fs::symlink_metadata(path.join("link")).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    std::fs::create_dir(path.join("folder")).unwrap();
    assert!(write_atomic(&dir, "folder", b"new", 0o600).is_err());
    let mut names: Vec<_> = list(&dir, 100)
        .unwrap()
        .files
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort();
    assert_eq!(names, ["link", "target"]);
    // Two files and a folder.
    for (entries_max, is_whole) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(list(&dir, entries_max).unwrap().is_whole, is_whole, "{entries_max}");
    }
    assert_eq!(list(&dir, 1).unwrap().files.len(), 1);
}

#[test]
fn what_a_listing_cannot_look_at_is_not_taken_for_gone() {
    let looked = |kind: io::ErrorKind| unless_removed::<()>(Err(kind.into())).map_err(|error| error.kind());
    assert_eq!(looked(io::ErrorKind::NotFound), Ok(None));
    for kind in [
        io::ErrorKind::Other,
        io::ErrorKind::TimedOut,
        io::ErrorKind::OutOfMemory,
    ] {
        assert_eq!(looked(kind), Err(kind));
    }
    assert_eq!(unless_removed(Ok(7)).unwrap(), Some(7));
}

#[test]
fn an_existing_file_is_replaced_only_on_request() {
    let (_folder, path) = folder();
    let file = path.join("f");
    write_path(&file, b"one", 0o644, Replace::Refuse).unwrap();
    assert!(matches!(
        write_path(&file, b"two", 0o644, Replace::Refuse).unwrap_err(),
        FilesError::Exists { .. }
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"one");
    write_path(&file, b"two", 0o644, Replace::Allow).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"two");
    create_private_file(&file, b"three").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn private_folders_are_made_with_those_above_and_checked() {
    let (_folder, path) = folder();
    let deep = path.join("a/b/c");
    create_private_dir(&deep).unwrap();
    create_private_dir(&deep).unwrap();
    for made in [&deep, &path.join("a")] {
        assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
    }
    std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(
        create_private_dir(&deep).unwrap_err(),
        FilesError::Mode { mode: 0o750, .. }
    ));
    put(&path.join("file"), 0o600);
    assert!(create_private_dir(&path.join("file")).is_err());
    assert!(create_private_dir(&path.join("file/below")).is_err());
}

#[test]
fn inside_is_decided_after_links_and_dots() {
    let (_folder, path) = folder();
    std::fs::create_dir_all(path.join("cache/sub")).unwrap();
    std::fs::create_dir(path.join("cache-keys")).unwrap();
    std::os::unix::fs::symlink(path.join("cache/sub"), path.join("link")).unwrap();
    let cache = path.join("cache");
    for (key, inside) in [
        ("cache/key", true),
        ("cache/sub/key", true),
        ("link/key", true),
        ("cache-keys/../cache/key", true),
        ("key", false),
        ("cache-keys/key", false),
        ("cache/../key", false),
        ("missing/key", false),
    ] {
        assert_eq!(is_inside(&path.join(key), &cache).unwrap(), inside, "{key}");
    }
}

#[test]
fn what_a_link_leads_to_in_another_folder_is_not_there() {
    let (_folder, path) = folder();
    let (_elsewhere, other) = folder();
    put(&path.join("file"), 0o600);
    put(&other.join("file"), 0o600);
    std::os::unix::fs::symlink("file", path.join("beside")).unwrap();
    std::os::unix::fs::symlink(other.join("file"), path.join("away")).unwrap();
    assert!(is_there(&path) && is_there(&path.join("file")) && is_there(&path.join("beside")));
    assert!(!is_there(&path.join("away")) && !is_there(&path.join("nothing")));
}

#[test]
fn paths_are_the_same_after_links_and_dots() {
    let (_folder, path) = folder();
    put(&path.join("file"), 0o600);
    put(&path.join("other"), 0o600);
    std::fs::create_dir(path.join("sub")).unwrap();
    std::os::unix::fs::symlink(path.join("file"), path.join("link")).unwrap();
    for (one, other, same) in [
        ("file", "file", true),
        ("link", "file", true),
        ("sub/../file", "link", true),
        ("file", "other", false),
        ("file", "none", false),
        ("none", "none", true),
        ("none", "nobody", false),
    ] {
        assert_eq!(is_same(&path.join(one), &path.join(other)), same, "{one} and {other}");
    }
}

#[test]
fn a_lock_is_private_and_never_somebody_elses_file() {
    let (_folder, path) = folder();
    let dir = open_root(&path).unwrap();
    open_lock(&dir, "lock").unwrap();
    open_lock(&dir, "lock").unwrap();
    assert_eq!(
        std::fs::metadata(path.join("lock")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    put(&path.join("target"), 0o644);
    std::os::unix::fs::symlink("target", path.join("link")).unwrap();
    assert!(open_lock(&dir, "link").is_err());
    assert_eq!(std::fs::read(path.join("target")).unwrap(), b"content");
}

#[test]
fn what_is_written_piece_by_piece_appears_whole_or_never() {
    let (_folder, path) = folder();
    let (file, other) = (path.join("backup"), path.join("other"));
    let write = |path: &Path, result: Result<u8, &'static str>| {
        stream_private(path, |file| {
            std::io::Write::write_all(file, b"some").unwrap();
            assert!(!path.exists(), "nobody sees a part of it");
            result.map_err(|_| FilesError::NotAFile { path: path.to_owned() })
        })
    };
    assert_eq!(write(&file, Ok(7)).unwrap(), 7);
    assert_eq!(std::fs::read(&file).unwrap(), b"some");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(write(&other, Err("failed")).is_err());
    let again = stream_private(&file, |_| -> Result<(), FilesError> { panic!("it is there already") });
    assert!(matches!(again, Err(FilesError::Exists { .. })));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing else is left");
    let mut read = String::new();
    std::io::Read::read_to_string(&mut open_path(&file).unwrap(), &mut read).unwrap();
    assert_eq!(read, "some");
    assert!(matches!(open_path(&path), Err(FilesError::NotAFile { .. })));
}

/// In memory, where the system always makes files without a name.
#[test]
fn who_is_killed_while_a_file_is_written_piece_by_piece_leaves_nothing() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    let written = stream_private(&folder.path().join("backup"), |_| {
        assert_eq!(count(), 0, "what a killed process leaves");
        Ok::<_, FilesError>(())
    });
    written.unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn where_no_file_is_without_a_name_nothing_stays_but_what_is_whole() {
    let (_folder, path) = folder();
    let dir = open_root(&path).unwrap();
    let names = || -> Vec<_> {
        let entries = std::fs::read_dir(&path).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    drop(Unlinked::named(&dir, Path::new("f"), 0o600).unwrap());
    assert!(names().is_empty());
    let write = |bytes: &[u8]| {
        let mut file = Unlinked::named(&dir, Path::new("f"), 0o600).unwrap();
        std::io::Write::write_all(&mut file.file, bytes).unwrap();
        assert!(names().iter().any(|name| is_temporary(name.to_str().unwrap())));
        file.appear(Path::new("f"), &path.join("f"))
    };
    write(b"one").unwrap();
    assert!(matches!(write(b"two"), Err(FilesError::Exists { .. })));
    assert_eq!(names(), ["f"]);
    assert_eq!(std::fs::read(path.join("f")).unwrap(), b"one");
}

#[test]
fn what_is_written_over_is_what_was_looked_at_behind_its_link() {
    let (_folder, path) = folder();
    let at = |name: &str| path.join(name);
    put(&at("real"), 0o600);
    put(&at("other"), 0o600);
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    let place = Place::open(&at("link"), 100).unwrap();
    assert_eq!(place.bytes(), Some(&b"content"[..]));
    // The link leads elsewhere by now.
    std::fs::remove_file(at("link")).unwrap();
    std::os::unix::fs::symlink("other", at("link")).unwrap();
    place.write(b"new").unwrap();
    assert_eq!(std::fs::read(at("real")).unwrap(), b"new");
    assert_eq!(std::fs::read(at("other")).unwrap(), b"content");
    // Somebody else wrote it, also more than was there.
    for bytes in [&b"signed!"[..], b"much more than there was", b""] {
        let place = Place::open(&at("other"), 100).unwrap();
        std::fs::write(at("other"), bytes).unwrap();
        let refused = place.write(b"new").unwrap_err();
        assert!(
            matches!(&refused, FilesError::Changed { path } if *path == at("other")),
            "{refused}"
        );
        assert!(refused.fix().is_some());
        assert_eq!(std::fs::read(at("other")).unwrap(), bytes);
        std::fs::write(at("other"), b"content").unwrap();
    }
    // A link to a file that holds the same is in its place.
    let place = Place::open(&at("other"), 100).unwrap();
    std::fs::rename(at("other"), at("moved")).unwrap();
    assert!(matches!(place.write(b"new"), Err(FilesError::Changed { .. })));
    std::os::unix::fs::symlink("moved", at("other")).unwrap();
    assert!(matches!(place.write(b"new"), Err(FilesError::Changed { .. })));
    assert_eq!(std::fs::read(at("moved")).unwrap(), b"content");
}

#[test]
fn where_nothing_was_nothing_is_written_over() {
    let (_folder, path) = folder();
    let file = path.join("f");
    let place = Place::free(&file).unwrap();
    assert_eq!(place.bytes(), None);
    put(&file, 0o600);
    assert!(matches!(place.write(b"new"), Err(FilesError::Exists { .. })));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    assert!(matches!(place.write(b"new"), Err(FilesError::Exists { .. })));
    std::fs::remove_file(&file).unwrap();
    place.write(b"new").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    assert!(matches!(Place::open(&path, 100), Err(FilesError::NotAFile { .. })));
}

#[test]
fn what_is_written_over_keeps_its_mode_its_owner_and_its_group() {
    use std::os::unix::fs::MetadataExt as _;
    let (_folder, path) = folder();
    let file = path.join("f");
    for mode in [0o600, 0o640, 0o660, 0o644, 0o666] {
        put(&file, mode);
        Place::open(&file, 100).unwrap().write(b"new").unwrap();
        let metadata = std::fs::metadata(&file).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "whatever the umask is");
    }
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(65_534), Some(65_533)).unwrap();
        Place::open(&file, 100).unwrap().write(b"newer").unwrap();
        let metadata = std::fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_533));
        assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
    }
}
