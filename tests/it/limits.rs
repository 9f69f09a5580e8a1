//! Every limit bounds something: with a low value a guest is stopped, with a high value the same call succeeds, and it
//! does not matter whether the manifest, the policy's default or its ceiling brings the low value.

use std::time::Duration;

use aral_contract::{Code, Limits, Permission};
use serde_json::{Value, json};

use crate::network::Net;
use crate::support::guests::*;
use crate::support::lab::Lab;
use crate::support::outcome::Outcome;
use crate::support::setup::Setup;

/// One limit, and a call that needs more than `low` and not more than `high`.
struct Case {
    limit: &'static str,
    low: u64,
    high: u64,
    setup: Setup,
    guest: Guest,
    input: Value,
    /// Whether the outcome shows that the limit stopped something.
    stopped: fn(&Outcome) -> bool,
}

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().map(|failure| failure.code)
}

/// Whether one of the answer's attempts failed for this reason.
fn attempt_failed(outcome: &Outcome, reason: &str) -> bool {
    outcome.result.as_ref().is_ok_and(|answer| {
        let attempts = answer.as_array().expect("attempts");
        attempts
            .iter()
            .any(|attempt| attempt["result"].as_str().is_some_and(|result| result.contains(reason)))
    })
}

/// The cases that need a server.
fn network_cases(net: &Net) -> Vec<Case> {
    let case = |limit, low, high, request: Value, count: usize, stopped| Case {
        limit,
        low,
        high,
        setup: net.setup(&[&net.origin()]),
        guest: NETWORK_HTTP,
        input: json!({ "requests": vec![request; count] }),
        stopped,
    };
    let post = json!({ "method": "POST", "url": net.url("/"), "body": "x".repeat(10_000) });
    let failed: fn(&Outcome) -> bool = |outcome| {
        outcome
            .answer()
            .as_array()
            .expect("answers")
            .iter()
            .any(|answer| answer["result"] != "ok")
    };
    vec![
        case("http_requests", 1, 2, json!({ "url": net.url("/") }), 2, failed),
        case("http_request_bytes", 9_999, 10_000, post, 1, failed),
        case(
            "http_response_bytes",
            9_999,
            10_000,
            json!({ "url": net.url("/bytes/10000") }),
            1,
            failed,
        ),
        case(
            "http_ms",
            300,
            60_000,
            json!({ "url": net.url("/wait/1500") }),
            1,
            failed,
        ),
    ]
}

fn machine_cases() -> Vec<Case> {
    let case = |limit, low, high, guest, input, stopped| Case {
        limit,
        low,
        high,
        setup: Setup::of(guest),
        guest,
        input,
        stopped,
    };
    vec![
        case(
            "memory_bytes",
            32 << 20,
            128 << 20,
            RUNTIME_MEMORY_BOMB,
            json!({ "mebibytes": 64 }),
            |outcome| code(outcome) == Some(Code::LimitMemory),
        ),
        case(
            "fuel",
            1_000_000,
            1_000_000_000,
            RUNTIME_INFINITE_LOOP,
            json!({ "rounds": 5_000_000 }),
            |outcome| code(outcome) == Some(Code::LimitFuel),
        ),
        case(
            "compute_ms",
            10,
            100_000,
            RUNTIME_INFINITE_LOOP,
            json!({ "rounds": 60_000_000 }),
            |outcome| code(outcome) == Some(Code::LimitCompute),
        ),
        case(
            "wall_ms",
            300,
            60_000,
            RUNTIME_SLEEP,
            json!({ "wait_ms": 1_500 }),
            |outcome| code(outcome) == Some(Code::LimitWall),
        ),
        case("table_elements", 50, 1_000, RUNTIME_TABLE_BOMB, json!(100), |outcome| {
            code(outcome) == Some(Code::LimitTable)
        }),
        case("instances", 10, 50, RUNTIME_INSTANCE_BOMB, json!(0), |outcome| {
            code(outcome) == Some(Code::LimitInstances)
        }),
        case(
            "input_bytes",
            1_001,
            1_002,
            RUNTIME_ECHO_TOOL,
            json!("x".repeat(1_000)),
            |outcome| code(outcome) == Some(Code::InputTooLarge),
        ),
        case(
            "output_bytes",
            1_001,
            1_002,
            RUNTIME_ECHO_TOOL,
            json!("x".repeat(1_000)),
            |outcome| code(outcome) == Some(Code::OutputTooLarge),
        ),
        case("log_bytes", 1_000, 100_000, RUNTIME_LOG_FLOOD, json!(100), |outcome| {
            outcome.usage.log_bytes_dropped > 0
        }),
    ]
}

fn service_cases() -> Vec<Case> {
    let memory = json!({
        "memory:read": { "namespaces": ["mine"] },
        "memory:write": { "namespaces": ["mine"], "bytes_max": 1 << 20, "records_max": 10 },
    });
    let secrets = json!({
        "secret:read": { "secrets": [{ "name": "shown", "use": "reveal" }] },
        "secret:write": { "names": ["shown"] },
    });
    // Five accesses, and two uses: to reveal and to store.
    let remembers = || Setup::of(ISOLATION_MEMORY).permissions(memory.clone()).keeping(&[]);
    let reveals = || {
        Setup::of(ISOLATION_SECRET)
            .permissions(secrets.clone())
            .keeping(&[("shown", "a value")])
    };
    let late = Duration::from_millis(500);
    let limited: fn(&Outcome) -> bool = |outcome| attempt_failed(outcome, "Error::Limit");
    let kept = |limit, low, high, setup, guest, input| Case {
        limit,
        low,
        high,
        setup,
        guest,
        input,
        stopped: limited,
    };
    let (namespace, names) = (json!({ "namespace": "mine" }), json!({ "names": ["shown"] }));
    let programs = json!({ "exec": { "programs": [
        { "path": "/bin/sleep", "args": ["{integer}"] },
        { "path": "/usr/bin/head", "args": ["-c", "{integer}", "/dev/zero"] },
    ] } });
    let run = |program: &str, arguments: &[&str]| json!({ "runs": [{ "program": program, "arguments": arguments }] });
    vec![
        kept(
            "memory_value_bytes",
            999,
            1_000,
            remembers(),
            ISOLATION_MEMORY,
            json!({ "namespace": "mine", "bytes": 1_000 }),
        ),
        kept("memory_calls", 4, 5, remembers(), ISOLATION_MEMORY, namespace.clone()),
        kept(
            "memory_ms",
            100,
            60_000,
            remembers().slow(late),
            ISOLATION_MEMORY,
            namespace,
        ),
        kept("secret_calls", 1, 2, reveals(), ISOLATION_SECRET, names.clone()),
        kept("secret_ms", 100, 60_000, reveals().slow(late), ISOLATION_SECRET, names),
        Case {
            limit: "exec_output_bytes",
            low: 999,
            high: 1_000,
            setup: Setup::of(ISOLATION_EXEC).permissions(programs.clone()),
            guest: ISOLATION_EXEC,
            input: run("/usr/bin/head", &["-c", "1000", "/dev/zero"]),
            stopped: |outcome| outcome.answer()[0]["truncated"] == true,
        },
        Case {
            limit: "exec_ms",
            low: 300,
            high: 60_000,
            setup: Setup::of(ISOLATION_EXEC).permissions(programs),
            guest: ISOLATION_EXEC,
            input: run("/bin/sleep", &["1"]),
            stopped: |outcome| attempt_failed(outcome, "Error::Limit"),
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_stops_something_whoever_brings_it() {
    let net = Net::start(&[]).await;
    let mut cases = network_cases(&net);
    cases.extend(machine_cases());
    cases.extend(service_cases());
    for (limit, _) in Limits::default().entries() {
        assert_eq!(
            cases.iter().filter(|case| case.limit == limit).count(),
            1,
            "cases for `{limit}`"
        );
    }
    assert_eq!(cases.len(), Limits::default().entries().len());
    // What the call needs otherwise is not in its way.
    let wide = json!({ "fuel": 100_000_000_000_u64, "compute_ms": 100_000, "wall_ms": 100_000 });
    for case in cases {
        let with = |value: u64| {
            let mut limits = wide.clone();
            limits[case.limit] = json!(value);
            limits
        };
        let only = |value: u64| {
            let mut limits = json!({});
            limits[case.limit] = json!(value);
            limits
        };
        for (setup, expected, who) in [
            (
                case.setup.clone().limits(with(case.high)),
                false,
                "the manifest asks for enough",
            ),
            (
                case.setup.clone().limits(with(case.low)),
                true,
                "the manifest asks for too little",
            ),
            (
                case.setup.clone().limits(with(case.high)).ceiling(only(case.low)),
                true,
                "the ceiling is too low",
            ),
            (
                case.setup.clone().defaults(only(case.low)),
                true,
                "the default is too low",
            ),
        ] {
            let lab = Lab::start(setup).await;
            let outcome = lab.call(case.guest, case.input.clone()).await;
            let shown = format!("`{}`: {who}: {:?} {:?}", case.limit, outcome.result, outcome.usage);
            assert_eq!(
                (case.stopped)(&outcome),
                expected,
                "{}",
                shown.chars().take(600).collect::<String>()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_runs_a_bounded_number_of_programs() {
    const MOST: usize = 256;
    let programs = json!({ "exec": { "programs": [{ "path": "/bin/true", "args": [] }] } });
    let wide = json!({ "fuel": 100_000_000_000_u64, "compute_ms": 100_000, "wall_ms": 100_000 });
    let lab = Lab::start(Setup::of(ISOLATION_EXEC).permissions(programs).limits(wide)).await;
    let run = json!({ "program": "/bin/true", "arguments": [] });
    let outcome = lab.call(ISOLATION_EXEC, json!({ "runs": vec![run; MOST + 1] })).await;
    let answer = outcome.answer();
    let results: Vec<&str> = answer
        .as_array()
        .expect("results")
        .iter()
        .map(|one| one["result"].as_str().expect("a result"))
        .collect();
    let (within, beyond) = results.split_at(MOST);
    assert!(within.iter().all(|result| *result == "ok"), "{within:?}");
    assert!(
        beyond[0].contains("Error::Limit") && beyond[0].contains("at most 256 programs"),
        "{beyond:?}"
    );
    let refused = outcome.denials(Permission::Exec);
    assert_eq!(refused, ["a call runs at most 256 programs"]);
}
