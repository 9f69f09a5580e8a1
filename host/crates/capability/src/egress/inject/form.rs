//! In which form echoes of a secret can be found: whole, unpacked, and in characters that are ASCII but for zeros between them.

use http::{HeaderMap, StatusCode, header};
use wasmtime_wasi_http::Error;

use crate::fields;

/// What the names of such character encodings begin with, in lower case, as servers write them. Anything else counts as one in which a
/// letter may be another byte (EBCDIC), or several (UTF-7).
const SEARCHABLE: [&str; 16] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    // What the C library calls ASCII.
    "ansi_x3.4",
    "iso-8859-",
    "iso_8859-",
    "iso8859-",
    "latin1",
    "latin-1",
    "windows-125",
    "cp125",
    "x-cp125",
    "utf-16",
    "utf-32",
    // Bytes as they are, as `file --mime` says.
    "binary",
];
/// What stands in front of the name of one.
const CHARSET: &str = "charset";

/// Why an answer cannot be searched for echoes: it is packed, only a part, or in other characters.
pub(in super::super) fn unsearchable(status: StatusCode, headers: &HeaderMap) -> Option<(String, Error)> {
    if status == StatusCode::PARTIAL_CONTENT || status == StatusCode::IM_USED {
        return Some((
            format!("the answer is a part of something (status {})", status.as_u16()),
            Error::HttpProtocolError,
        ));
    }
    // The field and its value are not named: a server may have echoed there too.
    for (name, value) in headers {
        let Some(plain) = fields::says_how_packed(name.as_str()) else {
            continue;
        };
        let is_plain = |coding: &[u8]| plain.iter().any(|plain| coding.eq_ignore_ascii_case(plain.as_bytes()));
        let mut codings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if codings.all(|coding| coding.is_empty() || is_plain(coding)) {
            continue;
        }
        return Some(if name == header::TRANSFER_ENCODING {
            let reason = "the answer has a transfer-encoding other than chunked";
            (reason.to_owned(), Error::HttpResponseTransferCoding(None))
        } else {
            let reason = "the answer has an encoding of its body or its messages other than identity";
            (reason.to_owned(), Error::HttpResponseContentCoding(None))
        });
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).into_iter();
    if types.any(|value| names_other_characters(value.as_bytes())) {
        return Some((
            "the answer has a charset other than UTF-8, UTF-16, UTF-32, ISO 8859 and their like".to_owned(),
            Error::HttpProtocolError,
        ));
    }
    None
}

/// Whether a media type, or a list of them, names characters in which echoes cannot be found. What stands behind the word `charset` is
/// taken for a name wherever that stands, and what cannot be read as one for such a name. Nothing behind `charset=` names none.
pub(super) fn names_other_characters(types: &[u8]) -> bool {
    let types = String::from_utf8_lossy(types).to_ascii_lowercase();
    types.split(CHARSET).skip(1).any(|behind| {
        let Some(name) = behind.trim_start().strip_prefix('=') else {
            return true;
        };
        let name = name.trim_start_matches([' ', '\t', '"', '\'']);
        let is_none = name.is_empty() || name.starts_with([';', ',']);
        !is_none && !SEARCHABLE.iter().any(|searchable| name.starts_with(searchable))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_no_ascii_are_seen_however_their_name_is_written() {
        for types in [
            "text/plain;charset=IBM037",
            "text/plain; Charset = \"IBM037\"",
            "text/plain;charset='Cp1047'",
            "text/plain;charset=UTF-7",
            "text/plain;charset=utf-8;charset=utf-7",
            "text/html;charset=utf-8, text/plain;charset=utf-7",
            "text/plain;boundary=\"a;b\";charset=iso-2022-jp",
            "text/plain;charset*=us-ascii''IBM037",
            "text/plain;charset",
            "text/plain;charset=;charset=utf-7",
            "text/plain;charset=\"\";charset=utf-7",
            "text/plain;charset=\u{e4}",
        ] {
            assert!(names_other_characters(types.as_bytes()), "{types}");
        }
        for types in [
            "",
            "application/json",
            "text/plain;charset=utf-8",
            "text/plain; charset = \"UTF-8\"",
            "text/html;charset=ISO-8859-15;q=0.5, */*;q=0.1",
            "text/plain;charset=windows-1252",
            "text/plain;charset=UTF-16LE",
            "text/plain;charset=ANSI_X3.4-1968",
            "text/plain;charset=ISO_8859-1",
            "text/plain;charset=latin-1",
            "text/plain;charset=cp1252",
            "text/plain;charset=x-cp1252",
            "application/octet-stream; charset=binary",
            "text/html; charset=",
            "text/html; charset=\"\"; level=1",
            "text/html;charset=;q=0.5, */*;q=0.1",
        ] {
            assert!(!names_other_characters(types.as_bytes()), "{types}");
        }
    }
}
