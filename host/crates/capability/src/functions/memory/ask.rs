//! One operation on the store: counted, within its deadline, off the executor's threads, and recorded where it is known how
//! it ended. What the store says of itself goes to the log; the guest learns what it can act on.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::event::MemoryOperation;
use aral_contract::id::Namespace;
use aral_contract::{Classification, EventKind, Permission};
use aral_memory::{RecordName, RecordStore, StoreError};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::super::{beyond, reason_of};
use crate::bindings::aral::capability::types::Error;
use crate::call::{CallRecord, sanitised};

/// Longest reason of the store that is passed on, in bytes.
const REASON_BYTES_MAX: usize = 512;

const NO_STORE: &str = "this host has no memory store: add to aral.toml, [memory.master_key]: file = \"master.key\"";

/// One step as it is recorded.
pub(super) struct Step {
    pub(super) operation: MemoryOperation,
    /// None: a listing.
    pub(super) name: Option<RecordName>,
    /// Of the record as it is written, or as it was found.
    pub(super) classification: Option<Classification>,
    /// Size of the value, or number of names.
    pub(super) amount: u64,
}

impl Step {
    pub(super) fn new(operation: MemoryOperation, name: Option<RecordName>) -> Self {
        Self {
            operation,
            name,
            classification: None,
            amount: 0,
        }
    }

    fn permission(&self) -> Permission {
        match self.operation {
            MemoryOperation::Read | MemoryOperation::List => Permission::MemoryRead,
            MemoryOperation::Write | MemoryOperation::Delete => Permission::MemoryWrite,
        }
    }
}

/// Why an operation was not done.
pub(super) enum Failed {
    /// The store says no.
    Store(StoreError),
    /// The host does, in the words for the guest.
    Told(Error),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

/// Does `act` on the store. It fills in what the steps came to.
pub(super) async fn ask<T: Send + 'static>(
    call: &Arc<CallRecord>,
    namespace: &Namespace,
    mut steps: Vec<Step>,
    act: impl FnOnce(&dyn RecordStore, &Namespace, &mut [Step]) -> Result<T, Failed> + Send + 'static,
) -> Result<T, Error> {
    count(call, namespace, &steps)?;
    let first = steps.first().map_or(Permission::MemoryRead, Step::permission);
    let Some(memory) = call.frame.services.memory.clone() else {
        record(call, namespace, None, &steps, Some(NO_STORE));
        return Err(Error::Unavailable(NO_STORE.to_owned()));
    };
    let limit_ms = call.frame.grant.limits.memory_ms;
    let now = Instant::now();
    // A limit too far away to be a moment does not end before the call does.
    let deadline = now
        .checked_add(Duration::from_millis(limit_ms))
        .unwrap_or_else(|| now + Duration::from_secs(31_536_000));
    let place = async {
        // The call's own comes first: one that has all of those waits without keeping others of its persona from a place.
        let own = Arc::clone(&call.store_operations).acquire_owned().await.ok()?;
        Some((own, memory.places.take(&call.frame.grant.persona).await?))
    };
    let Ok(Some(place)) = timeout_at(deadline, place).await else {
        let reason = format!("the store is busy and did not begin within `memory_ms`, {limit_ms} ms");
        record(call, namespace, None, &steps, Some(&reason));
        return Err(Error::Limit(reason));
    };
    let (teller, namespace) = (Arc::clone(call), namespace.clone());
    let span = call.span(first);
    // From here on it happens, whether or not the guest still waits: the event is recorded where that is known.
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        let done = act(&*memory.store, &namespace, &mut steps);
        let done = done.map_err(|failed| match failed {
            Failed::Store(error) => told(&teller, &error),
            Failed::Told(error) => error,
        });
        let refused = done.as_ref().err().map(reason_of);
        record(&teller, &namespace, Some(&*memory.store), &steps, refused);
        done
    });
    match timeout_at(deadline, done).instrument(span).await {
        Ok(Ok(done)) => done,
        Ok(Err(panicked)) => {
            tracing::error!(trace = %call.context.trace, %panicked, "the memory store panicked");
            Err(Error::Internal("the memory store failed".to_owned()))
        }
        Err(_) => Err(Error::Limit(format!(
            "the store did not answer within `memory_ms`, {limit_ms} ms; what was to be written may have been written: raise it under [limits] in capability.toml, and in the policy"
        ))),
    }
}

/// Counts the steps; each of them is an event later, so that what is not counted cannot happen unrecorded.
fn count(call: &CallRecord, namespace: &Namespace, steps: &[Step]) -> Result<(), Error> {
    let wanted = u64::try_from(steps.len()).unwrap_or(u64::MAX);
    if call.take_memory_calls(wanted) {
        return Ok(());
    }
    let max = call.frame.grant.limits.memory_calls;
    let reason = format!(
        "the call may touch {max} memory records: raise memory_calls under [limits] in capability.toml, and in the policy"
    );
    let permission = steps.first().map_or(Permission::MemoryWrite, Step::permission);
    Err(beyond(call, permission, namespace.as_str(), reason))
}

fn record(
    call: &CallRecord,
    namespace: &Namespace,
    store: Option<&dyn RecordStore>,
    steps: &[Step],
    refused: Option<&str>,
) {
    for step in steps {
        let record = store
            .zip(step.name.as_ref())
            .map(|(store, name)| store.tag(namespace, name));
        call.event(EventKind::MemoryAccess {
            capability: Some(call.frame.grant.capability.clone()),
            persona: Some(call.frame.grant.persona.clone()),
            operation: step.operation,
            namespace: namespace.clone(),
            record,
            classification: step.classification,
            amount: step.amount,
            refused: refused.map(str::to_owned),
        });
    }
}

/// What the guest may know of a failure.
fn told(call: &CallRecord, error: &StoreError) -> Error {
    let text = || sanitised(&error.to_string(), REASON_BYTES_MAX);
    match error {
        StoreError::Precondition { .. } | StoreError::Invalid(_) | StoreError::Cursor => Error::InvalidInput(text()),
        StoreError::Quota { .. } => Error::Limit(format!(
            "{}: raise bytes_max or records_max of [permissions.\"memory:write\"] in capability.toml, and of [policy.memory] in aral.toml",
            text()
        )),
        StoreError::Corrupt { .. }
        | StoreError::Full { .. }
        | StoreError::Io { .. }
        | StoreError::NotAStore { .. }
        | StoreError::Held { .. }
        | StoreError::Busy
        | StoreError::Version { .. }
        | StoreError::WrongKey { .. }
        | StoreError::Master(_)
        | StoreError::KeyService(_)
        | StoreError::EpochKey(_)
        | StoreError::NoEpochKey(_)
        | StoreError::Key(_)
        | StoreError::Files(_) => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(trace = %call.context.trace, %error, source, "the memory store failed");
            Error::Unavailable("the memory store failed; the log of the host says why".to_owned())
        }
    }
}
