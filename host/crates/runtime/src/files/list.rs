//! What is in a folder. It opens none.

use std::io;
use std::path::Path;
use std::time::Duration;

use cap_std::fs::{Dir, Metadata};

use super::{FilesError, authority, during};

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Since it was last written.
    pub age: Duration,
}

/// What was found in a folder.
#[derive(Debug)]
pub struct Listing {
    /// Its regular files.
    pub files: Vec<Listed>,
    /// Everything in it was looked at.
    pub is_whole: bool,
}

/// The regular files among the first `entries_max` entries of a folder. Names that are not UTF-8 are left out. An entry that the system
/// does not look at is an error: whoever was not told of it would take it for gone.
pub fn list(dir: &Dir, entries_max: usize) -> Result<Listing, FilesError> {
    let here = Path::new(".");
    let now = cap_std::time::SystemClock::new(authority()).now();
    let mut files = Vec::new();
    let mut entries = dir.entries().map_err(during("list", here))?;
    for entry in entries.by_ref().take(entries_max) {
        let entry = entry.map_err(during("list", here))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = unless_removed(entry.metadata()).map_err(during("look at", Path::new(&name)))?;
        if let Some(metadata) = metadata.filter(Metadata::is_file) {
            let age = metadata
                .modified()
                .ok()
                .and_then(|written| now.duration_since(written).ok())
                .unwrap_or_default();
            files.push(Listed {
                name,
                bytes: metadata.len(),
                age,
            });
        }
    }
    Ok(Listing {
        files,
        is_whole: entries.next().is_none(),
    })
}

/// What is known of an entry; none: another process has removed it meanwhile. What the system does not look at is there all the same.
pub(super) fn unless_removed<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        looked => looked.map(Some),
    }
}
