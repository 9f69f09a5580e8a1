//! Places in a document, and what references to them read like.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::own::{bytes_of_text, parts_of_text};
use super::{Cost, Parts, Target, TooCostly};

/// Bytes of a name in a JSON Pointer, with the `/` before it. In it, `~` is `~0`, and `/` is `~1`.
pub(super) fn bytes_in_pointer(name: &str) -> u64 {
    let escaped = name.bytes().filter(|byte| matches!(byte, b'~' | b'/')).count();
    let escaped = u64::try_from(escaped).unwrap_or(u64::MAX);
    bytes_of_text(name).saturating_add(escaped).saturating_add(1)
}

impl Cost {
    /// Adds what `reference` leads to: one schema, or for a dynamic one any that bears the name.
    pub(super) fn resolve<'a>(&'a self, reference: &str, parts: &mut Parts<'a>) -> Result<(), TooCostly> {
        let fragment = reference.strip_prefix('#').ok_or(TooCostly::Reference)?;
        let fragment = percent_decoded(fragment).ok_or(TooCostly::Reference)?;
        let before = parts.list.len();
        parts.read = parts.read.saturating_add(parts_of_text(reference));
        if fragment.is_empty() || fragment.starts_with('/') {
            if !is_escaped(&fragment) {
                return Err(TooCostly::Reference);
            }
            if let Some(found) = self.root.pointer(&fragment) {
                parts.add(Target::Referred, found, bytes_of_text(&fragment));
            }
        } else {
            for pointer in self.anchors.get(&fragment).into_iter().flatten() {
                parts.read = parts.read.saturating_add(parts_of_text(pointer));
                if let Some(found) = self.root.pointer(pointer) {
                    parts.add(Target::Referred, found, bytes_of_text(pointer));
                }
            }
        }
        if parts.list.len() == before {
            Err(TooCostly::Reference)
        } else {
            Ok(())
        }
    }
}

/// Whether each `~` begins `~0` or `~1`. Where another one stands, a validator may find another place than we do, and what is
/// counted is not what it evaluates.
fn is_escaped(pointer: &str) -> bool {
    pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

/// Collects the anchors of a document, and refuses names that would make `#` mean something else.
pub(super) fn find_anchors(
    value: &Value,
    pointer: &mut String,
    anchors: &mut HashMap<String, Vec<String>>,
) -> Result<(), TooCostly> {
    let length = pointer.len();
    match value {
        Value::Object(map) => {
            anchors_of(map, pointer, anchors)?;
            for (name, inner) in map {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                find_anchors(inner, pointer, anchors)?;
                pointer.truncate(length);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                pointer.push_str(&format!("/{at}"));
                find_anchors(inner, pointer, anchors)?;
                pointer.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn anchors_of(
    map: &Map<String, Value>,
    pointer: &str,
    anchors: &mut HashMap<String, Vec<String>>,
) -> Result<(), TooCostly> {
    if !pointer.is_empty() && matches!(map.get("$id"), Some(Value::String(_))) {
        return Err(TooCostly::Identifier);
    }
    for keyword in ["$anchor", "$dynamicAnchor"] {
        if let Some(Value::String(name)) = map.get(keyword) {
            anchors.entry(name.clone()).or_default().push(pointer.to_owned());
        }
    }
    Ok(())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use jsonschema::{Draft, Registry, uri};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn a_reference_leads_where_a_validator_finds_it(
            names in btree_set("[~/01a]{0,3}", 1..30),
            any in vec("#(/(~|~0|~1|0|1|a|%7E|%2F){0,3}){0,2}", 30),
        ) {
            let below = |name: &String| names.iter().map(|inner| (inner.clone(), json!([name, inner]))).collect::<Value>();
            let document: Value = names.iter().map(|name| (name.clone(), below(name))).collect();
            let cost = Cost::of(&document).unwrap();
            let base = "https://schema.example/";
            let registry = Registry::new().draft(Draft::Draft202012).add(base, &document).unwrap().prepare().unwrap();
            let resolver = registry.resolver(uri::from_str(base).unwrap());
            let escaped = |name: &String| name.replace('~', "~0").replace('/', "~1");
            let own: Vec<String> = names.iter().map(|name| format!("#/{}", escaped(name))).collect();
            for reference in own.iter().chain(&any) {
                let mut parts = Parts::default();
                let is_found = cost.resolve(reference, &mut parts).is_ok();
                prop_assert!(is_found || !own.contains(reference), "{}", reference);
                if is_found {
                    let found: Vec<&Value> = parts.list.iter().map(|part| part.schema).collect();
                    let there = resolver.lookup(reference).unwrap();
                    prop_assert_eq!(found, [there.contents()], "{}", reference);
                }
            }
        }
    }
}
