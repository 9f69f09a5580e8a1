//! What outlives the host besides compiled code and records: the highest serial of each signer's manifests and of each
//! persona, so that an old document, still valid by its dates but replaced since, cannot be brought back; and what agents
//! have used up, so that a restart does not give it back. Small files, mode 0600; several processes may share them. Serials have one
//! lock and what was used another one, so that it is kept also while whoever has that of the serials waits for files that it admits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aral_capability::registry::Serials;
use aral_contract::failure::chain;
use aral_contract::{Clock, Code, Failure, PersonaId};
use aral_orchestration::budget::Ledger;
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk;

/// A file.
#[derive(Clone, Copy)]
struct Kept {
    file: &'static str,
    /// What it is called in messages.
    what: &'static str,
    /// What comes of it where the file is not there.
    without: &'static str,
}

const MANIFESTS: Kept = Kept {
    file: "serials.json",
    what: "the serials of manifests",
    without: "manifests that were replaced are taken again",
};
const PERSONAS: Kept = Kept {
    file: "personas.json",
    what: "the serials of personas",
    without: "issues of personas that were replaced are taken again",
};
const USED: Kept = Kept {
    file: "used.json",
    what: "what agents have used up",
    without: "nothing counts as used up",
};
const LOCK: &str = "serials.lock";
/// Whoever needs both has [`LOCK`] before.
const USED_LOCK: &str = "used.lock";
/// Largest file, in bytes. A larger one is not written, either: nobody could open a session until somebody removed it.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// How long another process may hold the lock. Stops one that hangs from hanging all others.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The highest serial of each persona, whoever signed it.
pub(crate) type PersonaSerials = BTreeMap<PersonaId, u64>;

#[derive(Debug)]
pub(crate) struct SerialFile {
    folder: Dir,
    /// For messages.
    path: PathBuf,
    /// So many writes fail when the new file is there already, as where the folder cannot be synced.
    #[cfg(test)]
    pub(crate) unsynced: std::sync::atomic::AtomicUsize,
}

/// The lock of the serials, released when dropped or when the process ends in whatever way.
pub(crate) struct Locked<'a> {
    file: &'a SerialFile,
    _lock: std::fs::File,
}

/// The lock of what agents have used up, released in the same way. Nobody has it while it waits for a file outside the folder,
/// such as the one of the audit log.
pub(crate) struct LockedUsed<'a> {
    file: &'a SerialFile,
    _lock: std::fs::File,
}

impl SerialFile {
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Failure> {
        let folder = files::create_private_dir(state_dir).map_err(disk::failure)?;
        Ok(Self {
            folder,
            path: state_dir.to_owned(),
            #[cfg(test)]
            unsynced: Default::default(),
        })
    }

    /// None: it is not there.
    fn bytes(&self, file: &str) -> Result<Option<Vec<u8>>, FilesError> {
        match files::read_capped(&self.folder, file, KEPT_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.below(&self.path)),
        }
    }

    /// What is kept, read without a lock: each file is written as a whole, under its name at once. What agents have used up is read and left
    /// out.
    pub(crate) fn look(&self) -> Result<(Serials, PersonaSerials), Failure> {
        let _fits: Ledger = self.read(USED)?;
        Ok((self.read(MANIFESTS)?, self.read(PERSONAS)?))
    }

    fn put(&self, file: &str, bytes: &[u8]) -> Result<(), FilesError> {
        files::write_atomic(&self.folder, file, bytes, 0o600).map_err(|error| error.below(&self.path))?;
        #[cfg(test)]
        if self.unsynced.load(std::sync::atomic::Ordering::Acquire) > 0 {
            self.unsynced.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
            return Err(FilesError::Io {
                action: "sync",
                path: ".".into(),
                source: std::io::Error::other("a test says so"),
            });
        }
        Ok(())
    }

    /// After a write that failed: it did all the same where the new file has its name and the folder could not be synced. Whoever was
    /// told that it failed goes by what was there before.
    fn put_back(&self, file: &str, written: &[u8], before: Option<&[u8]>) {
        let is = |expected: Option<&[u8]>| self.bytes(file).is_ok_and(|now| now.as_deref() == expected);
        if !is(Some(written)) {
            return;
        }
        let undone = match before {
            Some(before) => self.put(file, before).map_err(|error| chain(&error)),
            None => self.folder.remove_file(file).map_err(|error| error.to_string()),
        };
        // It may be there and not synced, either.
        if !is(before) {
            let error = undone.err().unwrap_or_default();
            tracing::error!(file, %error, "what is kept from run to run was written although that failed, and cannot be put back");
        }
    }

    /// Waits for other processes, for a while.
    pub(crate) fn lock(&self, clock: &dyn Clock) -> Result<Locked<'_>, Failure> {
        let lock = self.hold(LOCK, clock)?;
        Ok(Locked {
            file: self,
            _lock: lock,
        })
    }

    /// The same for what agents have used up.
    pub(crate) fn lock_used(&self, clock: &dyn Clock) -> Result<LockedUsed<'_>, Failure> {
        let lock = self.hold(USED_LOCK, clock)?;
        Ok(LockedUsed {
            file: self,
            _lock: lock,
        })
    }

    fn hold(&self, name: &str, clock: &dyn Clock) -> Result<std::fs::File, Failure> {
        let lock = files::open_lock(&self.folder, name);
        let lock = lock.map_err(|error| unlocked(&chain(&error.below(&self.path))))?;
        let begin = clock.elapsed();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(std::fs::TryLockError::Error(error)) => return Err(unlocked(&error.to_string())),
                Err(std::fs::TryLockError::WouldBlock) if clock.elapsed().saturating_sub(begin) < LOCK_WAIT => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(unlocked(&format!(
                        "another process has held `{name}` for {} s",
                        LOCK_WAIT.as_secs()
                    )));
                }
            }
        }
    }

    /// A damaged file is an error and not an empty one: forgetting is what an attacker would want.
    fn read<T: DeserializeOwned + Default>(&self, kept: Kept) -> Result<T, Failure> {
        match self.bytes(kept.file) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| self.damaged(kept, &error.to_string())),
            Ok(None) => Ok(T::default()),
            Err(FilesError::TooLarge { .. }) => {
                Err(self.damaged(kept, &format!("it has more than {KEPT_BYTES_MAX} bytes")))
            }
            Err(error) => Err(broken(kept.what, &chain(&error))),
        }
    }

    /// Waiting does not help.
    fn damaged(&self, kept: Kept, why: &str) -> Failure {
        let path = self.path.join(kept.file);
        let failure = broken(kept.what, &format!("`{}` is damaged: {why}", path.display()));
        Failure {
            code: Code::Internal,
            ..failure
        }
        .with_hint(format!(
            "put it back from a copy; without one move it away, and {}",
            kept.without
        ))
    }

    /// An error leaves what was there, as far as the disk allows it.
    fn write<T: Serialize>(&self, Kept { file, what, .. }: Kept, value: &T) -> Result<(), Failure> {
        let failed = |error: FilesError| broken(what, &chain(&error));
        let bytes = serde_json::to_vec(value).map_err(Failure::internal)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > KEPT_BYTES_MAX {
            return Err(failed(FilesError::TooLarge {
                path: self.path.join(file),
                bytes_max: KEPT_BYTES_MAX,
            }));
        }
        let before = self.bytes(file).map_err(failed)?;
        let written = self.put(file, &bytes);
        if written.is_err() {
            self.put_back(file, &bytes, before.as_deref());
        }
        written.map_err(failed)
    }
}

impl<'a> Locked<'a> {
    /// The serials of manifests.
    pub(crate) fn manifests(&self) -> Result<Serials, Failure> {
        self.file.read(MANIFESTS)
    }

    pub(crate) fn write_manifests(&self, serials: &Serials) -> Result<(), Failure> {
        self.file.write(MANIFESTS, serials)
    }

    /// The serials of personas.
    pub(crate) fn personas(&self) -> Result<PersonaSerials, Failure> {
        self.file.read(PERSONAS)
    }

    pub(crate) fn write_personas(&self, serials: &PersonaSerials) -> Result<(), Failure> {
        self.file.write(PERSONAS, serials)
    }

    /// What agents have used up, locked as well.
    pub(crate) fn lock_used(&self, clock: &dyn Clock) -> Result<LockedUsed<'a>, Failure> {
        self.file.lock_used(clock)
    }
}

impl LockedUsed<'_> {
    /// What agents have used up.
    pub(crate) fn used(&self) -> Result<Ledger, Failure> {
        self.file.read(USED)
    }

    pub(crate) fn write_used(&self, used: &Ledger) -> Result<(), Failure> {
        self.file.write(USED, used)
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
    use std::sync::atomic::Ordering;

    use aral_contract::KeyId;
    use aral_orchestration::budget::Spent;
    use aral_runtime::SystemClock;

    use super::*;
    use crate::testing::Fast;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test opens a folder to others")]
    fn a_folder_that_others_may_enter_is_refused_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let refused = SerialFile::open(folder.path()).err().unwrap();
        assert_eq!(refused.hint, Some(format!("chmod 700 {}", folder.path().display())));
    }

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
        let path = state.join(MANIFESTS.file);
        files::write_path(&path, b"{", 0o600, files::Replace::Allow).unwrap();
        let damaged = locked.manifests().unwrap_err();
        assert_eq!(damaged.code, Code::Internal, "waiting does not help");
        let told = format!("`{}` is damaged", path.display());
        assert!(damaged.message.contains(&told), "{damaged}");
        let hint = damaged.hint.unwrap();
        assert!(
            hint.contains("from a copy") && hint.ends_with(MANIFESTS.without),
            "{hint}"
        );
    }

    #[expect(clippy::disallowed_methods, reason = "a test lays out folders")]
    #[test]
    fn a_file_that_cannot_be_opened_is_told_with_its_whole_path() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let file = SerialFile::open(&state).unwrap();
        for name in [LOCK, PERSONAS.file] {
            std::fs::create_dir(state.join(name)).unwrap();
            let refused = match file.lock(&SystemClock::new()) {
                Ok(locked) => locked.personas().map(drop),
                Err(refused) => Err(refused),
            };
            let message = refused.unwrap_err().message;
            let whole = format!("`{}`", state.join(name).display());
            assert!(message.contains(&whole), "{message}");
            std::fs::remove_dir(state.join(name)).unwrap();
        }
    }

    #[test]
    fn a_write_that_fails_once_the_file_is_there_leaves_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = SerialFile::open(&folder.path().join("state")).unwrap();
        let locked = file.lock(&SystemClock::new()).unwrap();
        let of = |serial: u64| PersonaSerials::from([("a".parse().unwrap(), serial)]);
        for (before, serial) in [(PersonaSerials::new(), 1), (of(1), 2)] {
            // Also what puts it back cannot be synced.
            file.unsynced.store(2, Ordering::Release);
            let failure = locked.write_personas(&of(serial)).unwrap_err();
            assert!(failure.message.contains("a test says so"), "{failure}");
            assert_eq!(locked.personas().unwrap(), before);
            file.unsynced.store(0, Ordering::Release);
            locked.write_personas(&of(serial)).unwrap();
            assert_eq!(locked.personas().unwrap(), of(serial));
        }
    }

    #[test]
    fn nothing_is_written_that_would_be_too_large_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = SerialFile::open(&folder.path().join("state")).unwrap();
        let locked = file.lock_used(&SystemClock::new()).unwrap();
        let amount = (i64::MAX, u64::MAX);
        let of = |count: usize| {
            let spent = Spent {
                requests: vec![amount.into(); count],
                cost: Vec::new(),
            };
            Ledger {
                personas: BTreeMap::from([("a".parse().unwrap(), spent)]),
            }
        };
        let before = of(1);
        locked.write_used(&before).unwrap();
        // With the comma behind it.
        let amount_bytes = serde_json::to_vec(&amount).unwrap().len() + 1;
        let too_many = usize::try_from(KEPT_BYTES_MAX).unwrap() / amount_bytes + 1;
        let failure = locked.write_used(&of(too_many)).unwrap_err();
        assert!(
            failure
                .message
                .contains("/state/used.json` has more than 67108864 bytes"),
            "{failure}"
        );
        assert_eq!(locked.used().unwrap(), before);
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
        let folder = tempfile::tempdir().unwrap();
        let file = SerialFile::open(&folder.path().join("state")).unwrap();
        let _held = file.lock(&Fast::default()).unwrap();
        let failure = file.lock(&Fast::default()).map(|_| ()).unwrap_err();
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("has held `serials.lock` for 5 s"), "{failure}");
    }
}
