//! Randomness. The only place that asks the system for it, so that one place decides what happens when there is none:
//! keys are refused, trace ids, which are names and no secrets, are made from the time and a counter.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use aral_contract::{Clock as _, Digest, SpanId, TraceId};
use zeroize::Zeroizing;

use crate::clock::SystemClock;

/// Trace ids drawn from the system at once. A call to the system for each would be a noticeable part of a short call.
const TRACE_IDS_AT_ONCE: usize = 32;
const TRACE_ID_BYTES: usize = 16;

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct EntropyError(#[source] getrandom::Error);

/// Fills `bytes` from the system's generator.
#[expect(clippy::disallowed_methods, reason = "this module owns the generator")]
pub fn fill(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(EntropyError)
}

/// A seed or key, erased when dropped.
pub fn seed32() -> Result<Zeroizing<[u8; 32]>, EntropyError> {
    let mut seed = Zeroizing::new([0; 32]);
    fill(seed.as_mut())?;
    Ok(seed)
}

/// A name for one request. Never all zeros, which W3C Trace Context forbids.
pub fn trace_id() -> TraceId {
    thread_local! {
        static POOL: Cell<([[u8; TRACE_ID_BYTES]; TRACE_IDS_AT_ONCE], usize)> =
            const { Cell::new(([[0; TRACE_ID_BYTES]; TRACE_IDS_AT_ONCE], TRACE_IDS_AT_ONCE)) };
    }
    let (mut pool, mut next) = POOL.get();
    if next >= TRACE_IDS_AT_ONCE {
        if fill(pool.as_flattened_mut()).is_err() {
            return fallback_trace_id();
        }
        next = 0;
    }
    let id = pool.get(next).copied().unwrap_or_default();
    POOL.set((pool, next.saturating_add(1)));
    if id == [0; TRACE_ID_BYTES] {
        return fallback_trace_id();
    }
    TraceId::from_bytes(id)
}

/// A name for one step within a request. Never all zeros, which W3C Trace Context forbids.
pub fn span_id() -> SpanId {
    let mut id = [0; 8];
    for (to, from) in id.iter_mut().zip(trace_id().as_bytes()) {
        *to = *from;
    }
    if id == [0; 8] {
        id = [1; 8];
    }
    SpanId::from_bytes(id)
}

/// Unique in this process and most likely elsewhere, though not unpredictable.
fn fallback_trace_id() -> TraceId {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let moment = SystemClock::new().now().as_nanosecond();
    let digest = Digest::of(format!("{}/{moment}/{count}", std::process::id()).as_bytes());
    let mut id = [0; TRACE_ID_BYTES];
    for (to, from) in id.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    TraceId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn trace_ids_differ_across_refills_and_threads() {
        let here: HashSet<TraceId> = (0..TRACE_IDS_AT_ONCE * 4).map(|_| trace_id()).collect();
        let there: HashSet<TraceId> = std::thread::spawn(|| (0..TRACE_IDS_AT_ONCE * 4).map(|_| trace_id()).collect())
            .join()
            .unwrap();
        assert_eq!(here.len(), TRACE_IDS_AT_ONCE * 4);
        assert!(here.is_disjoint(&there));
        assert_ne!(fallback_trace_id(), fallback_trace_id());
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(*seed32().unwrap(), *seed32().unwrap());
    }
}
