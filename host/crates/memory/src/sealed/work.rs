//! The requests that write, each with what it plans. It knows no disk.

use std::collections::HashSet;
use std::sync::Arc;

use aral_contract::Classification;
use aral_contract::id::Namespace;

use super::believed::Believed;
use super::discard::SLOTS_MAX;
use super::entry::Header;
use super::plan::{Located, Mark, NewRecord, Plan};
use super::root::{Keys, NamespacePlace, Place, Space};
use super::sweep::sweep;
use super::whole_record::WholeRecord;
use crate::record::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, Operation, Outcome, Precondition, Quota, RecordName, Swept, TTL_SECONDS_MAX,
    VALUE_BYTES_MAX, Write,
};
use crate::store::StoreError;

/// One request.
pub(super) enum Work {
    /// Operations of a caller, all or none.
    Apply {
        space: Space,
        namespace: Namespace,
        operations: Vec<Operation>,
        quota: Quota,
    },
    /// A record as it was elsewhere, with its version and its expiry.
    Restore { record: WholeRecord, replace: bool },
    /// A record to write again under the newest keys, if it still is what it was.
    Rewrite { place: Place, record: WholeRecord },
    /// A record that does not open, if it still is what it was; none: its header cannot be read. What the namespace holds is to be counted
    /// anew later.
    Discard { place: Place, header: Option<Header> },
    /// What a namespace holds, to be counted anew.
    Recount { namespace: NamespacePlace },
    /// Expired records.
    Sweep { records_max: usize },
}

/// What became of a request.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) swept: Swept,
    /// What was to be discarded was still there.
    pub(super) discarded: bool,
}

impl Work {
    /// At most so many keys are sealed.
    pub(super) fn seals(&self) -> u64 {
        match self {
            Self::Apply { operations, .. } => {
                let puts = operations.iter().filter(|one| matches!(one, Operation::Put(_)));
                puts.count() as u64
            }
            Self::Restore { .. } | Self::Rewrite { .. } => 1,
            Self::Discard { .. } | Self::Recount { .. } | Self::Sweep { .. } => 0,
        }
    }

    /// At most so many records are changed, and slots destroyed, but for keys of damaged records that lie elsewhere.
    pub(super) fn records(&self) -> usize {
        match self {
            Self::Apply { operations, .. } => operations.len(),
            // Those that say they are its own, and the one that it names.
            Self::Discard { .. } | Self::Restore { replace: true, .. } => SLOTS_MAX + 1,
            Self::Restore { replace: false, .. } | Self::Rewrite { .. } => 1,
            Self::Recount { .. } => 0,
            Self::Sweep { records_max } => *records_max,
        }
    }

    /// Where the records lie that are to be discarded, or may have to be. A sweep does not know that yet, and operations of a caller
    /// say so when they meet a damaged record: what is whole needs none of this.
    pub(super) fn discards(&self, keys: &Keys) -> Vec<Place> {
        match self {
            Self::Discard { place, .. } | Self::Rewrite { place, .. } => vec![*place],
            Self::Restore { record, .. } => keys.places(record.space, &record.namespace, &record.name).collect(),
            Self::Apply { .. } | Self::Recount { .. } | Self::Sweep { .. } => Vec::new(),
        }
    }

    /// At most so many bytes are added. Removing is possible on a full disk.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Apply { operations, .. } => operations
                .iter()
                .map(|operation| match operation {
                    Operation::Put(write) => charged(&write.value).saturating_add(RECORD_OVERHEAD_BYTES),
                    Operation::Delete { .. } => 0,
                })
                .sum(),
            Self::Restore { record, .. } | Self::Rewrite { record, .. } => {
                charged(&record.value).saturating_add(RECORD_OVERHEAD_BYTES)
            }
            Self::Discard { .. } | Self::Recount { .. } | Self::Sweep { .. } => 0,
        }
    }

    pub(super) fn plan(self, plan: &mut Plan<'_>, mark: &mut Mark) -> Result<Done, StoreError> {
        match self {
            Self::Apply {
                space,
                namespace,
                operations,
                quota,
            } => apply(plan, mark, space, &namespace, &operations, &quota),
            Self::Restore { record, replace } => {
                let (space, namespace, name) = (record.space, &record.namespace, &record.name);
                let before = if replace {
                    plan.locate_or_discard(space, namespace, name, mark)?
                } else {
                    plan.locate(space, namespace, name)?
                };
                // What does not open is not there to be kept.
                if !replace && let Believed::Live(header) = plan.believed(space, namespace, name, before.as_ref())? {
                    return Err(StoreError::Precondition {
                        index: 0,
                        version: Some(header.version),
                    });
                }
                write(plan, mark, before.as_ref(), &NewRecord::from(&record))
            }
            Self::Rewrite { place, record } => {
                let now = plan.at(&place)?;
                let same = now.filter(|header| header.version == record.version && header.expires == record.expires);
                let Some(header) = same else {
                    return Ok(Done::default());
                };
                let before = Located { place, header };
                write(plan, mark, Some(&before), &NewRecord::from(&record))
            }
            Self::Discard { place, header } => Ok(Done {
                discarded: plan.discard(&place, header, mark)?,
                ..Done::default()
            }),
            Self::Recount { namespace } => {
                plan.recount(namespace, mark)?;
                Ok(Done::default())
            }
            Self::Sweep { records_max } => sweep(plan, mark, records_max),
        }
    }
}

/// What a record takes beside its value.
const RECORD_OVERHEAD_BYTES: u64 = 512;

fn charged(value: &[u8]) -> u64 {
    value.len() as u64
}

impl<'a> From<&'a WholeRecord> for NewRecord<'a> {
    fn from(record: &'a WholeRecord) -> Self {
        Self {
            space: record.space,
            namespace: &record.namespace,
            name: &record.name,
            value: &record.value,
            version: record.version,
            expires: record.expires,
            classification: record.classification,
        }
    }
}

fn write(
    plan: &mut Plan<'_>,
    mark: &mut Mark,
    before: Option<&Located>,
    new: &NewRecord<'_>,
) -> Result<Done, StoreError> {
    if let Some(before) = before {
        plan.remove(before, mark)?;
    }
    plan.insert(new, mark)?;
    Ok(Done {
        outcomes: vec![Outcome::Written { version: new.version }],
        ..Done::default()
    })
}

fn apply(
    plan: &mut Plan<'_>,
    mark: &mut Mark,
    space: Space,
    namespace: &Namespace,
    operations: &[Operation],
    quota: &Quota,
) -> Result<Done, StoreError> {
    check_shape(operations)?;
    let before = plan.usage(space, namespace)?;
    let mut outcomes = Vec::with_capacity(operations.len());
    let mut is_damage_met = false;
    for (index, operation) in operations.iter().enumerate() {
        let (Operation::Put(Write { name, precondition, .. }) | Operation::Delete { name, precondition }) = operation;
        let located = plan.locate(space, namespace, name)?;
        let believed = plan.believed(space, namespace, name, located.as_ref())?;
        let version = believed.version(*precondition)?;
        check(index, *precondition, version)?;
        if matches!(believed, Believed::Damaged) && !is_damage_met {
            is_damage_met = true;
            // All of them, so that the slots are walked through once.
            let keys = Arc::clone(&plan.keys);
            let names = operations.iter().map(name_of);
            let places = names.flat_map(|name| keys.places(space, namespace, name));
            plan.discarded.add(places);
        }
        let outcome = match operation {
            Operation::Put(write) => put(plan, mark, space, namespace, located.as_ref(), version, write)?,
            Operation::Delete { .. } => delete(plan, mark, located.as_ref(), &believed)?,
        };
        outcomes.push(outcome);
    }
    let after = plan.usage(space, namespace)?;
    for (unit, max, before, after) in [
        ("bytes", quota.bytes_max, before.bytes, after.bytes),
        ("records", quota.records_max, before.records, after.records),
    ] {
        if after > max && after > before {
            return Err(StoreError::Quota {
                namespace: namespace.clone(),
                unit,
                max,
                wanted: after,
            });
        }
    }
    Ok(Done {
        outcomes,
        ..Done::default()
    })
}

fn name_of(operation: &Operation) -> &RecordName {
    match operation {
        Operation::Put(write) => &write.name,
        Operation::Delete { name, .. } => name,
    }
}

fn check_shape(operations: &[Operation]) -> Result<(), StoreError> {
    let invalid = |message: String| Err(StoreError::Invalid(message));
    if operations.len() > BATCH_OPERATIONS_MAX {
        return invalid(format!("a batch has at most {BATCH_OPERATIONS_MAX} operations"));
    }
    let mut names = HashSet::with_capacity(operations.len());
    let mut bytes = 0_usize;
    for operation in operations {
        if let Operation::Put(write) = operation {
            if write.value.len() > VALUE_BYTES_MAX {
                return invalid(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
            }
            bytes = bytes.saturating_add(write.value.len());
            if write
                .ttl_seconds
                .is_some_and(|seconds| !(1..=TTL_SECONDS_MAX).contains(&seconds))
            {
                return invalid(format!("a time to live is 1 to {TTL_SECONDS_MAX} seconds"));
            }
        }
        if !names.insert(name_of(operation)) {
            return invalid("a batch names each record once".to_owned());
        }
    }
    if bytes > BATCH_BYTES_MAX {
        return invalid(format!(
            "the values of a batch have at most {BATCH_BYTES_MAX} bytes together"
        ));
    }
    Ok(())
}

fn check(index: usize, precondition: Precondition, version: Option<u64>) -> Result<(), StoreError> {
    let holds = match precondition {
        Precondition::Any => true,
        Precondition::Absent => version.is_none(),
        Precondition::Version(wanted) => version == Some(wanted),
    };
    if holds {
        Ok(())
    } else {
        Err(StoreError::Precondition { index, version })
    }
}

fn put(
    plan: &mut Plan<'_>,
    mark: &mut Mark,
    space: Space,
    namespace: &Namespace,
    before: Option<&Located>,
    version: Option<u64>,
    new: &Write,
) -> Result<Outcome, StoreError> {
    let record = NewRecord {
        space,
        namespace,
        name: &new.name,
        value: &new.value,
        version: version.unwrap_or(0).saturating_add(1),
        expires: new.ttl_seconds.map(|seconds| plan.now_up.saturating_add(seconds)),
        classification: new.classification,
    };
    write(plan, mark, before, &record)?;
    Ok(Outcome::Written {
        version: record.version,
    })
}

fn delete(
    plan: &mut Plan<'_>,
    mark: &mut Mark,
    before: Option<&Located>,
    believed: &Believed,
) -> Result<Outcome, StoreError> {
    // One whose time is over goes too, and was not there.
    if let Some(before) = before {
        plan.remove(before, mark)?;
    }
    let classification = match believed {
        Believed::Absent => return Ok(Outcome::Absent),
        Believed::Live(header) => header.classification,
        // It may have been anything.
        Believed::Damaged => Classification::Secret,
    };
    Ok(Outcome::Deleted { classification })
}
