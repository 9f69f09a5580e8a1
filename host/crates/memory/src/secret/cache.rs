//! Copies of secrets: encrypted, for a short while, and not many. The time comes from the injected clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_contract::id::SecretName;
use aral_contract::{Clock, SecretValue};
use aral_runtime::entropy::EntropyError;

use super::sealed::{ProcessKey, Sealed};

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// How long a copy is used; 0: never. A secret that is changed elsewhere is seen after this time.
    pub ttl_ms: u64,
    /// Most copies. The oldest goes first.
    pub entries_max: usize,
    /// Most bytes of all copies and their names together.
    pub bytes_max: usize,
}

impl Default for CacheLimits {
    /// A minute, 1024 copies, 4 MiB.
    fn default() -> Self {
        Self {
            ttl_ms: 60_000,
            entries_max: 1024,
            bytes_max: 4 << 20,
        }
    }
}

/// The copies.
pub(super) struct Cache {
    key: ProcessKey,
    limits: CacheLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<SecretName, Entry>,
    /// Oldest first.
    order: BTreeMap<u64, SecretName>,
    next: u64,
    bytes: usize,
    /// Grows whenever something is forgotten: what was read before that moment may be what was replaced.
    generation: u64,
}

struct Entry {
    sealed: Sealed,
    until: Duration,
    number: u64,
}

impl Cache {
    pub(super) fn new(limits: CacheLimits, clock: Arc<dyn Clock>) -> Result<Self, EntropyError> {
        Ok(Self {
            key: ProcessKey::new()?,
            limits,
            clock,
            state: Mutex::default(),
        })
    }

    /// Changes when something is forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// A copy that is young enough.
    pub(super) fn get(&self, name: &SecretName) -> Option<SecretValue> {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        match state.entries.get(name) {
            Some(entry) if now < entry.until => self.key.open(name.as_str(), &entry.sealed),
            Some(_) => {
                state.remove(name);
                None
            }
            None => None,
        }
    }

    /// Keeps a copy of what was read in this generation.
    pub(super) fn insert(&self, name: &SecretName, value: &SecretValue, generation: u64) {
        let now = self.clock.elapsed();
        let until = now.saturating_add(Duration::from_millis(self.limits.ttl_ms));
        let Some(sealed) = self.seal(name, value).filter(|_| now < until) else {
            return;
        };
        let bytes = cost(name, &sealed);
        let mut state = self.lock();
        if state.generation != generation || bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            return;
        }
        state.remove(name);
        while state.entries.len() >= self.limits.entries_max
            || state.bytes.saturating_add(bytes) > self.limits.bytes_max
        {
            let Some((_, oldest)) = state.order.pop_first() else {
                break;
            };
            state.remove(&oldest);
        }
        let number = state.next;
        state.next = number.saturating_add(1);
        state.bytes = state.bytes.saturating_add(bytes);
        state.order.insert(number, name.clone());
        state.entries.insert(name.clone(), Entry { sealed, until, number });
    }

    /// Forgets the copy of this name when what it returns is dropped.
    pub(super) fn forget_at_the_end<'a>(&'a self, name: &'a SecretName) -> Forget<'a> {
        Forget { cache: self, name }
    }

    /// For a value that somebody is waiting for.
    pub(super) fn seal(&self, name: &SecretName, value: &SecretValue) -> Option<Sealed> {
        self.key.seal(name.as_str(), value)
    }

    /// What [`Cache::seal`] made.
    pub(super) fn open(&self, name: &SecretName, sealed: &Sealed) -> Option<SecretValue> {
        self.key.open(name.as_str(), sealed)
    }

    /// Nothing between locking and unlocking leaves the state half changed, so that a panic elsewhere does not matter.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, name: &SecretName) {
        if let Some(entry) = self.entries.remove(name) {
            self.order.remove(&entry.number);
            self.bytes = self.bytes.saturating_sub(cost(name, &entry.sealed));
        }
    }
}

fn cost(name: &SecretName, sealed: &Sealed) -> usize {
    name.as_str().len().saturating_add(sealed.bytes.len())
}

/// Forgets a copy when it is dropped.
pub(super) struct Forget<'a> {
    cache: &'a Cache,
    name: &'a SecretName,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        state.remove(self.name);
        state.generation = state.generation.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::tests::{TestClock, name, value};

    fn cache(limits: CacheLimits) -> (Cache, Arc<TestClock>) {
        let clock = Arc::new(TestClock::default());
        (Cache::new(limits, clock.clone()).unwrap(), clock)
    }

    fn has(cache: &Cache, text: &str) -> bool {
        cache.get(&name(text)).is_some()
    }

    #[test]
    fn a_copy_lives_as_long_as_it_may_and_not_a_moment_longer() {
        let (cache, clock) = cache(CacheLimits {
            ttl_ms: 1000,
            ..CacheLimits::default()
        });
        cache.insert(&name("a"), &value("one"), 0);
        clock.advance(Duration::from_millis(999));
        assert_eq!(cache.get(&name("a")), Some(value("one")));
        clock.advance(Duration::from_millis(1));
        assert_eq!(cache.get(&name("a")), None);
        assert_eq!(cache.lock().bytes, 0);
        assert!(cache.lock().order.is_empty());
    }

    #[test]
    fn no_byte_of_a_value_lies_in_the_cache() {
        let (cache, _clock) = cache(CacheLimits::default());
        let secret = "correct-horse-battery-staple";
        cache.insert(&name("a"), &value(secret), 0);
        let state = cache.lock();
        let held = &state.entries[&name("a")].sealed.bytes;
        assert_eq!(held.len(), secret.len() + 16);
        assert!(
            !held
                .windows(4)
                .any(|window| secret.as_bytes().windows(4).any(|part| part == window))
        );
    }

    #[test]
    fn the_oldest_goes_first_by_number_and_by_bytes() {
        let (few, _clock) = cache(CacheLimits {
            entries_max: 2,
            ..CacheLimits::default()
        });
        for text in ["a", "b", "a", "c"] {
            few.insert(&name(text), &value("x"), 0);
        }
        assert_eq!([has(&few, "a"), has(&few, "b"), has(&few, "c")], [true, false, true]);
        let (small, _clock) = cache(CacheLimits {
            bytes_max: 2 * (1 + 10 + 16),
            ..CacheLimits::default()
        });
        for text in ["a", "b", "c"] {
            small.insert(&name(text), &value("0123456789"), 0);
        }
        assert_eq!(
            [has(&small, "a"), has(&small, "b"), has(&small, "c")],
            [false, true, true]
        );
        // What is larger than all of it is not kept, and drives nothing out.
        small.insert(&name("d"), &value(&"x".repeat(100)), 0);
        assert_eq!(
            [has(&small, "b"), has(&small, "c"), has(&small, "d")],
            [true, true, false]
        );
    }

    #[test]
    fn zero_of_anything_keeps_nothing() {
        let limits = CacheLimits::default();
        for limits in [
            CacheLimits { ttl_ms: 0, ..limits },
            CacheLimits {
                entries_max: 0,
                ..limits
            },
            CacheLimits { bytes_max: 0, ..limits },
        ] {
            let (cache, _clock) = cache(limits);
            cache.insert(&name("a"), &value("x"), 0);
            assert!(!has(&cache, "a"), "{limits:?}");
        }
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let (cache, _clock) = cache(CacheLimits::default());
        let before = cache.generation();
        drop(cache.forget_at_the_end(&name("a")));
        cache.insert(&name("a"), &value("old"), before);
        assert!(!has(&cache, "a"));
        cache.insert(&name("a"), &value("new"), cache.generation());
        assert!(has(&cache, "a"));
        drop(cache.forget_at_the_end(&name("a")));
        assert!(!has(&cache, "a"));
    }
}
