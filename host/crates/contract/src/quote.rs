//! Texts in lines that somebody is told to add.

/// A text as TOML writes it, and JSON where nothing has to be written out: whatever somebody asks for stays one value, and the one that
/// it is. What nobody would see is written out.
pub fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for one in json.chars() {
        let is_seen = one.is_ascii_graphic() || one == ' ' || one.escape_debug().count() == 1;
        match u32::from(one) {
            _ if is_seen => quoted.push(one),
            code if code <= 0xffff => quoted.push_str(&format!("\\u{code:04x}")),
            // There is none in a name, a host or a path.
            code => quoted.push_str(&format!("\\U{code:08x}")),
        }
    }
    quoted
}

/// A name as a key in a path of TOML, where a dot would end it.
pub fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_value() {
        for (text, expected) in [
            ("/srv/data", r#""/srv/data""#),
            ("a\", \"b\\c", r#""a\", \"b\\c""#),
            ("\n\u{7f}\u{202e}\u{e0001}ä", r#""\n\u007f\u202e\U000e0001ä""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_name_stays_one_key() {
        for (name, expected) in [
            ("text-grep_2", "text-grep_2"),
            ("acme.grep", r#""acme.grep""#),
            ("", r#""""#),
        ] {
            assert_eq!(key(name), expected);
        }
    }
}
