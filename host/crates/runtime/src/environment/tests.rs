//! Taking variables, seen from inside the process, from its child, and from a process that may read all of `/proc`.
#![expect(clippy::disallowed_methods, reason = "tests look at other processes")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::testing::child_program;

const VALUE: &str = "correct-horse-battery-staple";

/// A process that takes `TAKEN_SECRET` and waits, and what it has said of it.
fn taker(extra: &[&str], value: &str) -> (Child, BufReader<ChildStdout>, Vec<String>) {
    let mut child = Command::new(child_program())
        .arg("take")
        .args(extra)
        .env("TAKEN_SECRET", value)
        .env("TAKEN_SECRET_NOT", "a-neighbour-with-a-longer-name")
        .env("KEPT", "kept")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended early: {lines:?}");
        match line.trim_end() {
            "." => return (child, out, lines),
            other => lines.push(other.to_owned()),
        }
    }
}

fn environ(child: &Child) -> String {
    let bytes = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn end(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_taken_variable_is_gone_from_the_process_its_children_and_proc() {
    let (child, _out, lines) = taker(&[], VALUE);
    assert_eq!(
        lines,
        [
            format!("before: {VALUE}"),
            format!("taken: TAKEN_SECRET={VALUE}"),
            "getenv: None".to_owned(),
            "child: unset kept a-neighbour-with-a-longer-name".to_owned(),
            "again: 0".to_owned(),
        ]
    );
    let seen = environ(&child);
    assert!(!seen.contains(VALUE), "{seen:?}");
    // What surrounded it is whole: not a byte too many was overwritten.
    for kept in ["KEPT=kept\0", "TAKEN_SECRET_NOT=a-neighbour-with-a-longer-name\0"] {
        assert!(seen.contains(kept), "{seen:?}");
    }
    end(child);
}

#[test]
fn a_second_thread_or_an_impossible_name_leaves_everything_as_it_is() {
    for (extra, said) in [
        (
            "threads",
            "error: secrets can be taken from the environment while there is one thread, and there are 2",
        ),
        (
            "name",
            "error: `TAKEN=SECRET` is no name of a variable: 1 to 128 of A-Z a-z 0-9 _ and no digit first",
        ),
    ] {
        let (child, _out, lines) = taker(&[extra], VALUE);
        assert_eq!(lines, [format!("before: {VALUE}"), said.to_owned()]);
        assert!(environ(&child).contains(&format!("TAKEN_SECRET={VALUE}\0")));
        end(child);
    }
}

#[test]
fn an_empty_variable_is_no_secret() {
    let (child, _out, lines) = taker(&[], "");
    assert!(lines.contains(&"again: 0".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("taken:")), "{lines:?}");
    end(child);
}

#[test]
fn a_program_that_is_named_to_confuse_does_not() {
    let rest = |start: &str, end: &str| format!("{} {start} {end} 0", ["S"; ENV_START].join(" "));
    let parse = |name: &str, start, end| parse_range(&format!("1 ({name}) {}", rest(start, end)));
    assert_eq!(parse("aral", "4096", "5000"), Some(4096..5000));
    assert_eq!(parse(") 7 7 (", "4096", "5000"), Some(4096..5000));
    for (start, end) in [
        ("0", "5000"),
        ("5000", "4096"),
        ("4096", "4096"),
        ("x", "5000"),
        ("1", "99999999"),
    ] {
        assert_eq!(parse("aral", start, end), None, "{start} {end}");
    }
    assert_eq!(parse_range("1 (aral) S 1"), None);
    assert_eq!(parse_range(""), None);
}

#[test]
fn names_are_those_that_a_shell_can_set() {
    for bad in ["", "1A", "A-B", "A=B", "A\0", "Ä", &"A".repeat(129)] {
        assert!(!is_name(bad), "{bad:?}");
    }
    assert!(is_name("_a1") && is_name(&"A".repeat(128)));
    // Without names there is nothing to check, so that a process which takes nothing may have threads.
    assert!(take_variables([]).unwrap().is_empty());
}
