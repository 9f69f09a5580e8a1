//! sled, fenced in: one tree, atomic batches, a sync that is one, errors instead of panics. It knows no key and no record.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::fs::Dir;
use sled::IVec;

use super::entry::CHUNK_BYTES;
use super::file::{entries_of, open_to_read};
use super::gate::Gate;
use super::log_sync::{LogSync, Position};
use super::root::{NamespacePlace, PLACE_BYTES, Place};
use crate::store::StoreError;

/// Name of sled's folder in the folder of a store.
pub(crate) const NAME: &str = "records";

/// The file that sled writes, from the folder of a store on.
pub(super) fn file() -> PathBuf {
    Path::new(NAME).join("db")
}

/// Size of the pieces that sled divides its file into. What is larger than a quarter of one goes into a file of its own that
/// sled never syncs, and that is not only values but whole nodes. A leaf has fewer than 32 entries when it is written, each
/// of at most a chunk, a name and what seals them: half a mebibyte holds the largest.
pub(super) const SEGMENT_BYTES: usize = 2 << 20;

/// How often, and how far apart, a database is tried that is being closed: for two seconds.
const LOCKED_ATTEMPTS_MAX: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// What the entries of the tree are: the first byte of each key.
pub(crate) mod prefix {
    /// `r` and a place: a record.
    pub(crate) const RECORD: u8 = b'r';
    /// `c` and a chunk's place: part of a value.
    pub(crate) const CHUNK: u8 = b'c';
    /// `e`, seconds in big-endian order, and a place: a record expires then.
    pub(crate) const EXPIRY: u8 = b'e';
    /// `n` and the place of a namespace: its sealed name.
    pub(crate) const NAMESPACE: u8 = b'n';
    /// `u` and the place of a namespace: bytes and records in it.
    pub(crate) const USAGE: u8 = b'u';
    /// `s`: the number of the newest commit, and the slots that it leaves to be destroyed.
    pub(crate) const COMMIT: u8 = b's';
    /// `a`: the number of the newest commit that only added records, and their places.
    pub(crate) const ADDED: u8 = b'a';
}

/// What the store cannot do when the disk does not take records.
const WRITE: &str = "write its records";

/// A key of the tree.
pub(crate) fn key(prefix: u8, rest: &[&[u8]]) -> Vec<u8> {
    let length = rest.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(length.saturating_add(1));
    key.push(prefix);
    rest.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The key that says when a record expires: those that do so first come first.
pub(crate) fn expiry_key(expires: u64, place: &Place) -> Vec<u8> {
    key(prefix::EXPIRY, &[&expires.to_be_bytes(), place])
}

/// The place in the key of a record.
pub(crate) fn place(key: &[u8]) -> Option<Place> {
    key.get(1..)?.try_into().ok()
}

/// The newest commit of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Counts from 1.
    pub(crate) number: u64,
    /// Slots that it left to be destroyed.
    pub(crate) doomed: Vec<u32>,
}

impl Commit {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let doomed = self.doomed.iter().flat_map(|slot| slot.to_le_bytes());
        self.number.to_le_bytes().into_iter().chain(doomed).collect()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, doomed) = bytes.split_first_chunk()?;
        let (doomed, rest) = doomed.as_chunks::<4>();
        rest.is_empty().then(|| Self {
            number: u64::from_le_bytes(*number),
            doomed: doomed.iter().map(|slot| u32::from_le_bytes(*slot)).collect(),
        })
    }
}

/// The newest commit that only added records. Their keys reach the disk together with them, not before: after a cut some may
/// lack theirs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Added {
    /// That of the commit.
    pub(crate) number: u64,
    pub(crate) places: Vec<Place>,
}

impl Added {
    /// No larger than a chunk, so that sled keeps it where it is synced.
    pub(crate) const PLACES_MAX: usize = (CHUNK_BYTES - 8) / PLACE_BYTES;

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let places = self.places.iter().flatten().copied();
        self.number.to_le_bytes().into_iter().chain(places).collect()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, places) = bytes.split_first_chunk()?;
        let (places, rest) = places.as_chunks();
        rest.is_empty().then(|| Self {
            number: u64::from_le_bytes(*number),
            places: places.to_vec(),
        })
    }
}

/// Whether there is a database with anything in it.
pub(crate) fn is_there(dir: &Dir) -> bool {
    let file = dir.metadata(file());
    file.is_ok_and(|file| file.len() > 0)
}

/// The open database.
pub(crate) struct Tree {
    tree: sled::Tree,
    db: sled::Db,
    /// Of the file that sled writes: an fsync is one of the file, whoever opened it.
    pub(super) file: File,
    pub(super) log_sync: LogSync,
    gate: Gate,
    /// How often what a namespace holds was counted anew.
    #[cfg(test)]
    pub(super) counts: std::sync::atomic::AtomicUsize,
}

impl Tree {
    /// Opens the database below `path`, of which `dir` is the handle, and makes it if it is not there.
    pub(crate) fn open(dir: &Dir, path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        prepare(dir).map_err(|error| StoreError::io("open its records", error))?;
        let config = sled::Config::new()
            .path(path.join(NAME))
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            // No thread of its own that moves what is left in segments, whose syncs come when they come: see `LogSync`.
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        // On a thread of its own: sled may panic on damaged files, and while opening it holds what a panic would leave.
        let opened = std::thread::Builder::new()
            .name("aral-store-open".to_owned())
            .spawn(move || open_when_closed(&config))
            .map_err(|error| StoreError::io("open its records", error))?
            .join();
        let db = opened
            .map_err(|_| DAMAGED)?
            .map_err(|error| failed("open its records", error))?;
        let file = open_to_read(dir, file()).map_err(|error| StoreError::io("open its records", error))?;
        let own_dir = dir.try_clone();
        let own_dir = own_dir.map_err(|error| StoreError::io("open its folder", error))?;
        // sled does not sync its settings. And the names of new files, once: afterwards sled writes into `db` alone.
        for part in [
            Path::new(NAME).join("conf"),
            Path::new(NAME).join("blobs"),
            NAME.into(),
            ".".into(),
        ] {
            let synced = dir.open(part).and_then(|part| part.sync_all());
            synced.map_err(|error| StoreError::io("sync its folder", error))?;
        }
        Ok(Self {
            tree: (*db).clone(),
            log_sync: LogSync::new(own_dir, handed(&db)),
            gate: Gate::default(),
            db,
            file,
            #[cfg(test)]
            counts: std::sync::atomic::AtomicUsize::default(),
        })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.step(|| self.tree.get(key))
    }

    /// The newest commit. A database without one has lost it.
    pub(crate) fn commit(&self) -> Result<Commit, StoreError> {
        self.find_commit()?.ok_or(DAMAGED)
    }

    /// The same; none: it has lost it.
    pub(super) fn find_commit(&self) -> Result<Option<Commit>, StoreError> {
        let found = self.get(&[prefix::COMMIT])?;
        found.map(|bytes| Commit::parse(&bytes).ok_or(DAMAGED)).transpose()
    }

    /// The newest commit of a store none of whose commits is known to be on stable storage. A new database gets one that says
    /// that there was none, so that an empty file is never one of ours.
    pub(crate) fn first_commit(&self) -> Result<Commit, StoreError> {
        if let Some(commit) = self.find_commit()? {
            return Ok(commit);
        }
        let mut batch = sled::Batch::default();
        batch.insert(&[prefix::COMMIT], Commit::default().to_bytes());
        self.apply(batch)?;
        self.flush()?;
        self.sync()?;
        Ok(Commit::default())
    }

    /// The newest commit that only added records; none: there was none yet.
    pub(crate) fn added(&self) -> Result<Option<Added>, StoreError> {
        let found = self.get(&[prefix::ADDED])?;
        found.map(|bytes| Added::parse(&bytes).ok_or(DAMAGED)).transpose()
    }

    /// All of the batch, or none.
    pub(crate) fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        // Once before it holds up who reads, and then what they had moved meanwhile.
        self.settle()?;
        let _alone = self.gate.alone();
        self.settle()?;
        fenced(WRITE, || self.tree.apply_batch(batch))
    }

    /// Hands what was applied to the system. That is not yet stable storage: sled does not ask for that. It takes no lane,
    /// so that those who read go on where sled never comes back. So steps may write between the two, and a segment may be handed on with
    /// that before it is full: `LANES` of the gate says how much that takes.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.keep_up()?;
        fenced(WRITE, || self.db.flush()).map(drop)
    }

    /// Has everything handed to the system that is written before a batch: what the segments of a batch say is on the disk is that,
    /// and must be so.
    fn settle(&self) -> Result<(), StoreError> {
        self.flush()?;
        self.keep_up()
    }

    fn keep_up(&self) -> Result<(), StoreError> {
        self.log_sync.keep_up(&self.file, || handed(&self.db))
    }

    /// A step of reading. It writes, too, where it is the first that passes a leaf which is to be divided or joined: so it looks at the
    /// log after it got its lane, that no more is written between two looks than the lanes let through.
    fn step<T>(&self, read: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        let _pass = self.gate.pass();
        self.keep_up()?;
        fenced("read its records", read)
    }

    /// Everything that was flushed is on stable storage when this returns.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.log_sync.sync(&self.file, || handed(&self.db))
    }

    /// Whether any record lies in a namespace, under its root.
    pub(crate) fn has_records(&self, namespace: &NamespacePlace) -> Result<bool, StoreError> {
        let mut has_one = false;
        self.scan(&key(prefix::RECORD, &[namespace]), None, &mut |_, _| {
            has_one = true;
            Ok(Scan::Stop)
        })?;
        Ok(has_one)
    }

    /// Shows entries whose key begins with `prefix`, those above `after` alone, until `show` says stop.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, show: Show<'_>) -> Result<(), StoreError> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut entries = self.tree.range::<&[u8], _>((from, Bound::Unbounded));
        loop {
            let next = self.step(|| entries.next().transpose())?;
            let Some((key, value)) = next.filter(|(key, _)| key.starts_with(prefix)) else {
                return Ok(());
            };
            match show(&key, &value)? {
                Scan::Next => {}
                Scan::Stop => return Ok(()),
            }
        }
    }
}

/// Up to where sled has handed its log to the system. sled tells this in what it does not document.
fn handed(db: &sled::Db) -> Position {
    db.context.pagecache.log.stable_offset()
}

/// What sled 0.34 does not do before it opens what a process left that was killed. It writes down, and syncs, what it made of
/// its file, which may be in the memory of the system alone: so the file is synced first. And what is left of such a snapshot
/// that was not finished it takes for one, and then for damage: it is removed, and sled works it out anew. It waits for a pipe that it
/// finds in the place of a file, and follows a link: both are refused.
fn prepare(dir: &Dir) -> std::io::Result<()> {
    match open_to_read(dir, file()) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let is_unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
    for folder in [PathBuf::from(NAME), Path::new(NAME).join("blobs")] {
        for path in entries_of(dir, &folder)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(is_unfinished) {
                dir.remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Tries again for a while if sled says that its file is locked: whoever opens a store has that to itself, so that it can only
/// be the last of sled's own threads of the store that this process has just closed.
fn open_when_closed(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCKED_ATTEMPTS_MAX {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(LOCKED_PAUSE);
            }
            other => return other,
        }
    }
    config.open()
}

/// Waits until sled has let go of the file, as long as [`open_when_closed`]. A shared lock needs a file that may only be read,
/// also where the system emulates it, as on NFS.
pub(super) fn lock_when_closed(file: &File) -> std::io::Result<()> {
    for _ in 0..LOCKED_ATTEMPTS_MAX {
        match file.try_lock_shared() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCKED_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Is shown each entry of a scan: its key and its value.
type Show<'a> = &'a mut dyn FnMut(&[u8], &IVec) -> Result<Scan, StoreError>;

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    Next,
    Stop,
}

const DAMAGED: StoreError = StoreError::Corrupt {
    what: StoreError::DATABASE,
};

/// sled panics on some damage instead of saying so. What it was doing is given up; the database is not used as if nothing
/// had been.
fn fenced<T>(action: &'static str, act: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|error| failed(action, error)),
        Err(_) => Err(DAMAGED),
    }
}

fn failed(action: &'static str, error: sled::Error) -> StoreError {
    match error {
        // Its settings are of another sled: what wrote them was this one.
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) => DAMAGED,
        // Reading needs no room: this is a write that failed before, which sled answers everything with from then on.
        sled::Error::Io(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            StoreError::io(WRITE, error)
        }
        other => StoreError::io(action, other),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test makes a folder")]
#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    fn tree(folder: &tempfile::TempDir) -> Tree {
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        Tree::open(&dir, folder.path(), 16 << 20).unwrap()
    }

    /// Whether a segment has ended that is not synced.
    fn is_behind(tree: &Tree) -> bool {
        tree.log_sync.is_behind(handed(&tree.db))
    }

    /// Has sled end a segment, as it does for whoever reads, without a look whether that is synced.
    fn end_a_segment(tree: &Tree) {
        for index in 0..1000_u32 {
            if is_behind(tree) {
                return;
            }
            tree.tree.insert(index.to_be_bytes(), vec![7_u8; CHUNK_BYTES]).unwrap();
            tree.db.flush().unwrap();
        }
        panic!("no segment has ended");
    }

    fn batch() -> sled::Batch {
        let mut batch = sled::Batch::default();
        batch.insert(b"key", b"value");
        batch
    }

    /// What is done after a segment has ended, and syncs it.
    type Act = fn(&Tree) -> Result<(), StoreError>;

    #[test]
    fn a_segment_that_has_ended_is_synced_before_each_step_and_before_anything_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(&folder);
        let acts: [(&str, Act); 4] = [
            ("get", |tree| tree.get(b"key").map(drop)),
            ("scan", |tree| tree.scan(b"key", None, &mut |_, _| Ok(Scan::Stop))),
            ("flush", Tree::flush),
            ("apply", |tree| tree.apply(batch())),
        ];
        for (name, act) in acts {
            end_a_segment(&tree);
            assert!(is_behind(&tree));
            act(&tree).unwrap();
            assert!(!is_behind(&tree), "{name}");
        }
    }

    #[test]
    fn a_step_has_its_lane_and_all_before_it_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(&folder);
        end_a_segment(&tree);
        let (passing, behind) = tree.step(|| Ok((tree.gate.passing(), is_behind(&tree)))).unwrap();
        assert_eq!((passing, behind), (1, false));
        assert_eq!(tree.gate.passing(), 0);
    }

    /// What the segments of a batch say is on the disk is looked after when nobody reads any more, not only before.
    #[test]
    fn a_batch_waits_for_a_step_and_syncs_what_that_has_moved() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(&folder);
        std::thread::scope(|scope| {
            let writing = tree.step(|| {
                let writing = scope.spawn(|| tree.apply(batch()));
                while !tree.gate.is_wanted_alone() {
                    assert!(!writing.is_finished(), "a batch was written beside a step");
                    std::thread::yield_now();
                }
                end_a_segment(&tree);
                Ok(writing)
            });
            writing.unwrap().join().unwrap().unwrap();
        });
        assert!(!is_behind(&tree), "what the step has moved is not synced");
        assert!(tree.get(b"key").unwrap().is_some());
    }
}
