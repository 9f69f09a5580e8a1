//! The script in a real Redis, held against the model.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::limit::model::{Model, Step, steps};
use crate::limit::rate::{Per, Rate};

/// Where the server is.
#[expect(clippy::disallowed_methods, reason = "the tests are told by a variable")]
fn address() -> String {
    let found = std::env::var("ARAL_SERVICE_REDIS_ADDRESS");
    found.expect("ARAL_SERVICE_REDIS_ADDRESS is not set: run `cargo xtask test --services`")
}

async fn connection(shared: &Shared) -> MultiplexedConnection {
    let connected = shared.link.lock().connected.clone();
    connected.expect("the server answers").connection
}

const GIVE_BACK: Act = Act::GiveBack { used_ns: 0, end_us: 0 };

/// What the script answers, and the server's time in nanoseconds.
async fn ask(shared: &Shared, connection: &MultiplexedConnection, charges: &[Charge], act: Act) -> (Answered, u64) {
    let asking = Arc::clone(&shared.link).ask(connection.clone(), charges.to_vec(), act);
    let (answered, now_us) = asking.await.unwrap();
    (answered, now_us * 1000)
}

/// How full the one key is that passed.
fn level(answered: &Answered) -> u64 {
    let Verdict::Passed(levels) = &answered.verdict else {
        panic!("{answered:?}")
    };
    levels[0].ns
}

/// The script and the model, step by step, at the times that the server says.
async fn compare(shared: &Shared, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut connection = connection(shared).await;
    let _: () = redis::cmd("FLUSHDB").query_async(&mut connection).await.unwrap();
    let (mut model, mut ends) = (Model::default(), Vec::new());
    for step in steps {
        match step {
            Step::Pass(time) => tokio::time::sleep(time).await,
            Step::GiveBack(charge) => {
                let (_, now) = ask(shared, &connection, &[charge], GIVE_BACK).await;
                model.give_back(now, &charge);
            }
            Step::End(which, percent) => {
                let Some(number) = model.aside(which) else { continue };
                let (charge, used) = model.clone().end(0, number, percent);
                let end = Act::GiveBack {
                    used_ns: charge.ns_of(used),
                    end_us: ends.swap_remove(number),
                };
                let (answered, now) = ask(shared, &connection, &[charge], end).await;
                model.end(now, number, percent);
                prop_assert_eq!(level(&answered), model.level(now, &charge.key));
            }
            Step::Take(charges) => {
                let (answered, now) = ask(shared, &connection, &charges, Act::Take).await;
                let expected = model.clone().take(now, &charges);
                match answered.verdict {
                    Verdict::Passed(levels) => {
                        prop_assert!(expected);
                        model.take(now, &charges);
                        if charges.iter().any(|charge| charge.aside.is_some()) {
                            ends.push(answered.end_us);
                        }
                        for (charge, level) in charges.iter().zip(levels) {
                            prop_assert_eq!(level.ns, model.level(now, &charge.key));
                        }
                    }
                    Verdict::Refused(refused) => {
                        prop_assert!(!expected);
                        let at = now + u64::try_from(refused.wait.unwrap().as_nanos()).unwrap();
                        prop_assert!(!model.clone().take(at - 1, &charges), "not earlier");
                        prop_assert!(
                            charges.iter().any(|charge| !charge.fits()) || model.all_ended(now).take(at, &charges)
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_script_does_what_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shared = runtime.block_on(start(&address(), "{aral}:model", 10_000));
    let mut runner = TestRunner::new(Config::with_cases(60));
    let steps = steps(Duration::from_millis(40), 40);
    runner
        .run(&steps, |steps| runtime.block_on(compare(&shared, steps)))
        .unwrap();
}

async fn set(connection: &mut MultiplexedConnection, key: &str, value: &str) {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(value).arg("PX").arg(600_000);
    let _: () = set.query_async(connection).await.unwrap();
}

/// What a call may cost that takes a minute at most: all that there is of what a day gives back.
fn cost(name: &str) -> Charge {
    Charge {
        amount: 1440.try_into().unwrap(),
        aside: Some(Duration::from_mins(1)),
        ..Charge::one(Key::new(Limit::Cost, &[name]), Rate::of(1, Per::Minute, 1440))
    }
}

/// The same of a call that costs almost nothing.
fn least(name: &str) -> Charge {
    Charge {
        amount: 1.try_into().unwrap(),
        ..cost(name)
    }
}

/// A connection to a database that no other test has, and is empty.
async fn own(shared: &Shared) -> MultiplexedConnection {
    let mut connection = connection(shared).await;
    let _: () = redis::cmd("FLUSHDB").query_async(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_clock_that_went_back_gives_back_from_then_on() {
    // A database of its own: another test empties the first.
    let shared = start(&format!("{}/1", address()), "{aral}:clock", 10_000).await;
    let mut connection = connection(&shared).await;
    let charge = Charge::one(Key::new(Limit::Global, &["clock"]), Rate::of(100, Per::Second, 1));
    let key = charge.key.text("{aral}:clock");
    let (_, now) = ask(&shared, &connection, &[charge], Act::Take).await;
    // Full, as a server left it whose clock was ten minutes ahead.
    let value = format!("{} {}", now / 1000 + 600_000_000, charge.rate.capacity_ns());
    set(&mut connection, &key, &value).await;
    let Ok((Verdict::Refused(refused), _)) = shared.take(&[charge]).await else {
        panic!("it is full")
    };
    tokio::time::sleep(refused.wait.unwrap()).await;
    let taken = shared.take(&[charge]).await;
    assert!(matches!(taken, Ok((Verdict::Passed(_), _))), "{taken:?}");
}

#[tokio::test]
async fn what_no_server_has_ended_counts_from_its_end_on_and_is_not_ended_twice() {
    let shared = start(&format!("{}/2", address()), "{aral}:died", 10_000).await;
    let mut connection = own(&shared).await;
    let (charge, one) = (cost("died"), least("died"));
    let (first, now) = ask(&shared, &connection, &[charge], Act::Take).await;
    let ahead_us = first.end_us - now / 1000;
    assert!((60_000_000..=120_000_000).contains(&ahead_us), "{ahead_us}");
    // As if it had been put aside ten minutes earlier.
    let aside = format!("{}:aside", charge.key.text("{aral}:died"));
    let end_us = first.end_us - 600_000_000;
    set(&mut connection, &aside, &format!("{end_us}:{}", charge.ns())).await;
    let falls = |now: u64| charge.ns() - (now - end_us * 1000);
    let (answered, now) = ask(&shared, &connection, &[one], Act::Take).await;
    assert_eq!(level(&answered), falls(now) + one.ns());
    // Its server lives, and was only late.
    let late = Act::GiveBack { used_ns: 0, end_us };
    let (answered, now) = ask(&shared, &connection, &[charge], late).await;
    assert_eq!(level(&answered), falls(now) + one.ns());
}

#[tokio::test]
async fn an_end_by_a_clock_that_went_back_is_now() {
    let shared = start(&format!("{}/3", address()), "{aral}:ahead", 10_000).await;
    let mut connection = own(&shared).await;
    let charge = cost("ahead");
    let (_, now) = ask(&shared, &connection, &[charge], GIVE_BACK).await;
    let aside = format!("{}:aside", charge.key.text("{aral}:ahead"));
    let end_us = now / 1000 + 86_400_000_000;
    set(&mut connection, &aside, &format!("{end_us}:{}", charge.ns())).await;
    let (refused, then) = ask(&shared, &connection, &[charge], Act::Take).await;
    assert!(matches!(refused.verdict, Verdict::Refused(_)), "{refused:?}");
    let (answered, now) = ask(&shared, &connection, &[charge], GIVE_BACK).await;
    assert_eq!(level(&answered), charge.ns() - (now - then));
}

#[tokio::test]
async fn what_is_put_aside_for_the_longest_of_calls_stays_so_where_the_clock_goes_back_a_little() {
    let shared = start(&format!("{}/6", address()), "{aral}:step", 10_000).await;
    let mut connection = own(&shared).await;
    let charge = cost("step");
    let longest = crate::bounds::longest_call();
    let longest_us = u64::try_from(longest.as_micros()).unwrap();
    let (_, now) = ask(&shared, &connection, &[charge], GIVE_BACK).await;
    let aside = format!("{}:aside", charge.key.text("{aral}:step"));
    // As if it had been put aside while the clock was half a minute ahead of now.
    let end_us = now / 1000 + 2 * longest_us + 30_000_000;
    set(&mut connection, &aside, &format!("{end_us}:{}", charge.ns())).await;
    let end = Act::GiveBack { used_ns: 7, end_us };
    let (answered, _) = ask(&shared, &connection, &[charge], end).await;
    assert_eq!(
        level(&answered),
        7,
        "what it used takes the place of what was put aside"
    );
}

#[tokio::test]
async fn a_redis_that_was_emptied_gives_back_nothing_of_others() {
    let shared = start(&format!("{}/4", address()), "{aral}:empty", 10_000).await;
    let connection = own(&shared).await;
    let charge = cost("empty");
    let (first, _) = ask(&shared, &connection, &[charge], Act::Take).await;
    let _emptied = own(&shared).await;
    let (second, _) = ask(&shared, &connection, &[charge], Act::Take).await;
    let end = |end_us| Act::GiveBack { used_ns: 7, end_us };
    let (answered, _) = ask(&shared, &connection, &[charge], end(first.end_us)).await;
    assert_eq!(
        level(&answered),
        charge.ns() + 7,
        "what it used counts, and the other one is put aside"
    );
    let (answered, _) = ask(&shared, &connection, &[charge], end(second.end_us)).await;
    assert!((7..=14).contains(&level(&answered)), "{answered:?}");
}

#[tokio::test]
async fn what_a_version_before_counted_stands() {
    let shared = start(&format!("{}/5", address()), "{aral}:before", 10_000).await;
    let mut connection = own(&shared).await;
    let (charge, one) = (cost("before"), least("before"));
    let (_, now) = ask(&shared, &connection, &[charge], GIVE_BACK).await;
    let value = format!("{} {}", now / 1000, charge.ns() - one.ns());
    set(&mut connection, &charge.key.text("{aral}:before"), &value).await;
    let (taken, then) = ask(&shared, &connection, &[one], Act::Take).await;
    assert_eq!(level(&taken), charge.ns() - (then - now));
    let (refused, _) = ask(&shared, &connection, &[charge], Act::Take).await;
    assert!(matches!(refused.verdict, Verdict::Refused(_)), "{refused:?}");
}
