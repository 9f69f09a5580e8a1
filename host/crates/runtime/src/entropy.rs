//! Randomness. The only place that asks the system for it, so that one place decides what happens when there is none:
//! keys are refused, trace ids, which are names and no secrets, are made from the time and a counter.

use std::cell::RefCell;
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
        static POOL: RefCell<Pool> = const { RefCell::new(Pool { ids: [[0; TRACE_ID_BYTES]; TRACE_IDS_AT_ONCE], left: 0 }) };
    }
    let drawn = POOL.with(|pool| pool.try_borrow_mut().ok()?.next());
    match drawn {
        Some(id) if id != [0; TRACE_ID_BYTES] => TraceId::from_bytes(id),
        Some(_) | None => fallback_trace_id(),
    }
}

/// What was drawn at once, the last one first.
struct Pool {
    ids: [[u8; TRACE_ID_BYTES]; TRACE_IDS_AT_ONCE],
    left: usize,
}

impl Pool {
    fn next(&mut self) -> Option<[u8; TRACE_ID_BYTES]> {
        if self.left == 0 {
            fill(self.ids.as_flattened_mut()).ok()?;
            self.left = TRACE_IDS_AT_ONCE;
        }
        self.left = self.left.saturating_sub(1);
        self.ids.get(self.left).copied()
    }
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
