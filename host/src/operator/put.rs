//! Writes one record. Where nobody says how sensitive it is, it is not less so than the record that it replaces.

use aral_contract::event::MemoryOperation;
use aral_contract::id::Namespace;
use aral_contract::{Classification, Failure};
use aral_memory::{Precondition, Quota, RecordName, RecordStore, StoreError, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory::record_name;
use super::{Act, Changed, Hidden, Operator, Tell};

/// How sensitive a record is at least of which nobody says how sensitive it is.
const USUAL: Classification = Classification::Confidential;
/// How often a record is looked at again that somebody else wrote meanwhile.
const AGAIN_MAX: usize = 16;

/// Writes a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPut {
    /// In which namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: String,
    /// The value.
    pub value: Hidden,
    /// Seconds until it is gone; none: it stays.
    pub ttl_seconds: Option<u64>,
    /// How sensitive it is; none: as what it replaces, and at least confidential.
    pub classification: Option<Classification>,
    /// Only if there is none.
    pub if_absent: bool,
    /// Only if the one that is there has this version.
    pub if_version: Option<u64>,
}

/// What was written.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordWritten {
    /// Its version.
    pub version: u64,
    /// How sensitive it is.
    pub classification: Classification,
    /// When what it replaced was to be gone, if it stays itself.
    pub expiry_lost: Option<Timestamp>,
}

impl Act for MemoryPut {
    const PATH: &'static str = "/v1/memory/put";
    type Answer = Changed<RecordWritten>;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let name = record_name(&self.name)?;
        let (namespace, said) = (self.namespace, self.classification);
        let bytes = self.value.expose().len() as u64;
        let write = Write {
            name: name.clone(),
            value: self.value.into_inner(),
            ttl_seconds: self.ttl_seconds,
            classification: said.unwrap_or(USUAL),
            precondition: match self.if_version {
                Some(version) => Precondition::Version(version),
                None if self.if_absent => Precondition::Absent,
                None => Precondition::Any,
            },
        };
        operator.changing(&namespace, &name, MemoryOperation::Write, |records| {
            let written = put(records, &namespace, &write, said)?;
            let facts = (Some(written.classification), bytes);
            Ok((written, facts))
        })
    }
}

/// What is there before it is replaced.
#[derive(Default)]
struct Before {
    /// What holds of it and of nothing else; none: nothing does.
    condition: Option<Precondition>,
    classification: Option<Classification>,
    expires_at: Option<Timestamp>,
}

impl Before {
    fn of(records: &dyn RecordStore, namespace: &Namespace, name: &RecordName) -> Result<Self, StoreError> {
        match records.get(namespace, name) {
            Ok(None) => Ok(Self {
                condition: Some(Precondition::Absent),
                ..Self::default()
            }),
            Ok(Some(record)) => Ok(Self {
                condition: Some(Precondition::Version(record.version)),
                classification: Some(record.classification),
                expires_at: record.expires_at,
            }),
            Err(error) if error.is_damage() => Ok(Self::damaged()),
            Err(error) => Err(error),
        }
    }

    /// It can be replaced, but meets no condition, and may have been anything.
    fn damaged() -> Self {
        Self {
            classification: Some(Classification::Secret),
            ..Self::default()
        }
    }

    fn version(&self) -> Option<u64> {
        match self.condition {
            Some(Precondition::Version(version)) => Some(version),
            Some(Precondition::Absent | Precondition::Any) | None => None,
        }
    }
}

/// Where nobody said how sensitive the record is, only what was looked at is replaced: what somebody else writes between the look and
/// the write may be more sensitive.
fn put(
    records: &dyn RecordStore,
    namespace: &Namespace,
    write: &Write,
    said: Option<Classification>,
) -> Result<RecordWritten, StoreError> {
    let asked = write.precondition;
    let mut again = 0..AGAIN_MAX;
    let mut is_damaged = false;
    loop {
        let before = match said {
            _ if is_damaged => Before::damaged(),
            None => Before::of(records, namespace, &write.name)?,
            // It only decides whether an expiry is told to be lost: what cannot be read keeps nothing from being written.
            Some(_) if write.ttl_seconds.is_none() => Before::of(records, namespace, &write.name).unwrap_or_default(),
            Some(_) => Before::default(),
        };
        let (classification, precondition) = match said {
            Some(said) => (said, asked),
            None => (
                before.classification.map_or(USUAL, |was| was.max(USUAL)),
                before.condition.unwrap_or(asked),
            ),
        };
        if asked != Precondition::Any && asked != precondition {
            return Err(StoreError::Precondition {
                index: 0,
                version: before.version(),
            });
        }
        let one = Write {
            classification,
            precondition,
            ..write.clone()
        };
        match records.put(namespace, one, &Quota::UNLIMITED) {
            Err(StoreError::Precondition { .. }) if asked == Precondition::Any && again.next().is_some() => {}
            // A record whose time seems to be over is not opened by the look, so that only the condition meets the damage.
            Err(error) if error.is_damage() && asked == Precondition::Any && precondition != asked => is_damaged = true,
            written => {
                return Ok(RecordWritten {
                    version: written?,
                    classification,
                    expiry_lost: before.expires_at.filter(|_| write.ttl_seconds.is_none()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aral_contract::Clock;
    use aral_contract::testing::ManualClock;
    use aral_memory::record::{NamespaceUsage, Swept};
    use aral_memory::{MasterKey, Operation, Outcome, Page, Record, SealedStore, StoreOptions, Usage};
    use aral_runtime::{SystemClock, files};
    use jiff::SignedDuration;
    use zeroize::Zeroizing;

    use super::*;

    /// A store in which somebody else writes each of these right after the next look at a record.
    #[derive(Debug)]
    struct Racing(Arc<dyn RecordStore>, Mutex<Vec<Write>>);

    impl RecordStore for Racing {
        fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
            let found = self.0.get(namespace, name);
            if let Some(write) = self.1.lock().unwrap().pop() {
                self.0.put(namespace, write, &Quota::UNLIMITED).unwrap();
            }
            found
        }

        fn apply(
            &self,
            namespace: &Namespace,
            operations: Vec<Operation>,
            quota: &Quota,
        ) -> Result<Vec<Outcome>, StoreError> {
            self.0.apply(namespace, operations, quota)
        }

        fn list(
            &self,
            namespace: &Namespace,
            prefix: &str,
            cursor: Option<&str>,
            limit: usize,
        ) -> Result<Page, StoreError> {
            self.0.list(namespace, prefix, cursor, limit)
        }

        fn classification(
            &self,
            namespace: &Namespace,
            name: &RecordName,
        ) -> Result<Option<Classification>, StoreError> {
            self.0.classification(namespace, name)
        }

        fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
            self.0.usage(namespace)
        }

        fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
            self.0.namespaces(limit)
        }

        fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
            self.0.sweep(records_max)
        }

        fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
            self.0.tag(namespace, name)
        }
    }

    fn write(classification: Classification) -> Write {
        Write {
            name: "n".parse().unwrap(),
            value: Zeroizing::new(b"value".to_vec()),
            ttl_seconds: None,
            classification,
            precondition: Precondition::Any,
        }
    }

    fn racing(folder: &tempfile::TempDir, writes: Vec<Write>) -> Racing {
        racing_at(folder, writes, Arc::new(SystemClock::new()))
    }

    fn racing_at(folder: &tempfile::TempDir, writes: Vec<Write>, clock: Arc<dyn Clock>) -> Racing {
        let key = MasterKey::from_text("5a".repeat(32).as_bytes()).unwrap();
        let options = StoreOptions {
            free_bytes_min: 0,
            ..StoreOptions::new(folder.path().join("store"), key, clock)
        };
        Racing(SealedStore::open(options).unwrap().memory(), Mutex::new(writes))
    }

    #[test]
    fn what_became_secret_between_the_look_and_the_write_stays_secret() {
        let folder = tempfile::tempdir().unwrap();
        let store = racing(&folder, vec![write(Classification::Secret)]);
        let notes: Namespace = "notes".parse().unwrap();
        let written = put(&store, &notes, &write(USUAL), None).unwrap();
        assert_eq!((written.version, written.classification), (2, Classification::Secret));
        // Who says it is not asked again.
        let written = put(
            &store,
            &notes,
            &write(Classification::Public),
            Some(Classification::Public),
        );
        assert_eq!(written.unwrap().classification, Classification::Public);
        let written = put(&store, &notes, &write(USUAL), None).unwrap();
        assert_eq!(written.classification, USUAL, "never less where nobody says it");
    }

    #[test]
    fn a_damaged_record_whose_time_seems_to_be_over_is_replaced_as_a_secret_one() {
        /// The header of the slot file, and what comes before the sealed key in a slot.
        const AT: usize = 4096 + 16;
        let folder = tempfile::tempdir().unwrap();
        let notes: Namespace = "notes".parse().unwrap();
        let clock = Arc::new(ManualClock::new());
        let store = racing_at(&folder, Vec::new(), Arc::clone(&clock) as _);
        let short = Write {
            ttl_seconds: Some(60),
            ..write(USUAL)
        };
        put(&store, &notes, &short, None).unwrap();
        drop(store);
        let slots = folder.path().join("store/slots");
        let mut bytes = files::read_path(&slots, 1 << 30).unwrap();
        bytes[AT] ^= 1;
        files::write_path(&slots, &bytes, 0o600, files::Replace::Allow).unwrap();
        clock.leap(SignedDuration::from_secs(120));
        let store = racing_at(&folder, Vec::new(), clock);
        assert!(
            store.get(&notes, &short.name).unwrap().is_none(),
            "the look meets no damage"
        );
        let written = put(&store, &notes, &write(USUAL), None).unwrap();
        assert_eq!(written.classification, Classification::Secret);
        assert!(store.get(&notes, &short.name).unwrap().is_some());
    }

    #[test]
    fn a_record_that_is_written_all_the_time_is_a_conflict_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = racing(&folder, vec![write(Classification::Secret); AGAIN_MAX + 1]);
        let notes: Namespace = "notes".parse().unwrap();
        let refused = put(&store, &notes, &write(USUAL), None).unwrap_err();
        let version = u64::try_from(AGAIN_MAX + 1).unwrap();
        assert!(
            matches!(refused, StoreError::Precondition { version: Some(found), .. } if found == version),
            "{refused}"
        );
    }

    #[test]
    fn a_condition_is_judged_by_what_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let notes: Namespace = "notes".parse().unwrap();
        let with = |precondition| Write {
            precondition,
            ..write(USUAL)
        };
        // The version that is asked for is there, and then another one is.
        let store = racing(&folder, Vec::new());
        put(&store, &notes, &with(Precondition::Absent), None).unwrap();
        store.1.lock().unwrap().push(write(Classification::Secret));
        for precondition in [Precondition::Version(1), Precondition::Version(1), Precondition::Absent] {
            let refused = put(&store, &notes, &with(precondition), None).unwrap_err();
            assert!(
                matches!(refused, StoreError::Precondition { version: Some(2), .. }),
                "{refused}"
            );
        }
        let written = put(&store, &notes, &with(Precondition::Version(2)), None).unwrap();
        assert_eq!((written.version, written.classification), (3, Classification::Secret));
    }
}
