//! Many who ask for the same secret at once cause one request: the first flies, the others wait for its landing and take
//! what it brings, a failure too. When the first gives up, the next one flies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::{SecretError, SecretReference, SecretValue};
use tokio::sync::MutexGuard;

use super::cache::Cache;
use super::sealed::Sealed;

/// The secrets that somebody waits for.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<SecretReference, Arc<Flight>>>);

#[derive(Default)]
struct Flight {
    landed: AtomicU64,
    last: tokio::sync::Mutex<Option<Last>>,
}

/// What the last flight brought.
struct Last {
    /// The generation of the secret when it began.
    generation: u64,
    /// None: it cannot be handed on, and whoever waits asks.
    outcome: Option<Result<Sealed, SecretError>>,
}

/// One who waits. The place is forgotten with the last of them.
pub(super) struct Waiting<'a> {
    flights: &'a Flights,
    place: SecretReference,
    flight: Arc<Flight>,
    landed_before: u64,
    generation: u64,
}

/// The turn of one who waited.
pub(super) struct Landing<'a> {
    flight: &'a Flight,
    last: MutexGuard<'a, Option<Last>>,
    landed_before: u64,
    generation: u64,
}

impl Flights {
    pub(super) fn join(&self, place: &SecretReference, generation: u64) -> Waiting<'_> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = flights.entry(place.clone()).or_default().clone();
        Waiting {
            flights: self,
            place: place.clone(),
            landed_before: flight.landed.load(Ordering::Acquire),
            flight,
            generation,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Waiting<'_> {
    /// Waits for one's turn: at once, if nobody is flying.
    pub(super) async fn wait(&self) -> Landing<'_> {
        Landing {
            last: self.flight.last.lock().await,
            flight: &self.flight,
            landed_before: self.landed_before,
            generation: self.generation,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that of two who leave at once the second sees that it is the last.
        self.flight = Arc::default();
        if flights
            .get(&self.place)
            .is_some_and(|flight| Arc::strong_count(flight) == 1)
        {
            flights.remove(&self.place);
        }
    }
}

impl Landing<'_> {
    /// What a flight brought that was in the air while this one waited. Not one that began before a write that had ended
    /// when this one came: it may bring what was replaced.
    pub(super) fn outcome(&self, cache: &Cache, place: &SecretReference) -> Option<Result<SecretValue, SecretError>> {
        let last = self.last.as_ref()?;
        if self.flight.landed.load(Ordering::Acquire) == self.landed_before || last.generation != self.generation {
            return None;
        }
        match last.outcome.as_ref()? {
            Ok(sealed) => cache.open(place, sealed).map(Ok),
            Err(error) => Some(Err(again(error))),
        }
    }

    /// Hands on what this flight brings.
    pub(super) fn land(
        &mut self,
        cache: &Cache,
        place: &SecretReference,
        generation: u64,
        outcome: &Result<SecretValue, SecretError>,
    ) {
        let outcome = match outcome {
            Ok(value) => cache.seal(place, value).map(Ok),
            Err(error) => Some(Err(again(error))),
        };
        *self.last = Some(Last { generation, outcome });
        self.flight.landed.fetch_add(1, Ordering::AcqRel);
    }
}

/// The same failure for another caller, without what only the log may know.
fn again(error: &SecretError) -> SecretError {
    match error {
        SecretError::NotFound { reference } => SecretError::NotFound {
            reference: reference.clone(),
        },
        SecretError::Unavailable { reference, reason, .. } => SecretError::Unavailable {
            reference: reference.clone(),
            reason: reason.clone(),
            source: None,
        },
        SecretError::Refused { reference, reason } => SecretError::Refused {
            reference: reference.clone(),
            reason: reason.clone(),
        },
        SecretError::Size { reference, bytes } => SecretError::Size {
            reference: reference.clone(),
            bytes: *bytes,
        },
    }
}
