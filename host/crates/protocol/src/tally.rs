//! How many of something each of many holds, such as connections of an address or requests of a caller. Whoever holds none is
//! not remembered, so that what is kept is bounded by what is held.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many times what all may hold together is there for those who hold none. Stops callers who hold all that they may from shutting
/// everybody else out.
const FIRST_ONES: u64 = 2;

/// Who holds how many, and for as long as somebody holds one, something beside that. Clones are the same one.
#[derive(Debug)]
pub(crate) struct Tally<K, B = ()>(Arc<Mutex<Counts<K, B>>>);

#[derive(Debug)]
struct Counts<K, B> {
    of: HashMap<K, Count<B>>,
    /// How many all of them hold together.
    all: u64,
}

#[derive(Debug, Default)]
struct Count<B> {
    held: u64,
    /// Of those that it held, how many count no more and are still there.
    left: u64,
    refused: bool,
    beside: B,
}

impl<B> Count<B> {
    /// One of those that it holds counts no more, neither here nor among all, and is still there.
    fn let_go(&mut self, all: &mut u64) {
        *all = all.saturating_sub(1);
        self.held = self.held.saturating_sub(1);
        self.refused &= self.held > 0;
        self.left = self.left.saturating_add(1);
    }
}

/// One of them, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Held<K: Eq + Hash, B = ()> {
    tally: Tally<K, B>,
    key: K,
    /// Until it is let go.
    counts: bool,
    beside: B,
}

/// There is no further one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// This one holds as many as it may.
    Own {
        /// Since this one held none, none was refused: what is told of a flood once is told now.
        first: bool,
    },
    /// All of them together do, and whoever asks has to wait for another.
    All,
}

impl<K: Eq + Hash> Tally<K> {
    /// Nobody holds anything.
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl<K, B> Default for Tally<K, B> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Counts {
            of: HashMap::new(),
            all: 0,
        })))
    }
}

impl<K, B> Clone for Tally<K, B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, B> Tally<K, B> {
    fn lock(&self) -> MutexGuard<'_, Counts<K, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, B: Clone + Default> Tally<K, B> {
    /// One more, if this one holds fewer than `max`, which is not zero.
    pub(crate) fn take(&self, key: &K, max: u64) -> Result<Held<K, B>, Beyond> {
        self.take_of(key, max, u64::MAX)
    }

    /// The same, if all together hold fewer than `all_max`, too; for one that holds none, fewer than twice that.
    pub(crate) fn take_of(&self, key: &K, max: u64, all_max: u64) -> Result<Held<K, B>, Beyond> {
        let mut counts = self.lock();
        let Counts { of, all } = &mut *counts;
        let all_max = match of.get_mut(key) {
            Some(count) if count.held >= max => {
                let first = !std::mem::replace(&mut count.refused, true);
                return Err(Beyond::Own { first });
            }
            Some(count) if count.held > 0 => all_max,
            _ => all_max.saturating_mul(FIRST_ONES),
        };
        if *all >= all_max {
            return Err(Beyond::All);
        }
        let count = of.entry(key.clone()).or_default();
        count.held = count.held.saturating_add(1);
        *all = all.saturating_add(1);
        Ok(Held {
            tally: self.clone(),
            key: key.clone(),
            counts: true,
            beside: count.beside.clone(),
        })
    }
}

impl<K: Eq + Hash, B> Held<K, B> {
    /// What is beside all that this one holds.
    pub(crate) fn beside(&self) -> &B {
        &self.beside
    }

    /// It counts no more. What is beside it stays that of this one for as long as this is there.
    pub(crate) fn let_go(&mut self) {
        if !std::mem::take(&mut self.counts) {
            return;
        }
        let mut counts = self.tally.lock();
        let Counts { of, all } = &mut *counts;
        let Some(count) = of.get_mut(&self.key) else { return };
        count.let_go(all);
    }
}

impl<K: Eq + Hash, B> Drop for Held<K, B> {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        let Counts { of, all } = &mut *counts;
        let Some(count) = of.get_mut(&self.key) else { return };
        if self.counts {
            count.let_go(all);
        }
        count.left = count.left.saturating_sub(1);
        if count.held == 0 && count.left == 0 {
            of.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holds_so_many_and_is_forgotten_with_the_last() {
        let tally = Tally::new();
        let mut held = vec![tally.take(&"one", 2).unwrap(), tally.take(&"one", 2).unwrap()];
        let beyond = |first| Some(Beyond::Own { first });
        assert_eq!(tally.take(&"one", 2).err(), beyond(true));
        assert_eq!(tally.take(&"one", 2).err(), beyond(false));
        drop(tally.take(&"other", 2).unwrap());
        assert_eq!(tally.lock().of.len(), 1);
        held.push(tally.take(&"one", 3).unwrap());
        // Fewer from now on: nobody is sent away.
        held.truncate(2);
        assert_eq!(tally.take(&"one", 2).err(), beyond(false), "told already");
        held.clear();
        assert!(tally.lock().of.is_empty());
        let _again = tally.take(&"one", 1).unwrap();
        assert_eq!(tally.take(&"one", 1).err(), beyond(true));
    }

    #[test]
    fn what_is_beside_it_is_one_for_all_that_somebody_holds() {
        let tally: Tally<&str, Arc<Mutex<u64>>> = Tally::default();
        let (first, second) = (tally.take(&"one", 2).unwrap(), tally.take(&"one", 2).unwrap());
        assert!(Arc::ptr_eq(first.beside(), second.beside()));
        let other = tally.take(&"other", 2).unwrap();
        assert!(!Arc::ptr_eq(first.beside(), other.beside()));
    }

    #[test]
    fn what_is_let_go_counts_no_more_and_keeps_what_is_beside_it() {
        let tally: Tally<&str, Arc<Mutex<u64>>> = Tally::default();
        let mut first = tally.take_of(&"one", 1, 1).unwrap();
        assert_eq!(tally.take(&"one", 1).err(), Some(Beyond::Own { first: true }));
        first.let_go();
        first.let_go();
        assert_eq!(tally.lock().all, 0);
        let second = tally.take_of(&"one", 1, 1).unwrap();
        assert!(Arc::ptr_eq(first.beside(), second.beside()));
        assert_eq!(
            tally.take(&"one", 1).err(),
            Some(Beyond::Own { first: true }),
            "it held none in between"
        );
        let third = tally.take_of(&"other", 1, 1).map(drop);
        assert_eq!(third, Ok(()), "its first");
        drop(second);
        assert_eq!(tally.lock().of.len(), 1);
        // Who holds none has what is there for the first ones, also where something is left.
        let _other = tally.take_of(&"other", 1, 1).unwrap();
        drop(tally.take_of(&"one", 1, 1).unwrap());
        drop(first);
        assert_eq!(tally.lock().of.len(), 1, "it is forgotten with the last");
        assert_eq!(tally.lock().all, 1);
    }

    #[test]
    fn all_together_hold_so_many() {
        let tally = Tally::new();
        let take = |key| tally.take_of(key, 2, 3);
        let held = [take(&"one").unwrap(), take(&"one").unwrap()];
        let _other = take(&"other").unwrap();
        assert_eq!(take(&"other").err(), Some(Beyond::All));
        assert_eq!(
            take(&"one").err(),
            Some(Beyond::Own { first: true }),
            "its own come first"
        );
        drop(held);
        let _second = take(&"other").unwrap();
        assert_eq!(tally.lock().all, 2);
    }

    #[test]
    fn who_holds_all_that_it_may_shuts_nobody_out() {
        let tally = Tally::new();
        let take = |key: &i32| tally.take_of(key, 2, 4);
        let mut held: Vec<_> = [1, 1, 2, 2].iter().map(|key| take(key).unwrap()).collect();
        for key in [3, 4, 5, 6] {
            held.push(take(&key).unwrap());
            assert_eq!(take(&key).err(), Some(Beyond::All), "its second");
        }
        assert_eq!(take(&7).err(), Some(Beyond::All));
        assert_eq!(tally.lock().of.len(), 6, "who holds none is not remembered");
        held.pop();
        let _first = take(&7).unwrap();
        drop(held);
        let _second = take(&7).unwrap();
        // Where there is no total, there is none for anybody.
        let _free = Tally::new().take_of(&1, 1, u64::MAX).unwrap();
    }

    #[test]
    fn what_is_there_for_the_first_ones_is_the_number_in_the_document() {
        let document = include_str!("../../../../docs/defaults.md");
        assert!(document.contains(&format!("\n| `FIRST_ONES` | {FIRST_ONES} | ")));
    }
}
