//! Looking through the store for records that do not open.

use aral_contract::Failure;
use aral_contract::id::Namespace;
use aral_memory::sealed::{Checked, Damaged, Delete};
use serde::{Deserialize, Serialize};

use super::{Act, Operator, Tell, Told};
use crate::events::security;
use crate::storage::store_failure;

/// Damaged records that are named. Bounds memory: all of them may be.
const NAMED_MAX: usize = 1000;

/// Opens every record, and says which do not open.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryCheck {
    /// Whether those are taken out.
    pub delete_damaged: bool,
    /// Whether all records are taken out of which nothing says in which namespace they are.
    pub delete_nameless: bool,
}

/// What was seen.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoreChecked {
    /// Records that were looked at.
    pub records: u64,
    /// Of these, how many do not open.
    pub damaged: u64,
    /// Of these, how many were taken out.
    pub deleted: u64,
    /// Namespaces whose name does not open. Their records are none of those that were looked at.
    pub nameless: u64,
    /// Of these, of how many all records were taken out.
    pub nameless_deleted: u64,
    /// Which; the first 1,000 of them.
    pub found: Vec<DamagedRecord>,
}

/// A record that does not open, or all records of a namespace whose name does not.
#[derive(Debug, Serialize, Deserialize)]
pub struct DamagedRecord {
    /// In which namespace; none: nothing says so any more.
    pub namespace: Option<Namespace>,
    /// Whether it is a secret.
    pub secret: bool,
    /// Its name; none: that does not open either.
    pub name: Option<String>,
    /// By what the database knows it, in hex; of a namespace, with what that of each of its records begins.
    pub place: String,
    /// Whether it was taken out.
    pub deleted: bool,
}

impl From<Damaged> for DamagedRecord {
    fn from(damaged: Damaged) -> Self {
        Self {
            namespace: damaged.namespace,
            secret: damaged.is_secret,
            name: damaged.name.map(|name| name.as_str().to_owned()),
            place: damaged.place,
            deleted: damaged.deleted,
        }
    }
}

impl Act for MemoryCheck {
    const PATH: &'static str = "/v1/memory/check";
    const LONG: bool = true;
    type Answer = StoreChecked;

    fn act(self, operator: &Operator, tell: Tell<'_>) -> Result<Self::Answer, Failure> {
        operator.check_recorded()?;
        let store = operator.store()?;
        // As many keys of records as there are records.
        let total = u64::from(store.status().map_err(store_failure)?.slots_used);
        let does = match (self.delete_damaged, self.delete_nameless) {
            (false, false) => "changes nothing",
            (true, false) => "deletes what is damaged",
            (false, true) => "deletes what is in namespaces without a name",
            (true, true) => "deletes what is damaged, and what is in namespaces without a name",
        };
        let delete = Delete {
            damaged: self.delete_damaged,
            nameless: self.delete_nameless,
        };
        operator.record(security("memory_check_begun", does.to_owned()));
        let (mut seen, mut found) = (Checked::default(), Vec::new());
        let checked = store.check(
            delete,
            &mut |checked| {
                seen = *checked;
                let _nobody_watches = tell(Told::Progress {
                    done: checked.records,
                    total: Some(total.max(checked.records)),
                });
            },
            &mut |damaged| {
                if damaged.deleted {
                    let namespace = match &damaged.namespace {
                        Some(namespace) => format!("namespace {namespace}"),
                        None => "all of a namespace without a name".to_owned(),
                    };
                    let subject = format!("{namespace}, place {}", damaged.place);
                    operator.record(security("memory_damaged_deleted", subject));
                }
                if found.len() < NAMED_MAX {
                    found.push(DamagedRecord::from(damaged));
                }
            },
        );
        let ended = match &checked {
            Ok(_) => "whole",
            Err(_) => "cut off",
        };
        let Checked {
            records,
            damaged,
            deleted,
            nameless,
            nameless_deleted,
        } = seen;
        operator.record(security(
            "memory_checked",
            format!(
                "{records} records, {damaged} of them damaged, {deleted} deleted; {nameless} namespaces without a name, \
                 {nameless_deleted} deleted; {ended}"
            ),
        ));
        checked.map_err(store_failure)?;
        Ok(StoreChecked {
            records,
            damaged,
            deleted,
            nameless,
            nameless_deleted,
            found,
        })
    }
}
