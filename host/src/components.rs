//! Where the components of a manifest file are: `components/<digest>.wasm` beside it, or `<digest>.wasm`. What is found
//! there is believed only after its digest was compared, which the registry does.

use std::path::Path;

use aral_capability::Entry;
use aral_contract::limits::{COMPONENT_BYTES_MAX, DOCUMENT_BYTES_MAX};
use aral_contract::{Code, Failure};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;

use crate::disk;

/// Hands out the component of a manifest entry. What it returns is believed only if its SHA-256 is the entry's.
pub type Components<'a> = &'a dyn Fn(&Entry) -> Result<Vec<u8>, Failure>;

/// The folder of a manifest file, opened once.
pub(crate) struct Beside(Dir);

impl Beside {
    pub(crate) fn of(manifest: &Path) -> Result<Self, Failure> {
        let (folder, _name) = files::open_parent(manifest).map_err(disk::failure)?;
        Ok(Self(folder))
    }

    pub(crate) fn component(&self, entry: &Entry) -> Result<Vec<u8>, Failure> {
        let name = format!("{}.wasm", entry.component);
        let bytes_max = u64::try_from(COMPONENT_BYTES_MAX).unwrap_or(u64::MAX);
        let read = |name: &str| files::read_capped(&self.0, name, bytes_max);
        let found = match read(&format!("components/{name}")) {
            Err(error) if error.is_not_found() => read(&name),
            other => other,
        };
        found.map_err(|error| match error {
            FilesError::TooLarge { .. } => Failure::new(Code::ComponentTooLarge, error.to_string()),
            error if error.is_not_found() => {
                let message = format!("the component of `{}` {} is not there", entry.id, entry.version);
                Failure::new(Code::ConfigInvalid, message)
                    .with_hint(format!("put it beside the manifest: components/{name}"))
            }
            error => disk::failure(error),
        })
    }
}

/// What is wrong with what this table of the configuration names.
pub(crate) fn in_table(table: &str, failure: Failure) -> Failure {
    Failure {
        message: format!("[{table}] {}", failure.message),
        ..failure
    }
}

pub(crate) fn read_document(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes_max = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX);
    files::read_path(path, bytes_max).map_err(disk::failure)
}
