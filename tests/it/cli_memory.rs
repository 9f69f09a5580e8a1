//! `aral memory` as an operator types it: records in and out, keys, backups, and everything that is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aral_host::{Config, Storage};
use aral_memory::sealed::SealedStore;
use aral_memory::{Operation, Precondition, Quota, Write};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::desk::{Desk, Run};
use crate::support::guests::*;

/// Stands in no message, no matter what.
const VALUE: &str = "plaintext-that-nobody-prints";

/// A desk with a key and a store.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    with_key(&desk, "master.key");
    desk
}

#[derive(Debug)]
struct Now;

impl aral_contract::Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn with_key(desk: &Desk, file: &str) {
    desk.configure(|config| config["memory"] = json!({ "dir": "store", "master_key": { "file": file } }));
}

fn put(desk: &Desk, name: &str, more: &[&str]) -> Run {
    desk.feed(
        &[&["memory", "put", "notes", name, "--json"], more].concat(),
        VALUE.as_bytes(),
    )
}

fn reveal(desk: &Desk, name: &str) -> Run {
    desk.aral(&["memory", "get", "notes", name, "--reveal"])
}

fn key_id(desk: &Desk) -> String {
    desk.aral(&["memory", "stats", "--json"]).object()["keys"][0]
        .as_str()
        .expect("an id")
        .to_owned()
}

fn mode(desk: &Desk, name: &str) -> u32 {
    std::fs::metadata(desk.path(name))
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

/// A day ago.
#[derive(Debug)]
struct Yesterday;

impl aral_contract::Clock for Yesterday {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now() - Duration::from_secs(24 * 3600)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// Has the store open, as a host would.
fn hold(desk: &Desk) -> SealedStore {
    hold_at(desk, Arc::new(Now))
}

fn hold_at(desk: &Desk, clock: Arc<dyn aral_contract::Clock>) -> SealedStore {
    let mut config = Config::load(desk.path("aral.toml").as_ref()).expect("a configuration");
    config.take_variables().expect("there are none");
    let storage = Storage::new(&config, clock).expect("a configuration");
    storage.open().expect("a store")
}

#[test]
fn a_record_goes_in_and_comes_out_only_when_it_is_asked_for() {
    let desk = desk();
    let written = put(&desk, "todo", &["--classification", "secret", "--ttl", "1000"]);
    written.assert("put", 0, &[]);
    let object = written.object();
    assert_eq!(
        (&object["version"], &object["classification"]),
        (&json!(1), &json!("secret"))
    );
    let facts = desk.aral(&["memory", "get", "notes", "todo", "--json"]).object();
    assert_eq!(facts["bytes"], VALUE.len());
    assert_eq!(
        (&facts["version"], &facts["classification"]),
        (&json!(1), &json!("secret"))
    );
    let left = facts["expires_at"]
        .as_str()
        .and_then(|at| at.parse::<jiff::Timestamp>().ok())
        .expect("a time");
    let left = left.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((900..=1000).contains(&left), "{left}");
    assert_eq!(reveal(&desk, "todo").stdout, VALUE, "byte for byte, without a line end");
    let object = desk
        .aral(&["memory", "get", "notes", "todo", "--reveal", "--json"])
        .object();
    assert_eq!(object["value"], VALUE);
    // Whatever is asked of the record but its value, the value is in none of the answers.
    for arguments in [
        &["memory", "get", "notes", "todo"][..],
        &["memory", "get", "notes", "todo", "--json"],
        &["memory", "get", "notes", "todo", "-vvv"],
        &["memory", "list", "notes"],
        &["memory", "stats"],
        &["memory", "get", "notes", "todo", "--out", "value.bin"],
        &["memory", "delete", "notes", "todo", "-vvv"],
    ] {
        let run = desk.aral(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
        assert!(!format!("{run:?}").contains(VALUE), "{arguments:?}: {run:#?}");
    }
    assert_eq!(std::fs::read(desk.path("value.bin")).expect("a file"), VALUE.as_bytes());
    assert_eq!(mode(&desk, "value.bin"), 0o600);
    reveal(&desk, "todo").assert(
        "deleted",
        6,
        &["there is no record `todo` in `notes`", "(record.unknown)"],
    );
}

#[test]
fn what_has_expired_is_removed_by_verbs_that_write_alone() {
    let desk = desk();
    desk.aral(&["memory", "keygen", "--backup", "backup"])
        .assert("a pair", 0, &[]);
    let store = hold_at(&desk, Arc::new(Yesterday));
    let write = Write {
        name: "todo".parse().expect("a name"),
        value: Zeroizing::new(VALUE.as_bytes().to_vec()),
        ttl_seconds: Some(10),
        classification: aral_contract::Classification::Internal,
        precondition: Precondition::Any,
    };
    let namespace = "notes".parse().expect("a namespace");
    store
        .memory()
        .put(&namespace, write, &Quota::UNLIMITED)
        .expect("a record");
    drop(store);
    for arguments in [
        &["memory", "list", "notes"][..],
        &["memory", "check"],
        &["memory", "export", "--to", "backup.pub.pem", "--out", "all.backup"],
        &["secret", "list"],
    ] {
        desk.aral(arguments).assert("a verb that reads", 0, &[]);
    }
    let slots_used = || desk.aral(&["memory", "stats", "--json"]).object()["slots_used"].clone();
    assert_eq!(slots_used(), 1, "the clock may be wrong");
    put(&desk, "other", &[]).assert("put", 0, &[]);
    assert_eq!(slots_used(), 1, "one came and one went");
}

#[test]
fn values_are_bytes() {
    let desk = desk();
    let bytes: Vec<u8> = (0..=255).chain([b'\n']).collect();
    desk.write("in.bin", &bytes);
    desk.aral(&["memory", "put", "notes", "all", "@in.bin"])
        .assert("a file", 0, &[]);
    let output = desk
        .command(&["memory", "get", "notes", "all", "--reveal"])
        .output()
        .expect("an end");
    assert_eq!(output.stdout, bytes);
    let object = desk
        .aral(&["memory", "get", "notes", "all", "--reveal", "--json"])
        .object();
    assert_eq!(object["value"], json!(null), "it is no text");
    assert!(
        object["value_base64"]
            .as_str()
            .is_some_and(|text| text.starts_with("AAECAwQF"))
    );
    desk.aral(&["memory", "get", "notes", "all", "--out", "out.bin"])
        .assert("to a file", 0, &[]);
    assert_eq!(std::fs::read(desk.path("out.bin")).expect("a file"), bytes);
    desk.aral(&["memory", "get", "notes", "all", "--out", "out.bin"])
        .assert("twice", 2, &["`out.bin` exists already"]);
    desk.feed(&["memory", "put", "notes", "empty", "-"], b"")
        .assert("nothing is a value too", 0, &[]);
    assert_eq!(reveal(&desk, "empty").stdout, "");
    let large = vec![b'x'; (16 << 20) + 1];
    desk.feed(&["memory", "put", "notes", "large"], &large).assert(
        "too large",
        6,
        &["standard input has more than 16777216 bytes", "(input.too_large)"],
    );
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let desk = desk();
    let run = desk.aral(&["memory", "put", "notes", "todo", VALUE]);
    run.assert(
        "an argument",
        2,
        &[
            "a value is not taken from the command line",
            "hint: give it with `@FILE`",
        ],
    );
    assert!(!format!("{run:?}").contains(VALUE), "{run:#?}");
}

#[test]
fn writing_can_depend_on_what_is_there() {
    let desk = desk();
    let version = |run: Run| run.object()["version"].clone();
    assert_eq!(version(put(&desk, "n", &["--if-absent"])), 1);
    let refused = put(&desk, "n", &["--if-absent"]);
    assert_eq!(
        (refused.code, &refused.object()["error"]["code"]),
        (6, &json!("record.conflict"))
    );
    let error = refused.object()["error"].clone();
    assert_eq!(
        error["message"],
        "nothing was written: the record `n` in `notes` has version 1"
    );
    assert!(
        error["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("`--if-version 1`")),
        "{error}"
    );
    assert_eq!(version(put(&desk, "n", &["--if-version", "1"])), 2);
    assert_eq!(put(&desk, "n", &["--if-version", "1"]).code, 6);
    let delete = |more: &[&str]| desk.aral(&[&["memory", "delete", "notes", "n", "--json"], more].concat());
    assert_eq!(delete(&["--if-version", "1"]).code, 6);
    let deleted = delete(&["--if-version", "2"]).object();
    assert_eq!(
        (&deleted["deleted"], &deleted["classification"]),
        (&json!(true), &json!("confidential"))
    );
    assert_eq!(delete(&[]).object()["deleted"], false);
    assert_eq!(put(&desk, "n", &["--if-absent", "--if-version", "1"]).code, 2);
}

#[test]
fn writing_over_a_record_makes_it_no_less_sensitive_unless_it_is_said_so() {
    let desk = desk();
    let written = |more: &[&str]| {
        let run = put(&desk, "n", more);
        assert_eq!(run.code, 0, "{run:#?}");
        let is_warned = run.stderr.contains("what was there before was to be gone at ");
        (run.object()["classification"].clone(), is_warned)
    };
    for (more, classification, is_warned) in [
        (&[][..], "confidential", false),
        (&["--classification", "secret", "--ttl", "9000"], "secret", false),
        (&["--ttl", "9000"], "secret", false),
        (&[], "secret", true),
        (&[], "secret", false),
        (&["--classification", "public"], "public", false),
        (&[], "confidential", false),
    ] {
        assert_eq!(written(more), (json!(classification), is_warned), "{more:?}");
    }
}

#[test]
fn a_record_that_is_damaged_may_have_been_secret() {
    let desk = desk();
    put(&desk, "a", &[]).assert("put", 0, &[]);
    damage_first(&desk);
    let written = put(&desk, "a", &[]);
    written.assert("it can be replaced", 0, &[]);
    assert_eq!(written.object()["classification"], "secret");
}

#[test]
fn a_place_of_the_store_that_is_no_folder_is_a_wrong_configuration() {
    let desk = desk();
    desk.write("file", b"something");
    desk.configure(|config| config["memory"] = json!({ "dir": "file", "master_key": { "file": "master.key" } }));
    let file = format!("cannot open `{}`: Not a directory", desk.path("file"));
    desk.aral(&["memory", "stats"]).assert(
        "a file",
        2,
        &[
            &file,
            "(config.invalid)",
            "hint: name a folder in aral.toml, [memory]: dir",
        ],
    );
}

#[test]
fn bad_arguments_are_refused_before_anything_is_touched() {
    let desk = desk();
    let long = "n".repeat(129);
    for (arguments, part) in [
        (
            &["memory", "put", "notes", "n", "--ttl", "0"][..],
            "0 is not in 1..=3155760000",
        ),
        (
            &["memory", "put", "notes", "n", "--ttl", "3155760001"],
            "3155760001 is not in 1..=",
        ),
        (
            &["memory", "put", "notes", "n", "--classification", "hidden"],
            "`hidden` is not a classification",
        ),
        (&["memory", "put", "NOTES", "n"], "`NOTES` is not an identifier"),
        (&["memory", "put", "../notes", "n"], "`../notes` is not an identifier"),
        (&["memory", "put", "notes", ""], "1 to 128 bytes"),
        (&["memory", "get", "notes", &long], "this one has 129"),
        (
            &["memory", "get", "notes", "n", "--reveal", "--out", "f"],
            "cannot be used with",
        ),
        (&["memory", "rotate-key"], "required"),
        (
            &["memory", "rotate-key", "--to", "a", "--to-transit", "b/c"],
            "cannot be used with",
        ),
        (&["memory", "rotate-epoch"], "the configuration has no [memory.epoch]"),
        (&["secret", "put", "UPPER"], "`UPPER` is not an identifier"),
    ] {
        desk.aral(arguments).assert(&format!("{arguments:?}"), 2, &[part]);
    }
    assert!(std::fs::metadata(desk.path("store")).is_err(), "no store was made");
}

#[test]
fn a_listing_goes_to_the_end_and_stays_one_object() {
    let desk = desk();
    let mut names: Vec<String> = (0..25).map(|number| format!("a{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["b\u{1b}[2J\"quoted\""]) {
        put(&desk, name, &[]).assert(name, 0, &[]);
    }
    let lines = |more: &[&str]| {
        let run = desk.aral(&[&["memory", "list", "notes"], more].concat());
        run.assert("list", 0, &[]);
        assert!(!run.stdout.contains('\u{1b}'), "{run:?}");
        let mut lines: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    names.sort();
    assert_eq!(lines(&["--prefix", "a"]), names);
    assert_eq!(lines(&[]).len(), 26);
    let object = desk
        .aral(&["memory", "list", "notes", "--prefix", "b", "--json"])
        .object();
    assert_eq!(
        object,
        json!({"namespace": "notes", "names": ["b\u{1b}[2J\"quoted\""], "count": 1})
    );
    let none = desk.aral(&["memory", "list", "nobody", "--json"]).object();
    assert_eq!(none, json!({"namespace": "nobody", "names": [], "count": 0}));
}

#[test]
fn stats_tell_keys_disk_and_namespaces() {
    let desk = desk();
    let key = desk.aral(&["memory", "keygen", "other.key", "--json"]).object();
    put(&desk, "one", &[]).assert("put", 0, &[]);
    desk.feed(&["memory", "put", "logs", "two"], b"12345")
        .assert("put", 0, &[]);
    let stats = desk.aral(&["memory", "stats", "--json"]).object();
    assert_eq!((&stats["format"], &stats["rotating"]), (&json!(1), &json!(false)));
    assert_ne!(stats["keys"][0], key["key_id"]);
    assert_eq!(stats["nameless"], 0);
    assert!(stats["free_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    let mut namespaces: Vec<(String, u64, u64)> = stats["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let number = |name: &str| one[name].as_u64().expect("a number");
            (
                one["namespace"].as_str().expect("a name").to_owned(),
                number("records"),
                number("bytes"),
            )
        })
        .collect();
    namespaces.sort();
    let bytes = VALUE.len() as u64;
    assert_eq!(
        namespaces,
        [("logs".to_owned(), 1, 8), ("notes".to_owned(), 1, bytes + 3)]
    );
    let (records_max, bytes_max) = (16_384, 64 << 20);
    let secrets = |records: u64, bytes: u64| json!({ "records": records, "bytes": bytes, "records_max": records_max, "bytes_max": bytes_max });
    assert_eq!(stats["secrets"], secrets(0, 0));
    desk.feed(&["secret", "put", "api"], b"hunter2hunter2")
        .assert("a secret", 0, &[]);
    let stats = desk.aral(&["memory", "stats", "--json"]).object();
    assert_eq!(stats["secrets"], secrets(1, 17), "a name and a value");
    let shown = desk.aral(&["memory", "stats"]).stdout;
    assert!(shown.contains("\nsecrets    1 of 16384, "), "{shown}");
    assert!(
        shown.contains("free disk  ") && shown.contains("  notes  1 records"),
        "{shown}"
    );
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let desk = Desk::new();
    let made = desk.aral(&["memory", "keygen", "master.key", "--json"]);
    made.assert("keygen", 0, &[]);
    let text = std::fs::read_to_string(desk.path("master.key")).expect("a file");
    assert!(
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "64 hex digits"
    );
    assert!(!format!("{made:?}").contains(&text));
    assert_eq!(mode(&desk, "master.key"), 0o600);
    desk.aral(&["memory", "keygen", "master.key"])
        .assert("again", 2, &["exists already"]);
    assert_eq!(std::fs::read_to_string(desk.path("master.key")).expect("a file"), text);
    desk.aral(&["memory", "keygen", "--backup", "backup"])
        .assert("a pair", 0, &["aral memory export"]);
    assert_eq!(
        (mode(&desk, "backup.pem"), mode(&desk, "backup.pub.pem")),
        (0o600, 0o644)
    );
    desk.aral(&["memory", "keygen", "--backup", "backup.pem"])
        .assert("again", 2, &["exists already"]);
}

#[test]
fn a_key_that_is_none_or_another_one_is_refused_and_says_which_is_wanted() {
    let desk = desk();
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    let wanted = key_id(&desk);
    desk.aral(&["memory", "keygen", "other.key"]).assert("keygen", 0, &[]);
    with_key(&desk, "other.key");
    let wrong = reveal(&desk, "todo");
    wrong.assert("another key", 2, &[&wanted, "(config.invalid)", "hint: name the key"]);
    desk.write("short.key", b"0011");
    desk.private("short.key");
    with_key(&desk, "short.key");
    let put_back = format!("put back the key `{wanted}`");
    let short = reveal(&desk, "todo");
    short.assert("a short key", 2, &["64 hex digits", "has 4 characters", &put_back]);
    assert!(!short.stderr.contains("keygen"), "it would open nothing: {short:?}");
    desk.write("open.key", &std::fs::read(desk.path("master.key")).expect("a key"));
    with_key(&desk, "open.key");
    reveal(&desk, "todo").assert("others can read it", 2, &["has mode 0644", "hint: chmod 600"]);
    with_key(&desk, "nowhere.key");
    let gone = reveal(&desk, "todo");
    gone.assert("there is none", 2, &["nowhere.key", &put_back]);
    assert!(
        !gone.stderr.contains("keygen"),
        "it would stand where that one belongs: {gone:?}"
    );
    let doctor = desk.aral(&["doctor"]).stdout;
    assert!(doctor.contains(&put_back), "{doctor}");
    desk.configure(|config| config["memory"] = json!({ "dir": "empty", "master_key": { "file": "nowhere.key" } }));
    reveal(&desk, "todo").assert(
        "there is no store either",
        2,
        &["nowhere.key", "hint: make one: `aral memory keygen"],
    );
    desk.configure(|_| ());
    reveal(&desk, "todo").assert(
        "no store",
        2,
        &["the configuration has no [memory]", "aral memory keygen master.key"],
    );
    with_key(&desk, "master.key");
    assert_eq!(reveal(&desk, "todo").stdout, VALUE, "nothing was harmed");
    // The key was rotated, its old file removed, and the line forgotten.
    let rotated = desk.aral(&["memory", "rotate-key", "--to", "other.key", "--json"]);
    let new = rotated.object()["key_id"].as_str().expect("an id").to_owned();
    with_key(&desk, "nowhere.key");
    reveal(&desk, "todo").assert(
        "the line is old",
        2,
        &[
            &format!("the key `{new}`"),
            "as after `rotate-key`, name it in aral.toml, [memory.master_key]",
        ],
    );
}

#[test]
fn a_second_process_is_told_who_has_the_store_and_others_are_not_kept_from_working() {
    let desk = desk();
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let store = hold(&desk);
    let mine = format!("process {}", std::process::id());
    reveal(&desk, "todo").assert("held", 8, &[&mine, "(host.unavailable)", "hint: end that process"]);
    let id = RUNTIME_ECHO_TOOL.id();
    desk.aral(&["explain", &id]).assert("explain needs no store", 0, &[]);
    desk.aral(&["invoke", &id]).assert("and neither does this call", 0, &[]);
    let doctor = desk.aral(&["doctor"]).stdout;
    assert!(doctor.contains("warn  memory") && doctor.contains(&mine), "{doctor}");
    drop(store);
    assert_eq!(reveal(&desk, "todo").stdout, VALUE);
}

#[test]
fn after_rotation_the_new_key_opens_the_store_and_the_old_one_nothing() {
    let desk = desk();
    for number in 0..20 {
        put(&desk, &format!("n{number}"), &[]).assert("put", 0, &[]);
    }
    let old = key_id(&desk);
    let new = desk.aral(&["memory", "keygen", "new.key", "--json"]).object()["key_id"].clone();
    desk.aral(&["memory", "rotate-key", "--to", "master.key"]).assert(
        "to the same key",
        6,
        &["is the key that the store has already"],
    );
    let rotated = desk.aral(&["memory", "rotate-key", "--to", "new.key"]);
    rotated.assert("rotate", 0, &[]);
    assert!(
        rotated.stdout.contains("[memory.master_key]\nfile = \"new.key\""),
        "{rotated:?}"
    );
    let refused = reveal(&desk, "n1");
    refused.assert(
        "the old key",
        2,
        &[
            new.as_str().expect("an id"),
            &old,
            "after `rotate-key` that is the new one",
        ],
    );
    with_key(&desk, "new.key");
    assert_eq!(key_id(&desk), new);
    for number in 0..20 {
        assert_eq!(reveal(&desk, &format!("n{number}")).stdout, VALUE);
    }
}

#[test]
fn the_line_that_names_a_new_key_holds_wherever_it_was_typed() {
    let desk = desk();
    put(&desk, "n", &[]).assert("put", 0, &[]);
    desk.write("keys/README", b"");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (config, keys) = (desk.path("aral.toml"), desk.path("keys"));
    for (folder, name) in [
        (Path::new(&keys), "keys/new.key".to_owned()),
        (elsewhere.path(), format!("{}/new.key", elsewhere.path().display())),
    ] {
        let run = |arguments: &[&str]| -> Value {
            let mut command = desk.command(&[&["--config", config.as_str(), "--json"][..], arguments].concat());
            let ended = command.current_dir(folder).output().expect("the program starts");
            assert!(ended.status.success(), "{ended:?}");
            serde_json::from_slice(&ended.stdout).expect("JSON")
        };
        run(&["memory", "keygen", "new.key"]);
        let rotated = run(&["memory", "rotate-key", "--to", "new.key"]);
        let lines: toml::Table = rotated["configuration"].as_str().expect("lines").parse().expect("TOML");
        let file = lines["memory"]["master_key"]["file"].as_str().expect("a path");
        assert_eq!(file, name);
        with_key(&desk, file);
        assert_eq!(reveal(&desk, "n").stdout, VALUE);
    }
}

/// Kills a rotation in the middle; says whether it was.
fn cut_off(desk: &Desk, to: &str, after: Duration) -> bool {
    let mut child = desk
        .command(&["memory", "rotate-key", "--to", to])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    std::thread::sleep(after);
    let is_done = child.try_wait().expect("a child of ours").is_some();
    child.kill().expect("a child of ours");
    child.wait().expect("an end");
    !is_done
}

#[test]
fn a_rotation_that_is_killed_is_told_of_and_goes_on() {
    let desk = desk();
    let store = hold(&desk);
    let namespace = "notes".parse().expect("a name");
    for batch in 0..20 {
        let write = |number: u32| {
            Operation::Put(Write {
                name: format!("n{batch}-{number}").parse().expect("a name"),
                value: Zeroizing::new(VALUE.as_bytes().to_vec()),
                ttl_seconds: None,
                classification: aral_contract::Classification::Internal,
                precondition: Precondition::Any,
            })
        };
        let operations = (0..200).map(write).collect();
        store
            .memory()
            .apply(&namespace, operations, &Quota::UNLIMITED)
            .expect("records");
    }
    drop(store);
    let rotating = || {
        let stats = desk.aral(&["memory", "stats", "--json"]).object();
        (stats["rotating"] == true).then(|| stats["keys"].as_array().expect("keys").len())
    };
    let mut keys = ["master.key".to_owned(), "key0".to_owned()];
    let caught = (0..40).any(|attempt| {
        desk.aral(&["memory", "keygen", &keys[1]]).assert("keygen", 0, &[]);
        // Later and later, until it is neither before the first record nor after the last.
        let killed = cut_off(&desk, &keys[1], Duration::from_millis(20 + attempt * 10));
        with_key(&desk, &keys[0]);
        if killed && rotating().is_some() {
            return true;
        }
        if desk.aral(&["memory", "stats"]).code != 0 {
            // It was done before it was killed.
            keys[0] = keys[1].clone();
            with_key(&desk, &keys[0]);
        }
        keys[1] = format!("key{}", attempt + 1);
        false
    });
    assert!(caught, "no rotation was killed in the middle");
    assert_eq!(rotating(), Some(2));
    let doctor = desk.aral(&["doctor"]).stdout;
    assert!(doctor.contains("was begun and not ended"), "{doctor}");
    with_key(&desk, &keys[1]);
    assert_eq!(reveal(&desk, "n7-7").stdout, VALUE, "the new key opens it");
    with_key(&desk, &keys[0]);
    assert_eq!(reveal(&desk, "n7-7").stdout, VALUE, "and so does the old one");
    let ended = desk.aral(&["memory", "rotate-key", "--to", &keys[1], "--json"]);
    ended.assert("again", 0, &[]);
    assert_eq!(ended.object()["resumed"], true);
    reveal(&desk, "n7-7").assert("the old key", 2, &["wants the master key"]);
    with_key(&desk, &keys[1]);
    assert_eq!(rotating(), None);
    let listed = desk.aral(&["memory", "list", "notes", "--json"]).object();
    assert_eq!(
        listed["count"], 4000,
        "nothing is lost, and the listing goes over several pages"
    );
}

#[test]
fn a_backup_is_read_by_its_key_alone_and_into_any_store() {
    let desk = desk();
    put(&desk, "todo", &["--classification", "public", "--ttl", "5000"]).assert("put", 0, &[]);
    desk.feed(&["secret", "put", "api"], b"hunter2hunter2")
        .assert("a secret", 0, &[]);
    for name in ["backup", "stranger"] {
        desk.aral(&["memory", "keygen", "--backup", name])
            .assert("a pair", 0, &[]);
    }
    let exported = desk.aral(&["memory", "export", "--to", "backup.pub.pem", "--out", "all.backup"]);
    exported.assert("export", 0, &[]);
    assert_eq!(mode(&desk, "all.backup"), 0o600);
    let bytes = std::fs::read(desk.path("all.backup")).expect("a file");
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(VALUE) && !holds("todo") && !holds("hunter2"), "it is sealed");
    desk.aral(&["memory", "export", "--to", "backup.pub.pem", "--out", "all.backup"])
        .assert("again", 2, &["exists already"]);
    desk.aral(&["memory", "export", "--to", "key.pub.pem", "--out", "x.backup"])
        .assert(
            "a key for signing",
            2,
            &[
                "not a public key of X25519",
                "make a pair with `aral memory keygen --backup NAME`",
            ],
        );
    desk.aral(&["memory", "export", "--to", "backup.pem", "--out", "x.backup"])
        .assert(
            "the private key",
            2,
            &["backup.pem` is a private key", "name the file `NAME.pub.pem` beside it"],
        );
    desk.aral(&["memory", "export", "--to", "backup.pub.pem", "--out", "nowhere/x"])
        .assert("nowhere", 2, &["nowhere"]);

    // Another store, with another key.
    desk.aral(&["memory", "keygen", "other.key"]).assert("keygen", 0, &[]);
    desk.configure(|config| config["memory"] = json!({ "dir": "other", "master_key": { "file": "other.key" } }));
    let import =
        |key: &str, more: &[&str]| desk.aral(&[&["memory", "import", "--key", key, "all.backup"], more].concat());
    let wrong = import("stranger.pem", &[]);
    assert_ne!(wrong.code, 0, "{wrong:#?}");
    assert_eq!(
        desk.aral(&["memory", "stats", "--json"]).object()["namespaces"],
        json!([]),
        "nothing came in"
    );
    import("backup.pub.pem", &[]).assert(
        "the public key",
        2,
        &["backup.pub.pem` is a public key", "name the file `NAME.pem` beside it"],
    );
    desk.private("backup.pub.pem");
    import("backup.pub.pem", &[]).assert("the same, private", 2, &["backup.pub.pem` is a public key"]);
    import("key.pem", &[]).assert("a key for signing", 2, &["not a private key of X25519"]);
    desk.aral(&["memory", "import", "--key", "backup.pem", "aral.toml"])
        .assert(
            "no backup",
            2,
            &[
                "the backup `aral.toml` is not one of a store",
                "hint: name a file that `aral memory export",
            ],
        );
    import("backup.pem", &[]).assert("import", 0, &[]);
    assert_eq!(reveal(&desk, "todo").stdout, VALUE);
    assert_eq!(
        desk.aral(&["secret", "get", "api", "--reveal"]).stdout,
        "hunter2hunter2"
    );
    let facts = desk.aral(&["memory", "get", "notes", "todo", "--json"]).object();
    assert!(
        facts["classification"] == "public" && facts["expires_at"].is_string(),
        "{facts}"
    );

    desk.feed(&["memory", "put", "notes", "todo"], b"newer")
        .assert("put", 0, &[]);
    import("backup.pem", &[]).assert("again", 0, &[]);
    assert_eq!(reveal(&desk, "todo").stdout, "newer", "what is there stays");
    import("backup.pem", &["--overwrite"]).assert("over it", 0, &[]);
    assert_eq!(reveal(&desk, "todo").stdout, VALUE);

    let cut = bytes.len() / 2;
    desk.write("all.backup", &bytes[..cut]);
    assert_ne!(
        import("backup.pem", &["--overwrite"]).code,
        0,
        "half of a backup is none"
    );
    let mut changed = bytes.clone();
    changed[cut] ^= 1;
    desk.write("all.backup", &changed);
    assert_ne!(
        import("backup.pem", &["--overwrite"]).code,
        0,
        "somebody has changed it"
    );
}

/// Copies a store.
fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).expect("a folder of ours");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_store(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file");
        }
    }
}

/// Every file of a store but the one that says who has it.
fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else if !path.ends_with("lock") {
            files.push((path.clone(), std::fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}

/// A store with the records `a`, `b` and `c`, as it was in `whole`, and in `store` without the end of its log, so that the last
/// of them is lost.
fn desk_with_a_loss() -> Desk {
    let desk = desk();
    let store = hold(&desk);
    let put = |name: &str| {
        let write = Write {
            name: name.parse().expect("a name"),
            value: Zeroizing::new(format!("{name} is {VALUE}").into_bytes()),
            ttl_seconds: None,
            classification: aral_contract::Classification::Internal,
            precondition: Precondition::Any,
        };
        let namespace = "notes".parse().expect("a name");
        store
            .memory()
            .put(&namespace, write, &Quota::UNLIMITED)
            .expect("a record");
    };
    let database = || std::fs::read(desk.path("store/records/db")).expect("a database");
    put("a");
    put("b");
    let kept = database().iter().rposition(|byte| *byte != 0).expect("a record");
    put("c");
    drop(store);
    copy_store(Path::new(&desk.path("store")), Path::new(&desk.path("whole")));
    let mut damaged = database();
    damaged[kept + 1..].fill(0);
    std::fs::write(desk.path("store/records/db"), damaged).expect("a database");
    desk.aral(&["memory", "keygen", "--backup", "backup"])
        .assert("a pair", 0, &[]);
    desk
}

const SALVAGE: [&str; 7] = [
    "memory",
    "export",
    "--salvage",
    "--to",
    "backup.pub.pem",
    "--out",
    "left.backup",
];

#[test]
fn what_is_left_of_a_store_that_lost_a_record_goes_into_a_new_one() {
    let desk = desk_with_a_loss();
    let folder = PathBuf::from(desk.path("store"));
    let before = files_of(&folder);
    let salvaged = desk.aral(&[&SALVAGE[..], &["--json", "-v"]].concat());
    assert_eq!(salvaged.code, 12, "{salvaged:#?}");
    for part in [
        "the backup is not whole, and nobody can say what is missing",
        "the database breaks off after commit 2, and there was 3: of 1 at least it has parts at most",
        "1 keys are there whose record is not",
        "memory_salvage_begun",
        "2 records, 0 of them secrets, classified up to internal; whole; 1 lost",
    ] {
        assert!(salvaged.stderr.contains(part), "`{part}` is not in {salvaged:#?}");
    }
    let object = salvaged.object();
    assert_eq!(
        (&object["records"], &object["lost"], &object["whole"]),
        (&json!(2), &json!(1), &json!(false))
    );
    let found = &object["found"][0];
    assert_eq!((&found["namespace"], &found["name"]), (&json!("notes"), &Value::Null));
    assert!(!format!("{salvaged:?}").contains(VALUE));
    assert!(files_of(&folder) == before, "the store was touched");
    assert!(std::fs::metadata(desk.path("left.backup.records")).is_err());
    assert_eq!(mode(&desk, "left.backup"), 0o600);
    desk.aral(&SALVAGE).assert("twice", 2, &["exists already"]);
    let events = desk.aral(&["audit", "query", "--type", "security", "--json"]);
    assert!(events.stdout.contains("memory_salvaged"), "{events:#?}");

    desk.configure(|config| config["memory"] = json!({ "dir": "new", "master_key": { "file": "master.key" } }));
    desk.aral(&["memory", "import", "--key", "backup.pem", "left.backup"])
        .assert("import", 0, &[]);
    for name in ["a", "b"] {
        assert_eq!(reveal(&desk, name).stdout, format!("{name} is {VALUE}"));
    }
    reveal(&desk, "c").assert("what is lost", 6, &["there is no record `c`"]);
}

#[test]
fn a_store_that_lost_records_stays_closed_and_says_how_to_get_out_what_is_left() {
    let desk = desk_with_a_loss();
    desk.aral(&["memory", "keygen", "other.key"]).assert("keygen", 0, &[]);
    with_key(&desk, "other.key");
    desk.aral(&SALVAGE).assert("another key", 2, &["wants the master key"]);
    with_key(&desk, "master.key");
    let lock = std::fs::File::open(desk.path("store/lock")).expect("a file");
    lock.lock().expect("nobody has it");
    desk.aral(&SALVAGE)
        .assert("somebody has it", 8, &["is open in another process"]);
    drop(lock);
    let export = ["memory", "export", "--to", "backup.pub.pem", "--out", "left.backup"];
    desk.aral(&export).assert(
        "an export",
        1,
        &[
            "is older than its keys",
            "`aral memory export --salvage --to BACKUP.pub.pem --out FILE`",
        ],
    );
    for left in ["left.backup", "left.backup.records"] {
        assert!(std::fs::metadata(desk.path(left)).is_err(), "{left}");
    }
    // Of a store in order it is an export like any other.
    desk.configure(|config| config["memory"] = json!({ "dir": "whole", "master_key": { "file": "master.key" } }));
    let whole = desk.aral(&SALVAGE);
    whole.assert("a store in order", 0, &["nothing is missing"]);
    assert!(whole.stdout.contains(": 3 records, "), "{whole:#?}");
    // Where nothing says which commit was the newest, that is told, and not that none is lost.
    std::fs::remove_file(desk.path("left.backup")).expect("a backup");
    let mut slots = std::fs::read(desk.path("whole/slots")).expect("slots");
    slots[..4096].fill(0xff);
    std::fs::write(desk.path("whole/slots"), slots).expect("slots");
    let headless = desk.aral(&[&SALVAGE[..], &["--json"]].concat());
    assert_eq!(headless.code, 12, "{headless:#?}");
    let told = "the keys do not say which commit was the newest";
    assert!(headless.stderr.contains(told), "{headless:#?}");
    let object = headless.object();
    assert_eq!(
        (&object["records"], &object["known_commit"], &object["commits_lost"]),
        (&json!(3), &Value::Null, &Value::Null)
    );
}

#[test]
fn a_store_whose_slots_lost_their_header_says_how_to_get_out_what_is_there() {
    let desk = desk();
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    desk.aral(&["memory", "keygen", "--backup", "backup"])
        .assert("a pair", 0, &[]);
    let whole = std::fs::read(desk.path("store/slots")).expect("a file");
    // What kind of file it is, its format, and whose it is.
    for (at, told) in [
        (3, "the slot file is damaged"),
        (9, "the slot file, whose format is not that of the keyring, is damaged"),
        (15, "the slot file, which is that of another store, is damaged"),
    ] {
        let mut slots = whole.clone();
        slots[at] ^= 1;
        std::fs::write(desk.path("store/slots"), slots).expect("a file");
        reveal(&desk, "todo").assert("damaged", 1, &[told, "`aral memory export --salvage"]);
        let salvaged = desk.aral(&[&SALVAGE[..], &["--json"]].concat());
        assert_eq!(salvaged.object()["records"], 1, "{salvaged:#?}");
        std::fs::remove_file(desk.path("left.backup")).expect("a backup");
    }
}

/// Changes a byte of the key that was made first.
fn damage_first(desk: &Desk) {
    /// The header of the slot file, and what comes before the sealed key in a slot.
    const AT: usize = 4096 + 16;
    let path = desk.path("store/slots");
    let mut slots = std::fs::read(&path).expect("slots");
    slots[AT] ^= 1;
    std::fs::write(&path, slots).expect("slots");
}

#[test]
fn damaged_records_are_named_and_taken_out_when_it_is_asked_for() {
    let desk = desk();
    for name in ["a", "b"] {
        put(&desk, name, &[]).assert("put", 0, &[]);
    }
    let whole = desk.aral(&["memory", "check", "--json"]);
    whole.assert("nothing is damaged", 0, &[]);
    assert_eq!(
        whole.object(),
        json!({"records": 2, "damaged": 0, "deleted": 0, "nameless": 0, "nameless_deleted": 0, "found": []})
    );
    damage_first(&desk);
    reveal(&desk, "a").assert(
        "the record",
        1,
        &["the record `a` in `notes` is damaged", "`aral memory check`"],
    );
    let words = desk.aral(&["memory", "list", "notes"]);
    words.assert("a listing", 1, &["a record is damaged", "`aral memory check`"]);
    let found = desk.aral(&["memory", "check"]);
    assert_eq!(found.code, 11, "{found:#?}");
    assert!(
        found.stderr.contains("`aral memory check --delete-damaged`"),
        "{found:#?}"
    );
    assert!(found.stdout.contains("damaged  1\n"), "{found:#?}");
    assert!(
        found.stdout.contains("notes: whose name does not open, at "),
        "{found:#?}"
    );
    reveal(&desk, "b").assert("untouched", 0, &[]);
    let deleted = desk.aral(&["memory", "check", "--delete-damaged", "--json", "-v"]);
    deleted.assert(
        "deleted",
        0,
        &[
            "memory_check_begun",
            "memory_damaged_deleted",
            "2 records, 1 of them damaged, 1 deleted; 0 namespaces without a name, 0 deleted; whole",
        ],
    );
    assert_eq!(deleted.object()["found"][0]["deleted"], true);
    let rest = desk.aral(&["memory", "list", "notes"]);
    rest.assert("the rest", 0, &[]);
    assert_eq!(rest.stdout, "b\n");
    desk.aral(&["memory", "keygen", "next.key"]).assert("keygen", 0, &[]);
    desk.aral(&["memory", "rotate-key", "--to", "next.key"])
        .assert("rotation", 0, &[]);
}

#[test]
fn a_check_that_fails_says_what_it_found_until_then() {
    let desk = desk();
    for name in ["a", "b"] {
        put(&desk, name, &[]).assert("put", 0, &[]);
    }
    damage_first(&desk);
    // No place of a namespace of secrets, which come after what agents remember.
    let db = database(&desk);
    db.insert(b"ns", b"no name").expect("a change");
    db.flush().expect("a flush");
    drop(db);
    let failed = desk.aral(&["memory", "check", "--delete-damaged"]);
    let words = "until it failed 2 records, 1 of them damaged, 1 deleted; 0 namespaces without a name, 0 deleted; \
                 namespace notes, place ";
    failed.assert("a check", 1, &["(host.internal)", words]);
}

/// The database of the store, which nobody else has open.
fn database(desk: &Desk) -> sled::Db {
    let config = sled::Config::new()
        .path(desk.path("store/records"))
        .segment_size(2 << 20);
    config.open().expect("the database")
}

/// Takes the names of all namespaces out of the database.
fn lose_names(desk: &Desk) {
    let db = database(desk);
    let names: Vec<sled::IVec> = db.scan_prefix(b"n").keys().map(|key| key.expect("a key")).collect();
    assert!(!names.is_empty());
    for name in names {
        db.remove(name).expect("a change");
    }
    db.flush().expect("a flush");
}

#[test]
fn a_namespace_that_lost_its_name_is_told_put_back_or_taken_out() {
    let desk = desk();
    for name in ["a", "b"] {
        put(&desk, name, &[]).assert("put", 0, &[]);
    }
    lose_names(&desk);
    let stats = desk.aral(&["memory", "stats", "--json"]).object();
    assert_eq!((&stats["nameless"], &stats["namespaces"]), (&json!(1), &json!([])));
    let shown = desk.aral(&["memory", "stats"]).stdout;
    assert!(shown.ends_with("nameless   1: see `aral memory check`\n"), "{shown}");
    let found = desk.aral(&["memory", "check"]);
    assert_eq!(found.code, 11, "{found:#?}");
    for hint in [
        "`aral memory put NAMESPACE NAME`",
        "`aral memory check --delete-nameless`",
    ] {
        assert!(found.stderr.contains(hint), "{found:#?}");
    }
    for wanted in [
        "namespaces without a name  1\n",
        "  records of a namespace without a name, at ",
    ] {
        assert!(found.stdout.contains(wanted), "{found:#?}");
    }
    desk.aral(&["memory", "keygen", "next.key"]).assert("keygen", 0, &[]);
    let refused = desk.aral(&["memory", "rotate-key", "--to", "next.key"]);
    refused.assert("rotation", 1, &["the name of a namespace", "`aral memory check`"]);
    reveal(&desk, "a").assert("who knows the namespace", 0, &[]);
    put(&desk, "c", &[]).assert("put", 0, &[]);
    desk.aral(&["memory", "check"]).assert("it is back", 0, &[]);
    lose_names(&desk);
    assert_eq!(desk.aral(&["memory", "check", "--delete-damaged"]).code, 11);
    reveal(&desk, "a").assert("it is left", 0, &[]);
    let deleted = desk.aral(&["memory", "check", "--delete-nameless", "--json", "-v"]);
    deleted.assert(
        "taken out",
        0,
        &[
            "deletes what is in namespaces without a name",
            "records of a namespace without a name, place ",
        ],
    );
    let object = deleted.object();
    let counts = ["records", "damaged", "nameless", "nameless_deleted"].map(|name| object[name].as_u64());
    assert_eq!(counts, [0, 0, 1, 1].map(Some), "{object}");
    assert_eq!(object["found"][0]["namespace"], Value::Null, "{object}");
    assert_ne!(reveal(&desk, "a").code, 0, "it is gone");
    desk.aral(&["memory", "rotate-key", "--to", "next.key"])
        .assert("nothing stops a rotation", 0, &[]);
}

#[test]
fn a_full_disk_is_refused_before_anything_is_written() {
    let desk = desk();
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    desk.configure(|config| {
        config["memory"] =
            json!({ "dir": "store", "free_bytes_min": 1_u64 << 60, "master_key": { "file": "master.key" } });
    });
    let refused = desk.feed(&["memory", "put", "notes", "more"], b"x");
    refused.assert(
        "put",
        8,
        &["the disk of the store is full", "hint: make room on its disk"],
    );
    assert_eq!(reveal(&desk, "todo").stdout, VALUE, "reading goes on");
}

/// Another program fills the disk, or it is mounted to be read alone.
#[cfg(feature = "services")]
#[test]
fn a_store_on_a_disk_that_takes_no_writes_is_read_by_a_salvage() {
    let desk = desk();
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "disk/store", "free_bytes_min": 0, "master_key": { "file": "master.key" } });
    });
    desk.aral(&["memory", "keygen", "--backup", "backup"])
        .assert("a pair", 0, &[]);
    let script = r#"
        mkdir disk
        mount -t tmpfs -o size=16m tmpfs disk
        for name in a b c; do printf value | "$ARAL" memory put notes $name; done
        dd if=/dev/zero of=disk/filler bs=4096 2>/dev/null
        look() {
            "$ARAL" memory get notes a --reveal; echo "$1 get $?"
            "$ARAL" doctor | grep memory
            "$ARAL" memory export --salvage --to backup.pub.pem --out "$1.backup"; echo "$1 salvage $?"
        }
        look full
        mount -o remount,ro disk
        look readonly
        mount -o remount,rw disk
        rm disk/filler
        "$ARAL" memory get notes a --reveal; echo "; with room $?"
    "#;
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &format!("exec 2>&1; {script}")])
        .current_dir(desk.root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", desk.root())
        .env("ARAL", crate::support::desk::program())
        .output()
        .expect("a namespace of mounts");
    let said = String::from_utf8_lossy(&output.stdout);
    for state in ["full", "readonly"] {
        for part in [format!("{state} get 8\n"), format!("{state} salvage 0\n")] {
            assert!(said.contains(&part), "`{part}` is not in {said}");
        }
    }
    let hint = format!("make room on the disk of `{}`", desk.path("disk/store"));
    assert_eq!(said.matches(&hint).count(), 4, "of both verbs, both times: {said}");
    assert_eq!(said.matches("nothing is missing").count(), 2, "{said}");
    assert_eq!(said.matches(": 3 records").count(), 2, "{said}");
    assert!(said.contains("value; with room 0"), "{said}");
}

#[test]
fn what_an_operator_does_is_an_event_without_names_and_values() {
    let desk = desk();
    let run = desk.feed(&["memory", "put", "notes", "my-diary", "-v"], VALUE.as_bytes());
    run.assert(
        "put",
        0,
        &[
            "aral::events",
            "memory_access",
            "\"operation\":\"write\"",
            "\"capability\":null",
        ],
    );
    assert!(
        !run.stderr.contains("my-diary") && !run.stderr.contains(VALUE),
        "{run:#?}"
    );
    let run = desk.aral(&["memory", "get", "notes", "my-diary", "-v"]);
    run.assert(
        "get",
        0,
        &["\"operation\":\"read\"", "\"classification\":\"confidential\""],
    );
    let run = desk.feed(&["memory", "put", "notes", "my-diary", "-v", "--if-absent"], b"x");
    run.assert("refused", 6, &["\"refused\":\"the precondition"]);
}

#[test]
fn doctor_looks_at_the_store_and_its_key() {
    let desk = desk();
    let line = || {
        desk.aral(&["doctor"])
            .stdout
            .lines()
            .find(|line| line.contains("  memory  "))
            .map(str::to_owned)
            .expect("a line")
    };
    assert!(
        line().starts_with("ok") && line().contains("is not there yet"),
        "{}",
        line()
    );
    assert!(std::fs::metadata(desk.path("store")).is_err(), "it makes none");
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    assert!(line().contains("opens with the key"), "{}", line());
    desk.aral(&["memory", "keygen", "other.key"]).assert("keygen", 0, &[]);
    with_key(&desk, "other.key");
    assert!(
        line().starts_with("FAIL") && line().contains("wants the master key"),
        "{}",
        line()
    );
    assert_eq!(desk.aral(&["doctor"]).code, 2);
}

#[test]
fn capabilities_and_the_operator_share_the_store_of_the_configuration() {
    let desk = desk();
    desk.guest(ISOLATION_MEMORY_STEPS, |entry| {
        entry["permissions"] = json!({
            "memory:read": { "namespaces": ["notes"] },
            "memory:write": { "namespaces": ["notes"], "bytes_max": 1000, "records_max": 10 },
        });
    });
    let steps = |steps: serde_json::Value| {
        let run = desk.invoke(ISOLATION_MEMORY_STEPS, &json!({ "steps": steps }).to_string());
        run.assert("invoke", 0, &[]);
        run.object()
    };
    let written = steps(json!([{ "do": "put", "namespace": "notes", "name": "todo", "bytes": 5 }]));
    assert_eq!(written, json!([{ "ok": 1 }]));
    assert_eq!(reveal(&desk, "todo").stdout, "vvvvv");
    put(&desk, "todo", &[]).assert("put", 0, &[]);
    let read = json!([{ "do": "get", "namespace": "notes", "name": "todo" }]);
    let expected = json!([{ "ok": { "bytes": VALUE.len(), "version": 2, "expires": false } }]);
    assert_eq!(steps(read.clone()), expected);
    let unavailable = |case: &str, log: &str| {
        let answer = desk.invoke(ISOLATION_MEMORY_STEPS, &json!({ "steps": read }).to_string());
        answer.assert(case, 0, &[log]);
        let said = answer.stdout.to_lowercase();
        assert!(said.contains("unavailable"), "{case}: {answer:#?}");
        // What is wrong is the operator's to know.
        assert!(
            !said.contains("process") && !said.contains(&desk.root()),
            "{case}: {answer:#?}"
        );
    };
    let store = hold(&desk);
    unavailable("held by another process", &format!("process {}", std::process::id()));
    drop(store);
    with_key(&desk, "nowhere.key");
    unavailable("without its key", "nowhere.key");
    with_key(&desk, "master.key");
    assert_eq!(steps(read), expected);
}

#[test]
fn capabilities_get_the_secrets_of_the_configuration() {
    let desk = desk();
    desk.feed(&["secret", "put", "api"], b"of the store, for all")
        .assert("put", 0, &[]);
    desk.guest(ISOLATION_SECRET, |entry| {
        let scope = |name: &str| json!({ "name": name, "use": "reveal" });
        entry["permissions"] = json!({
            "secret:read": { "secrets": [scope("api"), scope("shell")] },
            "secret:write": { "names": ["written"] },
        });
    });
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } });
        config["secrets"] = json!({ "names": { "shell": "env://THE_SECRET" } });
        config["policy"]["secret"]["reveal"] = json!(true);
    });
    let input = json!({ "names": ["api", "shell", "written"] }).to_string();
    let revealed = |variable: &str| {
        let output = desk
            .command(&["invoke", &ISOLATION_SECRET.id(), "--input", &input])
            .env(variable, "of the shell, for all")
            .output()
            .expect("the program starts");
        let attempts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("an answer");
        ["reveal api", "reveal shell", "put written"].map(|what| {
            let attempts = attempts.as_array().expect("attempts");
            let attempt = attempts.iter().find(|attempt| attempt["what"] == what);
            attempt.is_some_and(|attempt| attempt["result"] == "ok")
        })
    };
    assert_eq!(revealed("THE_SECRET"), [true, true, true]);
    assert_eq!(revealed("ANOTHER"), [true, false, true], "the variable is not set");
    assert_eq!(desk.aral(&["secret", "get", "written", "--reveal"]).stdout, "value");
}
