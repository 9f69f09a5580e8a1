//! What a namespace may hold, and what it holds.

use super::subject::{delete, name, namespace, put, write};
use super::{Case, Subject};
use crate::record::NamespaceUsage;
use crate::{Precondition, Quota, StoreError, Usage};

pub(super) const CASES: &[Case] = &[
    (
        "usage_is_names_and_values_of_what_is_there",
        usage_is_names_and_values_of_what_is_there,
    ),
    ("bytes_are_bounded_to_the_byte", bytes_are_bounded_to_the_byte),
    ("records_are_bounded", records_are_bounded),
    (
        "a_batch_is_held_to_the_quota_as_a_whole",
        a_batch_is_held_to_the_quota_as_a_whole,
    ),
    (
        "what_takes_no_more_is_done_under_any_quota",
        what_takes_no_more_is_done_under_any_quota,
    ),
    ("what_has_expired_keeps_nothing_out", what_has_expired_keeps_nothing_out),
    ("a_quota_bounds_its_namespace_alone", a_quota_bounds_its_namespace_alone),
    (
        "namespaces_are_those_that_hold_something",
        namespaces_are_those_that_hold_something,
    ),
];

fn usage(subject: &Subject, space: &str) -> (u64, u64) {
    let usage = subject.usage(&namespace(space)).expect("usage");
    (usage.records, usage.bytes)
}

/// Fails unless the store refused because of `unit`, with these numbers.
fn assert_over<T: std::fmt::Debug>(answer: Result<T, StoreError>, unit: &str, max: u64, wanted: u64) {
    match answer {
        Err(StoreError::Quota {
            namespace,
            unit: found_unit,
            max: found_max,
            wanted: found_wanted,
        }) => {
            assert_eq!(namespace.as_str(), "space");
            assert_eq!((found_unit, found_max, found_wanted), (unit, max, wanted));
        }
        other => panic!("not over the quota: {other:?}"),
    }
}

fn usage_is_names_and_values_of_what_is_there(subject: &mut Subject) {
    let space = namespace("space");
    assert_eq!(usage(subject, "space"), (0, 0));
    subject.put_value(&space, "four", vec![0; 100_000]);
    assert_eq!(usage(subject, "space"), (1, 100_004));
    subject.put_value(&space, "ééé", "");
    subject.step();
    assert_eq!(usage(subject, "space"), (2, 100_010));
    subject.put_value(&space, "four", vec![0; 10]);
    assert_eq!(usage(subject, "space"), (2, 20));
    subject.put_value(&space, "four", vec![0; 11]);
    subject.step();
    assert_eq!(usage(subject, "space"), (2, 21));
    let gone = subject.delete(&space, &name("four"), Precondition::Any);
    assert!(gone.expect("an answer").is_some());
    assert_eq!(usage(subject, "space"), (1, 6));
    let absent = subject.delete(&space, &name("four"), Precondition::Any);
    assert_eq!(absent.expect("an answer"), None);
    subject.step();
    assert_eq!(usage(subject, "space"), (1, 6));
    assert_eq!(usage(subject, "other"), (0, 0));
}

fn bytes_are_bounded_to_the_byte(subject: &mut Subject) {
    let space = namespace("space");
    let quota = Quota {
        bytes_max: 100,
        records_max: 100,
    };
    let try_put = |subject: &Subject, record: &str, bytes: usize| {
        subject.put(&space, write(record, vec![7; bytes]), &quota).map(drop)
    };
    assert_over(try_put(subject, "a", 100), "bytes", 100, 101);
    assert_eq!(usage(subject, "space"), (0, 0));
    try_put(subject, "a", 99).expect("100 of 100");
    subject.step();
    assert_over(try_put(subject, "b", 0), "bytes", 100, 101);
    assert_over(try_put(subject, "a", 100), "bytes", 100, 101);
    assert_eq!(usage(subject, "space"), (1, 100));
    // An overwrite takes the place of what was there, and gives back what it does not need.
    try_put(subject, "a", 99).expect("the same again");
    try_put(subject, "a", 49).expect("less");
    try_put(subject, "b", 49).expect("what was given back");
    subject.step();
    assert_over(try_put(subject, "c", 0), "bytes", 100, 101);
    subject
        .delete(&space, &name("a"), Precondition::Any)
        .expect("an answer");
    subject.step();
    try_put(subject, "c", 49).expect("what was given back");
    assert_eq!(usage(subject, "space"), (2, 100));
}

fn records_are_bounded(subject: &mut Subject) {
    let space = namespace("space");
    let quota = Quota {
        bytes_max: u64::MAX,
        records_max: 2,
    };
    let try_put = |subject: &Subject, record: &str| subject.put(&space, write(record, "x"), &quota).map(drop);
    try_put(subject, "a").expect("1 of 2");
    try_put(subject, "b").expect("2 of 2");
    subject.step();
    assert_over(try_put(subject, "c"), "records", 2, 3);
    try_put(subject, "a").expect("an overwrite is no new record");
    subject
        .delete(&space, &name("a"), Precondition::Any)
        .expect("an answer");
    try_put(subject, "c").expect("2 of 2");
    subject.step();
    assert_over(try_put(subject, "a"), "records", 2, 3);
    assert_eq!(usage(subject, "space"), (2, 4));
}

fn a_batch_is_held_to_the_quota_as_a_whole(subject: &mut Subject) {
    let space = namespace("space");
    let quota = Quota {
        bytes_max: 20,
        records_max: 2,
    };
    let apply = |subject: &Subject, batch| subject.apply(&space, batch, &quota).map(drop);
    apply(subject, vec![put("a", vec![0; 9]), put("b", vec![0; 9])]).expect("20 of 20");
    subject.step();
    // What the batch gives back counts for it, whichever step comes first.
    apply(subject, vec![put("c", vec![0; 9]), delete("a")]).expect("20 of 20");
    apply(subject, vec![delete("c"), put("d", vec![0; 9])]).expect("20 of 20");
    apply(subject, vec![put("d", vec![0; 17]), put("b", "")]).expect("19 of 20");
    subject.step();
    assert_eq!(usage(subject, "space"), (2, 19));
    assert_over(
        apply(subject, vec![put("b", "123"), put("d", vec![0; 17])]),
        "bytes",
        20,
        22,
    );
    assert_over(
        apply(subject, vec![put("e", ""), put("f", ""), delete("b")]),
        "records",
        2,
        3,
    );
    // Three times what each step alone may take.
    assert_over(
        apply(subject, vec![put("b", vec![0; 18]), put("d", vec![0; 18])]),
        "bytes",
        20,
        38,
    );
    assert_eq!(usage(subject, "space"), (2, 19));
}

fn what_takes_no_more_is_done_under_any_quota(subject: &mut Subject) {
    let space = namespace("space");
    for record in ["a", "b", "c"] {
        subject.put_value(&space, record, vec![0; 9]);
    }
    subject.step();
    // The quota was lowered after they were written.
    let lowered = Quota {
        bytes_max: 5,
        records_max: 1,
    };
    let apply = |subject: &Subject, batch| subject.apply(&space, batch, &lowered).map(drop);
    assert_over(apply(subject, vec![put("a", vec![0; 10])]), "bytes", 5, 31);
    assert_over(apply(subject, vec![put("d", ""), put("a", "")]), "records", 1, 4);
    apply(subject, vec![put("a", vec![1; 9])]).expect("as much as before");
    apply(subject, vec![put("a", "")]).expect("less than before");
    apply(subject, vec![delete("b")]).expect("less than before");
    apply(subject, vec![put("d", ""), delete("c")]).expect("as many as before, and less");
    subject.step();
    assert_eq!(usage(subject, "space"), (2, 2));
}

fn what_has_expired_keeps_nothing_out(subject: &mut Subject) {
    let space = namespace("space");
    let quota = Quota {
        bytes_max: 20,
        records_max: 2,
    };
    let try_put = |subject: &Subject, record: &str| subject.put(&space, write(record, vec![0; 9]), &quota).map(drop);
    subject.put_for(&space, "brief", 10);
    try_put(subject, "a").expect("the second of 2");
    subject.step();
    assert_over(try_put(subject, "b"), "bytes", 20, 30);
    subject.clock().advance_seconds(10);
    try_put(subject, "b").expect("the first has expired");
    subject.step();
    assert_over(try_put(subject, "c"), "bytes", 20, 30);
    assert_eq!(subject.names(&space, "", 10).len(), 2);
}

fn a_quota_bounds_its_namespace_alone(subject: &mut Subject) {
    let quota = Quota {
        bytes_max: 10,
        records_max: 1,
    };
    for space in ["one", "two", "three"] {
        let answer = subject.put(&namespace(space), write("a", vec![0; 9]), &quota);
        assert_eq!(answer.expect("its own 10 bytes"), 1, "{space}");
    }
    subject.step();
    for space in ["one", "two", "three"] {
        assert_eq!(usage(subject, space), (1, 10));
        let answer = subject.put(&namespace(space), write("b", ""), &quota);
        assert!(matches!(answer, Err(StoreError::Quota { .. })), "{space}: {answer:?}");
    }
}

fn namespaces_are_those_that_hold_something(subject: &mut Subject) {
    let found = |subject: &Subject, limit: usize| -> Vec<(String, Usage)> {
        let mut found: Vec<NamespaceUsage> = subject.namespaces(limit).expect("namespaces");
        found.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        let pair = |one: NamespaceUsage| (one.namespace.as_str().to_owned(), one.usage);
        found.into_iter().map(pair).collect()
    };
    assert_eq!(found(subject, 10), []);
    for (space, records) in [("beta", 2), ("alpha", 1), ("gamma", 3)] {
        for index in 0..records {
            subject.put_value(&namespace(space), &format!("{index}"), "xy");
        }
    }
    subject.step();
    let holds = |space: &str, records: u64| {
        let usage = Usage {
            bytes: records * 3,
            records,
        };
        (space.to_owned(), usage)
    };
    assert_eq!(
        found(subject, 10),
        [holds("alpha", 1), holds("beta", 2), holds("gamma", 3)]
    );
    assert_eq!(found(subject, 2).len(), 2);
    let emptied = subject.delete(&namespace("alpha"), &name("0"), Precondition::Any);
    assert!(emptied.expect("an answer").is_some());
    subject.step();
    assert_eq!(found(subject, 10), [holds("beta", 2), holds("gamma", 3)]);
}
