//! How much there was in a time that slides along: in any such time, wherever it begins. What came close together is kept
//! as one, with the later moment, so that the memory is bounded and nothing leaves too early.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Into how many parts a window is cut at most. What is used up comes back late by one of them at most.
const PARTS: i64 = 240;

/// So much at that moment, in milliseconds since 1970 where it is kept. In text: `[moment, amount]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, u64)", into = "(i64, u64)")]
pub struct Amount {
    /// When.
    pub at_ms: i64,
    /// How much.
    pub amount: u64,
}

impl From<(i64, u64)> for Amount {
    fn from((at_ms, amount): (i64, u64)) -> Self {
        Self { at_ms, amount }
    }
}

impl From<Amount> for (i64, u64) {
    fn from(one: Amount) -> Self {
        (one.at_ms, one.amount)
    }
}

/// Amounts that are not older than the window is long, the oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    span_ms: i64,
    amounts: VecDeque<Amount>,
    sum: u64,
}

impl Window {
    /// With all the room that it will ever need: adding to it allocates nothing.
    pub(crate) fn new(span_ms: i64) -> Self {
        let room = usize::try_from(PARTS.saturating_add(2)).unwrap_or(usize::MAX);
        Self {
            span_ms,
            amounts: VecDeque::with_capacity(room),
            sum: 0,
        }
    }

    /// The window that holds these amounts. A moment that is yet to come is one of a clock that was wrong: it counts as of now.
    pub(super) fn of(span_ms: i64, amounts: impl Iterator<Item = Amount>, now_ms: i64) -> Self {
        let clamp = |one: Amount| Amount {
            at_ms: one.at_ms.min(now_ms),
            ..one
        };
        let mut all: Vec<Amount> = amounts.map(clamp).collect();
        all.sort_unstable_by_key(|one| one.at_ms);
        let mut window = Self::new(span_ms);
        for one in all {
            window.forget(one.at_ms);
            window.add(one.at_ms, one.amount);
        }
        window.forget(now_ms);
        window
    }

    /// Adds what happened before now, and is known only now.
    pub(super) fn learn(&mut self, now_ms: i64, amounts: &[Amount]) {
        if !amounts.is_empty() {
            *self = Self::of(self.span_ms, self.amounts().chain(amounts.iter().copied()), now_ms);
        }
    }

    /// Lets go of what is older than the window. What others have counted since `now_ms` was read stays as it is.
    pub(crate) fn forget(&mut self, now_ms: i64) {
        let over = now_ms.saturating_sub(self.span_ms);
        while let Some(first) = self.amounts.front().filter(|first| first.at_ms <= over) {
            self.sum = self.sum.saturating_sub(first.amount);
            self.amounts.pop_front();
        }
    }

    /// Adds something that happens now; time has been told with [`Window::forget`].
    pub(crate) fn add(&mut self, now_ms: i64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.sum = self.sum.saturating_add(amount);
        let part = |at_ms| part_of(self.span_ms, at_ms);
        match self.amounts.back_mut() {
            Some(last) if part(last.at_ms) >= part(now_ms) => {
                last.at_ms = last.at_ms.max(now_ms);
                last.amount = last.amount.saturating_add(amount);
            }
            Some(_) | None => self.amounts.push_back(Amount { at_ms: now_ms, amount }),
        }
    }

    /// All that is in it.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// How long until so much of it has left, in milliseconds; none: it does not hold so much.
    pub(crate) fn wait_ms(&self, now_ms: i64, amount: u64) -> Option<u64> {
        let mut left = 0_u64;
        let last = self.amounts.iter().find(|one| {
            left = left.saturating_add(one.amount);
            left >= amount
        })?;
        let leaves = last.at_ms.saturating_add(self.span_ms);
        Some(u64::try_from(leaves.saturating_sub(now_ms)).unwrap_or(0))
    }

    /// What is in it, the oldest first.
    pub(crate) fn amounts(&self) -> impl Iterator<Item = Amount> {
        self.amounts.iter().copied()
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.amounts.clear();
        self.sum = 0;
    }
}

/// In which part of a window of this length a moment is.
pub(super) fn part_of(span_ms: i64, at_ms: i64) -> i64 {
    at_ms.div_euclid((span_ms / PARTS).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(60_000)
    }

    #[test]
    fn what_happened_leaves_after_exactly_the_length_of_the_window() {
        let mut window = window();
        window.add(1_000, 2);
        window.add(31_000, 3);
        for (now, sum) in [(31_000, 5), (60_999, 5), (61_000, 3), (90_999, 3), (91_000, 0)] {
            window.forget(now);
            assert_eq!(window.sum(), sum, "at {now}");
        }
    }

    #[test]
    fn how_long_to_wait_is_until_enough_has_left() {
        let mut window = window();
        window.add(1_000, 2);
        window.add(31_000, 3);
        for (amount, wait) in [
            (1, Some(20_000)),
            (2, Some(20_000)),
            (3, Some(50_000)),
            (5, Some(50_000)),
            (6, None),
        ] {
            assert_eq!(window.wait_ms(41_000, amount), wait, "{amount}");
        }
    }

    #[test]
    fn what_is_close_together_leaves_with_the_last_of_it_and_takes_no_more_room() {
        let mut window = window();
        let room = window.amounts.capacity();
        for now in 0..120_000 {
            window.forget(now);
            window.add(now, 1);
            // Late by one part at most, never early.
            let exact = u64::try_from(now.min(59_999)).unwrap() + 1;
            assert!(
                (exact..=exact + 250).contains(&window.sum()),
                "{} at {now}",
                window.sum()
            );
        }
        assert_eq!(window.amounts.capacity(), room, "nothing was allocated");
        window.forget(200_000);
        assert_eq!((window.sum(), window.amounts.len()), (0, 0));
    }

    #[test]
    fn whoever_comes_with_an_earlier_moment_pulls_nothing_back() {
        let mut window = window();
        window.add(50_000, 5);
        window.forget(1_000);
        window.add(1_000, 1);
        window.forget(109_999);
        assert_eq!(window.sum(), 6, "never early");
        window.forget(110_000);
        assert_eq!(window.sum(), 0);
    }

    #[test]
    fn a_moment_that_is_yet_to_come_counts_as_of_now() {
        let window = Window::of(60_000, [Amount::from((10_000_000, 5))].into_iter(), 1_000);
        assert_eq!(window.wait_ms(1_000, 5), Some(60_000));
    }
}
