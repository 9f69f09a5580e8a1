//! What a call can cost, put aside under the limit of its capability until it is known what it did cost.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::charge::Charge;
use super::{Limits, Place};

/// Cost that is put aside. What was not used is given back when this is dropped: all of it before the call begins, nothing
/// once it has begun, until it is known what it cost. A caller who gives a call up pays what it could have cost.
#[derive(Debug)]
pub(crate) struct Reservation {
    limits: Arc<Limits>,
    /// None: the call costs nothing.
    aside: Option<(Charge, Place)>,
    cost_micro: AtomicU64,
}

impl Reservation {
    pub(super) fn new(limits: &Arc<Limits>, aside: Option<(Charge, Place)>) -> Arc<Self> {
        Arc::new(Self {
            limits: Arc::clone(limits),
            aside,
            cost_micro: AtomicU64::new(0),
        })
    }

    /// The call begins.
    pub(crate) fn begin(&self) {
        self.cost_micro.store(u64::MAX, Ordering::Release);
    }

    /// The call ended, and cost so much.
    pub(crate) fn settle(&self, cost_micro: u64) {
        self.cost_micro.store(cost_micro, Ordering::Release);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some((charge, place)) = self.aside else { return };
        let cost = u32::try_from(*self.cost_micro.get_mut()).unwrap_or(u32::MAX);
        if let Some(amount) = NonZeroU32::new(charge.amount.get().saturating_sub(cost)) {
            self.limits.give_back(Charge { amount, ..charge }, place);
        }
    }
}
