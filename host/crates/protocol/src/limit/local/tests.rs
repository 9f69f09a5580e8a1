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
                Step::GiveBack(charge) => {
                    model.give_back(now, &charge);
                    local.give_back(&charge);
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
                                prop_assert!(charges.iter().any(never) || model.clone().take(at, &charges));
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
