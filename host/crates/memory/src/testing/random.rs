//! Operations drawn at random, on a backend and on the model side by side. Whatever the one answers the other must.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Classification, Clock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use zeroize::Zeroizing;

use super::Subject;
use super::model::ModelStore;
use super::subject::{name, names, namespace, pages};
use crate::{Operation, Precondition, Quota, RecordStore, Write};

const SPACES: [&str; 2] = ["one", "two"];
const NAMES: [&str; 5] = ["a", "ab", "b", "é", "a/b"];
const PREFIXES: [&str; 4] = ["", "a", "ab", "x"];

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    Apply(&'static str, Vec<Operation>, Quota),
    Look(&'static str, &'static str),
    List(&'static str, &'static str, usize),
    Wait(u64),
    Sweep(usize),
    Reopen,
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        4 => Just(Precondition::Any),
        1 => Just(Precondition::Absent),
        1 => (0..4_u64).prop_map(Precondition::Version),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    // Zero is no time to live; the last size is kept in parts.
    let ttl = prop_oneof![4 => Just(None), 4 => (1..6_u64).prop_map(Some), 1 => Just(Some(0))];
    let bytes = prop_oneof![8 => 0..40_usize, 1 => Just(70_000_usize)];
    let class = prop::sample::select(Classification::ALL.to_vec());
    let put = (
        prop::sample::select(NAMES.to_vec()),
        bytes,
        any::<u8>(),
        ttl,
        class,
        precondition(),
    );
    let put = put.prop_map(|(record, bytes, fill, ttl_seconds, classification, precondition)| {
        Operation::Put(Write {
            name: name(record),
            value: Zeroizing::new(vec![fill; bytes]),
            ttl_seconds,
            classification,
            precondition,
        })
    });
    let delete = (prop::sample::select(NAMES.to_vec()), precondition());
    let delete = delete.prop_map(|(record, precondition)| Operation::Delete {
        name: name(record),
        precondition,
    });
    prop_oneof![2 => put, 1 => delete]
}

fn quota() -> impl Strategy<Value = Quota> {
    prop_oneof![
        3 => Just(Quota::UNLIMITED),
        1 => (0..100_u64, 0..5_u64).prop_map(|(bytes_max, records_max)| Quota { bytes_max, records_max }),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    let space = || prop::sample::select(SPACES.to_vec());
    let batch =
        prop_oneof![3 => prop::collection::vec(operation(), 1..2), 1 => prop::collection::vec(operation(), 0..4)];
    prop_oneof![
        8 => (space(), batch, quota()).prop_map(|(space, batch, quota)| Step::Apply(space, batch, quota)),
        4 => (space(), prop::sample::select(NAMES.to_vec())).prop_map(|(space, record)| Step::Look(space, record)),
        2 => (space(), prop::sample::select(PREFIXES.to_vec()), 1..4_usize)
            .prop_map(|(space, prefix, limit)| Step::List(space, prefix, limit)),
        2 => (0..4_u64).prop_map(Step::Wait),
        1 => (1..4_usize).prop_map(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

/// What an answer comes to: errors of a request that makes no sense may be worded by each backend.
fn told<T: std::fmt::Debug>(answer: Result<T, crate::StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(crate::StoreError::Invalid(_)) => "invalid".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

/// The backend and the model.
struct Pair {
    subject: Subject,
    model: ModelStore,
}

impl Pair {
    fn new(open: impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> + 'static) -> Self {
        let subject = Subject::new(open);
        Self {
            model: ModelStore::new(subject.shared_clock()),
            subject,
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let model = self.model.clone();
        match step {
            Step::Apply(space, batch, quota) => {
                let space = namespace(space);
                let answer = told(self.subject.apply(&space, batch.clone(), quota));
                prop_assert_eq!(answer, told(model.apply(&space, batch.clone(), quota)));
            }
            Step::Look(space, record) => {
                let (space, record) = (namespace(space), name(record));
                let (found, expected) = (self.subject.get(&space, &record), model.get(&space, &record));
                let whole = matches!((&found, &expected), (Ok(found), Ok(expected)) if found == expected);
                prop_assert!(whole, "{:?} and not {:?}", found, expected);
                let class = told(self.subject.classification(&space, &record));
                prop_assert_eq!(class, told(model.classification(&space, &record)));
            }
            Step::List(space, prefix, limit) => {
                let listed = self.subject.names(&namespace(space), prefix, *limit);
                let expected = names(pages(&model, &namespace(space), prefix, *limit));
                prop_assert_eq!(listed.len(), expected.len());
                prop_assert_eq!(BTreeSet::from_iter(listed), BTreeSet::from_iter(expected));
            }
            Step::Wait(seconds) => self.subject.clock().advance(Duration::from_secs(*seconds)),
            Step::Sweep(at_once) => self.sweep(&model, *at_once)?,
            Step::Reopen => self.subject.reopen(),
        }
        self.same_usage(&model)
    }

    /// To the end: which of several expired records goes first is the backend's affair.
    fn sweep(&self, model: &ModelStore, at_once: usize) -> Result<(), TestCaseError> {
        let expired = model.expired();
        let mut removed = 0;
        for _ in 0..1000 {
            let swept = self.subject.sweep(at_once).expect("a sweep");
            prop_assert!(swept.records <= at_once);
            removed += swept.records;
            if !swept.more {
                break;
            }
        }
        prop_assert_eq!(removed, expired);
        prop_assert_eq!(model.sweep(usize::MAX).expect("a sweep").records, expired);
        Ok(())
    }

    fn same_usage(&self, model: &ModelStore) -> Result<(), TestCaseError> {
        let sorted = |store: &dyn RecordStore| {
            let mut all = store.namespaces(10).expect("namespaces");
            all.sort_by(|one, other| one.namespace.cmp(&other.namespace));
            all
        };
        prop_assert_eq!(sorted(&*self.subject), sorted(model));
        for space in SPACES.map(namespace) {
            prop_assert_eq!(told(self.subject.usage(&space)), told(model.usage(&space)));
        }
        Ok(())
    }
}

/// Runs `cases` runs of up to 40 steps, each at a new place, and fails with the shortest one that tells the backend and the
/// model apart. `place` is as in [`crate::testing`].
///
/// # Panics
/// If there is one.
pub fn check<Place, Open>(cases: u32, place: Place)
where
    Place: Fn() -> Open,
    Open: FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> + 'static,
{
    // A run that fails is printed whole, so nothing needs to be kept beside the source.
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(a_step(), 1..40), |steps| {
        let mut pair = Pair::new(place());
        steps.iter().try_for_each(|step| pair.take(step))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
