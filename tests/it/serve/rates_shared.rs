//! Limits that several servers count together in one real Redis, and what they do while it does not answer.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::metrics::{metrics, number};
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::redis::Redis;
use crate::support::server::{Server, desk};
use crate::support::wire::request;

const ECHO: &str = "runtime-echo-tool";

/// A desk whose limits are in this Redis.
fn desk_at(redis: Value, rates: Value) -> Desk {
    let desk = desk(|config| {
        config["serve"]["rates"] = rates;
        config["serve"]["rates"]["redis"] = redis;
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

fn at(redis: &Redis) -> Value {
    json!({ "url": redis.url(), "timeout_ms": 2000 })
}

fn few(burst: u64) -> Value {
    json!({ "per_minute": 1, "burst": burst })
}

fn statuses(server: &Server, count: usize) -> Vec<u16> {
    let mut wire = server.wire();
    (0..count).map(|_| wire.invoke(ECHO, &[], "1").status).collect()
}

/// Until what comes in its time must have come, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer has this status.
fn until(server: &Server, status: u16) {
    let start = Instant::now();
    loop {
        let found = server.invoke(ECHO, "1").status;
        if found == status {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{found} and not {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn three_servers_keep_one_limit_exactly() {
    for limit in ["global", "address", "persona", "capability", "caller"] {
        let redis = Redis::start();
        let desks: Vec<Desk> = (0..3).map(|_| desk_at(at(&redis), json!({ limit: few(50) }))).collect();
        let servers: Vec<Server> = desks.iter().map(Server::start).collect();
        let start = Instant::now();
        let all: Vec<u16> = std::thread::scope(|scope| {
            // Four callers at each server, 25 requests each.
            let tasks = servers.iter().flat_map(|server| [server; 4]);
            let tasks: Vec<_> = tasks.map(|server| scope.spawn(|| statuses(server, 25))).collect();
            tasks
                .into_iter()
                .flat_map(|task| task.join().expect("no panic"))
                .collect()
        });
        // One more is given back each minute, where the machine is that slow.
        let given_back = usize::try_from(start.elapsed().as_secs() / 60).expect("a number");
        let count = |status| all.iter().filter(|found| **found == status).count();
        let taken = count(200);
        assert!((50..=50 + given_back).contains(&taken), "{limit}: {taken}");
        assert_eq!((taken + count(429), all.len()), (300, 300), "{limit}");
    }
}

#[test]
fn the_cost_of_calls_is_counted_together_and_given_back() {
    let redis = Redis::start();
    let start = |price: Value| {
        let desk = desk(|config| {
            config["serve"]["rates"] = json!({ "cost": few(400), "redis": at(&redis) });
            config["policy"]["price"] = price;
            config["policy"]["agent"]["cost_per_hour_micro"] = json!(1_u64 << 40);
        });
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let server = Server::start(&desk);
        (desk, server)
    };
    // 300 are put aside for 30 s; what the call took is given back.
    let (_one, quick) = start(json!({ "second_micro": 10 }));
    for _ in 0..5 {
        until(&quick, 200);
        std::thread::sleep(Duration::from_millis(200));
    }
    let (_two, dear) = start(json!({ "call_micro": 150 }));
    let (_three, other) = start(json!({ "call_micro": 150 }));
    assert_eq!(statuses(&dear, 1), [200]);
    assert_eq!(statuses(&other, 2), [200, 429]);
}

#[test]
fn what_a_server_that_died_has_put_aside_ends_with_the_time_that_its_calls_may_take() {
    let ends_in_ms = |handler_ms: u64| -> u64 {
        let redis = Redis::start();
        let desk = desk(|config| {
            config["serve"]["rates"] = json!({ "redis": at(&redis) });
            config["serve"]["limits"]["handler_ms"] = json!(handler_ms);
            config["policy"]["price"] = json!({ "call_micro": 10 });
        });
        desk.guest(RUNTIME_SLEEP, |_| ());
        let server = Server::start(&desk);
        let mut under_way = server.wire();
        let fields = [("Content-Type", "application/json")];
        under_way.send(&request(
            "POST",
            "/v1/invoke/runtime-sleep",
            &fields,
            r#"{"wait_ms":20000}"#,
        ));
        let start = Instant::now();
        let key = loop {
            let keys = redis.ask("KEYS *:aside");
            if let Some(key) = keys.lines().find(|line| line.ends_with(":aside")) {
                break key.to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{keys}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let left = redis.ask(&format!("PTTL {key}"));
        let left = left.trim_start_matches(':').lines().next().expect("a number");
        left.parse().expect("a time")
    };
    // Twice the time, with the second in which it is told.
    let short = ends_in_ms(21_000);
    assert!(short <= 44_100, "{short}");
    let long = ends_in_ms(3_600_000);
    assert!((3_600_000..=7_202_100).contains(&long), "{long}");
}

#[test]
fn a_prefix_is_a_set_of_limits() {
    let redis = Redis::start();
    let start = |prefix: &str| {
        let mut options = at(&redis);
        options["prefix"] = json!(prefix);
        let desk = desk_at(
            options,
            json!({ "global": few(2), "persona": few(10), "address": few(10) }),
        );
        let server = Server::start(&desk);
        (desk, server)
    };
    let (one, same, other) = (start("blue"), start("blue"), start("green"));
    assert_eq!(statuses(&one.1, 2), [200, 200]);
    assert_eq!(statuses(&same.1, 1), [429]);
    assert_eq!(statuses(&other.1, 3), [200, 200, 429]);
    let keys = redis.ask("KEYS *");
    assert!(
        keys.contains("blue:address:") && keys.contains("green:persona:"),
        "{keys}"
    );
    assert!(
        !keys.contains("tester") && !keys.contains("127.0.0.1"),
        "names are not in it: {keys}"
    );
}

#[test]
fn keys_end_with_what_they_count() {
    let redis = Redis::start();
    // Each request counts for a second: long enough that none has ended when they are looked at.
    let rate = json!({ "per_second": 1, "burst": 10 });
    let rates = json!({ "global": rate, "address": rate, "persona": rate, "capability": rate, "caller": rate });
    let desk = desk_at(at(&redis), rates);
    let server = Server::start(&desk);
    assert_eq!(statuses(&server, 8), [200; 8]);
    // What has ended and was not removed yet, such as the one that tries the connection, counts for DBSIZE.
    let keys = redis.ask("KEYS *");
    assert!(keys.starts_with("*5"), "one for each limit, and not {keys}");
    let start = Instant::now();
    while !redis.ask("DBSIZE").starts_with(":0") {
        assert!(start.elapsed() < PATIENCE, "{}", redis.ask("KEYS *"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn while_redis_is_down_nobody_gets_in_unless_the_configuration_says_so() {
    for (policy, while_down) in [("refuse", [503, 503, 503]), ("local", [200, 200, 429])] {
        let mut redis = Redis::start();
        let mut options = at(&redis);
        options["when_down"] = json!(policy);
        let desk = desk_at(options, json!({ "persona": few(2) }));
        let server = Server::start(&desk);
        assert_eq!(statuses(&server, 3), [200, 200, 429], "{policy}");
        redis.kill();
        let found = statuses(&server, 3);
        assert_eq!(found, while_down, "{policy}");
        if policy == "refuse" {
            let refused = server.invoke(ECHO, "1");
            let problem = refused.assert_problem(policy, 503, "host.unavailable");
            assert!(refused.field("retry-after").is_some());
            assert!(!problem.to_string().contains(&redis.port().to_string()), "{problem}");
        }
        assert_eq!(server.get("/ready").status, 200);
        redis.restart();
        until(&server, 200);
        assert_eq!(
            statuses(&server, 2),
            [200, 429],
            "{policy}: and the limit is a common one again"
        );
        // Once more, so that it is seen that each change is recorded.
        redis.kill();
        assert_eq!(
            statuses(&server, 1),
            [if policy == "refuse" { 503 } else { 429 }],
            "{policy}"
        );
        server.signal(Signal::TERM);
        let (code, words) = server.wait();
        assert_eq!(code, Some(0));
        assert!(words.contains("the shared limits can be asked again"), "{words}");
        let log = desk.audit();
        let count = |rule: &str| log.matches(rule).count();
        assert_eq!(
            (count("rates.redis_down"), count("rates.redis_up")),
            (2, 1),
            "{policy}: {log}"
        );
        assert!(log.contains(&format!("when_down = \\\"{policy}\\\"")), "{log}");
    }
}

#[test]
fn a_redis_that_hangs_is_waited_for_once_and_not_for_long() {
    // Long beside all that a slow machine takes for a request that does not wait.
    const LONG_MS: u64 = 8000;
    let first_waits = |timeout_ms: u64| {
        let redis = Redis::start();
        let mut options = at(&redis);
        options["timeout_ms"] = json!(timeout_ms);
        let desk = desk_at(options, json!({}));
        let server = Server::start(&desk);
        assert_eq!(statuses(&server, 1), [200]);
        redis.signal(Signal::STOP);
        let start = Instant::now();
        assert_eq!(statuses(&server, 1), [503]);
        let first = start.elapsed();
        let start = Instant::now();
        assert_eq!(statuses(&server, 3), [503; 3]);
        // For the short one this says nothing, and it is the same code.
        let all = Duration::from_millis(LONG_MS);
        assert!(start.elapsed() < all, "nobody waits once it is known");
        redis.signal(Signal::CONT);
        until(&server, 200);
        first
    };
    let almost = Duration::from_millis(LONG_MS - 100);
    assert!(first_waits(100) < almost);
    assert!(first_waits(LONG_MS) >= almost);
}

#[test]
fn a_server_starts_without_its_redis_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.kill();
    let desk = desk_at(at(&redis), json!({ "persona": few(2) }));
    let server = Server::start(&desk);
    assert_eq!(statuses(&server, 1), [503]);
    let counted = metrics(&desk);
    assert_eq!(number(&counted, "aral_rates_redis_up"), 0.0);
    assert_eq!(number(&counted, "aral_rate_limited_total{limit=\"redis\"}"), 1.0);
    redis.restart();
    until(&server, 200);
    assert_eq!(statuses(&server, 2), [200, 429]);
    let counted = metrics(&desk);
    assert_eq!(number(&counted, "aral_rates_redis_up"), 1.0);
    assert_eq!(number(&counted, "aral_rate_limited_total{limit=\"persona\"}"), 1.0);
}

#[test]
fn a_redis_that_keeps_nothing_is_down() {
    let redis = Redis::start();
    let desk = desk_at(at(&redis), json!({}));
    let server = Server::start(&desk);
    assert_eq!(statuses(&server, 1), [200]);
    redis.ask("CONFIG SET maxmemory 1");
    assert_eq!(statuses(&server, 2), [503, 503]);
    redis.ask("CONFIG SET maxmemory 0");
    until(&server, 200);
}

#[test]
fn a_password_is_read_from_a_file_or_a_variable() {
    let redis = Redis::start_with(&["--requirepass", "a-password-of-the-tests"]);
    let start = |change: Value, password: &str| {
        let mut options = at(&redis);
        options
            .as_object_mut()
            .expect("a table")
            .extend(change.as_object().expect("a table").clone());
        let desk = desk_at(options, json!({}));
        desk.write("redis.password", format!("{password}\n").as_bytes());
        desk.private("redis.password");
        desk
    };
    let file = json!({ "password_file": "redis.password" });
    assert_eq!(
        statuses(&Server::start(&start(file.clone(), "a-password-of-the-tests")), 1),
        [200]
    );
    assert_eq!(statuses(&Server::start(&start(file, "another")), 1), [503]);
    assert_eq!(statuses(&Server::start(&start(json!({}), "")), 1), [503]);
    let variable = start(json!({ "password_environment": "REDIS_PASSWORD" }), "");
    let set = [("REDIS_PASSWORD", "a-password-of-the-tests")];
    assert_eq!(statuses(&Server::start_in(&variable, &[], &set), 1), [200]);
    variable.aral(&["serve"]).assert(
        "not set",
        2,
        &["the variable `REDIS_PASSWORD` is not set", "password_environment"],
    );
}

#[test]
fn tls_is_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(path("cert.pem"), made.cert.pem()).expect("a file");
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).expect("a file");
    let redis = Redis::start_with(&[
        "--tls-cert-file",
        &path("cert.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let start = |certificate: &str| {
        let options =
            json!({ "url": format!("rediss://localhost:{}", redis.port()), "timeout_ms": 5000, "ca_file": "ca.pem" });
        let desk = desk_at(options, json!({}));
        desk.write("ca.pem", certificate.as_bytes());
        desk.private("ca.pem");
        desk
    };
    assert_eq!(statuses(&Server::start(&start(&made.cert.pem())), 1), [200]);
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    assert_eq!(
        statuses(&Server::start(&start(&another.cert.pem())), 1),
        [503],
        "signed by nobody that is trusted"
    );
}
