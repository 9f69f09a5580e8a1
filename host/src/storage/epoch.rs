//! When an epoch is over. The store says which epoch keys it is sealed under, and a file beside it since when: an epoch
//! goes on while no process has the store open. It knows no key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aral_contract::Clock;
use aral_memory::StoreError;
use aral_runtime::files::{self, FilesError};
use jiff::{SignedDuration, Timestamp};

/// In the folder of the store: `NAME TIME`.
const FILE: &str = "epoch";
const FILE_BYTES_MAX: u64 = 4096;

/// Since when which epoch key is used.
#[derive(Debug)]
pub(crate) struct EpochAge {
    dir: PathBuf,
    length: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl EpochAge {
    pub(crate) fn new(dir: &Path, hours: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: dir.to_owned(),
            length: SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3600)),
            clock,
        }
    }

    /// Whether the time of the epoch whose key has this name is over. One that was not known begins now.
    pub(crate) fn is_over(&self, name: &str) -> Result<bool, StoreError> {
        let dir = files::open_root(&self.dir)?;
        let now = self.clock.now();
        let known = match files::read_capped(&dir, FILE, FILE_BYTES_MAX) {
            Ok(bytes) => began(&String::from_utf8_lossy(&bytes), name),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        // A beginning in the future is one that a wrong clock wrote, or somebody who wants no end.
        if let Some(began) = known.filter(|began| *began <= now) {
            return Ok(now.duration_since(began) >= self.length);
        }
        let write: Result<(), FilesError> = files::write_atomic(&dir, FILE, format!("{name} {now}").as_bytes(), 0o600);
        write?;
        Ok(false)
    }
}

fn began(text: &str, name: &str) -> Option<Timestamp> {
    let (known, at) = text.rsplit_once(' ')?;
    if known == name { at.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Calendar(Mutex<Timestamp>);

    impl Clock for Calendar {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn an_epoch_is_as_long_as_was_asked_for_whoever_counts() {
        let folder = tempfile::tempdir().unwrap();
        let calendar = Arc::new(Calendar(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let age = |hours| EpochAge::new(folder.path(), hours, Arc::clone(&calendar) as _);
        let go_on = |hours| *calendar.0.lock().unwrap() += SignedDuration::from_hours(hours);
        assert!(!age(3).is_over("first").unwrap());
        go_on(2);
        // As by another process, which begins no epoch of its own.
        assert!(!age(3).is_over("first").unwrap());
        go_on(1);
        assert!(age(3).is_over("first").unwrap());
        assert!(
            !age(4).is_over("first").unwrap(),
            "the length is that of the configuration"
        );
        assert!(!age(3).is_over("second").unwrap(), "another key is another epoch");
        go_on(3);
        assert!(age(3).is_over("second").unwrap());
    }

    #[test]
    fn what_cannot_be_a_beginning_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let calendar = Arc::new(Calendar(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let age = EpochAge::new(folder.path(), 1, Arc::clone(&calendar) as _);
        let dir = files::open_root(folder.path()).unwrap();
        for text in [
            "",
            "name",
            "name never",
            "name 2027-01-01T00:00:00Z",
            "other 2020-01-01T00:00:00Z",
        ] {
            files::write_atomic(&dir, FILE, text.as_bytes(), 0o600).unwrap();
            assert!(!age.is_over("name").unwrap(), "{text}");
            let written = files::read_capped(&dir, FILE, 100).unwrap();
            assert_eq!(written, b"name 2026-01-01T00:00:00Z", "{text}");
        }
    }
}
