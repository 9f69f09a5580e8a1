//! What outlives the host besides compiled code and records: the highest serial of each signer's manifests and of each
//! persona, so that an old document, still valid by its dates but replaced since, cannot be brought back; and what agents
//! have used up, so that a restart does not give it back. Small files, one lock, mode 0600; several processes may share them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aral_capability::registry::Serials;
use aral_contract::failure::chain;
use aral_contract::{Clock, Code, Failure, PersonaId};
use aral_orchestration::budget::Ledger;
use aral_runtime::files;
use cap_std::fs::Dir;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file, and what it is called in messages.
type Kept = (&'static str, &'static str);

const MANIFESTS: Kept = ("serials.json", "the serials of manifests");
const PERSONAS: Kept = ("personas.json", "the serials of personas");
const USED: Kept = ("used.json", "what agents have used up");
const LOCK: &str = "serials.lock";
/// Largest file, in bytes.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// How long another process may hold the lock. Stops one that hangs from hanging all others.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The highest serial of each persona, whoever signed it.
pub(crate) type PersonaSerials = BTreeMap<PersonaId, u64>;

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
        let lock = files::open_lock(&self.folder, LOCK).map_err(|error| unlocked(&chain(&error)))?;
        let begin = clock.elapsed();
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Locked {
                        file: self,
                        _lock: lock,
                    });
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(unlocked(&error.to_string())),
                Err(std::fs::TryLockError::WouldBlock) if clock.elapsed().saturating_sub(begin) < LOCK_WAIT => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(unlocked(&format!(
                        "another process has held `{LOCK}` for {} s",
                        LOCK_WAIT.as_secs()
                    )));
                }
            }
        }
    }
}

impl Locked<'_> {
    /// The serials of manifests.
    pub(crate) fn manifests(&self) -> Result<Serials, Failure> {
        self.read(MANIFESTS)
    }

    pub(crate) fn write_manifests(&self, serials: &Serials) -> Result<(), Failure> {
        self.write(MANIFESTS, serials)
    }

    /// The serials of personas.
    pub(crate) fn personas(&self) -> Result<PersonaSerials, Failure> {
        self.read(PERSONAS)
    }

    pub(crate) fn write_personas(&self, serials: &PersonaSerials) -> Result<(), Failure> {
        self.write(PERSONAS, serials)
    }

    /// What agents have used up.
    pub(crate) fn used(&self) -> Result<Ledger, Failure> {
        self.read(USED)
    }

    pub(crate) fn write_used(&self, used: &Ledger) -> Result<(), Failure> {
        self.write(USED, used)
    }

    /// A damaged file is an error and not an empty one: forgetting is what an attacker would want.
    fn read<T: DeserializeOwned + Default>(&self, (file, what): Kept) -> Result<T, Failure> {
        match files::read_capped(&self.file.folder, file, KEPT_BYTES_MAX) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| broken(what, &format!("`{file}` is damaged: {error}")))
            }
            Err(error) if error.is_not_found() => Ok(T::default()),
            Err(error) => Err(broken(what, &chain(&error))),
        }
    }

    fn write<T: Serialize>(&self, (file, what): Kept, value: &T) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(value).map_err(Failure::internal)?;
        files::write_atomic(&self.file.folder, file, &bytes, 0o600).map_err(|error| broken(what, &chain(&error)))
    }
}

fn unlocked(detail: &str) -> Failure {
    broken("what is kept from run to run", detail)
}

fn broken(what: &str, detail: &str) -> Failure {
    Failure::new(Code::Unavailable, format!("{what} cannot be checked: {detail}"))
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
            let mut serials = locked.manifests().unwrap();
            serials.note(signer, &ids, 7);
            locked.write_manifests(&serials).unwrap();
        }
        let file = SerialFile::open(&state).unwrap();
        let locked = file.lock(&clock).unwrap();
        let serials = locked.manifests().unwrap();
        assert!(serials.check(signer, &ids, 6).is_err() && serials.check(signer, &ids, 7).is_ok());
        files::write_path(&state.join(MANIFESTS.0), b"{", 0o600, files::Replace::Allow).unwrap();
        assert_eq!(locked.manifests().unwrap_err().code, Code::Unavailable);
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
