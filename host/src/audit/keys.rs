//! The two keys of the log. The one that signs is made at the first start, unless the operator keeps one; the one that
//! hides is made with a new log. Neither ever replaces one that is there, or one that is lost.

use std::path::Path;

use aral_audit::blind::BlindError;
use aral_audit::{AuditLog, Blinder};
use aral_contract::document::{PrivateKey, PublicKey};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::entropy;
use aral_runtime::files::{self, FilesError, Replace};

use crate::config::KEY_BYTES_MAX;
use crate::config::audit::AuditPlaces;
use crate::disk;

/// The key that signs checkpoints.
pub(super) fn signing(places: &AuditPlaces) -> Result<PrivateKey, Failure> {
    let path = &places.key;
    if let Some(public) = &places.public_key {
        check_signing(path, public)?;
        make(path)?;
        let key = read(path)?;
        publish(&key, public)?;
        return Ok(key);
    }
    read(path)
}

/// The key that hides.
pub(super) fn blinding(places: &AuditPlaces) -> Result<Blinder, Failure> {
    check_blinding(places)?;
    load_blinding(&places.blinding_key)
}

fn load_blinding(path: &Path) -> Result<Blinder, Failure> {
    Blinder::load_or_create(path).map_err(|error| match error {
        BlindError::Files(error) => unusable(&error),
        BlindError::Malformed { .. } => wrong(chain(&error)),
        BlindError::Entropy(error) => Failure::internal(error),
    })
}

/// Refuses keys that are lost, and files that hold none. It makes none. The public half of the key that signs; none: it is not made yet.
pub(super) fn check(places: &AuditPlaces) -> Result<Option<PublicKey>, Failure> {
    check_blinding(places)?;
    if !is_absent(files::read_private(&places.blinding_key, KEY_BYTES_MAX)) {
        load_blinding(&places.blinding_key)?;
    }
    let Some(public) = &places.public_key else {
        return Ok(Some(read(&places.key)?.public()));
    };
    check_signing(&places.key, public)?;
    if is_absent(files::read_private(&places.key, KEY_BYTES_MAX)) {
        return Ok(None);
    }
    let key = read(&places.key)?;
    match files::read_path(public, KEY_BYTES_MAX) {
        // The next start writes it.
        Err(error) if error.is_not_found() => {}
        found => check_published(&key, public, found)?,
    }
    Ok(Some(key.public()))
}

fn check_signing(path: &Path, public: &Path) -> Result<(), Failure> {
    let is_published = || Ok(!is_absent(files::read_path(public, KEY_BYTES_MAX)));
    if is_lost(path, is_published)? {
        let (shown, half) = (path.display(), public.display());
        return Err(wrong(format!(
            "the key that signs the audit log, `{shown}`, is not there, and its public half, `{half}`, is"
        ))
        .with_hint(format!(
            "put it back from where its copy is kept; to go on with another key, move `{half}` elsewhere, name it there in aral.toml, \
             [[trust]]: public_key = \"OLD.pub.pem\" and kinds = [\"checkpoint\"], and a new pair is made"
        )));
    }
    Ok(())
}

fn check_blinding(places: &AuditPlaces) -> Result<(), Failure> {
    let path = &places.blinding_key;
    let is_begun = || AuditLog::is_begun(&places.dir).map_err(|error| super::unopened(&error, places));
    if is_lost(path, is_begun)? {
        return Err(wrong(format!(
            "the key that hides what the audit log must not show, `{}`, is not there, and the log, `{}`, is",
            path.display(),
            places.dir.display()
        ))
        .with_hint(
            "put it back from where its copy is kept: what the log hides cannot be proven without it; to go on with another key all \
             the same, make one: `head -c 32 /dev/urandom > FILE`, `chmod 600 FILE`",
        ));
    }
    Ok(())
}

/// Whether a key was there and is gone. `is_used` says whether there is what comes after the key, and only then.
fn is_lost(key: &Path, is_used: impl FnOnce() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let is_gone = || is_absent(files::read_private(key, KEY_BYTES_MAX));
    // Looked at once more: another process may have made the key meanwhile, and then what comes after it.
    Ok(is_gone() && is_used()? && is_gone())
}

fn is_absent<T>(read: Result<T, FilesError>) -> bool {
    read.is_err_and(|error| error.is_not_found())
}

fn make(path: &Path) -> Result<(), Failure> {
    if !is_absent(files::read_private(path, KEY_BYTES_MAX)) {
        // What else is wrong with it, reading it says.
        return Ok(());
    }
    let key = PrivateKey::from_seed(&entropy::seed32().map_err(Failure::internal)?);
    let pem = key.to_pem().map_err(Failure::internal)?;
    // Whoever comes second finds the first one's key, whole.
    files::create_private_parent(path)
        .and_then(|()| files::create_private_file(path, pem.as_bytes()))
        .map_err(|error| unusable(&error))
}

fn read(path: &Path) -> Result<PrivateKey, Failure> {
    let pem = files::read_private(path, KEY_BYTES_MAX).map_err(|error| {
        let is_missing = error.is_not_found();
        let failure = unusable(&error);
        if is_missing {
            failure.with_hint(format!("make it: `aral keygen {}`", path.display()))
        } else {
            failure
        }
    })?;
    PrivateKey::from_pem(&String::from_utf8_lossy(&pem))
        .map_err(|error| wrong(format!("`{}`: {error}", path.display())))
}

/// Whoever verifies needs the public half, and nobody should have to touch the private one for it.
fn publish(key: &PrivateKey, path: &Path) -> Result<(), Failure> {
    let pem = key.public().to_pem().map_err(Failure::internal)?;
    let read = || files::read_path(path, KEY_BYTES_MAX);
    let found = match read() {
        // Only where it is not there: a disk that is full by now has what was written before.
        Err(error) if error.is_not_found() => match files::write_path(path, pem.as_bytes(), 0o644, Replace::Refuse) {
            Ok(()) | Err(FilesError::Exists { .. }) => read(),
            Err(error) => Err(error),
        },
        found => found,
    };
    check_published(key, path, found)
}

/// Whether what was found where the public half is kept is that of this key.
fn check_published(key: &PrivateKey, path: &Path, found: Result<Vec<u8>, FilesError>) -> Result<(), Failure> {
    let pem = key.public().to_pem().map_err(Failure::internal)?;
    let found = found.map_err(|error| unusable(&error))?;
    if found == pem.as_bytes() {
        return Ok(());
    }
    Err(wrong(format!(
        "`{}` is not the public half of the key that signs the audit log",
        path.display()
    ))
    .with_hint(
        "put the key back that it is the half of; if you replaced the key, keep the old public half elsewhere for the old records, and \
         remove that file",
    ))
}

fn wrong(message: String) -> Failure {
    Failure::new(Code::ConfigInvalid, message)
}

/// A file or folder of the log that cannot be used.
pub(super) fn unusable(error: &FilesError) -> Failure {
    let message = format!("the audit log: {}", chain(error));
    if disk::takes_no_writes(error) {
        return super::failure(message).with_hint(disk::MAKE_ROOM);
    }
    if error.is_of_disk() {
        return super::failure(message);
    }
    Failure {
        hint: error.fix(),
        ..wrong(message)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::AsRawFd as _;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_disk_that_says_no_is_no_wrong_configuration() {
        let unwritable = Some(disk::MAKE_ROOM);
        for (kind, code, hint) in [
            (io::ErrorKind::StorageFull, Code::AuditUnavailable, unwritable),
            (io::ErrorKind::QuotaExceeded, Code::AuditUnavailable, unwritable),
            (io::ErrorKind::ReadOnlyFilesystem, Code::AuditUnavailable, unwritable),
            (io::ErrorKind::StaleNetworkFileHandle, Code::AuditUnavailable, None),
            (io::ErrorKind::NotADirectory, Code::ConfigInvalid, None),
        ] {
            let failure = unusable(&FilesError::Io {
                action: "write",
                path: PathBuf::from("/state/audit.pem"),
                source: kind.into(),
            });
            assert_eq!((failure.code, failure.hint.as_deref()), (code, hint), "{kind}");
            assert!(failure.message.contains("`/state/audit.pem`"), "{failure}");
        }
        let denied = unusable(&FilesError::Io {
            action: "open",
            path: PathBuf::from("/state/audit.pem"),
            source: io::ErrorKind::PermissionDenied.into(),
        });
        assert_eq!(denied.code, Code::ConfigInvalid);
        assert!(denied.hint.unwrap().contains("this is user "));
        let open = unusable(&FilesError::Mode {
            path: PathBuf::from("/state/audit"),
            mode: 0o755,
            wanted: "700",
        });
        assert_eq!(
            (open.code, open.hint.as_deref()),
            (Code::ConfigInvalid, Some("chmod 700 /state/audit"))
        );
    }

    /// Where the system shows what is open nobody can make a file.
    #[test]
    fn a_public_half_that_is_there_is_not_written_again() {
        let key = PrivateKey::from_seed(&entropy::seed32().unwrap());
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, key.public().to_pem().unwrap().as_bytes()).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        publish(&key, &path).unwrap();
        let other = PrivateKey::from_seed(&entropy::seed32().unwrap());
        assert!(
            publish(&other, &path)
                .unwrap_err()
                .message
                .contains("not the public half")
        );
    }
}
