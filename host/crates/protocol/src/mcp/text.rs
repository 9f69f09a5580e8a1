//! Texts of manifests as models and terminals may read them: without what moves a cursor and without what nobody sees.

use serde_json::{Map, Value};

/// Members of a schema whose texts have a meaning, and stay what they are. All others are words for whoever reads it, also under
/// names that JSON Schema does not know.
const MEANING: [&str; 12] = [
    "$schema",
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "type",
    "pattern",
    "required",
    "contentEncoding",
    "contentMediaType",
];
/// Members of a schema whose values are data, and stay what they are.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];
/// Members of a schema whose own members are schemas or lists of names, whatever their names say.
const NAMED: [&str; 7] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
];

/// The text without control characters other than line ends and tabs, and without characters that are not seen: marks that
/// turn the direction of writing, and those in which others hide words.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|one| is_seen(*one)).collect()
}

fn is_seen(one: char) -> bool {
    match one {
        '\n' | '\t' => true,
        // Soft hyphen, grapheme joiner, Arabic letter mark, inherent vowels of Khmer, Mongolian variants and vowel separator.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => false,
        // Letters of Hangul that only fill their place.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        // Zero width space, marks and changes of direction, invisible operators, byte order mark. What joins letters stays.
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => false,
        // Variants but for the one that makes an emoji of a sign, reserved places, and what stands around annotations.
        '\u{fe00}'..='\u{fe0e}' | '\u{fff0}'..='\u{fffb}' => false,
        // Formats of shorthand and of music.
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => false,
        // Tags and variants.
        '\u{e0000}'..='\u{e0fff}' => false,
        other => !other.is_control(),
    }
}

/// The schema with its words cleaned.
pub(super) fn clean_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => each(members, |name, value| match value {
            data if DATA.contains(&name) => data.clone(),
            Value::Object(schemas) if NAMED.contains(&name) => each(schemas, |_name, one| clean_schema(one)),
            other if MEANING.contains(&name) => clean_schema(other),
            other => clean_words(other),
        }),
        Value::Array(items) => Value::Array(items.iter().map(clean_schema).collect()),
        other => other.clone(),
    }
}

/// The same where texts are words, also in lists.
fn clean_words(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => Value::Array(items.iter().map(clean_words).collect()),
        other => clean_schema(other),
    }
}

fn each(members: &Map<String, Value>, of: impl Fn(&str, &Value) -> Value) -> Value {
    let cleaned = members.iter().map(|(name, value)| (name.clone(), of(name, value)));
    Value::Object(cleaned.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moves_a_cursor_or_is_not_seen_is_gone() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{7}\u{9b}\n\tc"), "a[2Jb\n\tc");
        assert_eq!(clean("safe\u{202e}evil\u{200b}\u{e0041}\u{feff}"), "safeevil");
        for hidden in [
            '\u{34f}'..='\u{34f}',
            '\u{115f}'..='\u{1160}',
            '\u{17b4}'..='\u{17b5}',
            '\u{180b}'..='\u{180f}',
            '\u{3164}'..='\u{3164}',
            '\u{fe00}'..='\u{fe0e}',
            '\u{ffa0}'..='\u{ffa0}',
            '\u{fff0}'..='\u{fffb}',
            '\u{1bca0}'..='\u{1bca3}',
            '\u{1d173}'..='\u{1d17a}',
            '\u{e0000}'..='\u{e0fff}',
        ] {
            for one in hidden {
                assert_eq!(clean(&format!("a{one}b")), "ab", "{}", one.escape_unicode());
            }
        }
        assert_eq!(clean("\u{2708}\u{fe0f}"), "\u{2708}\u{fe0f}");
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

    #[test]
    fn texts_of_a_schema_are_words_unless_they_have_a_meaning() {
        let schema = |word: &str| {
            json!({
                "x-note": word,
                "format": word,
                "properties": { "a": { "enumDescriptions": [word, [word]], "x-more": { "summary": word } } },
            })
        };
        assert_eq!(clean_schema(&schema("a\u{e0041}\u{7}")), schema("a"));
        for name in MEANING {
            for kept in [json!({ name: "a\u{7}" }), json!({ name: ["a\u{7}"] })] {
                assert_eq!(clean_schema(&kept), kept, "{name}");
            }
        }
    }

    #[test]
    fn what_a_schema_is_called_does_not_make_data_of_it() {
        for keyword in NAMED {
            for name in DATA.iter().chain(&MEANING).chain(&["title", "description", "$comment"]) {
                let schema = |word: &str| json!({ keyword: { *name: { "title": word, "properties": { *name: { "title": word } } } } });
                assert_eq!(clean_schema(&schema("a\u{e0041}")), schema("a"), "{keyword}: {name}");
            }
        }
        let names = json!({ "dependencies": { "default": ["a\u{7}"] }, "dependentRequired": { "title": ["a\u{7}"] } });
        assert_eq!(clean_schema(&names), names, "these are names of properties");
    }
}
