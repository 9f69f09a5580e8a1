//! Echoes that begin in the middle of an escape: what was read as one may be its first byte, left there by somebody, and then the
//! beginning of an echo, such as a `%` in front of `61bc…`. What comes behind the escape is the same for all that began before, so
//! that the rest of a needle is looked for once for all of them: it takes the same time however many they are, and none is left out.

use std::collections::VecDeque;

use super::marks::Marks;
use super::needle::{Needle, canonical};
use super::silence::Silence;

/// Rests of one needle. What may stand of it behind the middle of an escape is at most seven bytes. Where escapes begin with a backslash,
/// it is at most five, or all backslashes that the needle begins with and at most five bytes; or some of those backslashes, if the last one
/// or what is behind it was escaped in another way. That is no more than this but for a needle that begins with more than six. Stops such
/// a secret from taking time in proportion to their number.
const RESTS_MAX: usize = 16;

/// Where an echo may have begun.
struct Begun {
    /// How many bytes had come out then.
    count: usize,
    /// What is overwritten if it is one begins here.
    start: u64,
}

/// Looks for what is left of one needle behind its first bytes.
struct Search {
    /// Which needle.
    needle: usize,
    /// How many bytes of it stand when it begins.
    stood: usize,
    /// What is left; none: all of it.
    rest: Option<Needle>,
    /// How much of that stands here.
    standing: usize,
    /// Oldest first. Those that cannot become echoes any more are left out.
    begun: VecDeque<Begun>,
}

/// All that may have begun and goes on with the same bytes.
#[derive(Default)]
pub(super) struct Late {
    searches: Vec<Search>,
    silence: Silence,
    /// Bytes that came out while anything had begun.
    count: usize,
    /// Whether anything has begun.
    runs: bool,
}

impl Late {
    /// An echo of a needle may have begun at `start`: so many of its bytes stand.
    pub(super) fn begin(&mut self, (index, needle): (usize, &Needle), stood: usize, start: u64) {
        let count = self.count;
        let begun = Begun { count, start };
        let of_needle = self.searches.iter().filter(|search| search.needle == index);
        let rests = of_needle.count();
        let known = self
            .searches
            .iter()
            .position(|search| search.needle == index && search.stood == stood);
        if let Some(search) = known.and_then(|at| self.searches.get_mut(at)) {
            // Of those that begin at the same byte the oldest reaches farthest back. An escape that is silent lets none come out.
            if search.begun.back().is_none_or(|last| last.count != count) {
                search.begun.push_back(begun);
            }
        } else if rests < RESTS_MAX {
            self.searches.push(Search {
                needle: index,
                stood,
                rest: (stood > 0).then(|| needle.rest(stood)),
                standing: 0,
                begun: VecDeque::from([begun]),
            });
        } else {
            return;
        }
        // Nothing silent stands behind this one yet.
        self.silence = Silence::default();
        self.runs = true;
    }

    /// Takes a byte that came out and ends at `end`, and marks the echoes that end with it. True: one ends within a base64 digit.
    pub(super) fn take(&mut self, needles: &[Needle], byte: u8, end: u64, marks: &mut Marks) -> bool {
        if !self.runs || self.silence.covers(byte) {
            return false;
        }
        let byte = canonical(byte);
        let count = self.count.saturating_add(1);
        let (mut digit_due, mut runs) = (false, false);
        for search in &mut self.searches {
            let needle = search.rest.as_ref().or_else(|| needles.get(search.needle));
            let Some(needle) = needle.filter(|_| !search.begun.is_empty()) else {
                continue;
            };
            let (standing, found) = needle.step(search.standing, byte);
            search.standing = standing;
            if found {
                let whole = count.saturating_sub(needle.len());
                // The oldest are of the longest that stands: none is older than this.
                while let Some(begun) = search.begun.pop_front_if(|begun| begun.count <= whole) {
                    marks.add(begun.start..end);
                    digit_due |= needle.ends_within_digit;
                }
            }
            let oldest = count.saturating_sub(standing);
            while search.begun.pop_front_if(|begun| begun.count < oldest).is_some() {}
            runs |= !search.begun.is_empty();
            if search.begun.is_empty() {
                search.standing = 0;
            }
        }
        self.runs = runs;
        self.count = if runs { count } else { 0 };
        digit_due
    }

    /// Has what began here go on in `other`, with the bytes that come out there from now on; or forgets it.
    pub(super) fn move_to(&mut self, needles: &[Needle], other: Option<&mut Self>) {
        if let Some(other) = other {
            for search in &self.searches {
                let Some(needle) = needles.get(search.needle).filter(|_| search.stood == 0) else {
                    continue;
                };
                let mut standing = search.standing;
                for begun in &search.begun {
                    let stood = self.count.saturating_sub(begun.count);
                    while standing > stood {
                        standing = needle.fall(standing);
                    }
                    // Of what has nothing standing yet all is still to come out there.
                    if standing == stood && stood > 0 {
                        other.begin((search.needle, needle), stood, begun.start);
                    }
                }
            }
        }
        for search in &mut self.searches {
            search.begun.clear();
            search.standing = 0;
        }
        self.count = 0;
        self.runs = false;
    }

    /// Whether anything has begun.
    pub(super) fn runs(&self) -> bool {
        self.runs
    }

    /// How many searches there are, and how many beginnings one of them has at most.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let begun = self.searches.iter().map(|search| search.begun.len());
        (self.searches.len(), begun.max().unwrap_or_default())
    }
}
