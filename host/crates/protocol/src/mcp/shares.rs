//! Places of which each caller has so many, so that one caller cannot take those of the others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aral_contract::id::CallerName;
use tokio::sync::OwnedSemaphorePermit;

use crate::places::Places;

/// Places by caller.
#[derive(Debug)]
pub(super) struct Shares(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    callers: HashMap<CallerName, Places>,
}

impl Shares {
    /// So many for each.
    pub(super) fn new(max: usize) -> Self {
        Self(Mutex::new(Inner {
            max,
            callers: HashMap::new(),
        }))
    }

    /// A place, or none at once.
    pub(super) fn take(&self, caller: &CallerName) -> Option<OwnedSemaphorePermit> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { max, callers } = &mut *inner;
        if !callers.contains_key(caller) {
            // Whoever has taken nothing is not remembered.
            callers.retain(|_, places| !places.are_free());
        }
        callers
            .entry(caller.clone())
            .or_insert_with(|| Places::new(*max))
            .try_take()
    }

    /// From now on so many for each. Needs a tokio runtime.
    pub(super) fn resize(&self, max: usize) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.max = max;
        inner.callers.values().for_each(|places| places.resize(max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_caller_has_its_own_places() {
        let shares = Shares::new(2);
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let held = [shares.take(&one).unwrap(), shares.take(&one).unwrap()];
        assert!(shares.take(&one).is_none());
        assert!(shares.take(&other).is_some());
        shares.resize(3);
        assert!(shares.take(&one).is_some());
        drop(held);
        assert!(shares.take(&one).is_some());
        assert!(shares.take(&"third".parse().unwrap()).is_some());
        assert!(
            shares.0.lock().unwrap().callers.len() <= 1,
            "those without places are forgotten"
        );
    }
}
