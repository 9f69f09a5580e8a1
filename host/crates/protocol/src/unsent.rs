//! How many bytes the answers have that are not sent yet: those to one caller, and those to all. It knows no answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aral_contract::{Code, Failure};

use crate::bounds::Bounds;
use crate::meters;

/// Of one caller, or of all of them. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unsent(Arc<AtomicU64>);

impl Unsent {
    fn has_room(&self, max: u64) -> bool {
        self.0.load(Ordering::Relaxed) < max
    }

    /// So many more for an answer that has `before` of them, if the others have fewer than `max`. One has room where nothing else
    /// waits, however large it is: nobody is refused for ever.
    fn add(&self, bytes: u64, before: u64, max: u64) -> bool {
        let more = |held: u64| (held.saturating_sub(before) < max).then(|| held.saturating_add(bytes));
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one answer has of them, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: AtomicU64,
    all: Unsent,
    own: OnceLock<Unsent>,
    all_max: u64,
    own_max: u64,
}

impl Weight {
    /// Nothing, of what `all` have.
    pub(crate) fn new(all: &Unsent, bounds: &Bounds) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            all: all.clone(),
            own: OnceLock::new(),
            all_max: bounds.unsent_bytes_max,
            own_max: bounds.unsent_bytes_per_caller_max,
        }
    }

    /// It is an answer to this caller from now on. It is an error if so much waits already that nothing should be made which waits
    /// as well.
    pub(crate) fn owned(&self, own: &Unsent) -> Result<(), Failure> {
        let own = self.own.get_or_init(|| own.clone());
        if !own.has_room(self.own_max) {
            return Err(self.own_is_full());
        }
        if !self.all.has_room(self.all_max) {
            return Err(self.all_are_full());
        }
        Ok(())
    }

    /// The answer has so many bytes from now on. It is an error if there is no room for them, and then it has as many as before.
    pub(crate) fn set(&self, bytes: u64) -> Result<(), Failure> {
        let before = self.bytes.load(Ordering::Relaxed);
        let more = bytes.saturating_sub(before);
        if more > 0 {
            let own = self.own.get();
            if own.is_some_and(|own| !own.add(more, before, self.own_max)) {
                return Err(self.own_is_full());
            }
            if !self.all.add(more, before, self.all_max) {
                if let Some(own) = own {
                    own.remove(more);
                }
                return Err(self.all_are_full());
            }
            self.bytes.fetch_add(more, Ordering::Relaxed);
        } else {
            self.lower(bytes);
        }
        Ok(())
    }

    /// The answer has no more than so many bytes from now on.
    pub(crate) fn lower(&self, bytes: u64) {
        let before = self.bytes.load(Ordering::Relaxed);
        self.give_back(before.saturating_sub(bytes));
    }

    fn give_back(&self, bytes: u64) {
        let less = |held: u64| held.checked_sub(bytes).filter(|_| bytes > 0);
        if self
            .bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
        {
            self.all.remove(bytes);
            if let Some(own) = self.own.get() {
                own.remove(bytes);
            }
        }
    }

    fn own_is_full(&self) -> Failure {
        let failure = full("unsent_bytes_per_caller_max", "this caller", self.own_max);
        failure.with_hint(
            "read the answers that are on their way, or aral.toml, [serve.limits]: unsent_bytes_per_caller_max",
        )
    }

    fn all_are_full(&self) -> Failure {
        // It is not for this caller to read those of others.
        full("unsent_bytes_max", "all callers together", self.all_max).with_hint("try again later")
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.give_back(self.bytes.load(Ordering::Relaxed));
    }
}

fn full(bound: &'static str, whose: &str, max: u64) -> Failure {
    meters::rate_limited(bound);
    let message = format!("answers of {max} bytes or more wait to be read by {whose}");
    Failure::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the bound that is used up.
    fn refused(result: Result<(), Failure>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn one_answer_has_room_and_those_after_it_what_is_left() {
        let bounds = Bounds {
            unsent_bytes_max: 100,
            unsent_bytes_per_caller_max: 20,
            ..Bounds::default()
        };
        let (all, one, other) = (Unsent::default(), Unsent::default(), Unsent::default());
        let weight = |own: &Unsent| {
            let weight = Weight::new(&all, &bounds);
            weight.owned(own).map(|()| weight)
        };
        let (first, second) = (weight(&one).unwrap(), weight(&one).unwrap());
        first.set(70).unwrap();
        assert!(refused(second.set(1)).contains("this caller"));
        assert!(
            refused(weight(&one).map(drop)).contains("this caller"),
            "nothing more is made"
        );
        second.set(0).unwrap();
        let third = weight(&other).unwrap();
        third.set(19).unwrap();
        // It may grow, since it is the only one of its caller, and then all have no room.
        third.set(170).unwrap();
        third.set(180).unwrap();
        third.set(100).unwrap();
        assert!(refused(weight(&Unsent::default()).map(drop)).contains("all callers"));
        // Less is always taken.
        first.lower(5);
        first.lower(6);
        assert_eq!(all.0.load(Ordering::Relaxed), 105);
        third.set(50).unwrap();
        second.set(10).unwrap();
        assert_eq!(one.0.load(Ordering::Relaxed), 15);
        drop((first, second, third));
        for counted in [all, one, other] {
            assert_eq!(counted.0.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn what_all_have_is_counted_where_nobody_is_known() {
        let bounds = Bounds {
            unsent_bytes_max: 10,
            ..Bounds::default()
        };
        let all = Unsent::default();
        let (first, second) = (Weight::new(&all, &bounds), Weight::new(&all, &bounds));
        first.set(10).unwrap();
        assert!(refused(second.set(1)).contains("all callers"));
        drop(first);
        second.set(1).unwrap();
    }
}
