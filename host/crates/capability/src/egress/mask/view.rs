//! One way to read a stream: with one kind of escapes undone, and every spelling looked for in what comes out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Echoes;
use super::escape::{Escape, Unescaper};
use super::late::Late;
use super::marks::Marks;
use super::needle::{Needle, canonical, is_base64};
use super::silence::Silence;

pub(super) struct View {
    echoes: Arc<Echoes>,
    escape: Escape,
    unescaper: Unescaper,
    silence: Silence,
    /// How much of each needle stands here.
    states: Vec<usize>,
    /// Where the last bytes began, as many as the longest needle has and one before.
    starts: VecDeque<u64>,
    /// What began in the middle of an escape, and goes on with what comes out here.
    late: Late,
    shifted: Shifted,
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
            late: Late::default(),
            shifted: Shifted::new(escape),
            digit_due: false,
            last: None,
            idle: true,
        }
    }

    /// Reads one byte, and adds the places of echoes that end with it. The zeros of wide characters are left out by whoever reads:
    /// an escape has them between its letters, too.
    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        let digit_due = self.shifted.feed(&self.echoes.needles, byte, at, marks);
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, span)) = read.take() {
            self.take(byte, &span, marks);
            self.digit_due |= self.late.take(&self.echoes.needles, byte, span.end, marks);
            self.look_within();
            read = self.unescaper.next();
        }
        self.digit_due |= digit_due;
        self.join();
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
            let [(_, before), (first, start)] = pair else {
                continue;
            };
            let tail = spelled.get(skipped..).unwrap_or_default();
            let opens = self.escape.opener() == Some(*first);
            if opens {
                self.shifted.open(self.escape, (*first, *start));
            }
            for (index, needle) in self.echoes.needles.iter().enumerate() {
                let start = if needle.begins_within_digit { *before } else { *start };
                if opens {
                    self.shifted.late.begin((index, needle), 0, start);
                } else if stands(needle, tail) {
                    self.late.begin((index, needle), tail.len(), start);
                }
            }
        }
    }

    /// Goes on with the other reading as with this one, once both see the same.
    fn join(&mut self) {
        if !self.shifted.late.runs() || self.shifted.unescaper.open_bytes() != self.unescaper.open_bytes() {
            return;
        }
        // Of what was no escape there the last backslash came out here as well, and all those before it.
        let late = (!self.shifted.broke).then_some(&mut self.late);
        self.shifted.late.move_to(&self.echoes.needles, late);
    }
}

/// Whether these bytes are the beginning of a needle, and not all of it.
fn stands(needle: &Needle, tail: &[(u8, u64)]) -> bool {
    let goes_on = |(at, (byte, _)): (usize, &(u8, u64))| needle.goes_on(at, canonical(*byte));
    tail.len() < needle.len() && tail.iter().enumerate().all(goes_on)
}

/// The one reading besides that in which something else is an escape: from the second of two backslashes on. Whatever begins so is of
/// the same one, until it sees the same as the other.
struct Shifted {
    unescaper: Unescaper,
    late: Late,
    /// Whether what looked like the beginning of an escape was none with the last byte.
    broke: bool,
}

impl Shifted {
    fn new(escape: Escape) -> Self {
        Self {
            unescaper: Unescaper::new(escape),
            late: Late::default(),
            broke: false,
        }
    }

    /// Begins with the first byte of an escape, unless it is there already.
    fn open(&mut self, escape: Escape, (first, at): (u8, u64)) {
        if !self.late.runs() {
            self.unescaper = Unescaper::new(escape);
            let _nothing_comes_out_yet = self.unescaper.feed(first, at);
        }
    }

    /// True: an echo ends within a base64 digit.
    fn feed(&mut self, needles: &[Needle], byte: u8, at: u64, marks: &mut Marks) -> bool {
        if !self.late.runs() {
            return false;
        }
        let mut digit_due = false;
        self.broke = self.unescaper.open_bytes() > 0;
        let mut read = self.unescaper.feed(byte, at);
        while let Some((byte, span)) = read.take() {
            self.broke &= self.unescaper.spelled().is_empty();
            digit_due |= self.late.take(needles, byte, span.end, marks);
            read = self.unescaper.next();
        }
        digit_due
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::SecretValue;

    use super::*;

    #[test]
    fn of_a_secret_that_repeats_itself_all_beginnings_are_followed_as_one() {
        // One begins in the middle of each escape, and goes on with all that follow.
        for (secret, escape, answer) in [
            (format!("61{}", "a".repeat(4_000)), Escape::Percent, "%61"),
            (format!("u0061{}", "a".repeat(4_000)), Escape::Backslash, "\\u0061"),
            ("\\".repeat(4_000), Escape::Backslash, "\\"),
            (format!("a{}", "\\u0061".repeat(800)), Escape::Backslash, "\\\\u0061"),
            // Nothing comes out of these: they are silent.
            (format!("n{}", "b".repeat(4_000)), Escape::Backslash, "\\n"),
            (format!("a{}", "b".repeat(4_000)), Escape::Percent, "%0a"),
            (format!("#10;{}", "b".repeat(4_000)), Escape::Entity, "&#10;"),
        ] {
            // The longest needle is four base64 digits for three bytes.
            let begun_max = secret.len() * 4 / 3 + 4;
            let secret = SecretValue::new(secret.into_bytes());
            let mut view = View::new(escape, &Echoes::of([&secret]));
            let mut marks = Marks::default();
            let (mut begun, mut searches, mut at_once) = (false, 0, 0);
            for (at, byte) in (0..).zip(answer.repeat(10_000).bytes()) {
                view.feed(byte, at, &mut marks);
                begun |= view.late.runs() || view.shifted.late.runs();
                let held = [view.late.held(), view.shifted.late.held()];
                searches = searches.max(held[0].0 + held[1].0);
                at_once = at_once.max(held[0].1.max(held[1].1));
            }
            assert!(begun && searches <= 20, "{searches}");
            assert!(at_once <= begun_max, "{at_once} for {answer}");
        }
    }
}
