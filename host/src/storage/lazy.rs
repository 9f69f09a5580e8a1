//! A store that is opened by the first call that needs it, so that a host which needs none does not keep others from it.
//! It knows no key: how to open is handed in. Once open, it stays open as long as the host lives.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use aral_contract::id::Namespace;
use aral_contract::{Classification, Clock, Code, Failure};
use aral_memory::record::{NamespaceUsage, Operation, Outcome, Page, Quota, Record, RecordName, Swept, Usage};
use aral_memory::sealed::SealedStore;
use aral_memory::{RecordStore, StoreError};

use super::failure::store_failure;
use super::keeper::{Keeper, LEAVE, LEAVE_STEP, Work};

/// After a failure, how long the store is not tried again. Stops calls from queueing behind a key service that hangs.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An open store: its two spaces, and what is to be done for it now and then.
pub(crate) struct Opened {
    /// As a whole, for operators; none: there are only its spaces.
    pub(crate) sealed: Option<SealedStore>,
    pub(crate) memory: Arc<dyn RecordStore>,
    pub(crate) secrets: Arc<dyn RecordStore>,
    pub(crate) upkeep: Vec<Work>,
}

/// Opens the store.
pub(crate) type Open = dyn Fn() -> Result<Opened, Failure> + Send + Sync;

/// The store of a host, open or not yet.
pub(crate) struct LazyStore {
    open: Box<Open>,
    clock: Arc<dyn Clock>,
    /// Held while it is being opened.
    state: Mutex<State>,
    /// Whether it is to be let go, for whoever is opening it.
    is_over: AtomicBool,
}

enum State {
    Closed,
    Failed {
        failure: Failure,
        at: Duration,
    },
    Opened {
        sealed: Option<SealedStore>,
        memory: Arc<dyn RecordStore>,
        secrets: Arc<dyn RecordStore>,
        keepers: Vec<Keeper>,
    },
    /// Nobody opens it any more.
    Ended,
}

/// Which space of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Records of capabilities.
    Memory,
    /// Secrets.
    Secrets,
}

impl fmt::Debug for LazyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LazyStore")
    }
}

impl LazyStore {
    pub(crate) fn new(open: Box<Open>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            open,
            clock,
            state: Mutex::new(State::Closed),
            is_over: AtomicBool::new(false),
        })
    }

    /// One space of it.
    pub(crate) fn space(self: &Arc<Self>, space: Space) -> Arc<dyn RecordStore> {
        Arc::new(View {
            store: Arc::clone(self),
            space,
        })
    }

    /// Opens it now, unless it is open.
    pub(crate) fn open_now(&self) -> Result<(), Failure> {
        self.opened(Space::Memory).map(drop)
    }

    /// Whether it is open, or can be opened now, and takes writes: once one has failed, none is taken as long as it is open.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.open_now()?;
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Opened {
                sealed: Some(sealed), ..
            } => sealed.check_writable().map_err(store_failure),
            State::Opened { .. } | State::Failed { .. } | State::Closed | State::Ended => Ok(()),
        }
    }

    /// The store as a whole, opened now unless it is open.
    pub(crate) fn sealed(&self) -> Result<SealedStore, Failure> {
        self.open_now()?;
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Opened {
                sealed: Some(sealed), ..
            } => Ok(sealed.clone()),
            State::Opened { .. } | State::Failed { .. } | State::Closed | State::Ended => Err(Failure::new(
                Code::Unavailable,
                "the store cannot be reached as a whole",
            )),
        }
    }

    /// The store as a whole, if it is open. It waits for whoever is opening it, for a while.
    pub(crate) fn sealed_if_open(&self) -> Result<Option<SealedStore>, Failure> {
        let state = self.state_soon().ok_or_else(|| {
            Failure::new(Code::Unavailable, "the store is being opened, and that takes long")
                .with_hint("try again when it is open: `aral status` says so")
        })?;
        Ok(match &*state {
            State::Opened { sealed, .. } => sealed.clone(),
            State::Failed { .. } | State::Closed | State::Ended => None,
        })
    }

    /// Lets it go, for good: it closes once nobody uses it any more. It waits for whoever is opening it and for the upkeep that is under
    /// way, for a while, and for a disk.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        let Some(mut state) = self.state_soon() else {
            tracing::error!("what opens the store hangs, and is left behind");
            return;
        };
        let before = std::mem::replace(&mut *state, State::Ended);
        drop(state);
        // Whoever asks meanwhile is told at once.
        if let State::Opened { keepers, .. } = before {
            Keeper::end(keepers);
        }
    }

    /// None: it is being opened, and that takes long.
    fn state_soon(&self) -> Option<MutexGuard<'_, State>> {
        let mut waited = Duration::ZERO;
        loop {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if waited < LEAVE => {
                    std::thread::sleep(LEAVE_STEP);
                    waited = waited.saturating_add(LEAVE_STEP);
                }
                Err(TryLockError::WouldBlock) => return None,
            }
        }
    }

    /// One space, opened now unless it is open. Whoever comes while it is being opened waits for that.
    fn opened(&self, space: Space) -> Result<Arc<dyn RecordStore>, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed();
        if let State::Failed { failure, at } = &*state
            && now.saturating_sub(*at) < RETRY_AFTER
        {
            return Err(failure.clone());
        }
        if !matches!(*state, State::Opened { .. } | State::Ended) {
            *state = self.try_open().unwrap_or_else(|failure| State::Failed {
                failure,
                // Later than `now` by as long as the attempt took.
                at: self.clock.elapsed(),
            });
            // The end may not have waited for that.
            if self.is_over.load(Ordering::Acquire) {
                *state = State::Ended;
            }
        }
        match &*state {
            State::Opened { memory, secrets, .. } => Ok(Arc::clone(match space {
                Space::Memory => memory,
                Space::Secrets => secrets,
            })),
            State::Failed { failure, .. } => Err(failure.clone()),
            State::Closed => Err(Failure::internal("nobody opened the store")),
            State::Ended => Err(Failure::new(Code::Unavailable, "the host has ended")),
        }
    }
}

impl LazyStore {
    fn try_open(&self) -> Result<State, Failure> {
        let opened = (self.open)()?;
        let keepers: Result<Vec<Keeper>, StoreError> = opened.upkeep.into_iter().map(Keeper::start).collect();
        Ok(State::Opened {
            sealed: opened.sealed,
            memory: opened.memory,
            secrets: opened.secrets,
            keepers: keepers.map_err(store_failure)?,
        })
    }
}

/// For the log alone, with what to do about it: a guest learns that the store is unavailable.
fn failed(failure: &Failure) -> StoreError {
    let hint = failure.hint.as_deref().map(|hint| format!("; {hint}"));
    StoreError::Io {
        action: "be opened",
        source: format!("{failure}{}", hint.unwrap_or_default()).into(),
    }
}

/// One space, as a store of its own.
#[derive(Debug)]
struct View {
    store: Arc<LazyStore>,
    space: Space,
}

impl View {
    fn opened(&self) -> Result<Arc<dyn RecordStore>, StoreError> {
        self.store.opened(self.space).map_err(|failure| failed(&failure))
    }
}

impl RecordStore for View {
    fn get(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Record>, StoreError> {
        self.opened()?.get(namespace, name)
    }

    fn apply(
        &self,
        namespace: &Namespace,
        operations: Vec<Operation>,
        quota: &Quota,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.opened()?.apply(namespace, operations, quota)
    }

    fn list(
        &self,
        namespace: &Namespace,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.opened()?.list(namespace, prefix, cursor, limit)
    }

    fn classification(&self, namespace: &Namespace, name: &RecordName) -> Result<Option<Classification>, StoreError> {
        self.opened()?.classification(namespace, name)
    }

    fn usage(&self, namespace: &Namespace) -> Result<Usage, StoreError> {
        self.opened()?.usage(namespace)
    }

    fn namespaces(&self, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        self.opened()?.namespaces(limit)
    }

    fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        self.opened()?.sweep(records_max)
    }

    /// All zeros while the store cannot be opened: without its key there is no keyed hash.
    fn tag(&self, namespace: &Namespace, name: &RecordName) -> String {
        match self.opened() {
            Ok(store) => store.tag(namespace, name),
            Err(_) => "0".repeat(32),
        }
    }
}

#[cfg(test)]
mod tests;
