//! When the store is opened, when not again, and when it is let go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use aral_contract::testing::ManualClock;
use aral_memory::record::{Precondition, Write};
use aral_memory::sealed::{Step, Steps};

use super::*;
use crate::storage::keeper::Next;

/// A space that has one answer.
#[derive(Debug)]
struct Marked(&'static str);

impl RecordStore for Marked {
    fn get(&self, _: &Namespace, _: &RecordName) -> Result<Option<Record>, StoreError> {
        Ok(None)
    }

    fn apply(&self, _: &Namespace, _: Vec<Operation>, _: &Quota) -> Result<Vec<Outcome>, StoreError> {
        Ok(vec![Outcome::Absent])
    }

    fn list(&self, _: &Namespace, _: &str, _: Option<&str>, _: usize) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    fn classification(&self, _: &Namespace, _: &RecordName) -> Result<Option<Classification>, StoreError> {
        Ok(None)
    }

    fn usage(&self, _: &Namespace) -> Result<Usage, StoreError> {
        Ok(Usage::default())
    }

    fn namespaces(&self, _: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        Ok(Vec::new())
    }

    fn sweep(&self, _: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }

    fn tag(&self, _: &Namespace, _: &RecordName) -> String {
        self.0.to_owned()
    }
}

struct Lab {
    store: Arc<LazyStore>,
    clock: Arc<ManualClock>,
    opened: Arc<AtomicUsize>,
}

/// A store that cannot be opened the first `failures` times.
fn lab(failures: usize) -> Lab {
    let (clock, opened) = (Arc::new(ManualClock::new()), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&opened);
    let open = move || {
        if count.fetch_add(1, Ordering::SeqCst) < failures {
            return Err(store_failure(StoreError::Held {
                path: "/store".into(),
                holder: "process 7".to_owned(),
            }));
        }
        let kept = Arc::clone(&count);
        Ok(Opened {
            sealed: None,
            memory: Arc::new(Marked("memory")),
            secrets: Arc::new(Marked("secrets")),
            upkeep: vec![Work {
                name: "test",
                every: Duration::from_secs(3600),
                step: Box::new(move |_| {
                    kept.load(Ordering::SeqCst);
                    Ok(Next::Wait)
                }),
            }],
        })
    };
    let store = LazyStore::new(Box::new(open), Arc::clone(&clock) as _);
    Lab { store, clock, opened }
}

fn ask(store: &dyn RecordStore) -> Result<Option<Record>, StoreError> {
    store.get(&"notes".parse().unwrap(), &"todo".parse().unwrap())
}

fn tag(store: &dyn RecordStore) -> String {
    store.tag(&"notes".parse().unwrap(), &"todo".parse().unwrap())
}

#[test]
fn the_first_call_opens_it_once_and_each_space_is_its_own() {
    let lab = lab(0);
    let (memory, secrets) = (lab.store.space(Space::Memory), lab.store.space(Space::Secrets));
    assert_eq!(lab.opened.load(Ordering::SeqCst), 0, "who needs no store opens none");
    assert!(ask(&*memory).unwrap().is_none());
    assert_eq!(
        (tag(&*memory), tag(&*secrets)),
        ("memory".to_owned(), "secrets".to_owned())
    );
    assert_eq!(lab.opened.load(Ordering::SeqCst), 1);
}

#[test]
fn what_failed_is_tried_again_but_not_by_every_call() {
    let lab = lab(2);
    let memory = lab.store.space(Space::Memory);
    for _ in 0..3 {
        let error = ask(&*memory).unwrap_err();
        assert_eq!(
            aral_contract::failure::chain(&error),
            "the store cannot be opened: host.unavailable: the store `/store` is open in another process: process 7; \
             end that process, or wait for its end"
        );
        assert_eq!(tag(&*memory), "0".repeat(32));
    }
    assert_eq!(lab.opened.load(Ordering::SeqCst), 1);
    lab.clock.advance(Duration::from_millis(999));
    assert!(ask(&*memory).is_err());
    assert_eq!(lab.opened.load(Ordering::SeqCst), 1);
    lab.clock.advance(Duration::from_millis(1));
    assert!(ask(&*memory).is_err());
    assert_eq!(lab.opened.load(Ordering::SeqCst), 2);
    let known = lab.store.open_now().unwrap_err();
    assert_eq!(known.code, aral_contract::Code::Unavailable);
    lab.clock.advance(Duration::from_millis(1000));
    lab.store.open_now().unwrap();
    assert!(ask(&*memory).is_ok());
    assert_eq!(lab.opened.load(Ordering::SeqCst), 3);
}

#[test]
fn a_store_that_takes_no_more_writes_is_not_well() {
    let folder = tempfile::tempdir().unwrap();
    let key = aral_memory::MasterKey::from_text("ab".repeat(32).as_bytes()).unwrap();
    let clock = Arc::new(ManualClock::new());
    let options = aral_memory::StoreOptions {
        free_bytes_min: 0,
        steps: Steps::watched(|step| assert!(step != Step::RecordsApplied, "cut off here")),
        ..aral_memory::StoreOptions::new(folder.path().join("store"), key, Arc::clone(&clock) as _)
    };
    let opened = SealedStore::open(options).unwrap();
    let open = move || -> Result<Opened, Failure> {
        Ok(Opened {
            sealed: Some(opened.clone()),
            memory: opened.memory(),
            secrets: opened.secrets(),
            upkeep: Vec::new(),
        })
    };
    let store = LazyStore::new(Box::new(open), clock);
    store.check().unwrap();
    let write = Write {
        name: "todo".parse().unwrap(),
        value: b"value".to_vec().into(),
        ttl_seconds: None,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    };
    let memory = store.space(Space::Memory);
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        memory.put(&"notes".parse().unwrap(), write, &Quota::UNLIMITED)
    }));
    assert!(cut.is_err());
    let fault = store.check().unwrap_err();
    assert!(fault.message.contains("an earlier write failed"), "{fault}");
    store.open_now().unwrap();
}

#[test]
fn what_is_open_is_let_go_with_the_last_view() {
    let lab = lab(0);
    let memory = lab.store.space(Space::Memory);
    ask(&*memory).unwrap();
    let opened = Arc::clone(&lab.opened);
    // This test, the lab, how to open, and the upkeep of what is open.
    assert_eq!(Arc::strong_count(&opened), 4);
    drop(lab);
    assert_eq!(Arc::strong_count(&opened), 3, "a view still needs it");
    drop(memory);
    assert_eq!(Arc::strong_count(&opened), 1);
}

#[test]
fn what_is_open_is_let_go_at_the_end_and_opened_no_more() {
    let lab = lab(0);
    let memory = lab.store.space(Space::Memory);
    ask(&*memory).unwrap();
    lab.store.end();
    // This test holds none of them: the lab, and how to open.
    assert_eq!(Arc::strong_count(&lab.opened), 2);
    assert!(ask(&*memory).is_err());
    assert_eq!(lab.store.check().unwrap_err().code, Code::Unavailable);
    lab.clock.advance(Duration::from_secs(60));
    assert!(ask(&*memory).is_err());
    assert_eq!(lab.opened.load(Ordering::SeqCst), 1);
    lab.store.end();
}

#[test]
fn the_end_does_not_wait_for_an_opening_that_hangs() {
    let (begun, has_begun) = mpsc::channel();
    let (over, is_over) = mpsc::channel::<()>();
    let is_over = Mutex::new(is_over);
    let opened = Arc::new(());
    let held = Arc::clone(&opened);
    let open = move || -> Result<Opened, Failure> {
        begun.send(()).unwrap();
        let _at_the_latest = is_over.lock().unwrap().recv_timeout(Duration::from_secs(60));
        let held = Arc::clone(&held);
        Ok(Opened {
            sealed: None,
            memory: Arc::new(Marked("memory")),
            secrets: Arc::new(Marked("secrets")),
            upkeep: vec![Work {
                name: "test",
                every: Duration::from_secs(3600),
                step: Box::new(move |_| {
                    let _held = &held;
                    Ok(Next::Wait)
                }),
            }],
        })
    };
    let store = LazyStore::new(Box::new(open), Arc::new(ManualClock::new()));
    let opening = Arc::clone(&store);
    let opening = std::thread::spawn(move || opening.open_now());
    has_begun.recv().unwrap();
    // Whether it opens nobody knows yet.
    let failure = store.sealed_if_open().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("is being opened"), "{failure}");
    store.end();
    assert!(over.send(()).is_ok(), "it was waited for");
    // What is opened after that is let go at once, and is nobody's.
    let failure = opening.join().unwrap().unwrap_err();
    assert_eq!(failure.message, "the host has ended");
    assert_eq!(Arc::strong_count(&opened), 2, "this test, and how to open");
    assert!(store.open_now().is_err());
    assert!(has_begun.try_recv().is_err(), "it is opened no more");
}

#[test]
fn the_end_does_not_wait_for_upkeep_that_hangs() {
    let (begun, has_begun) = mpsc::channel();
    let (over, is_over) = mpsc::channel::<()>();
    let work = Mutex::new(Some(Work {
        name: "test",
        every: Duration::from_millis(1),
        step: Box::new(move |_| {
            begun.send(()).unwrap();
            let _at_the_latest = is_over.recv_timeout(Duration::from_secs(60));
            Ok(Next::Wait)
        }),
    }));
    let open = move || -> Result<Opened, Failure> {
        Ok(Opened {
            sealed: None,
            memory: Arc::new(Marked("memory")),
            secrets: Arc::new(Marked("secrets")),
            upkeep: work.lock().unwrap().take().into_iter().collect(),
        })
    };
    let store = LazyStore::new(Box::new(open), Arc::new(ManualClock::new()));
    store.open_now().unwrap();
    has_begun.recv().unwrap();
    store.end();
    assert!(over.send(()).is_ok(), "it was waited for");
}
