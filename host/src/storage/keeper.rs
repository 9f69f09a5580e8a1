//! Work that an open store needs now and then, on a thread of its own: a little at a time, so that nobody waits for it. It
//! ends with the store, and a process does not wait for it. It knows nothing of what is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use aral_contract::failure::chain;
use aral_memory::StoreError;

/// Pause between two steps while there is more to do.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the end of the host waits for steps. Stops a disk or a key service that hangs from keeping it from its end.
pub(super) const LEAVE: Duration = Duration::from_secs(2);
pub(super) const LEAVE_STEP: Duration = Duration::from_millis(5);

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until the next time.
    Wait,
    /// More of the same, after a short pause.
    Soon,
}

/// One step. It is short, or looks at the flag now and then and ends when that is set.
pub(crate) type Step = Box<dyn FnMut(&AtomicBool) -> Result<Next, StoreError> + Send>;

/// A piece of work: what, and how often.
pub(crate) struct Work {
    /// For the thread and the log.
    pub(crate) name: &'static str,
    pub(crate) every: Duration,
    pub(crate) step: Step,
}

/// A thread that does the work until this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    stopping: Arc<AtomicBool>,
    /// Dropped first: the thread then wakes up and ends.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. What the step holds is let go when this is dropped.
    pub(crate) fn start(work: Work) -> Result<Self, StoreError> {
        let (stop, stopped) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name(format!("aral-{}", work.name))
            .spawn(move || {
                run(work, &flag, |wait| {
                    stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
                })
            })
            .map_err(|source| StoreError::Io {
                action: "start a thread for its upkeep",
                source: source.into(),
            })?;
        Ok(Self {
            stopping,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends them, and waits for the steps that are under way, for a while. One that hangs is left behind, with what it holds.
    pub(crate) fn end(mut keepers: Vec<Self>) {
        keepers.iter_mut().for_each(Self::stop);
        let mut waited = Duration::ZERO;
        while waited < LEAVE && keepers.iter().any(Self::is_there) {
            std::thread::sleep(LEAVE_STEP);
            waited = waited.saturating_add(LEAVE_STEP);
        }
        for keeper in keepers.iter_mut().filter(|keeper| keeper.is_there()) {
            tracing::error!("a thread for the upkeep of the store hangs, and is left behind");
            drop(keeper.thread.take());
        }
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.stop.take());
    }

    fn is_there(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Keeper {
    /// Waits for the step that is under way, so that the store can close when this returns.
    fn drop(&mut self) {
        self.stop();
        if let Some(Err(_panicked)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("a thread for the upkeep of the store had ended by a panic");
        }
    }
}

/// Does the steps, each after a wait; `passes` waits, and says whether there is another step then.
fn run(mut work: Work, stopping: &AtomicBool, mut passes: impl FnMut(Duration) -> bool) {
    let (mut wait, mut failing) = (work.every, false);
    while passes(wait) {
        wait = work.every;
        match (work.step)(stopping) {
            Ok(Next::Wait) => failing = false,
            Ok(Next::Soon) => {
                failing = false;
                wait = PAUSE.min(work.every);
            }
            // Whatever ends in the middle because it was told to is no failure, and what fails for hours is told once.
            Err(error) if !failing && !stopping.load(Ordering::Acquire) => {
                failing = true;
                tracing::error!(work = work.name, error = %chain(&error), "the upkeep of the store failed");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    fn until(done: impl Fn() -> bool) {
        for _ in 0..2000 {
            if done() {
                return;
            }
            std::thread::sleep(SHORT);
        }
        panic!("it did not happen within 10 s");
    }

    /// Each step does what `step` says of its number.
    fn start(every: Duration, step: fn(usize) -> Result<Next, StoreError>) -> (Arc<AtomicUsize>, Keeper) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let step: Step = Box::new(move |_| step(counted.fetch_add(1, Ordering::SeqCst)));
        let name = "test";
        (count, Keeper::start(Work { name, every, step }).unwrap())
    }

    #[test]
    fn it_works_now_and_then_and_ends_when_it_is_dropped() {
        let (count, keeper) = start(SHORT, |_| Ok(Next::Wait));
        until(|| count.load(Ordering::SeqCst) >= 3);
        drop(keeper);
        // The step, and what it holds, are gone with the thread.
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn how_often_is_what_was_asked_for_and_nobody_waits_that_long_for_the_end() {
        let (count, keeper) = start(Duration::from_secs(3600), |_| Ok(Next::Wait));
        std::thread::sleep(SHORT * 10);
        drop(keeper);
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn while_there_is_more_it_does_not_wait_for_the_next_time() {
        for (every, soon) in [(Duration::from_secs(2), PAUSE), (SHORT, SHORT)] {
            let mut done = 0;
            let step: Step = Box::new(move |_| {
                done += 1;
                Ok(if done < 3 { Next::Soon } else { Next::Wait })
            });
            let mut waits = Vec::new();
            let passes = |wait| {
                waits.push(wait);
                waits.len() < 5
            };
            let name = "test";
            run(Work { name, every, step }, &AtomicBool::new(false), passes);
            assert_eq!(waits, [every, soon, soon, every, every]);
        }
    }

    #[test]
    fn a_failure_does_not_end_it() {
        let (count, _keeper) = start(SHORT, |_| Err(StoreError::Cursor));
        until(|| count.load(Ordering::SeqCst) >= 3);
    }

    #[test]
    fn a_long_step_is_told_to_end() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&begun);
        let step: Step = Box::new(move |stopping| {
            counted.fetch_add(1, Ordering::SeqCst);
            until(|| stopping.load(Ordering::Acquire));
            Err(StoreError::Cursor)
        });
        let (name, every) = ("test", SHORT);
        let keeper = Keeper::start(Work { name, every, step }).unwrap();
        until(|| begun.load(Ordering::SeqCst) == 1);
        drop(keeper);
        assert_eq!(Arc::strong_count(&begun), 1);
    }
}
