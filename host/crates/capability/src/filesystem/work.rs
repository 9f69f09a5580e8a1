//! How much is done with files, and open, at once: each thing that may wait for a disk takes a thread that may block, and each
//! file or folder that is open a descriptor, of which a call, a persona and all guests together have only so many.

use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::{Code, Failure, PersonaId};
use aral_runtime::process::OPEN_FILES_MAX_DEFAULT;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use super::held::Held;
use super::writing::Unfinished;
use crate::places::{Place, Places};

/// Things that all guests together do with files at once: a quarter of the threads that tokio has by itself for what may block.
/// Stops mounts that hang from taking all of them, however many calls there are: the audit log, the store and the administration
/// want them too.
pub(super) const FILE_WORK_MAX: usize = 128;
/// The guests of one persona may do one in so many of them. Stops those of one from keeping all others from files through a mount
/// that hangs.
pub(super) const FILE_WORK_SHARE: usize = 4;
/// Things that one call does with files at once. Stops a call from holding all threads of the host that may block, which a
/// slow disk or mount does not give back: files of other calls, the audit log and the store want them too.
pub(super) const FILE_WORK_PER_CALL_MAX: usize = 8;
/// Files and folders that all guests together have open take one in so many descriptors of the process. Stops many calls, each with
/// as many as it may have, from using up those of the host: connections, the audit log and programs want them too.
const OPEN_FILES_PART: u64 = 4;
/// The guests of one persona may have one in so many of them. Stops those of one from keeping all others from files.
const OPEN_FILES_SHARE: usize = 4;
/// The same for granted folders, which stay open from the first call under a grant on: a part of their own, as no guest lets go of
/// one, and as those of many grants must leave guests something to open.
const FOLDERS_PART: u64 = 16;
/// As many of them there are also where that part is less, in a process that may have few descriptors, if they are not more than what
/// guests have open. Stops a limit that nobody raised from refusing capabilities with some folders for good.
const FOLDERS_MIN: usize = 256;
/// The folders of one persona may be one in so many of them. By default that is as many as one grant can have.
const FOLDERS_SHARE: usize = 2;

/// What the guests of a host do with files at once, and have open. One for each host; cheap to clone, and all clones are the same.
#[derive(Debug, Clone)]
pub struct FileWork(Arc<Shared>);

/// How many granted folders have to be let go of before there is room for some more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldersMissing {
    /// Of the persona that they are granted to.
    pub own: usize,
    /// Of all personas, those included.
    pub all: usize,
}

#[derive(Debug)]
struct Shared {
    descriptors: u64,
    turns: Places,
    open: Places,
    folders: Places,
}

impl Default for FileWork {
    /// For a process with the descriptors that a host takes by default.
    fn default() -> Self {
        Self::within(None)
    }
}

impl FileWork {
    /// For a process that may have so many descriptors; none: as many as a host takes by default.
    pub fn within(descriptors_max: Option<u64>) -> Self {
        let descriptors = descriptors_max.unwrap_or(OPEN_FILES_MAX_DEFAULT);
        let open = part(descriptors, OPEN_FILES_PART);
        let folders = part(descriptors, FOLDERS_PART).max(open.min(FOLDERS_MIN));
        Self(Arc::new(Shared {
            descriptors,
            turns: Places::new(FILE_WORK_MAX, FILE_WORK_MAX / FILE_WORK_SHARE),
            open: Places::new(open, (open / OPEN_FILES_SHARE).max(1)),
            folders: Places::new(folders, (folders / FOLDERS_SHARE).max(1)),
        }))
    }

    /// What is missing of the room for so many more granted folders of `persona`.
    pub fn folders_missing(&self, persona: &PersonaId, wanted: usize) -> FoldersMissing {
        let (own, all) = self.0.folders.left(persona);
        FoldersMissing {
            own: wanted.saturating_sub(own),
            all: wanted.saturating_sub(all),
        }
    }

    /// Room for one more granted folder of `persona`.
    ///
    /// # Errors
    /// `host.unavailable`: there is none now. Nothing is opened that would take a descriptor from the host.
    pub(crate) fn room_for_folder(&self, persona: &PersonaId) -> Result<Place, Failure> {
        self.0.folders.take_now(persona).ok_or_else(|| {
            let message = "the folders of this persona, or those of all, are as many as the host keeps open";
            Failure::new(Code::Unavailable, message).with_hint(format!(
                "they have a part of {} descriptors: raise `open_files_max` in [process] of aral.toml or, where another program made \
                 the host or the system allows no more, what the process may have when it starts (`ulimit -n`)",
                self.0.descriptors
            ))
        })
    }
}

/// One in so many, and at least one.
fn part(descriptors: u64, one_in: u64) -> usize {
    let part = usize::try_from(descriptors / one_in).unwrap_or(usize::MAX);
    part.clamp(1, Semaphore::MAX_PERMITS)
}

/// What one call does with files.
pub(super) struct Work {
    own: Arc<Semaphore>,
    all: FileWork,
    persona: PersonaId,
    held: Arc<Held>,
    /// Each stream out of a file has a reference, and one is here.
    pub(super) reading: Arc<()>,
    /// The same of streams into files.
    pub(super) writing: Arc<()>,
    unfinished: Mutex<Vec<Unfinished>>,
}

/// The right to one thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _place: Place,
    held: Arc<Held>,
}

impl Work {
    /// Of a call of `persona`, among `all` that guests do.
    pub(super) fn new(all: FileWork, persona: PersonaId) -> Self {
        Self {
            own: Arc::new(Semaphore::new(FILE_WORK_PER_CALL_MAX)),
            all,
            persona,
            held: Arc::default(),
            reading: Arc::default(),
            writing: Arc::default(),
            unfinished: Mutex::default(),
        }
    }

    /// A stream is gone before this was written: one more for [`Self::take_unfinished`].
    pub(super) fn leave(&self, unfinished: Unfinished) {
        let mut all = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(unfinished);
    }

    /// All that streams which are gone have left to be written. It is written by whoever takes it, or not at all.
    pub(super) fn take_unfinished(&self) -> Vec<Unfinished> {
        std::mem::take(&mut *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the call has open.
    pub(super) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Room for one more file or folder that the guest opens; none: there is none now. To be asked for in a turn, which begins with
    /// giving back that of what the call let go of.
    pub(super) fn room(&self) -> Option<Place> {
        self.all.0.open.take_now(&self.persona)
    }

    /// Waits for a turn; none: there will be none any more, which nobody brings about. One of the call's own comes first: a call
    /// that has all of those waits without keeping others of its persona from one.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let place = self.all.0.turns.take(&self.persona).await?;
        Some(self.turn_of(own, place))
    }

    /// A turn, if there is one now.
    pub(super) fn turn_now(&self) -> Option<Turn> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let place = self.all.0.turns.take_now(&self.persona)?;
        Some(self.turn_of(own, place))
    }

    fn turn_of(&self, own: OwnedSemaphorePermit, place: Place) -> Turn {
        Turn {
            _own: own,
            _place: place,
            held: Arc::clone(&self.held),
        }
    }

    /// Waits for a turn, and for `act` in a thread that may block. If nobody waits any more, what has not begun does not begin.
    pub(super) async fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> FsResult<T> {
        let turn = self.turn().await;
        let turn = turn.ok_or_else(|| FsError::trap(wasmtime::format_err!("files are worked on no more")))?;
        let mut done = turn.start(act);
        (&mut *done).await.map_err(FsError::trap)
    }
}

impl Turn {
    /// Closes what the call let go of, and does `act`, in a thread that may block. The turn lasts as long as the thread is at it, also
    /// where nobody waits any more.
    pub(super) fn start<T: Send + 'static>(self, act: impl FnOnce() -> T + Send + 'static) -> AbortOnDropJoinHandle<T> {
        spawn_blocking(move || {
            let turn = self;
            // First: a guest that closes a file and removes its folder finds it empty, also where open files leave something there.
            turn.held.close_unused();
            act()
        })
    }
}

/// One more of so many references besides the first; none: there are as many as there may be.
pub(super) fn counted(references: &Arc<()>, max: usize) -> Option<Arc<()>> {
    (Arc::strong_count(references) <= max).then(|| Arc::clone(references))
}

#[cfg(test)]
impl Work {
    /// Of a call on a host where nothing else is done.
    pub(super) fn alone() -> Self {
        Self::new(FileWork::default(), "tester".parse().unwrap())
    }

    /// Turns that are left.
    pub(super) fn left(&self) -> usize {
        self.own.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All turns that calls of a persona get, one call after the other.
    fn turns(all: &FileWork, persona: &str, calls: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for _ in 0..calls {
            let work = Work::new(all.clone(), persona.parse().unwrap());
            turns.extend(std::iter::from_fn(|| work.turn_now()).take(100));
        }
        turns
    }

    #[test]
    fn however_many_calls_there_are_threads_are_left() {
        let all = FileWork::default();
        assert_eq!(turns(&all, "one", 1).len(), FILE_WORK_PER_CALL_MAX);
        let mut held = turns(&all, "one", 100);
        assert_eq!(held.len(), FILE_WORK_MAX / FILE_WORK_SHARE);
        let others = turns(&all, "two", 1);
        assert_eq!(others.len(), FILE_WORK_PER_CALL_MAX, "another persona has its own");
        drop(others);
        for persona in ["two", "three", "four", "five"] {
            held.extend(turns(&all, persona, 100));
        }
        assert_eq!(held.len(), FILE_WORK_MAX);
        assert!(turns(&all, "six", 1).is_empty());
        drop(held);
        assert_eq!(turns(&all, "six", 1).len(), FILE_WORK_PER_CALL_MAX);
    }

    #[test]
    fn guests_have_a_part_of_the_descriptors_and_a_persona_a_share_of_that() {
        let room = |all: &FileWork, persona: &str| {
            let work = Work::new(all.clone(), persona.parse().unwrap());
            std::iter::from_fn(|| work.room()).collect::<Vec<_>>()
        };
        let folders = |all: &FileWork, persona: &str| {
            let persona = persona.parse().unwrap();
            std::iter::from_fn(|| all.room_for_folder(&persona).ok()).collect::<Vec<_>>()
        };
        for (descriptors, open, granted) in [
            (None, (4096, 1024), (1024, 512)),
            (Some(8192), (2048, 512), (512, 256)),
            (Some(1024), (256, 64), (256, 128)),
            (Some(64), (16, 4), (16, 8)),
            (Some(2), (1, 1), (1, 1)),
        ] {
            let all = FileWork::within(descriptors);
            let personas = ["one", "two", "three", "four", "five"];
            let opened = personas.map(|persona| room(&all, persona));
            let mounted = personas.map(|persona| folders(&all, persona));
            let counts = |taken: &[Vec<Place>]| (taken.iter().map(Vec::len).sum::<usize>(), taken[0].len());
            assert_eq!(counts(&opened), open, "{descriptors:?}");
            assert_eq!(counts(&mounted), granted, "{descriptors:?}");
        }
    }

    #[test]
    fn no_number_of_descriptors_is_too_large() {
        let work = Work::new(FileWork::within(Some(u64::MAX)), "tester".parse().unwrap());
        assert!(work.room().is_some());
    }
}
