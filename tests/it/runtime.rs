//! Guests that attack the machine: processor, memory, tables, instances, stack, logs, answers, and their own ending.

use std::time::Duration;

use aral_contract::limits::{EPOCH_MS, HOSTCALL_BYTES_MAX, RANDOM_BYTES_MAX, RESOURCE_TABLE_ENTRIES_MAX};
use aral_contract::{Blame, Code};
use serde_json::{Value, json};

use crate::support::guests::*;
use crate::support::lab::Lab;
use crate::support::setup::Setup;

foreach_runtime!(assert_test_exists);

/// Everything that bounds computing but `name` is out of the way.
fn only(name: &str, value: u64) -> Value {
    let mut limits = json!({ "fuel": 1_u64 << 45, "compute_ms": 100_000, "wall_ms": 100_000 });
    limits[name] = json!(value);
    limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_infinite_loop() {
    for (limits, code) in [
        (only("fuel", 50_000_000), Code::LimitFuel),
        (only("compute_ms", 200), Code::LimitCompute),
        (only("wall_ms", 300), Code::LimitWall),
    ] {
        let lab = Lab::start(Setup::of(RUNTIME_INFINITE_LOOP).limits(limits)).await;
        let outcome = lab.contained(RUNTIME_INFINITE_LOOP, json!({}), code, "looping").await;
        assert!(
            outcome.usage.compute_ms > 0 || code == Code::LimitFuel,
            "{code}: {:?}",
            outcome.usage
        );
    }
    // The same work, and a budget that is enough for it.
    let rounds = json!({ "rounds": 5_000_000 });
    let lab = Lab::start(Setup::of(RUNTIME_INFINITE_LOOP).limits(only("fuel", 1_000_000))).await;
    lab.contained(RUNTIME_INFINITE_LOOP, rounds.clone(), Code::LimitFuel, "looping")
        .await;
    let lab = Lab::start(Setup::of(RUNTIME_INFINITE_LOOP)).await;
    let outcome = lab.call(RUNTIME_INFINITE_LOOP, rounds).await;
    assert!(outcome.answer()["sum"].is_string());
    assert!(
        outcome.usage.fuel.is_some_and(|fuel| fuel > 5_000_000),
        "{:?}",
        outcome.usage
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_ends_on_the_engine_without_fuel_too() {
    let setup = Setup::of(RUNTIME_INFINITE_LOOP)
        .limits(json!({ "compute_ms": 200 }))
        .policy("[policy.capability.runtime-infinite-loop]\nengine = \"epoch-only\"");
    let lab = Lab::start(setup).await;
    let outcome = lab
        .contained(RUNTIME_INFINITE_LOOP, json!({}), Code::LimitCompute, "looping")
        .await;
    assert_eq!(outcome.usage.fuel, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_loops_starve_neither_the_timer_nor_a_neighbour() {
    let lab = Lab::start(Setup::of(RUNTIME_INFINITE_LOOP).limits(only("wall_ms", 3_000))).await;
    lab.call(RUNTIME_ECHO_TOOL, json!("warm")).await.answer();
    let attack = async {
        tokio::join!(
            lab.contained(RUNTIME_INFINITE_LOOP, json!({}), Code::LimitWall, "looping"),
            lab.contained(RUNTIME_INFINITE_LOOP, json!({}), Code::LimitWall, "looping"),
        )
    };
    let neighbour = async {
        // Both workers are busy with a loop now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut calls = 0;
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_millis(1_500) {
            assert_eq!(lab.call(RUNTIME_ECHO_TOOL, json!(calls)).await.answer(), &json!(calls));
            calls += 1;
        }
        calls
    };
    let (_, calls) = tokio::join!(attack, neighbour);
    // Alone it would be thousands; starved it would be none, since the loops outlive this measurement.
    assert!(calls >= 5, "the neighbour was served {calls} times in 1.5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_host_call_loop() {
    for (limits, code) in [
        (only("fuel", 500_000), Code::LimitFuel),
        (only("compute_ms", 200), Code::LimitCompute),
        (only("wall_ms", 500), Code::LimitWall),
    ] {
        let lab = Lab::start(Setup::of(RUNTIME_HOST_CALL_LOOP).limits(limits)).await;
        lab.contained(RUNTIME_HOST_CALL_LOOP, json!(null), code, "calling the host")
            .await;
    }
    let lab = Lab::start(Setup::of(RUNTIME_HOST_CALL_LOOP)).await;
    let outcome = lab.call(RUNTIME_HOST_CALL_LOOP, json!(1_000)).await;
    let left = outcome.answer().as_u64().expect("milliseconds");
    assert!((1..=30_000).contains(&left), "{left} ms are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_memory_bomb() {
    let lab = Lab::start(Setup::of(RUNTIME_MEMORY_BOMB)).await;
    let outcome = lab
        .contained(RUNTIME_MEMORY_BOMB, json!({}), Code::LimitMemory, "taking memory")
        .await;
    let peak = outcome.usage.memory_bytes_peak;
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak} bytes");
    // A hundred mebibytes are too many by default and not when the limit is opened.
    let hundred = json!({ "mebibytes": 100 });
    lab.contained(RUNTIME_MEMORY_BOMB, hundred.clone(), Code::LimitMemory, "taking memory")
        .await;
    let lab = Lab::start(Setup::of(RUNTIME_MEMORY_BOMB).limits(json!({ "memory_bytes": 256 << 20 }))).await;
    assert_eq!(lab.call(RUNTIME_MEMORY_BOMB, hundred).await.answer()["mebibytes"], 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_table_bomb() {
    // An element costs fuel, so that has to be out of the way of two billion of them.
    let lab = Lab::start(Setup::of(RUNTIME_TABLE_BOMB).limits(json!({ "fuel": 1_u64 << 45 }))).await;
    lab.contained(RUNTIME_TABLE_BOMB, json!(30_000), Code::LimitTable, "attacking")
        .await;
    lab.contained(RUNTIME_TABLE_BOMB, json!(2_000_000_000), Code::LimitTable, "attacking")
        .await;
    assert_eq!(lab.call(RUNTIME_TABLE_BOMB, json!(100)).await.answer(), &json!(101));
    let lab = Lab::start(Setup::of(RUNTIME_TABLE_BOMB).limits(json!({ "table_elements": 50 }))).await;
    lab.contained(RUNTIME_TABLE_BOMB, json!(100), Code::LimitTable, "attacking")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_instance_bomb() {
    let lab = Lab::start(Setup::of(RUNTIME_INSTANCE_BOMB)).await;
    lab.contained(RUNTIME_INSTANCE_BOMB, json!(0), Code::LimitInstances, "attacking")
        .await;
    let lab = Lab::start(Setup::of(RUNTIME_INSTANCE_BOMB).limits(json!({ "instances": 50 }))).await;
    assert_eq!(lab.call(RUNTIME_INSTANCE_BOMB, json!(0)).await.answer(), &json!(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_deep_recursion() {
    let lab = Lab::start(Setup::of(RUNTIME_DEEP_RECURSION)).await;
    lab.contained(RUNTIME_DEEP_RECURSION, json!({}), Code::LimitStack, "descending")
        .await;
    assert!(
        lab.call(RUNTIME_DEEP_RECURSION, json!({ "depth": 1_000 }))
            .await
            .answer()["sum"]
            .is_string()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_giant_return() {
    let lab = Lab::start(Setup::of(RUNTIME_GIANT_RETURN)).await;
    lab.contained(RUNTIME_GIANT_RETURN, json!(5 << 20), Code::OutputTooLarge, "returning")
        .await;
    // More than the host ever copies at once: the guest has the memory for it, and the host never takes it.
    let lab = Lab::start(Setup::of(RUNTIME_GIANT_RETURN).limits(json!({ "memory_bytes": 512 << 20 }))).await;
    lab.contained(RUNTIME_GIANT_RETURN, json!(40 << 20), Code::LimitResource, "returning")
        .await;
    let lab = Lab::start(Setup::of(RUNTIME_GIANT_RETURN).limits(json!({ "output_bytes": 6 << 20 }))).await;
    let outcome = lab.call(RUNTIME_GIANT_RETURN, json!(5 << 20)).await;
    assert_eq!(outcome.answer().as_str().map(str::len), Some(5 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_stdout_flood() {
    let lab = Lab::start(Setup::of(RUNTIME_STDOUT_FLOOD)).await;
    lab.contained(RUNTIME_STDOUT_FLOOD, json!(null), Code::OutputTooLarge, "flooding")
        .await;
    lab.contained(RUNTIME_STDOUT_FLOOD, json!(5 << 20), Code::OutputTooLarge, "flooding")
        .await;
    let lab = Lab::start(Setup::of(RUNTIME_STDOUT_FLOOD).limits(json!({ "output_bytes": 6 << 20 }))).await;
    let outcome = lab.call(RUNTIME_STDOUT_FLOOD, json!(5 << 20)).await;
    assert_eq!(outcome.answer().as_str().map(str::len), Some(5 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_log_flood() {
    let lab = Lab::start(Setup::of(RUNTIME_LOG_FLOOD)).await;
    let flood = lab.call(RUNTIME_LOG_FLOOD, json!(10_000)).await;
    // The call goes on; what comes after the limit is counted and dropped.
    assert_eq!(flood.answer(), &json!(10_000));
    flood.assert_marker("flooding");
    let kept: usize = flood.logs().iter().map(String::len).sum();
    assert!((60 << 10..=64 << 10).contains(&kept), "{kept} bytes were kept");
    assert!(flood.usage.log_bytes <= 64 << 10, "{:?}", flood.usage);
    assert!(flood.usage.log_bytes_dropped >= 900_000, "{:?}", flood.usage);
    lab.neighbour_works().await;
    let lab = Lab::start(Setup::of(RUNTIME_LOG_FLOOD).limits(json!({ "log_bytes": 2 << 20 }))).await;
    let outcome = lab.call(RUNTIME_LOG_FLOOD, json!(10_000)).await;
    assert_eq!((outcome.logs().len(), outcome.usage.log_bytes_dropped), (10_001, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_giant_argument() {
    let lab = Lab::start(Setup::of(RUNTIME_GIANT_ARGUMENT)).await;
    let bytes = HOSTCALL_BYTES_MAX + 1;
    lab.contained(
        RUNTIME_GIANT_ARGUMENT,
        json!({ "bytes": bytes }),
        Code::LimitResource,
        "passing",
    )
    .await;
    assert_eq!(
        lab.call(RUNTIME_GIANT_ARGUMENT, json!({ "bytes": 1000 }))
            .await
            .answer()["passed"],
        1000
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_handle_bomb() {
    let lab = Lab::start(Setup::of(RUNTIME_HANDLE_BOMB)).await;
    lab.contained(RUNTIME_HANDLE_BOMB, json!({}), Code::LimitResource, "taking handles")
        .await;
    let some = RESOURCE_TABLE_ENTRIES_MAX / 2;
    assert_eq!(
        lab.call(RUNTIME_HANDLE_BOMB, json!({ "count": some })).await.answer()["held"],
        some
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_random_drain() {
    let lab = Lab::start(Setup::of(RUNTIME_RANDOM_DRAIN)).await;
    let bytes = RANDOM_BYTES_MAX + 1;
    lab.contained(
        RUNTIME_RANDOM_DRAIN,
        json!({ "bytes": bytes }),
        Code::LimitResource,
        "drawing",
    )
    .await;
    let outcome = lab.call(RUNTIME_RANDOM_DRAIN, json!({ "bytes": 64 << 10 })).await;
    assert_eq!(outcome.answer(), &json!({ "bytes": 64 << 10, "distinct": 256 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_panic() {
    let lab = Lab::start(Setup::of(RUNTIME_PANIC)).await;
    let outcome = lab
        .contained(RUNTIME_PANIC, json!("panic"), Code::GuestTrap, "about to panic")
        .await;
    // What a guest says when it dies is for the operator, not for the caller.
    let failure = outcome.failure();
    assert!(!failure.to_string().contains("4711"), "{failure}");
    assert_eq!(lab.call(RUNTIME_PANIC, json!("calm")).await.answer(), &json!("calm"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_trap() {
    let lab = Lab::start(Setup::of(RUNTIME_TRAP)).await;
    lab.contained(RUNTIME_TRAP, json!({ "trap": true }), Code::GuestTrap, "about to trap")
        .await;
    assert_eq!(
        lab.call(RUNTIME_TRAP, json!({ "trap": false })).await.answer(),
        &json!("whole")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_exit() {
    let lab = Lab::start(Setup::of(RUNTIME_EXIT)).await;
    lab.contained(RUNTIME_EXIT, json!("exit"), Code::GuestExit, "about to exit")
        .await;
    assert_eq!(lab.call(RUNTIME_EXIT, json!("stay")).await.answer(), &json!("stayed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_exit_code() {
    // For a command, exit is how it ends: 0 is success, anything else is a failure of the guest.
    let lab = Lab::start(Setup::of(RUNTIME_EXIT_CODE)).await;
    lab.contained(
        RUNTIME_EXIT_CODE,
        json!({ "code": 1 }),
        Code::GuestError,
        "about to exit",
    )
    .await;
    assert_eq!(
        lab.call(RUNTIME_EXIT_CODE, json!({ "code": 0 })).await.answer(),
        &json!({ "code": 0 })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_sleep() {
    // Waiting costs neither fuel nor computing time: the wall is what ends it.
    let lab = Lab::start(Setup::of(RUNTIME_SLEEP).limits(json!({ "wall_ms": 300 }))).await;
    let outcome = lab
        .contained(RUNTIME_SLEEP, json!({}), Code::LimitWall, "waiting")
        .await;
    assert!(
        outcome.elapsed >= Duration::from_millis(300 - EPOCH_MS),
        "{:?}",
        outcome.elapsed
    );
    let lab = Lab::start(Setup::of(RUNTIME_SLEEP)).await;
    assert_eq!(
        lab.call(RUNTIME_SLEEP, json!({ "wait_ms": 500 })).await.answer(),
        &json!("awake")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_cancelled_by_dropping_it() {
    let lab =
        Lab::start(Setup::of(RUNTIME_SLEEP).also(Setup::of(RUNTIME_INFINITE_LOOP).limits(only("wall_ms", 30_000))))
            .await;
    // What is dropped below shall be the running guest, not its compilation.
    lab.call(RUNTIME_SLEEP, json!({ "wait_ms": 1 })).await.answer();
    lab.call(RUNTIME_INFINITE_LOOP, json!({ "rounds": 1 })).await.answer();
    for guest in [RUNTIME_SLEEP, RUNTIME_INFINITE_LOOP] {
        let started = std::time::Instant::now();
        let call = lab.call(guest, json!({}));
        assert!(
            tokio::time::timeout(Duration::from_millis(500), call).await.is_err(),
            "the call ended by itself"
        );
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        lab.neighbour_works().await;
    }
    assert_eq!(lab.ended(Code::Cancelled).await, 2, "each end of a call is recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_tool_error() {
    let lab = Lab::start(Setup::of(RUNTIME_TOOL_ERROR)).await;
    for (word, code, blame) in [
        ("invalid-input", Code::InputInvalid, Blame::Caller),
        ("denied", Code::PermissionDenied, Blame::Denial),
        ("unavailable", Code::Unavailable, Blame::Host),
        ("limit", Code::LimitHostCall, Blame::Limit),
        ("internal", Code::GuestError, Blame::Guest),
        ("no-json", Code::OutputInvalid, Blame::Guest),
        ("duplicate-keys", Code::OutputInvalid, Blame::Guest),
    ] {
        let outcome = lab
            .contained(RUNTIME_TOOL_ERROR, json!(word), code, "about to fail")
            .await;
        assert_eq!(outcome.failure().code.blame(), blame, "{word}");
    }
    assert_eq!(
        lab.call(RUNTIME_TOOL_ERROR, json!("fine")).await.answer(),
        &json!("fine")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_echo_tool() {
    let lab = Lab::start(Setup::of(RUNTIME_ECHO_TOOL)).await;
    for input in [
        json!(null),
        json!([1, 2.5, -0.0, "ä\u{1F980}\n", {"a": {"b": []}}]),
        json!(""),
    ] {
        assert_eq!(lab.call(RUNTIME_ECHO_TOOL, input.clone()).await.answer(), &input);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_echo_command() {
    let lab = Lab::start(Setup::of(RUNTIME_ECHO_COMMAND)).await;
    let input = json!({ "text": "x".repeat(200_000), "list": [1, 2, 3] });
    assert_eq!(lab.call(RUNTIME_ECHO_COMMAND, input.clone()).await.answer(), &input);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_in_flight_are_all_correct() {
    let lab = Lab::start(Setup::of(RUNTIME_SLEEP)).await;
    lab.call(RUNTIME_SLEEP, json!({ "wait_ms": 1 })).await.answer();
    let calls = (0..1_000_u64).map(|number| {
        let lab = &lab;
        async move {
            // Half of them wait inside the host, so that all are under way at once.
            if number % 2 == 0 {
                lab.call(RUNTIME_SLEEP, json!({ "wait_ms": 1_000 })).await.answer() == &json!("awake")
            } else {
                let text = json!(format!(
                    "{number}-{}",
                    "x".repeat(usize::try_from(number).expect("small"))
                ));
                lab.call(RUNTIME_ECHO_TOOL, text.clone()).await.answer() == &text
            }
        }
    });
    let before = resident_kib("VmRSS:");
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|correct| **correct).count(), 1_000);
    // Where every test has a process of its own (cargo-nextest), what that process holds is what this test made it hold;
    // elsewhere the benchmark `in_flight` is the one that measures.
    if std::env::var_os("NEXTEST").is_some() {
        let growth = resident_kib("VmHWM:").saturating_sub(before) / 1024;
        assert!(growth < 300, "the process grew by {growth} MiB");
    }
}

/// What the kernel says about this process's memory.
fn resident_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the line is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
