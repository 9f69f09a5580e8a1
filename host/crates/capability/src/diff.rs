//! What changed between two components or two manifests, and whether authority grew: whether the new one can reach
//! something that the old one could not. When in doubt the answer is yes. Pure.

mod entry;
mod scopes;

use std::collections::BTreeMap;

use aral_contract::{CapabilityId, Code, Failure, Permission};
use serde::Serialize;

use crate::imports::split_version;
use crate::inspect::{ASKS, Inspection};
use crate::manifest::{Entry, ManifestBody};

pub use entry::diff_entries;

/// What can be compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A component.
    Component(Box<Inspection>),
    /// A manifest.
    Manifest(Box<ManifestBody>),
}

/// In which direction something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It reaches further.
    Wider,
    /// It reaches less far.
    Narrower,
    /// It is different, and neither of these.
    Changed,
}

impl Direction {
    /// The word in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Changed => "changed",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// In which capability; none: the two components themselves.
    pub capability: Option<CapabilityId>,
    /// What: `import`, `export`, `network:read`, `limits.fuel`, `input_schema`, …
    pub subject: String,
    /// In which direction.
    pub direction: Direction,
    /// How it was; none: it was not there.
    pub old: Option<String>,
    /// How it is; none: it is gone.
    pub new: Option<String>,
    /// Whether this gives authority that was not there.
    pub grew: bool,
}

impl Change {
    fn new(subject: impl Into<String>, direction: Direction, old: Option<String>, new: Option<String>) -> Self {
        Self {
            capability: None,
            subject: subject.into(),
            direction,
            old,
            new,
            grew: false,
        }
    }

    fn growing(self, grew: bool) -> Self {
        Self { grew, ..self }
    }

    /// A value that differs, without a direction.
    fn of_value(subject: &str, old: impl ToString, new: impl ToString) -> Option<Self> {
        let (old, new) = (old.to_string(), new.to_string());
        (old != new).then(|| Self::new(subject, Direction::Changed, Some(old), Some(new)))
    }
}

/// All changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whether any change gives authority that was not there.
    pub authority_grew: bool,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Diff {
    fn of(changes: Vec<Change>) -> Self {
        Self {
            authority_grew: changes.iter().any(|change| change.grew),
            changes,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares two components or two manifests.
pub fn diff(old: &Subject, new: &Subject) -> Result<Diff, Failure> {
    match (old, new) {
        (Subject::Component(old), Subject::Component(new)) => Ok(diff_components(old, new)),
        (Subject::Manifest(old), Subject::Manifest(new)) => Ok(diff_manifests(old, new)),
        (Subject::Component(_), Subject::Manifest(_)) | (Subject::Manifest(_), Subject::Component(_)) => Err(
            Failure::new(Code::ConfigInvalid, "a component and a manifest cannot be compared").with_hint(
                "give two components (`aral diff OLD.wasm NEW.wasm`) or two manifests (`aral diff OLD.json NEW.json`)",
            ),
        ),
    }
}

/// Compares two components. Authority grew when an import can use a permission that no import could use before, or asks for
/// the values of secrets.
pub fn diff_components(old: &Inspection, new: &Inspection) -> Diff {
    let mut changes = Vec::new();
    changes.extend(Change::of_value("digest", old.digest, new.digest));
    changes.extend(Change::of_value("size", old.size_bytes, new.size_bytes));
    let shape = |one: &Inspection| one.shape.map_or("none", |shape| shape.as_str());
    changes.extend(Change::of_value("shape", shape(old), shape(new)));

    let names = |one: &Inspection| one.imports.iter().map(|import| import.name.clone()).collect::<Vec<_>>();
    for mut change in diff_names("import", &names(old), &names(new)) {
        let import = new
            .imports
            .iter()
            .find(|import| Some(&import.name) == change.new.as_ref());
        let opened = import.map(|import| import.role.permissions()).unwrap_or_default();
        change.grew = opened.iter().any(|permission| !old.permissions.contains(permission));
        changes.push(change);
    }
    let reveals = |one: &Inspection| one.imports.iter().any(|import| import.reveals);
    let secrets = Permission::SecretRead.as_str();
    let asks = || Some(ASKS.to_owned());
    match (reveals(old), reveals(new)) {
        (false, true) => changes.push(Change::new(secrets, Direction::Added, None, asks()).growing(true)),
        (true, false) => changes.push(Change::new(secrets, Direction::Removed, asks(), None)),
        (true, true) | (false, false) => {}
    }
    let names = |one: &Inspection| one.exports.iter().map(|export| export.name.clone()).collect::<Vec<_>>();
    changes.extend(diff_names("export", &names(old), &names(new)));
    Diff::of(changes)
}

/// Compares lists of interface names; a name that is there in another version counts as changed.
fn diff_names(subject: &str, old: &[String], new: &[String]) -> Vec<Change> {
    let by_front = |names: &[String]| -> BTreeMap<String, Vec<String>> {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names {
            map.entry(split_version(name).0.to_owned())
                .or_default()
                .push(name.clone());
        }
        map
    };
    let (old, mut new) = (by_front(old), by_front(new));
    let mut changes = Vec::new();
    for (front, mut before) in old {
        let mut after = new.remove(&front).unwrap_or_default();
        let same: Vec<String> = before.iter().filter(|name| after.contains(name)).cloned().collect();
        before.retain(|name| !same.contains(name));
        after.retain(|name| !same.contains(name));
        let mut after = after.into_iter();
        for before in before {
            let after = after.next();
            let direction = if after.is_some() {
                Direction::Changed
            } else {
                Direction::Removed
            };
            changes.push(Change::new(subject, direction, Some(before), after));
        }
        changes.extend(after.map(|name| Change::new(subject, Direction::Added, None, Some(name))));
    }
    let added = new.into_values().flatten();
    changes.extend(added.map(|name| Change::new(subject, Direction::Added, None, Some(name))));
    changes
}

/// Compares two manifests: each version of a capability with the same one of before, or else with the next lower one of before, or
/// else with the lowest one of before, or else with nothing. And each version that is gone with the lower one that its callers get, and what is
/// called without a version with what was: of that only what grew is told.
pub fn diff_manifests(old: &ManifestBody, new: &ManifestBody) -> Diff {
    let by_id = |body: &'_ ManifestBody| {
        let mut map: BTreeMap<CapabilityId, Vec<Entry>> = BTreeMap::new();
        for entry in body.capabilities() {
            map.entry(entry.id.clone()).or_default().push(entry.clone());
        }
        for entries in map.values_mut() {
            entries.sort_by(|one, two| one.version.cmp(&two.version));
        }
        map
    };
    let (mut old, new) = (by_id(old), by_id(new));
    let mut changes = Vec::new();
    for (id, entries) in new {
        let before = old.remove(&id).unwrap_or_default();
        changes.extend(diff_versions(&before, &entries));
    }
    changes.extend(old.into_values().flatten().map(|entry| entry::removed(&entry)));
    Diff::of(changes)
}

/// Compares the versions of one capability; both lists are sorted by version.
fn diff_versions(old: &[Entry], new: &[Entry]) -> Vec<Change> {
    let stays = |before: &&Entry| new.iter().any(|entry| entry.version == before.version);
    let mut gone: Vec<&Entry> = old.iter().filter(|before| !stays(before)).collect();
    let mut changes = Vec::new();
    for entry in new {
        // Callers, personas and policies are given lines of versions, such as `@^1`. Whoever was given the line of this version had
        // the one below it until now, whatever newer lines there are. Nobody who is given a line gets what is no release.
        let lower = || old.iter().filter(|before| before.version <= entry.version);
        let taken = lower().rfind(|before| before.version.pre.is_empty() || !entry.version.pre.is_empty());
        let before = taken.or_else(|| lower().next_back()).or_else(|| old.first());
        gone.retain(|gone| before.is_none_or(|before| gone.version != before.version));
        changes.extend(match before {
            Some(before) => diff_entries(before, entry).changes,
            None => entry::added(entry),
        });
    }
    let replaced = old.iter().filter(|before| !stays(before));
    let replaced = replaced.filter_map(|before| Some((before, next_lower(before, new)?)));
    let without_version = newest(old).zip(newest(new));
    for (before, now) in replaced.chain(without_version) {
        for change in diff_entries(before, now).changes {
            if change.grew && !changes.contains(&change) {
                changes.push(change);
            }
        }
    }
    changes.extend(gone.into_iter().map(entry::removed));
    changes
}

/// The lower version that takes the place of one that is gone, for whoever was given its line up to its minor version, such as `@~1.2` or
/// `@>=1, <1.3`, or up to its end, such as `@^1`.
fn next_lower<'a>(gone: &Entry, new: &'a [Entry]) -> Option<&'a Entry> {
    let version = &gone.version;
    let now = new.iter().rfind(|one| {
        let is_taken = one.version.pre.is_empty() || !version.pre.is_empty();
        let is_of_its_line =
            one.version.major == version.major && (version.major > 0 || one.version.minor == version.minor);
        is_taken && is_of_its_line && one.version.minor <= version.minor
    });
    now.filter(|now| now.version < *version)
}

/// What is called without a version.
fn newest(entries: &[Entry]) -> Option<&Entry> {
    let release = entries.iter().rfind(|entry| entry.version.pre.is_empty());
    release.or_else(|| entries.last())
}

#[cfg(test)]
mod tests;
