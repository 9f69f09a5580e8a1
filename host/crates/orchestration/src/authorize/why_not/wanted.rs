//! What somebody wants a call to be able to do, beside what the manifest asks for: taken apart item by item, and put into a
//! copy of the entry with the lines that the manifest would need. It works on the form that the documents have.

use std::path::Path;

use aral_capability::manifest::Entry;
use aral_contract::quote::quoted;
use aral_contract::{HostPattern, Permission, Permissions};
use serde_json::{Map, Value};

use super::{Change, Document};

/// The entry with what is wanted besides.
pub(super) struct Added {
    pub(super) whole: Entry,
    /// The lines that the manifest would need. None: it asks for all of it.
    pub(super) changes: Vec<Change>,
    /// The entry as if it asked for one of the items alone. Each of these has to be given whole.
    pub(super) alone: Vec<Entry>,
}

/// One item of one permission.
struct Item {
    permission: String,
    /// The list of the scope that it stands in.
    list: String,
    item: Value,
    /// The scope with this item alone.
    scope: Map<String, Value>,
}

/// Every item by itself, a folder before those that lie in it, and folders to write to before all else: what can be written can be read.
fn items(wanted: &Permissions) -> Vec<Item> {
    let Ok(Value::Object(permissions)) = serde_json::to_value(wanted) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    for (permission, scope) in permissions {
        let Value::Object(scope) = scope else { continue };
        let lists = scope.iter().filter_map(|(name, value)| Some((name, value.as_array()?)));
        for (list, all) in lists {
            let mut all: Vec<&Value> = all.iter().collect();
            all.sort_by_key(|item| item.get("guest").and_then(Value::as_str).map_or(0, str::len));
            items.extend(all.into_iter().map(|item| {
                let mut alone = scope.clone();
                alone.insert(list.clone(), Value::Array(vec![item.clone()]));
                Item {
                    permission: permission.clone(),
                    list: list.clone(),
                    item: item.clone(),
                    scope: alone,
                }
            }));
        }
    }
    items.sort_by_key(|item| item.permission != Permission::FileWrite.as_str());
    items
}

impl Item {
    /// The entry as if it asked for this alone.
    fn alone(&self, entry: &Entry) -> Option<Entry> {
        let permissions = Map::from_iter([(self.permission.clone(), Value::Object(self.scope.clone()))]);
        Some(Entry {
            permissions: serde_json::from_value(permissions.into()).ok()?,
            ..entry.clone()
        })
    }

    /// Whether a permission has it in this list of its scope.
    fn is_in(&self, permissions: &Map<String, Value>, permission: &str) -> bool {
        let list = permissions
            .get(permission)
            .and_then(|scope| scope.get(&self.list)?.as_array());
        list.is_some_and(|list| list.iter().any(|there| covers(there, &self.item)))
    }

    /// Puts it into a scope of the manifest, and raises the numbers of that where they are too low. Returns what has to be written.
    fn put(&self, scope: &mut Map<String, Value>, is_there: bool, is_new: bool) -> Option<Vec<String>> {
        let mut written = Vec::new();
        if !is_there {
            scope.get_mut(&self.list)?.as_array_mut()?.push(self.item.clone());
            written.push(format!("{} = [{}]", self.list, inline(&self.item)));
        }
        let numbers = self
            .scope
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_u64()?)));
        for (name, wanted) in numbers {
            let is_low = scope.get(name).and_then(Value::as_u64) < Some(wanted);
            if is_low {
                scope.insert(name.clone(), wanted.into());
            }
            if is_low || (is_new && !is_there) {
                written.push(format!("{name} = {wanted}"));
            }
        }
        Some(written)
    }
}

/// The entry with all of this, and what it did not ask for.
pub(super) fn added(entry: &Entry, wanted: &Permissions) -> Option<Added> {
    let Ok(Value::Object(asked)) = serde_json::to_value(&entry.permissions) else {
        return None;
    };
    let mut permissions = asked.clone();
    let (mut changes, mut alone) = (Vec::new(), Vec::new());
    for one in items(wanted) {
        let reads = one.permission == Permission::FileRead.as_str();
        // It needs no word of its own: an entry that may be called is given each of its folders.
        if reads && one.is_in(&permissions, Permission::FileWrite.as_str()) {
            continue;
        }
        alone.extend(one.alone(entry));
        let is_there = one.is_in(&permissions, &one.permission);
        let scope = permissions.entry(&one.permission).or_insert_with(|| {
            let mut empty = one.scope.clone();
            empty.insert(one.list.clone(), Value::Array(Vec::new()));
            Value::Object(empty)
        });
        let is_new = !asked.contains_key(&one.permission);
        let written = one.put(scope.as_object_mut()?, is_there, is_new)?;
        if !written.is_empty() {
            changes.push(Change {
                document: Document::Manifest,
                line: format!(
                    "capability.toml, [permissions.\"{}\"]: {}",
                    one.permission,
                    written.join(", ")
                ),
            });
        }
    }
    let whole = Entry {
        permissions: serde_json::from_value(permissions.into()).ok()?,
        ..entry.clone()
    };
    Some(Added { whole, changes, alone })
}

/// Whether what is there reaches as far: hosts by their labels, folders by where they are and what may be written, secrets by the hosts
/// that they go to, all else if it is the same.
fn covers(there: &Value, item: &Value) -> bool {
    let host = |value: &Value| value.as_str().and_then(|text| text.parse::<HostPattern>().ok());
    if let (Some(there), Some(item)) = (host(there), host(item)) {
        return there.includes(&item);
    }
    let quota = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    let is_enough = |name| quota(item, name) <= quota(there, name);
    let guest = below(there, item, "guest");
    if guest.is_some() {
        return guest == below(there, item, "host") && ["bytes_max", "files_max"].into_iter().all(is_enough);
    }
    let goes_to = |host| hosts(there).iter().any(|there| covers(there, host));
    without_hosts(there) == without_hosts(item) && hosts(item).iter().all(goes_to)
}

/// The way from one folder to another one in it, as the guest or the host sees both. None: it is not in it.
fn below<'a>(there: &'a Value, item: &'a Value, member: &str) -> Option<&'a Path> {
    let path = |value: &'a Value| value.get(member)?.as_str().map(Path::new);
    path(item)?.strip_prefix(path(there)?).ok()
}

fn hosts(item: &Value) -> &[Value] {
    let hosts = item.get("hosts").and_then(Value::as_array);
    hosts.map(Vec::as_slice).unwrap_or_default()
}

fn without_hosts(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(members) = item.as_object_mut() {
        members.remove("hosts");
    }
    item
}

/// As TOML writes it on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| format!("{name} = {}", inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
