//! `kill -9`, at random points and at each step of a write: what was acknowledged is there, what was not is there whole or
//! not at all, and no key stays behind without its record.

use std::time::Duration;

use aral_contract::Classification;
use aral_memory::sealed::Step;
use aral_memory::{Operation, Precondition, Quota, Write};
use zeroize::Zeroizing;

use crate::child::{self, Ended, Run};
use crate::outcome::{name_prefix, settle};
use crate::script::{Act, Change, State, Turn, Value, forget_expired};
use crate::support::{
    Dice, KEY, OTHER_KEY, Place, START, assert_nothing_unsynced, assert_usable, open, read_all, read_records,
};

pub(crate) const THREADS: usize = 3;
const NAMES: usize = 12;

/// A store that is killed again and again, and what must be in it.
pub(crate) struct Trial {
    place: Place,
    dice: Dice,
    state: State,
    now: i64,
    key: &'static str,
    round: usize,
    /// Kills that came before the writer had done all that it was to do.
    while_writing: usize,
    /// Kills that came before the store was open.
    while_opening: usize,
}

impl Trial {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            place: Place::new(),
            dice: Dice::new(seed),
            state: State::new(),
            now: START,
            key: KEY,
            round: 0,
            while_writing: 0,
            while_opening: 0,
        }
    }

    /// One change of a record that belongs to this thread. Its value says whose and which it is.
    fn change(&mut self, thread: usize, turn: usize, index: usize) -> Change {
        let name = format!("{}name-{index}", name_prefix(thread));
        if self.dice.one_in(4) {
            return Change::Delete { name };
        }
        let bytes = match self.dice.below(12) {
            0 => 70_000 + self.dice.below(150_000),
            1 => 60_000 + self.dice.below(10_000),
            _ => 64 + self.dice.below(2000),
        };
        let text = format!("{name}-round-{}-turn-{turn}.", self.round);
        Change::Put {
            name,
            value: Value { text, bytes },
            ttl_seconds: self.dice.one_in(5).then_some(1000),
            class: self.dice.below(4),
        }
    }

    /// Turns of all threads: single records and batches, in two namespaces.
    pub(crate) fn turns(&mut self, each: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for turn in 0..each {
            for thread in 0..THREADS {
                let count = if self.dice.one_in(3) { 2 + self.dice.below(3) } else { 1 };
                let first = self.dice.below(NAMES);
                let changes: Vec<Change> = (0..count)
                    .map(|more| self.change(thread, turn, (first + more) % NAMES))
                    .collect();
                let namespace = ["one", "two"][self.dice.below(2)].to_owned();
                let act = Act::Apply { namespace, changes };
                turns.push(Turn { thread, act });
            }
        }
        turns
    }

    /// The same beside one more thread, which does this and owns no record.
    pub(crate) fn turns_beside(&mut self, each: usize, act: Act) -> Vec<Turn> {
        let mut turns = self.turns(each);
        turns.push(Turn { thread: THREADS, act });
        turns
    }

    fn run<'a>(&'a self, turns: &'a [Turn], killed_at: Option<(Step, usize)>) -> Run<'a> {
        Run {
            place: &self.place,
            key: self.key,
            now: self.now,
            turns,
            killed_at,
        }
    }

    /// A writer that does its turns and is not disturbed.
    #[cfg(feature = "services")]
    pub(crate) fn write_all(&mut self, each: usize) {
        self.round += 1;
        let turns = self.turns(each);
        let ended = child::start(&self.run(&turns, None)).end();
        assert!(ended.is_ended, "{}", ended.complaint);
        self.check(&turns, &ended);
    }

    /// The store, closed, and what is in it.
    #[cfg(feature = "services")]
    pub(crate) fn into_parts(self) -> (Place, State) {
        (self.place, self.state)
    }

    /// Kills a writer after a random number of answers and a random moment more.
    fn kill_somewhere(&mut self) {
        self.round += 1;
        let turns = self.turns(12);
        let heard = self.dice.below(turns.len());
        let moment = Duration::from_micros(self.dice.next() % 3000);
        let mut writer = child::start(&self.run(&turns, None));
        writer.hear_some(heard + 1);
        std::thread::sleep(moment);
        let ended = writer.kill();
        assert!(ended.is_open, "{}", ended.complaint);
        self.while_writing += usize::from(!ended.is_ended);
        self.check(&turns, &ended);
    }

    /// A writer kills itself at a step. How often it comes to one depends on how many requests are written together: one that
    /// does all of them before is followed by another one.
    fn kill_at(&mut self, step: Step) {
        for _ in 0..20 {
            self.round += 1;
            let turns = self.turns(6);
            let nth = 1 + self.dice.below(8);
            let ended = child::start(&self.run(&turns, Some((step, nth)))).end();
            assert_eq!(ended.complaint, "");
            self.check(&turns, &ended);
            if !ended.is_ended {
                return;
            }
        }
        panic!("{step:?} was not reached");
    }

    /// Kills a process that is about to open the store.
    fn kill_while_it_opens(&mut self) {
        // Most of them soon, so that some come in time on any machine.
        let most = [500, 2_000, 8_000, 20_000][self.dice.below(4)];
        let moment = Duration::from_micros(self.dice.next() % most);
        let writer = child::start(&self.run(&[], None));
        std::thread::sleep(moment);
        self.while_opening += usize::from(!writer.kill().is_open);
    }

    /// What must hold after a kill. The state from here on is what the store has.
    fn check(&mut self, turns: &[Turn], ended: &Ended) {
        if self.dice.one_in(4) {
            self.kill_while_it_opens();
        }
        let round = format!("round {}, {ended:?}", self.round);
        let store = open(&self.place.store(), self.key, self.now).expect("the store opens again");
        let found = read_all(&*store.memory()).unwrap_or_else(|error| panic!("{round}: {error}"));
        // A rotation is a thread of its own, which owns no record.
        let acknowledged = &ended.acknowledged[..THREADS];
        let settled = settle(&self.state, turns, acknowledged, &found, self.now);
        self.state = settled.unwrap_or_else(|error| panic!("{round}: {error}"));
        let status = store.status().expect("a status");
        assert_eq!(
            status.slots_used as usize,
            self.state.len(),
            "{round}: keys without a record"
        );
        assert_usable(&store);
        assert_nothing_unsynced(&self.place.store());
    }

    /// Time goes by: what had a time to live is gone, and stays gone after the next kill.
    fn let_expire(&mut self) {
        self.now += 5000;
        let before = self.state.len();
        forget_expired(&mut self.state, self.now);
        let store = open(&self.place.store(), self.key, self.now).expect("the store opens");
        // What expired and was not swept is still counted.
        assert_eq!(read_records(&*store.memory()).expect("records"), self.state);
        let mut swept = 0;
        loop {
            let one = store.sweep(7).expect("a sweep");
            swept += one.records;
            if !one.more {
                break;
            }
        }
        assert_eq!(swept, before - self.state.len());
        assert_eq!(read_all(&*store.memory()).expect("records"), self.state);
    }
}

fn kill_at_random_points(seed: u64) {
    let mut trial = Trial::new(seed);
    for round in 1..=60 {
        trial.kill_somewhere();
        if round % 10 == 0 {
            trial.let_expire();
        }
    }
    assert!(
        !trial.state.is_empty(),
        "a trial in which nothing is left shows nothing"
    );
    assert!(trial.while_writing > 0, "no kill hit a write");
    assert!(trial.while_opening > 0, "no kill hit a store that opens");
}

#[test]
fn a_writer_that_is_killed_loses_nothing_that_it_was_told_is_written() {
    kill_at_random_points(1);
}

#[test]
fn another_writer_that_is_killed_loses_nothing_either() {
    kill_at_random_points(2);
}

#[test]
fn a_writer_that_is_killed_on_a_store_that_has_been_through_much_loses_nothing() {
    kill_at_random_points(3);
}

fn kill_at_steps(seed: u64, steps: &[Step]) {
    let mut trial = Trial::new(seed);
    for _ in 0..20 {
        for step in steps {
            trial.kill_at(*step);
        }
    }
    assert!(trial.while_opening > 0, "no kill hit a store that opens");
}

const OF_WRITING: [Step; 4] = [
    Step::SlotHalfWritten,
    Step::SlotsWritten,
    Step::SlotsSynced,
    Step::RecordsApplied,
];
const OF_DESTROYING: [Step; 4] = [
    Step::RecordsFlushed,
    Step::RecordsSynced,
    Step::SlotsDestroyed,
    Step::DestructionSynced,
];

#[test]
fn a_writer_that_is_killed_while_it_writes_keys_loses_nothing() {
    kill_at_steps(4, &OF_WRITING);
}

#[test]
fn a_writer_that_is_killed_while_it_destroys_keys_loses_nothing() {
    kill_at_steps(5, &OF_DESTROYING);
}

#[test]
fn however_large_a_batch_is_nothing_is_put_where_it_is_not_synced() {
    let place = Place::new();
    let store = open(&place.store(), KEY, START).expect("a store");
    let space = "space".parse().expect("a namespace");
    // As large as a record can be before it is in chunks, as many as fit; neighbours that come and go; one that is huge.
    for (round, bytes) in [16 << 10, 32 << 10, 16 << 10, 100, 16 << 20, 16 << 10]
        .into_iter()
        .enumerate()
    {
        let count = ((32 << 20) / bytes).clamp(1, 1000);
        let operations = (0..count).map(|index| {
            let name = format!("{}{index:>100}", ["a", "b"][round % 2])
                .parse()
                .expect("a name");
            Operation::Put(Write {
                name,
                value: Zeroizing::new(vec![7; bytes]),
                ttl_seconds: Some(1000),
                classification: Classification::Internal,
                precondition: Precondition::Any,
            })
        });
        let operations = operations.collect();
        store
            .memory()
            .apply(&space, operations, &Quota::UNLIMITED)
            .expect("a batch");
        assert_nothing_unsynced(&place.store());
        for index in (round..count).step_by(3) {
            let name = format!("{}{index:>100}", ["a", "b"][round % 2])
                .parse()
                .expect("a name");
            let deleted = store.memory().delete(&space, &name, Precondition::Any);
            assert!(deleted.expect("a delete").is_some());
            assert_nothing_unsynced(&place.store());
        }
    }
}

#[test]
fn a_writer_that_is_killed_while_it_opens_is_followed_by_one_that_opens() {
    let mut trial = Trial::new(7);
    trial.kill_at(Step::RecordsFlushed);
    // sled was about to write what it made of its file: nothing of it, or half of it, is there.
    for left in [&b""[..], b"half of a snapshot"] {
        let unfinished = trial.place.store().join("records/snap.00000000FFFFFFFF.generating");
        std::fs::write(&unfinished, left).expect("a file");
        trial.kill_at(Step::RecordsFlushed);
        assert!(!unfinished.exists());
    }
}

#[test]
fn every_step_of_a_write_is_among_those_that_are_tried() {
    assert_eq!([OF_WRITING, OF_DESTROYING].concat(), Step::ALL);
}

#[test]
fn a_rotation_that_is_killed_goes_on_and_loses_nothing() {
    let mut trial = Trial::new(6);
    for round in 0..12 {
        trial.kill_somewhere();
        let new = if trial.key == KEY { OTHER_KEY } else { KEY };
        let mut kills = 0;
        let finished = loop {
            let turns = trial.turns_beside(3, Act::Rotate { key: new.to_owned() });
            trial.round += 1;
            let mut writer = child::start(&trial.run(&turns, None));
            let patience = 1 + trial.dice.below(2 + 2 * kills);
            writer.hear_some(patience);
            std::thread::sleep(Duration::from_micros(trial.dice.next() % 3000));
            let ended = writer.kill();
            assert!(ended.is_open, "{}", ended.complaint);
            // Whether the last step was reached is seen by which key opens the store.
            let opens = |key| open(&trial.place.store(), key, trial.now).map(drop);
            let (old, both) = (opens(trial.key), opens(new));
            kills += 1;
            if old.is_err() {
                both.expect("the new key opens the store");
                trial.key = new;
                trial.check(&turns, &ended);
                break true;
            }
            assert_eq!(
                ended.acknowledged[THREADS], 0,
                "the rotation is over and the old key opens the store"
            );
            trial.check(&turns, &ended);
            if kills > 40 {
                break false;
            }
        };
        assert!(finished, "round {round}: the rotation never ends");
        let old = if trial.key == KEY { OTHER_KEY } else { KEY };
        let refused = open(&trial.place.store(), old, trial.now)
            .expect_err("the old key is refused")
            .to_string();
        assert!(refused.contains("wants the master key"), "{refused}");
    }
}
