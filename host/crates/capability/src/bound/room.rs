//! Lets a guest go on only while the log has room for what it does: what its host functions record waits for nothing, so that
//! the guest has to. It knows nothing of guests.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::ready;
use std::time::Duration;

use aral_contract::AuditSink;
use aral_contract::event::RoomFuture;

/// How long it is until room is asked for again where there will be none soon.
const AGAIN: Duration = Duration::from_millis(500);

/// Whether a guest stands.
#[derive(Debug, Default)]
pub(super) struct Stands(AtomicBool);

impl Stands {
    /// Also what ends it then is not its own doing.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `guest` comes to, which stands while `sink` has no room; as a task, and until its limits end it.
pub(super) fn given<F: Future>(
    sink: &Arc<dyn AuditSink>,
    stands: &Stands,
    mut guest: Pin<&mut F>,
) -> impl Future<Output = F::Output> {
    let mut waits: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    poll_fn(move |context| {
        if waits.is_none()
            && let Some(room) = sink.room()
        {
            waits = Some(Box::pin(has_room(Arc::clone(sink), room)));
        }
        stands.0.store(waits.is_some(), Ordering::Relaxed);
        if let Some(room) = &mut waits {
            ready!(room.as_mut().poll(context));
            stands.0.store(false, Ordering::Relaxed);
            waits = None;
        }
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
    use std::sync::atomic::AtomicUsize;

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
        let turns = AtomicUsize::new(0);
        let mut guest = std::pin::pin!(async {
            for _ in 0..3 {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let stands = Stands::default();
        let mut given = std::pin::pin!(given(&sink, &stands, guest.as_mut()));
        assert_eq!(given.as_mut().now_or_never(), None);
        assert!(turns.load(Ordering::Relaxed) == 1 && !stands.is_so());
        crowded.0.store(true, Ordering::Relaxed);
        let waited = tokio::time::timeout(AGAIN * 10, given.as_mut()).await;
        assert!(waited.is_err() && turns.load(Ordering::Relaxed) == 1 && stands.is_so());
        crowded.0.store(false, Ordering::Relaxed);
        given.await;
        assert!(turns.load(Ordering::Relaxed) == 3 && !stands.is_so());
    }
}
