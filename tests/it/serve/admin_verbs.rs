//! `aral memory`, `aral secret` and `aral audit` while a server has the store: the same words, the same exit codes, on record,
//! and no value where nobody asked for one.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::desk::{Desk, Run};
use crate::support::guests::*;
use crate::support::server::{self, Server};

/// Stands in no log, no record and no message.
const VALUE: &str = "plaintext-that-nobody-prints";

fn desk() -> Desk {
    let desk = server::desk(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } });
        config["secrets"] = json!({ "names": { "elsewhere": "env://ARAL_TEST_SECRET" } });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    desk
}

/// Every verb in an order in which each has something to do, with how it is to end.
fn script(desk: &Desk) -> Vec<(String, Run)> {
    let steps: &[(&[&str], &str, i32)] = &[
        (&["memory", "put", "notes", "a"], VALUE, 0),
        (
            &[
                "memory",
                "put",
                "notes",
                "b",
                "--classification",
                "public",
                "--ttl",
                "1000",
            ],
            VALUE,
            0,
        ),
        (&["memory", "put", "notes", "a", "--if-absent"], VALUE, 6),
        (&["memory", "get", "notes", "a"], "", 0),
        (&["memory", "get", "notes", "a", "--reveal"], "", 0),
        (&["memory", "get", "notes", "none"], "", 6),
        (&["memory", "list", "notes"], "", 0),
        (&["memory", "list", "nothing"], "", 0),
        (&["memory", "delete", "notes", "b", "--if-version", "999999"], "", 6),
        (&["memory", "delete", "notes", "b"], "", 0),
        (&["memory", "delete", "notes", "b"], "", 0),
        (&["memory", "check"], "", 0),
        (&["memory", "check", "--delete-damaged", "--json"], "", 0),
        (&["memory", "rotate-epoch"], "", 2),
        (&["secret", "put", "token"], VALUE, 0),
        (&["secret", "rotate", "token"], VALUE, 2),
        (&["secret", "rotate", "token"], "another", 0),
        (&["secret", "rotate", "none"], VALUE, 6),
        (&["secret", "get", "token"], "", 0),
        (&["secret", "get", "token", "--reveal"], "", 0),
        (&["secret", "list"], "", 0),
        (&["secret", "delete", "token"], "", 0),
        (&["secret", "delete", "token"], "", 6),
        (&["secret", "delete", "elsewhere"], "", 2),
        (&["secret", "list"], "", 0),
        (&["memory", "get", "notes", "a", "--reveal", "--json"], "", 0),
        (&["memory", "get", "notes", "none", "--json"], "", 6),
        (&["secret", "list", "--json"], "", 0),
    ];
    let run = |(arguments, input, code): &(&[&str], &str, i32)| {
        let mut child = desk.command(arguments);
        child.env("ARAL_TEST_SECRET", "in the environment");
        let run = feed(child, input.as_bytes());
        assert_eq!(run.code, *code, "{arguments:?}: {run:?}");
        (arguments.join(" "), run)
    };
    steps.iter().map(run).collect()
}

fn feed(mut command: std::process::Command, input: &[u8]) -> Run {
    use std::io::Write as _;
    use std::process::Stdio;
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    let _not_read = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("an end");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What stands in the words that is another each time: versions and moments.
fn plain(words: &str) -> String {
    let keep = |line: &&str| !line.starts_with("expires");
    let mut text: Vec<String> = Vec::new();
    for line in words.lines().filter(keep) {
        let is_number = |word: &str| word.len() > 6 && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        let line: Vec<&str> = line
            .split(' ')
            .map(|word| if is_number(word) { "N" } else { word })
            .collect();
        text.push(line.join(" "));
    }
    text.join("\n")
}

/// The same. What a store lists has an order that is another in each store, since it says nothing about the names.
fn listed(verb: &str, words: &str) -> String {
    let text = plain(words);
    if !verb.contains("list") {
        return text;
    }
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// JSON without what is another each time.
fn plain_json(run: &Run) -> Value {
    let mut value: Value = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
    if let Some(members) = value.as_object_mut() {
        members.remove("version");
        if let Some(error) = members.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("trace_id");
        }
        for list in members.values_mut().filter_map(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    value
}

#[test]
fn the_words_and_exit_codes_are_the_same_with_and_without_a_server() {
    let (alone, served) = (desk(), desk());
    let mut command = served.command(&["serve", "--quiet", "--json", "-vvv"]);
    command.env("ARAL_TEST_SECRET", "in the environment");
    let server = Server::from(command);
    for ((verb, here), (_, there)) in script(&alone).iter().zip(&script(&served)) {
        if verb.ends_with("--json") {
            assert_eq!(plain_json(here), plain_json(there), "{verb}");
        } else {
            assert_eq!(listed(verb, &here.stdout), listed(verb, &there.stdout), "{verb}");
        }
        assert_eq!(plain(&here.stderr), plain(&there.stderr), "{verb}");
        let asked_for = verb.contains("--reveal");
        assert!(asked_for || !there.stdout.contains(VALUE), "{verb}: {there:?}");
        assert!(!there.stderr.contains(VALUE), "{verb}");
    }
    // Done by the server, each act is on record there, and the value is nowhere.
    for kind in ["memory_access", "data_access"] {
        let count = |desk: &Desk| {
            let found = desk.aral(&["audit", "query", "--type", kind, "--json"]);
            found.stdout.matches(&format!("\"{kind}\"")).count()
        };
        assert_eq!(count(&alone), count(&served), "{kind}");
        assert!(count(&served) > 0, "{kind}");
    }
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0));
    assert!(words.contains("DEBUG") || words.contains("TRACE"), "it logs everything");
    assert!(
        !words.contains(VALUE) && !words.contains("another\""),
        "no value in the log"
    );
    let base64 = "cGxhaW50ZXh0LXRoYXQtbm9ib2R5";
    assert!(!words.contains(base64), "nor in base64");
    for file in files(Path::new(&served.path("audit"))) {
        let bytes = std::fs::read(&file).expect("a file");
        assert!(!contains(&bytes, VALUE.as_bytes()), "{}", file.display());
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn keys_and_backups_go_over_the_socket() {
    let (served, other) = (desk(), desk());
    for desk in [&served, &other] {
        desk.configure_more(|config| drop(config.as_object_mut().expect("a table").remove("secrets")));
    }
    let _servers = [Server::start(&served), Server::start(&other)];
    let put = |name: &str, value: &str| {
        served
            .feed(&["memory", "put", "notes", name], value.as_bytes())
            .assert(name, 0, &[]);
    };
    // More than one piece of a backup.
    let large = "x".repeat(300_000);
    put("large", &large);
    for count in 0..30 {
        put(&format!("n{count}"), VALUE);
    }
    served
        .feed(&["secret", "put", "token"], b"hidden")
        .assert("secret", 0, &[]);
    served
        .aral(&["memory", "keygen", "--backup", "backup"])
        .assert("keygen", 0, &[]);
    let exported = served.aral(&[
        "memory",
        "export",
        "--to",
        "backup.pub.pem",
        "--out",
        "all.backup",
        "--json",
    ]);
    assert_eq!(
        (exported.code, &exported.object()["records"]),
        (0, &json!(32)),
        "{exported:?}"
    );
    let to = ["--to", "backup.pub.pem", "--out", "left.backup"];
    served
        .aral(&[&["memory", "export", "--salvage"], &to[..]].concat())
        .assert(
            "a server has the store",
            8,
            &["a server of this configuration runs", "hint: end the server"],
        );
    assert!(std::fs::metadata(served.path("left.backup")).is_err());
    for file in ["all.backup", "backup.pem"] {
        other.write(file, &std::fs::read(served.path(file)).expect("a file"));
        other.private(file);
    }
    let import = |more: &[&str]| {
        other.aral(
            &[
                &["memory", "import", "--key", "backup.pem", "all.backup", "--json"],
                more,
            ]
            .concat(),
        )
    };
    assert_eq!(import(&[]).object(), json!({ "restored": 32, "kept": 0, "expired": 0 }));
    assert_eq!(import(&[]).object(), json!({ "restored": 0, "kept": 32, "expired": 0 }));
    assert_eq!(import(&["--overwrite"]).object()["restored"], 32);
    assert_eq!(
        other.aral(&["memory", "get", "notes", "large", "--reveal"]).stdout,
        large
    );
    assert_eq!(other.aral(&["secret", "get", "token", "--reveal"]).stdout, "hidden");
    // A backup that was cut off changes nothing, and nothing of it is left behind.
    let whole = std::fs::read(other.path("all.backup")).expect("a file");
    other.write("all.backup", &whole[..whole.len() - 10]);
    assert_eq!(import(&["--overwrite"]).code, 2);
    let left: Vec<_> = files(Path::new(&other.path("store")))
        .into_iter()
        .filter(|file| file.to_string_lossy().contains(".aral-tmp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // Another key, while the server runs: it goes on, and the next one needs the new key.
    let before = served.aral(&["memory", "stats", "--json"]).object();
    served.aral(&["memory", "keygen", "new.key"]).assert("keygen", 0, &[]);
    let rotated = served.aral(&["memory", "rotate-key", "--to", "new.key", "--json"]);
    assert_eq!(
        (rotated.code, &rotated.object()["records"]),
        (0, &json!(32)),
        "{rotated:?}"
    );
    let after = served.aral(&["memory", "stats", "--json"]).object();
    assert_ne!(before["keys"], after["keys"]);
    assert_eq!(after["keys"], json!([rotated.object()["key_id"]]));
    assert_eq!(served.aral(&["memory", "get", "notes", "n1", "--reveal"]).stdout, VALUE);
    // Whoever has not changed the line is told before the next start fails.
    let new = rotated.object()["key_id"].as_str().expect("an id").to_owned();
    let told = served.aral(&["reload"]);
    assert!(told.code == 0 && told.stderr.contains(&new), "{told:?}");
    let told = served.aral(&["doctor"]).stdout;
    assert!(told.contains(&format!("wants the master key `{new}`")), "{told}");
    // The line that it says to write keeps no revocation from holding.
    served.configure_more(|config| {
        config["memory"]["master_key"] = json!({ "file": "new.key" });
        config["revoked"] = json!({ "keys": ["00".repeat(8)] });
    });
    served.aral(&["reload"]).assert("the new key is named", 0, &[]);
    served.write("bad.key", b"no key");
    served.private("bad.key");
    served
        .aral(&["memory", "rotate-key", "--to", "bad.key"])
        .assert("no key", 2, &[]);
}

/// `{}` is no order to import, which is found once it was kept.
#[test]
fn a_backup_is_not_kept_where_the_disk_is_as_good_as_full() {
    for (free_bytes_min, status, words) in [
        (0, 400, "is not understood"),
        (1_u64 << 60, 503, "bytes free, less than 1152921504606846976"),
    ] {
        let desk = desk();
        desk.feed(&["memory", "put", "notes", "a"], VALUE.as_bytes())
            .assert("put", 0, &[]);
        desk.configure_more(|config| {
            config.as_object_mut().expect("a table").remove("secrets");
            config["memory"]["free_bytes_min"] = json!(free_bytes_min);
        });
        let _server = Server::start(&desk);
        let socket = desk.path("state/admin.sock");
        let (found, problem) = super::admin::over(&socket, "POST", "/v1/memory/import", "{}\n");
        let detail = problem["detail"].as_str().expect("words");
        assert!(found == status && detail.contains(words), "{found} {problem}");
    }
}

#[test]
fn a_server_with_another_store_is_not_taken_for_this_one() {
    let desk = desk();
    desk.configure_more(|config| drop(config.as_object_mut().expect("a table").remove("secrets")));
    let _server = Server::start(&desk);
    desk.configure_more(|config| config["memory"]["dir"] = json!("another"));
    desk.feed(&["memory", "put", "notes", "a"], b"1").assert(
        "another store",
        2,
        &["the server that runs has another store", "restart the server"],
    );
    assert!(!Path::new(&desk.path("another")).exists());
}

#[test]
fn the_log_is_read_beside_the_server() {
    let desk = desk();
    desk.configure_more(|config| drop(config.as_object_mut().expect("a table").remove("secrets")));
    let server = Server::start(&desk);
    assert_eq!(server.invoke("runtime-echo-tool", "1").status, 200);
    let tail = desk.aral(&["audit", "tail", "--json"]);
    assert!(tail.code == 0 && tail.stdout.contains("\"invocation\""), "{tail:?}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let proven = desk.aral(&["audit", "prove", "1"]);
    assert!(
        proven.code == 0 && proven.stdout.contains("aral.receipt/v1"),
        "{proven:?}"
    );
}

#[test]
fn a_server_does_not_start_without_its_store_and_what_needs_none_works_beside_it() {
    let desk = desk();
    let _server = Server::start(&desk);
    let mut config = desk.config();
    config["state_dir"] = json!("second");
    config["audit"]["dir"] = json!("second-audit");
    desk.write("second.toml", toml::to_string(&config).expect("TOML").as_bytes());
    desk.aral(&["--config", "second.toml", "serve"]).assert(
        "the store of another",
        8,
        &["is open in another process", "hint: end that process"],
    );
    let echo = [
        "--config",
        "second.toml",
        "invoke",
        "runtime-echo-tool",
        "--input",
        "[1]",
    ];
    desk.aral(&echo)
        .assert("a capability without memory", 0, &["receipt   record "]);
}
