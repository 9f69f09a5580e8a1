//! What a process asked of the system, as `strace` writes it down: the changes of files and names below one folder, in the
//! order in which they happened, each with when it began and when it was done.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// The calls that can change a file or a name, or make a change last. One that is not understood below fails the test.
pub(crate) const CALLS: &str = "open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,splice,\
    fsync,fdatasync,sync_file_range,msync,sync,syncfs,ftruncate,truncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,\
    symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat";

/// Something that happened. Paths are relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A file was opened that may be new.
    Create(PathBuf),
    Mkdir(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    Write {
        path: PathBuf,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        bytes: u64,
    },
    /// The file has at least so many bytes now.
    Allocate {
        path: PathBuf,
        bytes: u64,
    },
    /// `fsync` or `fdatasync` of a file or a folder.
    Sync(PathBuf),
    /// A line was told to whoever listens.
    Told(String),
}

/// When, counted in lines of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) began: usize,
    pub(crate) done: usize,
    pub(crate) what: Happened,
}

struct Call {
    name: String,
    arguments: String,
    result: String,
    began: usize,
    done: usize,
}

/// Everything below `folder`, in the order in which it was done.
pub(crate) fn parse(text: &str, folder: &Path) -> Vec<Event> {
    let mut positions: BTreeMap<String, u64> = BTreeMap::new();
    let mut events = Vec::new();
    for call in calls(text) {
        if call.result.starts_with('-') || call.result.starts_with('?') {
            continue;
        }
        for what in happened(&call, folder, &mut positions) {
            events.push(Event {
                began: call.began,
                done: call.done,
                what,
            });
        }
    }
    events
}

/// Whole calls: a call during which another thread made one is on two lines.
fn calls(text: &str) -> Vec<Call> {
    let mut unfinished: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let (thread, rest) = text.split_once(' ').expect("a thread and a call");
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(first) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (line, first.trim_end().to_owned()));
            continue;
        }
        let (began, whole) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (began, first) = unfinished.remove(thread).expect("a call that was begun");
                let (_, last) = resumed.split_once(" resumed>").expect("the rest of a call");
                (began, first + last)
            }
            None => (line, rest.to_owned()),
        };
        // Texts are in hex, so that no parenthesis is part of one.
        let (name, rest) = whole.split_once('(').expect("a call");
        let (arguments, result) = rest.split_once(')').expect("a call that ended");
        let result = result.trim_start().strip_prefix("= ").expect("a result");
        calls.push(Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            result: result.to_owned(),
            began,
            done: line,
        });
    }
    calls.sort_by_key(|call| call.done);
    calls
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.split("\\x").skip(1);
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

fn path_of(text: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(unescape(text)))
}

impl Call {
    /// Arguments, those in braces as one.
    fn arguments(&self) -> Vec<&str> {
        let mut depth = 0;
        let split = self.arguments.split(move |character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        });
        split.map(str::trim).collect()
    }

    /// The number in an argument.
    fn number(&self, index: usize) -> u64 {
        self.arguments()[index].parse().expect("a number")
    }

    /// What an open file is called.
    fn file(&self, index: usize) -> PathBuf {
        named(self.arguments()[index]).expect("an open file")
    }

    /// A path in an argument, looked up from a folder in the one before it if it is relative.
    fn path(&self, folder: Option<usize>, index: usize) -> PathBuf {
        let arguments = self.arguments();
        let path = path_of(arguments[index].trim_matches('"'));
        match folder {
            Some(folder) if path.is_relative() => named(arguments[folder]).expect("a folder").join(path),
            Some(_) | None => path,
        }
    }

    fn data(&self, index: usize) -> Vec<u8> {
        let data = self.arguments()[index];
        let data = data.strip_prefix('"').and_then(|data| data.strip_suffix('"'));
        unescape(data.expect("all of what was written"))
    }
}

/// `7<\x2f…>`: what the open file is called.
fn named(text: &str) -> Option<PathBuf> {
    let (_, name) = text.trim_end().split_once('<')?;
    Some(path_of(name.strip_suffix('>')?))
}

fn happened(call: &Call, folder: &Path, positions: &mut BTreeMap<String, u64>) -> Vec<Happened> {
    let below = |path: PathBuf| -> Option<PathBuf> {
        let inside = path.strip_prefix(folder).ok()?;
        let plain = inside.components().filter(|part| *part != Component::CurDir);
        Some(plain.collect())
    };
    let one = |path: PathBuf, what: fn(PathBuf) -> Happened| below(path).map(what).into_iter().collect();
    let two = |from: PathBuf, to: PathBuf, what: fn(PathBuf, PathBuf) -> Happened| match (below(from), below(to)) {
        (Some(from), Some(to)) => vec![what(from, to)],
        (None, None) => Vec::new(),
        across => panic!("a name that comes from outside: {across:?}"),
    };
    match call.name.as_str() {
        "open" | "openat" | "openat2" | "creat" => opened(call, below(named(&call.result).expect("a file")), positions),
        "write" => written(call, below(call.file(0)), positions),
        "pwrite64" => below(call.file(0))
            .map(|path| Happened::Write {
                path,
                at: call.number(3),
                data: taken(call, 1),
            })
            .into_iter()
            .collect(),
        "ftruncate" => below(call.file(0))
            .map(|path| Happened::Truncate {
                path,
                bytes: call.number(1),
            })
            .into_iter()
            .collect(),
        "fallocate" => below(call.file(0))
            .map(|path| Happened::Allocate {
                path,
                bytes: call.number(2) + call.number(3),
            })
            .into_iter()
            .collect(),
        "fsync" | "fdatasync" => one(call.file(0), Happened::Sync),
        // Says nothing about what is on the disk after a cut: neither sizes nor the drive's own memory are written.
        "sync_file_range" => Vec::new(),
        "mkdir" => one(call.path(None, 0), Happened::Mkdir),
        "mkdirat" => one(call.path(Some(0), 1), Happened::Mkdir),
        "unlink" | "rmdir" => one(call.path(None, 0), Happened::Remove),
        "unlinkat" => one(call.path(Some(0), 1), Happened::Remove),
        "rename" => two(call.path(None, 0), call.path(None, 1), Happened::Rename),
        "renameat" | "renameat2" => two(call.path(Some(0), 1), call.path(Some(2), 3), Happened::Rename),
        "link" => two(call.path(None, 0), call.path(None, 1), Happened::Link),
        "linkat" => two(call.path(Some(0), 1), call.path(Some(2), 3), Happened::Link),
        other => panic!("`{other}` is not understood: {}", call.arguments),
    }
}

fn opened(call: &Call, path: Option<PathBuf>, positions: &mut BTreeMap<String, u64>) -> Vec<Happened> {
    let number = call.result.split('<').next().unwrap_or_default();
    positions.insert(number.to_owned(), 0);
    let Some(path) = path else { return Vec::new() };
    let mut happened = Vec::new();
    if call.arguments.contains("O_CREAT") || call.name == "creat" {
        happened.push(Happened::Create(path.clone()));
    }
    if call.arguments.contains("O_TRUNC") || call.name == "creat" {
        happened.push(Happened::Truncate { path, bytes: 0 });
    }
    happened
}

fn taken(call: &Call, index: usize) -> Vec<u8> {
    let mut data = call.data(index);
    data.truncate(call.result.trim().parse().expect("a number of bytes"));
    data
}

fn written(call: &Call, path: Option<PathBuf>, positions: &mut BTreeMap<String, u64>) -> Vec<Happened> {
    let number = call.arguments.split('<').next().unwrap_or_default();
    let data = taken(call, 1);
    match path {
        None if number == "1" => vec![Happened::Told(String::from_utf8_lossy(&data).trim_end().to_owned())],
        None => Vec::new(),
        Some(path) => {
            let position = positions.entry(number.to_owned()).or_default();
            let at = *position;
            *position += data.len() as u64;
            vec![Happened::Write { path, at, data }]
        }
    }
}
