//! Bytes into text, by what the server says, then by what the document says, then UTF-8. The tables are `encoding_rs`'s,
//! which follow the Encoding Standard as browsers do.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};

/// Where browsers look for a `<meta charset>`.
const META_BYTES: usize = 1024;

/// The text, and the name of the character set. What does not fit the set becomes U+FFFD.
pub(crate) fn decode<'a>(body: &'a [u8], content_type: &str, html: bool) -> (Cow<'a, str>, &'static str) {
    let said = label_in(content_type)
        .or_else(|| if html { label_in_meta(body) } else { None })
        .and_then(|label| Encoding::for_label(label.as_bytes()));
    // A byte order mark, if there is one, has the last word, and is removed.
    let (text, encoding, _) = said.unwrap_or(UTF_8).decode(body);
    (text, encoding.name())
}

fn label_in(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
    })
}

/// `<meta charset="x">` and `<meta http-equiv="content-type" content="text/html; charset=x">` look alike from here.
fn label_in_meta(body: &[u8]) -> Option<String> {
    let head: String = body
        .iter()
        .take(META_BYTES)
        .map(|byte| char::from(*byte).to_ascii_lowercase())
        .collect();
    head.split("<meta").skip(1).find_map(|rest| {
        let tag = rest.split('>').next()?;
        let (_, value) = tag.split_once("charset")?;
        let value = value
            .trim_start()
            .strip_prefix('=')?
            .trim_start()
            .trim_start_matches(['"', '\'']);
        let label: String = value
            .chars()
            .take_while(|character| character.is_ascii_alphanumeric() || "-_:.".contains(*character))
            .collect();
        (!label.is_empty()).then_some(label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_believed() {
        fn check(body: &[u8], content_type: &str, html: bool, text: &str, charset: &str) {
            assert_eq!(decode(body, content_type, html), (Cow::from(text), charset));
        }
        check(
            b"gr\xfc\xdfe",
            "text/plain; charset=ISO-8859-1",
            false,
            "grüße",
            "windows-1252",
        );
        check(
            b"\x93\xfa\x96\x7b",
            "text/plain; Charset=\"Shift_JIS\"",
            false,
            "日本",
            "Shift_JIS",
        );
        check("grüße".as_bytes(), "text/plain", false, "grüße", "UTF-8");
        check("a".as_bytes(), "text/plain; charset=nonsense", false, "a", "UTF-8");
        check(b"\xff\xfea\0", "text/plain; charset=utf-8", false, "a", "UTF-16LE");
        check(b"\xef\xbb\xbfa", "text/plain", false, "a", "UTF-8");
        check(b"\xff", "text/plain", false, "\u{fffd}", "UTF-8");
    }

    #[test]
    fn what_a_document_says_of_itself() {
        for head in [
            &b"<meta charset=iso-8859-15>\xa4"[..],
            b"<META CHARSET = 'ISO-8859-15' >\xa4",
            b"<meta http-equiv=Content-Type content=\"text/html; charset=iso-8859-15\">\xa4",
        ] {
            let (text, charset) = decode(head, "text/html", true);
            assert!(text.ends_with('€') && charset == "ISO-8859-15", "{text}: {charset}");
        }
        let (_, charset) = decode(b"<meta charset=iso-8859-15>", "text/plain", false);
        assert_eq!(charset, "UTF-8");
    }
}
