//! The example capabilities from end to end, as a user meets them: `capability.toml` to manifest, signature, call. Real
//! files, a real server, real programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use aral_contract::Code;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::dns::{self, Dns};
use crate::support::guests::{HTTP_FETCH, NOTES, WEBHOOK_POST};
use crate::support::http::Http;
use crate::support::lab::Lab;
use crate::support::setup::Setup;
use crate::support::tls::Authority;

/// A desk with one of the example capabilities, built into a manifest and signed by the program itself.
/// `edits` are what an operator changes in its `capability.toml`.
fn desk(capability: &str, edits: &[(&str, &str)]) -> Desk {
    let desk = Desk::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../capabilities")
        .join(capability);
    let text = std::fs::read_to_string(source.join("capability.toml")).expect("capability.toml");
    let built = "../target/wasm32-wasip2/release/";
    let name = text
        .split(built)
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("the component's file")
        .to_owned();
    desk.write(
        &format!("source/{name}"),
        &std::fs::read(Path::new(env!("ARAL_CAPABILITIES")).join(&name)).expect("a component"),
    );
    let mut text = text.replace(built, "");
    for (old, new) in edits {
        assert!(
            text.contains(old),
            "`{old}` is not in the capability.toml of {capability}"
        );
        text = text.replace(old, new);
    }
    desk.write("source/capability.toml", text.as_bytes());
    if let Ok(schemas) = std::fs::read_dir(source.join("schema")) {
        for schema in schemas.map(|entry| entry.expect("a file").path()) {
            let name = schema
                .file_name()
                .and_then(|name| name.to_str())
                .expect("UTF-8")
                .to_owned();
            desk.write(
                &format!("source/schema/{name}"),
                &std::fs::read(schema).expect("a file"),
            );
        }
    }
    desk.configure(|config| {
        let wide = json!({ "fuel": 1_u64 << 40, "wall_ms": 120_000, "compute_ms": 120_000 });
        config["policy"]["limits"] = wide.clone();
        config["policy"]["defaults"] = json!({ "compute_ms": 120_000, "wall_ms": 120_000 });
        config["policy"]["exec"] = json!({ "programs": [{ "path": "/usr/bin/head", "args": ["-n", "{integer}"] }] });
    });
    desk.aral(&["manifest", "build", "source"])
        .assert("manifest build", 0, &[]);
    desk.aral(&["manifest", "sign", "manifest.json", "--key", "key.pem", "--serial", "1"])
        .assert("manifest sign", 0, &[]);
    desk.aral(&["manifest", "verify", "manifest.json"])
        .assert("manifest verify", 0, &[]);
    desk
}

/// `aral invoke --json`, which must succeed.
fn invoke(desk: &Desk, capability: &str, input: &Value) -> Value {
    let run = desk.aral(&["invoke", capability, "--json", "--input", &input.to_string()]);
    run.assert(capability, 0, &[]);
    serde_json::from_str(&run.stdout).expect("one JSON object")
}

#[test]
fn text_grep_searches_a_folder_tree() {
    let desk = desk("text-grep", &[]);
    let files = [
        ("data/notes.txt", "alpha\nbeta error 42\ngamma\n"),
        ("data/deep/er/log.md", "nothing\nan error 7 here\n"),
        ("data/ignored/secret.log", "error 99\n"),
        ("data/.gitignore", "ignored/\n*.tmp\n"),
        ("data/scratch.tmp", "error 98\n"),
        ("data/plain.rs", "fn error() {}\n"),
        ("outside.txt", "error 13\n"),
    ];
    for (name, text) in files {
        desk.write(name, text.as_bytes());
    }
    desk.write("data/binary.bin", b"error 1\0\x01\x02");
    (0..500).for_each(|number| desk.write(&format!("data/many/{}/file-{number}.txt", number % 20), b"quiet\n"));
    let desk = moved(desk, "text-grep");
    let answer = invoke(
        &desk,
        "text-grep",
        &json!({ "pattern": r"error (\d+)", "context_lines": 1 }),
    );
    let found = &answer["answer"];
    assert_eq!(
        (&found["matches"], &found["files_matched"], &found["files_binary"]),
        (&json!(2), &json!(2), &json!(1)),
        "{answer}"
    );
    let passages = found["passages"].to_string();
    assert!(
        passages.contains("beta error 42") && passages.contains("gamma") && passages.contains("an error 7 here"),
        "{passages}"
    );
    assert!(
        !passages.contains("99") && !passages.contains("98") && !passages.contains("13"),
        "{passages}"
    );
    assert!(found["files_searched"].as_u64() >= Some(503), "{answer}");
}

/// Grants the folder `data` of this desk instead of `/srv/data`, which the shipped `capability.toml` names.
fn moved(desk: Desk, capability: &str) -> Desk {
    let text = std::fs::read_to_string(desk.path("source/capability.toml")).expect("capability.toml");
    desk.write(
        "source/capability.toml",
        text.replace("/srv/", &format!("{}/", desk.root())).as_bytes(),
    );
    // The old one is signed, and is not written over.
    desk.aral(&["manifest", "build", "source", "--out", "new.json"])
        .assert(capability, 0, &[]);
    desk.aral(&["manifest", "sign", "new.json", "--key", "key.pem", "--serial", "1"])
        .assert(capability, 0, &[]);
    std::fs::rename(desk.path("new.json"), desk.path("manifest.json")).expect("a file");
    desk
}

#[test]
fn a_build_writes_over_an_unsigned_manifest_and_over_nothing_else() {
    let desk = desk("echo", &[]);
    let build = |out: &str| desk.aral(&["manifest", "build", "source", "--out", out]);
    for _again in 0..2 {
        build("new.json").assert("an unsigned manifest", 0, &["hint: sign it"]);
    }
    desk.write("site/manifest.json", br#"{"name":"my web app"}"#);
    desk.write("empty.json", b"");
    for name in [
        "site/manifest.json",
        "empty.json",
        "key.pem",
        "persona.json",
        "source/capability.toml",
        "manifest.json",
    ] {
        let before = std::fs::read(desk.path(name)).expect("a file");
        let refused = build(name);
        refused.assert(name, 2, &[&format!("`{name}` exists already"), "hint: "]);
        assert_eq!(std::fs::read(desk.path(name)).expect("a file"), before, "{name}");
        assert_eq!(
            refused.stderr.contains("a signed manifest is there"),
            name == "manifest.json"
        );
    }
    build("source").assert("a folder", 2, &["`source`"]);
    assert!(
        !Path::new(&desk.path("site/components")).exists(),
        "nothing was written"
    );
    desk.aral(&["manifest", "verify", "manifest.json"])
        .assert("it is signed still", 0, &[]);
    // What the hint says.
    build("NEW.json").assert("beside it", 0, &[]);
    desk.aral(&["manifest", "sign", "NEW.json", "--key", "key.pem", "--serial", "2"])
        .assert("beside it", 0, &[]);
    std::fs::rename(desk.path("NEW.json"), desk.path("manifest.json")).expect("a file");
    desk.aral(&["manifest", "verify", "manifest.json"])
        .assert("the new one", 0, &[]);
}

#[test]
fn a_build_writes_no_component_through_a_link() {
    let desk = desk("echo", &[]);
    let key = std::fs::read(desk.path("key.pem")).expect("a key");
    let mut components = std::fs::read_dir(desk.path("components")).expect("a folder");
    let component = components.next().expect("a component").expect("an entry").path();
    let bytes = std::fs::read(&component).expect("a component");
    std::fs::remove_file(&component).expect("a component");
    std::os::unix::fs::symlink("../key.pem", &component).expect("a link");
    desk.aral(&["manifest", "build", "source", "--out", "new.json"]).assert(
        "a link in the place of the component",
        0,
        &[],
    );
    assert_eq!(std::fs::read(desk.path("key.pem")).expect("a key"), key);
    let metadata = std::fs::symlink_metadata(&component).expect("a component");
    assert!(metadata.is_file(), "it is no link any more");
    assert_eq!(std::fs::read(&component).expect("a component"), bytes);
}

#[test]
fn a_build_takes_no_schema_from_outside_of_the_folder() {
    let desk = desk("word-count", &[]);
    desk.write("home/config.json", br#"{"auth":"dXNlcjpodW50ZXIy"}"#);
    let build = || desk.aral(&["manifest", "build", "source", "--out", "new.json"]);
    let refused = |case: &str, name: &str| {
        let path = format!("`source/{name}`");
        build().assert(case, 2, &[&path, "(config.invalid)", "hint: put it into the folder of"]);
        assert!(!Path::new(&desk.path("new.json")).exists(), "{case}");
    };
    let text = std::fs::read_to_string(desk.path("source/capability.toml")).expect("capability.toml");
    let upwards = text.replace("schema/output.json", "../home/config.json");
    desk.write("source/capability.toml", upwards.as_bytes());
    refused("a path that leads up", "../home/config.json");
    desk.write("source/capability.toml", text.as_bytes());
    std::fs::remove_file(desk.path("source/schema/input.json")).expect("a schema");
    std::os::unix::fs::symlink("../../home/config.json", desk.path("source/schema/input.json")).expect("a link");
    refused("a link that leads out", "schema/input.json");
    std::fs::remove_file(desk.path("source/schema/input.json")).expect("a link");
    desk.write("source/input.json", b"{}");
    std::os::unix::fs::symlink("../input.json", desk.path("source/schema/input.json")).expect("a link");
    build().assert("a link that stays inside", 0, &[]);
}

#[test]
fn a_pipe_where_a_folder_names_a_file_is_refused_and_not_waited_for() {
    let desk = desk("word-count", &[]);
    let pipe = |path: &Path| {
        std::fs::remove_file(path).expect("a file");
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    };
    // The last one that is read comes first.
    for name in [
        "source/schema/output.json",
        "source/word-count.wasm",
        "source/capability.toml",
    ] {
        pipe(Path::new(&desk.path(name)));
        let told = format!("`{name}` is not a regular file");
        desk.aral(&["manifest", "build", "source", "--out", "new.json"])
            .assert(name, 2, &[&told]);
    }
    let mut components = std::fs::read_dir(desk.path("components")).expect("a folder");
    pipe(&components.next().expect("a component").expect("an entry").path());
    desk.aral(&["manifest", "verify", "manifest.json"])
        .assert("verify", 2, &["is not a regular file"]);
}

#[test]
fn table_query_works_through_a_large_table_in_bounded_memory() {
    const ROWS: u64 = 1_000_000;
    let desk = desk("table-query", &[]);
    let countries = ["AT", "BR", "CA", "DE", "EG"];
    let mut text = String::from("id,country,total,comment\n");
    for id in 0..ROWS {
        let country = countries[usize::try_from(id % 5).expect("small")];
        writeln!(text, "{id},{country},{},\"row {id}, quoted\"", id * 7 % 1000).expect("memory");
    }
    let bytes = text.len();
    desk.write("data/orders.csv", text.as_bytes());
    let desk = moved(desk, "table-query");
    let answer = invoke(
        &desk,
        "table-query",
        &json!({
            "file": "orders.csv",
            "where": [{ "column": "total", "operator": "at_least", "value": 500 }],
            "group_by": ["country"],
            "aggregates": [{ "function": "count" }, { "function": "sum", "column": "total" }],
            "sort": [{ "column": "sum_total", "order": "descending" }, { "column": "country", "order": "ascending" }],
        }),
    );
    let mut expected: Vec<(u64, &str, u64)> = countries
        .iter()
        .zip(0_u64..)
        .map(|(country, offset)| {
            let totals = (0..ROWS)
                .filter(|id| id % 5 == offset)
                .map(|id| id * 7 % 1000)
                .filter(|total| *total >= 500);
            let totals: Vec<u64> = totals.collect();
            (
                totals.iter().sum(),
                *country,
                u64::try_from(totals.len()).expect("small"),
            )
        })
        .collect();
    expected.sort_by(|one, two| two.0.cmp(&one.0).then(one.1.cmp(two.1)));
    let rows: Vec<Value> = expected
        .iter()
        .map(|(sum, country, count)| json!([country, count, sum]))
        .collect();
    let found = &answer["answer"];
    assert_eq!(found["columns"], json!(["country", "count", "sum_total"]), "{answer}");
    assert_eq!(found["rows"], json!(rows));
    assert_eq!(found["rows_read"], ROWS);
    let peak = answer["usage"]["memory_bytes_peak"].as_u64().expect("bytes");
    assert!(peak < 32 << 20, "{peak} bytes for a file of {bytes}");
}

#[test]
fn markdown_render_makes_safe_html() {
    let desk = desk("markdown-render", &[]);
    let markdown = "# Title\n\nSome *text* <script>alert(1)</script>\n\n[link](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
    let answer = invoke(&desk, "markdown-render", &json!({ "markdown": markdown }));
    let html = answer["answer"]["html"].as_str().expect("HTML");
    assert!(html.contains("<em>text</em>") && html.contains("<table>"), "{html}");
    assert!(
        !html.contains("<script") && !html.contains("href=\"javascript"),
        "{html}"
    );
    assert_eq!(answer["answer"]["outline"][0]["text"], "Title");
}

#[test]
fn word_count_runs_as_a_plain_program() {
    let desk = desk("word-count", &[]);
    let answer = invoke(
        &desk,
        "word-count",
        &json!({ "text": "the cat and the hat\nand the bat\n", "top": 2 }),
    );
    let found = &answer["answer"];
    assert_eq!(
        (&found["lines"], &found["words"], &found["different_words"]),
        (&json!(2), &json!(8), &json!(5)),
        "{answer}"
    );
    assert_eq!(found["top_words"][0], json!({ "word": "the", "count": 3 }));
}

#[test]
fn run_program_runs_what_is_listed_and_nothing_else() {
    let desk = desk(
        "run-program",
        &[
            ("    { path = \"/usr/bin/uname\", args = [\"-a\"] },\n", ""),
            ("    { path = \"/usr/bin/sort\", args = [\"-n\"] },\n", ""),
        ],
    );
    let input = |program: &str, argument: &str| json!({ "program": program, "arguments": ["-n", argument], "stdin": "one\ntwo\nthree\n" });
    let answer = invoke(&desk, "run-program", &input("/usr/bin/head", "2"));
    assert_eq!(
        (&answer["answer"]["stdout"], &answer["answer"]["exit_code"]),
        (&json!("one\ntwo\n"), &json!(0)),
        "{answer}"
    );
    for (program, argument) in [("/usr/bin/head", "-1"), ("/usr/bin/head", "2;id"), ("/bin/sh", "2")] {
        let run = desk.aral(&[
            "invoke",
            "run-program",
            "--input",
            &input(program, argument).to_string(),
        ]);
        run.assert(program, 3, &["(permission.denied)"]);
    }
}

#[test]
fn report_write_writes_below_its_folder_alone() {
    let desk = desk("report-write", &[]);
    desk.write("reports/.keep", b"");
    let desk = moved(desk, "report-write");
    let input = |name: &str| {
        json!({
            "name": name,
            "report": { "title": "Support", "sections": [{ "heading": "By team", "table": { "columns": ["Team", "Tickets"], "rows": [["API", 1208]] } }] },
        })
    };
    let answer = invoke(&desk, "report-write", &input("support-week"));
    let written = std::fs::read_to_string(desk.path("reports/support-week.md")).expect("the report");
    assert!(written.contains("Support") && written.contains("1208"), "{written}");
    assert_eq!(answer["answer"]["bytes"], written.len());
    for name in ["../escaped.md", "/etc/escaped.md", "a/../../escaped.md"] {
        let run = desk.aral(&["invoke", "report-write", "--input", &input(name).to_string()]);
        assert_ne!(run.code, 0, "{name}: {run:?}");
        assert!(!Path::new(&desk.path("escaped.md")).exists() && !Path::new("/etc/escaped.md").exists());
    }
}

#[test]
fn what_needs_a_store_says_that_this_host_has_none() {
    for (capability, input, words) in [
        (
            "notes",
            json!({ "action": "add", "name": "Shopping list", "text": "milk" }),
            "this host has no memory store",
        ),
        (
            "webhook-post",
            json!({ "url": "https://hooks.example.com/builds", "payload": { "status": "passed" } }),
            "this host has no secret store",
        ),
    ] {
        let desk = desk(capability, &[]);
        desk.aral(&["invoke", capability, "--input", &input.to_string()])
            .assert(capability, 8, &[words, "(host.unavailable)"]);
        // It is the store that is missing, and not the right to use it: without that it is not even started.
        desk.configure(|config| config["policy"]["permissions"] = json!(["file:read"]));
        desk.aral(&["invoke", capability, "--input", &input.to_string()])
            .assert(capability, 3, &["(permission.denied)", "hint: "]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_fetch_reads_a_page_from_a_real_server() {
    let server = Http::start().await;
    let dns = Dns::start(&[("example.com", &["127.0.0.1"])]).await;
    let origin = format!("http://example.com:{}", server.port());
    let (desk, address) = (
        desk(
            "http-fetch",
            &[(
                "\"https://example.com\", \"https://*.example.com\"",
                &format!("\"{origin}\""),
            )],
        ),
        dns.address,
    );
    desk.configure(|config| {
        config["policy"]["network"]["networks"] = json!(["127.0.0.0/8"]);
        config["egress"] = json!({ "nameservers": [address] });
    });
    // The servers live on this runtime; the program is waited for beside it.
    tokio::task::spawn_blocking(move || {
        let answer = invoke(
            &desk,
            "http-fetch",
            &json!({ "url": format!("{origin}/html"), "readable": true }),
        );
        let found = &answer["answer"];
        assert_eq!(
            (&found["status"], &found["title"]),
            (&json!(200), &json!("A page")),
            "{answer}"
        );
        let text = found["text"].as_str().expect("text");
        assert!(
            text.contains("Readable text & more.") && !text.contains("alert"),
            "{text}"
        );
        let answer = invoke(
            &desk,
            "http-fetch",
            &json!({ "url": format!("{origin}/redirect/http:elsewhere.test/") }),
        );
        assert_eq!(
            (&answer["answer"]["status"], &answer["answer"]["location"]),
            (&json!(302), &json!("http://elsewhere.test/")),
            "{answer}"
        );
        let denied = json!({ "url": "http://elsewhere.test/" }).to_string();
        desk.aral(&["invoke", "http-fetch", "--input", &denied])
            .assert("another host", 3, &["(permission.denied)"]);
    })
    .await
    .expect("the program was run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_within_its_time_whichever_of_its_steps_takes_long() {
    let server = Http::start().await;
    let dns = Dns::start(&[("example.com", &["127.0.0.1"])]).await;
    let origin = format!("http://example.com:{}", server.port());
    let setup = Setup::of(HTTP_FETCH)
        .permissions(json!({ "network:read": { "hosts": [origin] } }))
        .limits(json!({ "http_ms": 60_000, "wall_ms": 120_000 }))
        .networks(&["127.0.0.1/32"])
        .nameserver(dns.address);
    let lab = Lab::start(setup).await;
    let input = |path: &str, timeout_ms: u64| json!({ "url": format!("{origin}{path}"), "timeout_ms": timeout_ms });
    // The head does not come or does not end, the body does not end, and two steps are over in time which together are not.
    for path in ["/silent", "/drip-head", "/drip", "/late/600"] {
        let outcome = lab.call(HTTP_FETCH, input(path, 1_000)).await;
        let failure = outcome.failure();
        assert_eq!(failure.code, Code::Unavailable, "{path}: {failure}");
        // It is the time of the request that is over, and not that of one step of the host's.
        assert!(
            failure.message.contains("the answer did not end within 1000 ms"),
            "{path}: {failure}"
        );
    }
    let outcome = lab.call(HTTP_FETCH, input("/late/100", 60_000)).await;
    assert_eq!(outcome.answer()["status"], 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_learns_why_there_is_no_connection_within_its_time() {
    let server = Http::start().await;
    let (silent, _silent_too) = dns::bind().await;
    let (origin, nameless) = (format!("http://127.0.0.1:{}", server.port()), "http://example.com");
    let setup = Setup::of(HTTP_FETCH)
        .permissions(json!({ "network:read": { "hosts": [origin, nameless] } }))
        .limits(json!({ "http_ms": 60_000, "wall_ms": 120_000 }))
        .networks(&["127.0.0.1/32"])
        .nameserver(silent.local_addr().expect("a bound socket"))
        .configure(|config| config["egress"]["connections_max"] = json!(1));
    let lab = Lab::start(setup).await;
    let input = |url: &str, timeout_ms: u64| json!({ "url": url, "timeout_ms": timeout_ms });
    let outcome = lab.call(HTTP_FETCH, input(nameless, 2_000)).await;
    let failure = outcome.failure();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert!(failure.message.contains("DnsTimeout"), "{failure}");
    let url = format!("{origin}/silent");
    let outcome = tokio::select! {
        outcome = lab.call(HTTP_FETCH, input(&url, 60_000)) => panic!("a server that says nothing was heard: {outcome:?}"),
        outcome = async {
            while server.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            lab.call(HTTP_FETCH, input(&url, 2_000)).await
        } => outcome,
    };
    let failure = outcome.failure();
    assert_eq!(failure.code, Code::LimitHostCall, "{failure}");
    assert!(failure.message.contains("ConnectionLimitReached"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_kept_from_one_call_to_the_next() {
    let setup = Setup::of(NOTES)
        .permissions(json!({
            "memory:read": { "namespaces": ["notes"] },
            "memory:write": { "namespaces": ["notes"], "bytes_max": 1_048_576, "records_max": 2 },
        }))
        .keeping(&[]);
    let lab = Lab::start(setup).await;
    let add = |name: &str, text: &str, replace: bool| json!({ "action": "add", "name": name, "text": text, "replace": replace, "days": 7 });
    let get = json!({ "action": "get", "name": "Shopping list" });
    for (input, expected) in [
        (
            add("Shopping list", "milk", false),
            json!({ "action": "added", "version": 1 }),
        ),
        (
            add("Shopping list", "milk and bread", true),
            json!({ "action": "added", "version": 2 }),
        ),
        (get.clone(), json!({ "action": "note", "text": "milk and bread" })),
        (
            json!({ "action": "list", "prefix": "Shop" }),
            json!({ "action": "names", "names": ["Shopping list"] }),
        ),
        (add("Plan", "rest", false), json!({ "action": "added", "version": 1 })),
        (
            json!({ "action": "delete", "name": "Plan" }),
            json!({ "action": "deleted", "existed": true }),
        ),
        (
            json!({ "action": "delete", "name": "Plan" }),
            json!({ "action": "deleted", "existed": false }),
        ),
        (
            add("Plan", "rest again", false),
            json!({ "action": "added", "version": 1 }),
        ),
    ] {
        assert_eq!(lab.call(NOTES, input).await.answer(), &expected);
    }
    for (input, code) in [
        (add("Shopping list", "other", false), Code::InputInvalid),
        (add("One too many", "", false), Code::LimitHostCall),
    ] {
        let outcome = lab.call(NOTES, input).await;
        assert_eq!(outcome.failure().code, code, "{}", outcome.failure());
    }
    assert_eq!(lab.call(NOTES, get).await.answer()["text"], "milk and bread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_post_sends_a_token_that_it_never_sees() {
    const TOKEN: &str = "hook-token-0123456789";
    let authority = Authority::new();
    let server = Http::start_on("127.0.0.1:0", Some(authority.server(&["hooks.example.com"]))).await;
    let dns = Dns::start(&[("hooks.example.com", &["127.0.0.1"])]).await;
    let origin = format!("https://hooks.example.com:{}", server.port());
    let setup = Setup::of(WEBHOOK_POST)
        .permissions(json!({
            "network:write": { "hosts": [origin] },
            "secret:read": { "secrets": [{ "name": "webhook-token", "hosts": [origin], "header": "authorization", "prefix": "Bearer " }] },
        }))
        .networks(&["127.0.0.1/32"])
        .nameserver(dns.address)
        .authority(&authority.pem())
        .keeping(&[("webhook-token", TOKEN)]);
    let lab = Lab::start(setup).await;
    let input = |path: &str| json!({ "url": format!("{origin}{path}"), "payload": { "status": "passed" } });
    let outcome = lab.call(WEBHOOK_POST, input("/echo")).await;
    assert_eq!(
        outcome.answer(),
        &json!({ "status": 200, "accepted": true, "answer": "{\"status\":\"passed\"}", "truncated": false })
    );
    let head = server.requests().remove(0);
    assert!(
        head.starts_with("POST /echo ") && head.contains(&format!("\r\nauthorization: Bearer {TOKEN}\r\n")),
        "{head}"
    );
    let echoed = lab.call(WEBHOOK_POST, input("/reflect/base64")).await;
    assert_eq!(echoed.answer()["answer"], "*".repeat(28), "{}", echoed.answer());
    assert!(!outcome.recorded().contains(TOKEN) && !echoed.recorded().contains(TOKEN));
    let elsewhere = json!({ "url": "https://elsewhere.example.com/", "payload": 1 });
    assert_eq!(
        lab.call(WEBHOOK_POST, elsewhere).await.failure().code,
        Code::PermissionDenied
    );
}
