//! Looking through the store for records that do not open.

use std::ops::ControlFlow;

use aral_contract::id::Namespace;
use aral_contract::{Failure, rule};
use aral_memory::StoreError;
use aral_memory::sealed::{Checked, Damaged, Delete};
use serde::{Deserialize, Serialize};

use super::moves::unless_unwatched;
use super::{Act, ActProgress, Changed, Operator, Tell};
use crate::events::security;
use crate::storage::store_failure;

/// Damaged records that are named. Bounds memory: all of them may be.
pub(super) const NAMED_MAX: usize = 1000;
/// The same where the check failed, whose message names them.
const NAMED_CUT_OFF_MAX: usize = 10;

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

impl DamagedRecord {
    fn place_in_words(&self) -> String {
        let namespace = match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "records of a namespace without a name".to_owned(),
        };
        format!("{namespace}, place {}", self.place)
    }
}

/// What was found before a check failed is not lost with its answer, what was deleted first of all.
fn cut_off(mut failure: Failure, words: &str, found: &[DamagedRecord]) -> Failure {
    let (deleted, left): (Vec<_>, Vec<_>) = found.iter().partition(|one| one.deleted);
    let named = deleted.iter().chain(&left).take(NAMED_CUT_OFF_MAX).map(|one| {
        let deleted = if one.deleted { ", deleted" } else { "" };
        format!("; {}{deleted}", one.place_in_words())
    });
    let named: String = named.collect();
    let more = match found.len().saturating_sub(NAMED_CUT_OFF_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    failure.message = format!("{}; until it failed {words}{named}{more}", failure.message);
    failure
}

impl Act for MemoryCheck {
    const PATH: &'static str = "/v1/memory/check";
    const LONG: bool = true;
    type Answer = Changed<StoreChecked>;

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
        operator.record_kept(security(rule::MEMORY_CHECK_BEGUN, does.to_owned()))?;
        let deletes = delete != Delete::default();
        let (mut seen, mut found, mut given_up) = (Checked::default(), Vec::new(), None);
        let checked = store.check(
            delete,
            &mut |checked| {
                if checked.nameless_deleted > seen.nameless_deleted {
                    // Of these it was told when the first of them was gone.
                    operator.forget_secrets();
                }
                seen = *checked;
                let told = unless_unwatched(tell(ActProgress::Progress {
                    done: checked.records,
                    total: Some(total.max(checked.records)),
                }));
                // What only looks has nothing to record on its way.
                let goes_on = told.and_then(|()| if deletes { operator.wait_for_room() } else { Ok(()) });
                match goes_on {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(failure) => {
                        given_up = Some(failure);
                        ControlFlow::Break(())
                    }
                }
            },
            &mut |damaged| {
                let damaged = DamagedRecord::from(damaged);
                if damaged.deleted && damaged.secret {
                    // Looking through the rest may take long.
                    operator.forget_secrets();
                }
                if damaged.deleted {
                    operator.record(security(rule::MEMORY_DAMAGED_DELETED, damaged.place_in_words()));
                }
                if found.len() < NAMED_MAX {
                    found.push(damaged);
                }
            },
        );
        if deletes {
            operator.forget_secrets();
        }
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
        let words = format!(
            "{records} records, {damaged} of them damaged, {deleted} deleted; {nameless} namespaces without a name, \
             {nameless_deleted} deleted"
        );
        let last = security(rule::MEMORY_CHECKED, format!("{words}; {ended}"));
        let failed = |error: StoreError| match (error, given_up) {
            (StoreError::Invalid(_it_was_ended), Some(why)) => why,
            (error, _) => store_failure(error),
        };
        let checked = match checked {
            Err(error) => Err(cut_off(failed(error), &words, &found)),
            Ok(_) => Ok(StoreChecked {
                records,
                damaged,
                deleted,
                nameless,
                nameless_deleted,
                found,
            }),
        };
        if deletes {
            return operator.changed(checked, last);
        }
        operator.record(last);
        checked.map(|done| Changed { done, unrecorded: None })
    }
}
