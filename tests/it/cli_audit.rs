//! `aral audit` as an operator and an auditor type it: a log that calls wrote, what each verb says of it, and one test for
//! each way to change it afterwards.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::desk::{Desk, Run};
use crate::support::guests::*;
use crate::support::issuer::{AUDIENCE, ISSUER, IssuerKey, key_set};
use crate::support::setup;

/// Where the folder of state keeps the key that the log is signed with.
fn public_key(desk: &Desk) -> String {
    desk.path(&format!("{}/audit.pub.pem", setup::STATE))
}

/// A desk whose log holds three calls: one that succeeds, one that fails, one that is denied.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.invoke(RUNTIME_ECHO_TOOL, "[1]").assert("a call", 0, &[]);
    desk.invoke(RUNTIME_ECHO_TOOL, "{").assert("no JSON", 6, &[]);
    desk.persona(&json!({"id": "nobody", "name": "Nobody", "constraints": {}}));
    desk.invoke(RUNTIME_ECHO_TOOL, "[1]").assert("a denial", 3, &[]);
    desk
}

/// The one segment.
fn segment(desk: &Desk) -> PathBuf {
    PathBuf::from(desk.path("audit")).join(format!("{:020}.jsonl", 0))
}

fn lines(desk: &Desk) -> Vec<String> {
    let text = std::fs::read_to_string(segment(desk)).expect("a log");
    text.lines().map(str::to_owned).collect()
}

fn write(desk: &Desk, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(segment(desk), text).expect("a log");
}

/// Where a record is among the lines.
fn place(lines: &[String], seq: u64) -> usize {
    let start = format!("{{\"seq\":{seq},");
    lines
        .iter()
        .position(|line| line.starts_with(&start))
        .expect("the record")
}

/// A copy of the log, of which its host knows nothing.
fn elsewhere(desk: &Desk) -> &'static str {
    std::fs::create_dir(desk.path("elsewhere")).expect("a folder");
    std::fs::copy(
        segment(desk),
        PathBuf::from(desk.path("elsewhere")).join(segment(desk).file_name().expect("a name")),
    )
    .expect("a copy");
    "elsewhere"
}

fn verify(desk: &Desk, more: &[&str]) -> Run {
    desk.aral(&[&["audit", "verify", "--json"], more].concat())
}

fn assert_good(desk: &Desk, more: &[&str]) -> Value {
    let run = verify(desk, more);
    assert_eq!(run.code, 0, "{run:#?}");
    let report = run.object();
    assert_eq!(report["good"], true);
    report
}

/// Verification names this record and says this of it.
fn assert_found(desk: &Desk, more: &[&str], seq: u64, what: &str) {
    let run = verify(desk, more);
    assert_eq!(run.code, 11, "{run:#?}");
    let report = run.object();
    assert_eq!(report["good"], false);
    let finding = &report["finding"];
    assert_eq!(finding["seq"], seq, "{finding}");
    assert!(finding["what"].as_str().expect("words").contains(what), "{finding}");
    // People are told the same.
    let human = desk.aral(&[&["audit", "verify"], more].concat());
    assert!(
        human.stdout.contains(&format!("record {seq} in ")) && human.stdout.contains(what),
        "{human:#?}"
    );
}

#[test]
fn a_log_that_nobody_touched_is_good_with_the_public_key_alone() {
    let desk = desk();
    let report = assert_good(&desk, &[]);
    assert_eq!((&report["signed"], &report["first"]), (&report["size"], &json!(0)));
    // What the host keeps in its folder of state is an anchor, unless the log is somewhere else.
    assert_eq!(report["anchored"], report["size"]);
    let own = report["own_anchor"].as_str().expect("a path");
    assert!(own.ends_with(".head"), "{own}");
    let folder = report["folder"].as_str().expect("a path");
    assert!(folder.ends_with("/audit"), "which log it is that is good: {folder}");
    let human = desk.aral(&["audit", "verify"]);
    human.assert("verify", 0, &[]);
    assert!(
        human.stdout.contains("compared     with what its host keeps"),
        "{human:#?}"
    );
    let elsewhere = elsewhere(&desk);
    let report = assert_good(&desk, &["--dir", elsewhere]);
    assert_eq!(
        (&report["anchored"], &report["own_anchor"]),
        (&Value::Null, &Value::Null),
        "without an anchor the end may be missing"
    );
    let other = desk.aral(&["audit", "verify", "--dir", elsewhere, "--trust", &public_key(&desk)]);
    other.assert("verify", 0, &[]);
    assert!(
        other.stdout.contains("verdict      good")
            && other.stdout.contains("folder       elsewhere\n")
            && other.stdout.contains("cannot be excluded"),
        "{other:#?}"
    );
    // The key that signs manifests signed none of it, nor what the host keeps.
    let report = verify(&desk, &["--trust", "key.pub.pem"]);
    let warning = "warning: the log is not compared with `";
    assert!(
        report.stderr.contains(warning) && report.stderr.contains("which is not trusted"),
        "{report:#?}"
    );
    let what = report.object()["finding"]["what"].clone();
    assert_eq!(report.code, 11, "{what}");
    assert!(what.as_str().expect("words").contains("which is not trusted"), "{what}");
    let human = desk.aral(&["audit", "verify", "--trust", "key.pub.pem"]);
    assert!(
        human.code == 11
            && human.stdout.contains("cannot be checked with these keys")
            && human.stderr.contains("hint: if that key is yours"),
        "{human:#?}"
    );
    desk.aral(&["audit", "verify", "--dir", "none"])
        .assert("no log", 2, &["there is no audit log in `none`"]);
}

#[test]
fn edited() {
    let desk = desk();
    let mut lines = lines(&desk);
    let at = place(&lines, 5);
    let edited = lines[at].replace("decision", "decisiom");
    assert_ne!(edited, lines[at], "record 5 is the decision");
    lines[at] = edited;
    write(&desk, &lines);
    assert_found(&desk, &[], 5, "edited");
}

#[test]
fn a_first_line_that_says_nothing() {
    let desk = desk();
    let mut lines = lines(&desk);
    lines[0] = "{}".to_owned();
    write(&desk, &lines);
    assert_found(&desk, &[], 0, "the segment begins in another state");
    let prove = desk.aral(&["audit", "prove", "5"]);
    prove.assert(
        "prove",
        11,
        &["the log is damaged around record 5", "aral audit verify"],
    );
    for more in [&["audit", "prove", "5"][..], &["audit", "prove", "5", "--json"]] {
        assert_eq!(desk.unread(more), Some(11), "{more:?}");
    }
}

#[test]
fn removed() {
    let desk = desk();
    let mut lines = lines(&desk);
    lines.remove(place(&lines, 4));
    write(&desk, &lines);
    assert_found(&desk, &[], 4, "removed: the next record that is there is 5");
}

#[test]
fn reordered() {
    let desk = desk();
    let mut lines = lines(&desk);
    let (one, other) = (place(&lines, 4), place(&lines, 5));
    lines.swap(one, other);
    write(&desk, &lines);
    assert_found(&desk, &[], 4, "reordered");
}

#[test]
fn inserted() {
    let desk = desk();
    let mut lines = lines(&desk);
    let at = place(&lines, 4);
    let copy = lines[at]
        .replace("\"trace\"", "\"Trace\"")
        .replace("lifecycle", "security");
    lines.insert(at, copy);
    write(&desk, &lines);
    let run = verify(&desk, &[]);
    assert_eq!(run.code, 11, "{run:#?}");
    let finding = run.object()["finding"].clone();
    assert_eq!(finding["seq"], 4, "{finding}");
    assert!(
        finding["what"].as_str().expect("words").contains("inserted"),
        "{finding}"
    );
}

#[test]
fn cut_back_without_and_with_an_anchor() {
    let desk = desk();
    let checkpoint = desk.aral(&["audit", "checkpoint"]);
    checkpoint.assert("checkpoint", 0, &["--anchor"]);
    desk.write("anchor.json", checkpoint.stdout.as_bytes());
    let report = assert_good(&desk, &["--anchor", "anchor.json"]);
    assert_eq!(report["anchored"], report["size"]);
    // Back to the end of the first call: everything that is left is as it was written.
    let mut lines = lines(&desk);
    let end = lines
        .iter()
        .position(|line| line.starts_with("{\"checkpoint\""))
        .expect("a checkpoint");
    lines.truncate(end + 1);
    write(&desk, &lines);
    let elsewhere = elsewhere(&desk);
    let report = assert_good(&desk, &["--dir", elsewhere]);
    let size = report["size"].as_u64().expect("a number");
    assert_eq!(report["anchored"], Value::Null);
    assert_found(
        &desk,
        &["--dir", elsewhere, "--anchor", "anchor.json"],
        size,
        "cut back",
    );
    assert_found(&desk, &[], size, "cut back");
    desk.invoke(RUNTIME_ECHO_TOOL, "[2]").assert(
        "the host knows what it signed",
        8,
        &["its first ", "audit.unavailable"],
    );
}

#[test]
fn what_is_no_anchor_is_named_with_what_makes_one() {
    let desk = desk();
    let checkpoint = desk.aral(&["audit", "checkpoint"]);
    desk.write("anchor.json", checkpoint.stdout.as_bytes());
    let verify = |more: &[&str]| desk.aral(&[&["audit", "verify", "--anchor"][..], more].concat());
    for name in ["aral.toml", "persona.json"] {
        let run = verify(&[name]);
        let refused = format!("`{name}` is no checkpoint and no receipt");
        run.assert(
            name,
            7,
            &[&refused, "(document.invalid)", "hint: `aral audit checkpoint > FILE`"],
        );
        assert!(!run.stderr.contains("--trust"), "{run:?}");
    }
    desk.aral(&["keygen", "other"]).assert("a pair", 0, &[]);
    let other = verify(&["anchor.json", "--trust", "other.pub.pem"]);
    let parts = [
        "`anchor.json`: ",
        "(signature.invalid)",
        "hint: trust the key that signed it: `--trust",
    ];
    other.assert("by a key that is not trusted", 7, &parts);
    let changed = checkpoint.stdout.replacen("\"size\":", "\"size\":1", 1);
    desk.write("changed.json", changed.as_bytes());
    let run = verify(&["changed.json"]);
    run.assert("changed", 7, &["`changed.json`: ", "(signature.invalid)"]);
    assert!(!run.stderr.contains("--trust"), "no key helps: {run:?}");
    desk.aral(&["audit", "prove", "1", "--out", "receipt.json"])
        .assert("prove", 0, &[]);
    let run = desk.aral(&["audit", "check", "receipt.json", "--trust", "other.pub.pem"]);
    assert_eq!(run.code, 11, "{run:?}");
    assert!(run.stderr.contains("give it: `--trust KEY.pub.pem`"), "{run:?}");
}

#[test]
fn rewritten_with_a_chain_made_anew_is_not_what_was_signed() {
    let desk = desk();
    let receipt = desk.aral(&["audit", "prove", "5", "--out", "receipt.json"]);
    receipt.assert("prove", 0, &[]);
    // A log of its own, with the same key and other records.
    std::fs::remove_dir_all(desk.path("audit")).expect("a folder");
    let refused = desk.invoke(RUNTIME_ECHO_TOOL, "[2]");
    let words = ["is not the one that this host signed for", "audit verify --anchor "];
    refused.assert("a log that was removed", 8, &words);
    for kept in std::fs::read_dir(desk.path(setup::STATE)).expect("a folder") {
        let path = kept.expect("an entry").path();
        if path.extension().is_some_and(|name| name == "head") {
            std::fs::remove_file(path).expect("a file");
        }
    }
    desk.invoke(RUNTIME_ECHO_TOOL, "[2]").assert("a denial", 3, &[]);
    assert_good(&desk, &[]);
    // The receipt anchors it.
    let run = verify(&desk, &["--anchor", "receipt.json"]);
    assert_eq!(run.code, 11, "{run:#?}");
}

#[test]
fn a_forged_checkpoint() {
    let desk = desk();
    let mut lines = lines(&desk);
    let at = lines
        .iter()
        .position(|line| line.starts_with("{\"checkpoint\""))
        .expect("a checkpoint");
    let forged = lines[at].replacen("\"size\":", "\"size\":1", 1);
    assert_ne!(forged, lines[at]);
    lines[at] = forged;
    write(&desk, &lines);
    let run = verify(&desk, &[]);
    assert_eq!(run.code, 11, "{run:#?}");
    let finding = run.object()["finding"].clone();
    assert!(finding["what"].as_str().expect("words").contains("forged"), "{finding}");
}

#[test]
fn a_receipt_proves_one_record_and_what_went_in_and_came_out() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let answer = desk
        .aral(&["invoke", &RUNTIME_ECHO_TOOL.id(), "--input", "[1]", "--json"])
        .object();
    let receipt = &answer["receipt"];
    let seq = receipt["record"]["seq"].as_u64().expect("a number").to_string();
    let salt = |name: &str| receipt[name].as_str().expect("a salt").to_owned();
    desk.aral(&["audit", "prove", &seq, "--out", "receipt.json"])
        .assert("prove", 0, &[]);
    desk.write("input", b"[1]");
    desk.write("output", b"[1]");
    desk.write("other", b"[2]");
    let check = |more: &[&str]| {
        let trust = public_key(&desk);
        desk.aral(&[&["audit", "check", "receipt.json", "--json", "--trust", &trust], more].concat())
    };
    let (input, output) = (salt("input_salt"), salt("output_salt"));
    let checked = check(&[
        "--input",
        "input",
        "--input-salt",
        &input,
        "--output",
        "output",
        "--output-salt",
        &output,
    ]);
    assert_eq!(checked.code, 0, "{checked:#?}");
    let object = checked.object();
    assert_eq!(
        (&object["good"], &object["input"], &object["output"]),
        (&json!(true), &json!(true), &json!(true))
    );
    let event = &object["record"]["event"];
    assert_eq!(
        (&event["type"], &event["success"]),
        (&json!("invocation"), &json!(true))
    );
    assert_eq!(object["record"]["trace"], answer["trace_id"]);
    let other = check(&["--input", "other", "--input-salt", &input]);
    assert_eq!((other.code, &other.object()["input"]), (11, &json!(false)));
    for (file, code, verdict) in [("input", 0, "good         yes\n"), ("other", 11, "good         no\n")] {
        let trust = public_key(&desk);
        let given = ["--trust", &trust, "--input", file, "--input-salt", &input];
        let told = desk.aral(&[&["audit", "check", "receipt.json"][..], &given].concat());
        assert_eq!(told.code, code, "{told:#?}");
        assert!(told.stdout.starts_with(verdict), "{told:#?}");
    }
    // The salt of one part opens no other.
    assert_eq!(check(&["--output", "output", "--output-salt", &input]).code, 11);

    // A receipt in which the outcome was turned.
    let text = std::fs::read_to_string(desk.path("receipt.json")).expect("a receipt");
    let forged = text.replacen("\\\"success\\\":true", "\\\"success\\\":false", 1);
    assert_ne!(forged, text);
    desk.write("receipt.json", forged.as_bytes());
    let checked = check(&[]);
    assert_eq!((checked.code, &checked.object()["good"]), (11, &json!(false)));
    desk.aral(&["audit", "prove", "999"])
        .assert("unknown", 6, &["no record 999"]);
}

#[test]
fn the_record_of_a_call_binds_the_list_of_its_host_calls() {
    let desk = Desk::new();
    let programs = json!([{ "path": "/usr/bin/head", "args": ["-c", "{integer}"] }]);
    desk.guest(ISOLATION_EXEC, |entry| {
        entry["permissions"] = json!({ "exec": { "programs": programs } })
    });
    desk.configure(|config| config["policy"]["exec"] = json!({ "programs": programs }));
    let run = |program: &str| json!({ "program": program, "arguments": ["-c", "2"], "stdin": "four" });
    let input = json!({ "runs": [run("/usr/bin/head"), run("/usr/bin/tail")] }).to_string();
    desk.invoke(ISOLATION_EXEC, &input);
    let records = |kind: &str| {
        let run = desk.aral(&["audit", "query", "--json", "--type", kind]);
        run.object()["records"].as_array().expect("records").clone()
    };
    let mut list = aral_audit::HostCallList::default();
    for record in records("host_call") {
        let event = &record["event"];
        let permission: aral_contract::Permission =
            serde_json::from_value(event["permission"].clone()).expect("a permission");
        let target = event["target"]["clear"].as_str().expect("in clear");
        list.push(permission, target, event["allowed"].as_bool().expect("a word"));
    }
    let ends = records("invocation");
    let evidence = &ends[0]["event"]["evidence"];
    assert_eq!(evidence["host_calls"], 2, "{evidence}");
    assert_eq!(evidence["host_calls_digest"], list.digest().to_string());
    assert_eq!(evidence["permissions"], json!(["exec"]));
}

#[test]
fn records_are_found_by_each_of_their_sides() {
    let desk = desk();
    let found = |more: &[&str]| {
        let run = desk.aral(&[&["audit", "query", "--json"], more].concat());
        assert_eq!(run.code, 0, "{run:#?}");
        run.object()
    };
    let all = found(&[]);
    let records = all["records"].as_array().expect("records");
    assert_eq!(all["count"], records.len());
    let ends = found(&["--type", "invocation"]);
    assert_eq!(ends["count"], 3);
    let trace = ends["records"][0]["trace"].as_str().expect("a trace");
    let types: Vec<Value> = found(&["--trace", trace])["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| record["event"]["type"].clone())
        .collect();
    assert_eq!(types, ["decision", "invocation_started", "invocation"]);
    let denied = found(&["--persona", "nobody", "--type", "decision"]);
    assert_eq!(denied["count"], 1);
    let refused = found(&["--persona", "nobody", "--type", "invocation"]);
    assert_eq!(refused["count"], 1, "a call that never ran is for somebody, too");
    let missing = denied["records"][0]["event"]["missing"].to_string();
    assert!(missing.contains("persona"), "who lacked which yes: {missing}");
    assert_eq!(
        found(&["--capability", &RUNTIME_ECHO_TOOL.id(), "--type", "decision"])["count"],
        3
    );
    assert_eq!(found(&["--capability", "other"])["count"], 0);
    assert_eq!(found(&["--severity", "critical"])["count"], 0);
    assert_eq!(found(&["--until", "1d"])["count"], 0);
    assert_eq!(found(&["--since", "1d"])["count"], all["count"]);
    assert_eq!(found(&["--limit", "2"])["cut"], true);
    let human = desk.aral(&["audit", "query", "--type", "invocation"]);
    human.assert("query", 0, &["3 records"]);
    assert!(human.stdout.contains("code=input.invalid"), "{human:#?}");
    desk.aral(&["audit", "query", "--type", "nothing"])
        .assert("a wrong type", 2, &["invocation_started"]);
}

#[test]
fn an_export_is_the_log_byte_for_byte() {
    let desk = desk();
    desk.aral(&["audit", "export", "--out", "export.jsonl"])
        .assert("export", 0, &[]);
    let exported = std::fs::read_to_string(desk.path("export.jsonl")).expect("a file");
    let records: Vec<String> = lines(&desk)
        .into_iter()
        .filter(|line| line.starts_with("{\"seq\""))
        .collect();
    assert_eq!(exported.lines().collect::<Vec<_>>(), records);
    desk.aral(&["audit", "export", "--out", "export.jsonl"])
        .assert("again", 2, &["export.jsonl"]);
}

#[test]
fn who_reads_a_log_that_lacks_a_segment_is_told_so_and_does_not_take_it_for_the_end() {
    let desk = Desk::new();
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } });
        config["audit"]["segment_bytes_max"] = json!(1024);
    });
    for name in ["one", "two", "three", "four", "five"] {
        desk.feed(&["secret", "put", name, "-"], b"0123456789abcdef")
            .assert("put", 0, &[]);
    }
    let entries = std::fs::read_dir(desk.path("audit")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|name| name == "jsonl"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 5, "{segments:?}");
    let first: u64 = segments[2]
        .file_stem()
        .and_then(|digits| digits.to_str()?.parse().ok())
        .expect("a number");
    let query = ["audit", "query"];
    let json = ["audit", "query", "--json"];
    let export = ["audit", "export", "--out", "export.jsonl"];
    let tail = ["audit", "tail", "-n", "100"];
    let follow = ["audit", "tail", "-n", "100", "-f"];
    desk.aral(&query).assert("the control", 0, &[]);
    std::fs::remove_file(&segments[2]).expect("a file");
    let verbs: [&[&str]; 5] = [&query, &json, &export, &tail, &follow];
    for verb in verbs {
        let run = desk.aral(verb);
        assert_eq!(run.code, 8, "{verb:?}: {run:#?}");
        let words = format!("record {first} is damaged or gone");
        let is_told = run.stdout.contains(&words) || run.stderr.contains(&words);
        assert!(is_told, "{verb:?}: {run:#?}");
    }
    let before = format!("\"seq\":{},", first - 1);
    for verb in [&tail[..], &follow] {
        let shown = desk.aral(&[verb, &["--json"]].concat());
        assert!(shown.stdout.contains(&before), "what stands before it: {shown:#?}");
    }
    assert!(!PathBuf::from(desk.path("export.jsonl")).exists(), "half an export");
}

#[test]
fn the_end_of_the_log_is_shown_and_followed_while_it_is_written() {
    use std::io::{BufRead as _, BufReader};
    let desk = desk();
    let last = desk.aral(&["audit", "tail", "-n", "2"]);
    last.assert("tail", 0, &[]);
    assert_eq!(last.stdout.lines().count(), 2);
    assert!(last.stdout.contains("change=stopped"), "{last:#?}");
    let mut follow = desk
        .command(&["audit", "tail", "-f", "-n", "1", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("it goes on").expect("a line");
        serde_json::from_str(&line).expect("a record")
    };
    // It has read to the end of the log once it shows the last record, so that all of what follows is shown.
    let end = next();
    assert_eq!(end["event"]["change"], "stopped");
    desk.invoke(RUNTIME_ECHO_TOOL, "[3]").assert("a denial", 3, &[]);
    let mut seen = vec![end];
    while seen.len() == 1 || seen.last().is_some_and(|record| record["event"]["change"] != "stopped") {
        seen.push(next());
    }
    assert!(
        seen.iter().any(|record| record["event"]["type"] == "invocation"),
        "{seen:#?}"
    );
    let numbers: Vec<u64> = seen.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!(numbers.len(), seen.len());
    follow.kill().expect("it runs");
    follow.wait().expect("an end");
}

#[test]
fn what_the_operator_does_with_records_is_on_record() {
    let desk = Desk::new();
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    desk.configure(|config| config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } }));
    desk.feed(&["memory", "put", "notes", "a", "-"], b"secret text")
        .assert("put", 0, &[]);
    desk.aral(&["memory", "get", "notes", "a"]).assert("get", 0, &[]);
    desk.feed(&["secret", "put", "token", "-"], b"0123456789abcdef")
        .assert("secret", 0, &[]);
    let found = |kind: &str| desk.aral(&["audit", "query", "--json", "--type", kind]).object();
    let accesses = found("memory_access");
    let operations: Vec<&str> = accesses["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| record["event"]["operation"].as_str().expect("a word"))
        .collect();
    assert_eq!(operations, ["write", "read"]);
    assert_eq!(found("data_access")["records"][0]["event"]["classification"], "secret");
    let log = std::fs::read_to_string(segment(&desk)).expect("a log");
    assert!(!log.contains("secret text") && !log.contains("0123456789abcdef"));
    assert_good(&desk, &[]);
}

#[test]
fn a_candidate_policy_is_asked_about_what_was_decided() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.invoke(RUNTIME_ECHO_TOOL, "[1]").assert("a call", 0, &[]);
    let simulate = |text: &str, more: &[&str]| {
        desk.write("new.toml", text.as_bytes());
        let run = desk.aral(
            &[
                &["policy", "simulate", "--policy", "new.toml", "--since", "7d", "--json"],
                more,
            ]
            .concat(),
        );
        assert_eq!(run.code, 0, "{run:#?}");
        run.object()
    };
    let open = format!("[policy]\ncapabilities = [\"{}\"]", RUNTIME_ECHO_TOOL.id());
    let same = simulate(&open, &[]);
    assert_eq!(same["decisions"], 1);
    let what = (&same["changed"][0]["answer"], &same["changed"][0]["members"]);
    assert_eq!(
        what,
        (&json!("otherwise"), &json!(["agent"])),
        "the desk has other numbers: {same}"
    );
    let own = std::fs::read_to_string(desk.path("aral.toml")).expect("a file");
    assert_eq!(simulate(&own, &[])["changed"], json!([]));
    let never = simulate(&format!("{open}\nagent.requests_per_minute = 0"), &[]);
    assert_eq!(never["changed"][0]["answer"], "denied", "{never}");
    let line = "aral.toml, [policy.agent]: requests_per_minute = 1";
    assert!(
        never["changed"][0]["missing"][0]
            .as_str()
            .expect("words")
            .ends_with(line),
        "{never}"
    );
    let closed = simulate("[policy]", &[]);
    assert_eq!(closed["changed"][0]["answer"], "denied", "{closed}");
    assert_eq!(closed["changed"][0]["recorded"]["calls"], 1);
    // The other way round: what was denied would be allowed.
    desk.configure(|config| config["policy"] = json!({}));
    desk.invoke(RUNTIME_ECHO_TOOL, "[1]").assert("a denial", 3, &[]);
    let opened = simulate(&open, &[]);
    assert_eq!(opened["changed"][0]["answer"], "allowed", "{opened}");
    // Another persona than the one that was decided about says nothing.
    let decided = std::fs::read(desk.path("persona.json")).expect("a persona");
    desk.persona(&json!({"id": "tester", "name": "Other", "constraints": {}}));
    let unknown = simulate(&open, &[]);
    assert_eq!(unknown["unknown"][0]["answer"], "unknown", "{unknown}");
    assert!(
        unknown["unknown"][0]["reason"]
            .as_str()
            .expect("words")
            .contains("persona")
    );
    desk.write("agents/tester.json", &decided);
    desk.configure(|config| config["personas"] = json!({ "files": ["agents/tester.json"] }));
    let known = simulate("[policy]", &[]);
    assert_eq!(
        (&known["unknown"], &known["decisions"]),
        (&json!([]), &json!(1)),
        "{known}"
    );
    // So is one for which the bearers of an issuer's tokens call.
    desk.write("jwks.json", key_set(&[&IssuerKey::new("one", 1)]).as_bytes());
    desk.configure(|config| {
        config["serve"] = json!({
            "listener": [{ "address": "127.0.0.1:0" }],
            "resource": AUDIENCE,
            "issuer": [{
                "issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["EdDSA"], "jwks_file": "jwks.json",
                "scope": [{ "scope": "aral:agent", "persona": "agents/tester.json" }],
            }],
        });
    });
    let borne = simulate(&open, &[]);
    assert_eq!(
        (&borne["unknown"], &borne["changed"][0]["answer"]),
        (&json!([]), &json!("allowed")),
        "{borne}"
    );
}

#[test]
fn what_the_log_hides_it_hides_with_the_key_of_the_file() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.configure(|config| config["audit"]["blinding_key_file"] = json!("mine.blind"));
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("a call", 0, &[]);
    assert_eq!(std::fs::read(desk.path("mine.blind")).expect("it is made").len(), 32);
    let usual = PathBuf::from(desk.path(&format!("{}/audit.blind", setup::STATE)));
    assert!(!usual.exists(), "there is no other one");
    desk.write("mine.blind", b"none");
    desk.invoke(RUNTIME_ECHO_TOOL, "1")
        .assert("no key", 2, &["mine.blind", "does not hold a key"]);
}

#[test]
fn doctor_tells_of_a_lost_key_of_the_log_as_a_start_does() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("a call", 0, &[]);
    let doctor = || {
        let run = desk.aral(&["doctor", "--json"]);
        let checks = run.object()["checks"].clone();
        let found = checks
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == "audit"));
        (run.code, found.expect("a check of the log").clone())
    };
    assert_eq!(doctor().1["status"], "ok");
    for (key, said) in [
        ("audit.pem", "the key that signs the audit log"),
        ("audit.blind", "the key that hides what the audit log must not show"),
    ] {
        let path = desk.path(&format!("{}/{key}", setup::STATE));
        let kept = format!("{path}.kept");
        std::fs::rename(&path, &kept).expect("a key");
        let (code, check) = doctor();
        assert_eq!((code, &check["status"]), (2, &json!("fail")), "{key}: {check}");
        for told in [check.to_string(), desk.invoke(RUNTIME_ECHO_TOOL, "1").stderr] {
            assert!(told.contains(said) && told.contains("put it back"), "{key}: {told}");
        }
        assert!(!PathBuf::from(&path).exists(), "{key}: no new one is made");
        std::fs::rename(&kept, &path).expect("a key");
        assert_eq!(doctor().1["status"], "ok", "{key}");
    }
    desk.write(&format!("{}/audit.pub.pem", setup::STATE), b"none");
    let (code, check) = doctor();
    assert_eq!((code, &check["status"]), (2, &json!("fail")), "{check}");
    let fix = check["fix"].as_str().unwrap_or_default();
    assert!(fix.contains("remove that file"), "{check}");
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert(
        "as a start says it",
        2,
        &["is not the public half", "remove that file"],
    );
}
