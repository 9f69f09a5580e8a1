//! HTTP/2 byte by byte (RFC 9113): frames that a client of the tests sends, and those that a server has sent, read by somebody who
//! knows no more of HTTP/2 than that.

use std::collections::BTreeSet;

/// How a client begins: the preface and no settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a client takes that said nothing of settings.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// One frame of the stream 1, the first that a client opens.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// The frames of one request to `localhost`; without a body it ends with its fields.
///
/// # Panics
/// It is longer than any of the tests.
pub fn request(method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    // `:scheme https` by its number, the others by those of their names (RFC 7541, appendix A).
    let mut block = [
        &[0x02][..],
        &text(method),
        &[0x87, 0x04],
        &text(path),
        &[0x01],
        &text("localhost"),
    ]
    .concat();
    for (name, value) in fields {
        block.push(0);
        block.extend([text(name), text(value)].concat());
    }
    if body.is_empty() {
        return frame(HEADERS, END_HEADERS | END_STREAM, &block);
    }
    [
        frame(HEADERS, END_HEADERS, &block),
        frame(DATA, END_STREAM, body.as_bytes()),
    ]
    .concat()
}

/// Takes that request back.
pub fn reset() -> Vec<u8> {
    frame(RST_STREAM, 0, &[0, 0, 0, 8])
}

/// A text without Huffman's code, after its length (RFC 7541, sections 5.1 and 5.2).
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).expect("it is short"));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(0x80 | u8::try_from(rest % 128).expect("it is short"));
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("it is short"));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// One frame that is there as a whole.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: &'a [u8],
}

/// The frames; one that is too long for a client ends them, and is told.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, ()>> {
    std::iter::from_fn(move || {
        let (&[high, middle, low, kind, flags, ref stream @ ..], rest) = bytes.split_first_chunk::<9>()?;
        let stream = *stream;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > FRAME_BYTES_MAX {
            bytes = &[];
            return Some(Err(()));
        }
        let (payload, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(Ok(Frame {
            kind,
            flags,
            stream,
            payload,
        }))
    })
}

/// How many requests a client has begun and not taken back.
pub(crate) fn asked(bytes: &[u8]) -> usize {
    let mut streams = BTreeSet::new();
    for frame in frames(bytes).flatten() {
        match frame.kind {
            HEADERS => drop(streams.insert(frame.stream)),
            RST_STREAM => drop(streams.remove(&frame.stream)),
            _ => {}
        }
    }
    streams.len()
}

/// What a server has sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Those of the answers, but where one names what stood in an answer before.
    pub(crate) statuses: Vec<u16>,
    /// Streams that it has ended.
    pub(crate) ended: usize,
}

/// Reads what a server has sent; none: a client may not get that. A frame that is not there as a whole is left out.
pub(crate) fn answered(bytes: &[u8]) -> Option<Answered> {
    let mut found = Answered::default();
    for frame in frames(bytes) {
        let Frame {
            kind, flags, payload, ..
        } = frame.ok()?;
        // Nobody asked it to promise, and it knows no kind that nobody else knows.
        if kind > CONTINUATION || kind == PUSH_PROMISE {
            return None;
        }
        if kind == HEADERS {
            found.statuses.extend(status(payload));
        }
        if kind == RST_STREAM || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0) {
            found.ended += 1;
        }
    }
    Some(found)
}

/// The status at the begin of fields, where it is written out (RFC 7541, section 6 and appendix A).
fn status(block: &[u8]) -> Option<u16> {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        // The size of the table comes before everything, in as many bytes as it takes.
        [0x3f, rest @ ..] => {
            let last = rest.iter().position(|byte| byte & 0x80 == 0)?;
            status(&rest[last + 1..])
        }
        [0x20..=0x3e, rest @ ..] => status(rest),
        [first @ 0x88..=0x8e, ..] => KNOWN.get(usize::from(first - 0x88)).copied(),
        [0x48 | 0x08 | 0x18, length, rest @ ..] => {
            let value = rest.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 {
                String::from_utf8(value.to_vec()).ok()?
            } else {
                digits(value)
            };
            digits.parse().ok()
        }
        _ => None,
    }
}

/// Digits in Huffman's code (RFC 7541, appendix B): 0 to 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let mut rest = bits.as_slice();
    let mut found = String::new();
    while rest.len() >= 5 {
        let number = |count: usize| rest.iter().take(count).fold(0, |sum, bit| sum << 1 | bit);
        let (length, digit) = match number(5) {
            short @ 0..=2 => (5, short),
            _ => (6, number(6).wrapping_sub(0x19).wrapping_add(3)),
        };
        // What fills the last byte is no digit.
        if digit > 9 || rest.len() < length {
            break;
        }
        found.push(char::from(b'0' + digit));
        rest = &rest[length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        for (block, expected) in [
            (&[0x88, 1][..], Some(200)),
            (&[0x8e], Some(500)),
            (&[0x3f, 0xe1, 0x1f, 0x8c], Some(400)),
            (&[0x3f, 0x8d], None),
            (&[0x20, 0x8d], Some(404)),
            (&[0x48, 3, b'4', b'0', b'1'], Some(401)),
            (&[0x08, 3, b'4', b'2', b'9', 7], Some(429)),
            // 011010 00000 00001, and ones
            (&[0x48, 0x82, 0b0110_1000, 0b0000_0001], Some(401)),
            // 011011 00000 011001, 7 ones
            (&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111], Some(503)),
            (&[0x48, 0x84, 1], None),
            (&[0xbe], None),
            (&[], None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn what_a_client_may_not_get_is_no_answer() {
        let answer = |bytes: &[u8]| answered(bytes).map(|found| (found.statuses, found.ended));
        assert_eq!(answer(b""), Some((vec![], 0)));
        let whole = [frame(HEADERS, END_HEADERS, &[0x88]), frame(DATA, END_STREAM, b"{}")].concat();
        assert_eq!(answer(&whole), Some((vec![200], 1)));
        assert_eq!(answer(&whole[..whole.len() - 1]), Some((vec![200], 0)), "cut");
        assert_eq!(answer(&reset()), Some((vec![], 1)));
        let with_trailers = [whole.clone(), frame(HEADERS, END_HEADERS | END_STREAM, &[])].concat();
        let taken_back = [whole.clone(), reset()].concat();
        for (bytes, expected) in [(whole, 1), (with_trailers, 1), (reset(), 0), (taken_back, 0)] {
            assert_eq!(asked(&bytes), expected, "{bytes:x?}");
        }
        for wrong in [
            frame(PUSH_PROMISE, 0, b""),
            frame(CONTINUATION + 1, 0, b""),
            vec![0, 0x40, 1, DATA, 0, 0, 0, 0, 1],
            b"HTTP/1.1 400 ".to_vec(),
        ] {
            assert_eq!(answer(&wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn a_text_has_its_length_before_it() {
        assert_eq!(text("ab"), b"\x02ab");
        assert_eq!(&text(&"a".repeat(127))[..3], b"\x7f\0a");
        assert_eq!(&text(&"a".repeat(300))[..4], b"\x7f\xad\x01a");
    }
}
