//! `tracestate`: what systems on the way said for themselves, in the form of section 3.3 of the standard (level 2, which
//! takes what level 1 takes). It is passed on and never read.

use std::sync::Arc;

/// Most entries (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Longest list, in bytes: what every system has to pass on (section 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 256;

/// A list of entries in the form of the standard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

impl TraceState {
    /// From all `tracestate` fields of a request, in their order; none: there is nothing, or it is malformed.
    pub fn parse(fields: &[&str]) -> Option<Self> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for member in fields.iter().flat_map(|field| field.split(',')) {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_new = !members.iter().any(|(other, _)| *other == key);
            if members.len() >= MEMBERS_MAX || !is_new || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push((key, value));
        }
        let list: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let list = list.join(",");
        (!list.is_empty() && list.len() <= STATE_BYTES_MAX).then(|| Self(list.into()))
    }

    /// The value of the field.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key(text: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: u8| begins(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    text.len() <= KEY_BYTES_MAX && text.bytes().next().is_some_and(begins) && text.bytes().all(goes_on)
}

fn is_value(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=VALUE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_whole_or_not_at_all() {
        let read = |fields: &[&str]| TraceState::parse(fields).map(|state| state.as_str().to_owned());
        assert_eq!(read(&["a=1"]), Some("a=1".to_owned()));
        assert_eq!(read(&["a=1,,b=2", "\tc@v=3 "]), Some("a=1,b=2,c@v=3".to_owned()));
        for bad in [
            "", ",", "a", "a=", "=1", "A=1", "a=1,a=2", "a=1;b", "a=ä", "a=1=2", "a b=1", "_a=1", "a=\u{7f}",
        ] {
            let expected = (bad == "a=1;b").then(|| bad.to_owned());
            assert_eq!(read(&[bad]), expected, "{bad}");
        }
        let many = |count: usize| {
            (0..count)
                .map(|number| format!("k{number}=1"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(read(&[&many(32)]).is_some() && read(&[&many(33)]).is_none());
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes));
        assert!(read(&[&long(256)]).is_some() && read(&[&long(257)]).is_none());
        assert!(read(&[&long(256), &format!("b={}", "x".repeat(256))]).is_none());
    }
}
