//! One breaker through all its states, and many of them: by a clock that a test sets.

use aral_contract::testing::ManualClock;
use jiff::SignedDuration;

use super::*;

const LIMITS: BreakerLimits = BreakerLimits {
    failures: 3,
    open_ms: 100,
    open_max_ms: 350,
};

struct Fixture {
    breakers: Breakers,
    clock: Arc<ManualClock>,
}

fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::new());
    Fixture {
        breakers: Breakers::new(Arc::clone(&clock) as Arc<dyn Clock>),
        clock,
    }
}

fn key(persona: &str, capability: &str) -> Key {
    Key {
        persona: persona.parse().unwrap(),
        capability: capability.parse().unwrap(),
    }
}

fn one() -> Key {
    key("analyst", "grep")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Fixture {
    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn enter(&self, key: &Key) -> Result<Pass<'_>, Duration> {
        self.breakers.enter(key.clone(), LIMITS)
    }

    /// A call that ends so at once.
    fn call(&self, key: &Key, verdict: Verdict) -> Option<Change> {
        self.enter(key).unwrap().end(verdict)
    }

    /// How long nobody is let through; none: somebody was, and gave up.
    fn wait(&self, key: &Key) -> Option<Duration> {
        self.enter(key).err()
    }

    fn open(&self, key: &Key) {
        let changes: Vec<Option<Change>> = (0..3).map(|_| self.call(key, Verdict::Failed)).collect();
        assert_eq!(changes, [None, None, Some(Change::Opened(key.clone()))]);
    }

    fn kept(&self) -> usize {
        self.breakers.lock().breakers.len()
    }
}

#[test]
fn failures_in_a_row_open_it_and_an_answer_between_them_begins_anew() {
    let fixture = fixture();
    for _ in 0..2 {
        assert_eq!(fixture.call(&one(), Verdict::Failed), None);
        assert_eq!(fixture.call(&one(), Verdict::Failed), None);
        assert_eq!(fixture.call(&one(), Verdict::Answered), None);
        assert_eq!(fixture.kept(), 0, "what has not failed is not kept");
    }
    fixture.open(&one());
    assert_eq!(fixture.wait(&one()), Some(ms(100)));
    fixture.pass(ms(99));
    assert_eq!(fixture.wait(&one()), Some(ms(1)));
}

/// Whoever sets the clock of the machine lets nobody through, and holds nobody up.
#[test]
fn the_time_of_day_changes_nothing() {
    let fixture = fixture();
    fixture.open(&one());
    let year = SignedDuration::from_hours(24 * 365);
    for leap in [year, -year, -year] {
        fixture.clock.leap(leap);
        assert_eq!(fixture.wait(&one()), Some(ms(100)));
    }
    fixture.pass(ms(100));
    assert_eq!(fixture.wait(&one()), None);
}

#[test]
fn what_says_nothing_of_the_capability_neither_counts_nor_begins_anew() {
    let fixture = fixture();
    fixture.call(&one(), Verdict::Failed);
    fixture.call(&one(), Verdict::Silent);
    fixture.call(&one(), Verdict::Failed);
    drop(fixture.enter(&one()).unwrap());
    assert!(fixture.call(&one(), Verdict::Failed).is_some());
    let quiet = key("analyst", "quiet");
    (0..10).for_each(|_| drop(fixture.call(&quiet, Verdict::Silent)));
    assert_eq!((fixture.wait(&quiet), fixture.kept()), (None, 1));
}

#[test]
fn another_persona_and_another_capability_go_on() {
    let fixture = fixture();
    fixture.open(&one());
    for other in [key("other", "grep"), key("analyst", "echo")] {
        assert_eq!(fixture.wait(&other), None, "{other:?}");
    }
    assert!(fixture.wait(&one()).is_some());
}

#[test]
fn after_the_pause_one_call_at_a_time_is_tried_and_an_answer_closes_it() {
    let fixture = fixture();
    fixture.open(&one());
    fixture.pass(ms(100));
    let trial = fixture.enter(&one()).unwrap();
    assert_eq!(fixture.wait(&one()), Some(TRIAL_WAIT), "a second one at once");
    assert_eq!(trial.end(Verdict::Answered), Some(Change::Closed(one())));
    assert_eq!((fixture.wait(&one()), fixture.kept()), (None, 0));
    // It has counted nothing since.
    assert_eq!(fixture.call(&one(), Verdict::Failed), None);
}

#[test]
fn a_trial_that_fails_doubles_the_pause_up_to_the_longest() {
    let fixture = fixture();
    fixture.open(&one());
    let mut pause = ms(100);
    for next in [200, 350, 350] {
        fixture.pass(pause);
        assert_eq!(fixture.call(&one(), Verdict::Failed), Some(Change::Opened(one())));
        pause = ms(next);
        assert_eq!(fixture.wait(&one()), Some(pause));
    }
    fixture.pass(pause);
    fixture.call(&one(), Verdict::Answered);
    fixture.open(&one());
    assert_eq!(
        fixture.wait(&one()),
        Some(ms(100)),
        "the next time it begins with the first"
    );
}

#[test]
fn a_trial_that_is_dropped_or_says_nothing_gives_its_place_back() {
    let fixture = fixture();
    fixture.open(&one());
    fixture.pass(ms(100));
    drop(fixture.enter(&one()).unwrap());
    assert_eq!(fixture.call(&one(), Verdict::Silent), None);
    assert!(fixture.call(&one(), Verdict::Answered).is_some());
}

#[test]
fn calls_that_began_before_it_opened_change_nothing_of_it() {
    let fixture = fixture();
    let early: Vec<Pass<'_>> = (0..4).map(|_| fixture.enter(&one()).unwrap()).collect();
    fixture.open(&one());
    fixture.pass(ms(50));
    let mut early = early.into_iter();
    let mut end = |verdict| early.next().unwrap().end(verdict);
    assert_eq!((end(Verdict::Failed), end(Verdict::Answered)), (None, None));
    assert_eq!(fixture.wait(&one()), Some(ms(50)), "neither longer nor closed");
    fixture.pass(ms(50));
    let trial = fixture.enter(&one()).unwrap();
    assert_eq!((end(Verdict::Failed), end(Verdict::Answered)), (None, None));
    assert!(fixture.wait(&one()).is_some(), "the trial is still under way");
    assert!(trial.end(Verdict::Answered).is_some());
}

#[test]
fn other_numbers_hold_for_what_is_there() {
    let fixture = fixture();
    fixture.call(&one(), Verdict::Failed);
    let lower = BreakerLimits { failures: 2, ..LIMITS };
    let enter = |limits| fixture.breakers.enter(one(), limits);
    assert!(
        enter(lower).unwrap().end(Verdict::Failed).is_some(),
        "two are enough now"
    );
    let shorter = BreakerLimits {
        open_ms: 10,
        open_max_ms: 20,
        ..LIMITS
    };
    assert_eq!(enter(shorter).err(), Some(ms(20)), "the longest pause is shorter now");
    let longer = BreakerLimits {
        open_ms: 1_000,
        open_max_ms: 5_000,
        ..LIMITS
    };
    fixture.pass(ms(100));
    enter(longer).unwrap().end(Verdict::Failed);
    assert_eq!(enter(longer).err(), Some(ms(1_000)));
}

#[test]
fn those_that_refuse_are_counted() {
    let fixture = fixture();
    let refusing = || fixture.breakers.refusing(LIMITS);
    fixture.call(&key("a", "a"), Verdict::Failed);
    assert_eq!(refusing(), 0);
    fixture.open(&one());
    fixture.open(&key("other", "grep"));
    assert_eq!(refusing(), 2);
    fixture.pass(ms(100));
    assert_eq!(refusing(), 0, "one call is let through");
    let trial = fixture.enter(&one()).unwrap();
    assert_eq!(refusing(), 1);
    drop(trial);
    assert_eq!(refusing(), 0);
}

#[test]
fn what_is_kept_is_bounded_and_one_that_refuses_is_never_forgotten() {
    let fixture = fixture();
    let numbered = |number: usize| key("analyst", &format!("c{number}"));
    fixture.open(&one());
    fixture.pass(ms(50));
    (1..BREAKERS_MAX).for_each(|number| drop(fixture.call(&numbered(number), Verdict::Failed)));
    assert_eq!(fixture.kept(), BREAKERS_MAX);
    fixture.call(&numbered(0), Verdict::Failed);
    assert_eq!(fixture.kept(), BREAKERS_MAX);
    let is_kept = |key: &Key| fixture.breakers.lock().breakers.contains_key(key);
    assert!(!is_kept(&numbered(1)) && is_kept(&numbered(2)), "the oldest one goes");
    assert_eq!(fixture.wait(&one()), Some(ms(50)), "although it is older");
    // All of them refuse: no other one opens, and none of them closes.
    for number in (2..BREAKERS_MAX).chain([0]) {
        fixture.call(&numbered(number), Verdict::Failed);
        assert!(fixture.call(&numbered(number), Verdict::Failed).is_some());
    }
    assert_eq!(
        (fixture.kept(), fixture.breakers.refusing(LIMITS)),
        (BREAKERS_MAX, 8192)
    );
    let late = key("late", "grep");
    (0..5).for_each(|_| assert_eq!(fixture.call(&late, Verdict::Failed), None));
    assert!(!is_kept(&late) && is_kept(&one()));
    // Once pauses are over, the one that opened first is forgotten first.
    fixture.pass(ms(50));
    fixture.call(&late, Verdict::Failed);
    assert!(is_kept(&late) && !is_kept(&one()));
}
