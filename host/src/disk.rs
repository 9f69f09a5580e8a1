//! Whether a disk is what keeps something from being done, whatever came of that on the way up. It looks at no disk.

use std::error::Error;
use std::io;

use aral_contract::Code;
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
