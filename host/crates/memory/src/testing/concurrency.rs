//! Many callers at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aral_contract::id::Namespace;

use super::subject::{delete, name, names, namespace, pages, put, write};
use super::{Case, Subject};
use crate::{Precondition, Quota, RecordStore, StoreError, Usage, Write};

pub(super) const CASES: &[Case] = &[
    ("one_of_many_swaps_wins", one_of_many_swaps_wins),
    (
        "readers_see_a_whole_value_of_a_version_that_never_goes_back",
        readers_see_a_whole_value_of_a_version_that_never_goes_back,
    ),
    ("usage_is_exact_after_many_writers", usage_is_exact_after_many_writers),
    (
        "a_listing_beside_writers_gives_what_stays_once",
        a_listing_beside_writers_gives_what_stays_once,
    ),
];

const THREADS: u64 = 4;

/// Ends the threads that wait for it, also when a check fails: a test that fails must not hang.
struct Done(AtomicBool);

impl Done {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets it when dropped.
struct SetAtEnd<'a>(&'a Done);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Adds one to the number in a record, by compare-and-swap, until it is done; counts how often another was quicker.
fn increment(store: &dyn RecordStore, space: &Namespace, lost: &AtomicU64) {
    loop {
        let found = store.get(space, &name("counter")).expect("an answer");
        let (value, precondition) = found.map_or((0, Precondition::Absent), |record| {
            let bytes = record.value.as_slice().try_into().expect("eight bytes");
            (u64::from_le_bytes(bytes), Precondition::Version(record.version))
        });
        let next = Write {
            precondition,
            ..write("counter", (value + 1).to_le_bytes())
        };
        match store.put(space, next, &Quota::UNLIMITED) {
            Ok(version) => {
                assert_eq!(version, value + 1);
                return;
            }
            Err(StoreError::Precondition { .. }) => lost.fetch_add(1, Ordering::Relaxed),
            Err(other) => panic!("{other:?}"),
        };
    }
}

fn one_of_many_swaps_wins(subject: &mut Subject) {
    const ROUNDS: u64 = 25;
    let space = namespace("space");
    let (store, lost): (&dyn RecordStore, _) = (&**subject, AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..ROUNDS).for_each(|_| increment(store, &space, &lost)));
        }
    });
    subject.step();
    let counted = subject.value(&space, "counter").expect("a value");
    let counted = u64::from_le_bytes(counted.try_into().expect("eight bytes"));
    assert_eq!(counted, THREADS * ROUNDS, "{lost:?} swaps were lost to another");
}

fn readers_see_a_whole_value_of_a_version_that_never_goes_back(subject: &mut Subject) {
    const VERSIONS: u64 = 60;
    let space = namespace("space");
    // Large enough to be in several parts, small enough now and then to be in one.
    let value = |version: u64| {
        let bytes = if version.is_multiple_of(3) { 100 } else { 150_000 };
        vec![u8::try_from(version).expect("a small number"); bytes]
    };
    subject.put_value(&space, "overwritten", value(1));
    let (store, done): (&dyn RecordStore, _) = (&**subject, Done(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| {
                let mut last = 1;
                while !done.is_set() {
                    let record = store.get(&space, &name("overwritten")).expect("an answer");
                    let record = record.expect("a record that is always there");
                    assert!(record.version >= last, "version {} after {last}", record.version);
                    last = record.version;
                    assert!(*record.value == value(last), "version {last} has another value");
                    let class = store.classification(&space, &name("overwritten"));
                    assert!(class.expect("an answer").is_some());
                }
            });
        }
        let _end = SetAtEnd(&done);
        for version in 2..=VERSIONS {
            let one = write("overwritten", value(version));
            let written = store.put(&space, one, &Quota::UNLIMITED);
            assert_eq!(written.expect("the record is written"), version);
        }
    });
}

fn usage_is_exact_after_many_writers(subject: &mut Subject) {
    let store: &dyn RecordStore = &**subject;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in 0..40_u64 {
                    let space = namespace(if round % 2 == 0 { "even" } else { "odd" });
                    let own = format!("{thread} {round}");
                    let batch = vec![
                        put(&own, vec![0; 10]),
                        put("shared", vec![0; usize::try_from(thread * 10 + round).expect("small")]),
                        put(&format!("{thread} passing"), "x"),
                    ];
                    store
                        .apply(&space, batch, &Quota::UNLIMITED)
                        .expect("the batch is done");
                    let batch = vec![delete(&format!("{thread} passing"))];
                    store
                        .apply(&space, batch, &Quota::UNLIMITED)
                        .expect("the batch is done");
                }
            });
        }
    });
    subject.step();
    for space in ["even", "odd"] {
        let space = namespace(space);
        let listed = subject.names(&space, "", 1000);
        assert_eq!(listed.len() as u64, THREADS * 20 + 1);
        let bytes = listed.iter().map(|listed| {
            let value = subject.value(&space, listed).expect("a value");
            (value.len() + listed.len()) as u64
        });
        let counted = Usage {
            bytes: bytes.sum(),
            records: listed.len() as u64,
        };
        assert_eq!(subject.usage(&space).expect("usage"), counted);
    }
}

fn a_listing_beside_writers_gives_what_stays_once(subject: &mut Subject) {
    let space = namespace("space");
    for index in 0..50 {
        subject.put_value(&space, &format!("stays {index}"), "x");
    }
    let (store, done): (&dyn RecordStore, _) = (&**subject, Done(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (done, space) = (&done, &space);
            scope.spawn(move || {
                for round in 0_u64.. {
                    if done.is_set() {
                        return;
                    }
                    let passing = format!("passing {thread} {}", round % 17);
                    let again = format!("stays {}", round % 50);
                    let batch = vec![put(&passing, "x"), put(&again, vec![1; 200])];
                    store.apply(space, batch, &Quota::UNLIMITED).expect("the batch is done");
                    let gone = format!("passing {thread} {}", (round + 5) % 17);
                    let answer = store.delete(space, &name(&gone), Precondition::Any);
                    answer.expect("an answer");
                }
            });
        }
        let _end = SetAtEnd(&done);
        for limit in [1, 3, 10, 1000, 3, 10] {
            let listed = names(pages(store, &space, "", limit));
            let once: BTreeSet<&String> = listed.iter().collect();
            assert_eq!(once.len(), listed.len(), "a name came twice in pages of {limit}");
            let stays = listed.iter().filter(|one| one.starts_with("stays"));
            assert_eq!(stays.count(), 50, "a name is missing in pages of {limit}");
        }
    });
}
