//! What a call can cost, put aside under the limit of its capability until it is known what it did cost.

use std::sync::{Arc, OnceLock};

use aral_orchestration::dispatch::CallPhase;
use tokio::sync::watch;

use super::charge::Charge;
use super::{Counter, Limits};

/// Cost that is put aside. When this is dropped, what was used of it counts from then on: nothing while the guest does not run, all
/// of it once it does, until it is known what it cost. A caller who gives up a call whose guest runs pays what it could have
/// cost; one who only waited has used nothing that others pay for.
#[derive(Debug)]
pub(crate) struct Reservation {
    limits: Arc<Limits>,
    /// None: the call costs nothing.
    aside: Option<(Charge, Counter)>,
    /// How far the call has come.
    phase: OnceLock<watch::Receiver<CallPhase>>,
    /// What it cost, once it has ended.
    cost_micro: OnceLock<u64>,
}

impl Reservation {
    pub(super) fn new(limits: &Arc<Limits>, aside: Option<(Charge, Counter)>) -> Arc<Self> {
        Arc::new(Self {
            limits: Arc::clone(limits),
            aside,
            phase: OnceLock::new(),
            cost_micro: OnceLock::new(),
        })
    }

    /// The call begins, and is told here how far it comes.
    pub(crate) fn begin(&self, phase: watch::Receiver<CallPhase>) {
        let _begins_once = self.phase.set(phase);
    }

    /// The call ended, and cost so much.
    pub(crate) fn settle(&self, cost_micro: u64) {
        let _ends_once = self.cost_micro.set(cost_micro);
    }

    /// What was used.
    fn used_micro(&self) -> u64 {
        let runs = |phase: &watch::Receiver<CallPhase>| *phase.borrow() == CallPhase::Running;
        match self.cost_micro.get() {
            Some(cost) => *cost,
            None if self.phase.get().is_some_and(runs) => u64::MAX,
            None => 0,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some((charge, counter)) = self.aside else { return };
        let used = u32::try_from(self.used_micro()).unwrap_or(u32::MAX);
        self.limits.end(charge, used.min(charge.amount.get()), counter);
    }
}
