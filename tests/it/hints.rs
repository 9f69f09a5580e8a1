//! The lines that somebody is told to add to aral.toml are lines of TOML, and no text looks like one that it is not.

use std::path::{Path, PathBuf};

use crate::support::desk::Desk;

/// What follows these words, as a file of its own.
fn pasted(shown: &str) -> toml::Table {
    let (_, lines) = shown.split_once("aral.toml:\n").expect("lines to add");
    lines.parse().unwrap_or_else(|error| panic!("{error}: {lines}"))
}

#[test]
fn the_lines_that_name_a_new_key_can_be_pasted() {
    let desk = Desk::new();
    let made = desk.aral(&["keygen", "a\"b"]);
    made.assert("a pair", 0, &[]);
    let trust = &pasted(&made.stderr)["trust"][0];
    assert_eq!(trust["public_key"].as_str(), Some("a\"b.pub.pem"));
    assert_eq!(trust["kinds"].as_array().map(Vec::len), Some(2));
    let made = desk.aral(&["memory", "keygen", "new.key"]);
    made.assert("a master key", 0, &[]);
    let named = &pasted(&made.stderr)["memory"]["master_key"]["file"];
    assert_eq!(named.as_str(), Some("new.key"));
    // What is typed in another folder than that of aral.toml means another file there.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = desk.path("aral.toml");
    let mut command = desk.command(&["--config", &config, "keygen", "dev"]);
    let made = command
        .current_dir(elsewhere.path())
        .output()
        .expect("the program starts");
    let trust = &pasted(&String::from_utf8_lossy(&made.stderr))["trust"][0];
    let there = elsewhere.path().join("dev.pub.pem");
    assert_eq!(trust["public_key"].as_str(), there.to_str());
}

#[test]
fn whoever_names_keys_to_verify_with_is_not_sent_to_the_configuration() {
    let desk = Desk::new();
    desk.guest(crate::support::guests::RUNTIME_ECHO_TOOL, |_| ());
    desk.aral(&["keygen", "other"]).assert("a pair", 0, &[]);
    for verb in ["manifest", "persona"] {
        let file = format!("{verb}.json");
        let refused = desk.aral(&[verb, "verify", &file, "--trust", "other.pub.pem"]);
        refused.assert(verb, 7, &["which is not trusted", "`--trust KEY.pub.pem`"]);
        assert!(!refused.stderr.contains("aral.toml"), "{refused:?}");
    }
}

/// `[table] key = value` on one line, which no parser takes. What is said of a value that stands there goes on with `is`.
fn looks_like_toml(line: &str) -> bool {
    let is_name = |byte: char| byte.is_ascii_lowercase() || "_.:{}\\\"".contains(byte);
    line.match_indices("] ").any(|(at, _)| {
        let (before, after) = line.split_at(at);
        let table = before.trim_end_matches(']').trim_end_matches(is_name);
        let Some((key, value)) = after.trim_start_matches("] ").split_once(" = ") else {
            return false;
        };
        table.ends_with('[')
            && !table.ends_with("#[")
            && !key.is_empty()
            && key.chars().all(is_name)
            && !value.contains(" is ")
    })
}

fn search(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            search(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            found.push((path, text));
        }
    }
}

/// The sources of the host, each with where it lies there.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../host"));
    let mut found = Vec::new();
    search(root, &mut found);
    let within = |(path, text): (PathBuf, String)| (path.strip_prefix(root).expect("below it").to_owned(), text);
    found.into_iter().map(within).collect()
}

/// Lines that are no comment, each with where it stands.
fn lines<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = String> + 'a {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.map(move |line| format!("{}: {line}", path.display()))
}

#[test]
fn no_text_of_the_host_writes_table_and_key_as_one_line() {
    assert!(looks_like_toml("\"add [[trust]] public_key = \\\"k\\\", kinds = []\""));
    assert!(looks_like_toml("\"[memory.master_key] file = {shown}\""));
    assert!(!looks_like_toml("\"aral.toml, [memory]: dir = \\\"memory\\\"\""));
    assert!(!looks_like_toml("\"[egress] connections_max = 0 is not between\""));
    let sources = sources();
    assert!(sources.len() > 100, "only {} files", sources.len());
    let all = sources.iter().flat_map(|(path, text)| lines(path, text));
    let found: Vec<String> = all.filter(|line| looks_like_toml(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether a line records a security event under a word that is no constant of [`aral_contract::rule`].
fn makes_a_rule(line: &str) -> bool {
    ["rule: \"", "security(\"", "moved(\"", "record_renewal(\""]
        .iter()
        .any(|beginning| line.contains(beginning))
}

#[test]
fn every_rule_of_a_security_event_is_one_of_those_that_are_documented() {
    assert!(makes_a_rule("self.record(security(\"made.up\", words));"));
    let mut sources = sources();
    // Tests make up rules.
    sources
        .retain(|(path, _)| !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests"));
    assert!(sources.len() > 100, "only {} files", sources.len());
    let all = sources.iter().flat_map(|(path, text)| {
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        lines(path, code)
    });
    let found: Vec<String> = all.filter(|line| makes_a_rule(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
}
