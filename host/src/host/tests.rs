//! The API from outside: documents in, outcomes and events out.

use std::path::PathBuf;

use aral_capability::Ungranted;
use aral_contract::document::signed::Kind;
use aral_contract::{Blame, Code, Digest, Permissions};
use aral_runtime::CompilerKind;
use futures::StreamExt as _;
use semver::Version;
use serde_json::json;

use super::*;
use crate::Config;
use crate::testing::{echo, echo_entry, key, policy, signed};

fn manifest(serial: u64) -> Vec<u8> {
    signed(Kind::Manifest, serial, &json!({"capabilities": [echo_entry("echo")]}))
}

fn persona() -> Vec<u8> {
    let constraints = json!({"allowed_capabilities": ["echo"]});
    signed(
        Kind::Persona,
        1,
        &json!({"id": "p", "name": "P", "constraints": constraints}),
    )
}

fn builder() -> HostBuilder {
    Host::builder().policy(policy("capabilities = [\"*\"]"))
}

fn trusting() -> HostBuilder {
    builder().trust(key(1).public(), &[Kind::Manifest, Kind::Persona])
}

fn register(host: &Host, manifest: &[u8]) -> Result<Vec<Registered>, Failure> {
    host.register_manifest(manifest, &|_| Ok(echo()))
}

async fn call(host: &Host, session: &Session) -> Outcome {
    let capability = "echo".parse().unwrap();
    let request = Request {
        capability: &capability,
        version: None,
        input: b"[1]",
        trace: None,
    };
    host.invoke(session, request).await
}

#[tokio::test]
async fn signed_documents_lead_to_an_answer() {
    let host = trusting().build().unwrap();
    let mut events = host.events();
    assert_eq!(register(&host, &manifest(1)).unwrap().len(), 1);
    assert_eq!(host.capabilities().len(), 1);
    let session = host.session(&persona()).unwrap();
    assert!(!session.is_development());
    assert_eq!(call(&host, &session).await.result.unwrap(), "[1]");
    let id = "echo".parse().unwrap();
    assert!(host.explain(&session, &id, None).unwrap().decision.outcome.is_ok());
    assert!(host.remove(&id, &Version::new(1, 0, 0)));
    assert_eq!(
        call(&host, &session).await.result.unwrap_err().code,
        Code::CapabilityUnknown
    );
    drop(host);
    let mut names = Vec::new();
    while let Some(Notice::Event(event)) = events.next().await {
        names.push(
            serde_json::to_value(event.kind).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let expected = [
        "capability_registered",
        "authentication",
        "decision",
        "invocation_started",
        "invocation_ended",
        "lifecycle",
        "invocation_ended",
        "lifecycle",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn whoever_shows_a_list_learns_that_it_is_another_one() {
    let host = trusting().build().unwrap();
    let mut changes = host.changes();
    let mut changed = |case: &str, expected| {
        assert_eq!(changes.has_changed().unwrap(), expected, "{case}");
        changes.mark_unchanged();
    };
    changed("nothing yet", false);
    register(&host, &manifest(1)).unwrap();
    changed("a capability more", true);
    let session = host.session(&persona()).unwrap();
    call(&host, &session).await.result.unwrap();
    changed("a call", false);
    host.set_policy(policy("capabilities = []"));
    changed("another policy", true);
    assert!(host.remove(&"echo".parse().unwrap(), &Version::new(1, 0, 0)));
    changed("a capability less", true);
}

#[tokio::test]
async fn a_call_tells_its_phase_to_whoever_asks() {
    use aral_orchestration::dispatch::CallPhase;
    let host = trusting().build().unwrap();
    register(&host, &manifest(1)).unwrap();
    let session = host.session(&persona()).unwrap();
    let phase = tokio::sync::watch::Sender::new(CallPhase::default());
    let id = "echo".parse().unwrap();
    let request = |capability| Request {
        capability,
        version: None,
        input: b"[1]",
        trace: None,
    };
    let unknown = "none".parse().unwrap();
    let dispatcher = host.dispatcher();
    assert!(
        dispatcher
            .invoke_watched(&session, request(&unknown), &phase, None)
            .await
            .result
            .is_err()
    );
    assert_eq!(*phase.borrow(), CallPhase::Waiting, "nothing ran");
    assert!(
        dispatcher
            .invoke_watched(&session, request(&id), &phase, None)
            .await
            .result
            .is_ok()
    );
    assert_eq!(*phase.borrow(), CallPhase::Running);
}

#[tokio::test]
async fn nothing_unsigned_comes_in_but_through_the_doors_that_warn() {
    let host = builder().build().unwrap();
    let mut events = host.events();
    let refused = register(&host, &manifest(1)).unwrap_err();
    assert_eq!(
        (refused.code, refused.code.blame()),
        (Code::SignatureInvalid, Blame::Admission)
    );
    assert!(refused.hint.unwrap().contains("[[trust]]"));
    assert_eq!(host.session(&persona()).unwrap_err().code, Code::SignatureInvalid);
    host.dangerous_register_unsigned_manifest(&manifest(1), &|_| Ok(echo()))
        .unwrap();
    let session = host.dangerous_development_session(&persona()).unwrap();
    assert!(session.is_development());
    assert!(call(&host, &session).await.result.is_ok());
    drop(host);
    let events: Vec<Notice> = events.by_ref().collect().await;
    let count = |wanted: fn(&EventKind) -> bool| {
        events
            .iter()
            .filter(|notice| matches!(notice, Notice::Event(event) if wanted(&event.kind)))
            .count()
    };
    assert_eq!(count(|kind| matches!(kind, EventKind::AdmissionRefused { .. })), 2);
    assert_eq!(count(|kind| matches!(kind, EventKind::DevelopmentOnly { .. })), 2);
}

#[tokio::test]
async fn whoever_hands_out_components_may_change_the_rules_and_others_do_not_wait() {
    let host = trusting().build().unwrap();
    register(&host, &manifest(1)).unwrap();
    let session = host.session(&persona()).unwrap();
    let (key, id) = (key(1).public().id(), "echo".parse().unwrap());
    let registered = host.register_manifest(&manifest(2), &|_| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                host.set_policy(policy("capabilities = []"));
                host.revoke(key);
                assert!(host.remove(&id, &Version::new(1, 0, 0)));
            });
        });
        Ok(echo())
    });
    assert_eq!(registered.unwrap().len(), 1);
    // It was believed when it was taken, and what changed meanwhile holds.
    let failure = call(&host, &session).await.result.unwrap_err();
    assert_eq!(failure.code, Code::SignatureInvalid);
    assert_eq!(host.policy(), policy("capabilities = []"));
}

#[test]
fn a_lower_serial_is_refused_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    // Without a log: that is written by one host at a time.
    let config = Config {
        audit: None,
        ..Config::closed().unwrap()
    };
    let host = || {
        let host = trusting().config(config.clone());
        host.state_dir(folder.path().join("state")).build().unwrap()
    };
    let (first, second) = (host(), host());
    register(&first, &manifest(5)).unwrap();
    register(&first, &manifest(5)).unwrap();
    for host in [&first, &second, &host()] {
        let refused = register(host, &manifest(4)).unwrap_err();
        assert_eq!(refused.code, Code::DocumentStale);
    }
    register(&second, &manifest(6)).unwrap();
    assert_eq!(register(&first, &manifest(5)).unwrap_err().code, Code::DocumentStale);
    // A host that keeps no state remembers for itself alone.
    let forgetful = trusting().build().unwrap();
    register(&forgetful, &manifest(5)).unwrap();
    assert_eq!(
        register(&forgetful, &manifest(4)).unwrap_err().code,
        Code::DocumentStale
    );
}

#[test]
fn a_serial_counts_only_once_the_manifest_was_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let host = trusting().state_dir(folder.path().join("state")).build().unwrap();
    let mismatch = host
        .register_manifest(&manifest(9), &|_| Ok(b"other".to_vec()))
        .unwrap_err();
    assert_eq!(mismatch.code, Code::DigestMismatch);
    register(&host, &manifest(1)).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test lays out files")]
fn a_manifest_that_cannot_be_remembered_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = trusting().state_dir(folder.path().join("state")).build().unwrap();
    register(&host, &manifest(1)).unwrap();
    let before = host.capabilities();
    let refused = || {
        assert_eq!(register(&host, &manifest(2)).unwrap_err().code, Code::Unavailable);
        let after = host.capabilities();
        assert_eq!(after.len(), 1);
        assert!(Arc::ptr_eq(&before[0], &after[0]), "what worked before goes on");
        after
    };
    let kept = host.0.serials.as_ref().unwrap();
    kept.unsynced.store(1, std::sync::atomic::Ordering::Release);
    refused();
    let serials = folder.path().join("state/serials.json");
    std::fs::remove_file(&serials).unwrap();
    std::fs::create_dir(&serials).unwrap();
    let after = refused();
    std::fs::remove_dir(&serials).unwrap();
    register(&host, &manifest(1)).unwrap();
    assert_eq!(register(&host, &manifest(2)).unwrap().len(), 1);
    assert!(
        !Arc::ptr_eq(&after[0], &host.capabilities()[0]),
        "the newer one is there"
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test lays out files")]
fn files_of_a_manifest_are_found_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let name = format!("{}.wasm", Digest::of(&echo()));
    std::fs::write(path("manifest.json"), manifest(1)).unwrap();
    let host = trusting().build().unwrap();
    let missing = host.register_manifest_file(&path("manifest.json")).unwrap_err();
    assert_eq!(
        missing.hint.unwrap(),
        format!("put it beside the manifest: components/{name}")
    );
    std::fs::create_dir(path("components")).unwrap();
    std::fs::write(path("components").join(&name), echo()).unwrap();
    host.register_manifest_file(&path("manifest.json")).unwrap();
    std::fs::rename(path("components").join(&name), path(&name)).unwrap();
    builder()
        .build()
        .unwrap()
        .dangerous_register_unsigned_manifest_file(&path("manifest.json"))
        .unwrap();
    let none = host.register_manifest_file(&path("none.json")).unwrap_err();
    assert_eq!(none.code, Code::ConfigInvalid);

    // The same through the configuration.
    let config = format!("[manifests]\nfiles = [{:?}]", path("manifest.json"));
    std::fs::write(path("aral.toml"), config).unwrap();
    let config = crate::Config::load(&path("aral.toml")).unwrap();
    let untrusted = Host::builder()
        .config(config.clone())
        .state_dir(path("s"))
        .build()
        .unwrap_err();
    assert_eq!(untrusted.code, Code::SignatureInvalid);
    let host = trusting().config(config).state_dir(path("s")).build().unwrap();
    assert_eq!(host.capabilities().len(), 1);
}

#[tokio::test]
async fn a_component_alone_runs_for_development() {
    let host = Host::builder().build().unwrap();
    let run = DevelopmentRun {
        component: echo(),
        permissions: Permissions::default(),
        limits: aral_contract::LimitsRequest::default(),
        networks: Vec::new(),
        ungranted: Ungranted::Observe,
    };
    let mut events = host.events();
    let report = host.dangerous_run(&run, b"{}").await.unwrap();
    assert_eq!(report.outcome.result.unwrap(), "{}");
    assert!(report.refusals.is_empty());
    let rubbish = DevelopmentRun {
        component: b"rubbish".to_vec(),
        ..run
    };
    assert_eq!(
        host.dangerous_run(&rubbish, b"{}").await.unwrap_err().code,
        Code::ComponentInvalid
    );
    drop(host);
    let events: Vec<Notice> = events.by_ref().collect().await;
    // The very last is that the host stopped.
    let Some(Notice::Event(last)) = events.iter().rev().nth(1) else {
        panic!("{events:?}");
    };
    assert!(
        matches!(&last.kind, EventKind::AdmissionRefused { subject, .. } if subject == "component"),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_component_that_ends_who_looks_at_it_does_not_end_the_host() {
    let dies = ["-c", "kill -s ABRT $$"].map(str::to_owned);
    let compiler = CompilerKind::child("/bin/sh".into(), dies.to_vec());
    let host = trusting().compiler(compiler).build().unwrap();
    let run = DevelopmentRun {
        component: echo(),
        permissions: Permissions::default(),
        limits: aral_contract::LimitsRequest::default(),
        networks: Vec::new(),
        ungranted: Ungranted::Refuse,
    };
    for failure in [
        register(&host, &manifest(1)).unwrap_err(),
        host.dangerous_run(&run, b"{}").await.unwrap_err(),
    ] {
        assert_eq!(failure.code, Code::ComponentTooLarge, "{failure}");
        assert!(failure.message.contains("to look at"), "{failure}");
    }
    assert!(host.capabilities().is_empty());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "counts what the children left behind")]
fn the_next_host_with_the_same_state_folder_starts_no_child_to_look_at_a_component() {
    // Leaves a file that is named after its process, and finds a tool.
    let script = r#": > "$0/$$"
        printf '+{"found":{"imports":[],"exports":[{"name":"aral:capability/tool@1.0.0","kind":"instance"}],"producers":[]}}'"#;
    let (folder, starts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let args = ["-c", script, starts.path().to_str().unwrap()].map(str::to_owned);
    for _ in 0..2 {
        let config = Config {
            audit: None,
            ..Config::closed().unwrap()
        };
        let compiler = CompilerKind::child("/bin/sh".into(), args.to_vec());
        let host = trusting().config(config).compiler(compiler);
        let host = host.state_dir(folder.path().join("state")).build().unwrap();
        register(&host, &manifest(1)).unwrap();
        assert_eq!(std::fs::read_dir(starts.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn the_sinks_take_every_event() {
    #[derive(Debug, Default)]
    struct Count(std::sync::atomic::AtomicU64);
    impl aral_contract::AuditSink for Count {
        fn record(&self, _event: Event) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let (one, two) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let host = trusting()
        .sink(Arc::clone(&one) as _)
        .sink(Arc::clone(&two) as _)
        .build()
        .unwrap();
    register(&host, &manifest(1)).unwrap();
    let session = host.session(&persona()).unwrap();
    call(&host, &session).await.result.unwrap();
    let count = |sink: &Count| sink.0.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&one), count(&two)), (7, 7));
}

#[test]
fn impossible_settings_are_refused_when_the_host_is_made() {
    let mut config = crate::Config::closed().unwrap();
    config.gate.concurrent_max = 0;
    let failure = Host::builder().config(config.clone()).build().unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.message.contains("concurrent_calls_max"), "{failure}");
    config.gate.concurrent_max = 1;
    config.egress.extra_roots_pem = Some(b"rubbish".to_vec());
    assert_eq!(
        Host::builder().config(config).build().unwrap_err().code,
        Code::ConfigInvalid
    );
}

#[test]
fn a_server_opens_its_store_at_its_start_and_others_only_when_they_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let master_key = crate::config::storage::MasterKeyPlace::Environment("KEY".to_owned());
    let key = aral_contract::SecretValue::new("ab".repeat(32).into_bytes());
    let config = Config {
        memory: Some(crate::config::storage::MemoryConfig {
            dir: folder.path().join("store"),
            cache_bytes_max: 1 << 20,
            free_bytes_min: 0,
            sweep_ms: 1000,
            master_key,
            epoch: None,
        }),
        taken: Some(Taken::new([("KEY".to_owned(), key)]).unwrap()),
        ..Config::closed().unwrap()
    };
    let host = || Host::builder().config(config.clone()).build().unwrap();
    let (first, second) = (host(), host());
    first.open_store().unwrap();
    first.open_store().unwrap();
    let held = second.open_store().unwrap_err();
    assert_eq!(held.code, Code::Unavailable, "{held}");
    drop((first, second));
    host().open_store().unwrap();
    builder().build().unwrap().open_store().unwrap();
}

/// Takes its time to record that the host is gone.
#[derive(Debug)]
struct Slow {
    begun: std::sync::mpsc::Sender<()>,
    recorded: AtomicBool,
}

impl AuditSink for Slow {
    fn record(&self, event: Event) {
        if matches!(
            event.kind,
            EventKind::Lifecycle {
                change: LifecycleChange::Stopped,
                ..
            }
        ) {
            self.begun.send(()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(300));
            self.recorded.store(true, std::sync::atomic::Ordering::Release);
        }
    }
}

#[test]
fn whoever_ends_a_host_that_another_one_ends_waits_until_it_has_ended() {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let sink = Arc::new(Slow {
        begun,
        recorded: AtomicBool::new(false),
    });
    let host = builder().sink(Arc::clone(&sink) as _).build().unwrap();
    let other = host.clone();
    let ending = std::thread::spawn(move || other.end());
    has_begun.recv().unwrap();
    host.end();
    assert!(sink.recorded.load(std::sync::atomic::Ordering::Acquire));
    ending.join().unwrap();
}
