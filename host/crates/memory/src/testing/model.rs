//! The reference: a store in memory that does what the contract says in the plainest way. It keeps nothing, hides nothing and
//! is fast at nothing; other stores are compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock, Digest};
use jiff::{SignedDuration, Timestamp};

use crate::record::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, LIST_EXAMINED_MAX, NamespaceUsage, PAGE_NAMES_MAX, Swept, TTL_SECONDS_MAX,
    VALUE_BYTES_MAX,
};
use crate::{Operation, Outcome, Page, Precondition, Quota, Record, RecordName, RecordStore, StoreError, Usage, Write};

type Key = (Namespace, RecordName);
type Records = BTreeMap<Key, Record>;

/// A store in memory. Clones share the records.
#[derive(Clone)]
pub struct ModelStore {
    records: Arc<Mutex<Records>>,
    clock: Arc<dyn Clock>,
}

impl ModelStore {
    /// An empty store that goes by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            records: Arc::default(),
            clock,
        }
    }

    /// The same records, by another clock: the store opened again.
    #[must_use]
    pub fn reopened(&self, clock: Arc<dyn Clock>) -> Self {
        Self {
            records: Arc::clone(&self.records),
            clock,
        }
    }

    /// How many records have expired and were not swept.
    pub fn expired(&self) -> usize {
        let now = self.clock.now();
        self.records().values().filter(|record| is_expired(record, now)).count()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, namespace: &Namespace, name: &RecordName, part: fn(&Record) -> T) -> Option<T> {
        let records = self.records();
        live(&records, &(namespace.clone(), name.clone()), self.clock.now()).map(part)
    }
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore")
            .field("records", &self.records().len())
            .finish_non_exhaustive()
    }
}

fn is_expired(record: &Record, now: Timestamp) -> bool {
    record.expires_at.is_some_and(|expires_at| expires_at <= now)
}

fn live<'a>(records: &'a Records, key: &Key, now: Timestamp) -> Option<&'a Record> {
    records.get(key).filter(|record| !is_expired(record, now))
}

fn usage_in(records: &Records, namespace: &Namespace) -> Usage {
    let own = records.iter().filter(|((space, _), _)| space == namespace);
    own.fold(Usage::default(), |usage, ((_, name), record)| Usage {
        bytes: usage.bytes + (name.as_str().len() + record.value.len()) as u64,
        records: usage.records + 1,
    })
}

fn check_size(operations: &[Operation]) -> Result<(), StoreError> {
    let invalid = |message: &str| Err(StoreError::Invalid(message.to_owned()));
    if operations.len() > BATCH_OPERATIONS_MAX {
        return invalid("a batch has at most so many operations");
    }
    let mut names = BTreeSet::new();
    let mut bytes = 0;
    for operation in operations {
        let (Operation::Put(Write { name, .. }) | Operation::Delete { name, .. }) = operation;
        if !names.insert(name) {
            return invalid("a name occurs once in a batch");
        }
        if let Operation::Put(write) = operation {
            bytes += write.value.len();
            if write.value.len() > VALUE_BYTES_MAX || bytes > BATCH_BYTES_MAX {
                return invalid("a batch has at most so many bytes");
            }
            if write
                .ttl_seconds
                .is_some_and(|ttl| !(1..=TTL_SECONDS_MAX).contains(&ttl))
            {
                return invalid("a time to live has one second to a hundred years");
            }
        }
    }
    Ok(())
}

fn check_precondition(index: usize, precondition: Precondition, there: Option<&Record>) -> Result<(), StoreError> {
    let version = there.map(|record| record.version);
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

/// The end of a time to live, which begins with the second that it is.
fn end(now: Timestamp, ttl_seconds: u64) -> Result<Timestamp, StoreError> {
    let ttl = i64::try_from(ttl_seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(now.as_second())
        .and_then(|whole| whole.checked_add(SignedDuration::from_secs(ttl)))
        .map_err(|error| StoreError::Invalid(error.to_string()))
}

fn step(
    records: &mut Records,
    namespace: &Namespace,
    index: usize,
    operation: Operation,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    match operation {
        Operation::Put(write) => {
            let key = (namespace.clone(), write.name);
            let there = live(records, &key, now);
            check_precondition(index, write.precondition, there)?;
            let version = there.map_or(0, |record| record.version) + 1;
            let record = Record {
                value: write.value.to_vec().into(),
                version,
                classification: write.classification,
                expires_at: write.ttl_seconds.map(|ttl| end(now, ttl)).transpose()?,
            };
            records.insert(key, record);
            Ok(Outcome::Written { version })
        }
        Operation::Delete { name, precondition } => {
            let key = (namespace.clone(), name);
            let there = live(records, &key, now);
            check_precondition(index, precondition, there)?;
            let outcome = there.map_or(Outcome::Absent, |record| Outcome::Deleted {
                classification: record.classification,
            });
            // One that has expired goes too: it was absent, and now it is gone.
            records.remove(&key);
            Ok(outcome)
        }
    }
}

/// What takes no more than was there before is done under any quota: else nobody could give anything back.
fn check_quota(before: Usage, after: Usage, namespace: &Namespace, quota: &Quota) -> Result<(), StoreError> {
    for (unit, max, before, wanted) in [
        ("bytes", quota.bytes_max, before.bytes, after.bytes),
        ("records", quota.records_max, before.records, after.records),
    ] {
        if wanted > max && wanted > before {
            return Err(StoreError::Quota {
                namespace: namespace.clone(),
                unit,
                max,
                wanted,
            });
        }
    }
    Ok(())
}

/// What the records are after all operations, and what they answer.
fn attempt(
    records: &Records,
    namespace: &Namespace,
    operations: Vec<Operation>,
    quota: &Quota,
    now: Timestamp,
) -> Result<(Records, Vec<Outcome>), StoreError> {
    let mut after = records.clone();
    let steps = operations.into_iter().enumerate();
    let outcomes = steps.map(|(index, operation)| step(&mut after, namespace, index, operation, now));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
    check_quota(
        usage_in(records, namespace),
        usage_in(&after, namespace),
        namespace,
        quota,
    )?;
    Ok((after, outcomes))
}

/// Where a name stands in a listing.
fn position(namespace: &Namespace, name: &RecordName) -> Digest {
    Digest::of(format!("{namespace}\0{name}").as_bytes())
}

/// What a cursor begins with: nobody else's fits.
fn cursor_prefix(namespace: &Namespace, prefix: &str) -> Digest {
    Digest::of(format!("cursor\0{namespace}\0{prefix}").as_bytes())
}

fn make_cursor(namespace: &Namespace, prefix: &str, at: Digest) -> String {
    let check = Digest::of(format!("{}{at}", cursor_prefix(namespace, prefix)).as_bytes());
    format!("{at}{check}")
}

fn read_cursor(namespace: &Namespace, prefix: &str, cursor: &str) -> Result<Digest, StoreError> {
    let at: Digest = cursor
        .get(..64)
        .and_then(|at| at.parse().ok())
        .ok_or(StoreError::Cursor)?;
    if make_cursor(namespace, prefix, at) == cursor {
        Ok(at)
    } else {
        Err(StoreError::Cursor)
    }
}

impl RecordStore for ModelStore {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        Ok(self.read(namespace, name, Clone::clone))
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        check_size(&operations)?;
        let now = self.clock.now();
        let mut records = self.records();
        match attempt(&records, namespace, operations.clone(), quota, now) {
            Ok((after, outcomes)) => {
                *records = after;
                Ok(outcomes)
            }
            // What has expired counts until it is swept. It must not keep out what is there.
            Err(StoreError::Quota { .. }) => {
                records.retain(|_, record| !is_expired(record, now));
                let (after, outcomes) = attempt(&records, namespace, operations, quota, now)?;
                *records = after;
                Ok(outcomes)
            }
            Err(other) => Err(other),
        }
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = cursor
            .map(|cursor| read_cursor(namespace, prefix, cursor))
            .transpose()?;
        let limit = limit.clamp(1, PAGE_NAMES_MAX);
        let now = self.clock.now();
        let records = self.records();
        let own = records.iter().filter(|((space, _), _)| space == namespace);
        let mut ordered: Vec<_> = own
            .map(|((_, name), record)| (position(namespace, name), name, record))
            .collect();
        ordered.sort_by_key(|(at, _, _)| *at);
        let mut page = Page::default();
        let rest = ordered
            .iter()
            .filter(|(at, _, _)| after.is_none_or(|after| *at > after));
        let mut last = None;
        for (examined, (at, name, record)) in rest.enumerate() {
            if page.names.len() == limit || examined == LIST_EXAMINED_MAX {
                page.cursor = last.map(|at| make_cursor(namespace, prefix, at));
                break;
            }
            last = Some(*at);
            if name.as_str().starts_with(prefix) && !is_expired(record, now) {
                page.names.push((*name).clone());
            }
        }
        Ok(page)
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        Ok(self.read(namespace, name, |record| record.classification))
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        Ok(usage_in(&self.records(), namespace))
    }

    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        let records = self.records();
        let spaces: BTreeSet<&Namespace> = records.keys().map(|(space, _)| space).collect();
        let usage = |space: &Namespace| NamespaceUsage {
            namespace: space.clone(),
            usage: usage_in(&records, space),
        };
        Ok(spaces.into_iter().take(limit).map(usage).collect())
    }

    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        let now = self.clock.now();
        let mut records = self.records();
        let expired = records.iter().filter(|(_, record)| is_expired(record, now));
        let expired: Vec<Key> = expired.map(|(key, _)| key.clone()).collect();
        for key in expired.iter().take(records_max) {
            records.remove(key);
        }
        Ok(Swept {
            records: expired.len().min(records_max),
            more: expired.len() > records_max,
        })
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        let mut tag = position(namespace, name).to_string();
        tag.truncate(32);
        tag
    }
}
