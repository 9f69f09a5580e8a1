//! Files that the user names on the command line: `aral_runtime::files` with messages for the user. It knows no format.

use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aral_contract::document::{PublicKey, WrongHalf};
use aral_contract::limits::{COMPONENT_BYTES_MAX, DOCUMENT_BYTES_MAX};
use aral_contract::{Code, Failure};
pub(crate) use aral_host::disk::failure;
use aral_runtime::files::{self, FilesError, Replace};
pub(crate) use aral_runtime::files::{Place, is_there};
use zeroize::Zeroizing;

/// Largest text file that is read: a configuration, a key, a capability.toml. Stops a wrong path from filling memory.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Largest input that is read before the limit of the call is known.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// What the user gets to read of a file, where the system said no to `action`.
pub(crate) fn refused(action: &'static str, path: &Path, source: io::Error) -> Failure {
    failure(FilesError::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

/// An answer did not find its way out: its disk is full, or broken, and nothing that the user wrote is wrong.
pub(crate) fn unwritten(what: &str, error: &io::Error) -> Failure {
    Failure::new(Code::Unavailable, format!("{what} cannot be written: {error}"))
        .with_hint("make room where it goes, or have it go somewhere else")
}

/// Reads a component, or as much of a larger file as shows that it is one too many.
pub(crate) fn component(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path, COMPONENT_BYTES_MAX as u64, Code::ComponentTooLarge)
}

/// The same of one that a file names, and not the user: a pipe is refused, and not waited for.
pub(crate) fn named_component(path: &Path) -> Result<Vec<u8>, Failure> {
    read_named(path, COMPONENT_BYTES_MAX as u64, Code::ComponentTooLarge)
}

/// Reads a signed document.
pub(crate) fn document(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path, DOCUMENT_BYTES_MAX as u64, Code::DocumentInvalid)
}

/// Reads a text.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    utf8(path, read(path, TEXT_BYTES_MAX, Code::ConfigInvalid)?)
}

/// The same of one whose folder alone the user named: a pipe is refused, and not waited for.
pub(crate) fn named_text(path: &Path) -> Result<String, Failure> {
    utf8(path, read_named(path, TEXT_BYTES_MAX, Code::ConfigInvalid)?)
}

/// Reads a text that `file` names. It must lie in the folder of `file` or below, wherever links and `..` lead: whoever wrote `file`
/// is not to choose among all files of the user.
pub(crate) fn text_beside(file: &Path, name: &str) -> Result<String, Failure> {
    let (dir, _name) = files::open_parent(file).map_err(failure)?;
    let bytes = files::read_capped(&dir, name, TEXT_BYTES_MAX).map_err(|error| {
        let is_elsewhere = error.is_absent() || error.is_denied();
        let failure = failure(error.below(file.parent().unwrap_or(Path::new(""))));
        if is_elsewhere {
            failure.with_hint(format!("put it into the folder of `{}`, or below", file.display()))
        } else {
            failure
        }
    })?;
    utf8(&file.with_file_name(name), bytes)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::ConfigInvalid, format!("`{}` is not UTF-8 text", path.display())))
}

/// Reads a value of somebody's, as large as may be.
pub(crate) fn value(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read(path, bytes_max as u64, Code::InputTooLarge).map(Zeroizing::new)
}

/// Reads a text that nobody else may read. It is wiped from memory afterwards.
pub(crate) fn private_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    wiped_text(path, files::read_private(path, TEXT_BYTES_MAX).map_err(failure)?)
}

/// The same of a private key. Whoever names the public half, which may be open to all, is told so, and not how to close it.
pub(crate) fn private_key_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = files::read_private(path, TEXT_BYTES_MAX)
        .map_err(|error| public_half(path, &error).unwrap_or_else(|| failure(error)))?;
    wiped_text(path, bytes)
}

/// Whether a file that others have access to is refused for nothing, since it holds a public key.
fn public_half(path: &Path, error: &FilesError) -> Option<Failure> {
    // Whatever else is refused may be a pipe, which would be waited for.
    if !matches!(error, FilesError::Mode { .. } | FilesError::Owner { .. }) {
        return None;
    }
    let bytes = read(path, TEXT_BYTES_MAX, Code::ConfigInvalid)
        .map(Zeroizing::new)
        .ok()?;
    let half = WrongHalf::public(std::str::from_utf8(&bytes).ok()?)?;
    Some(Failure::new(
        Code::ConfigInvalid,
        format!("`{}` is {half}", path.display()),
    ))
}

fn wiped_text(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Failure> {
    let text = std::str::from_utf8(&bytes).map(str::to_owned).map(Zeroizing::new);
    text.map_err(|_| Failure::new(Code::ConfigInvalid, format!("`{}` is not UTF-8 text", path.display())))
}

/// Reads a public key.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_pem(&text(path)?)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}`: {error}", path.display())))
}

/// What `--input` means: the text itself, `@FILE`, or `-` for standard input.
pub(crate) fn input(argument: &str) -> Result<Vec<u8>, Failure> {
    if argument == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin()
            .lock()
            .take(INPUT_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(Code::ConfigInvalid, format!("standard input cannot be read: {error}")))?;
        if bytes.len() as u64 > INPUT_BYTES_MAX {
            return Err(Failure::new(
                Code::InputTooLarge,
                format!("standard input has more than {INPUT_BYTES_MAX} bytes"),
            ));
        }
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => read(Path::new(path), INPUT_BYTES_MAX, Code::InputTooLarge),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

fn read(path: &Path, bytes_max: u64, too_large: Code) -> Result<Vec<u8>, Failure> {
    files::read_path(path, bytes_max).map_err(|error| coded(error, too_large))
}

fn read_named(path: &Path, bytes_max: u64, too_large: Code) -> Result<Vec<u8>, Failure> {
    files::read_regular(path, bytes_max).map_err(|error| coded(error, too_large))
}

fn coded(error: FilesError, too_large: Code) -> Failure {
    match error {
        FilesError::TooLarge { .. } => Failure {
            code: too_large,
            ..failure(error)
        },
        unreadable => failure(unreadable),
    }
}

/// Whether nothing at all is there, wherever links lead.
pub(crate) fn is_absent(path: &Path) -> bool {
    use rustix::io::Errno;
    matches!(rustix::fs::stat(path), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Whether there is a folder. One that this user may not open is none that is not there.
pub(crate) fn is_folder(path: &Path) -> Result<bool, FilesError> {
    match files::open_root(path) {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a path at which something is.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if is_there(path) { Err(exists(path)) } else { Ok(()) }
}

/// What is there is not written over.
pub(crate) fn exists(path: &Path) -> Failure {
    failure(FilesError::Exists { path: path.to_owned() })
}

/// Where a document lies that is to be signed in place.
pub(crate) fn place(path: &Path) -> Result<Place, Failure> {
    Place::open(path, DOCUMENT_BYTES_MAX as u64).map_err(|error| coded(error, Code::DocumentInvalid))
}

/// Where a new document goes. What is there may be a document; anything else is refused.
pub(crate) fn place_or_free(path: &Path) -> Result<Place, Failure> {
    if is_absent(path) {
        return Place::free(path).map_err(failure);
    }
    Place::open(path, DOCUMENT_BYTES_MAX as u64).map_err(|error| match error {
        FilesError::Io { .. } => failure(error),
        _no_document => exists(path),
    })
}

/// Writes a file that must not exist yet.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_path(path, bytes, 0o644, Replace::Refuse).map_err(failure)
}

/// Writes a file that must not exist yet and that nobody else may read.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_path(path, bytes, 0o600, Replace::Refuse).map_err(failure)
}

/// Takes the next piece of a file.
pub(crate) type Put<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

/// Makes a file that must not exist yet and that nobody else may read, out of what `fill` puts there piece by piece. It appears when
/// it is whole, or never.
pub(crate) fn stream_private<T>(path: &Path, fill: impl FnOnce(Put<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    let written = files::stream_private(path, |file| {
        let failed = |error: io::Error| refused("write", path, error);
        let mut buffered = BufWriter::new(file);
        let mut put = |piece: &[u8]| buffered.write_all(piece).map_err(failed);
        let done = fill(&mut put).map_err(Unmade::Filling)?;
        buffered.flush().map_err(failed).map_err(Unmade::Filling)?;
        Ok(done)
    });
    written.map_err(|unmade| match unmade {
        Unmade::File(error) => failure(error),
        Unmade::Filling(failure) => failure,
    })
}

/// Why a file did not come about: the file itself, or what goes into it.
enum Unmade {
    File(FilesError),
    Filling(Failure),
}

impl From<FilesError> for Unmade {
    fn from(error: FilesError) -> Self {
        Self::File(error)
    }
}

/// Writes a file, whole, in place of whatever has its name. A link there is replaced too, and what it leads to stays as it is.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_path(path, bytes, 0o644, Replace::Allow).map_err(failure)
}

/// Makes a folder with files in it and below it. The folder must not exist yet.
pub(crate) fn create_tree(folder: &Path, texts: &[(&str, String)]) -> Result<(), Failure> {
    let (parent, name) = files::open_parent(folder).map_err(failure)?;
    parent.create_dir(&name).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(folder),
        _other => refused("make", folder, error),
    })?;
    let dir = parent.open_dir(&name).map_err(|error| refused("open", folder, error))?;
    for (name, text) in texts {
        if let Some(inner) = Path::new(name).parent().filter(|inner| *inner != Path::new("")) {
            dir.create_dir_all(inner)
                .map_err(|error| refused("make", &folder.join(inner), error))?;
        }
        dir.write(name, text)
            .map_err(|error| refused("write", &folder.join(name), error))?;
    }
    Ok(())
}

/// Makes a folder unless it is there.
pub(crate) fn ensure_folder(path: &Path) -> Result<(), Failure> {
    let (parent, name) = files::open_parent(path).map_err(failure)?;
    match parent.create_dir(&name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(refused("make", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The path from the root, without looking at the disk.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}` is no path: {error}", path.display())))
}

/// The same as text, for what has to be UTF-8.
pub(crate) fn absolute_text(path: &str) -> Result<String, Failure> {
    absolute_utf8(Path::new(path))
}

/// The same of a path.
pub(crate) fn absolute_utf8(path: &Path) -> Result<String, Failure> {
    let absolute = absolute(path)?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(Code::ConfigInvalid, format!("`{}` is not UTF-8", path.display())))
}

/// The way from `folder` to `target`; both absolute.
pub(crate) fn relative(folder: &Path, target: &Path) -> PathBuf {
    let shared = folder
        .components()
        .zip(target.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = folder.components().skip(shared).map(|_| Path::new(".."));
    let down = target.components().skip(shared);
    up.chain(down.map(|part| Path::new(part.as_os_str()))).collect()
}

#[cfg(test)]
mod tests {
    use aral_host::disk;

    use super::*;

    #[test]
    fn relative_paths() {
        for (folder, target, expected) in [
            ("/a/b", "/a/b/c.wasm", "c.wasm"),
            ("/a/b", "/a/c/d.wasm", "../c/d.wasm"),
            ("/", "/x", "x"),
        ] {
            assert_eq!(relative(Path::new(folder), Path::new(target)), Path::new(expected));
        }
    }

    #[test]
    fn refusals_carry_the_cause_and_the_fix() {
        let missing = text(Path::new("/nowhere/at/all.toml")).unwrap_err();
        assert_eq!(missing.code, Code::ConfigInvalid);
        assert!(
            missing.message.contains("`/nowhere/at/all.toml`: No such file"),
            "{}",
            missing.message
        );
        let too_large = read(Path::new("/proc/self/status"), 8, Code::ComponentTooLarge).unwrap_err();
        assert_eq!(too_large.code, Code::ComponentTooLarge);
        assert!(too_large.message.contains("more than 8 bytes"), "{}", too_large.message);
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_no_wrong_argument() {
        let written = |kind: io::ErrorKind| refused("write", Path::new("keys.pem"), kind.into());
        for kind in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            let failure = written(kind);
            assert_eq!(failure.code, Code::Unavailable, "{failure}");
            assert!(failure.message.starts_with("cannot write `keys.pem`: "), "{failure}");
            assert_eq!(failure.hint.as_deref(), Some(disk::MAKE_ROOM));
        }
        let denied = written(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.code, Code::ConfigInvalid);
        assert!(denied.hint.unwrap().contains("`namei -l keys.pem` shows who may"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("key.pem");
        create(&open, b"k").unwrap();
        let close = Some(format!("chmod 600 {}", open.display()));
        assert_eq!(private_text(&open).unwrap_err().hint, close);
        // A private key is no less open for its public half in the same file.
        let (public, private) = ("-----BEGIN PUBLIC KEY-----\n", "-----BEGIN PRIVATE KEY-----\n");
        for (text, hint) in [
            (format!("{public}{private}"), close.clone()),
            (format!("{private}{public}"), close),
            (public.to_owned(), None),
        ] {
            put(&open, text.as_bytes()).unwrap();
            assert_eq!(private_key_text(&open).unwrap_err().hint, hint, "{text}");
        }
    }

    #[test]
    fn a_tree_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("new");
        let texts = [("a.txt", "one".to_owned()), ("src/b.txt", "two".to_owned())];
        create_tree(&tree, &texts).unwrap();
        assert_eq!(text(&tree.join("src/b.txt")).unwrap(), "two");
        let again = create_tree(&tree, &texts).unwrap_err();
        assert!(again.message.ends_with("exists already"), "{}", again.message);
        assert!(again.hint.is_some_and(|hint| hint.starts_with("choose another name")));
        let private = folder.path().join("key.pem");
        create_private(&private, b"k").unwrap();
        let twice = create_private(&private, b"other").unwrap_err();
        assert!(twice.hint.is_some() && text(&private).unwrap() == "k");
        assert!(refuse_existing(&private).is_err());
    }

    #[test]
    fn a_file_that_comes_piece_by_piece_appears_whole_or_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let stopped = stream_private(&path, |put| {
            put(b"one")?;
            Err::<(), _>(Failure::new(Code::Cancelled, "enough"))
        });
        assert_eq!(stopped.unwrap_err().message, "enough");
        assert!(is_absent(&path));
        let written = stream_private(&path, |put| {
            put(b"one")?;
            put(b"two")?;
            Ok(2)
        });
        assert_eq!((written.unwrap(), text(&path).unwrap().as_str()), (2, "onetwo"));
        assert!(private_text(&path).is_ok());
        let again = stream_private(&path, |_| -> Result<(), Failure> { panic!("it is there already") });
        assert_eq!(again.unwrap_err(), exists(&path));
    }

    #[test]
    fn inputs() {
        assert_eq!(input("{}").unwrap(), b"{}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.json");
        create(&path, b"[1]").unwrap();
        assert_eq!(input(&format!("@{}", path.display())).unwrap(), b"[1]");
        assert!(input("@/nowhere").is_err());
    }

    #[test]
    fn what_a_file_names_is_read_in_its_folder_and_below() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let texts = [("schema/in.json", "{}".to_owned())];
        create_tree(&at("tool"), &texts).unwrap();
        create(&at("secret.json"), b"{}").unwrap();
        std::os::unix::fs::symlink("../secret.json", at("tool/relative")).unwrap();
        std::os::unix::fs::symlink(at("secret.json"), at("tool/absolute")).unwrap();
        std::os::unix::fs::symlink("schema/in.json", at("tool/inside")).unwrap();
        let file = at("tool/capability.toml");
        for name in ["schema/in.json", "inside"] {
            assert_eq!(text_beside(&file, name).unwrap(), "{}", "{name}");
        }
        for name in ["../secret.json", "relative", "absolute", "nothing"] {
            let refused = text_beside(&file, name).unwrap_err();
            assert_eq!(refused.code, Code::ConfigInvalid, "{name}");
            assert!(
                refused
                    .message
                    .contains(&format!("`{}`", at("tool").join(name).display())),
                "{refused}"
            );
            assert!(refused.hint.is_some_and(|hint| hint.ends_with("or below")), "{name}");
        }
    }

    #[test]
    fn what_a_link_leads_to_is_there_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        assert!(!is_absent(&at("link")) && !is_absent(folder.path()));
        assert!(is_absent(&at("dangling")) && is_absent(&at("nothing")) && is_absent(&at("link/below")));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_no_place_for_a_new_document() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        assert_eq!(place_or_free(&at("dangling")).unwrap_err(), exists(&at("dangling")));
        assert!(place_or_free(&at("nothing")).unwrap().bytes().is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_opened_is_none_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create(&at("file"), b"").unwrap();
        assert!(is_folder(folder.path()).unwrap());
        assert!(!is_folder(&at("file")).unwrap() && !is_folder(&at("nothing")).unwrap());
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        assert!(is_folder(&at("loop/below")).is_err());
    }
}
