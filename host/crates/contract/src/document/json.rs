//! Strict JSON: no duplicate keys, bounded depth. `serde_json` alone keeps the last of two equal keys, so that a
//! signature could cover a document that two readers read differently.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::limits::{JSON_DEPTH_MAX, JSON_MEMORY_BYTES_MAX};

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not RFC 8259 JSON, with a duplicate key, or nested deeper than [`JSON_DEPTH_MAX`].
    #[error("not acceptable JSON: {0}")]
    Malformed(String),
    /// A number that signed documents must not hold.
    #[error("not acceptable: {}`{number}` is not an integer below 2^53, and signed documents hold no other numbers", at(.pointer))]
    Number {
        /// The number.
        number: String,
        /// Where it stands: the beginning of a JSON Pointer, with the beginnings of long names.
        pointer: String,
    },
    /// The canonical form could not be made.
    #[error("no canonical form: {0}")]
    Canonical(String),
}

fn at(pointer: &str) -> String {
    match pointer {
        "" => String::new(),
        some => format!("at `{}`, ", some.escape_debug()),
    }
}

impl JsonError {
    /// The same without where it stands, for what is written in another form than the text has.
    #[must_use]
    pub fn without_place(self) -> Self {
        match self {
            Self::Number { number, .. } => Self::Number {
                number,
                pointer: String::new(),
            },
            other => other,
        }
    }

    /// The same of what stands around it, under this name.
    fn below(self, name: &str) -> Self {
        match self {
            Self::Number { number, pointer } => {
                let name: String = name.chars().take(NAME_SHOWN_MAX).collect();
                let name = name.replace('~', "~0").replace('/', "~1");
                Self::Number {
                    number,
                    pointer: cut(&format!("/{name}{pointer}"), POINTER_SHOWN_MAX),
                }
            }
            other => other,
        }
    }
}

/// What a value takes in memory, in bytes.
const VALUE_BYTES: usize = std::mem::size_of::<Value>();
/// What an object takes besides, once it has a member: room for several is made at once.
const OBJECT_BYTES: usize = 11 * (VALUE_BYTES + std::mem::size_of::<String>());

/// Characters of the name of a member that are shown, of one that is not taken.
const NAME_SHOWN_MAX: usize = 64;
/// Characters that are shown of the names that lead to a number.
const POINTER_SHOWN_MAX: usize = 512;

struct Strict<'room> {
    depth_left: usize,
    /// Bytes of memory that the rest may take.
    room: &'room Cell<usize>,
}

impl Strict<'_> {
    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        self.take(VALUE_BYTES)?;
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self {
                depth_left,
                room: self.room,
            }),
            None => Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX}"))),
        }
    }

    /// A text of a few bytes may hold a value that takes a hundred times as many.
    fn take<E: de::Error>(&self, bytes: usize) -> Result<(), E> {
        match self.room.get().checked_sub(bytes) {
            Some(left) => {
                self.room.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!(
                "its values take more than {JSON_MEMORY_BYTES_MAX} bytes of memory"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.take(if map.is_empty() { OBJECT_BYTES } else { key.len() })?;
            match map.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(members.next_value_seed(self.deeper()?)?);
                }
                Entry::Occupied(there) => {
                    return Err(de::Error::custom(format_args!(
                        "duplicate key `{}`",
                        beginning(there.key())
                    )));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// What some editors put before a text, where nobody sees it. JSON has none (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads one JSON value that fills the whole text.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    let malformed = |error: serde_json::Error| JsonError::Malformed(error.to_string());
    if text.starts_with(BYTE_ORDER_MARK) {
        let what = "it begins with a byte order mark (U+FEFF): save it without one";
        return Err(JsonError::Malformed(what.to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        depth_left: JSON_DEPTH_MAX,
        room: &Cell::new(JSON_MEMORY_BYTES_MAX),
    }
    .deserialize(&mut deserializer)
    .map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(value)
}

/// The beginning of the name of a member, as it may stand in a message: somebody else wrote it, and it may be as long as the text.
fn beginning(name: &str) -> String {
    cut(name, NAME_SHOWN_MAX).escape_debug().to_string()
}

/// The beginning of a text.
fn cut(text: &str, characters: usize) -> String {
    let mut shown: String = text.chars().take(characters).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// What the library says of a value that does not fit, without the text that it quotes from there. That may be a part of what nobody
/// else may read, and has no place in a log or an answer. The name of a member that is not known is no such text; its beginning is
/// shown, since somebody may have mistyped it.
pub fn unquoted(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if let Some((what, name, known)) = unknown(&said) {
        return format!("{what}{}{known}", beginning(name));
    }
    let quoted = said
        .split_once("string \"")
        .and_then(|(before, rest)| Some((before, rest.rsplit_once("\", expected ")?.1)));
    match quoted {
        Some((before, expected)) => format!("{before}a string, expected {expected}"),
        None => said,
    }
}

/// The parts of what the library says of a name that it does not know: what is before the name, the name, and what is behind it.
fn unknown(said: &str) -> Option<(&str, &str, &str)> {
    let (what, rest) = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|what| Some((*what, said.strip_prefix(what)?)))?;
    // The name may hold the same words. What is known is written in this program, and does not.
    let end = rest.rfind("`, expected ").max(rest.rfind("`, there are no "))?;
    let (name, known) = rest.split_at_checked(end)?;
    Some((what, name, known))
}

/// About what a value takes in memory, in bytes. It goes as deep as the value does, which came from a text of bounded depth.
pub fn memory_bytes(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => sum(list.iter().map(memory_bytes)),
        Value::Object(map) => object_memory_bytes(map),
    };
    inside.saturating_add(VALUE_BYTES)
}

/// The same of an object that stands in no value.
pub fn object_memory_bytes(map: &Map<String, Value>) -> usize {
    if map.is_empty() {
        return 0;
    }
    let members = map
        .iter()
        .map(|(key, value)| key.len().saturating_add(memory_bytes(value)));
    sum(members).saturating_add(OBJECT_BYTES)
}

fn sum(bytes: impl Iterator<Item = usize>) -> usize {
    bytes.fold(0, usize::saturating_add)
}

/// Refuses numbers that RFC 8785 and other readers could print or read differently, and says where the first of them stands.
fn check_numbers(value: &Value) -> Result<(), JsonError> {
    const LIMIT: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let fits = number
                .as_i64()
                .map(i64::unsigned_abs)
                .or(number.as_u64())
                .is_some_and(|size| size < LIMIT);
            if fits {
                Ok(())
            } else {
                Err(JsonError::Number {
                    number: number.to_string(),
                    pointer: String::new(),
                })
            }
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_numbers(item).map_err(|error| error.below(&index.to_string()))),
        Value::Object(map) => map
            .iter()
            .try_for_each(|(name, value)| check_numbers(value).map_err(|error| error.below(name))),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// The RFC 8785 canonical form of a value that holds no floats and no integers of 2^53 or more.
pub fn canonical(value: &Value) -> Result<Vec<u8>, JsonError> {
    check_numbers(value)?;
    serde_json_canonicalizer::to_vec(value).map_err(|error| JsonError::Canonical(error.to_string()))
}

/// The same text as writers make it that escape everything beyond ASCII, such as Python's `json.dumps` if nobody says
/// otherwise; none if that is no other text. For telling such a signature from a forged one.
pub(super) fn with_escapes(canonical: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(canonical).ok()?;
    let plain = |one: char| one.is_ascii() && one != '\u{7f}';
    if text.chars().all(plain) {
        return None;
    }
    let mut escaped = String::with_capacity(text.len().saturating_mul(2));
    for one in text.chars() {
        if plain(one) {
            escaped.push(one);
            continue;
        }
        for unit in one.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    Some(escaped.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_depth_and_rubbish_are_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            "",
            "{",
            "1 2",
            "[1,]",
            "NaN",
            "\"\u{1}\"",
            "1e999",
            "{\"a\":1}x",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad} was taken");
        }
        assert!(parse(b"\xff").is_err());
        let marked = parse("\u{feff}{}".as_bytes()).unwrap_err();
        assert!(marked.to_string().contains("byte order mark"), "{marked}");
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(JSON_DEPTH_MAX + 2).as_bytes()).is_err());
        assert!(parse(nested(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn what_a_text_says_is_not_quoted() {
        for (text, said) in [
            (r#"["hunter2"]"#, "invalid type: a string, expected u64 at line 1"),
            (
                r#"["hunter2 \", expected hunter2"]"#,
                "invalid type: a string, expected u64 at line 1",
            ),
            ("[-1]", "invalid value: integer `-1`, expected u64 at line 1"),
            ("[", "EOF while parsing a list at line 1"),
        ] {
            let error = serde_json::from_str::<Vec<u64>>(text).unwrap_err();
            let shown = unquoted(&error);
            assert!(shown.starts_with(said) && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn of_a_name_that_is_not_taken_the_beginning_is_shown_and_no_more() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct One {
            kind: Kind,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Tool,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let taken: One = serde_json::from_str(r#"{"kind":"tool"}"#).unwrap();
        assert!(matches!(taken.kind, Kind::Tool));
        let said = |text: &str| unquoted(&serde_json::from_str::<One>(text).unwrap_err());
        for (text, words) in [
            (r#"{"kinds":1}"#, "unknown field `kinds`, expected `kind` at line 1"),
            (r#"{"kind":"tol"}"#, "unknown variant `tol`, expected `tool` at line 1"),
            (r#"{"a\nb":1}"#, "unknown field `a\\nb`, expected `kind` at line 1"),
        ] {
            let said = said(text);
            assert!(said.starts_with(words), "{said}");
        }
        // Whatever it holds, it is no more than a name.
        for inside in ["x", "`, expected `y", "string \\\", expected z", "`, there are no "] {
            let long = inside.repeat(1000);
            for text in [format!(r#"{{"{long}":1}}"#), format!(r#"{{"kind":"{long}"}}"#)] {
                let said = said(&text);
                assert!(said.len() < 300 && said.contains("…`, expected `"), "{said}");
            }
            let none = serde_json::from_str::<Nothing>(&format!(r#"{{"{long}":1}}"#)).unwrap_err();
            let none = unquoted(&none);
            assert!(none.len() < 300 && none.contains("…`, there are no fields"), "{none}");
            let twice = parse(format!(r#"{{"{long}":1,"{long}":2}}"#).as_bytes()).unwrap_err();
            let twice = twice.to_string();
            assert!(twice.len() < 300 && twice.contains("…` at line 1"), "{twice}");
        }
    }

    #[test]
    fn escapes_are_those_of_python() {
        let escaped = with_escapes("{\"a\":\"é\u{7f}🦀\"}".as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(escaped).unwrap(),
            r#"{"a":"\u00e9\u007f\ud83e\udd80"}"#
        );
        assert_eq!(with_escapes(b"{}"), None);
    }

    #[test]
    fn a_short_text_cannot_fill_memory() {
        let list = |one: &str, count: usize| format!("[{}{one}]", format!("{one},").repeat(count - 1));
        let objects = list("{\"\":0}", 590_000);
        assert!(objects.len() < 4 << 20, "an answer that has its usual limit");
        let error = parse(objects.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("bytes of memory"), "{error}");
        for (one, count) in [
            ("{\"\":0}", 100_000),
            ("[]", 1_000_000),
            ("{}", 1_000_000),
            ("1", 2_000_000),
        ] {
            assert!(parse(list(one, count).as_bytes()).is_ok(), "{count} times {one}");
        }
    }

    #[test]
    fn a_value_takes_more_than_its_text() {
        let bytes = |text: &str| memory_bytes(&parse(text.as_bytes()).unwrap());
        assert_eq!(bytes("0"), VALUE_BYTES);
        assert_eq!(bytes("\"abc\""), VALUE_BYTES + 3);
        assert_eq!(bytes("[[],{},null]"), 4 * VALUE_BYTES);
        assert_eq!(bytes("{\"ab\":[1]}"), 3 * VALUE_BYTES + 2 + OBJECT_BYTES);
    }

    #[test]
    fn canonical_form_sorts_and_refuses_floats() {
        let value = parse("{\"b\":1,\"a\":[true,null,\"\u{e9}\"]}".as_bytes()).unwrap();
        assert_eq!(
            canonical(&value).unwrap(),
            "{\"a\":[true,null,\"\u{e9}\"],\"b\":1}".as_bytes()
        );
        for bad in ["1.5", "1e3", "9007199254740992", "-9007199254740992", "[{\"a\":0.1}]"] {
            assert!(canonical(&parse(bad.as_bytes()).unwrap()).is_err(), "{bad} was taken");
        }
        assert!(canonical(&parse(b"9007199254740991").unwrap()).is_ok());
    }

    #[test]
    fn a_number_that_is_refused_is_told_with_its_place() {
        let long = "n".repeat(1000);
        for (text, place) in [
            ("1.5".to_owned(), "not acceptable: `1.5` is"),
            (
                r#"{"a/b":[0,{"~c":0.5}]}"#.to_owned(),
                "not acceptable: at `/a~1b/1/~0c`, `0.5` is",
            ),
            (r#"{"\n":0.5}"#.to_owned(), "not acceptable: at `/\\n`, `0.5` is"),
            (
                format!("{{\"{long}\":0.5}}"),
                &*format!("at `/{}`, ", &long[..NAME_SHOWN_MAX]),
            ),
        ] {
            let error = canonical(&parse(text.as_bytes()).unwrap()).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
        // Many names take no more room than one.
        let nested = (1..JSON_DEPTH_MAX).fold("0.5".to_owned(), |inner, depth| {
            format!(r#"{{"{depth}{long}":{inner}}}"#)
        });
        let error = canonical(&parse(nested.as_bytes()).unwrap()).unwrap_err().to_string();
        let outermost = format!("at `/{}n", JSON_DEPTH_MAX - 1);
        assert!(error.contains(&outermost) && error.contains("…`, `0.5` is"), "{error}");
        assert!(error.len() < 1000, "{error}");
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&text);
        }
    }
}
