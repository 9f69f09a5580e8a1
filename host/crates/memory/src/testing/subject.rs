//! The store under test, and short ways to ask it something.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock};
use zeroize::Zeroizing;

use super::ManualClock;
use crate::{Operation, Page, Precondition, Quota, RecordName, RecordStore, StoreError, Write};

type Open = Box<dyn FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore>>;

/// A store that starts empty, the clock that it goes by, and how to open it again.
pub struct Subject {
    clock: Arc<ManualClock>,
    open: Open,
    store: Option<Arc<dyn RecordStore>>,
    reopens: bool,
}

impl Subject {
    /// Opens the store.
    pub fn new(open: impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> + 'static) -> Self {
        let mut subject = Self {
            clock: Arc::new(ManualClock::new()),
            open: Box::new(open),
            store: None,
            reopens: false,
        };
        subject.reopen();
        subject
    }

    /// Opens the store; each [`Subject::step`] closes it and opens it again.
    pub fn reopened_between_steps(open: impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> + 'static) -> Self {
        let mut subject = Self::new(open);
        subject.reopens = true;
        subject
    }

    /// Between two steps of a case: what was answered before must be so after the store was opened again.
    pub fn step(&mut self) {
        if self.reopens {
            self.reopen();
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        self.store = None;
        let clock: Arc<dyn Clock> = self.clock.clone();
        self.store = Some((self.open)(clock));
    }

    /// The clock that the store goes by.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The same, to give to something else.
    pub(super) fn shared_clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Writes a value that stays, as `internal`.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn put_value(&self, namespace: &Namespace, record: &str, value: impl Into<Vec<u8>>) -> u64 {
        self.put(namespace, write(record, value), &Quota::UNLIMITED)
            .expect("the record is written")
    }

    /// Writes a value that expires, as `internal`.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn put_for(&self, namespace: &Namespace, record: &str, ttl_seconds: u64) -> u64 {
        let write = Write {
            ttl_seconds: Some(ttl_seconds),
            ..write(record, record.as_bytes())
        };
        self.put(namespace, write, &Quota::UNLIMITED)
            .expect("the record is written")
    }

    /// The value of a record; none if it is absent.
    ///
    /// # Panics
    /// If the store fails.
    pub fn value(&self, namespace: &Namespace, record: &str) -> Option<Vec<u8>> {
        let record = self.get(namespace, &name(record)).expect("the record is read");
        record.map(|record| record.value.to_vec())
    }

    /// All pages of a listing.
    ///
    /// # Panics
    /// If the store fails, or if the pages do not end.
    pub fn pages(&self, namespace: &Namespace, prefix: &str, limit: usize) -> Vec<Page> {
        pages(self.deref(), namespace, prefix, limit)
    }

    /// All names of a listing, in the order of the store.
    ///
    /// # Panics
    /// As [`Subject::pages`].
    pub fn names(&self, namespace: &Namespace, prefix: &str, limit: usize) -> Vec<String> {
        names(self.pages(namespace, prefix, limit))
    }
}

impl Deref for Subject {
    type Target = dyn RecordStore;
    fn deref(&self) -> &Self::Target {
        self.store.as_deref().expect("a store that is open")
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("store", &self.store)
            .field("reopens", &self.reopens)
            .finish_non_exhaustive()
    }
}

/// More pages than any listing of a case has: a cursor that does not go forward ends here.
const PAGES_MAX: usize = 20_000;

pub(super) fn pages(store: &dyn RecordStore, namespace: &Namespace, prefix: &str, limit: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let cursor = pages.last().and_then(|page| page.cursor.clone());
        if !pages.is_empty() && cursor.is_none() {
            return pages;
        }
        assert!(pages.len() < PAGES_MAX, "the listing does not end");
        let page = store.list(namespace, prefix, cursor.as_deref(), limit);
        pages.push(page.expect("a page"));
    }
}

pub(super) fn names(pages: Vec<Page>) -> Vec<String> {
    let names = pages.into_iter().flat_map(|page| page.names);
    names.map(|name| name.as_str().to_owned()).collect()
}

/// A namespace with this name.
pub(super) fn namespace(text: &str) -> Namespace {
    text.parse().expect("a namespace")
}

/// A record name of this text.
pub(super) fn name(text: &str) -> RecordName {
    text.parse().expect("a record name")
}

/// To write a value that stays, as `internal`, whatever is there.
pub(super) fn write(record: &str, value: impl Into<Vec<u8>>) -> Write {
    Write {
        name: name(record),
        value: Zeroizing::new(value.into()),
        ttl_seconds: None,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    }
}

/// As [`write`], as a step of a batch.
pub(super) fn put(record: &str, value: impl Into<Vec<u8>>) -> Operation {
    Operation::Put(write(record, value))
}

/// To delete a record, as a step of a batch.
pub(super) fn delete(record: &str) -> Operation {
    Operation::Delete {
        name: name(record),
        precondition: Precondition::Any,
    }
}

/// Fails unless the store said that the request makes no sense.
pub(super) fn assert_invalid<T: fmt::Debug>(answer: Result<T, StoreError>, case: &str) {
    match answer {
        Err(StoreError::Invalid(message)) => assert!(!message.is_empty(), "{case}: no message"),
        other => panic!("{case}: {other:?}"),
    }
}
