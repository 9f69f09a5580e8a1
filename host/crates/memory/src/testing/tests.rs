//! The model passes what every backend must pass, and stores that break the contract in one way do not: a suite that takes
//! everything would say nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock};
use jiff::{Timestamp, ToSpan as _};

use super::model::ModelStore;
use crate::record::{NamespaceUsage, Swept};
use crate::{Operation, Outcome, Page, Precondition, Quota, Record, RecordName, RecordStore, StoreError, Usage, Write};

/// A model that is the same each time it is opened.
fn place() -> impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> {
    let mut kept: Option<ModelStore> = None;
    move |clock| {
        let store = match &kept {
            None => ModelStore::new(clock),
            Some(before) => before.reopened(clock),
        };
        kept = Some(store.clone());
        Arc::new(store)
    }
}

crate::record_store_contract!(place);

#[test]
fn the_model_is_its_own_equal() {
    super::random::check(64, place);
}

/// One way to break the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    KeepsNothing,
    GoesByALateClock,
    DoesHalfABatch,
    ForgetsQuotas,
    TakesAnyCursor,
    MixesNamespaces,
    ChecksVersionsTooEarly,
    SweepsOneMore,
}

/// Each flaw, and a case that must find it.
const FLAWS: [(Flaw, &str); 8] = [
    (Flaw::KeepsNothing, "what_was_put_is_read_back"),
    (Flaw::GoesByALateClock, "a_record_is_gone_at_its_moment_without_a_sweep"),
    (Flaw::DoesHalfABatch, "a_batch_with_a_step_that_fails_does_nothing"),
    (Flaw::ForgetsQuotas, "bytes_are_bounded_to_the_byte"),
    (
        Flaw::TakesAnyCursor,
        "a_cursor_is_good_for_its_namespace_and_prefix_alone",
    ),
    (Flaw::MixesNamespaces, "namespaces_do_not_see_each_other"),
    (Flaw::ChecksVersionsTooEarly, "one_of_many_swaps_wins"),
    (Flaw::SweepsOneMore, "a_sweep_is_bounded_and_takes_the_expired_alone"),
];

#[derive(Debug)]
struct LateClock(Arc<dyn Clock>);

impl Clock for LateClock {
    fn now(&self) -> Timestamp {
        self.0.now() - 1.second()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Debug)]
struct Flawed {
    model: ModelStore,
    flaw: Flaw,
}

fn flawed(flaw: Flaw) -> impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> {
    let mut kept: Option<ModelStore> = None;
    move |clock| {
        let clock = if flaw == Flaw::GoesByALateClock {
            Arc::new(LateClock(clock))
        } else {
            clock
        };
        let model = match &kept {
            Some(before) if flaw != Flaw::KeepsNothing => before.reopened(clock),
            Some(_) | None => ModelStore::new(clock),
        };
        kept = Some(model.clone());
        Arc::new(Flawed { model, flaw })
    }
}

impl Flawed {
    fn space(&self, namespace: &Namespace) -> Namespace {
        if self.flaw == Flaw::MixesNamespaces {
            "mixed".parse().expect("a namespace")
        } else {
            namespace.clone()
        }
    }

    /// Looks at the version, and writes when another may have been quicker.
    fn swap(&self, namespace: &Namespace, write: Write, quota: &Quota) -> Result<Vec<Outcome>, StoreError> {
        let version = self.model.get(namespace, &write.name)?.map(|record| record.version);
        let holds = match write.precondition {
            Precondition::Any => true,
            Precondition::Absent => version.is_none(),
            Precondition::Version(wanted) => version == Some(wanted),
        };
        if !holds {
            return Err(StoreError::Precondition { index: 0, version });
        }
        std::thread::sleep(Duration::from_millis(1));
        let late = Write {
            precondition: Precondition::Any,
            ..write
        };
        self.model.apply(namespace, vec![Operation::Put(late)], quota)
    }
}

impl RecordStore for Flawed {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.model.get(&self.space(namespace), name)
    }

    fn apply(
        &self,
        namespace: &Namespace,
        mut operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        let space = self.space(namespace);
        match self.flaw {
            Flaw::DoesHalfABatch => {
                let one_by_one = operations
                    .into_iter()
                    .map(|one| self.model.apply(&space, vec![one], quota));
                Ok(one_by_one.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Flaw::ForgetsQuotas => self.model.apply(&space, operations, &Quota::UNLIMITED),
            Flaw::ChecksVersionsTooEarly if operations.len() == 1 => match operations.remove(0) {
                Operation::Put(write) => self.swap(&space, write, quota),
                delete @ Operation::Delete { .. } => self.model.apply(&space, vec![delete], quota),
            },
            _ => self.model.apply(&space, operations, quota),
        }
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let space = self.space(namespace);
        match self.model.list(&space, prefix, cursor, limit) {
            Err(StoreError::Cursor) if self.flaw == Flaw::TakesAnyCursor => {
                self.model.list(&space, prefix, None, limit)
            }
            other => other,
        }
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        self.model.classification(&self.space(namespace), name)
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        self.model.usage(&self.space(namespace))
    }

    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        self.model.namespaces(limit)
    }

    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        let more = usize::from(self.flaw == Flaw::SweepsOneMore);
        self.model.sweep(records_max + more)
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        self.model.tag(&self.space(namespace), name)
    }
}

fn is_found(check: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(check)).is_err()
}

#[test]
fn a_store_with_a_flaw_does_not_pass() {
    for (flaw, case) in FLAWS {
        assert!(
            is_found(|| super::run(case, || flawed(flaw))),
            "{case} did not find: {flaw:?}"
        );
    }
}

#[test]
fn random_operations_find_flaws_too() {
    for flaw in [
        Flaw::KeepsNothing,
        Flaw::GoesByALateClock,
        Flaw::DoesHalfABatch,
        Flaw::ForgetsQuotas,
    ] {
        let found = is_found(|| super::random::check(256, || flawed(flaw)));
        assert!(found, "256 runs did not find: {flaw:?}");
    }
}
