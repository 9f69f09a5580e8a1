//! The place of a request among those under way, and what its answer weighs until its last byte is sent. It knows no connection.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use aral_contract::Failure;
use aral_contract::id::CallerName;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::Problem;
use crate::tally;
use crate::unsent::{Unsent, Weight};

/// A place among the requests under way. It travels with the answer to where its last byte is sent.
#[derive(Debug, Clone)]
pub(crate) struct RequestPlace(Arc<Held>);

/// A place that somebody else holds, or held.
#[derive(Debug, Clone, Default)]
pub(crate) struct OtherPlace(Weak<Held>);

impl OtherPlace {
    /// The same place; none: nobody holds it any more.
    pub(crate) fn join(&self) -> Option<RequestPlace> {
        self.0.upgrade().map(RequestPlace)
    }
}

#[derive(Debug)]
enum Held {
    /// One of all, and what its answer has in bytes.
    Request {
        weight: Weight,
        /// None: it was let go.
        permit: Mutex<Option<OwnedSemaphorePermit>>,
        /// The same among those of the caller, once it is known.
        share: Mutex<Option<tally::Held<CallerName, Unsent>>>,
        /// That of the request whose answer is sent here, if it is another one.
        beside: OnceLock<RequestPlace>,
    },
    /// It is one of its caller's alone.
    Stream { _share: tally::Held<CallerName> },
}

impl RequestPlace {
    /// `weight` is that of its answer.
    pub(crate) fn new(permit: OwnedSemaphorePermit, weight: Weight) -> Self {
        Self(Arc::new(Held::Request {
            weight,
            permit: Mutex::new(Some(permit)),
            share: Mutex::default(),
            beside: OnceLock::new(),
        }))
    }

    /// The place of an answer that is none of the requests under way.
    pub(crate) fn of(share: tally::Held<CallerName>) -> Self {
        Self(Arc::new(Held::Stream { _share: share }))
    }

    /// For whoever may join it.
    pub(crate) fn other(&self) -> OtherPlace {
        OtherPlace(Arc::downgrade(&self.0))
    }

    /// It is one of this caller's from now on. It is an error if this one does not read its answers.
    pub(crate) fn share(&self, taken: tally::Held<CallerName, Unsent>) -> Result<(), Failure> {
        match &*self.0 {
            Held::Request { weight, share, .. } => weight.owned(lock(share).get_or_insert(taken).beside()),
            Held::Stream { .. } => Ok(()),
        }
    }

    /// Its answer has so many bytes, which wait to be sent. It is an error if there is no room for them.
    pub(crate) fn weigh(&self, bytes: u64) -> Result<(), Failure> {
        match &*self.0 {
            Held::Request { weight, .. } => weight.set(bytes),
            // What is sent on it is small.
            Held::Stream { .. } => Ok(()),
        }
    }

    /// Its answer has no more than so many bytes from now on.
    pub(crate) fn lighten(&self, bytes: u64) {
        match &*self.0 {
            Held::Request { weight, .. } => weight.lower(bytes),
            Held::Stream { .. } => {}
        }
    }

    /// It is no place any more, neither of all nor of its caller. Its answer weighs for both what it weighs.
    pub(crate) fn let_go(&self) {
        if let Held::Request { permit, share, .. } = &*self.0 {
            drop(lock(permit).take());
            if let Some(share) = lock(share).as_mut() {
                share.let_go();
            }
        }
    }

    /// The answer to the request of this other one is sent here: both are there until it is.
    pub(crate) fn keep(&self, other: RequestPlace) {
        match &*self.0 {
            Held::Request { beside, .. } => {
                let _kept_once = beside.set(other);
            }
            // What is sent on it is news.
            Held::Stream { .. } => {}
        }
    }

    /// The answer, whose bytes count if all of it is there, or why there is no room for it. What its fields say happened all the
    /// same, and nobody is told to come again for what would happen twice then.
    pub(crate) fn bear(&self, mut response: Response) -> Response {
        let ran = response.extensions_mut().remove::<Ran>().is_some();
        let bytes = response.body().size_hint().exact();
        if let Some(Err(failure)) = bytes.map(|bytes| self.weigh(bytes)) {
            let problem = Problem::from(failure);
            let problem = if ran { problem.for_good() } else { problem };
            *response.body_mut() = Body::empty();
            response.extensions_mut().insert(problem);
        }
        response
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says of an answer that it is that of a call which, were it asked for again, would run again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::places::Places;
    use crate::tally::Tally;

    #[test]
    fn what_is_let_go_is_no_place_and_weighs_for_its_caller() {
        let bounds = Bounds {
            unsent_bytes_per_caller_max: 10,
            ..Bounds::default()
        };
        let (places, all, callers) = (
            Places::new(1),
            Unsent::default(),
            Tally::<CallerName, Unsent>::default(),
        );
        let caller: CallerName = "somebody".parse().unwrap();
        let place = || {
            let place = RequestPlace::new(places.try_take().unwrap(), Weight::new(&all, &bounds));
            place.share(callers.take(&caller, 1).unwrap()).map(|()| place)
        };
        let first = place().unwrap();
        first.weigh(10).unwrap();
        assert!(places.try_take().is_none() && callers.take(&caller, 1).is_err());
        first.let_go();
        let refused = place().unwrap_err();
        assert!(refused.message.contains("this caller"), "{}", refused.message);
        drop(first);
        place().unwrap();
    }
}
