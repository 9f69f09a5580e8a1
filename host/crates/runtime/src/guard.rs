//! The account of one call: memory, tables and instances of all its modules together, and the epochs it computed in.
//! wasmtime asks before each growth and at each epoch. It knows no clock: an epoch is whatever the engine counts.

use aral_contract::Limits;
use aral_contract::limits::EPOCH_MS;
use wasmtime::ResourceLimiter;

/// Linear memories of one call. A pooling slot is taken for each, so one guest cannot take those of its neighbours.
pub const MEMORIES_PER_CALL_MAX: usize = 4;
/// Tables of one call, for the same reason.
pub const TABLES_PER_CALL_MAX: usize = 16;

/// The limit that a guest ran into. wasmtime carries it out of the guest as the cause of the trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// `memory_bytes`.
    #[error("the memories of the call exceed `memory_bytes`")]
    Memory,
    /// `table_elements`.
    #[error("the tables of the call exceed `table_elements`")]
    Table,
    /// `compute_ms`.
    #[error("the call computed for longer than `compute_ms`")]
    Compute,
}

/// The account of one call. Lives in the data of the call's store.
#[derive(Debug)]
pub struct Guard {
    memory_bytes_max: u64,
    memory_bytes: u64,
    memory_bytes_peak: u64,
    table_elements_max: u64,
    table_elements: u64,
    instances_max: usize,
    ticks_max: u64,
    ticks: u64,
    starved: bool,
}

/// Store data that holds a [`Guard`].
pub trait Guarded: Send + 'static {
    /// The account, for wasmtime to write.
    fn guard(&mut self) -> &mut Guard;
    /// The account, to read.
    fn guard_ref(&self) -> &Guard;
}

impl Guarded for Guard {
    fn guard(&mut self) -> &mut Guard {
        self
    }
    fn guard_ref(&self) -> &Guard {
        self
    }
}

impl Guard {
    /// A fresh account under these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            table_elements_max: limits.table_elements,
            table_elements: 0,
            instances_max: usize::try_from(limits.instances).unwrap_or(usize::MAX),
            ticks_max: limits.compute_ms.div_ceil(EPOCH_MS),
            ticks: 0,
            starved: false,
        }
    }

    /// The largest sum of all linear memories so far, in bytes.
    pub fn memory_bytes_peak(&self) -> u64 {
        self.memory_bytes_peak
    }

    /// The epochs in which the guest was seen computing, times the length of an epoch. Waiting in host functions or
    /// for a thread does not count.
    pub fn compute_ms(&self) -> u64 {
        self.ticks.saturating_mul(EPOCH_MS)
    }

    /// Whether the machine refused memory that the limits allow.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Never more than what one slot of the pool holds: a memory that the pool cannot grow must end as this limit,
    /// not as a growth that fails without a reason.
    pub(crate) fn cap_memory(&mut self, slot_bytes: u64) {
        self.memory_bytes_max = self.memory_bytes_max.min(slot_bytes);
    }

    /// As above, for tables.
    pub(crate) fn cap_tables(&mut self, slot_elements: u64) {
        self.table_elements_max = self.table_elements_max.min(slot_elements);
    }

    /// An epoch ended while the guest computed.
    pub(crate) fn tick(&mut self) -> Result<(), LimitReached> {
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks > self.ticks_max {
            Err(LimitReached::Compute)
        } else {
            Ok(())
        }
    }
}

/// What a sum becomes when one part of it grows, or nothing if that exceeds the limit.
fn grown(sum: u64, current: usize, desired: usize, limit: u64) -> Option<u64> {
    let more = u64::try_from(desired.saturating_sub(current)).ok()?;
    sum.checked_add(more).filter(|sum| *sum <= limit)
}

impl ResourceLimiter for Guard {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let Some(sum) = grown(self.memory_bytes, current, desired, self.memory_bytes_max) else {
            // A trap and not a failed `memory.grow`: a guest that tries again and again would burn its other budgets
            // and be blamed for the wrong one.
            return Err(LimitReached::Memory.into());
        };
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_bytes = sum;
        self.memory_bytes_peak = self.memory_bytes_peak.max(sum);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The limits allowed it, so the machine is out of memory. The guest sees a failed `memory.grow`, and what it
        // does then is not its fault.
        tracing::warn!(%error, "the machine has no memory for a guest");
        self.starved = true;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let Some(sum) = grown(self.table_elements, current, desired, self.table_elements_max) else {
            return Err(LimitReached::Table.into());
        };
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = sum;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn tables(&self) -> usize {
        TABLES_PER_CALL_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_CALL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(&Limits {
            memory_bytes: 100,
            table_elements: 10,
            compute_ms: 2 * EPOCH_MS,
            ..Limits::default()
        })
    }

    #[test]
    fn memories_are_summed() {
        let mut guard = guard();
        assert!(guard.memory_growing(0, 60, None).unwrap());
        assert!(guard.memory_growing(0, 40, None).unwrap());
        let error = guard.memory_growing(40, 41, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&LimitReached::Memory));
        assert_eq!(guard.memory_bytes_peak(), 100);
    }

    #[test]
    fn growth_past_the_own_maximum_fails_without_a_trap_and_is_not_counted() {
        let mut guard = guard();
        assert!(!guard.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(guard.memory_bytes_peak(), 0);
        assert!(!guard.table_growing(0, 6, Some(5)).unwrap());
        assert!(guard.table_growing(0, 10, Some(10)).unwrap());
    }

    #[test]
    fn tables_are_summed() {
        let mut guard = guard();
        assert!(guard.table_growing(0, 6, None).unwrap());
        let error = guard.table_growing(0, 5, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&LimitReached::Table));
    }

    #[test]
    fn sums_do_not_wrap() {
        assert_eq!(grown(u64::MAX, 0, usize::MAX, u64::MAX), None);
        assert_eq!(grown(5, 10, 3, 5), Some(5));
    }

    #[test]
    fn a_slot_that_is_smaller_than_the_limit_is_the_limit() {
        let mut guard = guard();
        guard.cap_memory(50);
        guard.cap_tables(5);
        assert!(guard.memory_growing(0, 51, None).is_err());
        assert!(guard.table_growing(0, 6, None).is_err());
    }

    #[test]
    fn the_budget_of_epochs_ends() {
        let mut guard = guard();
        assert_eq!((guard.tick(), guard.tick()), (Ok(()), Ok(())));
        assert_eq!(guard.tick(), Err(LimitReached::Compute));
        assert_eq!(guard.compute_ms(), 3 * EPOCH_MS);
    }
}
