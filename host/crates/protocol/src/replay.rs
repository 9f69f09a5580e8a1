//! Answers that are kept for whoever asks again: a caller that lost the connection repeats its request with the same
//! `Idempotency-Key`, and the call does not happen twice. It knows no capability and no HTTP status.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::id::CallerName;
use aral_contract::{Clock, Digest};
use arc_swap::ArcSwap;

use crate::bounds::{self, Bounds};

/// Longest key, in bytes. Stops keys that fill memory.
const KEY_BYTES_MAX: usize = 128;
/// What one entry takes beside its answer, in bytes.
const ENTRY_BYTES: usize = 512;
/// How often what is too old is looked for among those who do not ask.
const SWEEP: Duration = Duration::from_secs(1);

/// A key as the caller chose it: 1 to 128 visible characters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ReplayKey(String);

impl ReplayKey {
    /// None: it is not such a key.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = (1..=KEY_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }
}

/// Something that takes memory.
pub(crate) trait Weighed {
    /// How much, in bytes.
    fn bytes(&self) -> usize;
}

/// The answers, for each caller apart.
#[derive(Debug)]
pub(crate) struct Replays<A> {
    kept: Mutex<All<A>>,
    clock: Arc<dyn Clock>,
    limits: ArcSwap<ReplayLimits>,
}

/// How long and how much is kept.
#[derive(Debug, Clone, Copy)]
struct ReplayLimits {
    ttl: Duration,
    entries_max: usize,
    bytes_max: usize,
    /// What keys and answers of all callers may take.
    all_bytes_max: usize,
}

impl ReplayLimits {
    fn new(bounds: &Bounds) -> Self {
        let keys = bounds::size(bounds::of_all(bounds.replay_entries_max)).saturating_mul(ENTRY_BYTES);
        let answers = bounds::size(bounds::of_all(bounds.replay_bytes_max));
        Self {
            ttl: bounds::ms(bounds.replay_ms),
            entries_max: bounds::size(bounds.replay_entries_max),
            bytes_max: bounds::size(bounds.replay_bytes_max),
            all_bytes_max: keys.saturating_add(answers),
        }
    }
}

/// What is kept for all callers.
#[derive(Debug)]
struct All<A> {
    callers: HashMap<CallerName, Kept<A>>,
    /// Who of them has answers.
    answered: Answered,
    /// What their keys and answers take.
    bytes: usize,
    /// When they were all looked through.
    swept: Duration,
}

/// Those who have answers, by what these take. Whoever has most is found without looking at everybody: once there is no room, that is
/// asked at nearly each request, while all others wait.
#[derive(Debug, Default)]
struct Answered {
    /// Of those who have as much as each other, the one for whom nothing has changed for longest is last.
    by_bytes: BTreeMap<(usize, Reverse<u64>), CallerName>,
    /// How often something changed.
    changes: u64,
}

impl Answered {
    /// What answers of a caller take may be another number than before.
    fn note<A>(&mut self, caller: &CallerName, before: usize, kept: &mut Kept<A>) {
        if kept.bytes == before {
            return;
        }
        self.by_bytes.remove(&(before, Reverse(kept.change)));
        self.changes = self.changes.saturating_add(1);
        kept.change = self.changes;
        if kept.bytes > 0 {
            self.by_bytes.insert((kept.bytes, Reverse(kept.change)), caller.clone());
        }
    }

    /// Whoever has most.
    fn most(&self) -> Option<CallerName> {
        self.by_bytes.last_key_value().map(|(_, caller)| caller.clone())
    }
}

/// What is kept for one caller.
#[derive(Debug)]
struct Kept<A> {
    entries: HashMap<ReplayKey, Entry<A>>,
    /// The keys of those that are done, oldest first.
    done: VecDeque<ReplayKey>,
    /// Those of them whose answers are there, oldest first.
    answered: VecDeque<ReplayKey>,
    /// What these answers take.
    bytes: usize,
    /// Which change of everybody's the last one of that was.
    change: u64,
}

#[derive(Debug)]
struct Entry<A> {
    /// Of the request.
    fingerprint: Digest,
    done: Option<Done<A>>,
}

#[derive(Debug)]
struct Done<A> {
    at: Duration,
    /// None: there was no room for it. That there was a call is known nevertheless, so that it does not happen again.
    answer: Option<Arc<A>>,
    bytes: usize,
}

/// What a key means now.
#[derive(Debug)]
pub(crate) enum Begun<A> {
    /// Nothing yet: this request is the first.
    First(FirstAnswer<A>),
    /// It is answered already.
    Again(Arc<A>),
    /// It was answered, and the answer is not there any more.
    Gone,
    /// The first request is still under way.
    Running,
    /// It was another request.
    Other,
    /// There is no room for another key, of this caller or at all.
    Full,
}

/// The place of an answer that is to come. Dropped without one, the key is free again.
#[derive(Debug)]
pub(crate) struct FirstAnswer<A> {
    replays: Arc<Replays<A>>,
    caller: CallerName,
    key: ReplayKey,
    kept: bool,
}

impl<A> Replays<A> {
    pub(crate) fn new(bounds: &Bounds, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::new(All {
                callers: HashMap::new(),
                answered: Answered::default(),
                bytes: 0,
                swept: clock.elapsed(),
            }),
            clock,
            limits: ArcSwap::from_pointee(ReplayLimits::new(bounds)),
        })
    }

    /// From now on as much is kept as these bounds say.
    pub(crate) fn rebound(&self, bounds: &Bounds) {
        self.limits.store(Arc::new(ReplayLimits::new(bounds)));
    }

    /// Asks what a key means, and takes it if it means nothing yet.
    pub(crate) fn begin(self: &Arc<Self>, caller: &CallerName, key: ReplayKey, fingerprint: Digest) -> Begun<A> {
        let now = self.clock.elapsed();
        let limits = **self.limits.load();
        let mut all = self.lock();
        all.sweep(now, limits.ttl);
        let known = all.change(caller, |kept| kept.look(&key, fingerprint, now, &limits));
        if let Some(begun) = known {
            return begun;
        }
        // What is forgotten would happen again: nobody's key goes for that of another.
        if !all.make_room(ENTRY_BYTES, limits.all_bytes_max) {
            return Begun::Full;
        }
        let entry = Entry {
            fingerprint,
            done: None,
        };
        all.change(caller, |kept| kept.entries.insert(key.clone(), entry));
        Begun::First(FirstAnswer {
            replays: Arc::clone(self),
            caller: caller.clone(),
            key,
            kept: false,
        })
    }

    /// Nothing under the lock panics half-way through a change.
    fn lock(&self) -> MutexGuard<'_, All<A>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Weighed> FirstAnswer<A> {
    /// The call has happened. Its answer is kept where there is room: without those of older calls, and not at all if it alone
    /// is larger than everything may be.
    pub(crate) fn keep(mut self, answer: Arc<A>) {
        self.kept = true;
        let bytes = answer.bytes().saturating_add(ENTRY_BYTES);
        let limits = **self.replays.limits.load();
        let at = self.replays.clock.elapsed();
        let mut all = self.replays.lock();
        let fits = bytes <= limits.bytes_max && {
            all.change(&self.caller, |kept| {
                while kept.bytes.saturating_add(bytes) > limits.bytes_max && kept.drop_oldest_answer() {}
            });
            all.make_room(bytes, limits.all_bytes_max)
        };
        let (answer, bytes) = if fits { (Some(answer), bytes) } else { (None, 0) };
        all.change(&self.caller, |kept| {
            let Some(entry) = kept.entries.get_mut(&self.key) else {
                return;
            };
            if answer.is_some() {
                kept.answered.push_back(self.key.clone());
            }
            entry.done = Some(Done { at, answer, bytes });
            kept.bytes = kept.bytes.saturating_add(bytes);
            kept.done.push_back(self.key.clone());
        });
    }
}

impl<A> Drop for FirstAnswer<A> {
    fn drop(&mut self) {
        if !self.kept {
            let mut all = self.replays.lock();
            all.change(&self.caller, |kept| kept.entries.remove(&self.key));
        }
    }
}

impl<A> All<A> {
    /// Whoever does not come back has nothing kept for longer than who does.
    fn sweep(&mut self, now: Duration, ttl: Duration) {
        if now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let answered = &mut self.answered;
        self.callers.retain(|caller, kept| {
            let before = kept.bytes;
            kept.expire(now, ttl);
            answered.note(caller, before, kept);
            !kept.entries.is_empty()
        });
        let bytes = self.callers.values().map(Kept::weight);
        self.bytes = bytes.fold(0, usize::saturating_add);
    }

    /// Changes what is kept for one caller.
    fn change<T>(&mut self, caller: &CallerName, change: impl FnOnce(&mut Kept<A>) -> T) -> T {
        let kept = self.callers.entry(caller.clone()).or_default();
        let (weight, bytes) = (kept.weight(), kept.bytes);
        let changed = change(kept);
        self.bytes = self.bytes.saturating_sub(weight).saturating_add(kept.weight());
        self.answered.note(caller, bytes, kept);
        changed
    }

    /// Whether there is room for so many bytes more, once the oldest answers of those who have most are gone as far as need be.
    /// Their keys stay.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes.saturating_add(bytes) > bytes_max {
            let Some(most) = self.answered.most() else { return false };
            if !self.change(&most, Kept::drop_oldest_answer) {
                return false;
            }
        }
        true
    }
}

impl<A> Default for Kept<A> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            done: VecDeque::new(),
            answered: VecDeque::new(),
            bytes: 0,
            change: 0,
        }
    }
}

impl<A> Kept<A> {
    /// What keys and answers take.
    fn weight(&self) -> usize {
        self.bytes
            .saturating_add(self.entries.len().saturating_mul(ENTRY_BYTES))
    }

    /// What a key means; none: nothing yet, and this caller may have one more.
    fn look(&mut self, key: &ReplayKey, fingerprint: Digest, now: Duration, limits: &ReplayLimits) -> Option<Begun<A>> {
        self.expire(now, limits.ttl);
        if let Some(entry) = self.entries.get(key) {
            return Some(match &entry.done {
                _ if entry.fingerprint != fingerprint => Begun::Other,
                Some(done) => done
                    .answer
                    .as_ref()
                    .map_or(Begun::Gone, |answer| Begun::Again(Arc::clone(answer))),
                None => Begun::Running,
            });
        }
        while self.entries.len() >= limits.entries_max {
            if !self.drop_oldest() {
                return Some(Begun::Full);
            }
        }
        None
    }

    fn expire(&mut self, now: Duration, ttl: Duration) {
        let is_old = |done: &Done<A>| now.saturating_sub(done.at) >= ttl;
        while let Some(oldest) = self.done.front()
            && self
                .entries
                .get(oldest)
                .and_then(|entry| entry.done.as_ref())
                .is_none_or(is_old)
        {
            self.drop_oldest();
        }
    }

    /// Whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.done.pop_front() else {
            return false;
        };
        if self.answered.front() == Some(&oldest) {
            self.answered.pop_front();
        }
        let dropped = self.entries.remove(&oldest).and_then(|entry| entry.done);
        self.bytes = self.bytes.saturating_sub(dropped.map_or(0, |done| done.bytes));
        true
    }

    /// Whether there was one. Its key stays.
    fn drop_oldest_answer(&mut self) -> bool {
        let Some(oldest) = self.answered.pop_front() else {
            return false;
        };
        if let Some(done) = self.entries.get_mut(&oldest).and_then(|entry| entry.done.as_mut()) {
            self.bytes = self.bytes.saturating_sub(std::mem::take(&mut done.bytes));
            done.answer = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Hand;

    impl Weighed for &'static str {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    struct Fixture {
        replays: Arc<Replays<&'static str>>,
        clock: Arc<Hand>,
    }

    fn bounds(entries: u64, bytes: u64) -> Bounds {
        Bounds {
            replay_ms: 1000,
            replay_entries_max: entries,
            replay_bytes_max: bytes,
            ..Bounds::default()
        }
    }

    fn fixture(entries: u64, bytes: u64) -> Fixture {
        let clock = Arc::new(Hand::default());
        Fixture {
            replays: Replays::new(&bounds(entries, bytes), Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
        }
    }

    impl Fixture {
        fn ask(&self, caller: &str, key: &str, request: &str) -> Begun<&'static str> {
            let key = ReplayKey::new(key).unwrap();
            self.replays
                .begin(&caller.parse().unwrap(), key, Digest::of(request.as_bytes()))
        }

        fn answer(&self, caller: &str, key: &str, answer: &'static str) {
            match self.ask(caller, key, "r") {
                Begun::First(place) => place.keep(Arc::new(answer)),
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_one_request_of_one_caller() {
        let it = fixture(10, 10_000);
        let Begun::First(place) = it.ask("a", "k", "r") else {
            panic!("taken")
        };
        assert!(matches!(it.ask("a", "k", "r"), Begun::Running));
        assert!(matches!(it.ask("a", "k", "other"), Begun::Other));
        assert!(matches!(it.ask("b", "k", "r"), Begun::First(_)), "another caller");
        place.keep(Arc::new("yes"));
        assert!(matches!(it.ask("a", "k", "r"), Begun::Again(answer) if *answer == "yes"));
        assert!(matches!(it.ask("a", "k", "other"), Begun::Other));
    }

    #[test]
    fn a_call_that_was_not_answered_frees_its_key() {
        let it = fixture(10, 10_000);
        drop(it.ask("a", "k", "r"));
        assert!(matches!(it.ask("a", "k", "other"), Begun::First(_)));
    }

    #[test]
    fn answers_are_forgotten_by_age_number_and_size() {
        let it = fixture(2, 10_000);
        it.answer("a", "1", "yes");
        it.clock.pass(Duration::from_millis(999));
        assert!(matches!(it.ask("a", "1", "r"), Begun::Again(_)));
        it.clock.pass(Duration::from_millis(1));
        it.answer("a", "1", "anew");
        it.answer("a", "2", "yes");
        it.answer("a", "3", "yes");
        assert!(matches!(it.ask("a", "2", "r"), Begun::Again(_)));
        let Begun::First(_one) = it.ask("a", "1", "r") else {
            panic!("the oldest went")
        };
        let Begun::First(_two) = it.ask("a", "4", "r") else {
            panic!("the next went")
        };
        assert!(matches!(it.ask("a", "5", "r"), Begun::Full), "both are running");

        let small = fixture(10, 2 * (3 + 512));
        small.answer("a", "1", "yes");
        small.answer("a", "2", "yes");
        small.answer("a", "3", "yes");
        assert!(
            matches!(small.ask("a", "1", "r"), Begun::Gone),
            "and does not run again"
        );
        assert!(matches!(small.ask("a", "1", "other"), Begun::Other));
        assert!(matches!(small.ask("a", "2", "r"), Begun::Again(_)));
        assert!(matches!(small.ask("a", "3", "r"), Begun::Again(_)));
        let long: &'static str = Box::leak("x".repeat(2000).into_boxed_str());
        small.answer("a", "4", long);
        assert!(matches!(small.ask("a", "4", "r"), Begun::Gone), "too large to keep");
        assert!(
            matches!(small.ask("a", "3", "r"), Begun::Again(_)),
            "nothing went for it"
        );
        small.clock.pass(Duration::from_millis(1000));
        for key in ["1", "2", "3", "4"] {
            small.answer("a", key, "anew");
        }
        assert!(matches!(small.ask("a", "2", "r"), Begun::Gone));
        assert!(matches!(small.ask("a", "4", "r"), Begun::Again(_)));
    }

    #[test]
    fn whoever_does_not_come_back_is_forgotten_once_nothing_is_under_way() {
        let it = fixture(10, 10_000);
        let is_there = |name: &str| {
            let name: CallerName = name.parse().unwrap();
            it.replays.lock().callers.contains_key(&name)
        };
        it.answer("gone", "1", "yes");
        let Begun::First(place) = it.ask("busy", "1", "r") else {
            panic!("taken")
        };
        it.clock.pass(Duration::from_millis(1999));
        drop(it.ask("other", "1", "r"));
        assert!(!is_there("gone"));
        assert!(is_there("busy"));
        place.keep(Arc::new("late"));
        assert!(matches!(it.ask("busy", "1", "r"), Begun::Again(answer) if *answer == "late"));
    }

    #[test]
    fn all_callers_keep_so_much_together() {
        let it = fixture(2, 2 * (3 + 512));
        let all_max = it.replays.limits.load().all_bytes_max;
        let one = 3 + 512 + 512;
        let room = all_max / one;
        it.answer("heavy", "1", "yes");
        it.answer("heavy", "2", "yes");
        for number in 2..room {
            it.answer(&format!("early-{number}"), "1", "yes");
        }
        assert!(matches!(it.ask("heavy", "1", "r"), Begun::Again(_)), "there is room");
        for number in 0..20 {
            it.answer(&format!("late-{number}"), "1", "yes");
            let all = it.replays.lock();
            check_sums(&all);
            assert!(all.bytes <= all_max, "{} of {all_max}", all.bytes);
        }
        // Of whoever had most, the oldest went first; and nothing happens again.
        assert!(matches!(it.ask("heavy", "1", "r"), Begun::Gone));
        for number in 2..room {
            let early = it.ask(&format!("early-{number}"), "1", "r");
            assert!(matches!(early, Begun::Again(_) | Begun::Gone), "{number}: {early:?}");
        }
        it.clock.pass(Duration::from_millis(1000));
        it.answer("other", "1", "yes");
        assert_eq!(it.replays.lock().bytes, one, "what is forgotten takes nothing");
    }

    /// What is known of all is the sum of what is kept for each.
    fn check_sums(all: &All<&'static str>) {
        fn of_answers(kept: &Kept<&'static str>) -> usize {
            let done = kept.entries.values().filter_map(|entry| entry.done.as_ref());
            done.map(|done| done.bytes).sum()
        }
        let weights = all.callers.values().map(Kept::weight);
        assert_eq!(all.bytes, weights.sum::<usize>());
        let with_answers = all.callers.iter().filter(|(_, kept)| of_answers(kept) > 0);
        let expected: HashMap<_, _> = with_answers.map(|(name, kept)| (name, of_answers(kept))).collect();
        let known = all.answered.by_bytes.iter().map(|((bytes, _), name)| (name, *bytes));
        assert_eq!(known.collect::<HashMap<_, _>>(), expected);
        assert_eq!(all.answered.by_bytes.len(), expected.len(), "each once");
    }

    #[test]
    fn of_those_who_have_as_much_whoever_had_it_first_loses_it_first() {
        let it = fixture(2, 2 * (3 + 512));
        let room = it.replays.limits.load().all_bytes_max / (3 + 512 + 512);
        // Names say nothing about it.
        let name = |number: usize| format!("caller-{}", (number * 7) % 1000);
        for number in 0..room {
            it.answer(&name(number), "1", "yes");
        }
        for number in room..room + 10 {
            it.answer(&name(number), "1", "yes");
        }
        check_sums(&it.replays.lock());
        let is_gone: Vec<bool> = (0..room + 10)
            .map(|number| matches!(it.ask(&name(number), "1", "r"), Begun::Gone))
            .collect();
        let gone = is_gone.iter().filter(|is| **is).count();
        assert!(gone >= 10, "{is_gone:?}");
        assert!(is_gone[..gone].iter().all(|is| *is), "{is_gone:?}");
    }

    #[test]
    fn who_has_most_is_known_whatever_happens() {
        let it = fixture(3, 3 * (3 + 512));
        let long: &'static str = Box::leak("x".repeat(900).into_boxed_str());
        let texts = ["", "yes", long];
        let mut number: u64 = 1;
        let mut any = |below: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from((number >> 33) % below).unwrap()
        };
        let mut running = Vec::new();
        for _ in 0..5000 {
            let (caller, key) = (format!("caller-{}", any(90)), any(5).to_string());
            let begun = it.ask(&caller, &key, "r");
            match (begun, any(4)) {
                (Begun::First(place), 0) => running.push(place),
                (Begun::First(place), 1) => drop(place),
                (Begun::First(place), _) => place.keep(Arc::new(texts[any(3)])),
                _ => {}
            }
            if running.len() > 20 {
                running.swap_remove(any(20)).keep(Arc::new("late"));
            }
            it.clock.pass(Duration::from_millis(u64::try_from(any(10)).unwrap()));
            // A configuration that is read again has more room, or less.
            if any(200) == 0 {
                let entries = u64::try_from(any(3)).unwrap() + 1;
                it.replays.rebound(&bounds(entries, entries * (3 + 512)));
            }
            check_sums(&it.replays.lock());
        }
    }

    #[test]
    fn keys_alone_do_not_fill_memory_either() {
        let it = fixture(2, 1);
        let room = it.replays.limits.load().all_bytes_max / 512;
        let mut running = Vec::new();
        let refused = loop {
            match it.ask(&format!("caller-{}", running.len()), "1", "r") {
                Begun::First(place) => running.push(place),
                other => break other,
            }
        };
        assert!(matches!(refused, Begun::Full), "{refused:?}");
        assert_eq!(running.len(), room);
        running.pop();
        assert!(matches!(it.ask("another", "1", "r"), Begun::First(_)));
    }

    #[test]
    fn keys_are_short_and_visible() {
        assert!(ReplayKey::new(&"k".repeat(128)).is_some());
        for bad in ["", "a b", "é", "a\n", &"k".repeat(129)] {
            assert!(ReplayKey::new(bad).is_none(), "{bad}");
        }
    }
}
