//! One line for one record, for people. Programs take the record itself.

use aral_audit::Record;
use serde_json::Value;

use crate::cli::text;

/// Longest line, in characters: a record may hold thirty reasons.
const LINE_CHARS_MAX: usize = 1000;

/// Number, time, type, and every member with its value.
pub(crate) fn line(record: &Record) -> String {
    let mut shown = format!("{} {} {}", record.seq, record.at, record.event.type_name());
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    members("", &event, &mut shown);
    if let Some(trace) = record.trace {
        shown.push_str(&format!(" trace={trace}"));
    }
    if let Some((cut, _)) = shown.char_indices().nth(LINE_CHARS_MAX) {
        shown.truncate(cut);
        shown.push('…');
    }
    text::line(&shown).into_owned()
}

/// Digests by their first digits; what is empty is left out.
fn members(path: &str, value: &Value, shown: &mut String) {
    match value {
        Value::Object(map) => {
            for (name, value) in map
                .iter()
                .filter(|(name, _)| !path.is_empty() || name.as_str() != "type")
            {
                let dot = if path.is_empty() { "" } else { "." };
                members(&format!("{path}{dot}{name}"), value, shown);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) if is_digest(text) => {
            let start: String = text.chars().take(12).collect();
            shown.push_str(&format!(" {path}={start}"));
        }
        Value::String(text) if text.chars().all(|one| one.is_ascii_graphic() && one != '"') => {
            shown.push_str(&format!(" {path}={text}"));
        }
        Value::Null => {}
        Value::Number(number) if number.as_u64() == Some(0) => {}
        other @ (Value::String(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_)) => {
            shown.push_str(&format!(" {path}={other}"));
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_it_holds() {
        let json = r#"{"seq":7,"prev":"0000000000000000000000000000000000000000000000000000000000000000","at":"2026-01-01T00:00:00Z","trace":"01010101010101010101010101010101","event":{"type":"host_call","capability":"a","permission":"exec","target":{"clear":"\u202egit log"},"allowed":false,"reason":"no"}}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(
            line(&record),
            "7 2026-01-01T00:00:00Z host_call allowed=false capability=a permission=exec reason=no target.clear=\"\\u{202e}git log\" trace=01010101010101010101010101010101"
        );
    }
}
