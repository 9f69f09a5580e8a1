//! One record: put, get, delete, compare-and-swap, classification.

use std::collections::BTreeSet;

use aral_contract::Classification;
use aral_contract::limits::NAME_BYTES_MAX;
use zeroize::Zeroizing;

use super::subject::{name, namespace, write};
use super::{Case, Subject};
use crate::{Precondition, Quota, Record, StoreError, Usage, Write};

pub(super) const CASES: &[Case] = &[
    ("what_was_put_is_read_back", what_was_put_is_read_back),
    (
        "versions_count_writes_and_start_again_after_a_delete",
        versions_count_writes_and_start_again_after_a_delete,
    ),
    (
        "a_delete_says_what_was_there_and_leaves_nothing",
        a_delete_says_what_was_there_and_leaves_nothing,
    ),
    (
        "a_precondition_that_does_not_hold_changes_nothing",
        a_precondition_that_does_not_hold_changes_nothing,
    ),
    ("namespaces_do_not_see_each_other", namespaces_do_not_see_each_other),
    (
        "names_that_look_alike_are_different_records",
        names_that_look_alike_are_different_records,
    ),
    (
        "a_tag_is_the_same_for_the_same_record_alone",
        a_tag_is_the_same_for_the_same_record_alone,
    ),
    (
        "a_classification_is_that_of_the_last_write",
        a_classification_is_that_of_the_last_write,
    ),
    (
        "a_store_prints_no_value_and_no_name",
        a_store_prints_no_value_and_no_name,
    ),
];

/// Sizes around those where a backend may change how it stores a value.
const SIZES: [usize; 14] = [
    0,
    1,
    15,
    1024,
    (16 << 10) - 1,
    16 << 10,
    (16 << 10) + 1,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    128 << 10,
    (192 << 10) + 7,
    1 << 20,
    (1 << 20) + 1,
];

/// Bytes that tell their place, so that a value put together in another order is another value.
fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    let word = |index: usize| u32::try_from(index.wrapping_mul(2_654_435_761).wrapping_add(seed) % 0xffff_fffb);
    (0..bytes.div_ceil(4))
        .flat_map(|index| word(index).expect("below 2^32").to_le_bytes())
        .take(bytes)
        .collect()
}

fn what_was_put_is_read_back(subject: &mut Subject) {
    let space = namespace("space");
    for (index, bytes) in SIZES.into_iter().enumerate() {
        for round in 0..2 {
            let one = Write {
                value: Zeroizing::new(pattern(bytes, index + round)),
                classification: Classification::ALL[(index + round) % 4],
                ..write(&format!("of {bytes} bytes"), "")
            };
            let version = subject
                .put(&space, one, &Quota::UNLIMITED)
                .expect("the record is written");
            assert_eq!(version, round as u64 + 1);
        }
    }
    subject.step();
    for (index, bytes) in SIZES.into_iter().enumerate() {
        let found = subject.get(&space, &name(&format!("of {bytes} bytes")));
        let expected = Record {
            value: pattern(bytes, index + 1).into(),
            version: 2,
            classification: Classification::ALL[(index + 1) % 4],
            expires_at: None,
        };
        // Not `assert_eq`, which would print no value anyway.
        assert!(
            found.expect("a record") == Some(expected),
            "the record of {bytes} bytes is another one"
        );
    }
    assert_eq!(subject.value(&space, "of 2 bytes"), None);
}

fn versions_count_writes_and_start_again_after_a_delete(subject: &mut Subject) {
    let space = namespace("space");
    for round in 0..2 {
        for version in 1..=5 {
            assert_eq!(
                subject.put_value(&space, "counted", [round, 7]),
                version,
                "round {round}"
            );
            subject.step();
            let record = subject.get(&space, &name("counted")).expect("a record");
            assert_eq!(record.map(|record| record.version), Some(version), "round {round}");
        }
        assert_eq!(subject.put_value(&space, "beside", "x"), u64::from(round) + 1);
        let deleted = subject.delete(&space, &name("counted"), Precondition::Version(5));
        assert_eq!(deleted.expect("deleted"), Some(Classification::Internal));
        subject.step();
    }
}

fn a_delete_says_what_was_there_and_leaves_nothing(subject: &mut Subject) {
    let space = namespace("space");
    for classification in Classification::ALL {
        let one = Write {
            classification,
            ..write("short lived", vec![1; 70_000])
        };
        subject
            .put(&space, one, &Quota::UNLIMITED)
            .expect("the record is written");
        subject.step();
        let delete = |subject: &Subject| {
            let answer = subject.delete(&space, &name("short lived"), Precondition::Any);
            answer.expect("an answer")
        };
        assert_eq!(delete(subject), Some(classification));
        assert_eq!(subject.value(&space, "short lived"), None);
        subject.step();
        assert_eq!(subject.value(&space, "short lived"), None);
        let left = subject.classification(&space, &name("short lived"));
        assert_eq!(left.expect("an answer"), None);
        assert_eq!(subject.names(&space, "", 10), [""; 0]);
        assert_eq!(subject.usage(&space).expect("usage"), Usage::default());
        assert_eq!(subject.namespaces(10).expect("namespaces"), []);
        assert_eq!(delete(subject), None);
    }
}

/// What is there (a version, or nothing) against what is asked for, and whether it holds.
const PRECONDITIONS: [(Option<u64>, Precondition, bool); 12] = [
    (None, Precondition::Any, true),
    (None, Precondition::Absent, true),
    (None, Precondition::Version(0), false),
    (None, Precondition::Version(1), false),
    (None, Precondition::Version(u64::MAX), false),
    (Some(2), Precondition::Any, true),
    (Some(2), Precondition::Absent, false),
    (Some(2), Precondition::Version(0), false),
    (Some(2), Precondition::Version(1), false),
    (Some(2), Precondition::Version(2), true),
    (Some(2), Precondition::Version(3), false),
    (Some(2), Precondition::Version(u64::MAX), false),
];

fn a_precondition_that_does_not_hold_changes_nothing(subject: &mut Subject) {
    let space = namespace("space");
    for (there, precondition, holds) in PRECONDITIONS {
        for deletes in [false, true] {
            let case = format!("{there:?}, {precondition:?}, deletes: {deletes}");
            for _ in 0..there.unwrap_or(0) {
                subject.put_value(&space, "swapped", "old");
            }
            let answer = if deletes {
                subject.delete(&space, &name("swapped"), precondition).map(|_| 0)
            } else {
                let one = Write {
                    precondition,
                    ..write("swapped", "new")
                };
                subject.put(&space, one, &Quota::UNLIMITED)
            };
            subject.step();
            let after = subject.get(&space, &name("swapped")).expect("an answer");
            let after = after.map(|record| (record.version, record.value.to_vec()));
            match answer {
                Ok(_) if holds && deletes => assert_eq!(after, None, "{case}"),
                Ok(version) if holds => {
                    assert_eq!(version, there.unwrap_or(0) + 1, "{case}");
                    assert_eq!(after, Some((version, b"new".to_vec())), "{case}");
                }
                Err(StoreError::Precondition { index: 0, version }) if !holds => {
                    assert_eq!(version, there, "{case}");
                    assert_eq!(after, there.map(|version| (version, b"old".to_vec())), "{case}");
                }
                other => panic!("{case}: {other:?}"),
            }
            let cleared = subject.delete(&space, &name("swapped"), Precondition::Any);
            cleared.expect("the record is deleted");
        }
    }
}

fn namespaces_do_not_see_each_other(subject: &mut Subject) {
    let (one, two, none) = (namespace("one"), namespace("two"), namespace("on"));
    subject.put_value(&one, "shared", "first");
    subject.put_value(&two, "shared", "second");
    subject.put_value(&two, "own", "third");
    subject.step();
    assert_eq!(subject.value(&one, "shared"), Some(b"first".to_vec()));
    assert_eq!(subject.value(&two, "shared"), Some(b"second".to_vec()));
    assert_eq!(subject.value(&one, "own"), None);
    assert_eq!(subject.value(&none, "shared"), None);
    assert_eq!(subject.names(&one, "", 10), ["shared"]);
    assert_eq!(subject.names(&none, "", 10), [""; 0]);
    let deleted = subject.delete(&one, &name("shared"), Precondition::Any);
    assert_eq!(deleted.expect("deleted"), Some(Classification::Internal));
    subject.step();
    assert_eq!(subject.value(&two, "shared"), Some(b"second".to_vec()));
    assert_eq!(subject.names(&one, "", 10), [""; 0]);
}

/// Names that a careless store would take for one another, for a path, or for a separator of its own.
fn strange_names() -> Vec<String> {
    let short = [
        "a",
        "A",
        "a ",
        " a",
        "a/",
        "a/b",
        "a\\b",
        "../a",
        ".",
        "..",
        "/",
        "a\n",
        "a\r\n",
        "\u{1}",
        "\u{7f}",
        "é",
        "e\u{301}",
        "𝕒",
        "\u{202e}a",
        "\u{feff}a",
        "%00",
        "a%00b",
        "space",
        "space/a",
        "a\u{ffff}",
        "\u{10ffff}",
    ];
    let longest = "n".repeat(NAME_BYTES_MAX);
    let long = [
        longest[1..].to_owned(),
        longest.replacen('n', "m", 1),
        format!("{}m", &longest[1..]),
        longest,
    ];
    short.into_iter().map(str::to_owned).chain(long).collect()
}

fn names_that_look_alike_are_different_records(subject: &mut Subject) {
    let space = namespace("space");
    let all = strange_names();
    for one in &all {
        assert_eq!(subject.put_value(&space, one, one.as_bytes()), 1, "{one:?}");
    }
    subject.step();
    for one in &all {
        assert_eq!(subject.value(&space, one), Some(one.as_bytes().to_vec()), "{one:?}");
    }
    let listed = subject.names(&space, "", 7);
    assert_eq!(listed.len(), all.len());
    assert_eq!(BTreeSet::from_iter(listed), BTreeSet::from_iter(all));
}

fn a_tag_is_the_same_for_the_same_record_alone(subject: &mut Subject) {
    let tag = |subject: &Subject, space: &str, record: &str| subject.tag(&namespace(space), &name(record));
    let before = tag(subject, "one", "a");
    assert!(
        before.len() == 32 && before.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{before}"
    );
    subject.put_value(&namespace("one"), "a", "x");
    subject.step();
    assert_eq!(tag(subject, "one", "a"), before);
    // The last two would be one, were namespace and name put together without a border.
    let others = [("one", "b"), ("two", "a"), ("onea", "a"), ("one", "aa")];
    let all: BTreeSet<String> = others
        .iter()
        .map(|(space, record)| tag(subject, space, record))
        .collect();
    assert_eq!(all.len(), others.len());
    assert!(!all.contains(&before));
}

fn a_classification_is_that_of_the_last_write(subject: &mut Subject) {
    let space = namespace("space");
    let asked = |subject: &Subject| subject.classification(&space, &name("a")).expect("an answer");
    assert_eq!(asked(subject), None);
    for classification in Classification::ALL.into_iter().chain([Classification::Public]) {
        let one = Write {
            classification,
            ..write("a", "the same value")
        };
        subject
            .put(&space, one, &Quota::UNLIMITED)
            .expect("the record is written");
        subject.step();
        assert_eq!(asked(subject), Some(classification));
        let record = subject.get(&space, &name("a")).expect("an answer");
        assert_eq!(record.map(|record| record.classification), Some(classification));
    }
}

fn a_store_prints_no_value_and_no_name(subject: &mut Subject) {
    let space = namespace("space");
    let record = "a-name-that-nobody-prints";
    subject.put_value(&space, record, "a-value-that-nobody-prints");
    let over = Write {
        precondition: Precondition::Absent,
        ..write(record, "another-value-that-nobody-prints")
    };
    let refused = subject.put(&space, over, &Quota::UNLIMITED).expect_err("it is there");
    let tight = Quota {
        bytes_max: 1,
        records_max: 1,
    };
    let bounded = subject.put(&space, write("another-name-that-nobody-prints", "x"), &tight);
    let bounded = bounded.expect_err("over the quota");
    let found = subject.get(&space, &name(record)).expect("a record");
    for printed in [
        format!("{subject:?}"),
        format!("{refused} {refused:?}"),
        format!("{bounded} {bounded:?}"),
        format!("{found:?}"),
        format!("{:?}", write(record, "a-value-that-nobody-prints")),
    ] {
        assert!(!printed.contains("that-nobody-prints"), "{printed}");
        let numbers = format!("{:?}", b"nobody");
        assert!(!printed.contains(numbers.trim_matches(['[', ']'])), "{printed}");
    }
}
