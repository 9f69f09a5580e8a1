//! Variables that the configuration names are taken, and yet they are used.

use serde_json::json;

use crate::support::desk::Desk;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SECRET: &str = "secret-of-the-shell";

/// A desk whose configuration names two variables.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "environment": "THE_KEY" } });
        config["secrets"] = json!({ "names": { "shell": "env://THE_SECRET" } });
    });
    desk
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
