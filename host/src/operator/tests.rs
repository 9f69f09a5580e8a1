//! What an act waits for while its server ends.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use aral_contract::event::{RoomFuture, SecretOperation};
use aral_contract::secret::SecretFuture;
use aral_contract::{SecretReference, SecretSource, SecretValue};
use aral_memory::SecretsParts;
use zeroize::Zeroizing;

use super::*;
use crate::testing::{Fast, Kept};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// An act whose server ends when `true` is sent.
fn operator(secrets: Option<Secrets>, sink: Arc<dyn AuditSink>) -> (watch::Sender<bool>, Operator) {
    let host = Host::builder().build().unwrap();
    let (acts, ending) = watch::channel(false);
    let parts = Parts {
        storage: host.0.storage.clone(),
        store: Held::Nobody,
        secrets,
        sink,
        clock: host.clock(),
        ending: Some(ending),
    };
    (acts, Operator(Arc::new(parts)))
}

#[test]
fn what_is_waited_for_has_its_time_also_where_the_runtime_of_the_server_is_gone() {
    let (_acts, operator) = operator(None, Arc::new(Kept::default()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (said, is_said) = mpsc::channel();
    drop(runtime.spawn_blocking(move || {
        let waited = operator.wait(async {
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
                tokio::time::sleep(LONG).await;
                Ok(())
            }))
        }
    }
    let (begun, has_begun) = mpsc::channel();
    let (acts, operator) = operator(None, Arc::new(Standing(Mutex::new(Some(begun)))));
    let waiting = std::thread::spawn(move || operator.wait_for_room());
    has_begun.recv().unwrap();
    acts.send_replace(true);
    let failure = waiting.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
}

/// A server for secrets that takes what it is asked for, and says so after a while.
#[derive(Debug)]
struct Slow(mpsc::Sender<()>);

impl SecretSource for Slow {
    fn read<'a>(&'a self, _: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(async move {
            self.0.send(()).unwrap();
            tokio::time::sleep(LONG).await;
            Ok(SecretValue::new(b"value".to_vec()))
        })
    }

    fn write<'a>(&'a self, reference: &'a SecretReference, _: &'a SecretValue) -> SecretFuture<'a, SecretReference> {
        Box::pin(async move {
            self.0.send(()).unwrap();
            tokio::time::sleep(LONG).await;
            Ok(reference.clone())
        })
    }
}

#[test]
fn a_secret_that_is_on_its_way_when_the_server_ends_is_on_record() {
    let name: aral_contract::id::SecretName = "token".parse().unwrap();
    let put = SecretPut {
        name: name.clone(),
        value: Hidden::new(Zeroizing::new(b"value".to_vec())),
        rotate: false,
    };
    let get = SecretGet { name, reveal: true };
    assert_on_record(SecretOperation::Write, put);
    assert_on_record(SecretOperation::Reveal, get);
}

fn assert_on_record<A: Act>(expected: SecretOperation, act: A) {
    let (begun, has_begun) = mpsc::channel();
    let name = "token".parse().unwrap();
    let parts = SecretsParts {
        references: [(name, "vault://kv/app#token".parse().unwrap())].into(),
        vault: Some(Arc::new(Slow(begun))),
        environment: None,
        local: None,
        cache: Default::default(),
    };
    let secrets = Secrets::new(parts, Arc::new(Fast::default())).unwrap();
    let kept = Arc::new(Kept::default());
    let (acts, operator) = operator(Some(secrets), Arc::clone(&kept) as _);
    let waiting = std::thread::spawn(move || operator.act(act).map(drop));
    has_begun.recv().unwrap();
    acts.send_replace(true);
    let failure = waiting.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    let events = kept.take();
    let [EventKind::SecretAccess { operation, refused, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*operation, expected);
    assert!(
        refused.as_ref().unwrap().contains("nobody knows whether"),
        "{refused:?}"
    );
}
