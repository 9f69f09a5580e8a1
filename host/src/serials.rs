//! Remembers the highest manifest serial of each signer across runs and processes, so that an old manifest, still valid
//! by its dates but replaced since, cannot be brought back. One file, one lock, mode 0600.

use std::path::Path;
use std::time::Duration;

use aral_capability::registry::Serials;
use aral_contract::{Clock, Code, Failure};
use aral_runtime::files;
use cap_std::fs::Dir;

use crate::text;

const FILE: &str = "serials.json";
const LOCK: &str = "serials.lock";
/// Largest file, in bytes.
const SERIALS_BYTES_MAX: u64 = 1 << 20;
/// How long another process may hold the lock. Stops one that hangs from hanging all others.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct SerialFile {
    folder: Dir,
}

/// The lock, released when dropped or when the process ends in whatever way.
pub(crate) struct Locked<'a> {
    file: &'a SerialFile,
    _lock: std::fs::File,
}

impl SerialFile {
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Failure> {
        let folder = files::create_private_dir(state_dir).map_err(|error| crate::components::unreadable(&error))?;
        Ok(Self { folder })
    }

    /// Waits for other processes, for a while.
    pub(crate) fn lock(&self, clock: &dyn Clock) -> Result<Locked<'_>, Failure> {
        let lock = files::open_lock(&self.folder, LOCK).map_err(|error| broken(text::chain(&error)))?;
        let begin = clock.elapsed();
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Locked {
                        file: self,
                        _lock: lock,
                    });
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(broken(error.to_string())),
                Err(std::fs::TryLockError::WouldBlock) if clock.elapsed().saturating_sub(begin) < LOCK_WAIT => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(broken(format!(
                        "another process has held `{LOCK}` for {} s",
                        LOCK_WAIT.as_secs()
                    )));
                }
            }
        }
    }
}

impl Locked<'_> {
    /// A damaged file is an error and not an empty one: forgetting is what an attacker would want.
    pub(crate) fn read(&self) -> Result<Serials, Failure> {
        match files::read_capped(&self.file.folder, FILE, SERIALS_BYTES_MAX) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| broken(format!("`{FILE}` is damaged: {error}")))
            }
            Err(error) if error.is_not_found() => Ok(Serials::default()),
            Err(error) => Err(broken(text::chain(&error))),
        }
    }

    pub(crate) fn write(&self, serials: &Serials) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(serials).map_err(Failure::internal)?;
        files::write_atomic(&self.file.folder, FILE, &bytes, 0o600).map_err(|error| broken(text::chain(&error)))
    }
}

fn broken(detail: String) -> Failure {
    Failure::new(
        Code::Unavailable,
        format!("the serials of manifests cannot be checked: {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use aral_contract::KeyId;
    use aral_runtime::SystemClock;

    use super::*;

    #[test]
    fn what_is_noted_is_read_by_the_next_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let signer = Some(KeyId::from_bytes([1; 8]));
        let ids: [aral_contract::CapabilityId; 1] = ["probe".parse().unwrap()];
        let clock = SystemClock::new();
        {
            let file = SerialFile::open(&state).unwrap();
            let locked = file.lock(&clock).unwrap();
            let mut serials = locked.read().unwrap();
            serials.note(signer, &ids, 7);
            locked.write(&serials).unwrap();
        }
        let file = SerialFile::open(&state).unwrap();
        let locked = file.lock(&clock).unwrap();
        let serials = locked.read().unwrap();
        assert!(serials.check(signer, &ids, 6).is_err() && serials.check(signer, &ids, 7).is_ok());
        files::write_path(&state.join(FILE), b"{", 0o600, files::Replace::Allow).unwrap();
        assert_eq!(locked.read().unwrap_err().code, Code::Unavailable);
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = SerialFile::open(&folder.path().join("state")).unwrap();
        let clock = SystemClock::new();
        let held = file.lock(&clock).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| file.lock(&clock).map(|_| ()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            drop(held);
            assert!(waiting.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_lock_that_is_never_released_is_an_error() {
        /// A second passes whenever somebody asks.
        #[derive(Debug, Default)]
        struct Fast(AtomicU64);
        impl Clock for Fast {
            fn now(&self) -> jiff::Timestamp {
                jiff::Timestamp::UNIX_EPOCH
            }
            fn elapsed(&self) -> Duration {
                Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = SerialFile::open(&folder.path().join("state")).unwrap();
        let _held = file.lock(&Fast::default()).unwrap();
        let failure = file.lock(&Fast::default()).map(|_| ()).unwrap_err();
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("has held `serials.lock` for 5 s"), "{failure}");
    }
}
