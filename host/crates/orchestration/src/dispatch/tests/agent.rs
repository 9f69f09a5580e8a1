//! What an agent may do beyond its permissions: each number of persona and policy is changed alone, and the same calls end
//! otherwise.

use aral_contract::Classification;
use aral_contract::event::Severity;
use tokio::sync::watch;

use super::*;

/// The session of a persona that allows everything but what `change` says.
fn agent(id: &str, change: Value, constraints: Value) -> Session {
    let mut document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-01T00:00:00Z",
        "id": id, "name": id, "constraints": {"allowed_permissions": ["*"], "allowed_capabilities": ["*"]},
    });
    let members = document.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    members["constraints"]
        .as_object_mut()
        .unwrap()
        .extend(constraints.as_object().unwrap().clone());
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    loose(persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now).unwrap())
}

fn lines(more: &str) -> Fixture {
    let fixture = fixture(&format!("{OPEN}{more}\n"), GateOptions::default());
    fixture.admit("echo", &echo(), json!({}));
    fixture
}

/// How many of so many calls succeed, and why the first of the others does not.
async fn calls(fixture: &Fixture, session: &Session, count: usize) -> (usize, Option<Failure>) {
    let (mut succeeded, mut first) = (0, None);
    for _ in 0..count {
        match fixture.call_as(session, "echo", "{}").await.result {
            Ok(_) => succeeded += 1,
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    (succeeded, first)
}

#[tokio::test]
async fn requests_in_a_minute_are_the_personas_or_the_policys_whichever_is_lower() {
    let rates = |most: u64| json!({"rate_limits": {"requests_per_minute": most}});
    for (constraints, policy, expected, line) in [
        (
            rates(2),
            "",
            2,
            "persona, constraints.rate_limits: \"requests_per_minute\": 3",
        ),
        (rates(3), "", 3, "\"requests_per_minute\": 4"),
        (
            json!({}),
            "agent.requests_per_minute = 1",
            1,
            "aral.toml, [policy.agent]: requests_per_minute = 2",
        ),
        (
            rates(3),
            "agent.requests_per_minute = 1",
            1,
            "aral.toml, [policy.agent]: requests_per_minute = 2",
        ),
    ] {
        let fixture = lines(policy);
        let session = agent("a", json!({}), constraints.clone());
        let (succeeded, refused) = calls(&fixture, &session, 4).await;
        assert_eq!(succeeded, expected, "{constraints} {policy}");
        let refused = refused.unwrap();
        assert_eq!((refused.code, refused.code.blame()), (Code::LimitRate, Blame::Limit));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(60)));
        let hint = refused.hint.unwrap();
        assert!(
            hint.starts_with("call again in 60 s\n") && hint.ends_with(line),
            "{hint}"
        );
        fixture.set_clock("2026-06-01T00:00:59.999Z");
        assert_eq!(calls(&fixture, &session, 1).await.0, 0);
        fixture.set_clock("2026-06-01T00:01:00Z");
        assert_eq!(calls(&fixture, &session, 4).await.0, expected);
    }
}

#[tokio::test]
async fn a_call_counts_from_when_its_decision_is_on_record() {
    let fixture = lines("agent.requests_per_minute = 1");
    let session = agent("a", json!({}), json!({}));
    let later = "2026-06-01T00:00:50Z".parse().unwrap();
    *fixture.kept.2.lock().unwrap() = Some((Arc::clone(&fixture.clock), later));
    assert_eq!(calls(&fixture, &session, 1).await.0, 1);
    fixture.set_clock("2026-06-01T00:01:00.001Z");
    let refused = calls(&fixture, &session, 1).await.1.unwrap();
    assert_eq!(refused.code, Code::LimitRate);
    fixture.set_clock("2026-06-01T00:01:50Z");
    assert_eq!(calls(&fixture, &session, 1).await.0, 1);
}

#[tokio::test]
async fn the_time_of_day_is_not_what_requests_and_cost_go_by() {
    let fixture = lines("agent.requests_per_minute = 2\nprice.call_micro = 5\nagent.cost_per_hour_micro = 5");
    let session = agent("a", json!({}), json!({}));
    assert_eq!(calls(&fixture, &session, 1).await.0, 1);
    let put_to = |now: &str| *fixture.clock.now.lock().unwrap() = now.parse().unwrap();
    for now in ["2026-06-01T02:00:00Z", "2026-05-31T22:00:00Z"] {
        put_to(now);
        let refused = calls(&fixture, &session, 1).await.1.unwrap();
        assert_eq!(refused.code, Code::LimitCost, "{now}");
        assert_eq!(refused.retry_after, Some(Duration::from_secs(3_600)), "{now}");
    }
    fixture.set_clock("2026-05-31T23:00:00Z");
    assert_eq!(calls(&fixture, &session, 1).await.0, 1, "an hour has passed");
}

#[tokio::test]
async fn requests_in_an_hour_count_beside_those_in_a_minute() {
    for (constraints, policy) in [
        (json!({"rate_limits": {"requests_per_hour": 2}}), ""),
        (json!({}), "agent.requests_per_hour = 2"),
    ] {
        let fixture = lines(policy);
        let session = agent("a", json!({}), constraints);
        assert_eq!(calls(&fixture, &session, 1).await.0, 1);
        fixture.set_clock("2026-06-01T00:30:00Z");
        let (succeeded, refused) = calls(&fixture, &session, 3).await;
        assert_eq!(succeeded, 1);
        assert_eq!(refused.unwrap().retry_after, Some(Duration::from_secs(1800)));
        fixture.set_clock("2026-06-01T00:59:59.999Z");
        assert_eq!(calls(&fixture, &session, 1).await.0, 0);
        fixture.set_clock("2026-06-01T01:00:00Z");
        assert_eq!(calls(&fixture, &session, 2).await.0, 1);
    }
}

#[tokio::test]
async fn a_tier_has_numbers_of_its_own_and_an_unknown_one_is_a_denial() {
    let fixture = lines("agent.requests_per_minute = 1\ntier.gold.requests_per_minute = 3");
    let tier = |name: &str| json!({"tier": name});
    assert_eq!(calls(&fixture, &agent("a", json!({}), json!({})), 5).await.0, 1);
    let (succeeded, refused) = calls(&fixture, &agent("b", tier("gold"), json!({})), 5).await;
    assert_eq!(succeeded, 3);
    assert!(
        refused
            .unwrap()
            .hint
            .unwrap()
            .ends_with("aral.toml, [policy.tier.gold]: requests_per_minute = 4")
    );
    for (policy, expected, line) in [
        (
            "agent.requests_per_hour = 1\ntier.gold.requests_per_hour = 2",
            2,
            "requests_per_hour = 3",
        ),
        (
            "price.call_micro = 5\nagent.cost_per_hour_micro = 5\ntier.gold.cost_per_hour_micro = 12",
            2,
            "cost_per_hour_micro = 15",
        ),
    ] {
        let fixture = lines(policy);
        assert_eq!(
            calls(&fixture, &agent("a", json!({}), json!({})), 3).await.0,
            1,
            "{policy}"
        );
        let (succeeded, refused) = calls(&fixture, &agent("b", tier("gold"), json!({})), 3).await;
        assert_eq!(succeeded, expected, "{policy}");
        let hint = refused.unwrap().hint.unwrap();
        let line = format!("aral.toml, [policy.tier.gold]: {line}");
        assert!(hint.ends_with(&line), "{hint}");
    }
    let (succeeded, refused) = calls(&fixture, &agent("c", tier("lead"), json!({})), 1).await;
    let refused = refused.unwrap();
    assert_eq!((succeeded, refused.code), (0, Code::PermissionDenied));
    assert!(
        refused.message.contains("the policy does not have the persona's tier"),
        "{refused}"
    );
    assert_eq!(
        refused.hint.unwrap(),
        "aral.toml, [policy.tier.lead]: requests_per_minute = 1"
    );
}

#[tokio::test]
async fn each_price_counts_and_the_hour_has_two_edges() {
    let hour = |most: u64| json!({"max_cost_per_hour": most});
    // 30 s, 1,000,000,000 units of fuel, and the price of a call: what a call can cost is put aside before it.
    for (policy, constraints, expected) in [
        ("price.call_micro = 5", hour(14), 2),
        ("price.call_micro = 5", hour(15), 3),
        ("price.call_micro = 5\nagent.cost_per_hour_micro = 9", json!({}), 1),
        ("price.call_micro = 5\ncapability.echo.price_micro = 7", hour(14), 2),
        ("price.call_micro = 5\ncapability.other.price_micro = 1", hour(14), 2),
        ("price.gigafuel_micro = 5", hour(4), 0),
        ("price.gigafuel_micro = 5", hour(5), 1),
        ("price.second_micro = 1", hour(29), 0),
        ("price.second_micro = 1", hour(30), 1),
    ] {
        let fixture = lines(policy);
        let session = agent("a", json!({}), constraints.clone());
        let (succeeded, refused) = calls(&fixture, &session, 4).await;
        assert_eq!(succeeded.min(expected.max(1)), expected, "{policy} {constraints}");
        if policy.contains("call_micro") {
            assert_eq!(succeeded, expected, "{policy} {constraints}");
            let wait = refused.unwrap().retry_after;
            assert_eq!(wait, Some(Duration::from_secs(3_600)), "{policy}");
            fixture.set_clock("2026-06-01T00:59:59.999Z");
            assert_eq!(calls(&fixture, &session, 1).await.0, 0);
            fixture.set_clock("2026-06-01T01:00:00Z");
            assert_eq!(calls(&fixture, &session, 1).await.0, 1);
        } else if expected == 0 {
            let refused = refused.unwrap();
            assert_eq!(
                (refused.code, refused.retry_after),
                (Code::LimitCost, None),
                "one call is too much"
            );
            assert!(
                refused
                    .hint
                    .unwrap()
                    .starts_with("persona, constraints: \"max_cost_per_hour\": ")
            );
        }
    }
}

#[tokio::test]
async fn a_call_costs_what_it_used_and_one_that_is_given_up_what_it_could_have_used() {
    // The reservation is 1,000 for the fuel; what the call uses is less than one.
    let fixture = lines("price.gigafuel_micro = 1000\ncapability.loop.engine = \"metered\"");
    let session = agent("a", json!({}), json!({"max_cost_per_hour": 1_003}));
    assert_eq!(calls(&fixture, &session, 3).await.0, 3, "each is settled at 1");
    fixture.admit("loop", &tool("(loop (br 0))"), json!({}));
    let call = fixture.call_as(&session, "loop", "{}");
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    let refused = calls(&fixture, &session, 1).await.1.unwrap();
    assert_eq!(refused.code, Code::LimitCost);
    assert!(refused.message.contains("0 are left"), "{refused}");
}

#[tokio::test]
async fn a_call_during_which_the_machine_sleeps_costs_no_more_than_was_put_aside() {
    let fixture = lines("price.second_micro = 1000");
    let session = agent("a", json!({}), json!({"max_cost_per_hour": 1_000_000}));
    fixture.admit("loop", &tool("(loop (br 0))"), json!({"limits": {"wall_ms": 500}}));
    let call = fixture.call_as(&session, "loop", "{}");
    let sleep = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fixture.pass(Duration::from_hours(8));
    };
    let (outcome, ()) = futures::join!(call, sleep);
    assert!(outcome.result.is_err(), "it ends at a limit");
    assert_eq!(outcome.cost_micro, 500);
}

#[tokio::test]
async fn a_call_that_found_no_place_costs_nothing() {
    let gate = GateOptions {
        concurrent_max: 1,
        waiting_max: 0,
        wait_ms: 1,
    };
    let fixture = fixture(&format!("{OPEN}price.call_micro = 5\n"), gate);
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("loop", &tool("(loop (br 0))"), json!({}));
    let session = agent("a", json!({}), json!({"max_cost_per_hour": 10}));
    let other = agent("b", json!({}), json!({}));
    let held = fixture.call_as(&other, "loop", "{}");
    let refused = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        calls(&fixture, &session, 3).await
    };
    let both = async { futures::join!(held, refused) };
    let refused = tokio::time::timeout(Duration::from_millis(200), both).await;
    assert!(refused.is_err(), "the loop ended by itself");
    assert_eq!(calls(&fixture, &session, 3).await.0, 2);
}

#[tokio::test]
async fn a_call_that_found_no_room_for_its_guest_costs_nothing() {
    // One call at a time has an instance.
    let options = RuntimeOptions {
        concurrent_calls_max: 1,
        ..RuntimeOptions::default()
    };
    let policy = format!("{OPEN}price.call_micro = 5\n");
    let fixture = fixture_on(options, FileWork::default(), &policy, GateOptions::default());
    fixture.admit("echo", &echo(), json!({}));
    fixture.admit("loop", &tool("(loop (br 0))"), json!({}));
    let session = agent("a", json!({}), json!({"max_cost_per_hour": 10}));
    let other = agent("b", json!({}), json!({}));
    let looping = "loop".parse().unwrap();
    let request = Request {
        capability: &looping,
        version: None,
        input: b"{}",
        trace: None,
    };
    let phase = watch::Sender::new(CallPhase::default());
    let mut phases = phase.subscribe();
    let mut held = Box::pin(fixture.dispatcher.invoke_watched(&other, request, &phase, None));
    tokio::select! {
        _ended = held.as_mut() => panic!("the loop ended by itself"),
        running = phases.wait_for(|phase| *phase == CallPhase::Running) => drop(running.unwrap()),
    }
    for _ in 0..3 {
        let refused = fixture.call_as(&session, "echo", "{}").await;
        assert_eq!((code(&refused), refused.cost_micro), (Code::Unavailable, 0));
    }
    drop(held);
    assert_eq!(calls(&fixture, &session, 3).await.0, 2);
}

#[tokio::test]
async fn a_call_whose_input_breaks_its_schema_pays_its_price() {
    let fixture = lines("price.call_micro = 5");
    let session = agent("a", json!({}), json!({"max_cost_per_hour": 10}));
    let refused = fixture.call_as(&session, "echo", "[]").await;
    assert_eq!((code(&refused), refused.cost_micro), (Code::InputInvalid, 5));
    assert_eq!(calls(&fixture, &session, 3).await.0, 1);
}

#[tokio::test]
async fn depth_is_bounded_by_the_policy_by_the_agent_and_by_everybody_before_it() {
    let deep = |most: u32| json!({"max_reasoning_depth": most, "allowed_agents": ["*"]});
    let fixture = lines("agent.reasoning_depth = 2");
    let (first, second) = (agent("a", json!({}), deep(9)), agent("b", json!({}), json!({})));
    let chain = |session: &Session, depth: usize| (0..depth).fold(session.clone(), |session, _| session.deeper());
    assert_eq!(calls(&fixture, &chain(&first, 2), 1).await.0, 1);
    let refused = calls(&fixture, &chain(&first, 3), 1).await.1.unwrap();
    assert_eq!((refused.code, refused.retry_after), (Code::LimitDepth, None));
    assert!(
        refused
            .message
            .contains("it is 3 steps deep, and the policy lets it be 2"),
        "{refused}"
    );
    assert_eq!(refused.hint.unwrap(), "aral.toml, [policy.agent]: reasoning_depth = 3");
    // The agent itself.
    let shallow = agent("c", json!({}), deep(1));
    assert_eq!(calls(&fixture, &shallow.deeper(), 1).await.0, 1);
    let refused = calls(&fixture, &chain(&shallow, 2), 1).await.1.unwrap();
    assert_eq!(
        refused.hint.unwrap(),
        "persona, constraints: \"max_reasoning_depth\": 2"
    );
    // Whoever called it.
    let called = second.called_by(&shallow);
    assert_eq!((called.depth(), calls(&fixture, &called, 1).await.0), (1, 1));
    let refused = calls(&fixture, &called.deeper(), 1).await.1.unwrap();
    assert_eq!(refused.code, Code::LimitDepth);
    assert!(
        refused.message.contains("the persona of its caller `c` lets it be 1"),
        "{refused}"
    );
    let endless = chain(&first, 100_000);
    assert_eq!(calls(&fixture, &endless, 1).await.1.unwrap().code, Code::LimitDepth);
}

#[tokio::test]
async fn the_policy_bounds_the_depth_behind_a_caller_by_the_tier_of_that_caller() {
    let caller = |constraints: Value| {
        let mut all = json!({"allowed_agents": ["*"]});
        all.as_object_mut()
            .unwrap()
            .extend(constraints.as_object().unwrap().clone());
        agent("lead", json!({"tier": "low"}), all)
    };
    let helper = agent("helper", json!({}), json!({}));
    let fixture = lines("agent.reasoning_depth = 5\ntier.low.reasoning_depth = 1");
    let called = helper.called_by(&caller(json!({})));
    assert_eq!(calls(&fixture, &called, 1).await.0, 1);
    let refused = calls(&fixture, &called.deeper(), 1).await.1.unwrap();
    assert_eq!(refused.code, Code::LimitDepth);
    assert!(
        refused
            .message
            .contains("the policy for its caller `lead` lets it be 1"),
        "{refused}"
    );
    assert_eq!(
        refused.hint.unwrap(),
        "aral.toml, [policy.tier.low]: reasoning_depth = 2"
    );
    // The lower one holds, whoever says it.
    let called = helper.called_by(&caller(json!({"max_reasoning_depth": 0})));
    let refused = calls(&fixture, &called, 1).await.1.unwrap();
    assert!(
        refused
            .message
            .contains("the persona of its caller `lead` lets it be 0"),
        "{refused}"
    );
    // A tier that the policy does not have has no number.
    let without = lines("agent.reasoning_depth = 5");
    let refused = calls(&without, &helper.called_by(&caller(json!({}))), 1)
        .await
        .1
        .unwrap();
    assert_eq!(refused.code, Code::PermissionDenied);
    assert!(
        refused
            .message
            .contains("the policy does not have the tier of its caller `lead`"),
        "{refused}"
    );
    assert!(refused.hint.unwrap().starts_with("aral.toml, [policy.tier.low]: "));
}

#[tokio::test]
async fn an_agent_calls_those_that_its_persona_names() {
    let fixture = lines("");
    let callee = agent("helper", json!({}), json!({}));
    for (agents, expected) in [
        (json!([]), 0),
        (json!(["other"]), 0),
        (json!(["helper"]), 1),
        (json!(["*"]), 1),
    ] {
        let caller = agent("lead", json!({}), json!({"allowed_agents": agents}));
        let called = callee.called_by(&caller);
        let (succeeded, refused) = calls(&fixture, &called, 1).await;
        assert_eq!(succeeded, expected, "{agents}");
        if let Some(refused) = refused {
            assert_eq!(refused.code, Code::PermissionDenied);
            let line = "persona `lead`, constraints: \"allowed_agents\": [\"helper\"]";
            assert_eq!(refused.hint.as_deref(), Some(line));
        }
    }
    // Two on the way: the first one has to allow the second, too.
    let lead = agent("lead", json!({}), json!({"allowed_agents": ["helper"]}));
    let middle = agent("middle", json!({}), json!({"allowed_agents": ["helper"]}));
    let called = callee.called_by(&middle.called_by(&lead));
    assert_eq!(
        calls(&fixture, &called, 1).await.1.unwrap().code,
        Code::PermissionDenied
    );
    assert_eq!(called.caller().unwrap().persona().body.id.as_str(), "middle");
}

#[tokio::test]
async fn the_end_of_a_call_names_through_whom_it_came() {
    let fixture = lines("agent.reasoning_depth = 3");
    let callers = |events: Vec<EventKind>| -> Vec<Vec<String>> {
        let callers = |event: EventKind| match event {
            EventKind::InvocationEnded { callers, .. } => Some(callers.iter().map(ToString::to_string).collect()),
            _ => None,
        };
        events.into_iter().filter_map(callers).collect()
    };
    let any = json!({"allowed_agents": ["*"]});
    let (boss, lead) = (agent("boss", json!({}), any.clone()), agent("lead", json!({}), any));
    let (helper, closed) = (
        agent("helper", json!({}), json!({})),
        agent("closed", json!({}), json!({})),
    );
    for (session, succeeded, expected) in [
        (helper.clone(), 1, vec![]),
        (helper.called_by(&lead), 1, vec!["lead"]),
        (helper.called_by(&boss), 1, vec!["boss"]),
        (
            helper.called_by(&lead.called_by(&boss)).deeper(),
            1,
            vec!["helper", "lead", "boss"],
        ),
        (helper.called_by(&closed), 0, vec!["closed"]),
        (helper.called_by(&lead).of_user("me".parse().unwrap()), 1, vec!["lead"]),
    ] {
        assert_eq!(calls(&fixture, &session, 1).await.0, succeeded, "{expected:?}");
        assert_eq!(callers(fixture.events()), [expected]);
    }
}

#[tokio::test]
async fn a_caller_that_expired_ends_the_calls_of_those_it_called() {
    let fixture = lines("");
    let caller = agent(
        "lead",
        json!({"expires_at": "2026-06-02T00:00:00Z"}),
        json!({"allowed_agents": ["*"]}),
    );
    let called = agent("helper", json!({}), json!({})).called_by(&caller);
    assert_eq!(calls(&fixture, &called, 1).await.0, 1);
    fixture.set_clock("2026-06-02T00:00:00Z");
    assert_eq!(calls(&fixture, &called, 1).await.1.unwrap().code, Code::DocumentStale);
}

#[tokio::test]
async fn a_refusal_is_on_the_record_with_who_does_not_give_what() {
    let fixture = lines("agent.requests_per_minute = 1");
    let session = agent("a", json!({}), json!({}));
    calls(&fixture, &session, 1).await;
    fixture.events();
    calls(&fixture, &session, 1).await;
    let events = fixture.events();
    let [
        EventKind::Security {
            severity: Severity::Low,
            rule: "limit.rate",
            subject,
            reason: None,
            source: None,
        },
        EventKind::InvocationEnded {
            code: Some(Code::LimitRate),
            persona,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    let expected = "persona a: the policy gives it requests_per_minute 1, and they are used up";
    assert_eq!((subject.as_str(), persona.as_str()), (expected, "a"));
}

#[test]
fn the_clearance_of_the_persona_is_that_of_the_grant() {
    let fixture = lines("");
    let id = "echo".parse().unwrap();
    for (change, expected) in [
        (json!({}), Classification::Public),
        (json!({"clearance": "confidential"}), Classification::Confidential),
    ] {
        let session = agent("a", change, json!({}));
        let granted = fixture.dispatcher.authorize(&session, &id, None).unwrap();
        assert_eq!(granted.grant().clearance, expected);
        assert_eq!(
            fixture
                .dispatcher
                .explain(&session, &id, None)
                .unwrap()
                .decision
                .clearance,
            expected
        );
    }
}

#[tokio::test]
async fn all_that_is_asked_before_a_call_allocates_nothing() {
    let fixture = lines("price.call_micro = 1\nprice.gigafuel_micro = 1");
    let (id, session) = ("echo".parse().unwrap(), agent("a", json!({}), json!({})));
    fixture.dispatcher.prepare(&session, &id, None).await.unwrap();
    let measured = allocation_counter::measure(|| {
        for _ in 0..100 {
            drop(fixture.dispatcher.admit(&session, &id, None).unwrap());
        }
    });
    assert_eq!(measured.count_total, 0);
}
