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

/// The folders that hold what was reached for.
pub(super) struct Folders {
    /// Those that are on this machine.
    here: Held,
    /// Those of which only the guest's name is known. They are told and not offered: with one of them the capability would not run.
    missing: Held,
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
            here: Held::default(),
            missing: Held::default(),
            looked_around: read.iter().any(is_root),
        };
        for (paths, writing) in [(&read, false), (&written, true)] {
            for path in paths.iter().filter(|path| !is_root(path)) {
                match granted_around(path, facts.granted) {
                    Some((guest, host)) => {
                        folders.here.of(writing).insert(guest, host);
                    }
                    None if is_folder(path) => folders.place(path.clone(), writing, facts),
                    None => folders.place(folder_of(path), writing, facts),
                }
            }
        }
        if folders.here.is_empty() {
            for (paths, writing) in [(&read, false), (&written, true)] {
                let any = ANY_FOLDER.parse::<AbsolutePath>().ok();
                if let Some(any) = any.filter(|_| paths.iter().any(is_root)) {
                    folders.place(any, writing, facts);
                }
            }
            folders.looked_around = folders.looked_around && folders.here.is_empty();
        }
        folders
    }

    /// A folder of which the guest's name is known: what is called `/data` there is often called so on this machine, too.
    fn place(&mut self, folder: AbsolutePath, writing: bool, facts: &Facts<'_>) {
        let held = if (facts.is_folder)(folder.as_str()) {
            &mut self.here
        } else {
            &mut self.missing
        };
        held.of(writing).insert(folder.clone(), folder);
    }

    /// The scope of a permission.
    pub(super) fn scope(&self, permission: Permission) -> Option<String> {
        let writing = permission == Permission::FileWrite;
        let mut lines = String::new();
        for (guest, host, _) in self.here.offered().into_iter().filter(|(_, _, of)| *of == writing) {
            let _infallible = writeln!(lines, "  {},", item(guest, host.as_str(), writing));
        }
        let advice = "# Check `host`: where the folder is on this machine is for you to say.";
        (!lines.is_empty()).then(|| format!("{advice}\npaths = [\n{lines}]\n"))
    }

    /// Why the folders of a permission are not those that hold what was reached for under it, and which are not on this machine.
    pub(super) fn comments(&self, permission: Permission) -> String {
        let mut lines = String::new();
        let offered = self.here.offered();
        for (folder, _, _) in offered.into_iter().filter(|(_, _, writing)| *writing) {
            let shown = text::line(folder.as_str());
            if permission == Permission::FileWrite && !self.here.written.contains_key(folder) {
                let _infallible = writeln!(
                    lines,
                    "# {shown} is wider than what was written: it holds what was read as well, and no folder may be in another one."
                );
            }
            let read = self.here.read.keys().filter(|read| read.is_within(folder));
            for read in read.filter(|_| permission == Permission::FileRead) {
                let read = text::line(read.as_str());
                let _infallible = writeln!(
                    lines,
                    "# {read}: {shown} is offered for writing, and what may be written may be read."
                );
            }
        }
        let writing = permission == Permission::FileWrite;
        for (folder, _, _) in self.missing.offered().into_iter().filter(|(_, _, of)| *of == writing) {
            let (shown, item) = (text::line(folder.as_str()), item(folder, "WHERE", writing));
            let _infallible = writeln!(
                lines,
                "# {shown}: there is no such folder on this machine. To grant one, add where it is: {}",
                text::line(&item)
            );
        }
        if permission == Permission::FileRead && self.looked_around {
            lines.push_str("# A look at / finds whichever folder is granted.\n");
        }
        lines
    }
}

/// The folders that hold what was read, and those that hold what was written.
#[derive(Default)]
struct Held {
    read: Places,
    written: Places,
}

impl Held {
    fn of(&mut self, writing: bool) -> &mut Places {
        if writing { &mut self.written } else { &mut self.read }
    }

    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.written.is_empty()
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
}

/// A folder as it stands in a scope.
fn item(guest: &AbsolutePath, host: &str, writing: bool) -> String {
    let (guest, host) = (quote(guest.as_str()), quote(host));
    let quota = match writing {
        true => format!(", bytes_max = {BYTES_MAX_DEFAULT}, files_max = {FILES_MAX_DEFAULT}"),
        false => String::new(),
    };
    format!("{{ guest = {guest}, host = {host}{quota} }}")
}

fn is_root(path: &AbsolutePath) -> bool {
    path.as_str() == "/"
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

/// The folder that a path lies in. What lies right below the root stands for itself.
fn folder_of(path: &AbsolutePath) -> AbsolutePath {
    let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.parse().unwrap_or_else(|_| path.clone())
}
