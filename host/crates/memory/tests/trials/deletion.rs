//! What was deleted, replaced or has expired is gone: somebody who copies every file afterwards, and has the master key too,
//! finds everything that is there and nothing that was.

use std::collections::BTreeSet;

use crate::attacker::{Attacker, Loot};
use crate::child::{self, Run};
use crate::script::{Act, Change, State, Turn, Value, perform};
use crate::support::{KEY, OTHER_KEY, Place, START, copy_folder, open, read_all};

const SPACES: [&str; 2] = ["one", "two"];
const SMALL: usize = 300;
/// In ten chunks.
const LARGE: usize = 150_000;

/// How the writing process ends before the files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Closed,
    Killed,
}

fn put(name: &str, value: &str, bytes: usize, ttl_seconds: Option<u64>) -> Change {
    Change::Put {
        name: name.to_owned(),
        value: Value {
            text: format!("the-value-of-{value}."),
            bytes,
        },
        ttl_seconds,
        class: 3,
    }
}

fn delete(name: &str) -> Change {
    Change::Delete { name: name.to_owned() }
}

fn apply(namespace: &str, changes: impl IntoIterator<Item = Change>) -> Turn {
    turn(Act::Apply {
        namespace: namespace.to_owned(),
        changes: changes.into_iter().collect(),
    })
}

fn turn(act: Act) -> Turn {
    Turn { thread: 0, act }
}

/// Records that stay, and records that go, of every size, in both namespaces.
fn written() -> Vec<Turn> {
    let mut turns = Vec::new();
    for space in SPACES {
        for (size, bytes) in [("small", SMALL), ("large", LARGE)] {
            for fate in ["stays", "deleted", "replaced", "replaced-by-large", "replaced-by-small"] {
                let name = format!("name-{space}-{size}-{fate}");
                turns.push(apply(
                    space,
                    [put(&name, &format!("{space}-{size}-{fate}"), bytes, None)],
                ));
            }
            let brief = format!("name-{space}-{size}-expired");
            turns.push(apply(
                space,
                [put(&brief, &format!("{space}-{size}-expired"), bytes, Some(50))],
            ));
        }
        let many = (0..20).map(|index| put(&format!("name-{space}-{index}"), &format!("{space}-{index}"), 500, None));
        turns.push(apply(space, many));
    }
    turns
}

/// What makes most of them go.
fn destroyed() -> Vec<Turn> {
    let mut turns = Vec::new();
    for space in SPACES {
        for (size, bytes) in [("small", SMALL), ("large", LARGE)] {
            let name = |fate: &str| format!("name-{space}-{size}-{fate}");
            turns.push(apply(space, [delete(&name("deleted"))]));
            for (fate, bytes) in [
                ("replaced", bytes),
                ("replaced-by-large", LARGE),
                ("replaced-by-small", SMALL),
            ] {
                let new = format!("{space}-{size}-{fate}-new");
                turns.push(apply(space, [put(&name(fate), &new, bytes, None)]));
            }
        }
        turns.push(apply(
            space,
            (0..10).map(|index| delete(&format!("name-{space}-{index}"))),
        ));
    }
    turns.extend([turn(Act::Wait { seconds: 60 }), turn(Act::Sweep)]);
    turns
}

/// The values that a state holds, by their texts; and those that it does not hold though they were written.
fn alive_and_dead(turns: &[&[Turn]]) -> (State, BTreeSet<String>) {
    let (mut state, mut written, mut now) = (State::new(), BTreeSet::new(), START);
    for turn in turns.iter().copied().flatten() {
        if let Act::Wait { seconds } = turn.act {
            now += i64::try_from(seconds).expect("a short wait");
        }
        perform(&mut state, &turn.act, now);
        written.extend(state.values().map(|record| record.value.text.clone()));
    }
    let alive: BTreeSet<&String> = state.values().map(|record| &record.value.text).collect();
    let dead = written.iter().filter(|text| !alive.contains(text)).cloned().collect();
    (state, dead)
}

/// Lets a writer do all that, and end.
fn write(place: &Place, key: &str, now: i64, turns: &[Turn], ending: Ending) {
    let run = Run {
        place,
        key,
        now,
        turns,
        killed_at: None,
    };
    let mut writer = child::start(&run);
    writer.hear_all();
    let ended = match ending {
        Ending::Closed => writer.end(),
        Ending::Killed => writer.kill(),
    };
    assert!(ended.is_ended, "{}", ended.complaint);
}

/// The attacker finds exactly what is there: as records, and as ciphertext.
fn assert_exactly(loot: &Loot, state: &State, dead: &BTreeSet<String>) {
    let expected = state
        .iter()
        .map(|((space, name), record)| (space.clone(), name.clone(), record.value.to_bytes()));
    let expected: BTreeSet<_> = expected.collect();
    assert!(
        !expected.is_empty() && !dead.is_empty(),
        "a trial without both shows nothing"
    );
    assert_eq!(
        loot.records.len(),
        expected.len(),
        "the attacker must find all records that are there"
    );
    assert!(
        loot.records == expected,
        "the attacker found other records than those that are there"
    );
    assert_eq!(loot.keys.len(), expected.len(), "one key for each record that is there");
    let alive: BTreeSet<String> = state.values().map(|record| record.value.text.clone()).collect();
    assert_eq!(
        loot.beginnings, alive,
        "the attacker must find the beginnings of what is there, and of nothing else"
    );
}

/// No file holds a value, a name, a namespace or a key in clear.
fn assert_sealed(attacker: &Attacker, loot: &Loot) {
    let plain = ["the-value-of-", "name-one-", "name-two-", KEY, OTHER_KEY];
    let raw = [KEY, OTHER_KEY].map(|text| {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..32).map(|index| digit(index * 2)).collect::<Vec<u8>>()
    });
    let keys = loot.roots.iter().chain(&loot.keys).map(|key| key.to_vec());
    let texts = plain.iter().map(|text| text.as_bytes().to_vec());
    for bytes in texts.chain(raw).chain(keys) {
        let found = attacker.finds(&bytes);
        assert_eq!(found, None, "{:?} lies there in clear", String::from_utf8_lossy(&bytes));
    }
    // That it can find something: the name of the format.
    assert!(attacker.finds(b"ARALSLOT").is_some());
}

fn attacker(place: &Place, masters: &[&str]) -> Attacker {
    Attacker::new(&place.store(), masters, &SPACES)
}

fn deletion_is_real(ending: Ending) {
    let place = Place::new();
    let (written, destroyed) = (written(), destroyed());
    write(&place, KEY, START, &written, ending);
    // Before anything is deleted everything is found: the attack works, also on what will be gone.
    let before = attacker(&place, &[KEY]).attack();
    let (all, _) = alive_and_dead(&[&written]);
    let nothing_but = BTreeSet::from(["nothing is dead yet".to_owned()]);
    assert_exactly(&before, &all, &nothing_but);

    write(&place, KEY, START, &destroyed, ending);
    let (state, dead) = alive_and_dead(&[&written, &destroyed]);
    assert_eq!(dead.len(), 40, "{dead:?}");
    let attacker = attacker(&place, &[KEY]);
    let after = attacker.attack();
    assert_exactly(&after, &state, &dead);
    assert_sealed(&attacker, &after);
    // Their ciphertext may still be there; their keys are not, neither in clear nor in any slot.
    assert!(before.keys.difference(&after.keys).count() >= dead.len());
    for gone in before.keys.difference(&after.keys) {
        assert_eq!(
            attacker.finds(gone),
            None,
            "the key of a deleted record lies there in clear"
        );
    }
}

#[test]
fn what_is_deleted_replaced_or_swept_is_gone_from_every_file() {
    deletion_is_real(Ending::Closed);
}

#[test]
fn it_is_gone_when_the_process_is_killed_right_after_it_was_told_so() {
    deletion_is_real(Ending::Killed);
}

#[test]
fn without_the_destruction_of_keys_everything_would_be_found() {
    // The control of the control: the slots of before, put beside the files of after, give back what lay in no file but
    // those. So it is the slots that keep the deleted from being read, and sled keeps old pages indeed.
    let place = Place::new();
    let (written, destroyed) = (written(), destroyed());
    write(&place, KEY, START, &written, Ending::Closed);
    let slots = std::fs::read(place.store().join("slots")).expect("the slot file");
    write(&place, KEY, START, &destroyed, Ending::Closed);
    let mixed = place.beside("mixed");
    copy_folder(&place.store(), &mixed);
    std::fs::write(mixed.join("slots"), slots).expect("the slots of before");
    let loot = Attacker::new(&mixed, &[KEY], &SPACES).attack();
    let (_, dead) = alive_and_dead(&[&written, &destroyed]);
    let found = loot.beginnings.intersection(&dead).count();
    assert!(
        found > 0,
        "no remnant of a deleted record is in the database: the attack looks at nothing"
    );
}

#[test]
fn after_a_rotation_the_old_key_opens_nothing_and_the_deleted_stay_gone() {
    for ending in [Ending::Closed, Ending::Killed] {
        let place = Place::new();
        let (written, destroyed) = (written(), destroyed());
        let rotate = [turn(Act::Rotate {
            key: OTHER_KEY.to_owned(),
        })];
        write(&place, KEY, START, &written, ending);
        write(&place, KEY, START, &[&destroyed[..], &rotate].concat(), ending);
        let (state, dead) = alive_and_dead(&[&written, &destroyed]);
        let old = attacker(&place, &[KEY]).attack();
        assert!(
            old.roots.is_empty() && old.keys.is_empty() && old.beginnings.is_empty(),
            "{old:?}"
        );
        let attacker = attacker(&place, &[KEY, OTHER_KEY]);
        let both = attacker.attack();
        assert_eq!(both.roots.len(), 1);
        assert_exactly(&both, &state, &dead);
        assert_sealed(&attacker, &both);
        let store = open(&place.store(), OTHER_KEY, START + 60).expect("the new key opens the store");
        assert_eq!(read_all(&*store.memory()).expect("records"), state);
    }
}

#[test]
fn a_killed_deletion_is_finished_by_the_next_start() {
    // Killed when the record is gone and its key is not: until somebody opens the store the key is there.
    let place = Place::new();
    let written = written();
    write(&place, KEY, START, &written, Ending::Closed);
    let deleting = [apply("one", [delete("name-one-large-deleted")])];
    let run = Run {
        place: &place,
        key: KEY,
        now: START,
        turns: &deleting,
        killed_at: Some((aral_memory::sealed::Step::RecordsSynced, 1)),
    };
    let ended = child::start(&run).end();
    assert!(!ended.is_ended && ended.acknowledged == [0], "{ended:?}");
    let key_is_there = attacker(&place, &[KEY]).attack().keys.len();
    let (state, dead) = alive_and_dead(&[&written, &deleting]);
    assert_eq!(key_is_there, state.len() + 1);
    let store = open(&place.store(), KEY, START).expect("the store opens again");
    assert_eq!(store.reclaimed(), 1, "the keys without records are destroyed");
    drop(store);
    assert_exactly(&attacker(&place, &[KEY]).attack(), &state, &dead);
}
