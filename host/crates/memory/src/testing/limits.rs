//! The most of everything: what is exactly as large as it may be is taken, what is larger by one is refused and changes
//! nothing.

use zeroize::Zeroizing;

use super::subject::{assert_invalid, name, namespace, put, write};
use super::{Case, Subject};
use crate::record::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, TTL_SECONDS_MAX, VALUE_BYTES_MAX};
use crate::{Operation, Precondition, Quota, Usage, Write};

pub(super) const CASES: &[Case] = &[
    (
        "a_value_may_have_its_most_bytes_and_no_more",
        a_value_may_have_its_most_bytes_and_no_more,
    ),
    (
        "a_batch_may_have_its_most_operations_and_bytes_and_no_more",
        a_batch_may_have_its_most_operations_and_bytes_and_no_more,
    ),
    (
        "a_time_to_live_has_one_second_to_a_hundred_years",
        a_time_to_live_has_one_second_to_a_hundred_years,
    ),
];

fn a_value_may_have_its_most_bytes_and_no_more(subject: &mut Subject) {
    let space = namespace("space");
    let answer = subject.put(&space, write("large", vec![1; VALUE_BYTES_MAX + 1]), &Quota::UNLIMITED);
    assert_invalid(answer, "a value of one byte more");
    assert_eq!(subject.value(&space, "large"), None);
    assert_eq!(subject.put_value(&space, "large", vec![1; VALUE_BYTES_MAX]), 1);
    subject.step();
    let answer = subject.put(&space, write("large", vec![2; VALUE_BYTES_MAX + 1]), &Quota::UNLIMITED);
    assert_invalid(answer, "a value of one byte more");
    let value = subject.value(&space, "large").expect("a value");
    assert!(value.len() == VALUE_BYTES_MAX && value.iter().all(|byte| *byte == 1));
}

fn a_batch_may_have_its_most_operations_and_bytes_and_no_more(subject: &mut Subject) {
    let space = namespace("space");
    let many = |count: usize| (0..count).map(|index| put(&format!("{index}"), "")).collect::<Vec<_>>();
    let answer = subject.apply(&space, many(BATCH_OPERATIONS_MAX + 1), &Quota::UNLIMITED);
    assert_invalid(answer, "one operation more");
    assert_eq!(subject.usage(&space).expect("usage"), Usage::default());
    let answer = subject.apply(&space, many(BATCH_OPERATIONS_MAX), &Quota::UNLIMITED);
    assert_eq!(answer.expect("the batch is done").len(), BATCH_OPERATIONS_MAX);
    subject.step();
    let records = BATCH_OPERATIONS_MAX as u64;
    assert_eq!(subject.usage(&space).expect("usage").records, records);

    let halves = |more: usize| -> Vec<Operation> {
        let half = BATCH_BYTES_MAX / 4;
        let sizes = [half, half, half, half - 1, 1 + more];
        let puts = sizes.iter().enumerate();
        puts.map(|(index, bytes)| put(&format!("part {index}"), vec![3; *bytes]))
            .collect()
    };
    let answer = subject.apply(&space, halves(1), &Quota::UNLIMITED);
    assert_invalid(answer, "one byte more");
    subject.step();
    assert_eq!(subject.usage(&space).expect("usage").records, records);
    let answer = subject.apply(&space, halves(0), &Quota::UNLIMITED);
    assert_eq!(answer.expect("the batch is done").len(), 5);
    subject.step();
    assert_eq!(subject.value(&space, "part 4"), Some(vec![3]));
    assert_eq!(subject.usage(&space).expect("usage").records, records + 5);
}

fn a_time_to_live_has_one_second_to_a_hundred_years(subject: &mut Subject) {
    let space = namespace("space");
    let with = |ttl_seconds: u64| Write {
        value: Zeroizing::new(b"new".to_vec()),
        ttl_seconds: Some(ttl_seconds),
        ..write("brief", "")
    };
    subject.put_value(&space, "brief", "old");
    for refused in [0, TTL_SECONDS_MAX + 1, u64::MAX] {
        let answer = subject.put(&space, with(refused), &Quota::UNLIMITED);
        assert_invalid(answer, &format!("{refused} seconds"));
        assert_eq!(subject.value(&space, "brief"), Some(b"old".to_vec()));
    }
    for taken in [1, TTL_SECONDS_MAX] {
        subject
            .delete(&space, &name("brief"), Precondition::Any)
            .expect("an answer");
        subject
            .put(&space, with(taken), &Quota::UNLIMITED)
            .expect("the record is written");
        subject.clock().advance_seconds(taken - 1);
        subject.step();
        assert_eq!(subject.value(&space, "brief"), Some(b"new".to_vec()), "{taken} seconds");
        subject.clock().advance_seconds(1);
        assert_eq!(subject.value(&space, "brief"), None, "{taken} seconds");
    }
}
