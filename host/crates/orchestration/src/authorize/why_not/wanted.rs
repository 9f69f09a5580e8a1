//! What somebody wants a call to be able to do, beside what the manifest asks for: taken apart item by item, and put into a
//! copy of the entry with the lines that the manifest would need. It works on the form that the documents have.

use aral_capability::manifest::Entry;
use aral_contract::quote::quoted;
use aral_contract::{HostPattern, Permissions};
use serde_json::{Map, Value};

use super::{Change, Document};

/// One item of one permission.
pub(super) struct Item {
    permission: String,
    /// The list of the scope that it stands in.
    list: String,
    item: Value,
    /// The scope with this item alone.
    scope: Map<String, Value>,
}

/// Every item by itself.
pub(super) fn items(wanted: &Permissions) -> Vec<Item> {
    let Ok(Value::Object(permissions)) = serde_json::to_value(wanted) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    for (permission, scope) in permissions {
        let Value::Object(scope) = scope else { continue };
        let lists = scope.iter().filter_map(|(name, value)| Some((name, value.as_array()?)));
        for (list, all) in lists {
            items.extend(all.iter().map(|item| {
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
    items
}

impl Item {
    /// The entry as if it asked for this alone.
    pub(super) fn alone(&self, entry: &Entry) -> Option<Entry> {
        let permissions = Map::from_iter([(self.permission.clone(), Value::Object(self.scope.clone()))]);
        Some(Entry {
            permissions: serde_json::from_value(permissions.into()).ok()?,
            ..entry.clone()
        })
    }

    /// The line that the manifest would need.
    pub(super) fn change(&self) -> Change {
        let mut line = format!(
            "capability.toml, [permissions.\"{}\"]: {} = [{}]",
            self.permission,
            self.list,
            inline(&self.item)
        );
        for (name, value) in self.scope.iter().filter(|(name, _)| **name != self.list) {
            line.push_str(&format!(", {name} = {}", inline(value)));
        }
        Change {
            document: Document::Manifest,
            line,
        }
    }
}

/// The entry with all of these, and those that it did not ask for.
pub(super) fn added<'a>(entry: &Entry, wanted: &'a [Item]) -> Option<(Entry, Vec<&'a Item>)> {
    let Ok(Value::Object(mut permissions)) = serde_json::to_value(&entry.permissions) else {
        return None;
    };
    let mut new = Vec::new();
    for one in wanted {
        let scope = permissions.entry(&one.permission).or_insert_with(|| {
            let mut empty = one.scope.clone();
            empty.insert(one.list.clone(), Value::Array(Vec::new()));
            Value::Object(empty)
        });
        let list = scope.get_mut(&one.list).and_then(Value::as_array_mut)?;
        if !list.iter().any(|there| covers(there, &one.item)) {
            list.push(one.item.clone());
            new.push(one);
        }
    }
    let entry = Entry {
        permissions: serde_json::from_value(permissions.into()).ok()?,
        ..entry.clone()
    };
    Some((entry, new))
}

/// Whether what is there reaches as far: hosts by their labels, folders by where they are, all else if it is the same.
fn covers(there: &Value, item: &Value) -> bool {
    let host = |value: &Value| value.as_str().and_then(|text| text.parse::<HostPattern>().ok());
    if let (Some(there), Some(item)) = (host(there), host(item)) {
        return there.includes(&item);
    }
    let folder = |value: &Value| Some((value.get("guest")?.clone(), value.get("host")?.clone()));
    there == item || folder(item).is_some_and(|item| folder(there) == Some(item))
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
