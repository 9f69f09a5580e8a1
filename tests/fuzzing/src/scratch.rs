//! Keys, a clock that stands, and folders that are gone afterwards, in memory where the system has such a place.

use std::path::Path;
use std::time::Duration;

use aral_contract::Clock;
use aral_contract::document::{Kind, PrivateKey, TrustStore};
use jiff::Timestamp;
use zeroize::Zeroizing;

/// Files that are made a thousand times a second need no disk.
const MEMORY: &str = "/dev/shm";

/// A folder of its own.
pub(crate) fn folder() -> tempfile::TempDir {
    let within = if Path::new(MEMORY).is_dir() {
        MEMORY.into()
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(within).expect("a folder can be made")
}

/// A key that is the same each time.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// Trusts key 1 for everything.
pub(crate) fn trust() -> TrustStore {
    let mut trust = TrustStore::default();
    trust.add(key(1).public(), &[Kind::Manifest, Kind::Persona, Kind::Checkpoint]);
    trust
}

/// When it is.
pub(crate) fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

/// The time does not pass.
#[derive(Debug)]
pub(crate) struct Stands;

impl Clock for Stands {
    fn now(&self) -> Timestamp {
        now()
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// The files of a folder and of those in it: their names from there, and what they hold.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it lies there");
                let bytes = std::fs::read(&path).expect("a file of ours");
                found.push((name.to_str().expect("UTF-8").to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}

/// Puts such files into a folder.
pub(crate) fn put<'a>(folder: &Path, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    let private = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a path of ours");
    };
    for (name, bytes) in files {
        let path = folder.join(name);
        let parent = path.parent().expect("a folder");
        std::fs::create_dir_all(parent).expect("a folder");
        private(parent, 0o700);
        std::fs::write(&path, bytes).expect("a file");
        private(&path, 0o600);
    }
}
