//! What operators do by hand with records and secrets: the verbs of `aral memory` and `aral secret`, as data. Each is done
//! the same in the process that has the store and over the management socket of a server, and each is on record. It prints
//! nothing and knows no connection.

mod check;
mod hidden;
mod memory;
mod moves;
mod put;
mod salvage;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use aral_contract::event::SinkUnavailable;
use aral_contract::{AuditSink, Clock, Code, Event, EventKind, Failure};
use aral_memory::Secrets;
use aral_memory::sealed::SealedStore;
use aral_runtime::threads;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::host::Host;
use crate::storage::{LazyStore, Storage};

pub use check::{DamagedRecord, MemoryCheck, StoreChecked};
pub use hidden::Hidden;
pub use memory::{
    MemoryDelete, MemoryGet, MemoryList, MemoryStats, NamespaceStats, RecordAnswer, RecordPage, SecretStats, Stats,
};
pub use moves::{Exported, Imported, MemoryExport, MemoryImport, MemoryRotateEpoch, MemoryRotateKey, NewKey, Rotated};
pub use put::{MemoryPut, RecordWritten};
pub use salvage::{MemorySalvage, Salvaged};
pub use secrets::{SecretAnswer, SecretDelete, SecretGet, SecretList, SecretNames, SecretPut, SecretStored};

/// How long what is under way when the server ends has for its answer. Who ends the server waits for longer, so that how it ended is on
/// record.
pub const HEAR: Duration = Duration::from_secs(1);
/// Longest that an act waits until a record is kept. Stops a disk that hangs from taking a thread with each act.
const KEPT_WAIT_MAX: Duration = Duration::from_secs(30);

/// One verb, with its arguments.
pub trait Act: Serialize + DeserializeOwned + Send + 'static {
    /// Its address at a server.
    const PATH: &'static str;
    /// Whether it tells of its progress, or has more to say than fits in memory.
    const LONG: bool = false;
    /// What to do for whoever asked a server and does not wait, since that goes on with it; none: it does not.
    const GOES_ON: Option<&'static str> = None;
    /// What it comes to.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Does it, and notes that it was done. It waits for disks and servers: call it where blocking is allowed.
    ///
    /// # Errors
    /// What failed, and the step that repairs it.
    fn act(self, operator: &Operator, tell: Tell<'_>) -> Result<Self::Answer, Failure>;
}

/// What an act came to that changed something.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changed<T> {
    /// What was done.
    pub done: T,
    /// Why the record of that may be lost; none: it is kept.
    pub unrecorded: Option<String>,
}

/// Takes what a long act says on its way. An error ends the act where it can end.
pub type Tell<'a> = &'a mut dyn FnMut(ActProgress) -> Result<(), Failure>;

/// What a long act says on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActProgress {
    /// How far it is.
    Progress {
        /// How many are done.
        done: u64,
        /// Of how many, where that is known.
        total: Option<u64>,
    },
    /// A piece of what it makes.
    Data(Vec<u8>),
}

/// A hand in the store and the secrets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operator(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    storage: Storage,
    store: Held,
    secrets: Option<Secrets>,
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    /// Says `true` once the server ends; none: nobody ends it.
    ending: Option<watch::Receiver<bool>>,
}

/// Who has the store.
#[derive(Debug)]
enum Held {
    Nobody,
    Here(SealedStore),
    Host(Arc<LazyStore>),
}

impl Operator {
    /// For a process without a host. A `store` is open from now on as long as this lives.
    ///
    /// # Errors
    /// As [`Storage::secrets`].
    pub fn new(
        storage: &Storage,
        store: Option<SealedStore>,
        sink: Arc<dyn AuditSink>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let local = store.as_ref().map(SealedStore::secrets);
        Ok(Self(Arc::new(Parts {
            secrets: storage.secrets(local)?,
            store: store.map_or(Held::Nobody, Held::Here),
            storage: storage.clone(),
            sink,
            clock,
            ending: None,
        })))
    }

    /// In the store of a host that runs. Once `ending` says `true`, nothing more begins to wait. What is under way has [`HEAR`] more, and
    /// is on record as given up then. Its last record has as much time again until it is kept; it is queued in any case.
    pub fn of(host: &Host, ending: watch::Receiver<bool>) -> Self {
        Self(Arc::new(Parts {
            storage: host.0.storage.clone(),
            store: host.0.store.clone().map_or(Held::Nobody, Held::Host),
            secrets: host.0.secrets.clone(),
            sink: host.sink(),
            clock: host.clock(),
            ending: Some(ending),
        }))
    }

    /// Does one act of which nobody hears on its way.
    ///
    /// # Errors
    /// As the act.
    pub fn act<A: Act>(&self, act: A) -> Result<A::Answer, Failure> {
        act.act(self, &mut |_| Ok(()))
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.0.storage
    }

    fn store(&self) -> Result<SealedStore, Failure> {
        match &self.0.store {
            Held::Here(store) => Ok(store.clone()),
            Held::Host(store) => store.sealed(),
            // Says which line is missing.
            Held::Nobody => self
                .0
                .storage
                .memory()
                .and_then(|_| Err(Failure::internal("the store was not opened"))),
        }
    }

    fn secrets(&self) -> Result<&Secrets, Failure> {
        self.0.secrets.as_ref().ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                "there is no place for secrets: the configuration has neither [memory] nor [secrets]",
            )
            .with_hint("`aral memory keygen master.key`, then in aral.toml, [memory.master_key]: file = \"master.key\"")
        })
    }

    /// After secrets were changed in the store itself: nobody is given a copy of what was there before.
    fn forget_secrets(&self) {
        if let Some(secrets) = &self.0.secrets {
            secrets.forget_local();
        }
    }

    /// Nothing is done that cannot be recorded.
    fn check_recorded(&self) -> Result<(), Failure> {
        Ok(self.0.sink.available()?)
    }

    /// Waits until there is room for what is recorded next.
    fn wait_for_room(&self) -> Result<(), Failure> {
        self.check_recorded()?;
        match self.0.sink.room() {
            None => Ok(()),
            // Nothing is under way meanwhile.
            Some(room) => Ok(self.wait(Duration::ZERO, room)??),
        }
    }

    fn record(&self, kind: EventKind) {
        self.0.sink.record(self.event(kind));
    }

    /// Puts on record how an act ended that changes something, and waits until that is kept. Where it may be lost, what was done, or why
    /// it was not, is not lost with it: perhaps nothing else says that any more.
    fn changed<T>(&self, ended: Result<T, Failure>, last: EventKind) -> Result<Changed<T>, Failure> {
        // What the disk said is for the operator, who asked for this.
        let reason = |failure: Failure| failure.internal.unwrap_or(failure.message);
        let unrecorded = self.record_kept(last).err().map(reason);
        match (ended, unrecorded) {
            (Ok(done), unrecorded) => Ok(Changed { done, unrecorded }),
            (Err(failure), None) => Err(failure),
            (Err(failure), Some(reason)) => Err(Failure {
                message: format!("{}; and the record of that may be lost: {reason}", failure.message),
                ..failure
            }),
        }
    }

    /// Puts on record what was read, and hands it out once that is kept.
    fn handed_out<T>(&self, read: Result<T, Failure>, noted: EventKind) -> Result<T, Failure> {
        let kept = self.record_kept(noted);
        let answer = read?;
        kept?;
        Ok(answer)
    }

    /// Records it, and waits until it is kept as safely as the log promises: before something is handed out or moved.
    fn record_kept(&self, kind: EventKind) -> Result<(), Failure> {
        self.record_kept_within(KEPT_WAIT_MAX, kind)
    }

    fn record_kept_within(&self, longest: Duration, kind: EventKind) -> Result<(), Failure> {
        let kept = self.0.sink.append(self.event(kind));
        let waited = self.wait_begun(HEAR, async move { tokio::time::timeout(longest, kept).await })?;
        waited.unwrap_or_else(|_elapsed| {
            let reason = format!("its disk took nothing for {} s", longest.as_secs());
            Err(SinkUnavailable { reason })
        })?;
        Ok(())
    }

    fn event(&self, kind: EventKind) -> Event {
        Event {
            at: self.0.clock.now(),
            trace: None,
            kind,
        }
    }

    /// Waits for what is asynchronous, and once the server ends no longer than `still`; where it ends already, that is not even begun. On
    /// a runtime of its own: where that of the server is shut down, no time passes any more, and what waits for it panics. What is
    /// started on it ends with it, which [`SecretSource`](aral_contract::SecretSource) says to who makes one.
    fn wait<T>(&self, still: Duration, future: impl Future<Output = T>) -> Result<T, Failure> {
        if self.0.ending.as_ref().is_some_and(|ending| *ending.borrow()) {
            return Err(ends());
        }
        self.wait_begun(still, future)
    }

    /// The same for what has begun: it has this time also where the server ends already.
    fn wait_begun<T>(&self, still: Duration, future: impl Future<Output = T>) -> Result<T, Failure> {
        let runtime = threads::runtime(None).map_err(threads::refused)?;
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                done = future => Ok(done),
                () = self.ended(still) => Err(ends()),
            }
        });
        // A write that was given up may hang.
        runtime.shutdown_background();
        done
    }

    /// Completes when the server ends, and `still` has passed since.
    async fn ended(&self, still: Duration) {
        if let Some(mut ending) = self.0.ending.clone() {
            let is_told = ending.wait_for(|ends| *ends).await.is_ok();
            if is_told {
                return tokio::time::sleep(still).await;
            }
        }
        // Nobody is there who would say so.
        std::future::pending().await
    }
}

fn ends() -> Failure {
    Failure::new(Code::Unavailable, "the server ends")
}

#[cfg(test)]
mod tests;
