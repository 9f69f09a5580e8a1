//! Compares two manifest entries member by member.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use aral_contract::Limits;
use serde_json::Value;

use super::{Change, Diff, Direction, scopes};
use crate::manifest::Entry;

/// Differences named of one schema; after these it is only said that there are more.
const SCHEMA_DIFFERENCES_MAX: usize = 16;

/// Compares two entries. Authority grew when a permission is new, a scope reaches further, or a limit is higher or may be.
pub fn diff_entries(old: &Entry, new: &Entry) -> Diff {
    let mut changes: Vec<Change> = [
        Change::of_value("id", &old.id, &new.id),
        Change::of_value("version", &old.version, &new.version),
        Change::of_value("component", old.component, new.component),
        Change::of_value("shape", old.shape, new.shape),
        Change::of_value("title", &old.title, &new.title),
        Change::of_value("description", &old.description, &new.description),
    ]
    .into_iter()
    .flatten()
    .collect();
    changes.extend(diff_schemas("input_schema", &old.input_schema, &new.input_schema));
    changes.extend(diff_schemas("output_schema", &old.output_schema, &new.output_schema));
    changes.extend(scopes::diff_permissions(&old.permissions, &new.permissions));
    changes.extend(diff_limits(old, new));
    Diff::of(of(new, changes))
}

/// A capability that was not there. What it asks for is authority that was not there.
pub(super) fn added(entry: &Entry) -> Vec<Change> {
    let mut changes = vec![Change::new(
        "capability",
        Direction::Added,
        None,
        Some(entry.version.to_string()),
    )];
    changes.extend(scopes::diff_permissions(&Default::default(), &entry.permissions));
    let bare = Entry {
        limits: Default::default(),
        ..entry.clone()
    };
    changes.extend(diff_limits(&bare, entry));
    of(entry, changes)
}

/// A capability that is gone.
pub(super) fn removed(entry: &Entry) -> Change {
    Change {
        capability: Some(entry.id.clone()),
        ..Change::new("capability", Direction::Removed, Some(entry.version.to_string()), None)
    }
}

fn of(entry: &Entry, changes: Vec<Change>) -> Vec<Change> {
    let name = |change| Change {
        capability: Some(entry.id.clone()),
        ..change
    };
    changes.into_iter().map(name).collect()
}

/// A limit that is not asked for is what a policy says by default, up to its ceiling, and no policy is known here: what is asked for on one
/// side alone may be more than that, or less.
fn diff_limits(old: &Entry, new: &Entry) -> Vec<Change> {
    let asked = |entry: &Entry| entry.limits.entries().into_iter().collect::<BTreeMap<_, _>>();
    let (before, after) = (asked(old), asked(new));
    let mut changes = Vec::new();
    for (name, _) in Limits::default().entries() {
        let (before, after) = (before.get(name).copied(), after.get(name).copied());
        let (direction, grew) = match (before, after) {
            (None, None) => continue,
            (Some(before), Some(after)) => match after.cmp(&before) {
                Ordering::Greater => (Direction::Wider, true),
                Ordering::Less => (Direction::Narrower, false),
                Ordering::Equal => continue,
            },
            (Some(_), None) | (None, Some(_)) => (Direction::Changed, true),
        };
        let text = |value: Option<u64>| {
            Some(value.map_or_else(|| "the policy's default".to_owned(), |value| value.to_string()))
        };
        changes.push(Change::new(format!("limits.{name}"), direction, text(before), text(after)).growing(grew));
    }
    changes
}

/// Names the places in which two schemas differ, as JSON pointers.
fn diff_schemas(member: &str, old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    walk(&mut changes, member.to_owned(), old, new);
    changes
}

fn walk(changes: &mut Vec<Change>, place: String, old: &Value, new: &Value) {
    if old == new || changes.len() > SCHEMA_DIFFERENCES_MAX {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let below = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        for (name, before) in old {
            match new.get(name) {
                Some(after) => walk(changes, below(name), before, after),
                None => changes.push(Change::new(below(name), Direction::Removed, Some(short(before)), None)),
            }
        }
        for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            changes.push(Change::new(below(name), Direction::Added, None, Some(short(after))));
        }
        if changes.len() > SCHEMA_DIFFERENCES_MAX {
            changes.truncate(SCHEMA_DIFFERENCES_MAX);
            let more = Some("more differences".to_owned());
            changes.push(Change::new(place, Direction::Changed, None, more));
        }
        return;
    }
    changes.push(Change::new(
        place,
        Direction::Changed,
        Some(short(old)),
        Some(short(new)),
    ));
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
