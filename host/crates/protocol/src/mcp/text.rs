//! Texts of manifests as models and terminals may read them: without what moves a cursor and without what nobody sees.

use serde_json::Value;

/// Members of a schema that are words for whoever reads it.
const WORDS: [&str; 3] = ["title", "description", "$comment"];
/// Members of a schema whose values are data, and stay what they are.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// The text without control characters other than line ends and tabs, and without characters that are not seen: marks that
/// turn the direction of writing, and those in which others hide words.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|one| is_seen(*one)).collect()
}

fn is_seen(one: char) -> bool {
    match one {
        '\n' | '\t' => true,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => false,
        // Zero width space, marks and changes of direction, invisible operators, byte order mark. What joins letters stays.
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => false,
        // Tags and variants.
        '\u{e0000}'..='\u{e0fff}' => false,
        other => !other.is_control(),
    }
}

/// The schema with its words cleaned.
pub(super) fn clean_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let cleaned = members.iter().map(|(name, value)| {
                let value = match value {
                    Value::String(text) if WORDS.contains(&name.as_str()) => Value::String(clean(text)),
                    data if DATA.contains(&name.as_str()) => data.clone(),
                    other => clean_schema(other),
                };
                (name.clone(), value)
            });
            Value::Object(cleaned.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(clean_schema).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moves_a_cursor_or_is_not_seen_is_gone() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{7}\u{9b}\n\tc"), "a[2Jb\n\tc");
        assert_eq!(clean("safe\u{202e}evil\u{200b}\u{e0041}\u{feff}"), "safeevil");
        assert_eq!(clean("ä 🦀 👩\u{200d}💻"), "ä 🦀 👩\u{200d}💻");
    }

    #[test]
    fn words_of_a_schema_are_cleaned_and_its_data_is_not() {
        let schema = json!({
            "description": "a\u{7}",
            "properties": { "description": { "title": "b\u{e0041}", "enum": ["c\u{7}"], "const": { "title": "d\u{7}" } } },
            "anyOf": [{ "$comment": "e\u{1b}" }],
        });
        let cleaned = json!({
            "description": "a",
            "properties": { "description": { "title": "b", "enum": ["c\u{7}"], "const": { "title": "d\u{7}" } } },
            "anyOf": [{ "$comment": "e" }],
        });
        assert_eq!(clean_schema(&schema), cleaned);
    }
}
