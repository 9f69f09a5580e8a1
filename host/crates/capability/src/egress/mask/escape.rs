//! Undoes one kind of escapes, byte by byte, and says where each byte that comes out stood. What only looks like the
//! beginning of an escape comes out as it is.

use std::collections::VecDeque;
use std::ops::Range;

/// Longest escape, in bytes: `&lowbar;`, `&#x002b;`.
const ESCAPE_BYTES_MAX: usize = 8;

/// A kind of escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// None: the text as it is.
    Plain,
    /// `%2B`, as in URLs and forms.
    Percent,
    /// `\u002b`, `\x2b`, `\053`, `\"`, `\/`: as in JSON, JavaScript and C.
    Backslash,
    /// `&#43;`, `&#x2b;`, `&#x002b;`, `&plus;`: as in HTML and XML.
    Entity,
}

/// What some bytes are.
enum Read {
    /// The beginning of an escape.
    Open,
    /// An escape of this byte.
    Byte(u8),
    /// No escape.
    Other,
}

impl Escape {
    pub(super) const ALL: [Self; 4] = [Self::Plain, Self::Percent, Self::Backslash, Self::Entity];

    /// What every escape begins with.
    pub(super) fn opener(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Percent => Some(b'%'),
            Self::Backslash => Some(b'\\'),
            Self::Entity => Some(b'&'),
        }
    }

    fn read(self, bytes: &[u8]) -> Read {
        match (self, bytes) {
            (Self::Percent, [b'%']) | (Self::Backslash, [b'\\']) | (Self::Entity, [b'&']) => Read::Open,
            (Self::Percent, [b'%', digits @ ..]) => number(digits, 16, 2),
            (Self::Backslash, [b'\\', b'u', digits @ ..]) => number(digits, 16, 4),
            (Self::Backslash, [b'\\', b'x', digits @ ..]) => number(digits, 16, 2),
            (Self::Backslash, [b'\\', digits @ ..]) if digits.first().is_some_and(u8::is_ascii_digit) => {
                number(digits, 8, 3)
            }
            (Self::Backslash, [b'\\', letter]) => letter_escape(*letter),
            (Self::Entity, [b'&', b'#', b'x' | b'X', digits @ ..]) => closed(digits, 16, 4),
            (Self::Entity, [b'&', b'#', digits @ ..]) => closed(digits, 10, 5),
            (Self::Entity, [b'&', name @ ..]) => entity(name),
            (Self::Plain | Self::Percent | Self::Backslash | Self::Entity, _) => Read::Other,
        }
    }
}

/// A byte as exactly so many digits.
fn number(digits: &[u8], radix: u32, length: usize) -> Read {
    if !digits.iter().all(|digit| char::from(*digit).is_digit(radix)) {
        return Read::Other;
    }
    if digits.len() < length {
        return Read::Open;
    }
    let value = std::str::from_utf8(digits).ok();
    let value = value.and_then(|digits| u8::try_from(u32::from_str_radix(digits, radix).ok()?).ok());
    value.map_or(Read::Other, Read::Byte)
}

/// A byte as at most so many digits, and a semicolon.
fn closed(digits: &[u8], radix: u32, length_max: usize) -> Read {
    match digits {
        [digits @ .., b';'] => number(digits, radix, digits.len()),
        open if open.len() <= length_max => match number(open, radix, usize::MAX) {
            Read::Other => Read::Other,
            Read::Open | Read::Byte(_) => Read::Open,
        },
        _ => Read::Other,
    }
}

fn letter_escape(letter: u8) -> Read {
    match letter {
        b'"' | b'\'' | b'\\' | b'/' | b'`' | b'?' => Read::Byte(letter),
        b'n' => Read::Byte(b'\n'),
        b'r' => Read::Byte(b'\r'),
        _ => Read::Other,
    }
}

/// The names of HTML 5 for signs of printable ASCII, without four that SECURITY.md names: `UnderBar`, `DiacriticalGrave` and
/// `VerticalLine` are long and rare, and `fjlig` stands for two letters.
const NAMES: [(&[u8], u8); 36] = [
    (b"amp;", b'&'),
    (b"apos;", b'\''),
    (b"ast;", b'*'),
    (b"bsol;", b'\\'),
    (b"colon;", b':'),
    (b"comma;", b','),
    (b"commat;", b'@'),
    (b"dollar;", b'$'),
    (b"equals;", b'='),
    (b"excl;", b'!'),
    (b"grave;", b'`'),
    (b"gt;", b'>'),
    (b"hat;", b'^'),
    (b"lbrace;", b'{'),
    (b"lbrack;", b'['),
    (b"lcub;", b'{'),
    (b"lowbar;", b'_'),
    (b"lpar;", b'('),
    (b"lsqb;", b'['),
    (b"lt;", b'<'),
    (b"midast;", b'*'),
    (b"num;", b'#'),
    (b"percnt;", b'%'),
    (b"period;", b'.'),
    (b"plus;", b'+'),
    (b"quest;", b'?'),
    (b"quot;", b'"'),
    (b"rbrace;", b'}'),
    (b"rbrack;", b']'),
    (b"rcub;", b'}'),
    (b"rpar;", b')'),
    (b"rsqb;", b']'),
    (b"semi;", b';'),
    (b"sol;", b'/'),
    (b"verbar;", b'|'),
    (b"vert;", b'|'),
];

/// A byte by its name, in letters of any case: an echo may be in capitals as a whole.
fn entity(name: &[u8]) -> Read {
    let begins = |full: &[u8]| {
        full.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    match NAMES.iter().find(|(full, _)| begins(full)) {
        Some((full, byte)) if full.len() == name.len() => Read::Byte(*byte),
        Some(_) => Read::Open,
        None => Read::Other,
    }
}

/// Undoes one kind of escapes.
pub(super) struct Unescaper {
    escape: Escape,
    /// What may become an escape.
    open: VecDeque<(u8, u64)>,
    /// Whether there may be more to come out before the next byte goes in.
    unread: bool,
    /// What the last byte that came out was spelled with.
    spelled: Vec<(u8, u64)>,
}

impl Unescaper {
    pub(super) fn new(escape: Escape) -> Self {
        Self {
            escape,
            open: VecDeque::new(),
            unread: false,
            spelled: Vec::new(),
        }
    }

    /// What the last byte that came out was spelled with; empty if it stood there as it is.
    pub(super) fn spelled(&self) -> &[(u8, u64)] {
        &self.spelled
    }

    /// How many bytes may become an escape: two that read the same go on alike from where that is the same number.
    pub(super) fn open_bytes(&self) -> usize {
        self.open.len()
    }

    /// Takes one byte, and returns the first that comes out.
    pub(super) fn feed(&mut self, byte: u8, at: u64) -> Option<(u8, Range<u64>)> {
        // Most of what is read is no escape, and this is all that it costs.
        if self.open.is_empty() && self.escape.opener() != Some(byte) {
            self.spelled.clear();
            return Some((byte, at..at.saturating_add(1)));
        }
        self.open.push_back((byte, at));
        self.unread = true;
        self.next()
    }

    /// What else comes out.
    pub(super) fn next(&mut self) -> Option<(u8, Range<u64>)> {
        self.spelled.clear();
        if !self.unread {
            return None;
        }
        let mut bytes = [0; ESCAPE_BYTES_MAX];
        let mut length = 0_usize;
        for (slot, (byte, _)) in bytes.iter_mut().zip(&self.open) {
            *slot = *byte;
            length = length.saturating_add(1);
        }
        match self.escape.read(bytes.get(..length).unwrap_or_default()) {
            Read::Open => {
                self.unread = false;
                None
            }
            Read::Byte(byte) => {
                let (first, last) = (self.open.front()?.1, self.open.back()?.1);
                self.spelled.extend(self.open.drain(..));
                self.unread = false;
                Some((byte, first..last.saturating_add(1)))
            }
            Read::Other => {
                let (byte, at) = self.open.pop_front()?;
                self.unread = !self.open.is_empty();
                Some((byte, at..at.saturating_add(1)))
            }
        }
    }
}
