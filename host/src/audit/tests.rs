//! A host with a log: what it records, what it hands out, and what it does not do when it cannot record.
#![expect(clippy::disallowed_methods, reason = "the tests lay out files and look at them")]

#[cfg(feature = "services")]
mod services;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aral_audit::schema::AuditEvent;
use aral_audit::segment::SegmentError;
use aral_audit::{Durability, Filter, Record, query, verify};
use aral_contract::document::signed::Kind;
use aral_contract::document::{PublicKey, TrustStore};
use aral_contract::event::LifecycleChange;
use aral_orchestration::{Outcome, Request, Session};
use aral_runtime::SystemClock;
use aral_runtime::files::{self, FilesError};
use serde_json::json;

use super::*;
use crate::Host;
use crate::testing::{echo, echo_entry, key, policy, signed};

fn config(change: impl FnOnce(&mut AuditConfig)) -> Config {
    let mut config = Config::closed().unwrap();
    let mut audit = AuditConfig::default();
    audit.log.reserve_bytes = 4096;
    change(&mut audit);
    config.audit = Some(audit);
    config
}

fn host(state: &Path, config: Config) -> Result<Host, Failure> {
    let host = Host::builder()
        .config(config)
        .policy(policy("capabilities = [\"*\"]"))
        .trust(key(1).public(), &[Kind::Manifest, Kind::Persona])
        .state_dir(state)
        .build()?;
    let manifest = signed(Kind::Manifest, 1, &json!({"capabilities": [echo_entry("echo")]}));
    host.register_manifest(&manifest, &|_| Ok(echo()))?;
    Ok(host)
}

fn session(host: &Host) -> Session {
    let constraints = json!({"allowed_capabilities": ["echo"]});
    let persona = json!({"id": "p", "name": "P", "constraints": constraints});
    host.session(&signed(Kind::Persona, 1, &persona)).unwrap()
}

async fn call(host: &Host, session: &Session, input: &[u8]) -> Outcome {
    let request = Request {
        capability: &"echo".parse().unwrap(),
        version: None,
        input,
        trace: None,
    };
    host.invoke(session, request).await
}

fn records(state: &Path) -> Vec<Record> {
    let found = query(&state.join("audit"), Filter::default()).unwrap();
    found.map(|found| found.unwrap().1).collect()
}

fn types(state: &Path) -> Vec<&'static str> {
    records(state).iter().map(|record| record.event.type_name()).collect()
}

fn trust(state: &Path) -> TrustStore {
    let pem = std::fs::read_to_string(state.join("audit.pub.pem")).unwrap();
    let mut trust = TrustStore::default();
    trust.add(PublicKey::from_pem(&pem).unwrap(), &[Kind::Checkpoint]);
    trust
}

#[tokio::test]
async fn a_folder_of_state_is_all_that_a_log_needs_and_a_call_has_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = host(&state, config(|_| ())).unwrap();
    let session = session(&host);
    let outcome = call(&host, &session, b"[1]").await;
    assert_eq!(outcome.result.as_deref(), Ok("[1]"));
    let receipt = outcome.receipt.unwrap();
    assert_eq!(receipt.record.log, host.audit().unwrap().log().id());
    // `sync` is the default: whoever has the answer finds the record on the disk.
    assert!(host.audit().unwrap().log().durable() > receipt.record.seq);
    let grant = outcome.grant.unwrap();
    host.set_policy(policy(""));
    assert!(call(&host, &session, b"[1]").await.result.is_err());
    assert!(host.remove(&"echo".parse().unwrap(), &semver::Version::new(1, 0, 0)));
    drop(host);

    assert_eq!(
        types(&state),
        [
            "log_opened",
            "lifecycle",
            "configuration_changed",
            "lifecycle",
            "authentication",
            "decision",
            "invocation_started",
            "invocation",
            "configuration_changed",
            "decision",
            "invocation",
            "lifecycle",
            "lifecycle",
        ]
    );
    let records = records(&state);
    let AuditEvent::Decision(denied) = &records[9].event else {
        panic!()
    };
    assert!(
        denied.grant.is_none() && denied.missing[0].as_str().contains("policy"),
        "who lacked which yes: {denied:?}"
    );
    let AuditEvent::Lifecycle(stopped) = &records[12].event else {
        panic!()
    };
    assert_eq!(stopped.change, LifecycleChange::Stopped);

    let document = aral_audit::prove(&state.join("audit"), receipt.record.seq).unwrap();
    let document = serde_json::to_vec(&document).unwrap();
    let checked = aral_audit::check(&document, &trust(&state)).unwrap();
    let AuditEvent::Invocation(invocation) = checked.record.event else {
        panic!()
    };
    let proven = invocation.evidence.unwrap();
    assert_eq!(
        (proven.component, proven.manifest, proven.policy, proven.grant),
        (grant.component, grant.manifest, grant.policy, grant.digest())
    );
    assert_eq!(proven.persona_digest, session.persona().digest);
    assert_eq!(
        (invocation.resources.input_bytes, invocation.resources.output_bytes),
        (3, 3)
    );
    use aral_audit::Part::{Input, Output};
    let (input_salt, output_salt) = (receipt.input_salt.unwrap(), receipt.output_salt.unwrap());
    assert!(proven.commits_to(Input, &input_salt, b"[1]") && proven.commits_to(Output, &output_salt, b"[1]"));
    assert!(!proven.commits_to(Input, &input_salt, b"[2]") && !proven.commits_to(Output, &input_salt, b"[1]"));

    let report = verify(&state.join("audit"), &trust(&state), &[]).unwrap();
    assert!(report.is_good() && report.signed == report.size, "{report:?}");
    for (file, mode) in [("audit.pem", 0o600), ("audit.blind", 0o600), ("audit", 0o700)] {
        let found = std::fs::metadata(state.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
}

#[tokio::test]
async fn a_host_that_is_ended_is_on_record_whoever_still_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = host(&state, config(|_| ())).unwrap();
    let session = session(&host);
    let held = host.clone();
    host.end();
    let ended = types(&state);
    let records = records(&state);
    let AuditEvent::Lifecycle(stopped) = &records[records.len() - 1].event else {
        panic!()
    };
    assert_eq!(stopped.change, LifecycleChange::Stopped);
    let report = verify(&state.join("audit"), &trust(&state), &[]).unwrap();
    assert!(report.is_good() && report.signed == report.size, "{report:?}");
    let refused = call(&held, &session, b"[1]").await.result.unwrap_err();
    assert_eq!(refused.code, Code::AuditUnavailable, "nothing runs unrecorded");
    host.end();
    drop((host, held));
    assert_eq!(types(&state), ended, "it is said once");
}

#[tokio::test]
async fn a_host_without_a_log_calls_nothing_either_once_it_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        audit: None,
        ..config(|_| ())
    };
    let host = host(&folder.path().join("state"), config).unwrap();
    assert!(host.audit().is_none());
    let session = session(&host);
    call(&host, &session, b"[1]").await.result.map(drop).unwrap();
    host.end();
    let refused = call(&host, &session, b"[1]").await.result.unwrap_err();
    assert_eq!(refused.code, Code::AuditUnavailable);
}

#[tokio::test]
async fn two_calls_of_one_request_have_other_salts() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(
        &folder.path().join("state"),
        config(|audit| audit.log.durability = Durability::Async),
    )
    .unwrap();
    let session = session(&host);
    let context = aral_contract::TraceContext::begin(aral_contract::TraceId::from_bytes([7; 16]));
    let mut salts = Vec::new();
    for _ in 0..2 {
        let request = Request {
            capability: &"echo".parse().unwrap(),
            version: None,
            input: b"1",
            trace: Some(&context),
        };
        let receipt = host.invoke(&session, request).await.receipt.unwrap();
        salts.extend([receipt.input_salt, receipt.output_salt]);
    }
    let shown: std::collections::BTreeSet<String> =
        salts.iter().map(|salt| serde_json::to_string(salt).unwrap()).collect();
    assert_eq!(shown.len(), 4);
}

#[test]
fn keys_are_made_once_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    drop(host(&state, config(|_| ())).unwrap());
    let made = std::fs::read(state.join("audit.pem")).unwrap();
    drop(host(&state, config(|_| ())).unwrap());
    assert_eq!(std::fs::read(state.join("audit.pem")).unwrap(), made);
    // Somebody put another public half there.
    std::fs::write(state.join("audit.pub.pem"), key(9).public().to_pem().unwrap()).unwrap();
    let failure = host(&state, config(|_| ())).unwrap_err();
    assert!(failure.message.contains("not the public half"), "{failure}");
    std::fs::remove_file(state.join("audit.pub.pem")).unwrap();
    drop(host(&state, config(|_| ())).unwrap());
    // A key that the operator names is theirs to make.
    let named = folder.path().join("mine.pem");
    let failure = host(&state, config(|audit| audit.key_file = Some(named.clone()))).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.hint.unwrap().contains("aral keygen"));
    std::fs::write(state.join("audit.blind"), b"short").unwrap();
    assert!(host(&state, config(|_| ())).unwrap_err().message.contains("32 bytes"));
}

#[test]
fn a_key_that_is_lost_is_asked_for_and_no_new_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let open = || host(&state, config(|_| ())).map(drop);
    open().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    for (name, there) in [("audit.pem", "audit.pub.pem"), ("audit.blind", "audit")] {
        let key = state.join(name);
        std::fs::rename(&key, &elsewhere).unwrap();
        let failure = open().unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        let shown = format!("`{}`, is not there", key.display());
        let because = format!("`{}`, is", state.join(there).display());
        assert!(
            failure.message.contains(&shown) && failure.message.ends_with(&because),
            "{failure}"
        );
        assert!(failure.hint.unwrap().starts_with("put it back"));
        assert!(!key.exists(), "a new one was made");
        std::fs::rename(&elsewhere, &key).unwrap();
        open().unwrap();
    }
    // Whoever moves the public half away wants another pair, and whoever writes a key that hides another one.
    let before = std::fs::read(state.join("audit.pem")).unwrap();
    for name in ["audit.pem", "audit.pub.pem"] {
        std::fs::remove_file(state.join(name)).unwrap();
    }
    files::write_path(&state.join("audit.blind"), &[7; 32], 0o600, files::Replace::Allow).unwrap();
    open().unwrap();
    assert_ne!(std::fs::read(state.join("audit.pem")).unwrap(), before);
}

#[test]
fn no_folder_of_state_or_no_wish_for_a_log_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Host::builder().build().unwrap().audit().is_none());
    let mut config = Config::closed().unwrap();
    config.audit = None;
    let host = Host::builder()
        .config(config)
        .state_dir(folder.path().join("state"))
        .build()
        .unwrap();
    assert!(host.audit().is_none() && !folder.path().join("state/audit").exists());
}

/// Seconds pass whenever somebody asks.
#[derive(Debug, Default)]
struct Fast(std::sync::atomic::AtomicU64);

impl Clock for Fast {
    fn now(&self) -> jiff::Timestamp {
        SystemClock::new().now()
    }
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(5, std::sync::atomic::Ordering::Relaxed))
    }
}

#[test]
fn a_log_that_another_process_keeps_is_an_error_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let _first = host(&folder.path().join("state"), config(|_| ())).unwrap();
    let mut second = config(|_| ());
    second.state_dir = Some(folder.path().join("state"));
    let clock: Arc<dyn Clock> = Arc::new(Fast::default());
    let shown = folder.path().join("stderr");
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::fs::File::create(&shown).unwrap())
        .with_ansi(false)
        .finish();
    let opened = tracing::subscriber::with_default(subscriber, || Audit::open(&second, &clock));
    let failure = opened.unwrap_err();
    let shown = std::fs::read_to_string(shown).unwrap();
    assert_eq!(
        shown.matches("waiting for the end of that process").count(),
        1,
        "{shown}"
    );
    assert_eq!(failure.code, Code::AuditUnavailable);
    assert!(failure.message.contains("open in another process"), "{failure}");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("[audit]: dir") && hint.contains("aral status"), "{hint}");
}

#[tokio::test]
async fn what_was_not_on_record_did_not_run() {
    /// Says no when told.
    #[derive(Debug, Default)]
    struct Full(std::sync::atomic::AtomicBool);
    impl AuditSink for Full {
        fn record(&self, _event: Event) {}
        fn available(&self) -> Result<(), SinkUnavailable> {
            if self.0.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(SinkUnavailable {
                    reason: "/disk is full".to_owned(),
                });
            }
            Ok(())
        }
        fn append(&self, _event: Event) -> RecordFuture {
            let kept = self
                .available()
                .map(|()| aral_contract::event::AppendOutcome::Unreferenced);
            Box::pin(std::future::ready(kept))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::new(Full::default());
    let state = folder.path().join("state");
    let mut settings = config(|_| ());
    settings.audit = None;
    let host = Host::builder()
        .config(settings)
        .policy(policy("capabilities = [\"*\"]"))
        .trust(key(1).public(), &[Kind::Manifest, Kind::Persona])
        .state_dir(state)
        .sink(Arc::clone(&full) as _)
        .build()
        .unwrap();
    let manifest = signed(Kind::Manifest, 1, &json!({"capabilities": [echo_entry("echo")]}));
    host.register_manifest(&manifest, &|_| Ok(echo())).unwrap();
    let session = session(&host);
    assert!(call(&host, &session, b"1").await.result.is_ok());
    full.0.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = call(&host, &session, b"1").await;
    let failure = refused.result.unwrap_err();
    assert_eq!((failure.code, refused.version), (Code::AuditUnavailable, None));
    assert!(
        !failure.to_string().contains("/disk"),
        "what the disk said is for the operator"
    );
    let run = aral_orchestration::dispatch::DevelopmentRun {
        component: echo(),
        permissions: aral_contract::Permissions::default(),
        limits: aral_contract::LimitsRequest::default(),
        networks: Vec::new(),
        ungranted: aral_capability::Ungranted::Refuse,
    };
    assert_eq!(
        host.dangerous_run(&run, b"1").await.unwrap_err().code,
        Code::AuditUnavailable
    );
    full.0.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(call(&host, &session, b"1").await.result.is_ok());
}

#[test]
fn a_full_disk_is_told_with_the_file_that_lies_on_it() {
    let places = AuditPlaces {
        dir: "/log".into(),
        key: "/state/audit.pem".into(),
        public_key: None,
        blinding_key: "/state/audit.blind".into(),
        head: Some("/state/audit.head".into()),
    };
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let of_state = OpenError::Files(FilesError::Io {
        action: "open",
        path: "/state/audit.head".into(),
        source: full(),
    });
    let failure = unopened(&of_state, &places);
    assert_eq!(failure.code, Code::AuditUnavailable);
    assert!(failure.message.contains("`/state/audit.head`"), "{failure}");
    assert_eq!(failure.hint.as_deref(), Some(disk::MAKE_ROOM));
    let of_log = OpenError::Segment(SegmentError::Read {
        name: "reserve".to_owned(),
        source: full(),
    });
    let failure = unopened(&of_log, &places);
    assert_eq!(failure.code, Code::AuditUnavailable);
    assert!(failure.message.contains("`/log`"), "{failure}");
    assert!(failure.hint.unwrap().contains("reserve_bytes"));
}
