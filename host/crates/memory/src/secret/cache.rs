//! Copies of secrets: encrypted, for a short while, and not many. They go by the place of the secret, so that what is
//! written by one name is not served by another one of the same place. The time comes from the injected clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_contract::{Clock, SecretReference, SecretValue};
use aral_runtime::locked::LockedKeyError;

use super::sealed::{ProcessKey, Sealed};

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// How long a copy is used; 0: never. A secret that is changed elsewhere is seen after this time.
    pub ttl_ms: u64,
    /// Most copies. The oldest goes first.
    pub entries_max: usize,
    /// Most bytes of all copies and their references together.
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
    entries: HashMap<SecretReference, Entry>,
    /// Oldest first.
    order: BTreeMap<u64, SecretReference>,
    next: u64,
    bytes: usize,
    /// The secrets that are being read.
    reading: HashMap<SecretReference, Readers>,
}

#[derive(Default)]
struct Readers {
    count: usize,
    /// How often the secret was forgotten since the first of them began: what was read before that may be what was replaced.
    generation: u64,
}

struct Entry {
    sealed: Sealed,
    /// With those of the reference.
    bytes: usize,
    until: Duration,
    number: u64,
}

impl Cache {
    pub(super) fn new(limits: CacheLimits, clock: Arc<dyn Clock>) -> Result<Self, LockedKeyError> {
        Ok(Self {
            key: ProcessKey::new()?,
            limits,
            clock,
            state: Mutex::default(),
        })
    }

    /// Begins to read a secret. Until what it returns is dropped, it is noted whether the secret is forgotten meanwhile.
    pub(super) fn reading<'a>(&'a self, place: &'a SecretReference) -> Reading<'a> {
        let mut state = self.lock();
        let readers = state.reading.entry(place.clone()).or_default();
        readers.count = readers.count.saturating_add(1);
        Reading { cache: self, place }
    }

    /// A copy that is young enough.
    pub(super) fn get(&self, place: &SecretReference) -> Option<SecretValue> {
        let mut state = self.lock();
        state.expire(self.clock.elapsed());
        let entry = state.entries.get(place)?;
        self.open(place, &entry.sealed)
    }

    fn insert(&self, place: &SecretReference, value: &SecretValue, generation: u64) {
        let Some(sealed) = self.seal(place, value).filter(|_| self.limits.ttl_ms > 0) else {
            return;
        };
        let bytes = place.to_string().len().saturating_add(sealed.bytes.len());
        let mut state = self.lock();
        let now = self.clock.elapsed();
        state.expire(now);
        if state.generation(place) != generation || bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            return;
        }
        state.remove(place);
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
        state.order.insert(number, place.clone());
        let entry = Entry {
            sealed,
            bytes,
            until: now.saturating_add(Duration::from_millis(self.limits.ttl_ms)),
            number,
        };
        state.entries.insert(place.clone(), entry);
    }

    /// Forgets the copy of this secret when what it returns is dropped.
    pub(super) fn forget_at_the_end(self: &Arc<Self>, place: &SecretReference) -> Forget {
        Forget {
            cache: Arc::clone(self),
            place: place.clone(),
        }
    }

    /// Forgets the copies of all that lies in the local store.
    pub(super) fn forget_local(&self) {
        let is_local = |place: &&SecretReference| matches!(place, SecretReference::Local { .. });
        let mut state = self.lock();
        let known = state.entries.keys().chain(state.reading.keys());
        let places: Vec<SecretReference> = known.filter(is_local).cloned().collect();
        places.iter().for_each(|place| state.forget(place));
    }

    /// For a value that somebody is waiting for.
    pub(super) fn seal(&self, place: &SecretReference, value: &SecretValue) -> Option<Sealed> {
        self.key.seal(&place.to_string(), value)
    }

    /// What [`Cache::seal`] made.
    pub(super) fn open(&self, place: &SecretReference, sealed: &Sealed) -> Option<SecretValue> {
        self.key.open(&place.to_string(), sealed)
    }

    /// Nothing between locking and unlocking leaves the state half changed, so that a panic elsewhere does not matter.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn generation(&self, place: &SecretReference) -> u64 {
        self.reading.get(place).map_or(0, |readers| readers.generation)
    }

    fn forget(&mut self, place: &SecretReference) {
        self.remove(place);
        if let Some(readers) = self.reading.get_mut(place) {
            readers.generation = readers.generation.saturating_add(1);
        }
    }

    /// Forgets what is too old. All live equally long, and `now` was asked for under the lock each time: the oldest are over first.
    fn expire(&mut self, now: Duration) {
        while let Some(oldest) = self.order.first_entry() {
            if self.entries.get(oldest.get()).is_some_and(|entry| now < entry.until) {
                return;
            }
            let place = oldest.remove();
            self.remove(&place);
        }
    }

    fn remove(&mut self, place: &SecretReference) {
        if let Some(entry) = self.entries.remove(place) {
            self.order.remove(&entry.number);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

/// Forgets a copy when it is dropped. It goes along with the work that changes the secret.
pub(super) struct Forget {
    cache: Arc<Cache>,
    place: SecretReference,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.cache.lock().forget(&self.place);
    }
}

/// One who reads a secret.
pub(super) struct Reading<'a> {
    cache: &'a Cache,
    place: &'a SecretReference,
}

impl Reading<'_> {
    /// Changes when the secret is forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.cache.lock().generation(self.place)
    }

    /// Keeps a copy of what was read in this generation.
    pub(super) fn keep(&self, value: &SecretValue, generation: u64) {
        self.cache.insert(self.place, value, generation);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if let Some(readers) = state.reading.get_mut(self.place) {
            readers.count = readers.count.saturating_sub(1);
            if readers.count == 0 {
                state.reading.remove(self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::tests::{TestClock, value};

    fn cache(limits: CacheLimits) -> (Arc<Cache>, Arc<TestClock>) {
        let clock = Arc::new(TestClock::default());
        (Arc::new(Cache::new(limits, clock.clone()).unwrap()), clock)
    }

    fn place(text: &str) -> SecretReference {
        format!("env://{text}").parse().unwrap()
    }

    fn has(cache: &Cache, text: &str) -> bool {
        cache.get(&place(text)).is_some()
    }

    #[test]
    fn a_copy_lives_as_long_as_it_may_and_not_a_moment_longer() {
        let (cache, clock) = cache(CacheLimits {
            ttl_ms: 1000,
            ..CacheLimits::default()
        });
        cache.insert(&place("a"), &value("one"), 0);
        clock.advance(Duration::from_millis(999));
        assert_eq!(cache.get(&place("a")), Some(value("one")));
        clock.advance(Duration::from_millis(1));
        assert_eq!(cache.get(&place("a")), None);
        assert_eq!(cache.lock().bytes, 0);
        assert!(cache.lock().order.is_empty());
    }

    #[test]
    fn a_copy_that_is_too_old_goes_whichever_secret_is_read_next() {
        let (cache, clock) = cache(CacheLimits {
            ttl_ms: 1000,
            ..CacheLimits::default()
        });
        let kept = |cache: &Cache| cache.lock().entries.len();
        for text in ["a", "b"] {
            cache.insert(&place(text), &value("one"), 0);
        }
        clock.advance(Duration::from_millis(500));
        cache.insert(&place("c"), &value("two"), 0);
        assert_eq!(kept(&cache), 3);
        clock.advance(Duration::from_millis(500));
        cache.insert(&place("d"), &value("two"), 0);
        assert_eq!(kept(&cache), 2, "those that were there first are over");
        clock.advance(Duration::from_millis(500));
        // Also where the one that is asked for is not there, or is young.
        assert!(!has(&cache, "e"));
        assert_eq!(kept(&cache), 1);
        assert!(has(&cache, "d"));
        assert_eq!(cache.lock().order.len(), 1);
    }

    #[test]
    fn no_byte_of_a_value_lies_in_the_cache() {
        let (cache, _clock) = cache(CacheLimits::default());
        let secret = "correct-horse-battery-staple";
        cache.insert(&place("a"), &value(secret), 0);
        let state = cache.lock();
        let held = &state.entries[&place("a")].sealed.bytes;
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
            few.insert(&place(text), &value("x"), 0);
        }
        assert_eq!([has(&few, "a"), has(&few, "b"), has(&few, "c")], [true, false, true]);
        let (small, _clock) = cache(CacheLimits {
            bytes_max: 2 * ("env://a".len() + 10 + 16),
            ..CacheLimits::default()
        });
        for text in ["a", "b", "c"] {
            small.insert(&place(text), &value("0123456789"), 0);
        }
        assert_eq!(
            [has(&small, "a"), has(&small, "b"), has(&small, "c")],
            [false, true, true]
        );
        // What is larger than all of it is not kept, and drives nothing out.
        small.insert(&place("d"), &value(&"x".repeat(100)), 0);
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
            cache.insert(&place("a"), &value("x"), 0);
            assert!(!has(&cache, "a"), "{limits:?}");
        }
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let (cache, _clock) = cache(CacheLimits::default());
        let (a, b) = (place("a"), place("b"));
        let (reading, another) = (cache.reading(&a), cache.reading(&b));
        let (before, of_another) = (reading.generation(), another.generation());
        drop(cache.forget_at_the_end(&a));
        reading.keep(&value("old"), before);
        assert!(!has(&cache, "a"));
        another.keep(&value("other"), of_another);
        assert!(has(&cache, "b"), "it is another secret that was written");
        reading.keep(&value("new"), reading.generation());
        assert!(has(&cache, "a"));
        drop(cache.forget_at_the_end(&a));
        assert!(!has(&cache, "a"));
        drop((reading, another));
        assert!(cache.lock().reading.is_empty());
    }

    #[test]
    fn what_lies_in_the_local_store_is_forgotten_and_nothing_else() {
        let (cache, _clock) = cache(CacheLimits::default());
        let local: SecretReference = "local://a".parse().unwrap();
        let read: SecretReference = "local://b".parse().unwrap();
        cache.insert(&local, &value("x"), 0);
        cache.insert(&place("a"), &value("x"), 0);
        let reading = cache.reading(&read);
        let before = reading.generation();
        cache.forget_local();
        reading.keep(&value("old"), before);
        assert!(cache.get(&local).is_none() && cache.get(&read).is_none());
        assert!(has(&cache, "a"));
    }
}
