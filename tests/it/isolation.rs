//! Guests that look for what is not theirs: the host's environment, another capability's folders, memory, secrets and
//! programs, and what an earlier call left behind.

use aral_contract::{Code, EventKind, Permission};
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::http::Http;
use crate::support::lab::Lab;
use crate::support::setup::Setup;

foreach_isolation!(assert_test_exists);

mod memory;
mod script;
mod secret;

use memory::isolation_memory_steps;
use script::isolation_script;
use secret::{isolation_secret_handle, isolation_secret_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_environment() {
    let lab = Lab::start(Setup::of(ISOLATION_ENVIRONMENT)).await;
    let outcome = lab.call(ISOLATION_ENVIRONMENT, json!(null)).await;
    // This process has variables and arguments, so there is something to leak.
    assert!(std::env::vars().count() > 0 && std::env::args().count() > 0);
    assert_eq!(
        outcome.answer(),
        &json!({ "variables": [], "arguments": [], "folders": [] })
    );
    outcome.assert_marker("reading the environment");
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_stdin() {
    let lab = Lab::start(Setup::of(ISOLATION_STDIN)).await;
    let outcome = lab.call(ISOLATION_STDIN, json!("the input")).await;
    assert_eq!(outcome.answer()["bytes"], 0, "{}", outcome.answer());
    outcome.assert_marker("reading standard input");
    // A command is given its input there, and nothing else.
    assert_eq!(lab.call(RUNTIME_ECHO_TOOL, json!("x")).await.answer(), &json!("x"));
    let lab = Lab::start(Setup::of(RUNTIME_ECHO_COMMAND)).await;
    assert_eq!(
        lab.call(RUNTIME_ECHO_COMMAND, json!("the input")).await.answer(),
        &json!("the input")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_preopen_is_not_there() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(theirs.path().join("file.txt"), "theirs").unwrap();
    std::fs::write(mine.path().join("file.txt"), "mine").unwrap();
    let grant = |guest: &str, host: &tempfile::TempDir| json!({ "file:read": { "paths": [{ "guest": guest, "host": host.path().to_str().expect("UTF-8") }] } });
    let setup = Setup::of(FILESYSTEM_READ)
        .permissions(grant("/mine", &mine))
        .also(Setup::of(FILESYSTEM_TRUNCATE_READ_ONLY).permissions(grant("/theirs", &theirs)))
        .files(mine.path().parent().expect("a parent"));
    let lab = Lab::start(setup).await;
    let paths = json!({ "paths": ["/theirs/file.txt", "/mine/../theirs/file.txt", theirs.path().join("file.txt"), "/mine/file.txt"] });
    let outcome = lab.call(FILESYSTEM_READ, paths).await;
    for index in 0..3 {
        assert_ne!(outcome.answer()[index]["result"], "ok", "{}", outcome.answer());
    }
    assert_eq!(outcome.answer()[3]["text"], "mine");
    outcome.assert_marker("/theirs/file.txt");
    // The other one does see it.
    let outcome = lab
        .call(FILESYSTEM_TRUNCATE_READ_ONLY, json!({ "path": "/theirs/file.txt" }))
        .await;
    assert_eq!(outcome.answer()["text"], "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_a_stream_tells_nothing_of_the_host() {
    let server = Http::start().await;
    let desk = Desk::new();
    let origin = format!("http://127.0.0.1:{}", server.port());
    desk.configure(|config| config["policy"]["network"]["networks"] = json!(["127.0.0.1/32"]));
    desk.guest(NETWORK_HTTP, |entry| {
        entry["permissions"] = json!({ "network:read": { "hosts": [origin] } });
        entry["limits"] = json!({ "http_response_bytes": 100 });
    });
    let input = json!({ "requests": [{ "url": format!("{origin}/bytes/1000") }] }).to_string();
    let run = tokio::task::spawn_blocking(move || desk.invoke(NETWORK_HTTP, &input))
        .await
        .expect("it ran");
    run.assert("a body over the cap", 0, &[]);
    assert!(run.stdout.contains("HTTP response body size exceeds limit"), "{run:?}");
    for word in ["backtrace", ".rs", "/src/", "wasmtime"] {
        assert!(!run.stdout.contains(word), "{word}: {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_undeclared_import() {
    let failure = Lab::try_start(Setup::of(ISOLATION_UNDECLARED_IMPORT))
        .await
        .err()
        .expect("it is not admitted");
    assert_eq!(failure.code, Code::ImportUncovered);
    let shown = format!("{failure} {}", failure.hint.as_deref().unwrap_or_default());
    for part in ["aral:capability/memory-write", "memory:write"] {
        assert!(shown.contains(part), "`{part}` is not in `{shown}`");
    }
    let declared = json!({ "memory:write": { "namespaces": ["notes"], "bytes_max": 1000, "records_max": 10 } });
    let lab = Lab::start(Setup::of(ISOLATION_UNDECLARED_IMPORT).permissions(declared)).await;
    // Declared, it is admitted and its line runs.
    lab.call(ISOLATION_UNDECLARED_IMPORT, json!(null))
        .await
        .assert_marker("write");
    lab.neighbour_works().await;
}

/// Runs `fill` and `scan` in turn, more often than there are slots that stay warm.
async fn scan_after_fill(lab: &Lab, guest: Guest, fill: Value, scan: Value) -> Vec<Value> {
    let mut answers = Vec::new();
    for _ in 0..20 {
        lab.call(guest, fill.clone()).await.answer();
        answers.push(lab.call(guest, scan.clone()).await.answer().clone());
    }
    lab.neighbour_works().await;
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_slot_memory() {
    let lab = Lab::start(Setup::of(ISOLATION_SLOT_MEMORY)).await;
    let filled = lab.call(ISOLATION_SLOT_MEMORY, json!("fill")).await;
    assert_eq!(filled.answer()["filled"], 256 * 8192);
    filled.assert_marker("filling memory");
    for answer in scan_after_fill(&lab, ISOLATION_SLOT_MEMORY, json!("fill"), json!("scan")).await {
        assert_eq!(
            (&answer["calls"], &answer["not_zero"], &answer["left"]),
            (&json!(0), &json!(0), &json!(0)),
            "{answer}"
        );
        assert!(answer["scanned"].as_u64() >= Some(16 << 20), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_slot_table() {
    let lab = Lab::start(Setup::of(ISOLATION_SLOT_TABLE)).await;
    // What the scan would count if it saw the call before.
    let filled = lab.call(ISOLATION_SLOT_TABLE, json!(500)).await;
    assert_eq!(filled.answer(), &json!(510));
    filled.assert_marker("attacking");
    for answer in scan_after_fill(&lab, ISOLATION_SLOT_TABLE, json!(500), json!(0)).await {
        assert_eq!(answer, json!(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_memory() {
    let quota = |namespaces: Value| json!({ "namespaces": namespaces, "bytes_max": 1000, "records_max": 10 });
    let permissions = json!({ "memory:read": { "namespaces": ["mine"] }, "memory:write": quota(json!(["mine"])) });
    let lab = Lab::start(Setup::of(ISOLATION_MEMORY).permissions(permissions)).await;
    let outcome = lab.call(ISOLATION_MEMORY, json!({ "namespace": "theirs" })).await;
    for attempt in outcome.answer().as_array().expect("attempts") {
        let found = attempt["result"].as_str().expect("a result");
        assert!(found.starts_with("Error::Denied("), "{attempt}");
        assert!(found.contains("theirs"), "the line to add is missing: {attempt}");
        outcome.assert_marker(attempt["what"].as_str().expect("a name"));
    }
    outcome.assert_denied(Permission::MemoryRead);
    outcome.assert_denied(Permission::MemoryWrite);
    // Within the scope it is another answer.
    let outcome = lab.call(ISOLATION_MEMORY, json!({ "namespace": "mine" })).await;
    for attempt in outcome.answer().as_array().expect("attempts") {
        assert!(
            !attempt["result"].as_str().expect("a result").contains("Denied"),
            "{attempt}"
        );
    }
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_value_over_the_limit_is_refused_and_recorded() {
    let permissions = json!({
        "memory:read": { "namespaces": ["mine"] },
        "memory:write": { "namespaces": ["mine"], "bytes_max": 1 << 20, "records_max": 10 },
    });
    let setup = |limit: u64| {
        Setup::of(ISOLATION_MEMORY)
            .permissions(permissions.clone())
            .limits(json!({ "memory_value_bytes": limit }))
            .keeping(&[])
    };
    let input = json!({ "namespace": "mine", "bytes": 1001 });
    let lab = Lab::start(setup(1000)).await;
    let outcome = lab.call(ISOLATION_MEMORY, input.clone()).await;
    for index in [2, 4] {
        let attempt = &outcome.answer()[index];
        assert!(
            attempt["result"]
                .as_str()
                .expect("a result")
                .starts_with("Error::Limit("),
            "{attempt}"
        );
    }
    let of_size = |kind: &&EventKind| match kind {
        EventKind::MemoryAccess {
            amount: 1001,
            refused: Some(why),
            ..
        } => why.contains("memory_value_bytes"),
        _ => false,
    };
    let accesses = outcome.accesses();
    assert_eq!(accesses.iter().filter(of_size).count(), 2, "{accesses:?}");
    let lab = Lab::start(setup(1001)).await;
    let outcome = lab.call(ISOLATION_MEMORY, input).await;
    for index in [2, 4] {
        let attempt = &outcome.answer()[index];
        assert!(
            !attempt["result"]
                .as_str()
                .expect("a result")
                .starts_with("Error::Limit("),
            "{attempt}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_secret() {
    let permissions = json!({
        "secret:read": { "secrets": [
            { "name": "injected", "use": "inject", "hosts": ["https://api.example.test"], "header": "authorization" },
            { "name": "shown", "use": "reveal" },
        ] },
        "secret:write": { "names": ["injected"] },
    });
    let lab = Lab::start(Setup::of(ISOLATION_SECRET).permissions(permissions.clone())).await;
    let outcome = lab.call(ISOLATION_SECRET, json!({ "names": ["theirs"] })).await;
    for attempt in outcome.answer().as_array().expect("attempts") {
        let found = attempt["result"].as_str().expect("a result");
        assert!(
            found.starts_with("Error::Denied(") && found.contains("theirs"),
            "{attempt}"
        );
        outcome.assert_marker(attempt["what"].as_str().expect("a name"));
    }
    outcome.assert_denied(Permission::SecretRead);
    outcome.assert_denied(Permission::SecretWrite);
    // In scope it is not a denial, but for what is the other kind of use: injected is never shown, shown never injected.
    let outcome = lab
        .call(ISOLATION_SECRET, json!({ "names": ["injected", "shown"] }))
        .await;
    let attempts = outcome.answer().as_array().expect("attempts");
    assert_eq!(attempts.len(), 8);
    for attempt in attempts {
        let what = attempt["what"].as_str().expect("a name");
        let denied = attempt["result"]
            .as_str()
            .expect("a result")
            .starts_with("Error::Denied(");
        assert_eq!(
            denied,
            ["reveal injected", "attach shown", "put shown"].contains(&what),
            "{attempt}"
        );
    }
    lab.neighbour_works().await;
    // The policy has the last word on revealing.
    let setup = Setup::of(ISOLATION_SECRET).permissions(permissions);
    let lab = Lab::start(setup.configure(|config| config["policy"]["secret"]["reveal"] = json!(false))).await;
    let outcome = lab.call(ISOLATION_SECRET, json!({ "names": ["shown"] })).await;
    let shown = format!("{:?}", outcome.result);
    assert!(shown.contains("Denied") && !shown.contains("reveal shown"), "{shown}");
}

fn run(program: &str, arguments: &[&str]) -> Value {
    json!({ "program": program, "arguments": arguments })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_exec() {
    let programs = json!([
        { "path": "/bin/echo", "args": ["{word}"] },
        { "path": "/usr/bin/env", "args": [] },
        { "path": "/bin/cat", "args": [] },
        { "path": "/bin/ls", "args": ["/proc/self/fd"] },
    ]);
    let permissions = json!({ "exec": { "programs": programs } });
    let lab = Lab::start(Setup::of(ISOLATION_EXEC).permissions(permissions)).await;
    let attacks = [
        run("/bin/sh", &["-c", "id"]),
        run("/bin/echo", &["two", "words"]),
        run("/bin/echo", &["--help"]),
        run("/bin/echo", &["a b"]),
        run("/bin/echo", &[]),
        run("echo", &["word"]),
        run("/bin/../bin/echo", &["word"]),
        run("/bin/echo\0/bin/sh", &["word"]),
        run("/bin/echo", &["$(id)"]),
    ];
    let outcome = lab.call(ISOLATION_EXEC, json!({ "runs": attacks })).await;
    for (attack, answer) in attacks.iter().zip(outcome.answer().as_array().expect("answers")) {
        let found = answer["result"].as_str().expect("a result");
        assert!(found.starts_with("Error::Denied("), "{attack}: {found}");
    }
    outcome.assert_marker("run /bin/sh [\"-c\", \"id\"]");
    outcome.assert_denied(Permission::Exec);
    lab.neighbour_works().await;

    let fine = [
        run("/bin/echo", &["word"]),
        run("/usr/bin/env", &[]),
        run("/bin/ls", &["/proc/self/fd"]),
    ];
    let outcome = lab.call(ISOLATION_EXEC, json!({ "runs": fine })).await;
    let answer = outcome.answer();
    assert_eq!(
        (&answer[0]["status"], &answer[0]["stdout"]),
        (&json!("Status::Exited(0)"), &json!("word\n")),
        "{answer}"
    );
    assert_eq!(answer[1]["stdout"], "", "the environment is empty");
    // Standard streams and the folder that is being listed: nothing of the host is open.
    let open = answer[2]["stdout"].as_str().expect("text").lines().count();
    assert_eq!(open, 4, "{answer}");
    let cat = json!({ "program": "/bin/cat", "arguments": [], "stdin": "through" });
    assert_eq!(
        lab.call(ISOLATION_EXEC, json!({ "runs": [cat] })).await.answer()[0]["stdout"],
        "through"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_hangs_or_floods_is_ended() {
    let programs = json!([
        { "path": "/bin/sleep", "args": ["{integer}"] },
        { "path": "/usr/bin/head", "args": ["-c", "{integer}", "/dev/zero"] },
    ]);
    let setup = |limits: Value| {
        Setup::of(ISOLATION_EXEC)
            .permissions(json!({ "exec": { "programs": programs } }))
            .limits(limits)
    };
    let sleep = |seconds: &str| json!({ "runs": [run("/bin/sleep", &[seconds])] });
    let lab = Lab::start(setup(json!({ "exec_ms": 300, "wall_ms": 60_000 }))).await;
    let outcome = lab.call(ISOLATION_EXEC, sleep("50")).await;
    assert!(
        outcome.answer()[0]["result"]
            .as_str()
            .expect("a result")
            .starts_with("Error::Limit("),
        "{}",
        outcome.answer()
    );
    assert!(
        outcome.elapsed < std::time::Duration::from_secs(20),
        "{:?}",
        outcome.elapsed
    );
    outcome.assert_marker("run /bin/sleep [\"50\"]");
    lab.neighbour_works().await;
    let lab = Lab::start(setup(json!({ "exec_ms": 20_000 }))).await;
    assert_eq!(
        lab.call(ISOLATION_EXEC, sleep("1")).await.answer()[0]["status"],
        "Status::Exited(0)"
    );

    let flood = json!({ "runs": [run("/usr/bin/head", &["-c", "100000", "/dev/zero"])] });
    for (limit, truncated) in [(50_000, true), (100_000, false)] {
        let lab = Lab::start(setup(json!({ "exec_output_bytes": limit }))).await;
        let outcome = lab.call(ISOLATION_EXEC, flood.clone()).await;
        let answer = &outcome.answer()[0];
        assert_eq!(
            (&answer["result"], &answer["truncated"]),
            (&json!("ok"), &json!(truncated)),
            "{limit}"
        );
        assert!(answer["stdout"].as_str().map(str::len) <= Some(limit), "{limit}");
    }
}
