//! Variables that the configuration names are taken: no file of `/proc` and no child shows them once the program works, and
//! yet they are used.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::desk::Desk;
use crate::support::guests::*;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SECRET: &str = "secret-of-the-shell";
const KEPT: &str = "nobody-named-this-one";

/// A desk whose configuration names two variables.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "environment": "THE_KEY" } });
        config["secrets"] = json!({ "names": { "shell": "env://THE_SECRET" } });
    });
    desk
}

/// None: the system does not let this user look, since the process keeps secrets.
fn environment(child: &Child) -> Option<String> {
    match std::fs::read(format!("/proc/{}/environ", child.id())) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(error) => panic!("the process runs: {error}"),
    }
}

fn start(desk: &Desk, arguments: &[&str]) -> Child {
    desk.command(arguments)
        .env("THE_KEY", KEY)
        .env("THE_SECRET", SECRET)
        .env("ANOTHER", KEPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What the environment shows when the program waits for its input, which is a moment after it started.
fn shown_while_waiting(child: &Child) -> Option<String> {
    let mut shown = environment(child);
    for _ in 0..200 {
        let is_settled = |shown: &String| shown.contains(KEPT) && !shown.contains(KEY) && !shown.contains(SECRET);
        if shown.as_ref().is_none_or(is_settled) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        shown = environment(child);
    }
    shown
}

#[test]
fn a_running_program_shows_no_variable_that_its_configuration_names() {
    let desk = desk();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for arguments in [
        &["invoke", "runtime-echo-tool", "--input", "-"][..],
        &["memory", "put", "notes", "todo", "-"],
        &["secret", "put", "local", "-"],
    ] {
        let mut child = start(&desk, arguments);
        if let Some(shown) = shown_while_waiting(&child) {
            assert!(
                !shown.contains(KEY) && !shown.contains(SECRET),
                "{arguments:?}: {shown}"
            );
            assert!(shown.contains(KEPT), "{arguments:?}: what nobody named stays: {shown}");
        }
        child.stdin.take().expect("a pipe").write_all(b"{}").expect("it reads");
        let mut words = String::new();
        child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut words)
            .expect("text");
        assert!(child.wait().expect("an end").success(), "{arguments:?}: {words}");
    }
}

#[test]
fn a_program_whose_configuration_names_none_leaves_all_alone() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let mut child = start(&desk, &["invoke", "runtime-echo-tool", "--input", "-"]);
    std::thread::sleep(Duration::from_millis(200));
    assert!(environment(&child).is_none_or(|shown| shown.contains(SECRET)));
    drop(child.stdin.take());
    child.wait().expect("an end");
}

#[test]
fn what_was_taken_is_used() {
    let desk = desk();
    let run = |arguments: &[&str], key: &str| {
        let output = desk
            .command(arguments)
            .env("THE_KEY", key)
            .env("THE_SECRET", SECRET)
            .output()
            .expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    desk.write("value", b"kept under the key of the variable");
    assert_eq!(run(&["memory", "put", "notes", "todo", "@value"], KEY).0, Some(0));
    let get = ["memory", "get", "notes", "todo", "--reveal"];
    assert_eq!(run(&get, KEY).1, "kept under the key of the variable");
    assert_eq!(run(&["secret", "get", "shell", "--reveal"], KEY).1, SECRET);
    let (code, _, words) = run(&get, &KEY.replace("00", "01"));
    assert!(code == Some(2) && words.contains("wants the master key"), "{words}");
    let (code, _, words) = run(&get, "too short");
    assert!(
        code == Some(2) && words.contains("the variable `THE_KEY`") && !words.contains("too short"),
        "{words}"
    );
    let unset = desk.aral(&get);
    unset.assert(
        "not set",
        2,
        &[
            "the variable `THE_KEY` is not set",
            "[memory.master_key] environment names it",
        ],
    );
    let doctor = desk.aral(&["doctor"]).stdout;
    assert!(doctor.contains("not set: THE_SECRET"), "{doctor}");
}
