//! Which folders an entry offers for the paths that were reached for. The root is never offered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aral_contract::scope::AbsolutePath;
use aral_contract::{Permission, Permissions};

use super::{Facts, quote};
use crate::cli::allow::{BYTES_MAX_DEFAULT, FILES_MAX_DEFAULT};
use crate::cli::text;

/// What is offered to a component that looks at nothing but `/`, where it would find whichever folder it is granted.
const ANY_FOLDER: &str = "/data";

/// What a guest calls each folder, and where that is on this machine.
type Places = BTreeMap<AbsolutePath, AbsolutePath>;

/// The folders that hold what was read, and those that hold what was written.
pub(super) struct Folders {
    read: Places,
    written: Places,
    /// Whether `/` was looked at, where it finds these.
    looked_around: bool,
}

impl Folders {
    pub(super) fn new<'a>(
        read: impl Iterator<Item = &'a str>,
        written: impl Iterator<Item = &'a str>,
        facts: &Facts<'_>,
    ) -> Self {
        let read: Vec<AbsolutePath> = read.filter_map(plain).collect();
        let written: Vec<AbsolutePath> = written.filter_map(plain).collect();
        let is_folder = |path: &AbsolutePath| {
            let mut all = read.iter().chain(&written);
            all.any(|other| other != path && other.is_within(path)) || (facts.is_folder)(path.as_str())
        };
        let mut folders = Self {
            read: around(&read, &is_folder, facts.granted),
            written: around(&written, &is_folder, facts.granted),
            looked_around: read.iter().any(is_root),
        };
        if folders.read.is_empty() && folders.written.is_empty() {
            folders.looked_around = false;
            folders.read = read.first().and_then(|_| any()).into_iter().collect();
            folders.written = written.first().and_then(|_| any()).into_iter().collect();
        }
        folders
    }

    /// The folders that are offered, where they are on this machine, and whether for writing. An entry may have no folder in another one,
    /// whichever of the two permissions they are of, and what may be written may be read: so a folder that holds something of both is
    /// offered for writing alone.
    fn offered(&self) -> Vec<(&AbsolutePath, &AbsolutePath, bool)> {
        let all: BTreeMap<_, _> = self.read.iter().chain(&self.written).collect();
        let is_outermost = |guest: &AbsolutePath| !all.keys().any(|other| *other != guest && guest.is_within(other));
        let is_written = |guest: &AbsolutePath| self.written.keys().any(|other| other.is_within(guest));
        let outermost = all.iter().filter(|(guest, _)| is_outermost(guest));
        outermost
            .map(|(guest, host)| (*guest, *host, is_written(guest)))
            .collect()
    }

    /// The scope of a permission.
    pub(super) fn scope(&self, permission: Permission) -> Option<String> {
        let writing = permission == Permission::FileWrite;
        let quota = match writing {
            true => format!(", bytes_max = {BYTES_MAX_DEFAULT}, files_max = {FILES_MAX_DEFAULT}"),
            false => String::new(),
        };
        let mut lines = String::new();
        for (guest, host, _) in self.offered().into_iter().filter(|(_, _, of)| *of == writing) {
            let (guest, host) = (quote(guest.as_str()), quote(host.as_str()));
            let _infallible = writeln!(lines, "  {{ guest = {guest}, host = {host}{quota} }},");
        }
        let advice = "# Check `host`: where the folder is on this machine is for you to say.";
        (!lines.is_empty()).then(|| format!("{advice}\npaths = [\n{lines}]\n"))
    }

    /// Why the folders of a permission are not those that hold what was reached for under it.
    pub(super) fn comments(&self, permission: Permission) -> String {
        let mut lines = String::new();
        for (folder, _, _) in self.offered().into_iter().filter(|(_, _, writing)| *writing) {
            let shown = text::line(folder.as_str());
            if permission == Permission::FileWrite && !self.written.contains_key(folder) {
                let _infallible = writeln!(
                    lines,
                    "# {shown} is wider than what was written: it holds what was read as well, and no folder may be in another one."
                );
            }
            let read = self.read.keys().filter(|read| read.is_within(folder));
            for read in read.filter(|_| permission == Permission::FileRead) {
                let read = text::line(read.as_str());
                let _infallible = writeln!(
                    lines,
                    "# {read}: {shown} is offered for writing, and what may be written may be read."
                );
            }
        }
        if permission == Permission::FileRead && self.looked_around {
            lines.push_str("# A look at / finds whichever folder is granted.\n");
        }
        lines
    }
}

/// The folders that hold the paths: those that were granted already, for whichever permission, the path itself if it is known to be
/// a folder, else the one around it.
fn around(paths: &[AbsolutePath], is_folder: &dyn Fn(&AbsolutePath) -> bool, granted: &Permissions) -> Places {
    let mut folders = Places::new();
    for path in paths.iter().filter(|path| !is_root(path)) {
        if let Some((guest, host)) = granted_around(path, granted) {
            folders.insert(guest, host);
        } else if let Some(folder) = if is_folder(path) {
            Some(path.clone())
        } else {
            folder_of(path)
        } {
            folders.insert(folder.clone(), folder);
        }
    }
    folders
}

fn is_root(path: &AbsolutePath) -> bool {
    path.as_str() == "/"
}

/// [`ANY_FOLDER`], and the same on this machine.
fn any() -> Option<(AbsolutePath, AbsolutePath)> {
    let any: AbsolutePath = ANY_FOLDER.parse().ok()?;
    Some((any.clone(), any))
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
