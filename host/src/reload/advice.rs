//! What is only said beside what has happened already. Whoever asks waits a while for it and no longer: it may be about a file whose disk
//! never answers.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Looks on a thread of its own, one at a time: a disk that hangs keeps one thread, however often somebody asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Advice(Arc<Turn>);

/// Whose turn it is to look.
#[derive(Debug, Default)]
struct Turn {
    is_taken: Mutex<bool>,
    ended: Condvar,
}

/// One look. It ends also where it panics.
struct Looking(Arc<Turn>);

impl Drop for Looking {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.ended.notify_one();
    }
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It has not ended in time, or an earlier look has not.
    Late,
    /// It did not begin, or broke off.
    Failed,
}

impl Advice {
    /// What `look` finds. An earlier look is waited for as long as this one.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unheard> {
        let looking = self.turn(patience).ok_or(Unheard::Late)?;
        let (say, said) = sync_channel(1);
        let work = move || {
            // Dropped in the other order: who is told that this look has ended may begin the next one.
            let (say, looking) = (say, looking);
            let found = look();
            drop(looking);
            // Nobody may be waiting any more.
            let _heard = say.send(found);
        };
        let thread = std::thread::Builder::new().name("aral-advice".to_owned());
        thread.spawn(work).map_err(|_| Unheard::Failed)?;
        said.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Unheard::Late,
            RecvTimeoutError::Disconnected => Unheard::Failed,
        })
    }

    fn turn(&self, patience: Duration) -> Option<Looking> {
        let Turn { is_taken, ended } = &*self.0;
        let taken = is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ended.wait_timeout_while(taken, patience, |is_taken| *is_taken);
        let (mut taken, _in_time) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_free = !std::mem::replace(&mut *taken, true);
        is_free.then(|| Looking(Arc::clone(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_look_that_hangs_is_waited_for_no_longer_and_keeps_one_thread() {
        let advice = Advice::default();
        assert_eq!(advice.ask(LONG, || 1), Ok(1));
        assert_eq!(advice.ask(LONG, || 2), Ok(2), "the first one has ended");
        let (end, ended) = channel::<()>();
        assert_eq!(
            advice.ask(Duration::ZERO, move || ended.recv().is_ok()),
            Err(Unheard::Late)
        );
        let (begin, begun) = channel();
        assert_eq!(
            advice.ask(Duration::from_millis(1), move || begin.send(())),
            Err(Unheard::Late),
            "the other one still looks"
        );
        assert!(begun.recv().is_err(), "it did not even begin");
        drop(end);
        assert_eq!(advice.ask(LONG, || 3), Ok(3));
    }

    #[test]
    fn a_look_that_answers_is_waited_for_by_whoever_asks_meanwhile() {
        let advice = Advice::default();
        let (begin, begun) = channel();
        let first = {
            let advice = advice.clone();
            std::thread::spawn(move || {
                advice.ask(LONG, move || {
                    begin.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    1
                })
            })
        };
        begun.recv().unwrap();
        assert_eq!(advice.ask(LONG, || 2), Ok(2));
        assert_eq!(first.join().unwrap(), Ok(1));
    }

    #[test]
    fn a_look_that_panics_keeps_nobody_from_the_next_one_and_is_not_called_late() {
        let advice = Advice::default();
        assert_eq!(
            advice.ask(LONG, || -> u8 { panic!("a look that fails") }),
            Err(Unheard::Failed)
        );
        assert_eq!(advice.ask(LONG, || 1), Ok(1));
    }
}
