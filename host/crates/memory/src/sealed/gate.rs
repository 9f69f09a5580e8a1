//! Who may use the database beside whom: a few who read, step by step, or the one who writes a batch. It knows no database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// Steps of reading that go on at once. Each looks whether the log is to be synced when its turn has come, and may write after that:
/// as a rule up to 0.8 MB, which is a leaf of chunks in two halves (0.3 MB), the index above it, and a leaf from the segment that sled
/// empties for the left half and for the index (0.3 MB each); about 1.6 MB where the leaf takes in a neighbour first and is divided then.
/// The log is lost if one segment of it is not on the disk and the one after the next is. A whole segment lies between (2 MB), and that
/// third one is handed on when it is full, or before that with all there is: who does that needs no lane. Two steps write less than one
/// segment as a rule, and less than two where both join and divide, which beside that is too much, and the one case that stays open.
/// With more lanes neither is so.
const LANES: usize = 2;

/// Held by many who read or by the one who writes. Whoever reads takes it first, then a lane, and both for one step alone.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Whoever waits to be alone goes before those who come to read after that.
    beside: RwLock<()>,
    lanes: [Mutex<()>; LANES],
    /// Has those who wait for a lane wait for different ones.
    turns: AtomicUsize,
}

/// The right to make a step.
#[must_use = "others go on when it is dropped"]
pub(super) struct Pass<'a> {
    _lane: MutexGuard<'a, ()>,
    _beside: RwLockReadGuard<'a, ()>,
}

impl Gate {
    /// Waits until nobody writes a batch, and for a lane.
    pub(super) fn pass(&self) -> Pass<'_> {
        let beside = self.beside.read().unwrap_or_else(PoisonError::into_inner);
        Pass {
            _lane: self.free_lane().unwrap_or_else(|| self.next_lane()),
            _beside: beside,
        }
    }

    /// Waits until nobody makes a step. Nobody begins one until what is returned is dropped.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.beside.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_lane(&self) -> Option<MutexGuard<'_, ()>> {
        self.lanes.iter().find_map(|lane| match lane.try_lock() {
            Ok(lane) => Some(lane),
            Err(TryLockError::Poisoned(lane)) => Some(lane.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    fn next_lane(&self) -> MutexGuard<'_, ()> {
        let [even, odd] = &self.lanes;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let lane = if turn.is_multiple_of(LANES) { even } else { odd };
        lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody is alone, or waits to be.
    #[cfg(test)]
    pub(super) fn is_wanted_alone(&self) -> bool {
        matches!(self.beside.try_read(), Err(TryLockError::WouldBlock))
    }

    /// How many make a step now.
    #[cfg(test)]
    pub(super) fn passing(&self) -> usize {
        let is_taken = |lane: &&Mutex<()>| matches!(lane.try_lock(), Err(TryLockError::WouldBlock));
        self.lanes.iter().filter(is_taken).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_go_on_at_once_and_no_third() {
        let gate = Gate::default();
        let one = gate.pass();
        let other = gate.pass();
        assert_eq!(gate.passing(), 2);
        assert!(gate.free_lane().is_none());
        drop(one);
        assert!(gate.free_lane().is_some());
        drop(other);
        assert_eq!(gate.passing(), 0);
    }

    #[test]
    fn whoever_comes_to_a_gate_that_is_full_or_closed_gets_through_later() {
        const THREADS: usize = 8;
        const STEPS: usize = 200;
        let gate = Gate::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..STEPS {
                        let pass = gate.pass();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(pass);
                    }
                });
            }
            for _ in 0..STEPS {
                let _alone = gate.alone();
                assert_eq!(inside.load(Ordering::SeqCst), 0);
            }
        });
        assert!(most.load(Ordering::SeqCst) <= LANES);
    }
}
