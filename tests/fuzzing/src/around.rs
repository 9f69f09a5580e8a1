//! What lies around what a guest was granted: files, links that lead out, and hosts of this machine. It says what has changed there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What stands in everything that was not granted, and is the name of a file there.
pub(crate) const CANARY: &str = "CANARY";
/// What may be read.
pub(crate) const HARMLESS: &str = "what may be read";
/// The folder that may be written.
pub(crate) const WRITABLE: &str = "writable";
/// What [`plant`] makes.
pub(crate) const PLANTED: u64 = 5;

/// What the host itself writes, and the folder that may be written.
const CHANGING: [&str; 3] = [WRITABLE, "state", "store"];

/// Where things are that a guest was not granted, and is told of.
#[derive(Debug)]
pub struct Around {
    /// The folder in which all of it lies.
    pub root: PathBuf,
    /// The port of a host of this machine that may be asked.
    pub open: u16,
    /// The port of one that may not, and of which nobody takes a connection.
    pub closed: u16,
    silent: TcpListener,
}

/// A file as it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    path: PathBuf,
    modified: SystemTime,
    mode: u32,
    /// Of a link: where it leads.
    holds: Vec<u8>,
}

impl Around {
    pub(crate) fn new(root: &Path) -> Self {
        for name in ["readable/folder/inner", "outside", WRITABLE] {
            std::fs::create_dir_all(root.join(name)).expect("a folder");
        }
        for (name, holds) in [
            ("readable/file.txt", HARMLESS),
            ("readable/folder/inner/a", HARMLESS),
            ("outside/secret.txt", CANARY),
            ("outside/CANARY", CANARY),
        ] {
            std::fs::write(root.join(name), holds).expect("a file");
        }
        plant(root, "readable");
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        silent.set_nonblocking(true).expect("a socket");
        Self {
            root: root.to_owned(),
            open: answering(),
            closed: silent.local_addr().expect("an address").port(),
            silent,
        }
    }

    /// Empties the folder that may be written. It stays the same one: the host has opened it once and for all.
    pub(crate) fn reset(&self) {
        let writable = self.root.join(WRITABLE);
        let entries: Vec<_> = std::fs::read_dir(&writable).expect("a folder of ours").collect();
        for entry in entries {
            let path = entry.expect("an entry").path();
            let removed = if path.symlink_metadata().expect("a file of ours").is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.expect("a file of ours");
        }
        plant(&self.root, WRITABLE);
    }

    /// Everything that nobody may change.
    pub(crate) fn files(&self) -> Vec<Seen> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder of ours") {
                let path = entry.expect("an entry").path();
                if CHANGING.iter().any(|name| path == self.root.join(name)) {
                    continue;
                }
                let metadata = path.symlink_metadata().expect("a file of ours");
                let holds = if metadata.is_file() {
                    std::fs::read(&path).expect("a file of ours")
                } else if metadata.is_symlink() {
                    let target = std::fs::read_link(&path).expect("a link of ours");
                    target.into_os_string().into_vec()
                } else {
                    Vec::new()
                };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                found.push(Seen {
                    path,
                    modified: metadata.modified().expect("it has a time"),
                    mode: metadata.mode(),
                    holds,
                });
            }
        }
        found.sort();
        found
    }

    /// How many files and bytes lie in the folder that may be written.
    pub(crate) fn written(&self) -> (u64, u64) {
        let (mut files, mut bytes) = (0, 0);
        count(&self.root.join(WRITABLE), &mut files, &mut bytes);
        (files, bytes)
    }

    /// Whether somebody has connected to the host that may not be asked.
    pub(crate) fn was_asked(&self) -> bool {
        match self.silent.accept() {
            Ok(_connection) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // Whoever connected is gone already.
            Err(_) => true,
        }
    }
}

/// A host that answers everybody: its port.
fn answering() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _set = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _request = stream.read(&mut [0; 4096]);
            let _cut = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        }
    });
    port
}

/// What somebody may have left in a folder that is granted.
fn plant(root: &Path, folder: &str) {
    let secret = root.join("outside/secret.txt");
    for (name, target) in [
        ("link", Path::new("../outside")),
        ("dangling", Path::new("../outside/nothing")),
        ("abs", secret.as_path()),
        ("loop", Path::new("loop")),
        ("outside", Path::new("..")),
    ] {
        symlink(target, root.join(folder).join(name)).expect("a link");
    }
}

fn count(folder: &Path, files: &mut u64, bytes: &mut u64) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("a file of ours");
        *files += 1;
        if metadata.is_dir() {
            count(&path, files, bytes);
        } else if metadata.is_file() {
            *bytes += metadata.len();
        }
    }
}
