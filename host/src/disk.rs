//! What to say of a file that cannot be used, and whether a disk is what keeps something from being done, whatever came of that on the
//! way up. It looks at no disk.

use std::error::Error;
use std::io;

use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::files::FilesError;

/// What to do about one that takes no writes.
pub const MAKE_ROOM: &str = "make room on the disk of this file, or mount it for writing";

/// It has no room.
pub fn is_full(error: &(dyn Error + 'static)) -> bool {
    matches!(
        said(error),
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    )
}

/// It takes no writes: it has no room, or is mounted to be read alone.
pub fn takes_no_writes(error: &(dyn Error + 'static)) -> bool {
    is_full(error) || said(error) == Some(io::ErrorKind::ReadOnlyFilesystem)
}

/// Of a file that cannot be used: whether its disk is what is wrong, or what the configuration says of it.
pub fn code(error: &FilesError) -> Code {
    if error.is_of_disk() {
        Code::Unavailable
    } else {
        Code::ConfigInvalid
    }
}

/// Of a file that cannot be used: the cause, and the step that makes it one that can.
pub fn failure(error: FilesError) -> Failure {
    let hint = match &error {
        FilesError::Exists { .. } => Some("choose another name, or remove what is there first".to_owned()),
        error if takes_no_writes(error) => Some(MAKE_ROOM.to_owned()),
        error => error.fix(),
    };
    Failure {
        hint,
        ..Failure::new(code(&error), chain(&error))
    }
}

/// What the system said.
fn said(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_told_of_with_the_step_that_mends_it() {
        let mode = FilesError::Mode {
            path: "/state".into(),
            mode: 0o755,
            wanted: "700",
        };
        let io = |kind: io::ErrorKind| FilesError::Io {
            action: "write",
            path: "/state".into(),
            source: kind.into(),
        };
        for (error, code, hint) in [
            (mode, Code::ConfigInvalid, Some("chmod 700 /state")),
            (io(io::ErrorKind::StorageFull), Code::Unavailable, Some(MAKE_ROOM)),
            (io(io::ErrorKind::NotADirectory), Code::ConfigInvalid, None),
        ] {
            let failure = failure(error);
            assert_eq!((failure.code, failure.hint.as_deref()), (code, hint), "{failure}");
        }
        let denied = failure(io(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.code, Code::ConfigInvalid);
        assert!(denied.hint.unwrap().contains("this is user "));
    }

    #[test]
    fn what_the_system_said_is_found_below_other_errors() {
        for (kind, full, no_writes) in [
            (io::ErrorKind::StorageFull, true, true),
            (io::ErrorKind::QuotaExceeded, true, true),
            (io::ErrorKind::ReadOnlyFilesystem, false, true),
            (io::ErrorKind::PermissionDenied, false, false),
        ] {
            let error = aral_memory::StoreError::Io {
                action: "write its records",
                source: Box::new(io::Error::from(kind)),
            };
            assert_eq!((is_full(&error), takes_no_writes(&error)), (full, no_writes), "{kind}");
        }
        let other = aral_memory::StoreError::Busy;
        assert!(!is_full(&other) && !takes_no_writes(&other));
    }
}
