//! Records, one by one: read, delete, list, and what the store says of itself.

use std::path::PathBuf;

use aral_contract::event::MemoryOperation;
use aral_contract::id::Namespace;
use aral_contract::{Classification, Code, EventKind, Failure};
use aral_memory::record::PAGE_NAMES_MAX;
use aral_memory::{LocalSecrets, Precondition, RecordName, RecordStore, SealedStore, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Act, Changed, Hidden, Operator, Tell};
use crate::storage::store_failure;

/// Namespaces that are shown. Bounds memory: a store may hold millions.
const NAMESPACES_MAX: usize = 10_000;

/// Reads a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryGet {
    /// In which namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: String,
    /// Whether its value is handed out.
    pub reveal: bool,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordAnswer {
    /// Size of the value.
    pub bytes: u64,
    /// Its version.
    pub version: u64,
    /// How sensitive it is.
    pub classification: Classification,
    /// When it is gone; none: it stays.
    pub expires_at: Option<Timestamp>,
    /// The value, if that was asked for.
    pub value: Option<Hidden>,
}

/// Deletes a record and destroys its key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryDelete {
    /// In which namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: String,
    /// Only if it has this version.
    pub if_version: Option<u64>,
}

/// Lists a page of names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryList {
    /// In which namespace.
    pub namespace: Namespace,
    /// How the names begin.
    pub prefix: String,
    /// Where the page begins: `cursor` of the one before.
    pub cursor: Option<String>,
}

/// A page of names.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordPage {
    /// The names.
    pub names: Vec<String>,
    /// Where the next page begins; none: this is the last.
    pub cursor: Option<String>,
}

/// Asks the store about itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryStats {}

/// What the store says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Its name: 32 hex digits.
    pub store: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Version of its format.
    pub format: u32,
    /// Ids of the master keys that open it.
    pub keys: Vec<String>,
    /// Whether a rotation of keys was begun and not ended.
    pub rotating: bool,
    /// Whether that goes on now, or a check or a backup does meanwhile.
    pub rotating_now: bool,
    /// Names of the epoch keys that it is sealed under as well.
    pub epochs: Vec<String>,
    /// Keys of records in the slot file.
    pub slots_used: u32,
    /// Places for them.
    pub slots: u32,
    /// Free space on its disk, in bytes.
    pub free_bytes: u64,
    /// How much writes need.
    pub free_bytes_min: u64,
    /// What of the space for secrets is taken.
    pub secrets: SecretStats,
    /// What each namespace holds.
    pub namespaces: Vec<NamespaceStats>,
    /// Whether there may be more namespaces.
    pub namespaces_cut: bool,
    /// How many more there are whose names do not open, with secrets or without; none: damage keeps that from being known.
    pub nameless: Option<u64>,
}

/// The secrets of the store: how many there are, and may be.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecretStats {
    /// How many.
    pub records: u64,
    /// How large they are together, with their names.
    pub bytes: u64,
    /// How many there may be.
    pub records_max: u64,
    /// How large they may be together.
    pub bytes_max: u64,
}

/// What one namespace holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct NamespaceStats {
    /// Which.
    pub namespace: Namespace,
    /// How many records.
    pub records: u64,
    /// How large they are together.
    pub bytes: u64,
}

impl Act for MemoryGet {
    const PATH: &'static str = "/v1/memory/get";
    type Answer = Option<RecordAnswer>;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let name = record_name(&self.name)?;
        let reads = MemoryOperation::Read;
        let found = operator.reading(&self.namespace, Some(&name), reads, self.reveal, |records| {
            let found = records.get(&self.namespace, &name)?;
            let facts = found.as_ref().map_or((None, 0), |record| {
                (Some(record.classification), record.value.len() as u64)
            });
            Ok((found, facts))
        })?;
        Ok(found.map(|record| RecordAnswer {
            bytes: record.value.len() as u64,
            version: record.version,
            classification: record.classification,
            expires_at: record.expires_at,
            value: self.reveal.then(|| Hidden::new(record.value.into())),
        }))
    }
}

impl Act for MemoryDelete {
    const PATH: &'static str = "/v1/memory/delete";
    type Answer = Changed<Option<Classification>>;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let name = record_name(&self.name)?;
        let precondition = self.if_version.map_or(Precondition::Any, Precondition::Version);
        operator.changing(&self.namespace, &name, MemoryOperation::Delete, |records| {
            let was = records.delete(&self.namespace, &name, precondition)?;
            Ok((was, (was, 0)))
        })
    }
}

impl Act for MemoryList {
    const PATH: &'static str = "/v1/memory/list";
    type Answer = RecordPage;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let page = operator.reading(&self.namespace, None, MemoryOperation::List, false, |records| {
            let page = records.list(&self.namespace, &self.prefix, self.cursor.as_deref(), PAGE_NAMES_MAX)?;
            let count = page.names.len() as u64;
            Ok((page, (None, count)))
        })?;
        Ok(RecordPage {
            names: page.names.iter().map(|name| name.as_str().to_owned()).collect(),
            cursor: page.cursor,
        })
    }
}

impl Act for MemoryStats {
    const PATH: &'static str = "/v1/memory/stats";
    type Answer = Stats;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let store = operator.store()?;
        let status = store.status().map_err(store_failure)?;
        let namespaces = store.memory().namespaces(NAMESPACES_MAX).map_err(store_failure)?;
        let secrets = LocalSecrets::new(store.secrets()).usage().map_err(store_failure)?;
        let memory = operator.storage().memory()?;
        Ok(Stats {
            store: status.store,
            dir: memory.dir.clone(),
            format: status.format,
            keys: status.keys,
            rotating: status.is_rotating,
            rotating_now: status.is_under_way,
            epochs: status.epochs,
            slots_used: status.slots_used,
            slots: status.slots,
            free_bytes: status.free_bytes,
            free_bytes_min: memory.free_bytes_min,
            secrets: SecretStats {
                records: secrets.records,
                bytes: secrets.bytes,
                records_max: LocalSecrets::QUOTA.records_max,
                bytes_max: LocalSecrets::QUOTA.bytes_max,
            },
            namespaces_cut: namespaces.len() == NAMESPACES_MAX,
            nameless: nameless(&store)?,
            namespaces: namespaces
                .into_iter()
                .map(|one| NamespaceStats {
                    namespace: one.namespace,
                    records: one.usage.records,
                    bytes: one.usage.bytes,
                })
                .collect(),
        })
    }
}

/// What else there is to know of a store is wanted most where it is damaged.
fn nameless(store: &SealedStore) -> Result<Option<u64>, Failure> {
    match store.nameless() {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "it is not known which namespaces have lost their name");
            Ok(None)
        }
        counted => counted.map(Some).map_err(store_failure),
    }
}

/// What is known of what was done: how sensitive it is, and how much.
pub(super) type Facts = (Option<Classification>, u64);

impl Operator {
    /// Reads, and notes what was read, or why not. What hands out a value has an answer once that is kept.
    fn reading<T>(
        &self,
        namespace: &Namespace,
        name: Option<&RecordName>,
        operation: MemoryOperation,
        hands_out: bool,
        act: impl FnOnce(&dyn RecordStore) -> Result<(T, Facts), StoreError>,
    ) -> Result<T, Failure> {
        let (read, noted) = self.noted(namespace, name, operation, act)?;
        if hands_out {
            return self.handed_out(read, noted);
        }
        self.record(noted);
        read
    }

    /// Changes something, notes what was done, or why not, and has an answer once that is kept.
    pub(super) fn changing<T>(
        &self,
        namespace: &Namespace,
        name: &RecordName,
        operation: MemoryOperation,
        act: impl FnOnce(&dyn RecordStore) -> Result<(T, Facts), StoreError>,
    ) -> Result<Changed<T>, Failure> {
        let (done, noted) = self.noted(namespace, Some(name), operation, act)?;
        self.changed(done, noted)
    }

    /// Does something with records if it can be recorded: what it comes to, and what is to be noted of that.
    fn noted<T>(
        &self,
        namespace: &Namespace,
        name: Option<&RecordName>,
        operation: MemoryOperation,
        act: impl FnOnce(&dyn RecordStore) -> Result<(T, Facts), StoreError>,
    ) -> Result<(Result<T, Failure>, EventKind), Failure> {
        self.check_recorded()?;
        let records = self.store()?.memory();
        let done = act(&*records);
        let (classification, amount) = done.as_ref().map_or((None, 0), |(_, facts)| *facts);
        let noted = EventKind::MemoryAccess {
            capability: None,
            persona: None,
            operation,
            namespace: namespace.clone(),
            record: name.map(|name| records.tag(namespace, name)),
            classification,
            amount,
            refused: done.as_ref().err().map(ToString::to_string),
        };
        let done = done.map(|(answer, _)| answer);
        let done = done.map_err(|error| match name {
            Some(name) => record_failure(namespace, name, operation, error),
            None => store_failure(error),
        });
        Ok((done, noted))
    }
}

/// Why nothing was done with a record. The store does not name it, and whoever asked reads its name again, with the option that fits what
/// is there.
fn record_failure(namespace: &Namespace, name: &RecordName, operation: MemoryOperation, error: StoreError) -> Failure {
    let shown = on_a_line(name.as_str());
    let record = format!("the record `{shown}` in `{namespace}`");
    match error {
        StoreError::Precondition { version, .. } => {
            let done = match operation {
                MemoryOperation::Delete => "deleted",
                MemoryOperation::Read | MemoryOperation::Write | MemoryOperation::List => "written",
            };
            let conflict =
                |found: &str| Failure::new(Code::RecordConflict, format!("nothing was {done}: {record} {found}"));
            match version {
                Some(version) => conflict(&format!("has version {version}")).with_hint(format!(
                    "see what it is: `aral memory get {namespace} {shown}`; if it is the one you mean: `--if-version {version}`"
                )),
                None => conflict("is not there"),
            }
        }
        StoreError::Corrupt {
            what: StoreError::RECORD,
        } => Failure {
            message: format!("{record} is damaged, or was changed by somebody else"),
            ..store_failure(error)
        },
        other => store_failure(other),
    }
}

/// A name may hold what would begin a line of its own.
fn on_a_line(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_control() {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

pub(super) fn record_name(text: &str) -> Result<RecordName, Failure> {
    text.parse()
        .map_err(|error: aral_memory::record::RecordNameError| Failure::new(Code::InputInvalid, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_about_a_record_names_it_with_the_option_that_fits() {
        let of =
            |operation, error| record_failure(&"notes".parse().unwrap(), &"to\ndo".parse().unwrap(), operation, error);
        let conflict = |operation, version| of(operation, StoreError::Precondition { index: 0, version });
        let there = conflict(MemoryOperation::Write, Some(7));
        assert_eq!(
            there.message,
            "nothing was written: the record `to\\u{a}do` in `notes` has version 7"
        );
        assert!(there.hint.unwrap().contains("`--if-version 7`"));
        let gone = conflict(MemoryOperation::Delete, None);
        assert_eq!(
            gone.message,
            "nothing was deleted: the record `to\\u{a}do` in `notes` is not there"
        );
        assert_eq!((gone.code, gone.hint), (Code::RecordConflict, None));
        let unnamed = store_failure(StoreError::Corrupt {
            what: StoreError::RECORD,
        });
        let damage = of(
            MemoryOperation::Read,
            StoreError::Corrupt {
                what: StoreError::RECORD,
            },
        );
        let what = unnamed.message.strip_prefix(StoreError::RECORD).unwrap();
        let message = format!("the record `to\\u{{a}}do` in `notes`{what}");
        assert_eq!(damage, Failure { message, ..unnamed });
        assert_eq!(
            of(MemoryOperation::Write, StoreError::Busy),
            store_failure(StoreError::Busy)
        );
    }
}
