//! The audit log under stress, through the whole program: killed in the middle of a call, a torn end, a full disk, a flood of
//! denials, and two processes at once.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[cfg(feature = "services")]
use crate::support::desk::program;
use crate::support::desk::{Desk, Run};
use crate::support::guests::*;

/// Everything here takes a second or two; a machine that is busy with other things is given more.
const PATIENCE: Duration = Duration::from_secs(60);

fn segment(desk: &Desk) -> String {
    format!("{}/{:020}.jsonl", desk.path("audit"), 0)
}

fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn records(desk: &Desk, kind: &str) -> Vec<Value> {
    let run = desk.aral(&["audit", "query", "--json", "--type", kind]);
    assert_eq!(run.code, 0, "{run:#?}");
    run.object()["records"].as_array().expect("records").clone()
}

fn assert_good(desk: &Desk) {
    let run = desk.aral(&["audit", "verify", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
}

/// What a script says that may mount what it likes. `$ARAL` is the program and `$GUEST` a capability that answers.
#[cfg(feature = "services")]
fn said_with_own_mounts(desk: &Desk, script: &str) -> String {
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .current_dir(desk.root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", desk.root())
        .env("ARAL", program())
        .env("GUEST", RUNTIME_ECHO_TOOL.id())
        .output()
        .expect("a namespace of mounts");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_host_that_is_killed_in_a_call_leaves_the_intent_and_the_next_goes_on() {
    let desk = Desk::new();
    desk.guest(RUNTIME_INFINITE_LOOP, |_| ());
    for round in 1..=3 {
        let mut child = desk
            .command(&["invoke", &RUNTIME_INFINITE_LOOP.id(), "--input", "{}"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let begun = || {
            let log = std::fs::read_to_string(segment(&desk)).unwrap_or_default();
            log.matches("\"type\":\"invocation_started\"").count()
        };
        wait(|| begun() == round);
        child.kill().expect("it runs");
        child.wait().expect("an end");
        assert_good(&desk);
    }
    assert_eq!(records(&desk, "invocation_started").len(), 3);
    assert!(records(&desk, "invocation").is_empty(), "none of them ended");
    // What was being written when it died.
    let whole = std::fs::read_to_string(segment(&desk)).expect("a log");
    std::fs::write(segment(&desk), format!("{whole}{{\"seq\":9999,\"prev\":\"00")).expect("a log");
    let input = r#"{"rounds":1}"#;
    desk.invoke(RUNTIME_INFINITE_LOOP, input)
        .assert("the next call", 0, &["receipt   record "]);
    assert_good(&desk);
    let opened = records(&desk, "log_opened");
    let last = &opened.last().expect("it was opened")["event"];
    assert_eq!(
        (&last["cut_bytes"], &last["clean"]),
        (&json!(22), &json!(false)),
        "{last}"
    );
    let kept = desk.path(&format!("audit/{}", last["cut_file"].as_str().expect("a file")));
    assert_eq!(
        std::fs::read_to_string(kept).expect("what was cut"),
        "{\"seq\":9999,\"prev\":\"00"
    );
}

#[cfg(feature = "services")]
#[test]
fn on_a_full_disk_nothing_runs_unrecorded_and_with_room_everything_does() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let script = r#"
        set -e
        mkdir -m 700 audit
        mount -t tmpfs -o size=512k,mode=700 tmpfs audit
        call() { "$ARAL" invoke "$GUEST" --input '[1]' >out 2>err && echo 0 || echo $?; }
        call
        dd if=/dev/zero of=audit/filler bs=4096 2>/dev/null || true
        for round in $(seq 40); do
            code=$(call)
            [ "$code" = 0 ] || break
        done
        echo "$code"
        cat err
        echo "again $(call)"
        rm audit/filler
        echo "with room $(call)"
        "$ARAL" audit verify
    "#;
    let said = said_with_own_mounts(&desk, script);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["0", "8"], "{said}");
    assert!(said.contains("audit.unavailable") && said.contains("hint: "), "{said}");
    assert!(
        said.contains("\nagain 8\n") && said.contains("\nwith room 0\n"),
        "{said}"
    );
    assert!(said.contains("verdict      good"), "{said}");
}

/// Whoever supervises the host tries again then, and does not with a configuration that is wrong.
#[cfg(feature = "services")]
#[test]
fn a_host_that_finds_no_room_for_its_log_at_the_start_says_so_and_not_that_its_configuration_is_wrong() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.configure(|config| {
        config["state_dir"] = json!("full/state");
        // The key of the shared one is in the folder of state of the other tests.
        config["runtime"]["cache_dir"] = json!("cache");
    });
    let script = r#"
        set -e
        mkdir -m 700 full
        mount -t tmpfs -o size=512k,mode=700 tmpfs full
        mkdir -m 700 full/state
        dd if=/dev/zero of=full/filler bs=4096 2>/dev/null || true
        call() { "$ARAL" invoke "$GUEST" --input '[1]' >out 2>err && echo 0 || echo $?; }
        echo "full $(call)"
        cat err
        rm full/filler
        echo "with room $(call)"
        mount -o remount,ro full
        echo "read-only $(call)"
        cat err
    "#;
    let said = said_with_own_mounts(&desk, script);
    for part in [
        "full 8\n",
        "(audit.unavailable)",
        "full/state/audit.",
        "hint: make room",
        "with room 0\n",
        "read-only 8\n",
    ] {
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    assert!(!said.contains("config.invalid"), "{said}");
}

#[test]
fn a_flood_of_denials_of_one_guest_is_counted() {
    let desk = Desk::new();
    let programs = json!([{ "path": "/usr/bin/head", "args": ["-c", "{integer}"] }]);
    desk.guest(ISOLATION_EXEC, |entry| {
        entry["permissions"] = json!({ "exec": { "programs": programs } })
    });
    let runs: Vec<Value> = (0..50)
        .map(|number| json!({ "program": format!("/bin/{number}"), "arguments": [], "stdin": "" }))
        .collect();
    let input = json!({ "runs": runs }).to_string();
    desk.configure(|config| {
        config["audit"]["repeats_max"] = json!(3);
        config["policy"]["exec"] = json!({ "programs": programs });
    });
    let run: Run = desk.invoke(ISOLATION_EXEC, &input);
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
    let denied = |record: &&Value| record["event"]["allowed"] == false;
    let shown = records(&desk, "host_call").iter().filter(denied).count();
    let counted: u64 = records(&desk, "repeated")
        .iter()
        .map(|record| record["event"]["count"].as_u64().expect("a number"))
        .sum();
    assert_eq!((shown, counted), (3, 47));
    assert_good(&desk);
}

#[test]
fn calls_at_once_follow_one_another_into_one_log() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.invoke(RUNTIME_ECHO_TOOL, "[0]").assert("warm", 0, &[]);
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = desk.command(&["invoke", &RUNTIME_ECHO_TOOL.id(), "--input", "[1]"]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program starts")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("an end").success());
    }
    assert_eq!(records(&desk, "invocation").len(), 5);
    assert_good(&desk);
}
