//! When an epoch is over. The store says which epoch keys it is sealed under, and a file beside it since when: an epoch
//! goes on while no process has the store open. It knows no key.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What was seen last. Whoever can write the folder, and has no key, must not keep an epoch from ending.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    name: String,
    began: Timestamp,
    /// Whether it is on record that the file said something later, or nothing any more.
    is_told: bool,
}

impl EpochAge {
    pub(crate) fn new(dir: &Path, hours: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: dir.to_owned(),
            length: SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3600)),
            clock,
            seen: Mutex::default(),
        }
    }

    /// Whether the time of the epoch whose key has this name is over. One that was not known begins now. `moved` is told, once
    /// of each, that the file has lost a beginning that this process has seen.
    pub(crate) fn is_over(&self, name: &str, moved: &dyn Fn()) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A beginning in the future is one that a wrong clock wrote, or somebody who wants no end.
        let own = seen.clone().filter(|own| own.name == name && own.began <= now);
        let dir = files::open_root(&self.dir)?;
        let written = match files::read_capped(&dir, FILE, FILE_BYTES_MAX) {
            Ok(bytes) => began(&String::from_utf8_lossy(&bytes), name).filter(|began| *began <= now),
            Err(FilesError::TooLarge { .. }) => None,
            Err(error) if error.is_not_found() => None,
            // That it cannot be read now is nobody's doing: what was seen of it holds.
            Err(error) => match &own {
                Some(own) => Some(own.began),
                None => return Err(error.into()),
            },
        };
        let is_moved = own
            .as_ref()
            .is_some_and(|own| written.is_none_or(|written| written > own.began));
        let was_told = own.as_ref().is_some_and(|own| own.is_told);
        if is_moved && !was_told {
            moved();
        }
        let began = own.map(|own| own.began).into_iter().chain(written).min().unwrap_or(now);
        *seen = Some(Seen {
            name: name.to_owned(),
            began,
            is_told: was_told || is_moved,
        });
        if now.duration_since(began) >= self.length {
            return Ok(true);
        }
        if written != Some(began) {
            let text = format!("{name} {began}");
            let write: Result<(), FilesError> = files::write_atomic(&dir, FILE, text.as_bytes(), 0o600);
            write?;
        }
        Ok(false)
    }
}

fn began(text: &str, name: &str) -> Option<Timestamp> {
    let (known, at) = text.rsplit_once(' ')?;
    if known == name { at.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aral_contract::testing::ManualClock;

    use super::*;

    /// An epoch of three hours that is looked at, and how often it was told that its beginning was lost.
    struct Looked {
        _folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        age: EpochAge,
        dir: cap_std::fs::Dir,
        told: AtomicUsize,
    }

    impl Looked {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new());
            Self {
                age: EpochAge::new(folder.path(), 3, Arc::clone(&clock) as _),
                dir: files::open_root(folder.path()).unwrap(),
                told: AtomicUsize::new(0),
                clock,
                _folder: folder,
            }
        }

        fn look(&self) -> bool {
            let moved = || {
                self.told.fetch_add(1, Ordering::Relaxed);
            };
            self.age.is_over("name", &moved).unwrap()
        }

        /// By the time of day alone: an epoch goes on while no process counts.
        fn go_on(&self, hours: i64) {
            self.clock.leap(SignedDuration::from_hours(hours));
        }
    }

    #[test]
    fn an_epoch_is_as_long_as_was_asked_for_whoever_counts() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let age = |hours| EpochAge::new(folder.path(), hours, Arc::clone(&clock) as _);
        // The time that has passed begins anew with each process.
        let go_on = |hours| clock.leap(SignedDuration::from_hours(hours));
        assert!(!age(3).is_over("first", &|| ()).unwrap());
        go_on(2);
        // As by another process, which begins no epoch of its own.
        assert!(!age(3).is_over("first", &|| ()).unwrap());
        go_on(1);
        assert!(age(3).is_over("first", &|| ()).unwrap());
        assert!(
            !age(4).is_over("first", &|| ()).unwrap(),
            "the length is that of the configuration"
        );
        assert!(
            !age(3).is_over("second", &|| ()).unwrap(),
            "another key is another epoch"
        );
        go_on(3);
        assert!(age(3).is_over("second", &|| ()).unwrap());
    }

    #[test]
    fn what_cannot_be_a_beginning_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let age = EpochAge::new(folder.path(), 1, Arc::new(ManualClock::new()));
        let dir = files::open_root(folder.path()).unwrap();
        for text in [
            "",
            "name",
            "name never",
            "name 2027-01-01T00:00:00Z",
            "other 2020-01-01T00:00:00Z",
        ] {
            files::write_atomic(&dir, FILE, text.as_bytes(), 0o600).unwrap();
            assert!(!age.is_over("name", &|| ()).unwrap(), "{text}");
            let written = files::read_capped(&dir, FILE, 100).unwrap();
            assert_eq!(written, b"name 2026-01-01T00:00:00Z", "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_for_once_is_nobodys_doing() {
        let epoch = Looked::new();
        let dir = &epoch.dir;
        assert!(!epoch.look());
        let written = files::read_capped(dir, FILE, 100).unwrap();
        epoch.go_on(1);
        dir.remove_file(FILE).unwrap();
        dir.create_dir(FILE).unwrap();
        assert!(!epoch.look());
        assert_eq!(epoch.told.load(Ordering::Relaxed), 0);
        dir.remove_dir(FILE).unwrap();
        assert!(!epoch.look());
        assert_eq!(epoch.told.load(Ordering::Relaxed), 1, "now it is gone");
        assert_eq!(files::read_capped(dir, FILE, 100).unwrap(), written);
        files::write_atomic(dir, FILE, &[b'x'; 5000], 0o600).unwrap();
        assert!(!epoch.look(), "nor is that a beginning");
        assert_eq!(files::read_capped(dir, FILE, 100).unwrap(), written);
        epoch.go_on(2);
        dir.remove_file(FILE).unwrap();
        dir.create_dir(FILE).unwrap();
        assert!(epoch.look(), "it ends all the same");
    }

    #[test]
    fn who_can_write_the_file_alone_keeps_no_epoch_alive_and_is_on_record() {
        let epoch = Looked::new();
        let dir = &epoch.dir;
        assert!(!epoch.look());
        for hour in 1..3 {
            epoch.go_on(1);
            if hour == 1 {
                dir.remove_file(FILE).unwrap();
            } else {
                let now = epoch.clock.now();
                files::write_atomic(dir, FILE, format!("name {now}").as_bytes(), 0o600).unwrap();
            }
            assert!(!epoch.look());
            let written = files::read_capped(dir, FILE, 100).unwrap();
            assert_eq!(
                written, b"name 2026-01-01T00:00:00Z",
                "the next process is to know it too"
            );
        }
        assert_eq!(epoch.told.load(Ordering::Relaxed), 1);
        epoch.go_on(1);
        dir.remove_file(FILE).unwrap();
        assert!(epoch.look());
        assert!(!epoch.age.is_over("next", &|| panic!("it was not known")).unwrap());
    }
}
