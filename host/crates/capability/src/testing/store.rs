//! A record store in memory, for the tests of this crate: it keeps to the trait, waits as long as it is told, and fails
//! when it is told to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aral_contract::Classification;
use aral_contract::id::Namespace;
use aral_memory::record::{NamespaceUsage, Swept};
use aral_memory::{
    Operation, Outcome, Page, Precondition, Quota, Record, RecordName, RecordStore, StoreError, Usage, Write,
};

#[derive(Debug, Default)]
pub(crate) struct TestStore {
    pub(crate) records: Mutex<BTreeMap<(Namespace, RecordName), Record>>,
    /// How long each operation takes.
    pub(crate) delay: Duration,
    /// Whether the disk is broken.
    pub(crate) broken: bool,
    /// Whether the disk has stopped: until it goes on, no operation ends.
    pub(crate) stopped: AtomicBool,
    /// Operations under way.
    pub(crate) inside: AtomicUsize,
}

fn usage_of<'a>(records: impl Iterator<Item = (&'a (Namespace, RecordName), &'a Record)>) -> Usage {
    records.fold(Usage::default(), |sum, ((_, name), record)| Usage {
        bytes: sum.bytes + (name.as_str().len() + record.value.len()) as u64,
        records: sum.records + 1,
    })
}

impl TestStore {
    /// What every operation begins with.
    fn work(&self) -> Result<(), StoreError> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        while self.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.broken {
            let source = std::io::Error::other("/var/lib/aral/secret-path: no space left on device");
            return Err(StoreError::Io {
                action: "write",
                source: Box::new(source),
            });
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records
            .keys()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect()
    }
}

fn check(index: usize, wanted: Precondition, found: Option<&Record>) -> Result<(), StoreError> {
    let version = found.map(|record| record.version);
    let holds = match wanted {
        Precondition::Any => true,
        Precondition::Absent => version.is_none(),
        Precondition::Version(wanted) => version == Some(wanted),
    };
    holds.then_some(()).ok_or(StoreError::Precondition { index, version })
}

impl RecordStore for TestStore {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.work()?;
        let records = self.records.lock().unwrap();
        Ok(records.get(&(namespace.clone(), name.clone())).cloned())
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.work()?;
        let mut records = self.records.lock().unwrap();
        let mut next = records.clone();
        let mut outcomes = Vec::new();
        for (index, operation) in operations.into_iter().enumerate() {
            outcomes.push(match operation {
                Operation::Put(Write {
                    name,
                    value,
                    ttl_seconds,
                    classification,
                    precondition,
                }) => {
                    let key = (namespace.clone(), name);
                    check(index, precondition, next.get(&key))?;
                    let version = next.get(&key).map_or(1, |record| record.version + 1);
                    let expires_at = ttl_seconds.map(|seconds| jiff::Timestamp::from_second(seconds as i64).unwrap());
                    next.insert(
                        key,
                        Record {
                            value: value.to_vec().into(),
                            version,
                            classification,
                            expires_at,
                        },
                    );
                    Outcome::Written { version }
                }
                Operation::Delete { name, precondition } => {
                    let key = (namespace.clone(), name);
                    check(index, precondition, next.get(&key))?;
                    next.remove(&key).map_or(Outcome::Absent, |record| Outcome::Deleted {
                        classification: record.classification,
                    })
                }
            });
        }
        let usage = usage_of(next.iter().filter(|((other, _), _)| other == namespace));
        for (unit, max, wanted) in [
            ("bytes", quota.bytes_max, usage.bytes),
            ("records", quota.records_max, usage.records),
        ] {
            if wanted > max {
                return Err(StoreError::Quota {
                    namespace: namespace.clone(),
                    unit,
                    max,
                    wanted,
                });
            }
        }
        *records = next;
        Ok(outcomes)
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.work()?;
        let mark = format!("{namespace}|{prefix}|");
        let after = match cursor {
            None => "",
            Some(cursor) => cursor.strip_prefix(&mark).ok_or(StoreError::Cursor)?,
        };
        let records = self.records.lock().unwrap();
        let mut names: Vec<RecordName> = records
            .keys()
            .filter(|(other, name)| other == namespace && name.as_str().starts_with(prefix) && name.as_str() > after)
            .map(|(_, name)| name.clone())
            .collect();
        let more = names.len() > limit;
        names.truncate(limit);
        let cursor = names.last().filter(|_| more).map(|name| format!("{mark}{name}"));
        Ok(Page { names, cursor })
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        Ok(self.get(namespace, name)?.map(|record| record.classification))
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        let records = self.records.lock().unwrap();
        Ok(usage_of(records.iter().filter(|((other, _), _)| other == namespace)))
    }

    fn namespaces(&self, _limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        unreachable!("guests cannot ask for this")
    }

    fn sweep(&self, _records_max: usize) -> Result<Swept, StoreError> {
        unreachable!("guests cannot ask for this")
    }

    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        let sum = format!("{namespace}/{name}").bytes().map(u64::from).sum::<u64>();
        format!("{sum:032x}")
    }
}
