//! One way to read a stream: with one kind of escapes undone, and every spelling looked for in what comes out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Echoes;
use super::escape::{Escape, Unescaper};
use super::marks::Marks;
use super::needle::{Needle, canonical, is_base64};

/// Bytes in a row that may stand within an echo and say nothing: line ends in base64, and zeros that were escaped.
const SILENT_BYTES_MAX: usize = 5;
/// Echoes that may begin in the middle of an escape and are followed at once, the newest of them: what stands in front of an echo
/// keeps none from being found. One of a secret that does not repeat itself is alone, seldom one of two. It stops a secret that does
/// from taking this many times longer: each byte of an answer is read once more for each of them.
const LATE_MAX: usize = 4;

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
    late: VecDeque<Late>,
    /// The last match ended within a base64 digit, which comes next.
    digit_due: bool,
    /// Where the byte before began.
    last: Option<u64>,
    /// Nothing of any needle stands here.
    idle: bool,
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
            late: VecDeque::new(),
            digit_due: false,
            last: None,
            idle: true,
        }
    }

    /// Reads one byte, and adds the places of echoes that end with it. The zeros of wide characters are left out by whoever reads:
    /// an escape has them between its letters, too.
    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        let digit_due = !self.late.is_empty() && self.follow(byte, at, marks);
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, span)) = read.take() {
            self.take(byte, &span, marks);
            self.look_within();
            read = self.unescaper.next();
        }
        self.digit_due |= digit_due;
    }

    /// Goes on with what may have begun in the middle of an escape. True: an echo ends within a base64 digit.
    fn follow(&mut self, byte: u8, at: u64, marks: &mut Marks) -> bool {
        let needles = &self.echoes.needles;
        let mut digit_due = false;
        self.late.retain_mut(|late| {
            late.feed(needles, byte, at, &mut |needle, start| {
                marks.add(start..at.saturating_add(1));
                digit_due |= needle.ends_within_digit;
            })
        });
        digit_due
    }

    fn take(&mut self, byte: u8, span: &Range<u64>, marks: &mut Marks) {
        if self.silence.covers(byte) {
            return;
        }
        let byte = canonical(byte);
        if std::mem::take(&mut self.digit_due) && is_base64(byte) {
            marks.add(span.clone());
        }
        let before = self.last.replace(span.start);
        if self.idle {
            // Most of what is read begins no echo, and this is all that it costs.
            if !self.echoes.may_begin_with(byte) {
                return;
            }
            self.starts.clear();
            self.starts.extend(before);
        }
        if self.starts.len() > self.echoes.needle_bytes_max {
            self.starts.pop_front();
        }
        self.starts.push_back(span.start);
        for (needle, state) in self.echoes.needles.iter().zip(&mut self.states) {
            let (next, found) = needle.step(*state, byte);
            *state = next;
            if found {
                let behind = needle.len().saturating_add(usize::from(needle.begins_within_digit));
                let first = self.starts.len().saturating_sub(behind);
                let start = self.starts.get(first).copied().unwrap_or_default();
                marks.add(start..span.end);
                self.digit_due |= needle.ends_within_digit;
            }
        }
        self.idle = self.states.iter().all(|state| *state == 0);
    }

    /// What was read as an escape may be its first byte, left there by somebody, and then the beginning of an echo: a `%`
    /// in front of `61bc…`.
    fn look_within(&mut self) {
        let spelled = self.unescaper.spelled();
        for (skipped, pair) in (1..).zip(spelled.windows(2)) {
            let [(_, before), (_, start)] = pair else {
                continue;
            };
            let mut late = Late::new(self.escape, (*before, *start), self.echoes.needles.len());
            let mut rest = spelled.iter().skip(skipped);
            // The shortest needle is longer than an escape: none of them can be whole here.
            let goes_on = rest.all(|(byte, at)| late.feed(&self.echoes.needles, *byte, *at, &mut |_, _| ()));
            if !goes_on {
                continue;
            }
            if self.late.len() == LATE_MAX {
                self.late.pop_front();
            }
            self.late.push_back(late);
        }
    }
}

/// What may have begun in the middle of what was read as an escape.
struct Late {
    unescaper: Unescaper,
    silence: Silence,
    /// Where the byte in front of it stands.
    before: u64,
    start: u64,
    /// How many bytes have come out.
    standing: usize,
    /// The needles that begin with all of them, a bit for each.
    alive: u32,
}

impl Late {
    fn new(escape: Escape, (before, start): (u64, u64), needles: usize) -> Self {
        let needles = u32::try_from(needles).unwrap_or(u32::BITS);
        Self {
            unescaper: Unescaper::new(escape),
            silence: Silence::default(),
            before,
            start,
            standing: 0,
            alive: u32::MAX
                .checked_shr(u32::BITS.saturating_sub(needles))
                .unwrap_or_default(),
        }
    }

    /// Whether it may still become an echo.
    fn feed(&mut self, needles: &[Needle], byte: u8, at: u64, found: &mut dyn FnMut(&Needle, u64)) -> bool {
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, _)) = read.take() {
            if !self.silence.covers(byte) {
                self.narrow(needles, canonical(byte), found);
            }
            read = self.unescaper.next();
        }
        self.alive != 0
    }

    fn narrow(&mut self, needles: &[Needle], byte: u8, found: &mut dyn FnMut(&Needle, u64)) {
        let standing = self.standing.saturating_add(1);
        for (index, needle) in (0_u32..).zip(needles) {
            let bit = 1_u32.checked_shl(index).unwrap_or_default();
            if self.alive & bit == 0 {
                continue;
            }
            let goes_on = needle.goes_on(self.standing, byte);
            if goes_on && standing == needle.len() {
                let start = if needle.begins_within_digit {
                    self.before
                } else {
                    self.start
                };
                found(needle, start);
            }
            if !goes_on || standing == needle.len() {
                self.alive &= !bit;
            }
        }
        self.standing = standing;
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::SecretValue;

    use super::*;

    #[test]
    fn of_a_secret_that_repeats_itself_few_beginnings_are_followed_at_once() {
        // One begins in the middle of each escape, and goes on with all that follow.
        let secret = SecretValue::new(format!("61{}", "a".repeat(4_000)).into_bytes());
        let mut view = View::new(Escape::Percent, &Echoes::of([&secret]));
        let mut marks = Marks::default();
        let mut followed = 0;
        for (at, byte) in (0..).zip("%61".repeat(10_000).bytes()) {
            view.feed(byte, at, &mut marks);
            followed = followed.max(view.late.len());
        }
        assert_eq!(followed, 4);
    }
}
