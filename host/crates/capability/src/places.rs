//! How many of something the guests of the host may have at once: all of them together, and those of one persona. It does not
//! know what of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::PersonaId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    share: usize,
    /// Of the personas that have places, or wait for some.
    own: Mutex<BTreeMap<PersonaId, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// So many, of which the guests of one persona may have `share`.
    pub(crate) fn new(all: usize, share: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            share: share.min(all),
            own: Mutex::default(),
        }
    }

    /// Waits for a place; none: there will be none any more. One of the persona's own comes first: whoever has taken all of
    /// those waits without keeping anybody else from one.
    pub(crate) async fn take(&self, persona: &PersonaId) -> Option<Place> {
        let own = self.own(persona).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// A place, if there is one now.
    pub(crate) fn take_now(&self, persona: &PersonaId) -> Option<Place> {
        let own = self.own(persona).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// How many are left now for a persona: of its own, and of those of all.
    pub(crate) fn left(&self, persona: &PersonaId) -> (usize, usize) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = own.get(persona).map_or(self.share, |own| own.available_permits());
        (own, self.all.available_permits())
    }

    fn own(&self, persona: &PersonaId) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = own.get(persona) {
            return Arc::clone(places);
        }
        // Each place holds those that it is one of. What only the map holds says nothing that a new one would not say.
        own.retain(|_, places| Arc::strong_count(places) > 1);
        let places = Arc::new(Semaphore::new(self.share));
        own.insert(persona.clone(), Arc::clone(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// A place, if there is one now: who waits for one and who does not gets the same.
    fn now(places: &Places, persona: &str) -> Option<Place> {
        let persona = persona.parse().unwrap();
        let waited = places.take(&persona).now_or_never().flatten().is_some();
        let place = places.take_now(&persona);
        assert_eq!(place.is_some(), waited);
        place
    }

    #[test]
    fn a_persona_has_its_share_and_no_more() {
        for (all, share, own) in [(1, 2, 1), (2, 2, 2), (3, 2, 2), (256, 64, 64)] {
            let places = Places::new(all, share);
            let taken: Vec<Place> = std::iter::from_fn(|| now(&places, "one")).take(300).collect();
            assert_eq!(taken.len(), own, "of {all}");
            let left = |persona: &str| places.left(&persona.parse().unwrap());
            assert_eq!((left("one"), left("two")), ((0, all - own), (own, all - own)));
            assert_eq!(now(&places, "two").is_some(), all > own);
            drop(taken);
            assert_eq!(left("one"), (own, all));
            assert!(now(&places, "one").is_some());
        }
    }

    #[test]
    fn all_personas_together_have_no_more_than_there_are() {
        let places = Places::new(8, 2);
        let taken: Vec<Place> = (0..9)
            .filter_map(|number| now(&places, &format!("persona-{number}")))
            .collect();
        assert_eq!(taken.len(), 8);
    }

    #[test]
    fn nothing_is_kept_of_personas_that_have_no_place() {
        let places = Places::new(8, 2);
        let kept = || places.own.lock().unwrap().len();
        let taken = now(&places, "there");
        for number in 0..100 {
            assert!(now(&places, &format!("gone-{number}")).is_some());
        }
        assert_eq!(kept(), 2, "the one that has a place, and the last");
        drop(taken);
        assert!(now(&places, "another").is_some());
        assert_eq!(kept(), 1);
    }
}
