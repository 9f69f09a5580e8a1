//! Lines of the log, byte by byte. A record is hashed as it stands, so it is never read and written again: `seq` and
//! `prev` stand first and in one form alone, and what follows is kept as it is. It knows no event.

use std::io::{self, BufRead, Read as _};

use aral_contract::Digest;

/// Longest line, in bytes, without its end. Stops a file without line ends from filling memory.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

const SEQ: &[u8] = b"{\"seq\":";
const PREV: &[u8] = b",\"prev\":\"";
const AFTER_PREV: &[u8] = b"\",";
const CHECKPOINT: &[u8] = b"{\"checkpoint\":";
const SEGMENT: &[u8] = b"{\"segment\":";
const DIGEST_DIGITS: usize = 64;

/// A line, by its beginning. What it says is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A record.
    Record(Link),
    /// A signed checkpoint: the document.
    Checkpoint(&'a [u8]),
    /// The beginning of a segment: what it says.
    Segment(&'a [u8]),
    /// Nothing that the log writes.
    Unknown,
}

/// What binds a record to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: u64,
    pub(crate) prev: Digest,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Self {
        let inner = |start: &[u8]| line.strip_prefix(start)?.strip_suffix(b"}");
        if line.starts_with(SEQ) {
            link(line).map_or(Self::Unknown, Self::Record)
        } else if let Some(document) = inner(CHECKPOINT) {
            Self::Checkpoint(document)
        } else if let Some(header) = inner(SEGMENT) {
            Self::Segment(header)
        } else {
            Self::Unknown
        }
    }
}

fn link(line: &[u8]) -> Option<Link> {
    let rest = line.strip_prefix(SEQ)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    let seq: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    if number.first() == Some(&b'0') && number.len() > 1 {
        return None;
    }
    let (prev, rest) = rest.strip_prefix(PREV)?.split_at_checked(DIGEST_DIGITS)?;
    let prev = std::str::from_utf8(prev).ok()?.parse().ok()?;
    (rest.starts_with(AFTER_PREV) && rest.ends_with(b"}")).then_some(Link { seq, prev })
}

/// Writes the line of a record, without its end. `body` is a JSON object without its opening brace.
pub(crate) fn write_record(link: &Link, body: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(SEQ);
    to.extend_from_slice(link.seq.to_string().as_bytes());
    to.extend_from_slice(PREV);
    to.extend_from_slice(link.prev.to_string().as_bytes());
    to.extend_from_slice(AFTER_PREV);
    to.extend_from_slice(body);
}

/// Writes the line of a checkpoint with its end.
pub(crate) fn write_checkpoint(document: &[u8], to: &mut Vec<u8>) {
    write_wrapped(CHECKPOINT, document, to);
}

/// Writes the first line of a segment with its end.
pub(crate) fn write_segment(header: &[u8], to: &mut Vec<u8>) {
    write_wrapped(SEGMENT, header, to);
}

fn write_wrapped(start: &[u8], inner: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(start);
    to.extend_from_slice(inner);
    to.extend_from_slice(b"}\n");
}

/// What came next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole line, without its end.
    Whole,
    /// What follows the last line end, or more than a line may have.
    Torn,
    /// The end.
    End,
}

/// Reads line by line into one buffer.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where the line in the buffer begins.
    offset: u64,
    /// Where the next one begins.
    next: u64,
}

impl<R: BufRead> Lines<R> {
    /// `offset` is where `reader` stands in its file.
    pub(crate) fn new(reader: R, offset: u64) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            offset,
            next: offset,
        }
    }

    /// Goes to the next line. After a torn one there is nothing to go to.
    pub(crate) fn advance(&mut self) -> io::Result<Next> {
        self.buffer.clear();
        self.offset = self.next;
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(Next::End);
        }
        if self.buffer.last() != Some(&b'\n') {
            return Ok(Next::Torn);
        }
        self.buffer.pop();
        self.next = self.next.saturating_add(read as u64);
        Ok(Next::Whole)
    }

    /// Goes to the line that begins at `offset`.
    pub(crate) fn seek(&mut self, offset: u64) -> io::Result<()>
    where
        R: io::Seek,
    {
        self.next = self.reader.seek(io::SeekFrom::Start(offset))?;
        Ok(())
    }

    /// What is read from.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// The line.
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether more stands there than a line may have. What is being written is never so long.
    pub(crate) fn is_too_long(&self) -> bool {
        self.buffer.len() > LINE_BYTES_MAX
    }

    /// Where it begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the next one begins.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Vec<u8> {
        let mut line = Vec::new();
        let prev = Digest::of(b"a");
        write_record(&Link { seq, prev }, b"\"at\":1}", &mut line);
        line
    }

    #[test]
    fn what_is_written_is_read() {
        for seq in [0, 1, 10, u64::MAX] {
            let prev = Digest::of(b"a");
            assert_eq!(Line::parse(&record(seq)), Line::Record(Link { seq, prev }));
        }
        let mut line = Vec::new();
        write_checkpoint(b"{}", &mut line);
        assert_eq!(Line::parse(&line[..line.len() - 1]), Line::Checkpoint(b"{}"));
        line.clear();
        write_segment(b"{\"a\":1}", &mut line);
        assert_eq!(Line::parse(&line[..line.len() - 1]), Line::Segment(b"{\"a\":1}"));
    }

    #[test]
    fn a_record_has_one_form() {
        let good = String::from_utf8(record(7)).unwrap();
        for bad in [
            good.replace("\"seq\":7", "\"seq\":07"),
            good.replace("\"seq\":7", "\"seq\":+7"),
            good.replace("\"seq\":7", "\"seq\": 7"),
            good.replace("\"seq\":7", "\"seq\":18446744073709551616"),
            good.replace("\"seq\":7", "\"seq\":"),
            good.replace("ca978112ca1b", "CA978112CA1B"),
            good.replace("\",\"at\"", "\"\"at\""),
            good.replace('}', ""),
            format!(" {good}"),
            good[..40].to_owned(),
            String::new(),
        ] {
            assert_eq!(Line::parse(bad.as_bytes()), Line::Unknown, "{bad}");
        }
    }

    #[test]
    fn lines_end_torn_or_at_the_end_and_are_bounded() {
        let text = b"a\n\nbc\nd";
        let mut lines = Lines::new(&text[..], 0);
        let mut seen = Vec::new();
        while lines.advance().unwrap() == Next::Whole {
            seen.push((lines.offset(), lines.line().to_vec()));
        }
        assert_eq!(seen, [(0, b"a".to_vec()), (2, vec![]), (3, b"bc".to_vec())]);
        assert_eq!((lines.offset(), lines.line()), (6, &b"d"[..]));
        let endless = vec![b'x'; LINE_BYTES_MAX * 3];
        let mut lines = Lines::new(&endless[..], 0);
        assert_eq!(lines.advance().unwrap(), Next::Torn);
        assert!(lines.line().len() <= LINE_BYTES_MAX + 1);
        assert!(lines.is_too_long());
        let longest = [vec![b'x'; LINE_BYTES_MAX], b"\n".to_vec()].concat();
        for (text, next) in [(&longest[..], Next::Whole), (&longest[..LINE_BYTES_MAX], Next::Torn)] {
            let mut lines = Lines::new(text, 0);
            assert_eq!((lines.advance().unwrap(), lines.is_too_long()), (next, false));
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _any = Line::parse(&line);
            let _almost = Line::parse(&[SEQ, &line].concat());
        }
    }
}
