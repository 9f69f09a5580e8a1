//! Personas from outside: taken, refused with the reason, kept from being replaced, and stopped while they run.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::document::Validity;
use aral_contract::document::signed::Kind;
use aral_contract::{AuditSink, Clock, Event};
use aral_orchestration::dispatch::{Keeper, Outcome, Request};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::Config;
use crate::HostBuilder;
use crate::serials::SerialFile;
use crate::testing::{Fast, Kept, echo, echo_entry, key, policy};

const OPEN: &str = "capabilities = [\"*\"]";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sign(kind: Kind, serial: u64, body: &Value, seed: u8) -> Vec<u8> {
    let mut header = persona::header(serial, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    header.schema = kind.schema().to_owned();
    let signed = aral_contract::document::signed::sign(kind, &header, body, &key(seed)).unwrap();
    signed.to_string().into_bytes()
}

fn body(change: &Value) -> Value {
    let mut body = json!({"id": "p", "name": "P", "constraints": {"allowed_capabilities": ["echo"]}});
    body.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    body
}

fn persona_of(serial: u64, change: &Value) -> Vec<u8> {
    sign(Kind::Persona, serial, &body(change), 1)
}

/// A clock that stands where it is put, and passes with the machine's for what waits. When it is put forward, so much has
/// passed.
#[derive(Debug)]
struct TestClock {
    put: Mutex<(Timestamp, Duration)>,
    machine: aral_runtime::SystemClock,
}

impl TestClock {
    fn new(text: &str) -> Self {
        Self {
            put: Mutex::new((at(text), Duration::ZERO)),
            machine: aral_runtime::SystemClock::new(),
        }
    }

    fn set(&self, text: &str) {
        let mut put = self.put.lock().unwrap();
        let (before, passed) = *put;
        let more = Duration::try_from(at(text).duration_since(before)).unwrap_or_default();
        *put = (at(text), passed + more);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.put.lock().unwrap().0
    }
    fn elapsed(&self) -> Duration {
        self.put.lock().unwrap().1 + self.machine.elapsed()
    }
}

impl Fixture {
    /// How many attempts there were to override this persona; they are forgotten.
    fn attempts(&self, id: &str) -> usize {
        let attempt = |kind: &EventKind| matches!(kind, EventKind::Security { rule: rule::PERSONA_OVERRIDE, severity: Severity::High, subject, .. } if *subject == format!("persona {id}"));
        let events = self.kept.take();
        events.iter().filter(|kind| attempt(kind)).count()
    }
}

struct Fixture {
    host: Host,
    clock: Arc<TestClock>,
    kept: Arc<Kept>,
}

fn fixture(change: impl FnOnce(HostBuilder) -> HostBuilder) -> Fixture {
    let clock = Arc::new(TestClock::new("2026-06-01T00:00:00Z"));
    let kept = Arc::new(Kept::default());
    // Without a log: that is written by one host at a time.
    let config = Config {
        audit: None,
        policy: policy(OPEN),
        ..Config::closed().unwrap()
    };
    let builder = Host::builder()
        .config(config)
        .trust(key(1).public(), &[Kind::Manifest, Kind::Persona])
        .trust(key(3).public(), &[Kind::Manifest])
        .clock(Arc::clone(&clock) as _)
        .sink(Arc::clone(&kept) as _);
    let host = change(builder).build().unwrap();
    let manifest = sign(Kind::Manifest, 1, &json!({"capabilities": [echo_entry("echo")]}), 3);
    host.register_manifest(&manifest, &|_| Ok(echo())).unwrap();
    Fixture { host, clock, kept }
}

/// A host with this folder of state, whose agents may ask once an hour.
fn once_an_hour(state: &Path) -> Fixture {
    let limit = format!("{OPEN}\nagent.requests_per_hour = 1\n");
    fixture(|builder| builder.state_dir(state).policy(policy(&limit)))
}

impl Fixture {
    fn set_clock(&self, text: &str) {
        self.clock.set(text);
    }

    async fn call(&self, session: &Session) -> Outcome {
        let capability = "echo".parse().unwrap();
        let request = Request {
            capability: &capability,
            version: None,
            input: b"[1]",
            trace: None,
        };
        self.host.invoke(session, request).await
    }

    async fn code(&self, session: &Session) -> Option<Code> {
        self.call(session).await.result.err().map(|failure| failure.code)
    }
}

#[test]
fn each_doubt_has_its_own_reason() {
    let fixture = fixture(|builder| builder);
    let refused = |bytes: &[u8]| fixture.host.session(bytes).unwrap_err();
    let changed = |pointer: &str, value: Value| {
        let mut document: Value = serde_json::from_slice(&persona_of(1, &json!({}))).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string().into_bytes()
    };
    let mut unsigned: Value = serde_json::from_slice(&persona_of(1, &json!({}))).unwrap();
    unsigned.as_object_mut().unwrap().remove("signature");
    let unsigned = unsigned.to_string().into_bytes();
    let by = |seed| sign(Kind::Persona, 1, &body(&json!({})), seed);
    let manifest = sign(Kind::Manifest, 1, &json!({"capabilities": []}), 1);
    let ed448 = changed("/signature/algorithm", json!("Ed448"));
    let renamed = changed("/name", json!("Root"));
    for (bytes, code, message) in [
        (unsigned, Code::SignatureInvalid, "the persona is not signed"),
        (by(2), Code::SignatureInvalid, "which is not trusted"),
        (
            by(3),
            Code::SignatureInvalid,
            "which is not trusted for this kind of document",
        ),
        (ed448, Code::SignatureInvalid, "is signed with `Ed448`, not `Ed25519`"),
        (
            renamed,
            Code::SignatureInvalid,
            "the document was changed after it was signed",
        ),
        (
            manifest,
            Code::DocumentInvalid,
            "the document is `aral.manifest/v1`, not `aral.persona/v1`",
        ),
    ] {
        let failure = refused(&bytes);
        assert!(failure.code == code && failure.message.contains(message), "{failure}");
    }
    fixture.set_clock("2027-01-01T00:00:00Z");
    let expired = refused(&persona_of(1, &json!({})));
    assert!(
        expired.message.contains("the persona expired at 2027-01-01T00:00:00Z"),
        "{expired}"
    );
    fixture.set_clock("2026-06-01T00:00:00Z");
    fixture.host.revoke(key(1).public().id());
    let revoked = refused(&persona_of(1, &json!({})));
    assert!(revoked.message.ends_with("which is revoked"), "{revoked}");
}

#[tokio::test]
async fn a_revoked_key_and_an_expired_persona_stop_a_session_that_runs() {
    let fixture = fixture(|builder| builder);
    let session = fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    assert_eq!(fixture.code(&session).await, None);
    fixture.set_clock("2027-01-01T00:00:00Z");
    assert_eq!(fixture.code(&session).await, Some(Code::DocumentStale));
    fixture.set_clock("2026-06-01T00:00:00Z");
    assert_eq!(fixture.code(&session).await, None);
    fixture.kept.take();
    fixture.host.revoke(key(1).public().id());
    let failure = fixture.call(&session).await.result.unwrap_err();
    assert_eq!(failure.code, Code::SignatureInvalid);
    assert!(failure.message.contains("the persona is signed by key"), "{failure}");
    let changed = |kind: &EventKind| matches!(kind, EventKind::ConfigurationChanged { subject: "trust", .. });
    assert!(fixture.kept.take().iter().any(changed));
}

#[tokio::test]
async fn a_revoked_key_stops_the_capabilities_that_it_signed() {
    let fixture = fixture(|builder| builder);
    let session = fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    assert_eq!(fixture.code(&session).await, None);
    fixture.host.revoke(key(3).public().id());
    let failure = fixture.call(&session).await.result.unwrap_err();
    assert!(failure.message.contains("the manifest is signed by key"), "{failure}");
}

#[tokio::test]
async fn a_key_is_trusted_as_long_as_its_entry_says() {
    let fixture = fixture(|builder| builder);
    let session = fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    let mut trust = TrustStore::default();
    trust.add(key(3).public(), &[Kind::Manifest]);
    let validity = Validity {
        not_before: None,
        not_after: Some(at("2026-06-02T00:00:00Z")),
    };
    trust.add_for(key(1).public(), &[Kind::Persona], validity);
    trust.add(key(2).public(), &[Kind::Persona]);
    fixture.host.set_trust(trust);
    assert_eq!(fixture.code(&session).await, None);
    // Both keys hold during the overlap; the new one goes on.
    let renewed = sign(Kind::Persona, 2, &body(&json!({})), 2);
    let renewed = fixture.host.session(&renewed).unwrap();
    fixture.set_clock("2026-06-02T00:00:00Z");
    assert_eq!(fixture.code(&renewed).await, None);
    let late = fixture.host.session(&persona_of(3, &json!({}))).unwrap_err();
    assert!(
        late.message.contains("not trusted since 2026-06-02T00:00:00Z"),
        "{late}"
    );
}

#[tokio::test]
async fn a_persona_cannot_be_changed_and_every_attempt_is_recorded() {
    let fixture = fixture(|builder| builder);
    let session = fixture.host.session(&persona_of(5, &json!({}))).unwrap();
    fixture.host.session(&persona_of(5, &json!({}))).unwrap();
    assert_eq!(fixture.attempts("p"), 0, "the same document again is no attempt");
    let mut tampered: Value = serde_json::from_slice(&persona_of(6, &json!({}))).unwrap();
    tampered["constraints"]["allowed_permissions"] = json!(["*"]);
    let tampered = tampered.to_string().into_bytes();
    let wider = json!({"constraints": {"allowed_capabilities": ["*"]}});
    for (bytes, code) in [
        (tampered.clone(), Code::SignatureInvalid),
        (sign(Kind::Persona, 6, &body(&wider), 2), Code::SignatureInvalid),
        (persona_of(5, &wider), Code::PersonaOverride),
        (persona_of(4, &wider), Code::DocumentStale),
    ] {
        assert_eq!(fixture.host.session(&bytes).unwrap_err().code, code);
        assert_eq!(fixture.attempts("p"), 1, "{code}");
    }
    let unsigned = fixture.host.dangerous_development_session(&tampered).unwrap_err();
    assert_eq!((unsigned.code, fixture.attempts("p")), (Code::PersonaOverride, 1));
    assert_eq!(
        fixture.code(&session).await,
        None,
        "nothing of it has changed the session"
    );
    let id = "p".parse().unwrap();
    assert_eq!(fixture.host.session_of(&id).unwrap().persona(), session.persona());
    // A newer issue by a trusted key is no attempt. It ends the sessions of the old one.
    fixture.host.session(&persona_of(6, &wider)).unwrap();
    assert_eq!(fixture.attempts("p"), 0);
    assert_eq!(fixture.code(&session).await, Some(Code::DocumentStale));
    let unknown = fixture.host.session_of(&"q".parse().unwrap()).unwrap_err();
    assert_eq!(unknown.code, Code::PersonaUnknown);
}

#[test]
fn a_lower_serial_is_refused_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = || fixture(|builder| builder.state_dir(folder.path().join("state")));
    let (first, second) = (fixture(), fixture());
    first.host.session(&persona_of(5, &json!({}))).unwrap();
    for host in [&first, &second, &fixture()] {
        let refused = host.host.session(&persona_of(4, &json!({}))).unwrap_err();
        assert_eq!(refused.code, Code::DocumentStale);
        assert!(
            refused
                .message
                .contains("serial 4, and was admitted before with serial 5"),
            "{refused}"
        );
        assert_eq!(host.attempts("p"), 1);
    }
    second.host.session(&persona_of(6, &json!({}))).unwrap();
    first.host.session(&persona_of(5, &json!({}))).unwrap_err();
}

/// Notes who keeps others from what is kept from run to run while something is recorded: each record may wait for a disk.
#[derive(Debug)]
struct Locking(PathBuf, Mutex<Vec<String>>);

impl AuditSink for Locking {
    fn record(&self, event: Event) {
        let file = SerialFile::open(&self.0).unwrap();
        let locks = [
            file.lock(&Fast::default()).map(drop),
            file.lock_used(&Fast::default()).map(drop),
        ];
        for failure in locks.into_iter().filter_map(Result::err) {
            self.1.lock().unwrap().push(format!("{:?}: {failure}", event.kind));
        }
    }
}

#[test]
fn nobody_waits_for_a_persona_that_waits_to_be_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let locking = Arc::new(Locking(state.clone(), Mutex::default()));
    let sink = Arc::clone(&locking);
    let fixture = fixture(|builder| builder.state_dir(&state).sink(sink as _));
    fixture.host.session(&persona_of(5, &json!({}))).unwrap();
    fixture.host.session(&persona_of(4, &json!({}))).unwrap_err();
    assert_eq!(fixture.attempts("p"), 1);
    assert_eq!(*locking.1.lock().unwrap(), [""; 0]);
}

/// A clock that puts a folder in the place of the personas that are remembered when it is asked for the time next.
#[derive(Debug)]
struct Spoiling(TestClock, Mutex<Option<PathBuf>>);

impl Clock for Spoiling {
    fn now(&self) -> Timestamp {
        if let Some(state) = self.1.lock().unwrap().take() {
            let dir = files::open_root(&state).unwrap();
            dir.remove_file("personas.json").unwrap();
            dir.create_dir("personas.json").unwrap();
        }
        self.0.now()
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[tokio::test]
async fn a_newer_issue_that_cannot_be_remembered_takes_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let clock = TestClock::new("2026-06-01T00:00:00Z");
    let clock = Arc::new(Spoiling(clock, Mutex::default()));
    let fixture = fixture(|builder| builder.state_dir(&state).clock(Arc::clone(&clock) as _));
    let session = fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    let newer = fixture.host.verified(&persona_of(2, &json!({}))).unwrap();
    *clock.1.lock().unwrap() = Some(state.clone());
    let failure = fixture.host.open(newer).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert_eq!(*clock.1.lock().unwrap(), None, "what was remembered could be read");
    assert_eq!(fixture.code(&session).await, None, "the one that was there goes on");
    let dir = files::open_root(&state).unwrap();
    dir.remove_dir("personas.json").unwrap();
    fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    fixture.host.session(&persona_of(2, &json!({}))).unwrap();
    assert_eq!(fixture.code(&session).await, Some(Code::DocumentStale));
}

#[tokio::test]
async fn a_restart_resets_neither_the_requests_nor_the_cost_of_the_hour() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = |policy_text: &str| {
        fixture(|builder| {
            builder
                .state_dir(folder.path().join("state"))
                .policy(policy(policy_text))
        })
    };
    let bytes = persona_of(1, &json!({}));
    let prices = format!("{OPEN}\nprice.call_micro = 4\nagent.cost_per_hour_micro = 10\n");
    for left in [true, true, false] {
        let fixture = fixture(&prices);
        let session = fixture.host.session(&bytes).unwrap();
        let expected = (!left).then_some(Code::LimitCost);
        assert_eq!(fixture.code(&session).await, expected);
    }
    let fixture = fixture(&format!("{OPEN}\nagent.requests_per_hour = 2\n"));
    let session = fixture.host.session(&bytes).unwrap();
    let failure = fixture.call(&session).await.result.unwrap_err();
    assert_eq!(failure.code, Code::LimitRate);
    assert!(
        failure
            .retry_after
            .is_some_and(|wait| wait > Duration::from_secs(3_500)),
        "{failure:?}"
    );
    fixture.set_clock("2026-06-01T01:00:00Z");
    assert_eq!(fixture.code(&session).await, None);
}

/// Waits for what happens by itself, also on a machine that is busy with other things.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never holds");
}

/// Whether the use of one call is kept.
fn is_kept(state: &Path) -> bool {
    let kept = files::read_path(&state.join("used.json"), 1 << 20);
    kept.is_ok_and(|kept| String::from_utf8_lossy(&kept).contains(",1]]"))
}

#[tokio::test]
async fn whoever_puts_the_time_of_day_forward_gives_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let one = once_an_hour(&folder.path().join("state"));
    let session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    assert_eq!(one.code(&session).await, None);
    one.clock.put.lock().unwrap().0 = at("2026-06-01T02:00:00Z");
    one.host.0.keep_used();
    assert_eq!(one.code(&session).await, Some(Code::LimitRate));
    one.set_clock("2026-06-01T03:00:00Z");
    assert_eq!(one.code(&session).await, None);
}

#[tokio::test]
async fn what_was_used_is_kept_a_second_later_and_shared_between_processes() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let fixture = || once_an_hour(&state);
    let (one, other) = (fixture(), fixture());
    let bytes = persona_of(1, &json!({}));
    let session = one.host.session(&bytes).unwrap();
    assert_eq!(one.code(&session).await, None);
    until(|| is_kept(&state)).await;
    let session = other.host.session(&bytes).unwrap();
    assert_eq!(
        other.code(&session).await,
        Some(Code::LimitRate),
        "the first host still runs"
    );
}

#[tokio::test]
async fn what_others_used_is_learned_also_with_nothing_to_keep() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let fixture = || once_an_hour(&state);
    let (one, other) = (fixture(), fixture());
    let bytes = persona_of(1, &json!({}));
    let (idle, busy) = (one.host.session(&bytes).unwrap(), other.host.session(&bytes).unwrap());
    assert_eq!(other.code(&busy).await, None);
    other.host.0.keep_used();
    one.host.0.keep_used();
    assert_eq!(one.code(&idle).await, Some(Code::LimitRate));
}

#[tokio::test]
async fn what_is_used_without_the_host_in_between_is_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let one = fixture(|builder| builder.state_dir(&state));
    let session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    let capability = "echo".parse().unwrap();
    let request = Request {
        capability: &capability,
        version: None,
        input: b"[1]",
        trace: None,
    };
    // As a server does it.
    let outcome = one.host.dispatcher().invoke(&session, request).await;
    outcome.result.unwrap();
    // While the host still runs.
    until(|| is_kept(&state)).await;
}

#[tokio::test]
async fn one_keeps_what_is_used_and_one_is_next() {
    let folder = tempfile::tempdir().unwrap();
    let one = fixture(|builder| builder.state_dir(folder.path().join("state")));
    let _session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    let parts = &one.host.0;
    let is_awaited = || parts.keeping.load(Ordering::Acquire);
    // As long as somebody else has the file, keeping takes.
    let held = parts.serials.as_ref().unwrap().lock_used(&*parts.clock).unwrap();
    Keeper::used(Arc::clone(parts));
    // What is used now is not in what is being kept.
    until(|| !is_awaited()).await;
    let begun = tokio::time::Instant::now();
    Keeper::used(Arc::clone(parts));
    drop(held);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The first is done, and the next is still to come, unless this took so long that it has come.
    assert!(is_awaited() || begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_cannot_be_kept_now_is_kept_later() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let fixture = || once_an_hour(&state);
    let one = fixture();
    let bytes = persona_of(1, &json!({}));
    let session = one.host.session(&bytes).unwrap();
    assert_eq!(one.code(&session).await, None);
    files::write_path(&state.join("used.json"), b"{", 0o600, files::Replace::Allow).unwrap();
    one.host.0.keep_used();
    assert_eq!(
        one.code(&session).await,
        Some(Code::LimitRate),
        "it is not forgotten here either"
    );
    files::write_path(&state.join("used.json"), b"{}", 0o600, files::Replace::Allow).unwrap();
    one.host.0.keep_used();
    let other = fixture();
    let session = other.host.session(&bytes).unwrap();
    assert_eq!(other.code(&session).await, Some(Code::LimitRate));
}

#[tokio::test]
async fn what_is_used_while_a_configuration_is_read_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let one = once_an_hour(&state);
    let bytes = persona_of(1, &json!({}));
    let session = one.host.session(&bytes).unwrap();
    // It stands, as one does that reads a file on a mount that does not answer.
    let reading = one.host.0.serials.as_ref().unwrap().lock(&*one.host.0.clock).unwrap();
    assert_eq!(one.code(&session).await, None);
    one.host.end();
    drop(reading);
    let other = once_an_hour(&state);
    let session = other.host.session(&bytes).unwrap();
    assert_eq!(other.code(&session).await, Some(Code::LimitRate));
}

#[tokio::test]
async fn what_is_kept_although_that_failed_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let one = once_an_hour(&state);
    let session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    assert_eq!(one.code(&session).await, None);
    let unsynced = &one.host.0.serials.as_ref().unwrap().unsynced;
    unsynced.store(1, Ordering::Release);
    one.host.0.keep_used();
    one.host.0.keep_used();
    assert!(is_kept(&state), "one call, and not two");
}

#[tokio::test]
async fn a_persona_that_could_not_be_remembered_does_not_end_the_one_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let one = fixture(|builder| builder.state_dir(folder.path().join("state")));
    let session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    let file = one.host.0.serials.as_ref().unwrap();
    file.unsynced.store(1, Ordering::Release);
    let failure = one.host.session(&persona_of(2, &json!({}))).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    let kept = file.lock(&*one.host.0.clock).unwrap().personas().unwrap();
    assert_eq!(kept.into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(one.code(&session).await, None);
}

#[tokio::test]
async fn what_cannot_be_kept_is_tried_again_without_another_call() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let one = once_an_hour(&state);
    let session = one.host.session(&persona_of(1, &json!({}))).unwrap();
    let parts = &one.host.0;
    let is_awaited = || parts.keeping.load(Ordering::Acquire);
    // As long as somebody else has the file, keeping takes: it finds what is there when that is over.
    let held = parts.serials.as_ref().unwrap().lock_used(&*parts.clock).unwrap();
    assert_eq!(one.code(&session).await, None);
    until(|| !is_awaited()).await;
    files::write_path(&state.join("used.json"), b"{", 0o600, files::Replace::Allow).unwrap();
    drop(held);
    until(is_awaited).await;
    // What stands in the way now is said too, and that nothing does any more.
    until(|| parts.unkept.reason().contains("used.json` is damaged")).await;
    files::write_path(&state.join("used.json"), b"{}", 0o600, files::Replace::Allow).unwrap();
    until(|| is_kept(&state)).await;
    until(|| parts.unkept.reason().is_empty()).await;
}

#[test]
fn damage_to_what_is_kept_is_no_reason_to_forget_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let fixture = fixture(|builder| builder.state_dir(&state));
    fixture.host.session(&persona_of(1, &json!({}))).unwrap();
    for file in ["personas.json", "used.json"] {
        files::write_path(&state.join(file), b"{", 0o600, files::Replace::Allow).unwrap();
        let failure = fixture.host.session(&persona_of(1, &json!({}))).unwrap_err();
        assert_eq!(failure.code, Code::Internal);
        let told = format!("`{}` is damaged", state.join(file).display());
        assert!(failure.message.contains(&told), "{failure}");
        files::write_path(&state.join(file), b"{}", 0o600, files::Replace::Allow).unwrap();
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    files::write_path(&path, bytes, 0o600, files::Replace::Allow).unwrap();
    path
}

fn config(folder: &Path, policy: &str, revoked: &[KeyId]) -> Config {
    write(folder, "key.pub.pem", key(1).public().to_pem().unwrap().as_bytes());
    write(folder, "tools.pub.pem", key(3).public().to_pem().unwrap().as_bytes());
    let revoked: Vec<String> = revoked.iter().map(ToString::to_string).collect();
    let text = format!(
        "state_dir = \"state\"\ntrust = [{{ public_key = \"key.pub.pem\", kinds = [\"persona\"] }}, \
         {{ public_key = \"tools.pub.pem\", kinds = [\"manifest\"] }}]\n[revoked]\nkeys = {revoked:?}\n[personas]\n\
         files = [\"persona.json\"]\n[policy]\n{policy}\n"
    );
    Config::load(&write(folder, "aral.toml", text.as_bytes())).unwrap()
}

/// What is on record of personas: who is refused with which code, and who is believed or not. It is forgotten.
fn said_of_personas(kept: &Kept) -> Vec<String> {
    let said = |event: EventKind| match event {
        EventKind::AdmissionRefused { subject, code, .. } => Some(format!("{subject}: {code}")),
        EventKind::Authentication {
            agent,
            method: AuthenticationMethod::Persona,
            refused,
            ..
        } => {
            let agent = agent.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
            let outcome = if refused.is_some() { "refused" } else { "believed" };
            Some(format!("{agent} {outcome}"))
        }
        _ => None,
    };
    kept.take().into_iter().filter_map(said).collect()
}

/// Somebody is not believed, and it is said which file and, if it is one, whose persona that was.
fn refusal(agent: Option<&str>, file: &Path, code: Code) -> Vec<String> {
    let id = agent.map(|id| format!(" {id}")).unwrap_or_default();
    vec![
        format!("persona{id} in `{}`: {code}", file.display()),
        format!("{} refused", agent.unwrap_or("nobody")),
    ]
}

#[test]
fn during_development_one_outcome_is_on_record_and_not_two() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture(|builder| builder);
    let open = |bytes: &[u8], personas| {
        let path = write(folder.path(), "persona.json", bytes);
        let code = fixture
            .host
            .session_of_file(&path, personas)
            .err()
            .map(|failure| failure.code);
        (code, said_of_personas(&fixture.kept), path)
    };
    let unsigned = body(&json!({})).to_string().into_bytes();
    let by_nobody = sign(Kind::Persona, 1, &body(&json!({})), 9);
    fixture.kept.take();
    for document in [&unsigned, &by_nobody] {
        let (code, said, path) = open(document, Personas::Signed);
        let code = code.unwrap();
        assert_eq!(said, refusal(Some("p"), &path, code), "the control");
    }
    let path = write(folder.path(), "persona.json", &by_nobody);
    fixture.host.session_of_file(&path, Personas::Development).unwrap();
    let events = fixture.kept.take();
    let why = events.iter().find_map(|event| match event {
        EventKind::DevelopmentOnly { subject } => Some(subject.as_str()),
        _ => None,
    });
    let why = why.unwrap();
    assert!(
        why.starts_with("persona `p` without a signature that counts: ") && why.contains("not trusted"),
        "{why}"
    );
    let (code, said, _) = open(&by_nobody, Personas::Development);
    assert_eq!((code, said), (None, vec!["p believed".to_owned()]));
    fixture.set_clock("2028-01-01T00:00:00Z");
    let (code, said, path) = open(&by_nobody, Personas::Development);
    let code = code.unwrap();
    assert_eq!(said, refusal(Some("p"), &path, code), "it has expired, too");
}

#[test]
fn a_persona_that_is_refused_when_the_configuration_is_read_again_is_on_record_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "persona.json", &persona_of(1, &json!({})));
    let first = config(folder.path(), OPEN, &[]);
    let fixture = fixture(|builder| builder.config(first.clone()));
    let file = files::canonical(folder.path()).unwrap().join("persona.json");
    assert_eq!(said_of_personas(&fixture.kept), ["p believed"]);
    fixture.host.reload(&first).unwrap();
    assert_eq!(said_of_personas(&fixture.kept), ["p believed"]);
    let refused = |code: Code| {
        let failure = fixture.host.reload(&first).unwrap_err();
        assert_eq!(failure.code, code);
        let mut said = said_of_personas(&fixture.kept);
        assert_eq!(said.pop(), Some(format!("configuration: {code}")));
        said
    };
    write(folder.path(), "persona.json", &persona_of(1, &json!({"name": "Q"})));
    assert_eq!(
        refused(Code::PersonaOverride),
        refusal(Some("p"), &file, Code::PersonaOverride)
    );
    write(
        folder.path(),
        "persona.json",
        &sign(Kind::Persona, 1, &body(&json!({})), 9),
    );
    assert_eq!(
        refused(Code::SignatureInvalid),
        refusal(Some("p"), &file, Code::SignatureInvalid)
    );
    let dir = files::open_root(folder.path()).unwrap();
    dir.remove_file("persona.json").unwrap();
    assert_eq!(refused(Code::ConfigInvalid), refusal(None, &file, Code::ConfigInvalid));
}

#[tokio::test]
async fn personas_of_the_configuration_are_there_or_the_host_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OPEN, &[]);
    let kept = Arc::new(Kept::default());
    let build = || {
        let host = Host::builder().config(config.clone());
        host.sink(Arc::clone(&kept) as _).build()
    };
    let file = files::canonical(folder.path()).unwrap().join("persona.json");
    let refused = |agent: Option<&str>, code: Code| {
        assert_eq!(said_of_personas(&kept), refusal(agent, &file, code));
    };
    let absent = build().unwrap_err();
    assert_eq!(absent.code, Code::ConfigInvalid);
    assert!(
        absent.message.starts_with("[personas] there is no persona at `") && absent.message.ends_with("persona.json`"),
        "{absent}"
    );
    refused(None, Code::ConfigInvalid);
    write(
        folder.path(),
        "persona.json",
        &sign(Kind::Persona, 1, &body(&json!({})), 2),
    );
    let unknown = build().unwrap_err();
    assert_eq!(unknown.code, Code::SignatureInvalid);
    refused(Some("p"), Code::SignatureInvalid);
    assert!(
        unknown.message.contains("[personas] `") && unknown.message.contains("not trusted"),
        "{unknown}"
    );
    write(
        folder.path(),
        "persona.json",
        &sign(Kind::Persona, 1, &body(&json!({})), 1),
    );
    // These are valid today, whenever that is, or expired; either way the reason is the right one.
    let expired = Timestamp::from_second(aral_runtime::SystemClock::new().now().as_second()).unwrap();
    match build() {
        Ok(host) => assert_eq!(host.sessions().len(), 1),
        Err(failure) => assert!(expired > at("2027-01-01T00:00:00Z"), "{failure}"),
    }
}

#[tokio::test]
async fn reloading_takes_policy_and_trust_and_changes_no_persona() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "persona.json", &persona_of(1, &json!({})));
    let first = config(folder.path(), OPEN, &[]);
    let fixture = fixture(|builder| builder.config(first.clone()));
    let session = fixture.host.session_of(&"p".parse().unwrap()).unwrap();
    assert_eq!(fixture.code(&session).await, None);
    fixture.host.reload(&config(folder.path(), "", &[])).unwrap();
    assert_eq!(fixture.code(&session).await, Some(Code::PermissionDenied));
    // Nor does anything of one that names another document for it.
    write(folder.path(), "persona.json", &persona_of(1, &json!({"name": "Q"})));
    fixture.attempts("p");
    let failure = fixture.host.reload(&config(folder.path(), OPEN, &[])).unwrap_err();
    assert_eq!((failure.code, fixture.attempts("p")), (Code::PersonaOverride, 1));
    assert_eq!(fixture.code(&session).await, Some(Code::PermissionDenied));
    write(folder.path(), "persona.json", &persona_of(1, &json!({})));
    fixture.host.reload(&config(folder.path(), OPEN, &[])).unwrap();
    assert_eq!(fixture.code(&session).await, None);
    write(folder.path(), "other.json", b"");
    let revoking = config(folder.path(), OPEN, &[key(3).public().id()]);
    fixture.host.reload(&revoking).unwrap();
    assert_eq!(fixture.code(&session).await, Some(Code::SignatureInvalid));
}

#[test]
fn of_a_configuration_with_an_older_issue_nothing_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("kept");
    let fixture = || fixture(|builder| builder.state_dir(&state));
    fixture().host.session(&persona_of(5, &json!({}))).unwrap();
    let next = fixture();
    write(folder.path(), "persona.json", &persona_of(4, &json!({})));
    let before = next.host.policy().digest();
    let read = config(folder.path(), "", &[]);
    let read = Config {
        personas: read.personas,
        policy: read.policy,
        trust: read.trust,
        audit: None,
        ..Config::closed().unwrap()
    };
    // Nor is one that it names beside it.
    let new = |serial, name: &str| {
        let change = json!({"id": "new", "name": name});
        write(folder.path(), "new.json", &persona_of(serial, &change))
    };
    let read = Config {
        personas: [vec![new(1, "N")], read.personas.clone()].concat(),
        ..read
    };
    next.kept.take();
    let failure = next.host.reload(&read).unwrap_err();
    assert_eq!(
        (failure.code, next.host.policy().digest()),
        (Code::DocumentStale, before)
    );
    let said = said_of_personas(&next.kept);
    assert!(said.iter().all(|said| !said.contains("believed")), "{said:?}");
    assert!(next.host.sessions().is_empty());
    write(folder.path(), "persona.json", &persona_of(5, &json!({})));
    new(2, "M");
    next.host.reload(&read).unwrap();
    assert_eq!(said_of_personas(&next.kept), ["new believed", "p believed"]);
    assert_eq!(next.host.sessions().len(), 2);
    // It is remembered what was taken.
    new(1, "N");
    let third = fixture();
    assert_eq!(third.host.reload(&read).unwrap_err().code, Code::DocumentStale);
}

#[test]
fn a_configuration_that_cannot_be_remembered_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("kept");
    let fixture = fixture(|builder| builder.state_dir(&state));
    write(folder.path(), "persona.json", &persona_of(2, &json!({})));
    let read = config(folder.path(), OPEN, &[]);
    let read = Config {
        personas: read.personas,
        trust: read.trust,
        audit: None,
        ..Config::closed().unwrap()
    };
    let dir = files::open_root(&state).unwrap();
    let remembered = || files::read_capped(&dir, "personas.json", 1 << 20).ok();
    // What was used up cannot be read; then, what was taken cannot be written.
    for name in ["used.json", "personas.json"] {
        dir.create_dir(name).unwrap();
        fixture.host.reload(&read).unwrap_err();
        if name == "used.json" {
            fixture.host.session(&persona_of(2, &json!({}))).unwrap_err();
        }
        assert!(fixture.host.sessions().is_empty(), "{name}");
        dir.remove_dir(name).unwrap();
        assert_eq!(remembered(), None, "{name}");
    }
    // Nobody has ever seen that issue: an older one is as good.
    write(folder.path(), "persona.json", &persona_of(1, &json!({})));
    fixture.host.reload(&read).unwrap();
    assert!(remembered().is_some());
    assert_eq!(fixture.host.sessions().len(), 1);
}

#[test]
fn of_a_configuration_that_names_two_issues_of_one_persona_nothing_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture(|builder| builder);
    write(folder.path(), "persona.json", &persona_of(1, &json!({})));
    let read = config(folder.path(), OPEN, &[]);
    let other = write(folder.path(), "other.json", &persona_of(2, &json!({})));
    let read = |other: &Path| Config {
        personas: [read.personas.clone(), vec![other.to_owned()]].concat(),
        trust: read.trust.clone(),
        audit: None,
        ..Config::closed().unwrap()
    };
    let failure = fixture.host.reload(&read(&other)).unwrap_err();
    assert_eq!((failure.code, fixture.attempts("p")), (Code::PersonaOverride, 1));
    assert!(fixture.host.sessions().is_empty());
    let same = write(folder.path(), "same.json", &persona_of(1, &json!({})));
    fixture.host.reload(&read(&same)).unwrap();
    assert_eq!(fixture.host.sessions().len(), 1);
    // At start it is refused as well: the next start would be, and nobody would know why.
    let clock = Arc::new(TestClock::new("2026-06-01T00:00:00Z"));
    let start = |other| {
        Host::builder()
            .config(read(other))
            .clock(Arc::clone(&clock) as _)
            .build()
    };
    assert_eq!(start(&other).unwrap_err().code, Code::PersonaOverride);
    assert_eq!(start(&same).unwrap().sessions().len(), 1);
}
