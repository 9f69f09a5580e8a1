//! Several operations at once: all of them or none.

use aral_contract::Classification;
use zeroize::Zeroizing;

use super::subject::{assert_invalid, delete, name, namespace, put, write};
use super::{Case, Subject};
use crate::record::VALUE_BYTES_MAX;
use crate::{Operation, Outcome, Precondition, Quota, StoreError, Usage, Write};

pub(super) const CASES: &[Case] = &[
    ("a_batch_is_answered_step_by_step", a_batch_is_answered_step_by_step),
    (
        "a_batch_with_a_step_that_fails_does_nothing",
        a_batch_with_a_step_that_fails_does_nothing,
    ),
    ("a_name_may_occur_once_in_a_batch", a_name_may_occur_once_in_a_batch),
    ("an_empty_batch_does_nothing", an_empty_batch_does_nothing),
];

fn a_batch_is_answered_step_by_step(subject: &mut Subject) {
    let space = namespace("space");
    subject.put_value(&space, "overwritten", "old");
    subject.put_value(&space, "deleted", "old");
    subject.put_value(&space, "swapped", "old");
    subject.step();
    let swapped = Write {
        precondition: Precondition::Version(1),
        classification: Classification::Secret,
        ..write("swapped", "new")
    };
    let batch = vec![
        put("new", vec![3; 100_000]),
        delete("deleted"),
        put("overwritten", "new"),
        delete("never there"),
        Operation::Put(swapped),
    ];
    let answer = subject
        .apply(&space, batch, &Quota::UNLIMITED)
        .expect("the batch is done");
    let internal = Classification::Internal;
    assert_eq!(
        answer,
        [
            Outcome::Written { version: 1 },
            Outcome::Deleted {
                classification: internal
            },
            Outcome::Written { version: 2 },
            Outcome::Absent,
            Outcome::Written { version: 2 },
        ]
    );
    subject.step();
    assert_eq!(subject.value(&space, "new"), Some(vec![3; 100_000]));
    assert_eq!(subject.value(&space, "deleted"), None);
    assert_eq!(subject.value(&space, "overwritten"), Some(b"new".to_vec()));
    assert_eq!(subject.value(&space, "swapped"), Some(b"new".to_vec()));
    assert_eq!(subject.usage(&space).expect("usage").records, 3);
}

/// Each way in which a step can fail, alone.
fn failing_steps() -> Vec<(&'static str, Operation)> {
    let writes = |change: fn(&mut Write)| {
        let mut one = write("failing", "new");
        change(&mut one);
        Operation::Put(one)
    };
    vec![
        (
            "a version that is not there",
            writes(|one| one.precondition = Precondition::Version(1)),
        ),
        (
            "deleting a version that is not there",
            Operation::Delete {
                name: name("kept"),
                precondition: Precondition::Version(9),
            },
        ),
        ("a time to live of zero", writes(|one| one.ttl_seconds = Some(0))),
        (
            "a value over the most",
            writes(|one| one.value = Zeroizing::new(vec![0; VALUE_BYTES_MAX + 1])),
        ),
        ("over the quota", put("failing", vec![0; 5000])),
    ]
}

fn a_batch_with_a_step_that_fails_does_nothing(subject: &mut Subject) {
    let space = namespace("space");
    for record in ["overwritten", "deleted", "kept"] {
        subject.put_value(&space, record, "old");
    }
    let before = subject.usage(&space).expect("usage");
    let quota = Quota {
        bytes_max: 4096,
        records_max: 100,
    };
    for place in 0..4 {
        for (case, step) in failing_steps() {
            let mut batch = vec![put("new", "new"), put("overwritten", "new"), delete("deleted")];
            batch.insert(place, step);
            let answer = subject.apply(&space, batch, &quota);
            let case = format!("{case}, as step {place}");
            match answer {
                Err(StoreError::Precondition { index, .. }) => assert_eq!(index, place, "{case}"),
                Err(StoreError::Invalid(_) | StoreError::Quota { .. }) => {}
                other => panic!("{case}: {other:?}"),
            }
            subject.step();
            assert_eq!(subject.value(&space, "new"), None, "{case}");
            for record in ["overwritten", "deleted", "kept"] {
                assert_eq!(subject.value(&space, record), Some(b"old".to_vec()), "{case}");
            }
            assert_eq!(subject.usage(&space).expect("usage"), before, "{case}");
        }
    }
    // The control: without the step that fails the batch is done.
    let batch = vec![put("new", "new"), put("overwritten", "new"), delete("deleted")];
    subject.apply(&space, batch, &quota).expect("the batch is done");
    assert_eq!(subject.value(&space, "new"), Some(b"new".to_vec()));
    let version = subject.get(&space, &name("overwritten")).expect("an answer");
    assert_eq!(version.map(|record| record.version), Some(2));
}

fn a_name_may_occur_once_in_a_batch(subject: &mut Subject) {
    let space = namespace("space");
    subject.put_value(&space, "twice", "old");
    for batch in [
        vec![put("twice", "x"), put("twice", "x")],
        vec![put("twice", "x"), put("between", "x"), delete("twice")],
        vec![delete("twice"), put("twice", "x")],
        vec![delete("twice"), delete("twice")],
    ] {
        let case = format!("{batch:?}");
        assert_invalid(subject.apply(&space, batch, &Quota::UNLIMITED), &case);
        subject.step();
        assert_eq!(subject.value(&space, "twice"), Some(b"old".to_vec()), "{case}");
        assert_eq!(subject.value(&space, "between"), None, "{case}");
    }
}

fn an_empty_batch_does_nothing(subject: &mut Subject) {
    let space = namespace("space");
    let nothing = Quota {
        bytes_max: 0,
        records_max: 0,
    };
    let answer = subject.apply(&space, Vec::new(), &nothing).expect("nothing is done");
    assert_eq!(answer, []);
    assert_eq!(subject.usage(&space).expect("usage"), Usage::default());
    assert_eq!(subject.namespaces(10).expect("namespaces"), []);
}
