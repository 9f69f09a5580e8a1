//! The breaker on the path: what counts, what a caller is told, what is recorded and what is not paid.

use aral_contract::event::Severity;

use super::*;
use crate::breaker::Verdict;

const NUMBERS: &str = "breaker.failures = 2\nbreaker.open_ms = 1000\nbreaker.open_max_ms = 3000\n";
/// A tool that traps if its input has so many bytes or more.
const TRAP_IF_LONG: &str = "(if (i32.ge_u (local.get $length) (i32.const 20)) (then unreachable))";
const LONG: &str = r#"{"long": "long enough to trap"}"#;

fn lines(more: &str) -> Fixture {
    let fixture = fixture(&format!("{OPEN}{NUMBERS}{more}\n"), GateOptions::default());
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("trap", &tool("unreachable"), json!({}));
    fixture
}

fn named(id: &str) -> Session {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-01T00:00:00Z",
        "id": id, "name": id, "constraints": {
            "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_agents": ["*"],
        },
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    loose(persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now).unwrap())
}

/// The codes of so many calls.
async fn codes(fixture: &Fixture, session: &Session, id: &str, input: &str, count: usize) -> Vec<Option<Code>> {
    let mut codes = Vec::new();
    for _ in 0..count {
        let outcome = fixture.call_as(session, id, input).await;
        codes.push(outcome.result.err().map(|failure| failure.code));
    }
    codes
}

/// When a call that traps may be tried again.
async fn wait(fixture: &Fixture, session: &Session) -> Option<Duration> {
    let outcome = fixture.call_as(session, "trap", "{}").await;
    outcome.result.unwrap_err().retry_after
}

const TRAP: Option<Code> = Some(Code::GuestTrap);
const REFUSED: Option<Code> = Some(Code::CapabilityOpenCircuit);

#[tokio::test]
async fn what_keeps_failing_is_refused_before_it_runs_and_costs_nothing() {
    let fixture = lines("price.call_micro = 5\nagent.cost_per_hour_micro = 15");
    let session = named("analyst");
    assert_eq!(codes(&fixture, &session, "trap", "{}", 2).await, [TRAP, TRAP]);
    fixture.events();
    let outcome = fixture.call_as(&session, "trap", "{}").await;
    assert!(outcome.cost_micro == 0 && outcome.version.is_none() && outcome.grant.is_none());
    let failure = outcome.result.unwrap_err();
    assert_eq!(
        (failure.code, failure.code.blame()),
        (Code::CapabilityOpenCircuit, Blame::Guest)
    );
    assert_eq!(failure.retry_after, Some(Duration::from_secs(1)));
    assert!(failure.hint.unwrap().starts_with("call again in 1 s"));
    let events = fixture.events();
    let [
        EventKind::InvocationEnded {
            code,
            evidence: None,
            persona,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*code, persona.as_str()), (REFUSED, "analyst"));
    // Two calls cost 10 of 15: what was put aside for those that were refused is there again.
    assert_eq!(codes(&fixture, &session, "trap", "{}", 5).await, [REFUSED; 5]);
    assert_eq!(
        codes(&fixture, &session, "echo", "{}", 2).await,
        [None, Some(Code::LimitCost)]
    );
}

#[tokio::test]
async fn another_persona_and_another_capability_are_not_refused() {
    let fixture = lines("");
    let (analyst, other) = (named("analyst"), named("other"));
    assert_eq!(codes(&fixture, &analyst, "trap", "{}", 3).await, [TRAP, TRAP, REFUSED]);
    assert_eq!(codes(&fixture, &other, "trap", "{}", 1).await, [TRAP]);
    assert_eq!(codes(&fixture, &analyst, "echo", "{}", 1).await, [None]);
}

#[tokio::test]
async fn a_called_agent_passes_the_same_breaker() {
    let fixture = lines("");
    let helper = named("helper");
    let called = helper.called_by(&named("lead"));
    assert_eq!(codes(&fixture, &called, "trap", "{}", 2).await, [TRAP, TRAP]);
    assert_eq!(codes(&fixture, &helper, "trap", "{}", 1).await, [REFUSED]);
    assert_eq!(codes(&fixture, &called, "trap", "{}", 1).await, [REFUSED]);
}

#[tokio::test]
async fn opening_and_closing_are_on_the_record_once_each() {
    let fixture = lines("");
    fixture.admit("long", &tool(TRAP_IF_LONG), json!({}));
    let session = named("analyst");
    assert_eq!(codes(&fixture, &session, "long", LONG, 3).await, [TRAP, TRAP, REFUSED]);
    fixture.pass(Duration::from_secs(1));
    assert_eq!(codes(&fixture, &session, "long", LONG, 2).await, [TRAP, REFUSED]);
    fixture.pass(Duration::from_secs(1));
    assert_eq!(
        codes(&fixture, &session, "long", "{}", 1).await,
        [REFUSED],
        "the pause is two seconds now"
    );
    fixture.pass(Duration::from_secs(1));
    assert_eq!(fixture.dispatcher.breakers_open(), 0, "one is let through");
    assert_eq!(codes(&fixture, &session, "long", "{}", 2).await, [None, None]);
    let seen: Vec<(Severity, &str, String)> = fixture
        .events()
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::Security {
                severity,
                rule,
                subject,
                reason: None,
                source: None,
            } => Some((severity, rule, subject)),
            _ => None,
        })
        .collect();
    let subject = || "capability long for persona analyst".to_owned();
    assert_eq!(
        seen,
        [
            (Severity::Medium, "breaker.opened", subject()),
            (Severity::Medium, "breaker.opened", subject()),
            (Severity::Info, "breaker.closed", subject()),
        ]
    );
}

#[tokio::test]
async fn what_is_the_callers_fault_or_the_guests_own_answer_opens_nothing() {
    let fixture = lines("");
    fixture.admit(
        "strict",
        &tool("unreachable"),
        json!({"input_schema": {"type": "array"}}),
    );
    fixture.admit(
        "denied",
        &echo(),
        json!({"permissions": {"file:read": {"paths": [{"guest": "/a", "host": "/a"}]}}}),
    );
    let session = named("analyst");
    for (id, input, code) in [
        ("strict", "{}", Code::InputInvalid),
        ("echo", "{", Code::InputInvalid),
        ("denied", "{}", Code::PermissionDenied),
    ] {
        assert_eq!(codes(&fixture, &session, id, input, 4).await, [Some(code); 4], "{id}");
    }
    // Nor does what the caller gives up.
    fixture.admit("loop", &tool("(loop (br 0))"), json!({}));
    fixture
        .dispatcher
        .prepare(&session, &"loop".parse().unwrap(), None)
        .await
        .unwrap();
    for _ in 0..3 {
        let mut call = Box::pin(fixture.call_as(&session, "loop", "{}"));
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    let opened = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Security {
                rule: "breaker.opened",
                ..
            }
        )
    };
    assert!(!fixture.events().iter().any(opened));
    assert_eq!(fixture.dispatcher.breakers_open(), 0);
}

#[tokio::test]
async fn limits_of_the_call_code_that_does_not_compile_and_a_host_at_fault_count() {
    let fixture = lines("");
    fixture.admit("loop", &tool("(loop (br 0))"), json!({"limits": {"fuel": 100_000}}));
    let fuel = Some(Code::LimitFuel);
    assert_eq!(
        codes(&fixture, &named("analyst"), "loop", "{}", 3).await,
        [fuel, fuel, REFUSED]
    );
    for (code, verdict) in [
        (Code::LimitWall, Verdict::Failed),
        (Code::LimitMemory, Verdict::Failed),
        (Code::ComponentInvalid, Verdict::Failed),
        (Code::ComponentTooLarge, Verdict::Failed),
        (Code::Internal, Verdict::Failed),
        (Code::GuestError, Verdict::Answered),
        (Code::LimitHostCall, Verdict::Answered),
        (Code::PermissionDenied, Verdict::Silent),
        (Code::Cancelled, Verdict::Silent),
        (Code::Unavailable, Verdict::Silent),
        (Code::LimitRate, Verdict::Silent),
        (Code::CapabilityOpenCircuit, Verdict::Silent),
    ] {
        assert_eq!(breaking::verdict(&Failure::new(code, "it ended")), verdict, "{code}");
    }
}

#[test]
fn what_is_not_tried_again_for_a_while_does_not_count() {
    for (code, verdict) in [
        (Code::ComponentTooLarge, Verdict::Silent),
        (Code::Internal, Verdict::Silent),
        (Code::GuestTrap, Verdict::Failed),
        (Code::LimitWall, Verdict::Failed),
    ] {
        let failure = Failure::new(code, "it ended").with_retry_after(Duration::from_secs(30));
        assert_eq!(breaking::verdict(&failure), verdict, "{code}");
    }
}

/// A tool that runs for ever, on a host with one place. What there is to compile is compiled, and time passes when it is told to.
async fn looping() -> Fixture {
    let limits = "limits.fuel = 1_000_000_000_000_000\nlimits.compute_ms = 600_000\nlimits.wall_ms = 600_000\n";
    let gate = GateOptions {
        concurrent_max: 1,
        ..GateOptions::default()
    };
    let fixture = fixture(&format!("{OPEN}{NUMBERS}{limits}"), gate);
    let wide = json!({"fuel": 1_000_000_000_000_000_u64, "compute_ms": 600_000, "wall_ms": 600_000});
    fixture.admit("loop", &tool("(loop (br 0))"), json!({ "limits": wide }));
    fixture
        .dispatcher
        .prepare(&named("analyst"), &"loop".parse().unwrap(), None)
        .await
        .unwrap();
    fixture.events();
    tokio::time::pause();
    fixture
}

/// A request with an empty object.
fn empty(id: &CapabilityId) -> Request<'_> {
    Request {
        capability: id,
        version: None,
        input: b"{}",
        trace: None,
    }
}

/// Calls it for somebody who waits for a second, of which it has to wait so much for a place.
async fn loops(fixture: &Fixture, wait: Duration) -> Outcome {
    let (session, id) = (named("analyst"), "loop".parse().unwrap());
    let request = empty(&id);
    let phase = tokio::sync::watch::Sender::new(CallPhase::default());
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    let place = fixture.dispatcher.gate.enter().await.unwrap();
    let call = fixture
        .dispatcher
        .invoke_watched(&session, request, &phase, Some(until));
    let mut call = std::pin::pin!(call);
    if let std::task::Poll::Ready(refused) = futures::poll!(call.as_mut()) {
        return refused;
    }
    tokio::time::advance(wait).await;
    drop(place);
    while *phase.borrow() != CallPhase::Running {
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    // Timers go by whole milliseconds, and a clock that is told what time it is does not go on by itself under a guest that runs.
    tokio::time::advance(Duration::from_millis(1001) - wait).await;
    call.await
}

#[tokio::test]
async fn a_guest_that_runs_until_nobody_waits_any_longer_counts() {
    let fixture = looping().await;
    for expected in [Code::LimitWall, Code::LimitWall, Code::CapabilityOpenCircuit] {
        assert_eq!(code(&loops(&fixture, Duration::ZERO).await), expected);
        let seen = fixture.ended();
        assert_eq!(seen, [Some(expected)], "it ended, and was not given up");
    }
}

#[tokio::test]
async fn a_guest_that_a_busy_host_gave_little_time_to_does_not_count() {
    let fixture = looping().await;
    for _ in 0..3 {
        let outcome = loops(&fixture, Duration::from_millis(300)).await;
        assert_eq!(code(&outcome), Code::LimitWall);
    }
    assert_eq!(fixture.dispatcher.breakers_open(), 0);
    // It counts as soon as it has its time.
    for expected in [Code::LimitWall, Code::LimitWall, Code::CapabilityOpenCircuit] {
        let outcome = loops(&fixture, Duration::from_millis(200)).await;
        assert_eq!(code(&outcome), expected);
    }
}

#[tokio::test]
async fn a_call_that_never_got_a_place_is_ended_on_the_record_and_opens_nothing() {
    let fixture = looping().await;
    let (session, id) = (named("analyst"), "loop".parse().unwrap());
    let request = empty(&id);
    let _place = fixture.dispatcher.gate.enter().await.unwrap();
    for _ in 0..3 {
        let phase = tokio::sync::watch::Sender::new(CallPhase::default());
        let until = tokio::time::Instant::now() + Duration::from_secs(1);
        let call = fixture
            .dispatcher
            .invoke_watched(&session, request, &phase, Some(until));
        let mut call = std::pin::pin!(call);
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(code(&call.await), Code::LimitWall);
        assert_eq!(fixture.ended(), [Some(Code::LimitWall)]);
        assert_eq!(*phase.borrow(), CallPhase::Waiting);
    }
    assert_eq!(fixture.dispatcher.breakers_open(), 0);
}

#[tokio::test]
async fn a_log_that_hangs_opens_nothing() {
    let fixture = lines("");
    let (session, id) = (named("analyst"), "echo".parse().unwrap());
    fixture.dispatcher.prepare(&session, &id, None).await.unwrap();
    tokio::time::pause();
    fixture.kept.4.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        // Once the call has its place and its code.
        fixture.kept.3.store(2, Ordering::Relaxed);
        let phase = tokio::sync::watch::Sender::new(CallPhase::default());
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        let call = fixture
            .dispatcher
            .invoke_watched(&session, empty(&id), &phase, Some(until));
        assert_eq!(code(&call.await), Code::LimitWall);
    }
    assert_eq!(fixture.dispatcher.breakers_open(), 0);
}

#[test]
fn folders_that_are_not_open_in_time_count() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let fixture = lines("file.read_roots = [\"/srv\"]");
        let scope = json!({"paths": [{"guest": "/data", "host": "/srv/data"}]});
        let change = json!({"permissions": {"file:read": scope}, "limits": {"wall_ms": 2_000}});
        fixture.admit("reader", &echo(), change);
        let (session, id) = (named("analyst"), "reader".parse().unwrap());
        // To compile takes that thread, too.
        let granted = fixture.dispatcher.authorize(&session, &id, None).unwrap();
        granted.compiled(fixture.dispatcher.runtime()).await.unwrap();
        tokio::time::pause();
        // The disk does not answer.
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
        let request = Request {
            capability: &id,
            version: None,
            input: b"{}",
            trace: None,
        };
        // Once the call itself has no more time, and once whoever waits for it.
        for (seconds, waits) in [(2, None), (1, Some(Duration::from_secs(1)))] {
            let phase = tokio::sync::watch::Sender::new(CallPhase::default());
            let until = waits.map(|waits| tokio::time::Instant::now() + waits);
            let call = fixture.dispatcher.invoke_watched(&session, request, &phase, until);
            let mut call = std::pin::pin!(call);
            assert!(futures::poll!(call.as_mut()).is_pending());
            // A timer is right to a millisecond.
            tokio::time::advance(Duration::from_millis(seconds * 1_000 + 1)).await;
            assert_eq!(code(&call.await), Code::LimitWall);
            assert_eq!(*phase.borrow(), CallPhase::Preparing);
        }
        assert_eq!(codes(&fixture, &session, "reader", "{}", 1).await, [REFUSED]);
        drop(disk);
        assert!(held.await.unwrap());
    });
}

#[tokio::test]
async fn a_component_that_is_not_compiled_for_a_while_opens_nothing() {
    // What a busy host does to a compiler, and one that breaks off.
    for (does, code) in [("kill -s ABRT $$", Code::ComponentTooLarge), ("exit 1", Code::Internal)] {
        let compiler = CompilerKind::Child {
            program: "/bin/sh".into(),
            args: ["-c", does].map(str::to_owned).into(),
            timeout_ms: 60_000,
        };
        let fixture = fixture_compiled_by(compiler, &format!("{OPEN}{NUMBERS}\n"), GateOptions::default());
        fixture.admit("echo", &echo(), json!({}));
        let session = named("analyst");
        // The first finds out, and so does the first when the wait is over.
        for _ in 0..2 {
            assert_eq!(codes(&fixture, &session, "echo", "{}", 4).await, [Some(code); 4]);
            assert_eq!(fixture.dispatcher.breakers_open(), 0);
            fixture.pass(Duration::from_secs(30));
        }
    }
}

#[tokio::test]
async fn a_trial_that_is_given_up_gives_its_place_back() {
    let fixture = lines("");
    fixture.admit(
        "long",
        &tool(&format!(
            "{TRAP_IF_LONG} (if (i32.ge_u (local.get $length) (i32.const 10)) (then (loop (br 0))))"
        )),
        json!({}),
    );
    let session = named("analyst");
    assert_eq!(codes(&fixture, &session, "long", LONG, 2).await, [TRAP, TRAP]);
    fixture.pass(Duration::from_secs(1));
    let mut trial = Box::pin(fixture.call_as(&session, "long", r#"{"a":"abcdef"}"#));
    assert!(futures::poll!(trial.as_mut()).is_pending());
    let second = fixture.call_as(&session, "long", "{}").await;
    assert_eq!(code(&second), Code::CapabilityOpenCircuit);
    assert_eq!(second.result.unwrap_err().retry_after, Some(Duration::from_secs(1)));
    drop(trial);
    assert_eq!(codes(&fixture, &session, "long", "{}", 1).await, [None]);
}

#[tokio::test]
async fn each_number_of_the_policy_holds_at_once_and_what_was_counted_goes_on() {
    let fixture = lines("");
    let session = named("analyst");
    assert_eq!(codes(&fixture, &session, "trap", "{}", 1).await, [TRAP]);
    let set = |text: &str| fixture.dispatcher.set_policy(policy(&format!("{OPEN}{text}\n")));
    set("breaker.failures = 4");
    assert_eq!(
        codes(&fixture, &session, "trap", "{}", 4).await,
        [TRAP, TRAP, TRAP, REFUSED]
    );
    assert_eq!(
        wait(&fixture, &session).await,
        Some(Duration::from_secs(5)),
        "the built-in pause"
    );
    set("breaker.open_ms = 1500\nbreaker.open_max_ms = 2000");
    assert_eq!(wait(&fixture, &session).await, Some(Duration::from_secs(2)));
    // The same breakers under a configuration that is read again.
    let registry = Registry::default();
    let renewed = fixture
        .dispatcher
        .renewed(registry, policy("breaker.open_max_ms = 6000"), TrustStore::default());
    assert_eq!(renewed.breakers_open(), 1);
}
