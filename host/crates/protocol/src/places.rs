//! Places that are counted: for connections, and for requests. How many there are can be changed while some are taken. It
//! knows nothing of either.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often it is looked whether all have come back.
const LOOK: Duration = Duration::from_millis(20);

/// So many places. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Arc<Semaphore>,
    /// How many there are, or will be once those that are too many have come back.
    count: Mutex<usize>,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        let count = count.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            free: Arc::new(Semaphore::new(count)),
            count: Mutex::new(count),
        }))
    }

    /// A place, once there is one; none: there will be none for ever.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.free).acquire_owned().await.ok()
    }

    /// A place, if there is one now.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.free).try_acquire_owned().ok()
    }

    /// How many are taken; at most as many as there are now.
    pub(crate) fn taken(&self) -> usize {
        let count = *self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.saturating_sub(self.0.free.available_permits())
    }

    /// Whether none is taken.
    pub(crate) fn are_free(&self) -> bool {
        self.taken() == 0
    }

    /// Ends once none is taken.
    pub(crate) async fn freed(&self) {
        while !self.are_free() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// From now on there are so many. Nobody is sent away: of those that are taken beyond that, the next that come back go.
    /// Needs a tokio runtime.
    pub(crate) fn resize(&self, count: usize) {
        let count = count.min(Semaphore::MAX_PERMITS);
        let mut held = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *held, count);
        if let Some(more) = count.checked_sub(before) {
            self.0.free.add_permits(more);
            return;
        }
        let less = before.saturating_sub(count);
        let left = less.saturating_sub(self.0.free.forget_permits(less));
        if left > 0 {
            let free = Arc::clone(&self.0.free);
            tokio::spawn(async move {
                for _ in 0..left {
                    if let Ok(place) = free.acquire().await {
                        place.forget();
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_all_of_them_waits_for_the_last() {
        let places = Places::new(2);
        let taken = places.try_take().unwrap();
        assert_eq!(places.taken(), 1);
        let soon = || tokio::time::timeout(LOOK * 10, places.freed());
        assert!(soon().await.is_err());
        drop(taken);
        assert!(soon().await.is_ok());
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn there_are_as_many_as_was_said_last() {
        let places = Places::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| places.try_take().unwrap()).collect();
        assert!(places.try_take().is_none());
        places.resize(4);
        taken.push(places.try_take().unwrap());
        assert!(places.try_take().is_none());
        places.resize(2);
        tokio::task::yield_now().await;
        for _ in 0..2 {
            taken.pop();
            tokio::task::yield_now().await;
            assert!(places.try_take().is_none(), "there were too many");
        }
        taken.pop();
        assert!(places.try_take().is_some());
        drop(taken);
        places.resize(1);
        let _one = places.take().await.unwrap();
        assert!(places.try_take().is_none());
    }
}
