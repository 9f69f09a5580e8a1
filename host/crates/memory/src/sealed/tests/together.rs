//! Writers beside each other: who goes together, and who is told when.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::super::commit::GROUP_MAX;
use super::super::root::Space;
use super::super::work::Work;
use super::*;

/// Nothing that is waited for here takes as long.
const LONG: Duration = Duration::from_secs(30);

/// A store each commit of which stops once its records are applied, says so, and waits to be let go on.
fn stopping(folder: &tempfile::TempDir) -> (SealedStore, Receiver<()>, Sender<()>) {
    let ((stopped, stops), (go_on, goes)) = (channel(), channel::<()>());
    let goes = Mutex::new(goes);
    let steps = Steps::watched(move |step| {
        if step == Step::RecordsApplied {
            stopped.send(()).unwrap();
            goes.lock().unwrap().recv_timeout(LONG).unwrap();
        }
    });
    let store = SealedStore::open(StoreOptions {
        steps,
        ..options(folder, 1)
    });
    (store.unwrap(), stops, go_on)
}

fn putting(store: &SealedStore, name: &'static str, told: &Sender<&'static str>) -> JoinHandle<()> {
    let (store, told) = (store.clone(), told.clone());
    std::thread::spawn(move || {
        put(&store, name, b"value");
        told.send(name).unwrap();
    })
}

fn until_wait(store: &SealedStore, count: usize) {
    while store.0.waiting() != count {
        std::thread::yield_now();
    }
}

#[test]
fn those_who_wait_go_together_and_are_told_while_the_next_one_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, stops, go_on) = stopping(&folder);
    let (told, tells) = channel();
    let writer = store.0.writer().unwrap();
    let before = writer.commit;
    let mut threads: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| putting(&store, name, &told))
        .collect();
    // Who has the turn takes them once he may write.
    until_wait(&store, 3);
    drop(writer);
    stops.recv_timeout(LONG).unwrap();
    assert_eq!(store.0.waiting(), 0);
    threads.push(putting(&store, "later", &told));
    until_wait(&store, 1);
    go_on.send(()).unwrap();
    stops.recv_timeout(LONG).unwrap();
    // The later one has the right to write, and stands still.
    let mut first: Vec<_> = (0..3).map(|_| tells.recv_timeout(LONG).unwrap()).collect();
    first.sort_unstable();
    assert_eq!(first, ["a", "b", "c"]);
    assert!(tells.try_recv().is_err());
    go_on.send(()).unwrap();
    assert_eq!(tells.recv_timeout(LONG).unwrap(), "later");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(store.0.writer().unwrap().commit, before + 2);
}

#[test]
fn a_writer_that_panics_before_all_of_its_requests_were_written_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let failing = StoreOptions {
        steps: Steps::watched(|step| assert!(step != Step::RecordsApplied, "cut off here")),
        ..options(&folder, 1)
    };
    let store = SealedStore::open(failing).unwrap();
    let works = (0..=GROUP_MAX).map(|index| Work::Apply {
        space: Space::Memory,
        namespace: namespace("notes"),
        operations: vec![Operation::Put(write(&format!("name-{index}"), b"value"))],
        quota: Quota::UNLIMITED,
    });
    let works = works.collect();
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.0.submit_all(works)));
    assert!(cut.is_err());
    assert_eq!(store.0.waiting(), 0);
    let (told, tells) = channel();
    let other = store.clone();
    std::thread::spawn(move || {
        let memory = other.memory();
        told.send(memory.put(&namespace("notes"), write("b", b"two"), &Quota::UNLIMITED))
    });
    let refused = tells.recv_timeout(LONG).expect("nobody waits for ever");
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
}
