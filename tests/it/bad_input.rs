//! Bad input gets a clear error and nothing lost: each case asserts what the person reads and what the script sees.

use aral_contract::document::PrivateKey;
use aral_contract::document::signed::{self, Header, Kind};
use aral_contract::limits::{COMPONENT_BYTES_MAX, JSON_DEPTH_MAX};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::setup;

const GUEST: Guest = RUNTIME_ECHO_TOOL;

/// A desk on which the guest works, as the first call shows.
fn working() -> Desk {
    let desk = Desk::new();
    desk.guest(GUEST, |_| ());
    let run = desk.invoke(GUEST, r#"{"a":1}"#);
    run.assert("nothing is wrong yet", 0, &[]);
    assert_eq!(run.stdout.trim(), r#"{"a":1}"#);
    desk
}

/// Invokes the guest, which must fail, and then on a desk where all is well, which must not.
fn check(case: &str, desk: &Desk, code: i32, parts: &[&str]) {
    desk.invoke(GUEST, "{}").assert(case, code, parts);
}

fn manifest_of(entry: &Value, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document = setup::sign(Kind::Manifest, &json!({ "capabilities": [entry] }), &setup::key());
    change(&mut document);
    document.to_string().into_bytes()
}

#[test]
fn a_key_that_is_wrong_or_absent() {
    let desk = working();
    let other = PrivateKey::from_seed(&Zeroizing::new([7; 32]));
    let body = json!({ "capabilities": [setup::entry(GUEST)] });
    desk.write(
        "manifest.json",
        setup::sign(Kind::Manifest, &body, &other).to_string().as_bytes(),
    );
    let id = other.public().id().to_string();
    check(
        "a stranger's key",
        &desk,
        7,
        &[
            &format!("manifest.json`: the manifest is signed by key `{id}`, which is not trusted (signature.invalid)"),
            "hint: add to aral.toml, [[trust]]: public_key = ",
        ],
    );

    desk.guest(GUEST, |_| ());
    desk.configure(|config| config["trust"][0]["kinds"] = json!(["persona"]));
    check(
        "a key for another kind",
        &desk,
        7,
        &["which is not trusted for this kind of document (signature.invalid)"],
    );

    desk.configure(|config| config["trust"] = json!([]));
    check("no key", &desk, 7, &["which is not trusted (signature.invalid)"]);

    desk.configure(|config| config["trust"][0]["public_key"] = json!("nowhere.pub.pem"));
    check(
        "a key file that is not there",
        &desk,
        2,
        &["nowhere.pub.pem", "(config.invalid)"],
    );

    desk.write("rubbish.pub.pem", b"rubbish");
    desk.configure(|config| config["trust"][0]["public_key"] = json!("rubbish.pub.pem"));
    check(
        "a key file that holds none",
        &desk,
        2,
        &[
            "not an Ed25519 public key in PEM",
            "hint: make a pair of keys: `aral keygen`",
        ],
    );

    desk.write(
        "manifest.json",
        &manifest_of(&setup::entry(GUEST), |document| {
            document.as_object_mut().unwrap().remove("signature");
        }),
    );
    desk.configure(|_| ());
    check(
        "no signature",
        &desk,
        7,
        &[
            "manifest.json`: the manifest is not signed (signature.invalid)",
            "hint: sign it: `aral manifest sign`",
        ],
    );

    let run = desk.aral(&["manifest", "sign", "manifest.json", "--key", "nowhere.pem"]);
    run.assert("signing without a key", 2, &["nowhere.pem", "(config.invalid)"]);
    desk.write("wide.pem", setup::key().to_pem().unwrap().as_bytes());
    let run = desk.aral(&["manifest", "sign", "manifest.json", "--key", "wide.pem"]);
    run.assert(
        "a private key that others can read",
        2,
        &["`wide.pem` has mode 0644", "chmod 600 wide.pem"],
    );
    let run = desk.aral(&["manifest", "sign", "manifest.json", "--key", "key.pem", "--serial", "1"]);
    run.assert("signing with the key", 0, &[]);
    check("signed again", &desk, 0, &[]);
}

#[test]
fn a_manifest_that_is_expired_early_or_tampered_with() {
    let desk = working();
    let signed_from_to = |issued_at: &str, expires_at: &str| {
        let header = Header {
            schema: Kind::Manifest.schema().to_owned(),
            serial: 1,
            issued_at: issued_at.parse().unwrap(),
            expires_at: expires_at.parse().unwrap(),
        };
        let body = json!({ "capabilities": [setup::entry(GUEST)] });
        signed::sign(Kind::Manifest, &header, &body, &setup::key())
            .unwrap()
            .to_string()
            .into_bytes()
    };
    desk.write(
        "manifest.json",
        &signed_from_to("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
    );
    check(
        "expired",
        &desk,
        7,
        &[
            "manifest.json`: the manifest expired at 2021-01-01T00:00:00Z; it is 20",
            "(document.stale)",
            "hint: issue it again with a higher serial: `aral manifest sign`",
        ],
    );
    desk.write(
        "manifest.json",
        &signed_from_to("2090-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    );
    check(
        "not valid yet",
        &desk,
        7,
        &[
            "manifest.json`: the manifest is not valid before 2090-01-01T00:00:00Z; it is 20",
            "(document.stale)",
        ],
    );

    for (case, change) in [
        (
            "a word of the description",
            json!(["/capabilities/0/description", "harmless"]),
        ),
        ("the component", json!(["/capabilities/0/component", "00".repeat(32)])),
        ("the serial", json!(["/serial", 2])),
        ("the end", json!(["/expires_at", "2099-12-31T00:00:00Z"])),
        (
            "a permission",
            json!(["/capabilities/0/permissions", { "network:read": { "hosts": ["*"] } }]),
        ),
    ] {
        let bytes = manifest_of(&setup::entry(GUEST), |document| {
            *document.pointer_mut(change[0].as_str().unwrap()).unwrap() = change[1].clone();
        });
        desk.write("manifest.json", &bytes);
        check(
            case,
            &desk,
            7,
            &[
                "manifest.json`: the signature of the manifest by key",
                "the document was changed after it was signed (signature.invalid)",
            ],
        );
    }
}

#[test]
fn an_older_serial_is_refused_after_a_newer_one() {
    let desk = Desk::new();
    // A memory of its own: what other tests have admitted is none of its business.
    desk.configure(|config| config["state_dir"] = json!("state"));
    desk.guest(GUEST, |_| ());
    for (serial, code, parts) in [
        ("5", 0, &[][..]),
        ("5", 0, &[]),
        (
            "4",
            7,
            &[
                "the manifest has serial 4, and `runtime-echo-tool` was admitted before with serial 5 by key",
                "(document.stale)",
            ],
        ),
        ("6", 0, &[]),
    ] {
        desk.aral(&[
            "manifest",
            "sign",
            "manifest.json",
            "--key",
            "key.pem",
            "--serial",
            serial,
        ])
        .assert("signing", 0, &[]);
        check(&format!("serial {serial}"), &desk, code, parts);
    }
}

#[test]
fn members_that_are_unknown_twice_or_wrong() {
    let desk = working();
    let mut entry = setup::entry(GUEST);
    entry["permission"] = json!({});
    desk.manifest(&[entry]);
    check(
        "an unknown member of an entry",
        &desk,
        7,
        &[
            "the manifest has a wrong member: unknown field `permission`",
            "(document.invalid)",
        ],
    );

    let mut entry = setup::entry(GUEST);
    entry["permissions"] = json!({ "network:everything": { "hosts": ["*"] } });
    desk.manifest(&[entry]);
    check(
        "an unknown permission",
        &desk,
        7,
        &["unknown field `network:everything`"],
    );

    let mut entry = setup::entry(GUEST);
    entry["limits"] = json!({ "memory_mb": 5 });
    desk.manifest(&[entry]);
    check("an unknown limit", &desk, 7, &["unknown field `memory_mb`"]);

    let body = json!({ "capabilities": [setup::entry(GUEST)], "comment": "x" });
    desk.write(
        "manifest.json",
        setup::sign(Kind::Manifest, &body, &setup::key()).to_string().as_bytes(),
    );
    check(
        "an unknown member of the manifest",
        &desk,
        7,
        &["unknown field `comment`"],
    );

    let text = String::from_utf8(manifest_of(&setup::entry(GUEST), |_| ())).unwrap();
    desk.write(
        "manifest.json",
        text.replacen("\"serial\":1", "\"serial\":1,\"serial\":1", 1).as_bytes(),
    );
    check(
        "a member twice",
        &desk,
        7,
        &["manifest.json`: the manifest is", "`serial`", "(document.invalid)"],
    );
    desk.write(
        "manifest.json",
        text.replacen("\"title\":", "\"title\":\"x\",\"title\":", 1).as_bytes(),
    );
    check("a nested member twice", &desk, 7, &["`title`", "(document.invalid)"]);
    desk.write("manifest.json", &text.as_bytes()[..text.len() / 2]);
    check(
        "half a manifest",
        &desk,
        7,
        &["manifest.json`: the manifest is", "(document.invalid)"],
    );
    desk.write("manifest.json", b"");
    check("an empty manifest", &desk, 7, &["(document.invalid)"]);

    desk.write("manifest.json", text.as_bytes());
    let persona = setup::sign(Kind::Persona, &setup::persona(), &setup::key()).to_string();
    desk.write("persona.json", persona.replacen("\"name\":", "\"nome\":", 1).as_bytes());
    check("a persona with another member", &desk, 7, &["persona", "signature"]);
    std::fs::remove_file(desk.path("persona.json")).unwrap();
    check("no persona", &desk, 2, &["persona.json"]);
    std::fs::remove_file(desk.path("manifest.json")).unwrap();
    check("no manifest", &desk, 2, &["manifest.json"]);
}

#[test]
fn a_configuration_with_a_wrong_key() {
    let desk = working();
    desk.configure(|config| config["polcy"] = json!({}));
    check(
        "an unknown section",
        &desk,
        2,
        &[
            "unknown field `polcy`",
            "hint: did you mean `policy`?",
            "(config.invalid)",
        ],
    );
    desk.configure(|config| config["policy"]["permissions"] = json!(["network"]));
    check("an unknown permission", &desk, 2, &["`network` is not a permission"]);
    desk.configure(|config| config["policy"]["limits"] = json!({ "memory": 1 }));
    check("an unknown limit", &desk, 2, &["unknown field `memory`"]);
    desk.configure(|_| ());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(desk.path("aral.toml"), mode).unwrap();
    check(
        "a configuration that others can write",
        &desk,
        2,
        &["aral.toml", "hint: chmod"],
    );
}

#[test]
fn a_component_that_is_another() {
    let desk = working();
    let digest = setup::entry(GUEST)["component"].as_str().unwrap().to_owned();
    desk.write(&format!("components/{digest}.wasm"), &RUNTIME_PANIC.bytes());
    check(
        "another component",
        &desk,
        7,
        &[
            "manifest.json`: the component of `runtime-echo-tool` 1.0.0 has SHA-256",
            &format!("and the manifest names {digest} (component.digest_mismatch)"),
        ],
    );
    let mut bytes = GUEST.bytes();
    *bytes.last_mut().unwrap() ^= 1;
    desk.write(&format!("components/{digest}.wasm"), &bytes);
    check("one bit", &desk, 7, &["(component.digest_mismatch)"]);
    std::fs::remove_file(desk.path(&format!("components/{digest}.wasm"))).unwrap();
    check(
        "no component",
        &desk,
        2,
        &[
            "the component of `runtime-echo-tool` 1.0.0 is not there",
            &format!("components/{digest}.wasm"),
        ],
    );
}

/// Puts these bytes behind a signed manifest and beside it, and asks every verb that reads components.
fn check_component(case: &str, bytes: &[u8], code: i32, parts: &[&str]) {
    let desk = Desk::new();
    let digest = desk.component(bytes);
    let mut entry = setup::entry(GUEST);
    entry["component"] = json!(digest);
    desk.manifest(&[entry]);
    check(&format!("{case}: invoke"), &desk, code, parts);
    desk.write("it.wasm", bytes);
    desk.aral(&["inspect", "it.wasm"])
        .assert(&format!("{case}: inspect"), code, parts);
    desk.aral(&["run", "it.wasm", "--development"])
        .assert(&format!("{case}: run"), code, parts);
}

#[test]
fn a_component_that_is_none() {
    let whole = GUEST.bytes();
    check_component("cut off", &whole[..whole.len() / 2], 7, &["(component.invalid)"]);
    check_component("cut off in the header", &whole[..6], 7, &["(component.invalid)"]);
    check_component("empty", b"", 7, &["(component.invalid)"]);
    check_component("text", b"#!/bin/sh\n", 7, &["(component.invalid)"]);
    // The smallest core module: magic and version 1.
    check_component(
        "a core module",
        b"\0asm\x01\0\0\0",
        7,
        &["core module", "(component.invalid)"],
    );
    // An object file, which is what precompiled code is kept in.
    check_component(
        "precompiled code",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        7,
        &["(component.invalid)"],
    );
}

#[test]
fn a_component_of_a_hundred_megabytes() {
    let bytes = vec![0; 100 << 20];
    check_component(
        "100 MB",
        &bytes,
        7,
        &["(component.too_large)", &COMPONENT_BYTES_MAX.to_string()],
    );
}

#[test]
fn a_component_of_an_unknown_world() {
    let desk = Desk::new();
    // A valid component that exports nothing.
    let bytes = b"\0asm\x0d\0\x01\0";
    let mut entry = setup::entry(GUEST);
    entry["component"] = json!(desk.component(bytes));
    desk.manifest(&[entry]);
    check(
        "exports nothing",
        &desk,
        7,
        &[
            "exports neither a tool nor a command",
            "hint: it exports nothing; export `aral:capability/tool@1.0.0`",
        ],
    );
    desk.write("it.wasm", bytes);
    desk.aral(&["run", "it.wasm", "--development"])
        .assert("run", 7, &["neither a tool nor a command"]);

    desk.guest(GUEST, |entry| entry["shape"] = json!("command"));
    check(
        "the other shape",
        &desk,
        7,
        &[
            "is declared as a command",
            "hint: write in capability.toml: shape = \"tool\"",
        ],
    );
}

#[test]
fn input_that_is_refused() {
    let desk = Desk::new();
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "maxLength": 5 } },
        "required": ["name"],
        "additionalProperties": false,
    });
    desk.guest(GUEST, |entry| {
        entry["input_schema"] = schema;
        entry["limits"] = json!({ "input_bytes": 100 });
    });
    let deep = format!(
        "{{\"name\":{}{}}}",
        "[".repeat(JSON_DEPTH_MAX + 1),
        "]".repeat(JSON_DEPTH_MAX + 1)
    );
    desk.write("large.json", format!("{{\"name\":\"{}\"}}", "x".repeat(200)).as_bytes());
    desk.write("deep.json", deep.as_bytes());
    desk.configure(|config| config["policy"]["limits"] = json!({ "input_bytes": 1_000_000 }));
    for (case, input, parts) in [
        ("a member is missing", "{}", &["name", "(input.invalid)"][..]),
        (
            "another member",
            r#"{"name":"a","other":1}"#,
            &["other", "(input.invalid)"],
        ),
        ("a wrong type", r#"{"name":1}"#, &["name", "(input.invalid)"]),
        ("too long a text", r#"{"name":"abcdef"}"#, &["name", "(input.invalid)"]),
        (
            "a member twice",
            r#"{"name":"a","name":"b"}"#,
            &[
                "the input is not acceptable JSON: duplicate key `name`",
                "(input.invalid)",
            ],
        ),
        ("no JSON", "{name}", &["(input.invalid)"]),
        ("nothing", "", &["(input.invalid)"]),
        ("two values", r#"{"name":"a"} {}"#, &["(input.invalid)"]),
        ("over the cap", "@large.json", &["(input.too_large)", "100"]),
        ("a file that is not there", "@nowhere.json", &["nowhere.json"]),
    ] {
        let code = if input == "@nowhere.json" { 2 } else { 6 };
        desk.invoke(GUEST, input).assert(case, code, parts);
    }
    desk.invoke(GUEST, r#"{"name":"abcde"}"#).assert("what fits", 0, &[]);
    desk.guest(GUEST, |entry| entry["limits"] = json!({}));
    desk.invoke(GUEST, "@deep.json")
        .assert("nested too deeply", 6, &["(input.invalid)"]);
    desk.aral(&["invoke", "no-such-thing", "--input", "{}"]).assert(
        "no such capability",
        6,
        &["there is no capability `no-such-thing`", "(capability.unknown)"],
    );
    desk.aral(&["invoke", "runtime-echo-tool@^2", "--input", "{}"]).assert(
        "no such version",
        6,
        &["there is no version `^2`", "1.0.0"],
    );
}

#[test]
fn output_that_breaks_its_schema() {
    let desk = Desk::new();
    desk.guest(RUNTIME_TOOL_ERROR, |entry| {
        entry["output_schema"] = json!({ "type": "string", "maxLength": 10 })
    });
    desk.invoke(RUNTIME_TOOL_ERROR, "\"short\"").assert("what fits", 0, &[]);
    for (case, input) in [
        ("a wrong type", "\"number\""),
        ("too long", "\"far longer than ten\""),
        ("no JSON", "\"no-json\""),
        ("members twice", "\"duplicate-keys\""),
    ] {
        let run = desk.invoke(RUNTIME_TOOL_ERROR, input);
        run.assert(case, 4, &["(output.invalid)"]);
        assert!(
            !run.stderr.contains("far longer"),
            "what the guest said is not shown: {run:?}"
        );
    }
}

#[test]
fn folders_that_may_not_be_granted() {
    let desk = Desk::new();
    desk.write("inside/data.txt", b"data");
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), desk.path("link")).unwrap();
    let with = |host: &str| {
        desk.guest(FILESYSTEM_READ, |entry| {
            entry["permissions"] = json!({ "file:read": { "paths": [{ "guest": "/data", "host": host }] } });
        });
        desk.invoke(FILESYSTEM_READ, r#"{"paths":["/data/data.txt"]}"#)
    };
    let fine = with(&desk.path("inside"));
    fine.assert("a folder", 0, &[]);
    assert!(fine.stdout.contains("\"text\":\"data\""), "{fine:?}");

    let missing = desk.path("missing");
    with(&missing).assert(
        "no such folder",
        3,
        &[&missing, "(permission.denied)", "hint: create `"],
    );
    with(&desk.path("inside/../inside")).assert(
        "a way up",
        7,
        &["is not an absolute plain path", "(document.invalid)"],
    );
    with("relative").assert(
        "no absolute path",
        7,
        &["is not an absolute plain path", "(document.invalid)"],
    );
    with("/etc").assert(
        "outside of the roots",
        3,
        &["/etc", "(permission.denied)", "read_roots"],
    );
    with(&desk.path("link")).assert("a link that leads out", 3, &["link", "(permission.denied)"]);
    with(&desk.path("inside/data.txt")).assert("a file", 3, &["data.txt", "(permission.denied)"]);
}

#[test]
fn host_patterns_with_a_second_meaning() {
    let desk = working();
    for pattern in [
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com@evil.test",
        "https://ex\u{430}mple.com",
        "https://example\u{3002}com",
        "https://ex\u{ad}ample.com",
        "https://example.com\u{2044}evil.test",
        "https://\u{ff45}xample.com",
        "https://example.com#.evil.test",
        "https://example.com/path",
        "https://example.com\\evil.test",
        "https://example.com:0",
        "https://example.com:99999",
        "https://*",
        "https://a.*.com",
        "https://*example.com",
        "https://127.1",
        "https://0x7f000001",
        "https://example..com",
        "ftp://example.com",
        "example.com",
        "https://",
        " https://example.com",
        "https://exam ple.com",
        "https://example.com\u{0}",
    ] {
        desk.guest(GUEST, |entry| {
            entry["permissions"] = json!({ "network:read": { "hosts": [pattern] } })
        });
        check(
            &format!("manifest: {pattern:?}"),
            &desk,
            7,
            &[
                "is not a host",
                "write it like `https://api.example.com`",
                "(document.invalid)",
            ],
        );
    }
    desk.guest(GUEST, |_| ());
    let pattern = "https://user@example.com";
    desk.configure(|config| config["policy"]["network"]["hosts"] = json!([pattern]));
    check("policy", &desk, 2, &["is not a host", "(config.invalid)"]);
    desk.configure(|_| ());
    let mut persona = setup::persona();
    persona["constraints"]["allowed_domains"] = json!([pattern]);
    desk.persona(&persona);
    check("persona", &desk, 7, &["is not a host", "(document.invalid)"]);
    desk.write("it.wasm", &GUEST.bytes());
    let allow = format!("network:read={pattern}");
    desk.aral(&["run", "it.wasm", "--development", "--allow", &allow])
        .assert("run", 2, &["is not a host", "(config.invalid)"]);
}

#[test]
fn limits_of_the_process_with_which_nothing_works_are_refused_and_the_least_run_a_call() {
    use aral_runtime::process::{ADDRESS_SPACE_BYTES_MIN, OPEN_FILES_MIN};
    let desk = working();
    for (key, least) in [
        ("open_files_max", OPEN_FILES_MIN),
        ("address_space_bytes_max", ADDRESS_SPACE_BYTES_MIN),
    ] {
        let limited = |value: u64| desk.configure(|config| config["process"] = json!({ key: value }));
        limited(least - 1);
        let words = format!("[process] {key} = {} is less than {least} (config.invalid)", least - 1);
        check(key, &desk, 2, &[&words]);
        let doctor = desk.aral(&["doctor"]);
        assert_eq!(doctor.code, 2, "{doctor:?}");
        limited(least);
        desk.invoke(GUEST, "{}").assert(key, 0, &[]);
    }
}
