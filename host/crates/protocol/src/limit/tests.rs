//! Which limits a request counts against, and what becomes of the cost of a call.

use aral_orchestration::dispatch::CallPhase;
use tokio::sync::watch;

use super::model::Nowhere;
use super::*;
use crate::tests::Hand;

fn limits(change: impl FnOnce(&mut Rates)) -> (Arc<Limits>, Arc<Hand>) {
    let mut rates = Rates::default();
    change(&mut rates);
    let hand = Arc::new(Hand::default());
    let clock = Arc::clone(&hand) as Arc<dyn Clock>;
    let sink: Arc<dyn AuditSink> = Arc::new(Nowhere);
    let limits = futures::executor::block_on(Limits::start(rates, None, &clock, &sink)).unwrap();
    (Arc::new(limits), hand)
}

/// Who asks: persona, tier, caller, capability with its cost.
struct Who(
    &'static str,
    Option<&'static str>,
    &'static str,
    Option<(&'static str, u64)>,
);

fn ask(limits: &Arc<Limits>, who: &Who) -> Result<Taken, Stopped> {
    let Who(persona, tier, caller, call) = who;
    let capability = call.map(|(id, _)| id.parse().unwrap());
    let tier = tier.map(|tier| tier.parse().unwrap());
    let call = call.zip(capability.as_ref());
    futures::executor::block_on(limits.take(&Asked {
        address: "192.0.2.1".parse().unwrap(),
        caller: &caller.parse().unwrap(),
        persona: &persona.parse().unwrap(),
        tier: tier.as_ref(),
        call: call.map(|((_, cost_micro_max), capability)| Call {
            capability,
            cost_micro_max,
            time_max: Duration::from_secs(60),
        }),
    }))
}

/// How many of these pass, and which limit stops the rest.
fn passed(limits: &Arc<Limits>, who: &Who) -> (usize, Option<Limit>) {
    // What is put aside stays so meanwhile.
    let mut taken = Vec::new();
    for count in 0..1000 {
        match ask(limits, who) {
            Ok(one) => taken.push(one),
            Err(Stopped::Refused(refused)) => return (count, Some(refused.level.limit)),
            Err(Stopped::Down) => panic!("there is no server"),
        }
    }
    (1000, None)
}

const FEW: Rate = Rate::of(1, Per::Minute, 3);
const GREP: Option<(&str, u64)> = Some(("text-grep", 0));
const ECHO: Option<(&str, u64)> = Some(("echo", 0));

#[test]
fn each_limit_stops_what_it_counts_and_nothing_else() {
    let (global, _) = limits(|rates| rates.global = FEW);
    assert_eq!(passed(&global, &Who("a", None, "x", None)), (3, Some(Limit::Global)));
    assert_eq!(passed(&global, &Who("b", None, "y", GREP)), (0, Some(Limit::Global)));

    let (persona, _) = limits(|rates| rates.persona = FEW);
    assert_eq!(passed(&persona, &Who("a", None, "x", None)), (3, Some(Limit::Persona)));
    assert_eq!(passed(&persona, &Who("a", None, "y", GREP)), (0, Some(Limit::Persona)));
    assert_eq!(passed(&persona, &Who("b", None, "x", None)), (3, Some(Limit::Persona)));

    let (capability, _) = limits(|rates| {
        rates.capability = FEW;
        rates.persona = Rate::of(1, Per::Second, 10_000);
    });
    assert_eq!(
        passed(&capability, &Who("a", None, "x", GREP)),
        (3, Some(Limit::Capability))
    );
    assert_eq!(
        passed(&capability, &Who("b", None, "y", GREP)),
        (0, Some(Limit::Capability))
    );
    assert_eq!(
        passed(&capability, &Who("a", None, "x", ECHO)),
        (3, Some(Limit::Capability))
    );
    assert_eq!(passed(&capability, &Who("a", None, "x", None)), (1000, None));

    let (caller, _) = limits(|rates| rates.caller = FEW);
    assert_eq!(passed(&caller, &Who("a", None, "x", GREP)), (3, Some(Limit::Caller)));
    assert_eq!(passed(&caller, &Who("a", None, "x", ECHO)), (3, Some(Limit::Caller)));
    assert_eq!(passed(&caller, &Who("a", None, "y", GREP)), (3, Some(Limit::Caller)));
}

#[test]
fn tiers_and_capabilities_may_have_rates_of_their_own() {
    let (limits, _) = limits(|rates| {
        rates.persona = FEW;
        rates.tiers.insert("gold".parse().unwrap(), Rate::of(1, Per::Minute, 9));
        rates
            .capabilities
            .insert("echo".parse().unwrap(), Rate::of(1, Per::Minute, 2));
    });
    assert_eq!(passed(&limits, &Who("a", Some("gold"), "x", None)).0, 9);
    assert_eq!(
        passed(&limits, &Who("b", Some("lead"), "x", None)).0,
        3,
        "a tier that is not listed"
    );
    assert_eq!(
        passed(&limits, &Who("c", Some("gold"), "x", ECHO)),
        (2, Some(Limit::Capability))
    );
}

#[test]
fn the_cost_of_a_call_is_put_aside_and_settled() {
    let start = || limits(|rates| rates.cost = Rate::of(1, Per::Minute, 100));
    let who = Who("a", None, "x", Some(("echo", 40)));
    let (free, _) = start();
    assert_eq!(
        passed(&free, &Who("a", None, "x", ECHO)),
        (1000, None),
        "what costs nothing"
    );

    // How far it comes and what it cost, if anybody knows, and how many more fit beside it.
    let beside = |phase: Option<CallPhase>, cost: Option<u64>| {
        let (limits, _) = start();
        let reservation = ask(&limits, &who).unwrap().reservation;
        if let Some(phase) = phase {
            let told = watch::Sender::new(CallPhase::default());
            reservation.begin(told.subscribe());
            told.send_replace(phase);
        }
        if let Some(cost) = cost {
            reservation.settle(cost);
        }
        drop(reservation);
        passed(&limits, &Who("b", None, "y", Some(("echo", 10)))).0
    };
    assert_eq!(beside(None, None), 10, "it never began");
    for phase in [CallPhase::Waiting, CallPhase::Preparing] {
        assert_eq!(beside(Some(phase), None), 10, "it was given up while {phase}");
    }
    assert_eq!(
        beside(Some(CallPhase::Preparing), Some(0)),
        10,
        "there was no room for its guest"
    );
    assert_eq!(beside(Some(CallPhase::Running), None), 6, "it was given up");
    assert_eq!(beside(Some(CallPhase::Running), Some(10)), 9, "it cost less");
    let dearer = beside(Some(CallPhase::Running), Some(1000));
    assert_eq!(dearer, 6, "it cost more than was put aside");

    let (limits, _) = start();
    let Err(Stopped::Refused(refused)) = ask(&limits, &Who("a", None, "x", Some(("echo", 101)))) else {
        panic!("more than there may be")
    };
    assert_eq!((refused.level.limit, refused.wait), (Limit::Cost, None));
    assert_eq!(passed(&limits, &who).0, 2, "and nothing of it was counted");
}

#[test]
fn a_cost_beyond_every_burst_is_refused_for_good_under_the_largest_burst_too() {
    let largest = u64::from(u32::MAX) - 1;
    let request = |burst| RateRequest {
        per_second: Some(Limit::Cost.count_max()),
        burst: Some(burst),
        ..RateRequest::default()
    };
    let resolve = |burst| Rate::resolve(&request(burst), Limit::Cost.count_max());
    assert_eq!(resolve(largest + 2), Err(RateError::Burst(largest + 2)));
    assert_eq!(
        resolve(largest + 1),
        resolve(largest),
        "the largest number of 32 bits is taken, and counted as one less"
    );
    let (limits, _) = limits(|rates| rates.cost = resolve(largest + 1).unwrap());
    for cost in [largest + 1, largest + 2, 10_000_000_000, u64::MAX] {
        let Err(Stopped::Refused(refused)) = ask(&limits, &Who("a", None, "x", Some(("echo", cost)))) else {
            panic!("{cost} passes")
        };
        assert_eq!((refused.level.limit, refused.wait), (Limit::Cost, None), "{cost}");
        assert_eq!(refused.level.rate.with_burst(refused.amount.get()), None, "{cost}");
    }
    assert!(ask(&limits, &Who("a", None, "x", Some(("echo", largest)))).is_ok());
}

#[test]
fn an_address_that_shows_wrong_credentials_is_not_looked_at_any_more() {
    let (limits, clock) = limits(|rates| {
        rates.failures = FEW;
        rates.address = Rate::of(1, Per::Minute, 8);
    });
    let (guesser, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    for last in [false, false, true] {
        assert!(limits.enter(guesser).is_ok());
        assert_eq!(limits.failed(guesser), last);
    }
    let stopped = limits.enter(guesser).unwrap_err();
    assert_eq!(
        (stopped.level.limit, stopped.wait),
        (Limit::Failures, Some(Duration::from_mins(1)))
    );
    assert_eq!((0..20).filter(|_| limits.enter(other).is_ok()).count(), 8);
    assert_eq!(limits.enter(other).unwrap_err().level.limit, Limit::Address);
    clock.pass(Duration::from_mins(1));
    assert!(limits.enter(guesser).is_ok());
}

#[test]
fn wrong_credentials_at_once_keep_an_address_out_no_longer_than_the_limit_says() {
    let (limits, clock) = limits(|rates| rates.failures = FEW);
    let guesser = "192.0.2.1".parse().unwrap();
    let said: Vec<bool> = (0..100).map(|_| limits.failed(guesser)).collect();
    assert!(said[2], "three may be");
    assert_eq!(said.iter().filter(|used_up| **used_up).count(), 1, "it is said once");
    assert!(limits.enter(guesser).is_err());
    clock.pass(Duration::from_mins(1));
    assert!(limits.enter(guesser).is_ok(), "one is given back, whoever was behind");
    assert!(limits.failed(guesser) && limits.enter(guesser).is_err());
}

#[test]
fn handshakes_are_limited_for_each_address_and_beside_its_requests() {
    let (limits, clock) = limits(|rates| {
        rates.address = FEW;
        rates.failures = FEW;
    });
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    assert_eq!((0..10).filter(|_| limits.shake(one).is_ok()).count(), 3);
    assert_eq!(limits.shake(one).unwrap_err().level.limit, Limit::Address);
    assert!(limits.enter(one).is_ok(), "requests of the address are not concerned");
    for _ in 0..3 {
        limits.failed(other);
    }
    assert!(limits.enter(other).is_err());
    assert!(limits.shake(other).is_ok(), "nobody knows yet what it asks");
    clock.pass(Duration::from_mins(1));
    assert!(limits.shake(one).is_ok());
}

#[test]
fn what_asks_nobody_is_limited_for_each_address_and_beside_everything_else() {
    let (limits, clock) = limits(|rates| rates.address = FEW);
    let (one, other) = ("192.0.2.1".parse().unwrap(), "2001:db8:1:2::1".parse().unwrap());
    let passed = |address, per_second| (0..10).filter(|_| limits.public(address, per_second)).count();
    assert_eq!(passed(one, 4), 4);
    assert_eq!(passed(other, 4), 4);
    assert_eq!(passed("2001:db8:1:2::2".parse().unwrap(), 4), 0);
    assert!(limits.enter(one).is_ok(), "it uses up nothing else");
    clock.pass(Duration::from_secs(1));
    assert_eq!(passed(one, 4), 4);
    clock.pass(Duration::from_secs(1));
    assert_eq!(passed(one, 8), 8, "other bounds hold at once");
}

#[test]
fn the_line_that_gives_more_is_named() {
    let (limits, _) = limits(|rates| {
        rates.tiers.insert("gold".parse().unwrap(), FEW);
        rates.capabilities.insert("echo".parse().unwrap(), FEW);
    });
    let line = |limit, tier: Option<&str>, capability: &str| {
        let (tier, capability) = (tier.map(|tier| tier.parse().unwrap()), capability.parse().unwrap());
        let asked = Asked {
            address: "192.0.2.1".parse().unwrap(),
            caller: &"x".parse().unwrap(),
            persona: &"a".parse().unwrap(),
            tier: tier.as_ref(),
            call: Some(Call {
                capability: &capability,
                cost_micro_max: 0,
                time_max: Duration::from_secs(60),
            }),
        };
        limits.line(limit, Some(&asked))
    };
    assert_eq!(line(Limit::Persona, Some("gold"), "echo"), "[serve.rates.tiers]: gold");
    assert_eq!(line(Limit::Persona, Some("lead"), "echo"), "[serve.rates]: persona");
    assert_eq!(
        line(Limit::Capability, None, "echo"),
        "[serve.rates.capabilities]: echo"
    );
    assert_eq!(line(Limit::Capability, None, "grep"), "[serve.rates]: capability");
    assert_eq!(limits.line(Limit::Failures, None), "[serve.rates]: failures");
}
