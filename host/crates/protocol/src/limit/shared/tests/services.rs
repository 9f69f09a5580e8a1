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

/// The script and the model, step by step, at the times that the server says.
async fn compare(shared: &Shared, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut connection = connection(shared).await;
    let _: () = redis::cmd("FLUSHDB").query_async(&mut connection).await.unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Pass(time) => tokio::time::sleep(time).await,
            Step::GiveBack(charge) => {
                let asked = Arc::clone(&shared.link)
                    .ask(connection.clone(), vec![charge], Sign::GiveBack)
                    .await;
                let (_, now) = asked.unwrap();
                model.give_back(now * 1000, &charge);
            }
            Step::Take(charges) => {
                let asked = Arc::clone(&shared.link)
                    .ask(connection.clone(), charges.clone(), Sign::Take)
                    .await;
                let (verdict, now) = asked.unwrap();
                let now = now * 1000;
                let expected = model.clone().take(now, &charges);
                match verdict {
                    Verdict::Passed(levels) => {
                        prop_assert!(expected);
                        model.take(now, &charges);
                        for (charge, level) in charges.iter().zip(levels) {
                            prop_assert_eq!(level.ns, model.level(now, &charge.key));
                        }
                    }
                    Verdict::Refused(refused) => {
                        prop_assert!(!expected);
                        let at = now + u64::try_from(refused.wait.unwrap().as_nanos()).unwrap();
                        prop_assert!(!model.clone().take(at - 1, &charges), "not earlier");
                        prop_assert!(charges.iter().any(|charge| !charge.fits()) || model.clone().take(at, &charges));
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

#[tokio::test]
async fn a_clock_that_went_back_gives_back_from_then_on() {
    // A database of its own: another test empties the first.
    let shared = start(&format!("{}/1", address()), "{aral}:clock", 10_000).await;
    let mut connection = connection(&shared).await;
    let charge = Charge::one(Key::new(Limit::Global, &["clock"]), Rate::of(100, Per::Second, 1));
    let key = charge.key.text("{aral}:clock");
    let (_, now) = Arc::clone(&shared.link)
        .ask(connection.clone(), vec![charge], Sign::Take)
        .await
        .unwrap();
    // Full, as a server left it whose clock was ten minutes ahead.
    let value = format!("{} {}", now + 600_000_000, charge.rate.capacity_ns());
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(value).arg("PX").arg(600_000);
    let _: () = set.query_async(&mut connection).await.unwrap();
    let Ok(Verdict::Refused(refused)) = shared.take(&[charge]).await else {
        panic!("it is full")
    };
    tokio::time::sleep(refused.wait.unwrap()).await;
    let taken = shared.take(&[charge]).await;
    assert!(matches!(taken, Ok(Verdict::Passed(_))), "{taken:?}");
}
