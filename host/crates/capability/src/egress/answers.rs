//! The addresses that names had a moment ago: of so many names, few of each, and none for longer than its name servers said. It
//! asks nobody, and does not know which address may be dialled.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Names whose addresses of one family are kept. Stops guests from filling the memory of the host with names that they make up.
const CACHED_ANSWERS_MAX: usize = 1024;

#[derive(Debug)]
struct Answer {
    addresses: Option<Vec<IpAddr>>,
    until: Instant,
}

/// Answers that are kept. How many addresses each has is up to whoever keeps it.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<BTreeMap<String, Answer>>);

impl Answers {
    /// The addresses of a name, or that it has none. None: nobody has said of late.
    pub(super) fn get(&self, name: &str, now: Instant) -> Option<Option<Vec<IpAddr>>> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(name).filter(|answer| now < answer.until)?;
        Some(answer.addresses.clone())
    }

    /// Keeps the addresses of a name until then, or that it has none. Where there is no room, what is over goes, or else what is
    /// over first.
    pub(super) fn keep(&self, name: &str, addresses: Option<Vec<IpAddr>>, until: Instant, now: Instant) {
        if until <= now {
            return;
        }
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= CACHED_ANSWERS_MAX && !answers.contains_key(name) {
            answers.retain(|_, answer| now < answer.until);
        }
        if answers.len() >= CACHED_ANSWERS_MAX && !answers.contains_key(name) {
            let first = answers.iter().min_by_key(|(_, answer)| answer.until);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                answers.remove(&first);
            }
        }
        answers.insert(name.to_owned(), Answer { addresses, until });
    }

    /// Keeps nothing of a name any more.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(last: u8) -> Option<Vec<IpAddr>> {
        Some(vec![IpAddr::from([192, 0, 2, last])])
    }

    #[test]
    fn an_answer_is_kept_for_as_long_as_it_is_good() {
        let (answers, now) = (Answers::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        answers.keep("a.test", addresses(1), later(10), now);
        answers.keep("none.test", None, later(5), now);
        answers.keep("moves.test", addresses(2), now, now);
        assert_eq!(answers.get("a.test", later(9)), Some(addresses(1)));
        assert_eq!(answers.get("a.test", later(10)), None);
        assert_eq!(answers.get("none.test", later(4)), Some(None));
        assert_eq!(answers.get("moves.test", now), None);
        assert_eq!(answers.get("other.test", now), None);
        answers.keep("a.test", addresses(3), later(20), later(10));
        assert_eq!(answers.get("a.test", later(19)), Some(addresses(3)));
        answers.forget("a.test");
        assert_eq!(answers.get("a.test", later(19)), None);
    }

    #[test]
    fn only_so_many_answers_are_kept_and_those_that_are_good_for_longest() {
        let (answers, now) = (Answers::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        let kept = || answers.0.lock().unwrap().len();
        answers.keep("short.test", addresses(1), later(10), now);
        answers.keep("long.test", addresses(2), later(60), now);
        for number in 2..CACHED_ANSWERS_MAX + 10 {
            answers.keep(&format!("name-{number}.test"), addresses(3), later(30), now);
            assert!(kept() <= CACHED_ANSWERS_MAX);
        }
        assert_eq!(kept(), CACHED_ANSWERS_MAX);
        assert_eq!(answers.get("short.test", now), None);
        assert_eq!(answers.get("long.test", now), Some(addresses(2)));
        // One that is there already needs no other's room, and all that is over makes room at once.
        answers.keep("long.test", addresses(4), later(60), now);
        assert_eq!(kept(), CACHED_ANSWERS_MAX);
        answers.keep("new.test", addresses(5), later(90), later(40));
        assert_eq!(kept(), 2);
    }
}
