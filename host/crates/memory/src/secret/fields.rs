//! One version of a secret in a KV engine, its fields as the server wrote them: a parser rounds a number that is large or
//! precise, and refuses one that it cannot hold, though nobody asked for that field. It knows no server.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

/// What may stand between the parts of a document.
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// One version of a secret, as the server tells it.
#[derive(Default)]
pub(super) struct Version {
    /// None: it was deleted, or there never was one.
    pub(super) fields: Option<Fields>,
    /// The next one is written after this one.
    pub(super) number: u32,
}

/// Names, and values in JSON as they were written. The values are erased when dropped.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, Zeroizing<String>)>);

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    version: u32,
}

impl Version {
    /// From what the engine answers. None: no engine answers that.
    pub(super) fn parse(answer: &str) -> Option<Self> {
        let Some(version) = member(answer, "data")? else {
            return Some(Self::default());
        };
        let fields = match member(version, "data")? {
            Some(fields) => Some(Fields::parse(fields)?),
            None => None,
        };
        let metadata: Metadata = match member(version, "metadata")? {
            Some(metadata) => serde_json::from_str(metadata).ok()?,
            None => Metadata::default(),
        };
        Some(Self {
            fields,
            number: metadata.version,
        })
    }
}

impl Fields {
    fn parse(object: &str) -> Option<Self> {
        let fields = members(object)?.into_iter();
        let kept = fields.map(|(name, value)| (name, Zeroizing::new(value.to_owned())));
        Some(Self(kept.collect()))
    }

    /// The text of a field; none: it is not there.
    ///
    /// # Errors
    /// What it is, if it is no string.
    pub(super) fn text(&self, name: &str) -> Result<Option<Zeroizing<String>>, &'static str> {
        let Some((_, value)) = self.0.iter().rev().find(|(one, _)| one == name) else {
            return Ok(None);
        };
        Err(match value.bytes().next() {
            Some(b'"') => match serde_json::from_str::<String>(value) {
                Ok(text) => return Ok(Some(Zeroizing::new(text))),
                Err(_) => "no Unicode",
            },
            Some(b'n') => "null",
            Some(b't' | b'f') => "a boolean",
            Some(b'[') => "a list",
            Some(b'{') => "an object",
            Some(_) | None => "a number",
        })
    }

    /// What the engine is asked to keep: `text` as the field `name`, and the others as they stand, if `number` is the
    /// newest version.
    ///
    /// # Errors
    /// None that can happen: text is JSON.
    pub(super) fn with(&self, name: &str, text: &str, number: u32) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let others = self.0.iter().filter(|(one, _)| one != name);
        let bytes = others
            .clone()
            .map(|(one, value)| bytes_max(one).saturating_add(value.len()));
        // With the final size from the start: growing would leave copies behind.
        let bytes = bytes.fold(bytes_max(name).saturating_add(bytes_max(text)), usize::saturating_add);
        let mut body = Zeroizing::new(Vec::with_capacity(bytes.saturating_add(64)));
        body.extend_from_slice(b"{\"data\":{");
        for (one, value) in others {
            serde_json::to_writer(&mut *body, one)?;
            body.push(b':');
            body.extend_from_slice(value.as_bytes());
            body.push(b',');
        }
        serde_json::to_writer(&mut *body, name)?;
        body.push(b':');
        serde_json::to_writer(&mut *body, text)?;
        body.extend_from_slice(format!("}},\"options\":{{\"cas\":{number}}}}}").as_bytes());
        Ok(body)
    }
}

/// Most bytes of a text in JSON, with the signs around it: what must be escaped takes six.
fn bytes_max(text: &str) -> usize {
    text.len().saturating_mul(6).saturating_add(4)
}

/// The value of one member, as it is written. None inside: it is not there, or null.
fn member<'a>(object: &'a str, name: &str) -> Option<Option<&'a str>> {
    let found = members(object)?.into_iter().rev().find(|(one, _)| one == name);
    Some(found.map(|(_, value)| value).filter(|value| *value != "null"))
}

/// The members of an object, their values as they are written. None: it is no object.
fn members(object: &str) -> Option<Vec<(String, &str)>> {
    let mut members = Vec::new();
    let mut rest = after(object, '{')?;
    let end = loop {
        if let Some(end) = after(rest, '}').filter(|_| members.is_empty()) {
            break end;
        }
        let (name, _, value) = next::<String>(rest)?;
        let (_, value, behind) = next::<IgnoredAny>(after(value, ':')?)?;
        members.push((name, value));
        match after(behind, ',') {
            Some(more) => rest = more,
            None => break after(behind, '}')?,
        }
    };
    end.trim_start_matches(BLANK).is_empty().then_some(members)
}

/// The value that a text begins with: read, as it is written, and what stands behind it.
fn next<T: DeserializeOwned>(text: &str) -> Option<(T, &str, &str)> {
    let text = text.trim_start_matches(BLANK);
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next()?.ok()?;
    let (written, rest) = text.split_at_checked(values.byte_offset())?;
    Some((value, written, rest))
}

fn after(text: &str, sign: char) -> Option<&str> {
    text.trim_start_matches(BLANK).strip_prefix(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(object: &str) -> Fields {
        Fields::parse(object).unwrap()
    }

    fn with(object: &str, name: &str, text: &str) -> String {
        String::from_utf8(fields(object).with(name, text, 7).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_nobody_asked_for_stays_to_the_letter() {
        for other in [
            "12345678901234567890123",
            "1e400",
            "-0.10",
            "0.1000000000000000055511151231257827",
            r#"{ "deep" : [1.0, null] }"#,
            r#""\u00e4\/""#,
        ] {
            let object = format!(" {{ \"n\" : {other} ,\n\"password\":\"old\" }} ");
            let wanted = format!(r#"{{"data":{{"n":{other},"password":"new \"ä\""}},"options":{{"cas":7}}}}"#);
            assert_eq!(with(&object, "password", "new \"ä\""), wanted);
            assert_eq!(fields(&object).text("password").unwrap().unwrap().as_str(), "old");
        }
        assert_eq!(with("{}", "a\"", ""), r#"{"data":{"a\"":""},"options":{"cas":7}}"#);
        // Of two with one name it is the last, and neither stays.
        let twice = r#"{"a":"1","a":"2"}"#;
        assert_eq!(fields(twice).text("a").unwrap().unwrap().as_str(), "2");
        assert_eq!(with(twice, "a", "3"), r#"{"data":{"a":"3"},"options":{"cas":7}}"#);
    }

    #[test]
    fn what_no_engine_says_is_refused() {
        for bad in [
            "",
            "null",
            "[]",
            "{",
            "{}x",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1"#,
            r#"{"a":01}"#,
            r#"{a:1}"#,
            r#"{"a":[1}"#,
            r#"{"a":1}}"#,
        ] {
            assert!(members(bad).is_none(), "{bad}");
        }
        for bad in [
            r#"{"data":7}"#,
            r#"{"data":{"data":[1]}}"#,
            r#"{"data":{"metadata":{"version":-1}}}"#,
        ] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
        for none in [
            "{}",
            r#"{"data":null}"#,
            r#"{"data":{"data":null,"metadata":{"version":9}}}"#,
        ] {
            assert!(Version::parse(none).unwrap().fields.is_none(), "{none}");
        }
    }

    #[test]
    fn half_a_letter_is_no_text() {
        assert_eq!(fields(r#"{"a":"\ud800"}"#).text("a").unwrap_err(), "no Unicode");
    }

    #[test]
    fn whatever_comes_is_members_only_if_a_parser_takes_it() {
        let parts = ["{", "}", "\"a\"", ":", "1", ",", " ", "[]"];
        let mut taken = 0;
        for count in 0..=5 {
            for number in 0..parts.len().pow(count) {
                let chosen = (0..count).map(|at| parts[number / parts.len().pow(at) % parts.len()]);
                let text = format!("{{{}}}", chosen.collect::<String>());
                let parsed = serde_json::from_str::<std::collections::BTreeMap<String, IgnoredAny>>(&text);
                assert_eq!(members(&text).is_some(), parsed.is_ok(), "{text}");
                taken += usize::from(parsed.is_ok());
            }
        }
        assert!(taken > 10, "{taken}");
    }
}
