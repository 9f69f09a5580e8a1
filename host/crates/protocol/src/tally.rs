//! How many of something each of many holds, such as connections of an address or requests of a caller. Whoever holds none is
//! not remembered, so that what is kept is bounded by what is held.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who holds how many. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Tally<K>(Arc<Mutex<HashMap<K, Count>>>);

#[derive(Debug, Default)]
struct Count {
    held: u64,
    refused: bool,
}

/// One of them, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Held<K: Eq + Hash> {
    tally: Tally<K>,
    key: K,
}

/// There is no further one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// Since this one held none, none was refused: what is told of a flood once is told now.
    pub(crate) first: bool,
}

impl<K: Eq + Hash> Tally<K> {
    /// Nobody holds anything.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Tally<K> {
    /// One more, if this one holds fewer than `max`, which is not zero.
    pub(crate) fn take(&self, key: &K, max: u64) -> Result<Held<K>, Beyond> {
        let mut counts = self.lock();
        let count = counts.entry(key.clone()).or_default();
        if count.held >= max {
            let first = !std::mem::replace(&mut count.refused, true);
            return Err(Beyond { first });
        }
        count.held = count.held.saturating_add(1);
        Ok(Held {
            tally: self.clone(),
            key: key.clone(),
        })
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        let Some(count) = counts.get_mut(&self.key) else { return };
        count.held = count.held.saturating_sub(1);
        if count.held == 0 {
            counts.remove(&self.key);
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
        let beyond = |first| Some(Beyond { first });
        assert_eq!(tally.take(&"one", 2).err(), beyond(true));
        assert_eq!(tally.take(&"one", 2).err(), beyond(false));
        drop(tally.take(&"other", 2).unwrap());
        assert_eq!(tally.lock().len(), 1);
        held.push(tally.take(&"one", 3).unwrap());
        // Fewer from now on: nobody is sent away.
        held.truncate(2);
        assert_eq!(tally.take(&"one", 2).err(), beyond(false), "told already");
        held.clear();
        assert!(tally.lock().is_empty());
        let _again = tally.take(&"one", 1).unwrap();
        assert_eq!(tally.take(&"one", 1).err(), beyond(true));
    }
}
