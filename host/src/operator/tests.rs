//! What an act waits for: while its server ends, and before it answers.

use std::sync::{Mutex, mpsc};

use aral_contract::event::{RoomFuture, SecretOperation};
use aral_contract::secret::SecretFuture;
use aral_contract::{SecretReference, SecretSource, SecretValue};
use aral_memory::SecretsParts;
use zeroize::Zeroizing;

use super::*;
use crate::testing::{Fast, Kept, Late};

/// One whose server ends when `ending` says `true`.
fn operator(secrets: Option<Secrets>, sink: Arc<dyn AuditSink>, ending: watch::Receiver<bool>) -> Operator {
    let host = Host::builder().build().unwrap();
    let parts = Parts {
        storage: host.0.storage.clone(),
        store: Held::Nobody,
        secrets,
        sink,
        clock: host.clock(),
        ending: Some(ending),
    };
    Operator(Arc::new(parts))
}

#[test]
fn what_is_waited_for_has_its_time_also_where_the_runtime_of_the_server_is_gone() {
    let (_acts, ending) = watch::channel(false);
    let operator = operator(None, Arc::new(Kept::default()), ending);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (said, is_said) = mpsc::channel();
    drop(runtime.spawn_blocking(move || {
        let waited = operator.wait(HEAR, async {
            begun.send(()).unwrap();
            tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await
        });
        said.send(waited.unwrap().is_err()).unwrap();
    }));
    has_begun.recv().unwrap();
    runtime.shutdown_background();
    assert_eq!(is_said.recv(), Ok(true), "it had no time that passes");
}

#[test]
fn what_waits_for_room_in_the_log_hears_that_the_server_ends() {
    /// Says that there will be some in a while.
    #[derive(Debug)]
    struct Standing(Mutex<Option<mpsc::Sender<()>>>);
    impl AuditSink for Standing {
        fn record(&self, _event: Event) {}
        fn room(&self) -> Option<RoomFuture> {
            let begun = self.0.lock().unwrap().take();
            Some(Box::pin(async move {
                begun.unwrap().send(()).unwrap();
                std::future::pending::<()>().await;
                Ok(())
            }))
        }
    }
    let (begun, has_begun) = mpsc::channel();
    let (acts, ending) = watch::channel(false);
    let operator = operator(None, Arc::new(Standing(Mutex::new(Some(begun)))), ending);
    let waiting = std::thread::spawn(move || operator.wait_for_room());
    has_begun.recv().unwrap();
    acts.send_replace(true);
    let failure = waiting.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    // Nothing is in doubt.
    assert_eq!(failure.message, "the server ends");
}

/// A server for secrets that takes what it is asked for, and says so.
#[derive(Debug)]
struct Slow {
    asked: mpsc::Sender<()>,
    /// When it answers: soon after this says `true`, and not in that moment; none: never.
    ending: Option<watch::Receiver<bool>>,
}

impl Slow {
    async fn answer(&self) {
        self.asked.send(()).unwrap();
        let Some(mut ending) = self.ending.clone() else {
            return std::future::pending::<()>().await;
        };
        assert!(ending.wait_for(|ends| *ends).await.is_ok());
        tokio::task::yield_now().await;
    }
}

impl SecretSource for Slow {
    fn read<'a>(&'a self, _: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(async move {
            self.answer().await;
            Ok(SecretValue::new(b"value".to_vec()))
        })
    }

    fn write<'a>(&'a self, reference: &'a SecretReference, _: &'a SecretValue) -> SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            self.answer().await;
            Ok(reference.clone())
        })
    }

    fn delete<'a>(&'a self, _: &'a SecretReference) -> SecretFuture<'a, ()> {
        Box::pin(async move {
            self.answer().await;
            Ok(())
        })
    }
}

/// One who has his secrets there, and whose acts are kept.
fn with_secrets_at(vault: Slow, ending: watch::Receiver<bool>) -> (Arc<Kept>, Operator) {
    let kept = Arc::new(Kept::default());
    let operator = recorded_by(Arc::clone(&kept) as _, vault, ending);
    (kept, operator)
}

/// The same with another log.
fn recorded_by(sink: Arc<dyn AuditSink>, vault: Slow, ending: watch::Receiver<bool>) -> Operator {
    let parts = SecretsParts {
        references: [("token".parse().unwrap(), "vault://kv/app#token".parse().unwrap())].into(),
        vault: Some(Arc::new(vault)),
        environment: None,
        local: None,
        cache: Default::default(),
    };
    let secrets = Secrets::new(parts, Arc::new(Fast::default())).unwrap();
    operator(Some(secrets), sink, ending)
}

fn put() -> SecretPut {
    SecretPut {
        name: "token".parse().unwrap(),
        value: Hidden::new(Zeroizing::new(b"value".to_vec())),
        rotate: false,
    }
}

/// Why the one thing on record was refused.
fn refused(kept: &Kept, expected: SecretOperation) -> Option<String> {
    let events = kept.take();
    let [EventKind::SecretAccess { operation, refused, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*operation, expected);
    refused.clone()
}

#[test]
fn a_secret_that_is_on_its_way_when_the_server_ends_is_on_record() {
    let name: aral_contract::id::SecretName = "token".parse().unwrap();
    let delete = SecretDelete { name: name.clone() };
    let get = SecretGet { name, reveal: true };
    let in_doubt = "the server ends, and nobody knows whether it was done";
    assert_on_record(SecretOperation::Write, put(), in_doubt);
    assert_on_record(SecretOperation::Delete, delete, in_doubt);
    // It was not handed out, and everybody knows that.
    assert_on_record(SecretOperation::Reveal, get, "the server ends");
}

fn assert_on_record<A: Act>(expected: SecretOperation, act: A, words: &str) {
    let (asked, is_asked) = mpsc::channel();
    let (acts, ending) = watch::channel(false);
    let (kept, operator) = with_secrets_at(Slow { asked, ending: None }, ending);
    let waiting = std::thread::spawn(move || operator.act(act).map(drop));
    is_asked.recv().unwrap();
    acts.send_replace(true);
    let failure = waiting.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert_eq!(failure.message, words);
    assert_eq!(refused(&kept, expected).as_deref(), Some(words));
}

#[test]
fn a_secret_that_is_about_to_be_stored_when_the_server_ends_is_waited_for() {
    let (asked, is_asked) = mpsc::channel();
    let (acts, ending) = watch::channel(false);
    let vault = Slow {
        asked,
        ending: Some(ending.clone()),
    };
    let (kept, operator) = with_secrets_at(vault, ending);
    let waiting = std::thread::spawn(move || operator.act(put()));
    is_asked.recv().unwrap();
    acts.send_replace(true);
    let stored = waiting.join().unwrap();
    assert_eq!(stored.unwrap().done.to_string(), "vault://kv/app#token");
    assert_eq!(refused(&kept, SecretOperation::Write), None);
}

#[test]
fn a_secret_that_may_be_stored_says_so_of_its_record_as_well() {
    let (log, _waits, keep) = Late::new();
    keep.send_replace(Late::not_kept());
    let (asked, is_asked) = mpsc::channel();
    let (acts, ending) = watch::channel(false);
    let operator = recorded_by(log, Slow { asked, ending: None }, ending);
    let waiting = std::thread::spawn(move || operator.act(put()).map(drop));
    is_asked.recv().unwrap();
    acts.send_replace(true);
    let failure = waiting.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert_eq!(
        failure.message,
        "the server ends, and nobody knows whether it was done; and the record of that may be lost: \
         the audit log cannot be written: the disk is full"
    );
}

#[test]
fn a_secret_whose_turn_comes_when_the_server_ends_is_not_on_its_way_any_more() {
    let (asked, is_asked) = mpsc::channel();
    let (acts, ending) = watch::channel(false);
    let (kept, operator) = with_secrets_at(Slow { asked, ending: None }, ending);
    acts.send_replace(true);
    let failure = operator.act(put()).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert!(is_asked.try_recv().is_err(), "it was begun all the same");
    let refused = refused(&kept, SecretOperation::Write);
    assert_eq!(refused.as_deref(), Some("the server ends"));
}

/// What an act with secrets comes to whose record is waited for. It has no answer before.
fn answered<A: Act>(act: A, is_kept: bool) -> Result<A::Answer, Failure> {
    let (log, waits, keep) = Late::new();
    let (asked, _is_asked) = mpsc::channel();
    let vault = Slow {
        asked,
        ending: Some(watch::channel(true).1),
    };
    let operator = recorded_by(log, vault, watch::channel(false).1);
    let kept = keep.subscribe();
    let acting = std::thread::spawn(move || {
        let done = operator.act(act);
        assert!(kept.borrow().is_some(), "there was an answer before");
        done
    });
    waits.recv().unwrap();
    keep.send_replace(if is_kept { Some(Ok(())) } else { Late::not_kept() });
    acting.join().unwrap()
}

#[test]
fn what_hands_out_or_changes_a_secret_answers_once_the_record_of_that_is_kept() {
    let name: aral_contract::id::SecretName = "token".parse().unwrap();
    let get = || SecretGet {
        name: name.clone(),
        reveal: true,
    };
    let delete = || SecretDelete { name: name.clone() };
    let shown = answered(get(), true).unwrap().value.unwrap();
    assert_eq!(shown.expose(), b"value");
    // Who changed something learns what was done, on record or not.
    for is_kept in [true, false] {
        let unrecorded = (!is_kept).then_some("the audit log cannot be written: the disk is full");
        let stored = answered(put(), is_kept).unwrap();
        let deleted = answered(delete(), is_kept).unwrap();
        for changed in [stored, deleted] {
            assert_eq!(changed.done.to_string(), "vault://kv/app#token");
            assert_eq!(changed.unrecorded.as_deref(), unrecorded);
        }
    }
    // Nothing is shown.
    let failure = answered(get(), false).map(drop).unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable, "{failure}");
    assert!(!failure.message.contains("may be lost"), "{failure}");
}

#[test]
fn a_record_is_waited_for_while_the_server_ends_and_not_for_ever() {
    let kind = || EventKind::DevelopmentOnly {
        subject: "something".to_owned(),
    };
    let (log, _waits, keep) = Late::new();
    let ends = operator(None, Arc::clone(&log) as _, watch::channel(true).1);
    let goes_on = operator(None, log, watch::channel(false).1);
    let failure = goes_on
        .record_kept_within(Duration::from_millis(1), kind())
        .unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable, "{failure}");
    // Where the server ends it is not waited for as long as that: its end does not wait either.
    let failure = ends.record_kept(kind()).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    keep.send_replace(Some(Ok(())));
    for operator in [goes_on, ends] {
        operator.record_kept(kind()).unwrap();
    }
    let line = format!("\n| `KEPT_WAIT_MAX` | {} s | ", KEPT_WAIT_MAX.as_secs());
    let document = include_str!("../../../docs/defaults.md");
    assert!(document.contains(&line), "docs/defaults.md has no line{line}");
}
