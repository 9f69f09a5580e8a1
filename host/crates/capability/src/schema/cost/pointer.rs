//! Places in a document, and what references to them read like.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::TooCostly;
use super::own::bytes_of_text;

/// Bytes of a name in a JSON Pointer, with the `/` before it. In it, `~` is `~0`, and `/` is `~1`.
pub(super) fn bytes_in_pointer(name: &str) -> u64 {
    let escaped = name.bytes().filter(|byte| matches!(byte, b'~' | b'/')).count();
    let escaped = u64::try_from(escaped).unwrap_or(u64::MAX);
    bytes_of_text(name).saturating_add(escaped).saturating_add(1)
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

pub(super) fn percent_decoded(text: &str) -> Option<String> {
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
