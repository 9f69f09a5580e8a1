//! `aral secret` as an operator types it: what is stored is told where it is, and shown to nobody who did not ask.

use serde_json::json;

use crate::support::desk::{Desk, Run};

/// Stands in no message, no matter what.
const VALUE: &str = "hunter2-hunter2-hunter2";

/// A desk with a store, and one secret that is elsewhere.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.aral(&["memory", "keygen", "master.key"]).assert("keygen", 0, &[]);
    desk.configure(|config| {
        config["memory"] = json!({ "dir": "store", "master_key": { "file": "master.key" } });
        config["secrets"] = json!({ "names": { "from-shell": "env://FROM_SHELL", "alias": "local://github" } });
    });
    desk
}

fn put(desk: &Desk, name: &str, value: &str) -> Run {
    desk.feed(&["secret", "put", name], value.as_bytes())
}

fn reveal(desk: &Desk, name: &str) -> Run {
    desk.aral(&["secret", "get", name, "--reveal"])
}

#[test]
fn storing_tells_the_reference_and_only_reveal_the_value() {
    let desk = desk();
    let stored = put(&desk, "github", VALUE);
    stored.assert("put", 0, &[]);
    assert_eq!(stored.stdout, "stored github at local://github\n");
    for arguments in [
        &["secret", "get", "github"][..],
        &["secret", "get", "github", "--json"],
        &["secret", "list", "-vvv"],
        &["secret", "get", "github", "--out", "value"],
        &["memory", "list", "secrets"],
        &["memory", "stats"],
    ] {
        let run = desk.aral(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
        assert!(!format!("{run:?}").contains(VALUE), "{arguments:?}: {run:#?}");
    }
    assert_eq!(std::fs::read_to_string(desk.path("value")).expect("a file"), VALUE);
    assert_eq!(reveal(&desk, "github").stdout, VALUE);
    assert_eq!(reveal(&desk, "alias").stdout, VALUE, "two names of one secret");
    let object = desk.aral(&["secret", "get", "alias", "--json"]).object();
    assert_eq!(object, json!({"name": "alias", "reference": "local://github"}));
    desk.aral(&["secret", "get", "nothing"]).assert(
        "not there",
        6,
        &[
            "there is no secret `nothing`",
            "aral secret put nothing",
            "(record.unknown)",
        ],
    );
    reveal(&desk, "nothing").assert(
        "not there",
        6,
        &["there is no secret at `local://nothing`", "(record.unknown)"],
    );
}

#[test]
fn one_line_end_is_no_part_of_a_secret_unless_it_is() {
    let desk = desk();
    put(&desk, "a", "value\n").assert("put", 0, &[]);
    assert_eq!(reveal(&desk, "a").stdout, "value");
    desk.feed(&["secret", "put", "a", "--exact"], b"value\n")
        .assert("put", 0, &[]);
    assert_eq!(reveal(&desk, "a").stdout, "value\n");
    desk.write("file", b"\xff\x00binary\r\n");
    desk.aral(&["secret", "put", "a", "@file"]).assert("put", 0, &[]);
    let output = desk
        .command(&["secret", "get", "a", "--reveal"])
        .output()
        .expect("an end");
    assert_eq!(output.stdout, b"\xff\x00binary");
}

#[test]
fn a_secret_has_a_size() {
    let desk = desk();
    put(&desk, "empty", "").assert("empty", 6, &["a secret has 1 to 65536 bytes", "(input.invalid)"]);
    put(&desk, "empty", "\n").assert("a line end alone", 6, &["a secret has 1 to 65536 bytes"]);
    put(&desk, "large", &"x".repeat(65537)).assert("large", 6, &["a secret has 1 to 65536 bytes"]);
    put(&desk, "large", &"x".repeat(65536)).assert("as large as may be", 0, &[]);
    let too_large = |what: &str| format!("{what} has more than 65536 bytes");
    put(&desk, "huge", &"x".repeat(70000)).assert("huge", 6, &[&too_large("standard input"), "(input.too_large)"]);
    desk.write("big", &[b'x'; 65_539]);
    let big = |more: &[&str]| desk.aral(&[&["secret", "put", "huge", "@big"][..], more].concat());
    big(&[]).assert("a file", 6, &[&too_large("`big`")]);
    big(&["--exact"]).assert("a file, byte for byte", 6, &[&too_large("`big`")]);
}

#[test]
fn a_secret_that_no_header_can_carry_is_stored_with_a_warning() {
    let desk = desk();
    let warning = "no request can carry it in a header: ";
    for (value, why) in [("tiny", "shorter than 12 bytes"), ("twelve bytes\n\n", "a line end")] {
        let stored = put(&desk, "token", value);
        stored.assert("put", 0, &["warning:", warning, why]);
        assert!(!stored.stderr.contains(value.trim()), "{stored:?}");
    }
    let rotated = desk.feed(&["secret", "rotate", "token", "--json"], "x".repeat(8193).as_bytes());
    rotated.assert("rotate", 0, &[warning, "longer than 8192 bytes"]);
    assert!(!put(&desk, "token", VALUE).stderr.contains(warning));
}

#[test]
fn rotating_needs_a_secret_and_another_value() {
    let desk = desk();
    let rotate = |value: &str| desk.feed(&["secret", "rotate", "github"], value.as_bytes());
    let step = "hint: see which there are: `aral secret list`; or store it: `aral secret put github`";
    rotate(VALUE).assert(
        "nothing to rotate",
        6,
        &["there is no secret at `local://github`", step],
    );
    desk.aral(&["secret", "delete", "github"])
        .assert("nothing to delete", 6, &[step]);
    put(&desk, "github", VALUE).assert("put", 0, &[]);
    let same = rotate(VALUE);
    same.assert("the same value", 2, &["the new value is the one that is there"]);
    assert!(!format!("{same:?}").contains(VALUE), "{same:#?}");
    assert_eq!(rotate("another value").stdout, "rotated github at local://github\n");
    assert_eq!(reveal(&desk, "github").stdout, "another value");
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let desk = desk();
    for verb in ["put", "rotate"] {
        let run = desk.aral(&["secret", verb, "github", VALUE]);
        run.assert(verb, 2, &["a value is not taken from the command line", "change it"]);
        assert!(!format!("{run:?}").contains(VALUE), "{run:#?}");
    }
}

#[test]
fn the_listing_has_every_name_and_no_value() {
    let desk = desk();
    for name in ["b", "a"] {
        put(&desk, name, VALUE).assert("put", 0, &[]);
    }
    let run = desk.aral(&["secret", "list", "--json"]);
    let mut found: Vec<(String, String)> = run.object()["secrets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let text = |member: &str| one[member].as_str().expect("a text").to_owned();
            (text("name"), text("reference"))
        })
        .collect();
    found.sort();
    let expected = [
        ("a", "local://a"),
        ("alias", "local://github"),
        ("b", "local://b"),
        ("from-shell", "env://FROM_SHELL"),
    ];
    assert_eq!(
        found,
        expected.map(|(name, reference)| (name.to_owned(), reference.to_owned()))
    );
    let lines = desk.aral(&["secret", "list"]).stdout;
    assert!(
        lines.contains("from-shell  env://FROM_SHELL\n") && lines.lines().count() == 4,
        "{lines}"
    );
}

#[test]
fn what_an_operator_does_is_an_event_without_values() {
    let desk = desk();
    let run = desk.feed(&["secret", "put", "github", "-v"], VALUE.as_bytes());
    run.assert(
        "put",
        0,
        &["secret_access", "\"operation\":\"write\"", "\"capability\":null"],
    );
    assert!(!run.stderr.contains(VALUE), "{run:#?}");
    let run = desk.aral(&["secret", "get", "github", "--reveal", "-v"]);
    run.assert("get", 0, &["\"operation\":\"reveal\""]);
    assert!(!run.stderr.contains(VALUE), "{run:#?}");
    let run = desk.aral(&["secret", "get", "github", "-v"]);
    assert!(
        !run.stderr.contains("secret_access"),
        "where it is, is no secret: {run:#?}"
    );
}

#[test]
fn without_a_place_for_secrets_there_are_none() {
    let desk = desk();
    desk.configure(|_| ());
    put(&desk, "a", VALUE).assert(
        "nothing is configured",
        2,
        &["neither [memory] nor [secrets]", "aral memory keygen"],
    );
    desk.configure(|config| config["secrets"] = json!({ "names": { "shell": "env://SHELL_SECRET" } }));
    reveal(&desk, "a").assert(
        "no store",
        6,
        &[
            "there is no secret `a`",
            "hint: aral.toml, [secrets.names]: a =",
            "have a store for it: `aral memory keygen master.key`",
        ],
    );
    put(&desk, "a", VALUE).assert(
        "no store to put it in",
        2,
        &[
            "there is no local store; add `[memory]` to aral.toml",
            "(config.invalid)",
        ],
    );
    reveal(&desk, "shell").assert("not set", 6, &["there is no secret at `env://SHELL_SECRET`"]);
    put(&desk, "shell", VALUE).assert("read-only", 2, &["is refused"]);
    // The server is on this machine, and nobody listens.
    desk.configure(|config| {
        config["secrets"] = json!({
            "names": { "remote": "vault://secret/a#b" },
            "vault": { "address": "http://127.0.0.1:1", "token_file": "token", "timeout_ms": 2000 },
        });
    });
    desk.write("token", b"t0ken");
    desk.private("token");
    let refused = reveal(&desk, "remote");
    refused.assert(
        "nobody answers",
        8,
        &["the secret at `vault://secret/a#b` is unavailable"],
    );
    let doctor = desk.aral(&["doctor"]);
    assert!(
        doctor.code == 2 && doctor.stdout.contains("FAIL  secrets"),
        "{doctor:#?}"
    );
    assert!(!format!("{refused:?}{doctor:?}").contains("t0ken"));
    desk.configure(|config| {
        config["secrets"] = json!({ "vault": { "address": "http://vault.example", "token_file": "token" } });
    });
    reveal(&desk, "remote").assert("not on this machine", 2, &["[secrets.vault]", "https://"]);
}
