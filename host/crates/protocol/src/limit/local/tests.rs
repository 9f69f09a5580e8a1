//! Limits in this process: against a model, full tables, and time that goes on.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::charge::Key;
use super::super::model::{Model, Step, steps};
use super::super::rate::Per;
use super::super::rates::Limit;
use super::*;
use crate::tests::Hand;

fn local(keys_max: usize) -> (Local, Arc<Hand>) {
    let clock = Arc::new(Hand::default());
    (
        Local::new("callers", keys_max, Arc::clone(&clock) as Arc<dyn Clock>),
        clock,
    )
}

fn address(number: u32) -> Charge {
    let address = IpAddr::V4(Ipv4Addr::from(number));
    Charge::one(Key::of_address(Limit::Address, address), Rate::of(1, Per::Minute, 3))
}

fn passes(local: &Local, charge: Charge) -> bool {
    matches!(local.take(&[charge]), Verdict::Passed(_))
}

/// What a call of this capability may cost, of which one is given back each second, and there are a hundred.
fn cost(name: &str, amount: u32) -> Charge {
    Charge {
        amount: amount.try_into().unwrap(),
        aside: Some(Duration::from_mins(1)),
        ..Charge::one(Key::new(Limit::Cost, &[name]), Rate::of(1, Per::Second, 100))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_does_what_the_model_does(steps in steps(Duration::from_millis(400), 120)) {
        let (local, clock) = local(1000);
        let mut model = Model::default();
        for step in steps {
            let now = u64::try_from(clock.elapsed().as_nanos()).unwrap();
            match step {
                Step::Pass(time) => clock.pass(time),
                Step::GiveBack(_) => {}
                Step::End(which, percent) => {
                    let Some(number) = model.aside(which) else { continue };
                    let (charge, used) = model.end(now, number, percent);
                    local.end(&charge, used);
                    prop_assert_eq!(local.level(&charge), model.level(now, &charge.key));
                }
                Step::Take(charges) => {
                    let looked: Vec<_> = charges.iter().map(|charge| local.look(charge)).collect();
                    for (charge, looked) in charges.iter().zip(&looked) {
                        prop_assert_eq!(&local.look(charge), looked, "a look changes nothing");
                    }
                    let expected = model.clone().take(now, &charges);
                    let verdict = local.take(&charges);
                    match &verdict {
                        Verdict::Passed(_) => prop_assert!(looked.iter().all(Result::is_ok)),
                        Verdict::Refused(refused) => prop_assert!(looked.contains(&Err(*refused))),
                    }
                    prop_assert_eq!(matches!(verdict, Verdict::Passed(_)), expected);
                    match verdict {
                        Verdict::Passed(levels) => {
                            model.take(now, &charges);
                            for (charge, level) in charges.iter().zip(levels) {
                                prop_assert_eq!(level.ns, model.level(now, &charge.key));
                            }
                        }
                        Verdict::Refused(refused) => match refused.wait {
                            Some(wait) => {
                                let at = now + u64::try_from(wait.as_nanos()).unwrap();
                                prop_assert!(!model.clone().take(at - 1, &charges), "not earlier");
                                let never = |charge: &Charge| !charge.fits();
                                let passes = model.all_ended(now).take(at, &charges);
                                prop_assert!(passes || charges.iter().any(never), "not later than what is under way ends");
                            }
                            None => prop_assert!(charges.iter().any(|charge| !charge.fits())),
                        },
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_refused_leaves_everything_as_it_was_also_where_the_table_has_one_place_left() {
    let (local, clock) = local(2);
    let times = |number, times: u32| Charge {
        amount: times.try_into().unwrap(),
        ..address(number)
    };
    assert!(passes(&local, times(1, 3)) && passes(&local, address(2)));
    // All that are not in the table are one.
    assert!(passes(&local, times(3, 2)));
    clock.pass(Duration::from_secs(61));
    assert!(local.look(&address(4)).is_ok(), "one is forgotten: a place is left");
    let all = |local: &Local| (1..6).map(|number| local.level(&address(number))).collect::<Vec<_>>();
    let (before, keys) = (all(&local), local.keys());
    assert_eq!(keys, 1);
    let refused = [address(4), address(5), address(6), times(1, 9)];
    for charges in [&refused[..], &refused.iter().rev().copied().collect::<Vec<_>>()] {
        assert!(matches!(local.take(charges), Verdict::Refused(_)));
        assert_eq!((all(&local), local.keys()), (before.clone(), keys));
    }
    // Without room the others have what was counted of them before.
    assert!(passes(&local, address(7)));
    let left = (0..5).filter(|_| passes(&local, address(8))).count();
    assert_eq!(left, 2, "of three, one is not given back yet");
}

#[test]
fn what_is_put_aside_does_not_fall_while_its_call_is_under_way() {
    let (local, clock) = local(10);
    assert!(passes(&local, cost("a", 100)));
    clock.pass(Duration::from_mins(10));
    assert!(!passes(&local, cost("a", 1)), "all of it is put aside still");
    local.end(&cost("a", 100), 0);
    assert!(passes(&local, cost("a", 100)), "nothing was used");
    local.end(&cost("a", 100), 100);
    assert!(!passes(&local, cost("a", 1)), "all of it was used");
    clock.pass(Duration::from_secs(30));
    assert!(
        !passes(&local, cost("a", 31)),
        "from the end of the call on, time gives it back"
    );
    assert!(passes(&local, cost("a", 30)));
}

#[test]
fn what_others_used_meanwhile_is_not_given_back_with_what_a_long_call_did_not_use() {
    let (local, clock) = local(10);
    assert!(passes(&local, cost("a", 40)), "a long call");
    clock.pass(Duration::from_secs(40));
    assert!(passes(&local, cost("a", 60)), "a quick one");
    local.end(&cost("a", 60), 60);
    local.end(&cost("a", 40), 0);
    assert!(!passes(&local, cost("a", 41)), "60 were used just now");
    assert!(passes(&local, cost("a", 40)));
}

#[test]
fn what_is_put_aside_is_not_forgotten_with_the_keys_and_is_forgotten_with_the_calls() {
    let (local, clock) = local(1);
    assert!(passes(&local, address(1)), "the table is full");
    assert!(passes(&local, cost("a", 100)) && passes(&local, cost("b", 100)));
    clock.pass(Duration::from_hours(1));
    assert!(passes(&local, address(2)), "and is swept");
    assert!(!passes(&local, cost("a", 1)) && !passes(&local, cost("b", 1)));
    let refused = [cost("c", 1), cost("a", 1)];
    assert!(matches!(local.take(&refused), Verdict::Refused(_)));
    assert_eq!(
        local.level(&cost("c", 1)),
        0,
        "nothing is put aside for what is refused"
    );
    local.end(&cost("a", 100), 0);
    local.end(&cost("b", 100), 0);
    assert_eq!((local.level(&cost("a", 1)), local.level(&cost("b", 1))), (0, 0));
    assert_eq!(local.asides(), 0);
}

#[test]
fn a_hundred_thousand_addresses_take_no_more_room_than_they_may() {
    let (local, clock) = local(1000);
    for number in 0..100_000 {
        passes(&local, address(number));
        assert!(local.keys() <= 1000);
    }
    assert_eq!(local.keys(), 1000);
    // What is given back is forgotten, and the next one has room.
    clock.pass(Duration::from_mins(4));
    assert!(passes(&local, address(200_000)));
    assert_eq!(local.keys(), 1);
}

#[test]
fn a_full_table_resets_no_limit_and_gives_newcomers_one_together() {
    let (local, clock) = local(10);
    for number in 0..10 {
        for _ in 0..3 {
            assert!(passes(&local, address(number)));
        }
    }
    // Strangers beyond the table share what one of them would have.
    let through = (100..100_000).filter(|number| passes(&local, address(*number))).count();
    assert_eq!(through, 3);
    clock.pass(Duration::from_secs(30));
    assert!(
        (0..10).all(|number| !passes(&local, address(number))),
        "none of those in the table was forgotten"
    );
    clock.pass(Duration::from_secs(31));
    assert!((0..10).all(|number| passes(&local, address(number))));
    assert!(passes(&local, address(555)), "and the others have one more together");
    assert!(!passes(&local, address(556)));
}

#[test]
fn requests_at_the_same_time_pass_as_often_as_they_may() {
    let clock: Arc<dyn Clock> = Arc::new(aral_runtime::SystemClock::new());
    let local = Local::new("callers", 10, clock);
    let rate = Rate::of(1, Per::Minute, 50);
    let charges = [
        Charge::one(Key::new(Limit::Global, &[]), rate),
        Charge::one(Key::new(Limit::Persona, &["a"]), Rate::of(1, Per::Minute, 1000)),
    ];
    let passed: usize = std::thread::scope(|scope| {
        let count = || {
            (0..100)
                .filter(|_| matches!(local.take(&charges), Verdict::Passed(_)))
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 50);
    let Verdict::Refused(refused) = local.take(&charges) else {
        panic!("there is no more")
    };
    assert_eq!(refused.level.limit, Limit::Global);
    let Verdict::Passed(levels) = local.take(&charges[1..]) else {
        panic!("there is more")
    };
    assert_eq!(
        levels[0].remaining(),
        1000 - 51,
        "what was refused was not counted here either"
    );
}
