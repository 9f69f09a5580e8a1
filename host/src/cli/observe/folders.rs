//! Which folders an entry offers for the paths that were reached for. The root is never offered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aral_contract::scope::AbsolutePath;
use aral_contract::{Permission, Permissions};

use super::{Facts, quote};
use crate::cli::allow::{BYTES_MAX_DEFAULT, FILES_MAX_DEFAULT};

/// What is offered to a component that looks at `/`, where it would find whichever folder it is granted.
const ANY_FOLDER: &str = "/data";

/// What a guest calls each folder, and where that is on this machine.
type Places = BTreeMap<AbsolutePath, AbsolutePath>;

/// The folders that hold what was read, and those that hold what was written.
pub(super) struct Folders {
    read: Places,
    written: Places,
}

impl Folders {
    pub(super) fn new<'a>(
        read: impl Iterator<Item = &'a str>,
        written: impl Iterator<Item = &'a str>,
        facts: &Facts<'_>,
    ) -> Self {
        Self {
            read: around(read, facts),
            written: around(written, facts),
        }
    }

    /// Whether anything that was read is in a folder that can be offered.
    pub(super) fn are_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// The scope of a permission. An entry may have no folder in another one, whichever of the two permissions they are of, and what
    /// may be written may be read: so a folder that holds something of both is offered for writing alone.
    pub(super) fn scope(&self, permission: Permission) -> Option<String> {
        let all: BTreeMap<_, _> = self.read.iter().chain(&self.written).collect();
        let is_outermost = |guest: &AbsolutePath| !all.keys().any(|other| *other != guest && guest.is_within(other));
        let is_written = |guest: &AbsolutePath| self.written.keys().any(|other| other.is_within(guest));
        let writing = permission == Permission::FileWrite;
        let quota = match writing {
            true => format!(", bytes_max = {BYTES_MAX_DEFAULT}, files_max = {FILES_MAX_DEFAULT}"),
            false => String::new(),
        };
        let mut lines = String::new();
        for (guest, host) in &all {
            if is_outermost(guest) && is_written(guest) == writing {
                let (guest, host) = (quote(guest.as_str()), quote(host.as_str()));
                let _infallible = writeln!(lines, "  {{ guest = {guest}, host = {host}{quota} }},");
            }
        }
        let advice = "# Check `host`: where the folder is on this machine is for you to say.";
        (!lines.is_empty()).then(|| format!("{advice}\npaths = [\n{lines}]\n"))
    }
}

/// The folders that hold the paths: those that were granted already, for whichever permission, the path itself if it is known to be
/// a folder, else the one around it.
fn around<'a>(targets: impl Iterator<Item = &'a str>, facts: &Facts<'_>) -> Places {
    let paths: Vec<AbsolutePath> = targets.filter_map(plain).collect();
    let is_folder = |path: &AbsolutePath| {
        paths.iter().any(|other| other != path && other.is_within(path)) || (facts.is_folder)(path.as_str())
    };
    let mut folders = Places::new();
    for path in paths.iter().filter(|path| path.as_str() != "/") {
        if let Some((guest, host)) = granted_around(path, facts.granted) {
            folders.insert(guest, host);
        } else if let Some(folder) = if is_folder(path) {
            Some(path.clone())
        } else {
            folder_of(path)
        } {
            folders.insert(folder.clone(), folder);
        }
    }
    let any = ANY_FOLDER
        .parse()
        .ok()
        .filter(|_| folders.is_empty() && !paths.is_empty());
    folders.extend(any.map(|any: AbsolutePath| (any.clone(), any)));
    folders
}

/// A path as a guest may write it: a final `/` or `/.` says nothing.
fn plain(target: &str) -> Option<AbsolutePath> {
    let path = target.trim_end_matches("/.").trim_end_matches('/');
    if path.is_empty() && target.starts_with('/') {
        "/".parse().ok()
    } else {
        path.parse().ok()
    }
}

fn granted_around(path: &AbsolutePath, granted: &Permissions) -> Option<(AbsolutePath, AbsolutePath)> {
    let read = granted
        .file_read
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|one| (&one.guest, &one.host));
    let write = granted
        .file_write
        .iter()
        .flat_map(|scope| &scope.paths)
        .map(|one| (&one.guest, &one.host));
    let mut around = read.chain(write).filter(|(guest, _)| path.is_within(guest));
    around.next().map(|(guest, host)| (guest.clone(), host.clone()))
}

fn folder_of(path: &AbsolutePath) -> Option<AbsolutePath> {
    let (front, last) = path.as_str().rsplit_once('/')?;
    match (front, last) {
        ("", "") => None,
        ("", _) => Some(path.clone()),
        (folder, _) => folder.parse().ok(),
    }
}
