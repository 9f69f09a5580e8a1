//! `aral run`: a component without a manifest, with what `--allow` gives, and `--observe`, which finds out what that is.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::support::desk::Desk;
use crate::support::guests::*;

#[test]
fn a_run_without_a_manifest_needs_the_flag_and_gets_what_is_allowed() {
    let desk = Desk::new();
    desk.write("read.wasm", &FILESYSTEM_READ.bytes());
    desk.write("data/data.txt", b"data");
    let input = r#"{"paths":["/data/data.txt"]}"#;
    let run = |more: &[&str]| desk.aral(&[&["run", "read.wasm", "--input", input], more].concat());
    run(&["--allow", "file:read=data:/data"]).assert("without the flag", 2, &["hint: add `--development`"]);
    let allowed = run(&["--development", "--allow", "file:read=data:/data"]);
    allowed.assert(
        "allowed",
        0,
        &["warning: only development allows this", "granted   file:read /data"],
    );
    assert!(allowed.stdout.contains(r#""text":"data""#), "{allowed:?}");
    let closed = run(&["--development"]);
    closed.assert("not allowed", 0, &["granted   nothing"]);
    assert!(!closed.stdout.contains(r#""text""#), "{closed:?}");
    run(&["--development", "--allow", "file:read=nowhere:/data"]).assert("no folder", 3, &["nowhere"]);
    run(&["--development", "--allow", "files=data"]).assert("no permission", 2, &["`files` is not a permission"]);
    run(&["--development", "--limit", "fuel=1"]).assert(
        "no fuel",
        5,
        &[
            "(limit.fuel)",
            "hint: if that is too little, give it more: `--limit NAME=NUMBER`",
        ],
    );
    desk.write("exec.wasm", &ISOLATION_EXEC.bytes());
    desk.aral(&["run", "exec.wasm", "--development"])
        .assert("not covered", 7, &["hint: give it with `--allow"]);
}

#[test]
fn observing_writes_an_entry_that_covers_the_run_and_is_read_back() {
    let desk = Desk::new();
    desk.write("exec.wasm", &ISOLATION_EXEC.bytes());
    let input = r#"{"runs":[{"program":"/usr/bin/head","arguments":["-c","2"],"stdin":"four"}]}"#;
    let observe = || {
        desk.aral(&[
            "run",
            "exec.wasm",
            "--development",
            "--input",
            input,
            "--observe",
            "capability.toml",
        ])
    };
    let observed = observe();
    observed.assert(
        "observed",
        0,
        &["denied    exec /usr/bin/head", "wrote capability.toml"],
    );
    assert!(
        !observed.stdout.contains(r#""stdout":"fo""#),
        "it was only observed: {observed:?}"
    );
    let text = std::fs::read_to_string(desk.path("capability.toml")).expect("an entry");
    assert!(text.contains("# denied once: /usr/bin/head"), "{text}");
    observe().assert("not twice", 2, &["`capability.toml` exists already", "hint: "]);

    // What a person would add: schemas. Then the entry goes the whole way.
    desk.write("input.json", b"{}");
    desk.write("output.json", b"{}");
    desk.aral(&["manifest", "build", "capability.toml"])
        .assert("build", 0, &[]);
    desk.aral(&["manifest", "sign", "manifest.json", "--key", "key.pem"])
        .assert("sign", 0, &[]);
    desk.configure(|config| {
        config["policy"]["exec"] = json!({ "programs": [{ "path": "/usr/bin/head", "args": ["-c", "{integer}"] }] });
    });
    let ran = desk.aral(&["invoke", "exec", "--input", input]);
    ran.assert("invoke", 0, &[]);
    assert!(ran.stdout.contains(r#""stdout":"fo""#), "{ran:?}");
}

#[test]
fn what_a_run_needed_one_folder_for_builds_and_runs_as_it_was_written() {
    let desk = Desk::new();
    let component = std::fs::read(concat!(env!("ARAL_CAPABILITIES"), "/text_grep.wasm")).expect("a component");
    desk.write("text_grep.wasm", &component);
    desk.write("logs/access.log", b"GET /old 301: redirect to /new\n");
    let (input, allow) = (
        r#"{"pattern":"redirect"}"#,
        format!("file:read={}:/data", desk.path("logs")),
    );
    let run = [
        "run",
        "text_grep.wasm",
        "--development",
        "--allow",
        &allow,
        "--input",
        input,
    ];
    desk.aral(&[&run[..], &["--observe", "observed.toml"]].concat())
        .assert("observed", 0, &["wrote observed.toml"]);
    let text = std::fs::read_to_string(desk.path("observed.toml")).expect("an entry");
    assert!(
        text.contains("# /.ignore: there is no such folder on this machine"),
        "{text}"
    );
    desk.aral(&["manifest", "build", "observed.toml"])
        .assert("build", 0, &[]);
    desk.aral(&["manifest", "sign", "manifest.json", "--key", "key.pem"])
        .assert("sign", 0, &[]);
    let called = desk.aral(&["invoke", "text-grep", "--input", input]);
    called.assert("invoke", 0, &[]);
    assert!(called.stdout.contains("redirect to /new"), "{called:?}");
}

#[test]
fn what_an_import_needs_that_a_run_did_not_use_is_one_step_away() {
    let desk = Desk::new();
    desk.write("notes.wasm", &NOTES.bytes());
    let list = r#"{"action":"list"}"#;
    let _refused = desk.aral(&[
        "run",
        "notes.wasm",
        "--development",
        "--input",
        list,
        "--observe",
        "notes.toml",
    ]);
    let text = std::fs::read_to_string(desk.path("notes.toml")).expect("an entry");
    let build = || desk.aral(&["manifest", "build", "notes.toml"]);
    build().assert("as it is", 7, &["imports `aral:capability/memory-write@1.0.0`"]);
    let (front, lines) = text.split_once("take off each `# `.\n").expect("lines to take");
    let taken: Vec<&str> = lines.lines().map(|line| line.trim_start_matches("# ")).collect();
    desk.write("notes.toml", format!("{front}\n{}\n", taken.join("\n")).as_bytes());
    let built = build();
    built.assert("with them", 0, &[]);
    assert!(built.stdout.contains("memory:read, memory:write"), "{built:?}");
}

/// Answers every request on a port of this machine with `hello`.
fn hello() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _any = (&stream).read(&mut request);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            let _gone = (&stream).write_all(answer);
        }
    });
    format!("http://{address}")
}

#[test]
fn a_run_reaches_this_machine_only_if_both_the_host_and_the_network_are_allowed() {
    let desk = Desk::new();
    desk.write("http.wasm", &NETWORK_HTTP.bytes());
    let origin = hello();
    let input = json!({ "requests": [{ "method": "GET", "url": format!("{origin}/") }] }).to_string();
    let allow = format!("network:read={origin}");
    let run = |more: &[&str]| {
        let run = desk.aral(&[&["run", "http.wasm", "--development", "--input", &input], more].concat());
        assert_eq!(run.code, 0, "{run:#?}");
        run.stdout.contains("hello")
    };
    let network = ["--allow", &allow, "--allow-network", "127.0.0.0/8"];
    assert!(run(&network));
    assert!(
        !run(&["--allow", &allow]),
        "the network is not public, and nobody allowed it"
    );
    assert!(!run(&[
        "--allow",
        "network:read=http://127.0.0.1:1",
        "--allow-network",
        "127.0.0.0/8"
    ]));
    desk.aral(&["run", "http.wasm", "--development", "--allow-network", "localhost"])
        .assert("no network", 2, &["is not a network", "hint: write it with its length"]);
}

#[test]
fn what_a_guest_says_when_it_dies_is_shown_where_little_is() {
    let desk = Desk::new();
    desk.guest(RUNTIME_PANIC, |_| ());
    for option in ["--quiet", "--json"] {
        let run = desk.aral(&["invoke", "runtime-panic", "--input", r#""panic""#, option]);
        assert_ne!(run.code, 0, "{option}: {run:?}");
        let last_words = "warning: log warn: the secret of this panic is 4711";
        assert!(run.stderr.contains(last_words), "{option}: {run:?}");
        assert!(!run.stderr.contains("about to panic"), "{option}: {run:?}");
    }
}
