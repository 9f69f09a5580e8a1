//! The three yeses on the command line: everything is allowed, one line goes, and the same call ends otherwise.

use serde_json::{Value, json};

use crate::support::desk::{Desk, Run};
use crate::support::guests::*;
use crate::support::setup;

/// A document as it is written by hand: only what this call needs, each on a line of its own.
struct Yeses {
    permissions: Value,
    persona: Value,
    policy: Value,
}

/// Which line goes: a JSON pointer to what holds it, and its key.
type Line = (&'static str, &'static str);

fn remove(document: &mut Value, (holder, key): Line) {
    let holder = document.pointer_mut(holder).expect("the holder is there");
    let members = holder.as_object_mut().expect("an object");
    assert!(members.remove(key).is_some(), "`{key}` is there");
}

fn call(guest: Guest, yeses: &Yeses, input: &str) -> Run {
    let desk = Desk::new();
    desk.write("data/data.txt", b"data");
    let policy = yeses.policy.to_string().replace("ROOT", &desk.root());
    let permissions = yeses.permissions.to_string().replace("ROOT", &desk.root());
    desk.guest(guest, |entry| {
        entry["permissions"] = serde_json::from_str(&permissions).expect("JSON")
    });
    desk.persona(&json!({ "id": "tester", "name": "Tester", "constraints": yeses.persona }));
    desk.configure(|config| config["policy"] = serde_json::from_str(&policy).expect("JSON"));
    desk.invoke(guest, input)
}

fn reading() -> Yeses {
    Yeses {
        permissions: json!({ "file:read": { "paths": [{ "guest": "/data", "host": "ROOT/data" }] } }),
        persona: json!({ "allowed_permissions": ["file:read"], "allowed_capabilities": ["filesystem-read"] }),
        policy: json!({
            "permissions": ["file:read"],
            "capabilities": ["filesystem-read"],
            "file": { "read_roots": ["ROOT"] },
        }),
    }
}

fn running() -> Yeses {
    let programs = json!([{ "path": "/usr/bin/head", "args": ["-c", "{integer}"] }]);
    Yeses {
        permissions: json!({ "exec": { "programs": programs } }),
        persona: json!({ "allowed_permissions": ["exec"], "allowed_capabilities": ["isolation-exec"] }),
        policy: json!({
            "permissions": ["exec"],
            "capabilities": ["isolation-exec"],
            "exec": { "programs": programs },
        }),
    }
}

const READ: &str = r#"{"paths":["/data/data.txt"]}"#;
const HEAD: &str = r#"{"runs":[{"program":"/usr/bin/head","arguments":["-c","2"],"stdin":"four"}]}"#;

#[test]
fn with_every_line_the_calls_succeed() {
    let read = call(FILESYSTEM_READ, &reading(), READ);
    read.assert("reading", 0, &["granted   file:read /data"]);
    assert!(read.stdout.contains(r#""text":"data""#), "{read:?}");
    let ran = call(ISOLATION_EXEC, &running(), HEAD);
    ran.assert("running", 0, &["granted   exec /usr/bin/head -c {integer}"]);
    assert!(ran.stdout.contains(r#""stdout":"fo""#), "{ran:?}");
}

#[test]
fn one_line_less_in_the_manifest() {
    let mut yeses = reading();
    remove(&mut yeses.permissions, ("", "file:read"));
    let run = call(FILESYSTEM_READ, &yeses, READ);
    run.assert("no folder", 0, &["granted   nothing"]);
    assert!(!run.stdout.contains(r#""text""#), "{run:?}");

    let mut yeses = running();
    remove(&mut yeses.permissions, ("", "exec"));
    call(ISOLATION_EXEC, &yeses, HEAD).assert(
        "no program",
        7,
        &[
            "imports `aral:capability/exec@1.0.0`, which needs exec",
            "(component.import_uncovered)",
            "hint: add to capability.toml, with your own values:",
            "[permissions.exec]",
        ],
    );
}

#[test]
fn one_line_less_in_the_persona() {
    for (line, hint) in [
        (
            ("", "allowed_permissions"),
            r#"hint: persona, constraints: "allowed_permissions": ["#,
        ),
        (
            ("", "allowed_capabilities"),
            r#"hint: persona, constraints: "allowed_capabilities": ["#,
        ),
    ] {
        for (guest, mut yeses, input) in [(FILESYSTEM_READ, reading(), READ), (ISOLATION_EXEC, running(), HEAD)] {
            remove(&mut yeses.persona, line);
            let run = call(guest, &yeses, input);
            run.assert(
                line.1,
                3,
                &["may not run: the persona does not", "(permission.denied)", hint],
            );
        }
    }
}

#[test]
fn one_line_less_in_the_policy() {
    let both = [("", "permissions"), ("", "capabilities")];
    let hints = [
        r#"hint: aral.toml, [policy]: permissions = ["#,
        r#"hint: aral.toml, [policy]: capabilities = ["#,
    ];
    let mut cases: Vec<(Guest, Yeses, &str, Line, &str)> = Vec::new();
    for (line, hint) in both.into_iter().zip(hints) {
        cases.push((FILESYSTEM_READ, reading(), READ, line, hint));
        cases.push((ISOLATION_EXEC, running(), HEAD, line, hint));
    }
    cases.push((
        FILESYSTEM_READ,
        reading(),
        READ,
        ("/file", "read_roots"),
        "hint: aral.toml, [policy.file]: read_roots = [",
    ));
    cases.push((
        ISOLATION_EXEC,
        running(),
        HEAD,
        ("/exec", "programs"),
        "hint: aral.toml, [policy.exec]: programs = [",
    ));
    for (guest, mut yeses, input, line, hint) in cases {
        remove(&mut yeses.policy, line);
        let run = call(guest, &yeses, input);
        run.assert(
            &format!("{line:?}"),
            3,
            &["may not run: the policy does not", "(permission.denied)", hint],
        );
    }
}

#[test]
fn explain_shows_what_invoke_would_decide() {
    let desk = Desk::new();
    desk.guest(ISOLATION_EXEC, |entry| entry["permissions"] = running().permissions);
    let explain = |arguments: &[&str]| desk.aral(&[&["explain", "isolation-exec"], arguments].concat());
    desk.configure(|config| config["policy"] = running().policy);
    let granted = explain(&[]);
    granted.assert("granted", 0, &[]);
    for part in ["/usr/bin/head", "│ exec", "yes", "granted, grant "] {
        assert!(granted.stdout.contains(part), "`{part}` is not in {granted:#?}");
    }
    desk.configure(|config| {
        config["policy"] = running().policy;
        config["policy"]["permissions"] = json!([]);
    });
    let denied = explain(&["--json"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    let object: Value = serde_json::from_str(&denied.stdout).expect("one object");
    assert_eq!(object["granted"], false);
    let rows = object["decision"]["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["subject"] == "exec").expect("a row");
    assert_eq!(
        (&row["persona"]["verdict"], &row["policy"]["verdict"]),
        (&json!("yes"), &json!("no"))
    );
    desk.invoke(ISOLATION_EXEC, HEAD)
        .assert("and invoke agrees", 3, &["(permission.denied)"]);
}

#[test]
fn an_unsigned_persona_needs_the_flag_and_is_warned_about_each_time() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    std::fs::remove_file(desk.path("persona.json")).expect("it was there");
    let id = RUNTIME_ECHO_TOOL.id();
    let wrote = desk.aral(&["persona", "new", "--id", "me", "--allow-capability", &id]);
    wrote.assert("persona new", 0, &["`--development` only"]);
    desk.aral(&["persona", "new", "--id", "me"])
        .assert("not twice", 2, &["exists already"]);
    desk.invoke(RUNTIME_ECHO_TOOL, "{}").assert(
        "without the flag",
        7,
        &["error: `persona.json`: the persona is not signed", "`--development`"],
    );
    for _ in 0..2 {
        let run = desk.aral(&["invoke", &id, "--development", "--quiet"]);
        run.assert(
            "with the flag",
            0,
            &["warning: only development allows this: persona `me` without a signature"],
        );
        assert_eq!(run.stdout, "{}\n");
    }
    desk.persona(&setup::persona());
    let signed = desk.aral(&["invoke", &id, "--development", "--quiet"]);
    signed.assert("a signed one is not warned about", 0, &[]);
    assert_eq!(signed.stderr, "");
}
