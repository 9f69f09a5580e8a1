//! A disk that loses its power: of what a process did to its files it keeps what was synced, and of the rest whatever it
//! likes, in sectors, in any order. Names it keeps in the order in which they came, up to some point that is not before the
//! last sync of anything: so file systems with a journal do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Dice, files_below};
use crate::trace::{Event, Happened};

const SECTOR_BYTES: usize = 512;

type FileId = usize;

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate(usize),
    Allocate(usize),
}

#[derive(Debug, Clone)]
struct Pending {
    began: usize,
    done: usize,
    change: Change,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(PathBuf, FileId),
    Folder(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
struct File {
    base: Vec<u8>,
    changes: Vec<Pending>,
    /// When each sync began and was done.
    syncs: Vec<(usize, usize)>,
}

/// What the disk keeps of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    Everything,
    /// Of each write some sectors.
    SomeSectors,
    /// Whole writes, the late ones rather than the early.
    LateWrites,
    /// Some files as they were written, nothing of the others.
    SomeFiles,
}

impl Keeps {
    pub(crate) const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Everything,
        Self::SomeSectors,
        Self::LateWrites,
        Self::SomeFiles,
    ];
}

/// Everything that was done to a folder, and when it was made to last.
pub(crate) struct Disk {
    files: Vec<File>,
    base_names: BTreeMap<PathBuf, FileId>,
    base_folders: Vec<PathBuf>,
    /// When each was done, in order.
    namings: Vec<(usize, Naming)>,
    syncs: Vec<(usize, usize)>,
}

impl Disk {
    /// `base` is what the folder held before; it was synced long ago. Syncs of `deaf` are not done: the control.
    pub(crate) fn new(base: &Path, events: &[Event], deaf: Option<&Path>) -> Self {
        let mut disk = Self {
            files: Vec::new(),
            base_names: BTreeMap::new(),
            base_folders: folders_below(base),
            namings: Vec::new(),
            syncs: Vec::new(),
        };
        for (path, bytes) in files_below(base) {
            let file = disk.add_file(bytes);
            disk.base_names.insert(path, file);
        }
        let mut names = disk.base_names.clone();
        for event in events {
            disk.take(event, &mut names, deaf);
        }
        disk
    }

    fn add_file(&mut self, base: Vec<u8>) -> FileId {
        self.files.push(File {
            base,
            ..File::default()
        });
        self.files.len() - 1
    }

    fn take(&mut self, event: &Event, names: &mut BTreeMap<PathBuf, FileId>, deaf: Option<&Path>) {
        let naming = match &event.what {
            Happened::Create(path) if names.contains_key(path) => return,
            Happened::Create(path) => {
                let file = self.add_file(Vec::new());
                names.insert(path.clone(), file);
                Naming::Create(path.clone(), file)
            }
            Happened::Mkdir(path) => Naming::Folder(path.clone()),
            Happened::Rename(from, to) => {
                let file = names.remove(from).expect("a file to rename");
                names.insert(to.clone(), file);
                Naming::Rename(from.clone(), to.clone())
            }
            Happened::Link(from, to) => {
                names.insert(to.clone(), names[from]);
                Naming::Link(from.clone(), to.clone())
            }
            Happened::Remove(path) => {
                names.remove(path);
                Naming::Remove(path.clone())
            }
            Happened::Write { path, at, data } => {
                let at = usize::try_from(*at).expect("a small file");
                let data = data.clone();
                return self.change(names[path], event, Change::Write { at, data });
            }
            Happened::Truncate { path, bytes } => {
                let bytes = usize::try_from(*bytes).expect("a small file");
                return self.change(names[path], event, Change::Truncate(bytes));
            }
            Happened::Allocate { path, bytes } => {
                let bytes = usize::try_from(*bytes).expect("a small file");
                return self.change(names[path], event, Change::Allocate(bytes));
            }
            Happened::Sync(path) => {
                if deaf == Some(path) {
                    return;
                }
                let moment = (event.began, event.done);
                self.syncs.push(moment);
                if let Some(file) = names.get(path) {
                    self.files[*file].syncs.push(moment);
                }
                return;
            }
            Happened::Told(_) => return,
        };
        self.namings.push((event.done, naming));
    }

    fn change(&mut self, file: FileId, event: &Event, change: Change) {
        self.files[file].changes.push(Pending {
            began: event.began,
            done: event.done,
            change,
        });
    }

    /// Lays into `folder` what the disk holds when the power is cut right after line `moment` of the trace.
    pub(crate) fn cut(&self, moment: usize, keeps: Keeps, dice: &mut Dice, folder: &Path) {
        let (names, folders) = self.names(moment, keeps, dice);
        make_folder(folder);
        for path in folders {
            make_folder(&folder.join(path));
        }
        for (path, file) in names {
            let content = self.files[file].content(moment, keeps, dice);
            std::fs::write(folder.join(path), content).expect("a file");
        }
    }

    fn names(&self, moment: usize, keeps: Keeps, dice: &mut Dice) -> (BTreeMap<PathBuf, FileId>, Vec<PathBuf>) {
        let done = self.namings.iter().filter(|(when, _)| *when <= moment).count();
        let synced = self.syncs.iter().filter(|(_, when)| *when <= moment);
        let synced = synced.map(|(began, _)| *began).max().unwrap_or(0);
        let certain = self.namings.iter().filter(|(when, _)| *when < synced).count();
        let kept = match keeps {
            Keeps::Nothing => certain,
            Keeps::Everything => done,
            Keeps::SomeSectors | Keeps::LateWrites | Keeps::SomeFiles => certain + dice.below(done - certain + 1),
        };
        let (mut names, mut folders) = (self.base_names.clone(), self.base_folders.clone());
        for (_, naming) in &self.namings[..kept] {
            match naming {
                Naming::Create(path, file) => drop(names.insert(path.clone(), *file)),
                Naming::Folder(path) => folders.push(path.clone()),
                Naming::Rename(from, to) => {
                    let file = names.remove(from).expect("a file to rename");
                    names.insert(to.clone(), file);
                }
                Naming::Link(from, to) => drop(names.insert(to.clone(), names[from])),
                Naming::Remove(path) => drop(names.remove(path)),
            }
        }
        (names, folders)
    }
}

impl File {
    fn content(&self, moment: usize, keeps: Keeps, dice: &mut Dice) -> Vec<u8> {
        let synced = self.syncs.iter().filter(|(_, done)| *done <= moment);
        let synced = synced.map(|(began, _)| *began).max().unwrap_or(0);
        let mut content = self.base.clone();
        let begun: Vec<&Pending> = self.changes.iter().filter(|change| change.began <= moment).collect();
        let (certain, pending): (Vec<&Pending>, Vec<&Pending>) =
            begun.into_iter().partition(|change| change.done < synced);
        for one in certain {
            one.change.apply(&mut content);
        }
        let whole_file = keeps == Keeps::SomeFiles && dice.one_in(2);
        let first = dice.below(pending.len() + 1);
        for (index, one) in pending.into_iter().enumerate() {
            match keeps {
                Keeps::Nothing => {}
                Keeps::Everything => one.change.apply(&mut content),
                Keeps::SomeSectors => one.change.apply_some(&mut content, dice),
                Keeps::LateWrites if index >= first => one.change.apply(&mut content),
                Keeps::LateWrites => {}
                Keeps::SomeFiles if whole_file => one.change.apply(&mut content),
                Keeps::SomeFiles => {}
            }
        }
        content
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => put(content, *at, data),
            Self::Truncate(bytes) => content.resize(*bytes, 0),
            Self::Allocate(bytes) => content.resize((*bytes).max(content.len()), 0),
        }
    }

    /// Of a write some sectors; the size may be there before what was written is.
    fn apply_some(&self, content: &mut Vec<u8>, dice: &mut Dice) {
        match self {
            Self::Write { at, data } => {
                let mut from = 0;
                while from < data.len() {
                    let to = data.len().min(from + SECTOR_BYTES - (at + from) % SECTOR_BYTES);
                    if dice.one_in(2) {
                        put(content, at + from, &data[from..to]);
                    }
                    from = to;
                }
                if dice.one_in(2) {
                    content.resize(content.len().max(at + data.len()), 0);
                }
            }
            Self::Truncate(_) | Self::Allocate(_) if dice.one_in(2) => self.apply(content),
            Self::Truncate(_) | Self::Allocate(_) => {}
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
}

fn make_folder(path: &Path) {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).expect("a folder");
}

fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.push(path.strip_prefix(folder).expect("below").to_owned());
                open.push(path);
            }
        }
    }
    found.sort();
    found
}
