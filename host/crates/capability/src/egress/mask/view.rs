//! One way to read a stream: with one kind of escapes undone, and every spelling looked for in what comes out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Echoes;
use super::escape::{Escape, Unescaper};
use super::needle::{Needle, canonical, is_base64};

/// Bytes in a row that may stand within an echo and say nothing: line ends in base64, and the zeros of UTF-16 and UTF-32.
const SILENT_BYTES_MAX: usize = 3;
/// Echoes that may begin in the middle of an escape and are followed at once. Only a secret that repeats itself makes for
/// more; it stops such a one from costing more than time in proportion.
const LATE_MAX: usize = 64;

/// Skips what says nothing within an echo.
#[derive(Default)]
struct Silence(usize);

impl Silence {
    fn covers(&mut self, byte: u8) -> bool {
        let silent = matches!(byte, b'\r' | b'\n' | 0) && self.0 < SILENT_BYTES_MAX;
        self.0 = if silent { self.0.saturating_add(1) } else { 0 };
        silent
    }
}

pub(super) struct View {
    echoes: Arc<Echoes>,
    escape: Escape,
    unescaper: Unescaper,
    silence: Silence,
    /// How much of each needle stands here.
    states: Vec<usize>,
    /// Where the last bytes began, as many as the longest needle has and one before.
    starts: VecDeque<u64>,
    late: Vec<Late>,
    /// The last match ended within a base64 digit, which comes next.
    digit_due: bool,
}

impl View {
    pub(super) fn new(escape: Escape, echoes: &Arc<Echoes>) -> Self {
        Self {
            echoes: Arc::clone(echoes),
            escape,
            unescaper: Unescaper::new(escape),
            silence: Silence::default(),
            states: vec![0; echoes.needles.len()],
            starts: VecDeque::with_capacity(echoes.needle_bytes_max.saturating_add(1)),
            late: Vec::new(),
            digit_due: false,
        }
    }

    /// Reads one byte, and adds the places of echoes that end with it.
    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Vec<Range<u64>>) {
        let echoes = Arc::clone(&self.echoes);
        let mut digit_due = false;
        self.late.retain_mut(|late| {
            let Some(needle) = echoes.needles.get(late.needle) else {
                return false;
            };
            match late.feed(needle, byte, at) {
                Progress::GoesOn => true,
                Progress::IsWhole => {
                    let before = u64::from(needle.begins_within_digit);
                    marks.push(late.start.saturating_sub(before)..at.saturating_add(1));
                    digit_due |= needle.ends_within_digit;
                    false
                }
                Progress::IsOver => false,
            }
        });
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, span)) = read.take() {
            self.take(byte, &span, marks);
            self.look_within();
            read = self.unescaper.next();
        }
        self.digit_due |= digit_due;
    }

    fn take(&mut self, byte: u8, span: &Range<u64>, marks: &mut Vec<Range<u64>>) {
        if self.silence.covers(byte) {
            return;
        }
        let byte = canonical(byte);
        if self.starts.len() > self.echoes.needle_bytes_max {
            self.starts.pop_front();
        }
        self.starts.push_back(span.start);
        if std::mem::take(&mut self.digit_due) && is_base64(byte) {
            marks.push(span.clone());
        }
        for (needle, state) in self.echoes.needles.iter().zip(&mut self.states) {
            let (next, found) = needle.step(*state, byte);
            *state = next;
            if found {
                let behind = needle.len().saturating_add(usize::from(needle.begins_within_digit));
                let first = self.starts.len().saturating_sub(behind);
                let start = self.starts.get(first).copied().unwrap_or_default();
                marks.push(start..span.end);
                self.digit_due |= needle.ends_within_digit;
            }
        }
    }

    /// What was read as an escape may be its first byte, left there by somebody, and then the beginning of an echo: a `%`
    /// in front of `61bc…`.
    fn look_within(&mut self) {
        let spelled = self.unescaper.spelled();
        for (skipped, (_, start)) in spelled.iter().enumerate().skip(1) {
            for (index, needle) in self.echoes.needles.iter().enumerate() {
                let mut late = Late::new(self.escape, index, *start);
                let rest = spelled.iter().skip(skipped);
                let mut ends = rest.map(|(byte, at)| late.feed(needle, *byte, *at));
                if ends.all(|end| end == Progress::GoesOn) && self.late.len() < LATE_MAX {
                    self.late.push(late);
                }
            }
        }
    }
}

/// An echo that may have begun in the middle of what was read as an escape.
struct Late {
    needle: usize,
    unescaper: Unescaper,
    silence: Silence,
    standing: usize,
    start: u64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It may still be one.
    GoesOn,
    /// It is one.
    IsWhole,
    /// It is none.
    IsOver,
}

impl Late {
    fn new(escape: Escape, needle: usize, start: u64) -> Self {
        Self {
            needle,
            unescaper: Unescaper::new(escape),
            silence: Silence::default(),
            standing: 0,
            start,
        }
    }

    fn feed(&mut self, needle: &Needle, byte: u8, at: u64) -> Progress {
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, _)) = read.take() {
            if !self.silence.covers(byte) {
                if !needle.goes_on(self.standing, canonical(byte)) {
                    return Progress::IsOver;
                }
                self.standing = self.standing.saturating_add(1);
                if self.standing == needle.len() {
                    return Progress::IsWhole;
                }
            }
            read = self.unescaper.next();
        }
        Progress::GoesOn
    }
}
