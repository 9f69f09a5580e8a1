//! What an operator gets to read when a store, a key service or a place of secrets fails: code, words and the step that
//! repairs it. Guests get less; the host functions see to that.

use std::io;
use std::path::Path;

use aral_contract::failure::chain;
use aral_contract::{Code, Failure, SecretError};
use aral_memory::backup::BackupError;
use aral_memory::{KeyServiceError, StoreError};
use aral_runtime::files::FilesError;

use crate::disk;

/// What to do about a store that is damaged as a whole, and of which nothing can be read.
const BACKUP: &str =
    "keep a copy of the folder as it is; then begin an empty one and read a backup: `aral memory import`";

/// What reads a store that does not open.
const SALVAGE: &str = "`aral memory export --salvage --to BACKUP.pub.pem --out FILE`";

/// What to do about one whose keys are there. A backup comes last: it knows nothing of what was written since.
fn salvage_first() -> String {
    format!(
        "keep a copy of the folder as it is; write what is whole to a file: {SALVAGE}; then name an empty folder in aral.toml, [memory] \
         dir, and read that file: `aral memory import`; an older backup, read after that without `--overwrite`, adds what is missing, \
         and what was deleted since it was made"
    )
}

/// Of a store in the folder `dir` that is being opened.
pub fn opening_failure(error: StoreError, dir: &Path) -> Failure {
    let hint = match &error {
        StoreError::Files(FilesError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => Some(
            "name a folder in aral.toml, [memory]: dir = \"…\", one that is there or one that is to be made".to_owned(),
        ),
        error if disk::takes_no_writes(error) => Some(format!(
            "make room on the disk of `{}`, or mount it for writing: a store is opened where it can be written, also to be read; to read \
             what is there before that: {SALVAGE}, with FILE and `state_dir` on another disk",
            dir.display()
        )),
        _other => None,
    };
    // The other errors that are of a file name it.
    let is_unnamed = matches!(error, StoreError::Io { .. } | StoreError::Invalid(_));
    let failure = unopened(error);
    let message = if is_unnamed {
        format!("`{}`: {}", dir.display(), failure.message)
    } else {
        failure.message
    };
    Failure {
        message,
        hint: hint.or(failure.hint),
        ..failure
    }
}

/// Of what is left of a store. Where nothing can be made of that either, a backup is all that there is.
pub(super) fn salvage_failure(error: StoreError) -> Failure {
    let is_damaged = matches!(error, StoreError::Corrupt { .. });
    let failure = unopened(error);
    if is_damaged { failure.with_hint(BACKUP) } else { failure }
}

/// What is wrong while a store is opened is what the configuration says of it: nobody has asked for a record yet.
fn unopened(error: StoreError) -> Failure {
    let is_of_config = matches!(error, StoreError::Invalid(_));
    let is_newer = matches!(error, StoreError::Version { .. });
    let mut failure = store_failure(error);
    if is_newer {
        // The keyring says so, under a sum that is right, and the message has what helps. `memory check` would not open it either.
        failure.hint = None;
    }
    let code = if is_of_config {
        Code::ConfigInvalid
    } else {
        failure.code
    };
    Failure { code, ..failure }
}

/// Of a store.
pub fn store_failure(error: StoreError) -> Failure {
    let failed = |code| Failure::new(code, chain(&error));
    match &error {
        StoreError::Precondition { .. } => failed(Code::RecordConflict),
        StoreError::Quota { .. } | StoreError::Invalid(_) | StoreError::Cursor => failed(Code::InputInvalid),
        StoreError::Corrupt {
            what: StoreError::RECORD | StoreError::NAMESPACE,
        } => failed(Code::Internal).with_hint("keep a copy of the folder as it is; then see which are damaged: `aral memory check`"),
        StoreError::Corrupt {
            what:
                StoreError::DATABASE
                | StoreError::OLDER
                | StoreError::LOST
                | StoreError::SLOTS
                | StoreError::SLOTS_FORMAT
                | StoreError::SLOTS_STRANGE,
        } => failed(Code::Internal).with_hint(salvage_first()),
        StoreError::Corrupt { .. } => failed(Code::Internal).with_hint(BACKUP),
        StoreError::Full { .. } => {
            failed(Code::Unavailable).with_hint("make room on its disk, or lower [memory] free_bytes_min in aral.toml")
        }
        StoreError::NotAStore { .. } => failed(Code::ConfigInvalid)
            .with_hint("name an empty folder in aral.toml, [memory]: dir = \"…\", or one that is not there"),
        StoreError::Held { .. } => failed(Code::Unavailable).with_hint("end that process, or wait for its end"),
        StoreError::Io { .. } if disk::takes_no_writes(&error) => failed(Code::Unavailable).with_hint(
            "make room on the disk of the store, or mount it for writing; a server that has the store open takes writes again after a \
             restart",
        ),
        StoreError::Io { .. } | StoreError::Busy => failed(Code::Unavailable),
        StoreError::Version { .. } => failed(Code::ConfigInvalid).with_hint(
            "if no newer version has ever written to this store, it is damaged: keep a copy of the folder as it is; then see which \
             records are: `aral memory check`",
        ),
        StoreError::WrongKey { service: Some(_), .. } => failed(Code::ConfigInvalid).with_hint(
            "if its engine has moved, let the token use the key where it is now; if not, name the key that the store wants in aral.toml, [memory.master_key]",
        ),
        StoreError::WrongKey { service: None, .. } => failed(Code::ConfigInvalid).with_hint(
            "name the key that the store wants in aral.toml, [memory.master_key]; after `rotate-key` that is the new one",
        ),
        StoreError::Master(_) => failed(Code::ConfigInvalid).with_hint("make one: `aral memory keygen FILE`"),
        StoreError::KeyService(error) => key_service_failure(error),
        StoreError::EpochKey(_) => failed(Code::ConfigInvalid).with_hint(format!(
            "name the engine that has the key in aral.toml, [memory.epoch]; if the key is gone, restore it from a backup of the server; \
             without such a backup nothing opens the store: {BACKUP}"
        )),
        StoreError::NoEpochKey(_) => failed(Code::ConfigInvalid).with_hint(
            "enable a transit engine where aral.toml, [memory.epoch] says, or name another one there; nothing was sealed anew",
        ),
        StoreError::Key(_) => failed(Code::Internal),
        StoreError::Files(error) => Failure {
            hint: error.fix(),
            ..failed(disk::code(error))
        },
    }
}

/// Of a backup.
pub fn backup_failure(error: BackupError) -> Failure {
    let message = chain(&error);
    let failed = |code| Failure::new(code, message);
    match error {
        BackupError::Store(error) => store_failure(error),
        BackupError::Io { .. } | BackupError::Version { .. } => failed(Code::ConfigInvalid),
        BackupError::NotABackup => {
            failed(Code::ConfigInvalid).with_hint("name a file that `aral memory export --out FILE` wrote")
        }
        BackupError::WrongKey { .. } => {
            failed(Code::ConfigInvalid).with_hint("name the private key that it wants: `--key BACKUP.pem`")
        }
        BackupError::Damaged { .. } | BackupError::CutOff { .. } => {
            failed(Code::ConfigInvalid).with_hint("take another copy of the backup, or an older one")
        }
    }
}

/// Of a key service.
pub fn key_service_failure(error: &KeyServiceError) -> Failure {
    let failed = |code| Failure::new(code, chain(error));
    match error {
        KeyServiceError::Unavailable { .. } => failed(Code::Unavailable),
        KeyServiceError::Refused { .. } => failed(Code::ConfigInvalid),
        KeyServiceError::NotFound { mount, key, .. } => failed(Code::ConfigInvalid).with_hint(format!(
            "for a new store, or to rotate to it, make it: `bao write -f {mount}/keys/{key}`; a store that was sealed under a key of \
             this name before opens under that one alone"
        )),
    }
}

/// Of a place of secrets.
pub fn secret_failure(error: &SecretError) -> Failure {
    let code = match error {
        SecretError::NotFound { .. } => Code::RecordUnknown,
        SecretError::Unavailable { .. } => Code::Unavailable,
        SecretError::Refused { .. } => Code::ConfigInvalid,
        SecretError::Size { .. } => Code::InputInvalid,
    };
    Failure::new(code, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_newer_version_is_not_said_to_be_damaged() {
        let newer = || StoreError::Version { found: 2, known: 1 };
        for failure in [
            opening_failure(newer(), Path::new("/data/store")),
            salvage_failure(newer()),
        ] {
            assert_eq!((failure.code, failure.hint), (Code::ConfigInvalid, None));
        }
        // A record may be damaged.
        assert!(store_failure(newer()).hint.is_some());
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_named_with_what_reads_the_store_before_it_does() {
        let io = |kind: io::ErrorKind| StoreError::Io {
            action: "write its records",
            source: Box::new(io::Error::from(kind)),
        };
        let lock = |kind: io::ErrorKind| {
            StoreError::Files(FilesError::Io {
                action: "open",
                path: "/data/store/lock".into(),
                source: kind.into(),
            })
        };
        for error in [
            io(io::ErrorKind::StorageFull),
            io(io::ErrorKind::QuotaExceeded),
            lock(io::ErrorKind::ReadOnlyFilesystem),
        ] {
            let failure = opening_failure(error, Path::new("/data/store"));
            assert_eq!(failure.code, Code::Unavailable, "{failure}");
            // Where the hint is not shown, such as in the answer of a check, it has to stand there.
            assert!(failure.message.contains("`/data/store"), "{failure}");
            let hint = failure.hint.unwrap();
            assert!(
                hint.contains("the disk of `/data/store`") && hint.contains(SALVAGE),
                "{hint}"
            );
        }
        let no_folder = opening_failure(lock(io::ErrorKind::NotADirectory), Path::new("/data/store"));
        assert_eq!(no_folder.code, Code::ConfigInvalid);
        assert!(no_folder.hint.unwrap().contains("[memory]: dir"));
        let forbidden = opening_failure(lock(io::ErrorKind::PermissionDenied), Path::new("/data/store"));
        assert_eq!(forbidden.code, Code::ConfigInvalid);
        assert!(forbidden.hint.unwrap().contains("this is user "));
        let no_service = opening_failure(StoreError::Invalid("no epochs".to_owned()), Path::new("/data/store"));
        assert_eq!(
            (no_service.code, no_service.message.as_str()),
            (Code::ConfigInvalid, "`/data/store`: no epochs")
        );
        let other = opening_failure(io(io::ErrorKind::Other), Path::new("/data/store"));
        assert_eq!((other.code, other.hint), (Code::Unavailable, None));
        // Of a store that is open no salvage is taken.
        let hint = store_failure(io(io::ErrorKind::StorageFull)).hint.unwrap();
        assert!(hint.contains("make room") && !hint.contains("--salvage"), "{hint}");
    }

    #[test]
    fn what_is_whole_of_a_damaged_store_is_to_be_got_out_before_a_backup_is_read() {
        for what in [
            StoreError::DATABASE,
            StoreError::OLDER,
            StoreError::LOST,
            StoreError::SLOTS,
            StoreError::SLOTS_FORMAT,
            StoreError::SLOTS_STRANGE,
        ] {
            let hint = opening_failure(StoreError::Corrupt { what }, Path::new("/data/store"))
                .hint
                .unwrap();
            let salvage = hint.find(SALVAGE).unwrap();
            assert!(salvage < hint.find("backup, read after").unwrap(), "{what}: {hint}");
        }
        let left = salvage_failure(StoreError::Corrupt {
            what: StoreError::SLOTS,
        });
        assert_eq!(left.hint.as_deref(), Some(BACKUP), "not what has just been tried");
        // Without its keys nothing of it can be read.
        let hint = store_failure(StoreError::Corrupt { what: "the keyring" }).hint.unwrap();
        assert!(!hint.contains("--salvage"), "{hint}");
    }

    #[test]
    fn who_can_do_something_about_it_is_told_what() {
        let path = || std::path::PathBuf::from("/store");
        for (error, code, hint) in [
            (
                StoreError::Held {
                    path: path(),
                    holder: "process 7 (`aral`)".to_owned(),
                },
                Code::Unavailable,
                Some("end that process"),
            ),
            (
                StoreError::NotAStore { path: path() },
                Code::ConfigInvalid,
                Some("[memory]: dir = "),
            ),
            (
                StoreError::WrongKey {
                    wanted: "`aa`".to_owned(),
                    given: "`bb`".to_owned(),
                    service: None,
                },
                Code::ConfigInvalid,
                Some("[memory.master_key]"),
            ),
            (
                StoreError::WrongKey {
                    wanted: "`service:one/aa`".to_owned(),
                    given: "service:two/aa".to_owned(),
                    service: Some(Box::new(KeyServiceError::Refused {
                        place: "the service".to_owned(),
                        key: "aa".to_owned(),
                        reason: "permission denied".to_owned(),
                    })),
                },
                Code::ConfigInvalid,
                Some("let the token use the key"),
            ),
            (
                StoreError::Full {
                    free_bytes: 1,
                    needed_bytes: 2,
                },
                Code::Unavailable,
                Some("free_bytes_min"),
            ),
            (
                StoreError::Files(FilesError::Mode {
                    path: path(),
                    mode: 0o755,
                    wanted: "700",
                }),
                Code::ConfigInvalid,
                Some("chmod 700 /store"),
            ),
            (
                StoreError::Precondition {
                    index: 0,
                    version: None,
                },
                Code::RecordConflict,
                None,
            ),
            (
                StoreError::Corrupt {
                    what: StoreError::RECORD,
                },
                Code::Internal,
                Some("memory check"),
            ),
            (
                StoreError::Corrupt {
                    what: StoreError::NAMESPACE,
                },
                Code::Internal,
                Some("memory check"),
            ),
            (
                StoreError::Corrupt {
                    what: StoreError::SLOTS,
                },
                Code::Internal,
                Some(SALVAGE),
            ),
            (
                StoreError::Corrupt { what: "the keyring" },
                Code::Internal,
                Some(BACKUP),
            ),
            (
                StoreError::Corrupt {
                    what: StoreError::OLDER,
                },
                Code::Internal,
                Some("`aral memory export --salvage --to BACKUP.pub.pem --out FILE`"),
            ),
            (
                StoreError::Corrupt { what: StoreError::LOST },
                Code::Internal,
                Some("an older backup, read after that without `--overwrite`"),
            ),
            (
                StoreError::KeyService(KeyServiceError::NotFound {
                    place: "the transit engine `t` at https://vault.example".to_owned(),
                    mount: "t".to_owned(),
                    key: "absent".to_owned(),
                }),
                Code::ConfigInvalid,
                Some("`bao write -f t/keys/absent`"),
            ),
            (
                StoreError::EpochKey(KeyServiceError::NotFound {
                    place: "the transit engine `t` at https://vault.example".to_owned(),
                    mount: "t".to_owned(),
                    key: "aral-epoch-1".to_owned(),
                }),
                Code::ConfigInvalid,
                Some("restore it from a backup of the server"),
            ),
            (
                StoreError::NoEpochKey(KeyServiceError::NotFound {
                    place: "the transit engine `t` at https://vault.example".to_owned(),
                    mount: "t".to_owned(),
                    key: "aral-epoch-2".to_owned(),
                }),
                Code::ConfigInvalid,
                Some("enable a transit engine"),
            ),
            (
                StoreError::Version { found: 2, known: 1 },
                Code::ConfigInvalid,
                Some("if no newer version has ever written to this store"),
            ),
            (StoreError::Cursor, Code::InputInvalid, None),
            (StoreError::Busy, Code::Unavailable, None),
        ] {
            let words = chain(&error);
            let failure = store_failure(error);
            assert_eq!((failure.code, failure.message.as_str()), (code, words.as_str()));
            match hint {
                Some(part) => {
                    let hint = failure.hint.unwrap();
                    assert!(hint.contains(part), "{words}");
                    // A new key of the same name opens nothing.
                    assert!(!(words.contains("epoch") && hint.contains("bao write")), "{hint}");
                }
                None => assert_eq!(failure.hint, None, "{words}"),
            }
        }
    }
}
