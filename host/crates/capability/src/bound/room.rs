//! Lets a guest go on only while the log has room for what it does: what its host functions record waits for nothing, so that
//! the guest has to. It knows nothing of guests.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::ready;
use std::time::Duration;

use aral_contract::AuditSink;
use aral_contract::event::RoomFuture;
use tokio::time::Instant;

/// How long it is until room is asked for again where there will be none soon.
const AGAIN: Duration = Duration::from_millis(500);

/// A guest that stood for more than one in so many parts of its time is not judged by what was left of it. Stops a disk that
/// hangs from opening the breakers of capabilities that work, if only they are given their time.
const STOOD_PART: u32 = 4;

/// How much of its time a guest stands.
#[derive(Debug)]
pub(super) struct Stands {
    begun: Instant,
    stood: Mutex<Stood>,
}

#[derive(Debug, Default)]
struct Stood {
    /// None: it does not stand now.
    since: Option<Instant>,
    before: Duration,
}

impl Stands {
    /// Its time begins.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            stood: Mutex::default(),
        }
    }

    /// Whether it is not its own doing that its time is over now: it stands, or stood for too much of it.
    pub(super) fn is_why(&self) -> bool {
        let stood = self.lock();
        stood.since.is_some() || stood.before.saturating_mul(STOOD_PART) > self.begun.elapsed()
    }

    fn stop(&self) {
        self.lock().since = Some(Instant::now());
    }

    fn go_on(&self) {
        let mut stood = self.lock();
        if let Some(since) = stood.since.take() {
            stood.before = stood.before.saturating_add(since.elapsed());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stood> {
        self.stood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `guest` comes to, which stands while `sink` has no room; as a task, and until its limits end it. It is asked for no room
/// but for what it has `recorded`, which only grows: whoever began it has asked before, and who records nothing stands for
/// nobody.
pub(super) fn given<F: Future>(
    sink: &Arc<dyn AuditSink>,
    recorded: impl Fn() -> u64,
    stands: &Stands,
    mut guest: Pin<&mut F>,
) -> impl Future<Output = F::Output> {
    let mut waits: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    let mut had_room = recorded();
    poll_fn(move |context| {
        let now = recorded();
        if waits.is_none()
            && now != had_room
            && let Some(room) = sink.room()
        {
            waits = Some(Box::pin(has_room(Arc::clone(sink), room)));
            stands.stop();
        }
        if let Some(room) = &mut waits {
            ready!(room.as_mut().poll(context));
            stands.go_on();
            waits = None;
        }
        had_room = now;
        guest.as_mut().poll(context)
    })
}

async fn has_room(sink: Arc<dyn AuditSink>, room: RoomFuture) {
    let mut room = Some(room);
    while let Some(waits) = room {
        if waits.await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
        room = sink.room();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use aral_contract::Event;
    use aral_contract::event::SinkUnavailable;
    use futures::FutureExt as _;

    use super::*;

    /// Has room, or none for long.
    #[derive(Debug, Default)]
    struct Crowded(AtomicBool);

    impl AuditSink for Crowded {
        fn record(&self, _event: Event) {}

        fn room(&self) -> Option<RoomFuture> {
            let reason = "its disk hangs".to_owned();
            let none: RoomFuture = Box::pin(std::future::ready(Err::<(), _>(SinkUnavailable { reason })));
            self.0.load(Ordering::Relaxed).then_some(none)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_stands_while_the_log_has_no_room() {
        let crowded = Arc::new(Crowded::default());
        let sink: Arc<dyn AuditSink> = Arc::<Crowded>::clone(&crowded);
        let turns = AtomicU64::new(0);
        let mut guest = std::pin::pin!(async {
            for _ in 0..3 {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let stands = Stands::begin();
        let recorded = || turns.load(Ordering::Relaxed);
        let mut given = std::pin::pin!(given(&sink, recorded, &stands, guest.as_mut()));
        assert_eq!(given.as_mut().now_or_never(), None);
        assert!(turns.load(Ordering::Relaxed) == 1 && !stands.is_why());
        crowded.0.store(true, Ordering::Relaxed);
        let waited = tokio::time::timeout(AGAIN * 10, given.as_mut()).await;
        assert!(waited.is_err() && turns.load(Ordering::Relaxed) == 1 && stands.is_why());
        crowded.0.store(false, Ordering::Relaxed);
        given.await;
        assert!(turns.load(Ordering::Relaxed) == 3);
        let stood = stands.begun.elapsed();
        assert!(stands.is_why(), "it stood for all of its time");
        tokio::time::advance(stood * STOOD_PART).await;
        assert!(!stands.is_why());
    }
}
