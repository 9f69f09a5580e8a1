//! Time to live: absent at the moment, gone after a sweep that is bounded.

use std::time::Duration;

use aral_contract::Clock as _;
use jiff::{SignedDuration, ToSpan as _};

use super::subject::{name, namespace, write};
use super::{Case, Subject};
use crate::{Precondition, Quota, StoreError, Usage, Write};

pub(super) const CASES: &[Case] = &[
    (
        "a_record_is_gone_at_its_moment_without_a_sweep",
        a_record_is_gone_at_its_moment_without_a_sweep,
    ),
    ("a_write_replaces_the_time_to_live", a_write_replaces_the_time_to_live),
    (
        "an_expired_record_is_absent_to_every_precondition",
        an_expired_record_is_absent_to_every_precondition,
    ),
    (
        "a_sweep_is_bounded_and_takes_the_expired_alone",
        a_sweep_is_bounded_and_takes_the_expired_alone,
    ),
    (
        "a_sweep_leaves_what_was_written_in_place_of_an_expired_record",
        a_sweep_leaves_what_was_written_in_place_of_an_expired_record,
    ),
    (
        "a_time_to_live_is_counted_between_seconds",
        a_time_to_live_is_counted_between_seconds,
    ),
];

fn is_there(subject: &Subject, record: &str) -> bool {
    let space = namespace("space");
    let read = subject.get(&space, &name(record)).expect("an answer").is_some();
    let classified = subject.classification(&space, &name(record)).expect("an answer");
    let listed = subject.names(&space, "", 100).iter().any(|listed| listed == record);
    assert_eq!(classified.is_some(), read, "`classification` and `get` disagree");
    assert_eq!(listed, read, "`list` and `get` disagree");
    read
}

/// Sweeps until nothing is left to sweep, and says how many records went.
fn sweep_all(subject: &Subject, at_once: usize) -> usize {
    let mut records = 0;
    for _ in 0..10_000 {
        let swept = subject.sweep(at_once).expect("a sweep");
        assert!(swept.records <= at_once, "{swept:?} at once, {at_once} asked for");
        records += swept.records;
        if !swept.more {
            return records;
        }
    }
    panic!("the sweep does not end");
}

fn a_record_is_gone_at_its_moment_without_a_sweep(subject: &mut Subject) {
    let space = namespace("space");
    let written = subject.clock().now();
    subject.put_for(&space, "brief", 10);
    subject.put_value(&space, "lasting", "x");
    let found = subject
        .get(&space, &name("brief"))
        .expect("an answer")
        .expect("a record");
    assert_eq!(found.expires_at, Some(written + 10.seconds()));
    let lasting = subject
        .get(&space, &name("lasting"))
        .expect("an answer")
        .expect("a record");
    assert_eq!(lasting.expires_at, None);
    subject.clock().advance_seconds(9);
    subject.step();
    assert!(is_there(subject, "brief"));
    // The time that has passed begins anew with each process, and says nothing of a record.
    subject.clock().leap(SignedDuration::from_secs(1));
    assert!(!is_there(subject, "brief"));
    subject.step();
    assert!(!is_there(subject, "brief"));
    assert!(is_there(subject, "lasting"));
    let deleted = subject.delete(&space, &name("brief"), Precondition::Any);
    assert_eq!(deleted.expect("an answer"), None, "it was absent already");
    assert_eq!(sweep_all(subject, 10), 0, "the delete removed it");
    let bytes = "lasting".len() as u64 + 1;
    assert_eq!(subject.usage(&space).expect("usage"), Usage { bytes, records: 1 });
}

fn a_write_replaces_the_time_to_live(subject: &mut Subject) {
    let space = namespace("space");
    for record in ["made lasting", "made longer", "made shorter"] {
        subject.put_for(&space, record, 10);
    }
    subject.step();
    assert_eq!(subject.put_value(&space, "made lasting", "x"), 2);
    assert_eq!(subject.put_for(&space, "made longer", 20), 2);
    assert_eq!(subject.put_for(&space, "made shorter", 5), 2);
    subject.clock().advance_seconds(5);
    subject.step();
    assert!(!is_there(subject, "made shorter"));
    subject.clock().advance_seconds(5);
    // Whatever a backend keeps to find expired records must have forgotten the first times to live.
    assert_eq!(sweep_all(subject, 10), 1);
    subject.step();
    assert!(is_there(subject, "made lasting") && is_there(subject, "made longer"));
    subject.clock().advance_seconds(10);
    assert!(!is_there(subject, "made longer"));
    assert_eq!(sweep_all(subject, 10), 1);
    subject.clock().advance_seconds(1_000_000);
    assert!(is_there(subject, "made lasting"));
    assert_eq!(sweep_all(subject, 10), 0);
}

fn an_expired_record_is_absent_to_every_precondition(subject: &mut Subject) {
    let space = namespace("space");
    for precondition in [Precondition::Any, Precondition::Absent] {
        subject.put_for(&space, "brief", 1);
        assert_eq!(subject.put_for(&space, "brief", 1), 2);
        subject.clock().advance_seconds(1);
        subject.step();
        let refused = Write {
            precondition: Precondition::Version(2),
            ..write("brief", "new")
        };
        let answer = subject.put(&space, refused, &Quota::UNLIMITED);
        assert!(
            matches!(
                answer,
                Err(StoreError::Precondition {
                    index: 0,
                    version: None
                })
            ),
            "{answer:?}"
        );
        let answer = subject.delete(&space, &name("brief"), Precondition::Version(2));
        assert!(
            matches!(
                answer,
                Err(StoreError::Precondition {
                    index: 0,
                    version: None
                })
            ),
            "{answer:?}"
        );
        let taken = Write {
            precondition,
            ..write("brief", "new")
        };
        let version = subject.put(&space, taken, &Quota::UNLIMITED).expect("it is absent");
        assert_eq!(version, 1);
        subject.step();
        assert_eq!(subject.value(&space, "brief"), Some(b"new".to_vec()));
        let bytes = "briefnew".len() as u64;
        assert_eq!(subject.usage(&space).expect("usage"), Usage { bytes, records: 1 });
        let deleted = subject.delete(&space, &name("brief"), Precondition::Version(1));
        deleted.expect("the record is deleted");
    }
}

fn a_sweep_is_bounded_and_takes_the_expired_alone(subject: &mut Subject) {
    let (space, other) = (namespace("space"), namespace("other"));
    assert_eq!(sweep_all(subject, 5), 0);
    for index in 0..20_u64 {
        subject.put_for(&space, &format!("brief {index}"), 1 + index % 5);
        subject.put_for(&other, &format!("brief {index}"), 1 + index % 5);
        subject.put_for(&space, &format!("long {index}"), 100);
        subject.put_value(&space, &format!("lasting {index}"), "x");
    }
    let before = subject.usage(&space).expect("usage");
    assert_eq!(before.records, 60);
    assert_eq!(sweep_all(subject, 5), 0, "nothing has expired");
    subject.clock().advance_seconds(3);
    subject.step();
    assert_eq!(
        subject.usage(&space).expect("usage"),
        before,
        "expired records count until they are swept"
    );
    let first = subject.sweep(7).expect("a sweep");
    assert!(first.records <= 7 && first.more, "{first:?}");
    subject.step();
    assert_eq!(first.records + sweep_all(subject, 7), 24, "three fifths of 40");
    subject.step();
    assert_eq!(subject.usage(&space).expect("usage").records, 48);
    assert_eq!(subject.usage(&other).expect("usage").records, 8);
    subject.clock().advance_seconds(2);
    assert_eq!(sweep_all(subject, 1000), 16);
    assert_eq!(subject.usage(&other).expect("usage"), Usage::default());
    assert_eq!(subject.namespaces(10).expect("namespaces").len(), 1);
    let left: u64 = (0..20)
        .map(|index| format!("long {index}").len() * 2 + format!("lasting {index}").len() + 1)
        .sum::<usize>() as u64;
    assert_eq!(
        subject.usage(&space).expect("usage"),
        Usage {
            bytes: left,
            records: 40
        }
    );
}

fn a_sweep_leaves_what_was_written_in_place_of_an_expired_record(subject: &mut Subject) {
    let space = namespace("space");
    for record in ["lasting now", "brief again"] {
        subject.put_for(&space, record, 1);
    }
    subject.clock().advance_seconds(1);
    subject.put_value(&space, "lasting now", "new");
    subject.put_for(&space, "brief again", 10);
    subject.step();
    assert_eq!(sweep_all(subject, 10), 0);
    assert!(is_there(subject, "lasting now") && is_there(subject, "brief again"));
    assert_eq!(subject.usage(&space).expect("usage").records, 2);
}

fn a_time_to_live_is_counted_between_seconds(subject: &mut Subject) {
    let space = namespace("space");
    subject.clock().advance(Duration::from_millis(1700));
    let written = subject.clock().now();
    subject.put_for(&space, "brief", 2);
    let found = subject
        .get(&space, &name("brief"))
        .expect("an answer")
        .expect("a record");
    let expires_at = found.expires_at.expect("an end");
    assert_eq!(expires_at.subsec_nanosecond(), 0, "whole seconds");
    // A record may be rounded to a whole second, never to one that is further away than that.
    let distance = expires_at.duration_since(written).as_millis();
    assert!((1001..3000).contains(&distance), "{distance} ms");
    subject.clock().advance(Duration::from_millis(1000));
    assert!(is_there(subject, "brief"));
    subject.clock().advance(Duration::from_millis(2000));
    assert!(!is_there(subject, "brief"));
}
