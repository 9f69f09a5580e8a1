//! The path from end to end, with a component written as text: nothing needs a toolchain.

mod agent;
mod beginning;
mod breaker;
mod folders;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use aral_capability::egress::{Egress, EgressOptions};
use aral_capability::{FileWork, Programs, Roots, SecretUses, manifest};
use aral_contract::event::{RoomFuture, SinkUnavailable};
use aral_contract::scope::AbsolutePath;
use aral_contract::{Blame, Code, Digest, LimitsRequest, Permission, Permissions};
use aral_persona::{Persona, persona};
use aral_runtime::{Allocation, CompilerKind, RuntimeOptions};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::budget::Standing;
use crate::policy::RawPolicy;
use crate::session::Home;

const ECHO: &str = include_str!("../../../../examples/echo.wat");
const OPEN: &str = "capabilities = [\"*\"]\npermissions = [\"*\"]\nmemory.namespaces = [\"n\"]\n";

fn echo() -> Vec<u8> {
    wat::parse_str(ECHO).unwrap()
}

/// The same tool with other instructions at the beginning of `invoke`.
fn tool(body: &str) -> Vec<u8> {
    wat::parse_str(ECHO.replace(";; BODY", body)).unwrap()
}

/// A clock that stands still, and stays where it is put; put forward, so much has passed. It panics once, when it was asked
/// how much has passed so often; 0: never.
#[derive(Debug)]
struct TestClock {
    now: Mutex<Timestamp>,
    passed: Mutex<Duration>,
    breaks_in: AtomicUsize,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }
    fn elapsed(&self) -> Duration {
        let less = |left: usize| left.checked_sub(1);
        let left = self.breaks_in.try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        assert_ne!(left, Ok(1), "the clock is broken");
        *self.passed.lock().unwrap()
    }
}

impl TestClock {
    fn set(&self, now: Timestamp) {
        let before = std::mem::replace(&mut *self.now.lock().unwrap(), now);
        *self.passed.lock().unwrap() += Duration::try_from(now.duration_since(before)).unwrap_or_default();
    }
}

/// All events. A clock that it has breaks in the next call that begins to run, when it was asked for the time so often;
/// another one is put forward while the next decision is recorded. There is no room once, when it was asked for some so often;
/// 0: there always is. Who asked is told that at once, or waits for ever.
#[derive(Debug, Default)]
struct Kept(
    Mutex<Vec<EventKind>>,
    Mutex<Option<(Arc<TestClock>, usize)>>,
    Mutex<Option<(Arc<TestClock>, Timestamp)>>,
    AtomicUsize,
    AtomicBool,
);

impl AuditSink for Kept {
    fn record(&self, event: Event) {
        if matches!(event.kind, EventKind::InvocationStarted { .. })
            && let Some((clock, breaks_in)) = self.1.lock().unwrap().take()
        {
            clock.breaks_in.store(breaks_in, Ordering::Relaxed);
        }
        if matches!(event.kind, EventKind::Decision { .. })
            && let Some((clock, later)) = self.2.lock().unwrap().take()
        {
            clock.set(later);
        }
        self.0.lock().unwrap().push(event.kind);
    }

    fn room(&self) -> Option<RoomFuture> {
        let less = |left: usize| left.checked_sub(1);
        let left = self.3.try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let reason = "its disk hangs".to_owned();
        let mut full: RoomFuture = Box::pin(std::future::ready(Err::<(), _>(SinkUnavailable { reason })));
        if self.4.load(Ordering::Relaxed) {
            full = Box::pin(std::future::pending());
        }
        (left == Ok(1)).then_some(full)
    }
}

struct Fixture {
    dispatcher: Dispatcher,
    clock: Arc<TestClock>,
    kept: Arc<Kept>,
    session: Session,
}

fn policy(text: &str) -> Policy {
    let raw: RawPolicy = toml::from_str(text).unwrap();
    Policy::resolve(raw, &"/etc".parse::<AbsolutePath>().unwrap()).unwrap()
}

/// Of all dispatchers of these tests.
static HOME: LazyLock<Home> = LazyLock::new(Home::default);

/// A session that the register does not know.
fn loose(persona: Persona) -> Session {
    Session::root(&HOME, persona, Arc::new(Standing::new()), 0)
}

fn session(constraints: &Value) -> Session {
    session_of("analyst", constraints)
}

fn session_of(id: &str, constraints: &Value) -> Session {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-01T00:00:00Z",
        "id": id, "name": "Analyst", "constraints": constraints,
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    loose(persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now).unwrap())
}

fn open_session() -> Session {
    session(&json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"]}))
}

fn fixture(policy_text: &str, gate: GateOptions) -> Fixture {
    fixture_compiled_by(RuntimeOptions::default().compiler, policy_text, gate)
}

fn fixture_compiled_by(compiler: CompilerKind, policy_text: &str, gate: GateOptions) -> Fixture {
    fixture_within(FileWork::default(), compiler, policy_text, gate)
}

fn fixture_within(file_work: FileWork, compiler: CompilerKind, policy_text: &str, gate: GateOptions) -> Fixture {
    let options = RuntimeOptions {
        allocation: Allocation::OnDemand,
        compiler,
        ..RuntimeOptions::default()
    };
    fixture_on(options, file_work, policy_text, gate)
}

fn fixture_on(options: RuntimeOptions, file_work: FileWork, policy_text: &str, gate: GateOptions) -> Fixture {
    let clock = Arc::new(TestClock {
        now: Mutex::new("2026-06-01T00:00:00Z".parse().unwrap()),
        passed: Mutex::default(),
        breaks_in: AtomicUsize::new(0),
    });
    let kept = Arc::new(Kept::default());
    let mut dispatcher = Dispatcher::new(DispatcherParts {
        runtime: Runtime::new(options).unwrap(),
        registry: Registry::default(),
        services: Services {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            sink: Arc::clone(&kept) as Arc<dyn AuditSink>,
            egress: Arc::new(Egress::new(EgressOptions::default()).unwrap()),
            file_work,
            programs: Programs::default(),
            roots: Roots::default(),
            memory: None,
            secrets: None,
            secret_uses: SecretUses::default(),
            trace_hosts: None,
        },
        policy: policy(policy_text),
        trust: TrustStore::default(),
        gate,
        blinder: Some(Arc::new(aral_audit::Blinder::from_key([7; 32].into()))),
        sampling: aral_contract::Sampling::PASS,
    });
    dispatcher.register = Arc::new(Register::at(HOME.clone()));
    Fixture {
        dispatcher,
        clock,
        kept,
        session: open_session(),
    }
}

fn open() -> Fixture {
    fixture(OPEN, GateOptions::default())
}

impl Fixture {
    fn admit(&self, id: &str, component: &[u8], change: Value) {
        let mut entry = json!({
            "id": id, "version": "1.0.0", "shape": "tool", "component": Digest::of(component), "title": "T",
            "description": "D", "input_schema": {"type": "object"}, "output_schema": {},
        });
        entry
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let document = json!({
            "schema": "aral.manifest/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-09-01T00:00:00Z", "capabilities": [entry],
        });
        let manifest = manifest::dangerous_accept_unsigned(document.to_string().as_bytes(), self.clock.now()).unwrap();
        self.dispatcher
            .registry()
            .admit(&manifest, &|_| Ok(component.to_vec()))
            .unwrap();
    }

    async fn call(&self, id: &str, input: &str) -> Outcome {
        self.call_as(&self.session, id, input).await
    }

    async fn call_as(&self, session: &Session, id: &str, input: &str) -> Outcome {
        let capability = id.parse().unwrap();
        let request = Request {
            capability: &capability,
            version: None,
            input: input.as_bytes(),
            trace: None,
        };
        self.dispatcher.invoke(session, request).await
    }

    fn set_clock(&self, now: &str) {
        self.clock.set(now.parse().unwrap());
    }

    /// So much time passes by the clock that never goes back.
    fn pass(&self, time: Duration) {
        *self.clock.passed.lock().unwrap() += time;
    }

    fn events(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.kept.0.lock().unwrap())
    }

    fn ended(&self) -> Vec<Option<Code>> {
        let code = |kind| match kind {
            EventKind::InvocationEnded { code, .. } => Some(code),
            _ => None,
        };
        self.events().into_iter().filter_map(code).collect()
    }
}

fn code(outcome: &Outcome) -> Code {
    outcome.result.as_ref().unwrap_err().code
}

#[tokio::test]
async fn a_call_is_decided_begun_and_ended_on_the_record() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let outcome = fixture.call("echo", r#"{"a": 1}"#).await;
    assert_eq!(outcome.result.unwrap(), r#"{"a":1}"#);
    assert!(outcome.usage.fuel.unwrap() > 0 && outcome.usage.memory_bytes_peak >= 65_536);
    let grant = outcome.grant.unwrap().digest();
    let events = fixture.events();
    let [
        EventKind::Decision { grant: decided, .. },
        EventKind::InvocationStarted { grant: begun, .. },
        EventKind::InvocationEnded { code: None, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*decided, *begun), (Some(grant), grant));
    // The second call finds the decision in the cache.
    assert!(fixture.call("echo", "{}").await.result.is_ok());
    assert_eq!(fixture.events().len(), 2);
}

#[tokio::test]
async fn what_there_is_no_room_to_record_does_not_begin() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    assert!(fixture.call("echo", "{}").await.result.is_ok());
    fixture.events();
    // Before anything is decided, and once more before the guest runs.
    for (asked, recorded) in [(1, 0), (2, 1)] {
        fixture.kept.3.store(asked, Ordering::Relaxed);
        assert_eq!(code(&fixture.call("echo", "{}").await), Code::AuditUnavailable);
        let events = fixture.events();
        let is_end = |kind: &EventKind| matches!(kind, EventKind::InvocationEnded { .. });
        assert!(events.len() == recorded && events.iter().all(is_end), "{events:?}");
    }
    fixture.kept.3.store(1, Ordering::Relaxed);
    let capability = "echo".parse().unwrap();
    let prepared = fixture.dispatcher.prepare(&fixture.session, &capability, None).await;
    assert_eq!(prepared.unwrap_err().code, Code::AuditUnavailable);
    assert!(fixture.call("echo", "{}").await.result.is_ok());
}

#[tokio::test]
async fn who_is_at_fault_is_told_apart() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("trap", &tool("unreachable"), json!({}));
    fixture.admit("loop", &tool("(loop (br 0))"), json!({"limits": {"fuel": 100_000}}));
    for (id, input, expected, blame) in [
        ("nothing", "{}", Code::CapabilityUnknown, Blame::Caller),
        ("echo", "[]", Code::InputInvalid, Blame::Caller),
        ("echo", "{", Code::InputInvalid, Blame::Caller),
        ("trap", "{}", Code::GuestTrap, Blame::Guest),
        ("loop", "{}", Code::LimitFuel, Blame::Limit),
    ] {
        let outcome = fixture.call(id, input).await;
        assert_eq!(
            (code(&outcome), code(&outcome).blame()),
            (expected, blame),
            "{id} with {input}"
        );
        assert_eq!(outcome.result.unwrap_err().trace, Some(outcome.trace));
        assert_eq!(fixture.ended(), [Some(expected)]);
    }
    assert!(fixture.call("echo", "{}").await.result.is_ok());
}

#[tokio::test]
async fn a_new_policy_decides_every_later_call_anew() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    assert!(fixture.call("echo", "{}").await.result.is_ok());
    let before = fixture.dispatcher.policy().digest();
    fixture.dispatcher.set_policy(policy(""));
    assert_ne!(fixture.dispatcher.policy().digest(), before);
    assert_eq!(code(&fixture.call("echo", "{}").await), Code::PermissionDenied);
    fixture.dispatcher.set_policy(policy(OPEN));
    assert!(fixture.call("echo", "{}").await.result.is_ok());
}

#[tokio::test]
async fn both_documents_are_checked_against_the_clock_at_every_call() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    assert!(fixture.call("echo", "{}").await.result.is_ok());
    fixture.set_clock("2026-10-01T00:00:00Z");
    let outcome = fixture.call("echo", "{}").await;
    assert_eq!(code(&outcome), Code::DocumentStale);
    assert!(outcome.result.unwrap_err().message.contains("manifest expired"));
    fixture.set_clock("2025-10-01T00:00:00Z");
    assert_eq!(code(&fixture.call("echo", "{}").await), Code::DocumentStale);

    let fixture = open();
    fixture.set_clock("2026-08-01T00:00:00Z");
    fixture.admit("echo", &echo(), json!({}));
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-08-02T00:00:00Z",
        "id": "short", "name": "Short", "constraints": {"allowed_capabilities": ["echo"]},
    });
    let persona = persona::dangerous_accept_unsigned(document.to_string().as_bytes(), fixture.clock.now()).unwrap();
    let session = loose(persona);
    assert!(fixture.call_as(&session, "echo", "{}").await.result.is_ok());
    fixture.set_clock("2026-08-02T00:00:00Z");
    let outcome = fixture.call_as(&session, "echo", "{}").await;
    assert!(outcome.result.unwrap_err().message.contains("persona expired"));
}

#[tokio::test]
async fn a_denial_names_the_lines_and_is_recorded() {
    let fixture = fixture("capabilities = [\"echo\"]", GateOptions::default());
    let asked = json!({"permissions": {"memory:read": {"namespaces": ["n"]}}});
    fixture.admit("echo", &echo(), asked);
    let outcome = fixture.call("echo", "{}").await;
    let failure = outcome.result.unwrap_err();
    assert_eq!(failure.code, Code::PermissionDenied);
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("permissions = [\"memory:read\"]") && hint.contains("namespaces = [\"n\"]"),
        "{hint}"
    );
    let events = fixture.events();
    assert!(
        events
            .iter()
            .any(|kind| matches!(kind, EventKind::Decision { grant: None, missing, .. } if missing.len() == 1)),
        "{events:?}"
    );
    let id = "echo".parse().unwrap();
    let explained = fixture.dispatcher.explain(&fixture.session, &id, None).unwrap();
    assert_eq!(explained.decision.outcome.unwrap_err().missing.len(), 1);
    assert_eq!(explained.policy, fixture.dispatcher.policy().digest());
}

#[tokio::test]
async fn dropping_a_call_frees_its_place_and_records_its_end() {
    let gate = GateOptions {
        concurrent_max: 1,
        waiting_max: 0,
        wait_ms: 1,
    };
    let fixture = fixture(&format!("{OPEN}capability.loop.engine = \"epoch-only\"\n"), gate);
    fixture.admit("loop", &tool("(loop (br 0))"), json!({}));
    fixture.admit("echo", &echo(), json!({}));
    let given_up = tokio::time::timeout(Duration::from_millis(300), async {
        let busy = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            fixture.call("echo", "{}").await
        };
        let (_, refused) = futures::join!(fixture.call("loop", "{}"), async {
            let refused = busy.await;
            assert_eq!(code(&refused), Code::Unavailable);
        });
        refused
    });
    assert!(given_up.await.is_err(), "the loop ended by itself");
    let events = fixture.events();
    let ended = events.iter().filter_map(|kind| match kind {
        EventKind::InvocationEnded { code, evidence, .. } => Some((*code, evidence.as_deref()?.output)),
        _ => None,
    });
    // Also who gives up is shown what ran, and that nothing came out of it.
    assert!(ended.eq([(Some(Code::Unavailable), None), (Some(Code::Cancelled), None)]));
    assert!(
        fixture.call("echo", "{}").await.result.is_ok(),
        "the place was not freed"
    );
}

#[tokio::test]
async fn one_decision_serves_many_calls_and_one_persona() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let id = "echo".parse().unwrap();
    let first = fixture.dispatcher.authorize(&fixture.session, &id, None).unwrap();
    let again = fixture
        .dispatcher
        .authorize(&open_session(), &id, Some(&"^1".parse().unwrap()))
        .unwrap();
    assert!(Arc::ptr_eq(&first, &again), "an equal persona has an equal digest");
    let other = session(&json!({"allowed_capabilities": ["other"]}));
    assert_eq!(
        fixture.dispatcher.authorize(&other, &id, None).unwrap_err().code,
        Code::PermissionDenied
    );
    let version = "^2".parse().unwrap();
    let unknown = fixture
        .dispatcher
        .authorize(&fixture.session, &id, Some(&version))
        .unwrap_err();
    assert_eq!(unknown.code, Code::CapabilityUnknown);
}

#[tokio::test]
async fn what_is_kept_is_listed_without_deciding_anew_and_listing_keeps_and_records_nothing() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let id = "echo".parse().unwrap();
    let allowed = |session: &Session| fixture.dispatcher.allowed(session, &id, None);
    let computed = allowed(&fixture.session).unwrap();
    assert_eq!(fixture.dispatcher.ruling.load().kept(), 0);
    let decided = |kind: &EventKind| matches!(kind, EventKind::Decision { .. });
    assert!(!fixture.events().iter().any(decided));
    let kept = fixture.dispatcher.authorize(&fixture.session, &id, None).unwrap();
    assert_eq!(*kept.grant(), computed);
    let again = allowed(&fixture.session).unwrap();
    assert!(Arc::ptr_eq(kept.grant(), &again), "it was computed anew");
    let other = session(&json!({"allowed_capabilities": ["other"]}));
    assert_eq!(allowed(&other).unwrap_err().code, Code::PermissionDenied);
    // Also where the grant is kept, what lets no call through is said.
    let idle = session(&json!({"allowed_capabilities": ["echo"], "rate_limits": {"requests_per_minute": 0}}));
    fixture.dispatcher.authorize(&idle, &id, None).unwrap();
    let failure = allowed(&idle).unwrap_err();
    assert!(failure.message.contains("`requests_per_minute` is 0"), "{failure:?}");
}

fn development(component: Vec<u8>, permissions: Permissions, ungranted: Ungranted) -> DevelopmentRun {
    DevelopmentRun {
        component,
        permissions,
        limits: LimitsRequest::default(),
        networks: Vec::new(),
        ungranted,
    }
}

#[tokio::test]
async fn a_component_without_a_manifest_runs_with_what_is_named_and_warns() {
    let fixture = fixture("", GateOptions::default());
    let permissions: Permissions = serde_json::from_value(json!({"memory:read": {"namespaces": ["n"]}})).unwrap();
    let run = development(echo(), permissions, Ungranted::Refuse);
    let report = fixture.dispatcher.dangerous_run(&run, b"[1]").await.unwrap();
    assert_eq!(report.outcome.result.unwrap(), "[1]");
    assert!(report.outcome.grant.unwrap().permissions.has(Permission::MemoryRead));
    let warned = |kind: &EventKind| matches!(kind, EventKind::DevelopmentOnly { .. });
    assert_eq!(fixture.events().iter().filter(|kind| warned(kind)).count(), 1);
    let limited = DevelopmentRun {
        limits: LimitsRequest {
            fuel: Some(1),
            ..LimitsRequest::default()
        },
        ..run
    };
    let report = fixture.dispatcher.dangerous_run(&limited, b"[1]").await.unwrap();
    assert_eq!(code(&report.outcome), Code::LimitFuel);
    let rubbish = development(b"rubbish".to_vec(), Permissions::default(), Ungranted::Refuse);
    assert_eq!(
        fixture
            .dispatcher
            .dangerous_run(&rubbish, b"{}")
            .await
            .unwrap_err()
            .code,
        Code::ComponentInvalid
    );
}

#[tokio::test]
async fn a_panic_in_the_host_fails_one_call_and_no_other() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    *fixture.kept.1.lock().unwrap() = Some((Arc::clone(&fixture.clock), 1));
    let outcome = fixture.call("echo", "{}").await;
    let failure = outcome.result.unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::Internal, "the host failed")
    );
    assert!(failure.internal.unwrap().contains("the clock is broken"));
    assert_eq!(fixture.ended(), [Some(Code::Internal)]);
    assert!(fixture.call("echo", "{}").await.result.is_ok());
}

#[tokio::test]
async fn a_guest_that_ran_is_known_to_have_run_wherever_the_host_fails() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let id = "echo".parse().unwrap();
    let request = Request {
        capability: &id,
        version: None,
        input: b"{}",
        trace: None,
    };
    let mut phases = Vec::new();
    while phases.last() != Some(&CallPhase::Running) {
        *fixture.kept.1.lock().unwrap() = Some((Arc::clone(&fixture.clock), phases.len() + 1));
        let phase = tokio::sync::watch::Sender::new(CallPhase::default());
        let call = fixture
            .dispatcher
            .invoke_watched(&fixture.session, request, &phase, None);
        assert_eq!(code(&call.await), Code::Internal, "{phases:?}");
        phases.push(*phase.borrow());
    }
    // The host fails before the guest runs as well, and that is told apart.
    assert_eq!(phases.first(), Some(&CallPhase::Preparing), "{phases:?}");
    assert!(phases.is_sorted(), "{phases:?}");
}

#[tokio::test]
async fn observing_lets_a_component_run_that_asks_for_more_than_it_is_given() {
    let fixture = open();
    let import = "(component (import \"aral:capability/memory-read@1.0.0\" (instance))";
    let component = wat::parse_str(ECHO.replacen("(component", import, 1)).unwrap();
    let run = development(component, Permissions::default(), Ungranted::Refuse);
    let refused = fixture.dispatcher.dangerous_run(&run, b"1").await.unwrap_err();
    assert_eq!(refused.code, Code::ImportUncovered);
    let run = DevelopmentRun {
        ungranted: Ungranted::Observe,
        ..run
    };
    let report = fixture.dispatcher.dangerous_run(&run, b"1").await.unwrap();
    assert_eq!(report.outcome.result.unwrap(), "1");
    assert!(!report.outcome.grant.unwrap().permissions.has(Permission::MemoryRead));
}

#[tokio::test]
async fn a_decision_from_the_cache_allocates_nothing() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let id = "echo".parse().unwrap();
    let version: VersionReq = "^1".parse().unwrap();
    fixture.dispatcher.prepare(&fixture.session, &id, None).await.unwrap();
    let measured = allocation_counter::measure(|| {
        for _ in 0..100 {
            fixture
                .dispatcher
                .authorize(&fixture.session, &id, Some(&version))
                .unwrap();
        }
    });
    assert_eq!(measured.count_total, 0);
    let computed = allocation_counter::measure(|| {
        fixture.dispatcher.set_policy(policy(OPEN));
        fixture.dispatcher.authorize(&fixture.session, &id, None).unwrap();
    });
    assert!(computed.count_total > 0, "nothing is counted");
}

#[test]
fn a_capability_that_was_withdrawn_is_let_go() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let (id, other) = ("echo".parse().unwrap(), "other".parse().unwrap());
    fixture.dispatcher.authorize(&fixture.session, &id, None).unwrap();
    let admitted = fixture.dispatcher.registry().find(&id, None).unwrap();
    let (version, held) = (admitted.entry.version.clone(), Arc::downgrade(&admitted));
    drop(admitted);
    fixture.admit("other", &echo(), json!({}));
    assert!(fixture.dispatcher.registry().remove(&id, &version));
    fixture.dispatcher.authorize(&fixture.session, &other, None).unwrap();
    assert!(held.upgrade().is_none(), "its code and its folders are still held");
    assert!(fixture.dispatcher.authorize(&fixture.session, &id, None).is_err());
    assert_eq!(fixture.dispatcher.ruling.load().kept(), 1);
}

#[test]
fn of_one_persona_the_grants_of_its_last_issue_are_kept() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("other", &echo(), json!({}));
    let [echo, other] = ["echo", "other"].map(|id| id.parse().unwrap());
    let kept = || fixture.dispatcher.ruling.load().kept();
    let someone = session_of("someone", &json!({"allowed_capabilities": ["*"]}));
    fixture.dispatcher.authorize(&someone, &echo, None).unwrap();
    for number in 0..3 {
        let issue = session(&json!({"allowed_capabilities": ["echo", "other", format!("n{number}")]}));
        let granted = fixture.dispatcher.authorize(&issue, &echo, None).unwrap();
        assert_eq!(kept(), 2, "both of the issue before this one are gone");
        fixture.dispatcher.authorize(&issue, &other, None).unwrap();
        let again = fixture.dispatcher.authorize(&issue, &echo, None).unwrap();
        assert!(Arc::ptr_eq(&granted, &again));
        assert_eq!(kept(), 3, "with that of another persona");
    }
}

#[test]
fn grants_of_many_personas_do_not_fill_memory() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let id = "echo".parse().unwrap();
    let kept = || fixture.dispatcher.ruling.load().kept();
    for number in 0..granted::GRANTS_MAX {
        let one = session_of(&format!("n{number}"), &json!({"allowed_capabilities": ["echo"]}));
        fixture.dispatcher.authorize(&one, &id, None).unwrap();
    }
    assert_eq!(kept(), granted::GRANTS_MAX);
    fixture.dispatcher.authorize(&fixture.session, &id, None).unwrap();
    assert_eq!(kept(), 1);
}
