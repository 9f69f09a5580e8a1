//! The queue alone: who waits, who is told, and what is lost when nobody writes.

use std::task::Poll;

use aral_contract::event::LifecycleChange;
use aral_contract::{EventKind, Sensitive, TraceId};

use super::*;
use crate::repeats::Repeats;
use crate::testing::{Listener, TestClock, blinder, event, start};

/// A queue for two that nobody empties.
fn shared(durability: Durability) -> (Arc<Shared>, Arc<TestClock>) {
    shared_of(2, durability)
}

/// The same for so many.
fn shared_of(queue_max: usize, durability: Durability) -> (Arc<Shared>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let state = State::new(0, Repeats::new(5, Duration::from_secs(60)), queue_max);
    let log = LogId::from_bytes([1; 16]);
    let shared = Shared::new(log, durability, Arc::clone(&clock) as _, blinder(), queue_max, state);
    (Arc::new(shared), clock)
}

fn empty(shared: &Shared) -> usize {
    let count = shared.take_queue(&mut shared.lock(), Vec::new()).len();
    shared.announce();
    count
}

fn recorded(seq: u64) -> Poll<Result<AppendOutcome, SinkUnavailable>> {
    let log = LogId::from_bytes([1; 16]);
    Poll::Ready(Ok(AppendOutcome::Recorded(RecordReference { log, seq })))
}

/// Asks once.
async fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(|context| match future.take() {
        Some(future) => Poll::Ready(future.poll(context)),
        None => Poll::Pending,
    })
    .await
}

#[tokio::test]
async fn a_full_queue_makes_tasks_wait_and_gives_numbers_in_order() {
    let (shared, _clock) = shared(Durability::Async);
    for seq in 0..2 {
        let mut append = std::pin::pin!(shared.append(event("fits")));
        assert_eq!(poll(append.as_mut()).await, recorded(seq));
    }
    let mut waiting = std::pin::pin!(shared.append(event("waits")));
    assert_eq!(poll(waiting.as_mut()).await, Poll::Pending);
    drop(shared.append(event("gives up")));
    assert_eq!(shared.lock().queue.len(), 3, "who gives up is recorded, beyond the end");
    assert_eq!(empty(&shared), 3);
    assert_eq!(poll(waiting.as_mut()).await, recorded(3));
}

#[test]
fn a_full_queue_makes_threads_wait() {
    let (shared, _clock) = shared(Durability::Async);
    let thread = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || (0..5).for_each(|number| shared.record(event(&number.to_string())))
    });
    let mut seen = 0;
    while seen < 5 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(shared.lock().queue.len() <= 2);
        seen += empty(&shared);
    }
    thread.join().unwrap();
    let state = shared.lock();
    assert_eq!((state.next, state.lost), (5, 0));
}

#[test]
fn a_full_queue_takes_no_thread_from_tasks() {
    // On a thread of the runtime, in a task that stays on its thread, and on the thread that runs it all.
    type Record = fn(&Arc<Shared>) -> tokio::runtime::Runtime;
    let all_threads: Record = |shared| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let shared = Arc::clone(shared);
                runtime.spawn(async move { shared.record(event(&number.to_string())) })
            })
            .collect();
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        runtime
    };
    let local: Record = |shared| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let tasks = tokio::task::LocalSet::new();
        let five = async { (0..5).for_each(|number| shared.record(event(&number.to_string()))) };
        runtime.block_on(tasks.run_until(five));
        runtime
    };
    let one_thread: Record = |shared| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { (0..5).for_each(|number| shared.record(event(&number.to_string()))) });
        runtime
    };
    for record in [all_threads, local, one_thread] {
        let (shared, _clock) = shared(Durability::Async);
        let _runtime = record(&shared);
        let state = shared.lock();
        assert_eq!((state.queue.len(), state.next, state.lost), (5, 5, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_begins_waits_for_room_as_a_task_and_not_for_long() {
    let (shared, _clock) = shared_of(8, Durability::Async);
    (0..5).for_each(|_| shared.record(event("fits")));
    assert!(shared.room().is_none());
    shared.record(event("fits"));
    let mut room = shared.room().expect("the rest is for what is under way");
    assert_eq!(poll(std::pin::Pin::new(&mut room)).await, Poll::Pending);
    (0..2).for_each(|_| shared.record(event("under way")));
    assert_eq!(empty(&shared), 8);
    assert_eq!(room.await, Ok(()));
    assert!(shared.room().is_none());
    (0..6).for_each(|_| shared.record(event("fits")));
    let begun = tokio::time::Instant::now();
    let unavailable = shared.room().unwrap().await.unwrap_err();
    assert!(unavailable.reason.contains("took nothing for 5 s"), "{unavailable}");
    let waited = begun.elapsed();
    assert!(waited >= ROOM_PATIENCE && waited < ROOM_PATIENCE * 2, "{waited:?}");
    // Who knows that nothing is written does not wait.
    shared.lock().condition = Condition::Failing("gone".to_owned());
    assert_eq!(shared.room().unwrap().await.unwrap_err().reason, "gone");
    assert_eq!(begun.elapsed(), waited);
}

#[test]
fn what_waited_too_long_for_a_log_that_cannot_be_written_is_counted() {
    let (shared, clock) = shared(Durability::Async);
    (0..2).for_each(|_| shared.record(event("fits")));
    shared.lock().condition = Condition::Failing("the disk is gone".to_owned());
    let thread = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || shared.record(event("waits"))
    });
    std::thread::sleep(Duration::from_millis(50));
    shared.announce();
    assert!(!thread.is_finished(), "it waits while there is hope");
    while !thread.is_finished() {
        clock.advance(ROOM_WAIT_MAX);
        shared.announce();
        std::thread::sleep(Duration::from_millis(5));
    }
    let state = shared.lock();
    assert_eq!((state.queue.len(), state.lost), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waited_too_long_for_a_log_that_cannot_be_written_learns_that() {
    let (shared, _clock) = shared(Durability::Async);
    (0..2).for_each(|_| shared.record(event("fits")));
    let begun = tokio::time::Instant::now();
    let mut slow = std::pin::pin!(shared.append(event("waits")));
    let waited = tokio::time::timeout(ROOM_WAIT_MAX * 3, slow.as_mut()).await;
    assert!(waited.is_err(), "a log that is slow and written is waited for");
    shared.lock().condition = Condition::Failing("gone".to_owned());
    assert_eq!(slow.await.unwrap_err().reason, "gone");
    assert!(begun.elapsed() < ROOM_WAIT_MAX * 5);
    let state = shared.lock();
    assert_eq!((state.queue.len(), state.lost), (2, 1));
}

#[tokio::test]
async fn sync_asks_the_disk_for_what_somebody_waits_for() {
    let (shared, _clock) = shared(Durability::Sync);
    drop(shared.append(event("nobody waits")));
    shared.record(event("nobody waits"));
    assert_eq!(shared.lock().flush_to, 0);
    let mut waits = std::pin::pin!(shared.append(event("waits for room and the disk")));
    assert_eq!(poll(waits.as_mut()).await, Poll::Pending);
    assert_eq!(empty(&shared), 2);
    assert_eq!(poll(waits.as_mut()).await, Poll::Pending);
    assert_eq!(shared.lock().flush_to, 3);
}

#[tokio::test]
async fn sync_waits_for_the_disk_and_learns_that_it_says_no() {
    let (shared, _clock) = shared(Durability::Sync);
    let mut first = std::pin::pin!(shared.append(event("one")));
    assert_eq!(poll(first.as_mut()).await, Poll::Pending);
    shared.lock().durable = 1;
    shared.announce();
    assert_eq!(poll(first.as_mut()).await, recorded(0));
    let mut second = std::pin::pin!(shared.append(event("two")));
    // What is written into the reserve is written: only new work is refused.
    shared.lock().condition = Condition::Reserve("full".to_owned());
    assert_eq!(poll(second.as_mut()).await, Poll::Pending);
    assert!(shared.lock().check_available().is_err());
    shared.lock().condition = Condition::Failing("gone".to_owned());
    shared.announce();
    let Poll::Ready(Err(error)) = poll(second.as_mut()).await else {
        panic!("it still waits")
    };
    assert_eq!(error.reason, "gone");
}

#[tokio::test]
async fn what_waited_for_a_log_that_has_ended_is_counted() {
    let (shared, _clock) = shared(Durability::Async);
    (0..2).for_each(|_| shared.record(event("fits")));
    let waits = shared.append(event("nobody asks"));
    let mut asks = Box::pin(shared.append(event("asks")));
    assert_eq!(poll(asks.as_mut()).await, Poll::Pending);
    shared.lock().stopped = true;
    shared.announce();
    assert!(asks.await.is_err());
    drop(waits);
    let state = shared.lock();
    assert_eq!(
        (state.queue.len(), state.lost),
        (2, 2),
        "nobody writes what is queued now"
    );
}

#[test]
fn a_record_holds_what_the_event_says_and_nothing_sensitive() {
    let (shared, _clock) = shared(Durability::Async);
    shared.record(Event {
        at: start(),
        trace: Some(TraceId::from_bytes([2; 16])),
        kind: EventKind::Lifecycle {
            change: LifecycleChange::KeyRotated,
            subject: "store".to_owned(),
            digest: None,
        },
    });
    let mut body = Vec::new();
    shared.lock().queue[0].write(&mut body);
    let body = String::from_utf8(body).unwrap();
    assert_eq!(
        body,
        r#"{"at":"2026-01-01T00:00:00Z","trace":"02020202020202020202020202020202","event":{"type":"lifecycle","change":"key_rotated","subject":"store"}}"#
    );
    let user = Sensitive::new("hunter2".to_owned());
    assert!(!format!("{user:?}").contains("hunter2"));
}

#[test]
fn nobody_waits_for_whoever_reads_the_log_of_the_host() {
    let (shared, _clock) = shared(Durability::Sync);
    shared.lock().stopping = true;
    let held = Arc::new(Mutex::new(Vec::new()));
    let (queue, hears) = (Arc::clone(&shared), Arc::clone(&held));
    // Whether somebody holds the lock of the queue while the operator's log is written.
    let listener = Listener(move |_: &tracing::Event<'_>| hears.lock().unwrap().push(queue.state.try_lock().is_err()));
    tracing::subscriber::with_default(listener, || {
        shared.record(event("lost"));
        drop(shared.append(event("lost")));
        shared.set_condition(Condition::Failing("gone".to_owned()));
        shared.set_condition(Condition::Failing("gone".to_owned()));
    });
    assert_eq!(*held.lock().unwrap(), [false; 3], "three lines, and no lock");
    assert_eq!(shared.lock().lost, 2);
}
