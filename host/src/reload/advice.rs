//! What is only said beside what has happened already. Whoever asks waits a while for it and no longer: it may be about a file whose disk
//! never answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Looks on a thread of its own, one at a time: a disk that hangs keeps one thread, however often somebody asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Advice {
    is_looking: Arc<AtomicBool>,
}

/// One look. It ends also where it panics.
struct Looking(Arc<AtomicBool>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Advice {
    /// What `look` finds. None: it has not ended in time, or an earlier one has not.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.is_looking.swap(true, Ordering::AcqRel) {
            return None;
        }
        let looking = Looking(Arc::clone(&self.is_looking));
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
        thread.spawn(work).ok()?;
        said.recv_timeout(patience).ok()
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
        assert_eq!(advice.ask(LONG, || 1), Some(1));
        assert_eq!(advice.ask(LONG, || 2), Some(2), "the first one has ended");
        let (end, ended) = channel::<()>();
        assert_eq!(advice.ask(Duration::ZERO, move || ended.recv().is_ok()), None);
        let (begin, begun) = channel();
        assert_eq!(
            advice.ask(LONG, move || begin.send(())),
            None,
            "the other one still looks"
        );
        assert!(begun.recv().is_err(), "it did not even begin");
        drop(end);
        while advice.ask(LONG, || ()).is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_look_that_panics_keeps_nobody_from_the_next_one() {
        let advice = Advice::default();
        assert_eq!(advice.ask(LONG, || -> u8 { panic!("a look that fails") }), None);
        assert_eq!(advice.ask(LONG, || 1), Some(1));
    }
}
