//! Personas on the command line: written, signed, verified, shown; and each reason for which nothing starts.

use aral_contract::document::PrivateKey;
use aral_contract::document::signed::{self, Header, Kind};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::desk::{Desk, Run};
use crate::support::guests::*;
use crate::support::setup;

/// A desk with a capability.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    configure(&desk, |_| ());
    desk
}

fn configure(desk: &Desk, change: impl FnOnce(&mut Value)) {
    desk.configure(change);
}

fn header(serial: u64, issued_at: &str, expires_at: &str) -> Header {
    Header {
        schema: Kind::Persona.schema().to_owned(),
        serial,
        issued_at: issued_at.parse().expect("a time"),
        expires_at: expires_at.parse().expect("a time"),
    }
}

fn signed_by(key: &PrivateKey, serial: u64, body: &Value) -> Value {
    let header = header(serial, "2025-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    signed::sign(Kind::Persona, &header, body, key).expect("a document")
}

fn put(desk: &Desk, document: &Value) {
    desk.write("persona.json", document.to_string().as_bytes());
}

fn invoke(desk: &Desk) -> Run {
    desk.invoke(RUNTIME_ECHO_TOOL, "{}")
}

#[test]
fn a_persona_is_written_signed_verified_shown_and_used() {
    let desk = desk();
    std::fs::remove_file(desk.path("persona.json")).expect("it was there");
    desk.write("prompt.txt", b"You look things up.\nYou never guess.");
    let id = RUNTIME_ECHO_TOOL.id();
    let arguments = [
        "persona",
        "new",
        "--id",
        "me",
        "--name",
        "Mé",
        "--description",
        "looks things up",
        "--system-prompt",
        "prompt.txt",
        "--clearance",
        "internal",
        "--allow-permission",
        "*",
        "--allow-capability",
        &id,
        "--requests-per-minute",
        "7",
        "--max-cost-per-hour",
        "5",
    ];
    let wrote = desk.aral(&arguments);
    wrote.assert(
        "new",
        0,
        &[
            "`*` in allowed_permissions allows everything",
            "`aral persona sign persona.json --key KEY.pem`",
        ],
    );
    let shown = desk.aral(&["persona", "show", "persona.json"]);
    shown.assert("show", 0, &["warning: `*` in allowed_permissions"]);
    for part in [
        "name                 Mé\n",
        "system prompt        You look things up.\\u{a}You never guess.\n",
        "clearance            internal\n",
        "permissions          *\n",
        "domains              none\n",
        "requests_per_minute  7; the policy allows 1125899906842624\n",
        "reasoning_depth      8, by the policy\n",
        "signature            not to be believed: the persona is not signed\n",
    ] {
        assert!(shown.stdout.contains(part), "`{part}` is not in {shown:#?}");
    }
    desk.aral(&["persona", "verify", "persona.json"]).assert(
        "verify",
        7,
        &["the persona is not signed", "hint: sign it: `aral persona sign"],
    );
    let signed = desk.aral(&["persona", "sign", "persona.json", "--key", "key.pem", "--serial", "3"]);
    signed.assert("sign", 0, &[]);
    assert!(signed.stdout.contains("serial 3, valid until"), "{signed:?}");
    let verified = desk.aral(&["persona", "verify", "persona.json", "--json"]);
    assert_eq!(verified.object()["serial"], 3);
    desk.aral(&["persona", "verify", "persona.json", "--trust", "key.pub.pem"])
        .assert("verify with a key", 0, &[]);
    let shown = desk.aral(&["persona", "show", "persona.json", "--json"]).object();
    assert_eq!(
        (&shown["valid"], &shown["warnings"]),
        (&json!(true), &json!(["allowed_permissions"]))
    );
    assert_eq!(
        shown["persona"]["system_prompt"],
        "You look things up.\nYou never guess."
    );
    assert_eq!(invoke(&desk).stdout, "{}\n");
}

#[test]
fn a_persona_that_may_write_records_and_is_cleared_for_public_ones_alone_is_warned_about() {
    let desk = desk();
    let new = |out: &str, clearance: &[&str]| {
        let arguments = [
            "persona",
            "new",
            "--id",
            "me",
            "--allow-permission",
            "memory:write",
            "--out",
            out,
        ];
        desk.aral(&[&arguments[..], clearance].concat())
    };
    let hint = "`aral persona new --clearance internal`";
    new("public.json", &[]).assert("public", 0, &["warning: memory:write is allowed", hint]);
    let internal = new("internal.json", &["--clearance", "internal"]);
    internal.assert("internal", 0, &[]);
    assert!(!internal.stderr.contains(hint), "{internal:?}");
}

#[test]
fn a_persona_that_may_store_secrets_and_is_not_cleared_for_them_is_warned_about() {
    let desk = desk();
    for (clearance, is_warned) in [("confidential", true), ("secret", false)] {
        let out = format!("{clearance}.json");
        let allowed = ["persona", "new", "--id", "me", "--allow-permission", "secret:write"];
        let new = desk.aral(&[&allowed[..], &["--clearance", clearance, "--out", out.as_str()]].concat());
        new.assert(clearance, 0, &[]);
        let warning = "warning: secret:write is allowed, and the clearance is `confidential`";
        assert_eq!(new.stderr.contains(warning), is_warned, "{new:?}");
    }
}

#[test]
fn nothing_starts_without_a_persona_that_is_verified_and_each_reason_is_told() {
    let (desk, body) = (desk(), setup::persona());
    let signed = || signed_by(&setup::key(), 5, &body);
    let check = |case: &str, document: Value, code: i32, reason: &str| {
        put(&desk, &document);
        invoke(&desk).assert(case, code, &[reason]);
    };
    let changed = |change: fn(&mut Value)| {
        let mut document = signed();
        change(&mut document);
        document
    };
    put(&desk, &signed());
    invoke(&desk).assert("as it should be", 0, &[]);
    std::fs::remove_file(desk.path("persona.json")).expect("it was there");
    invoke(&desk).assert("absent", 2, &["there is no persona at `persona.json`"]);
    let stranger = PrivateKey::from_seed(&Zeroizing::new([43; 32]));
    check(
        "unknown key",
        signed_by(&stranger, 5, &body),
        7,
        "which is not trusted (signature.invalid)",
    );
    check(
        "wrong algorithm",
        changed(|document| document["signature"]["algorithm"] = json!("RS256")),
        7,
        "is signed with `RS256`, not `Ed25519`",
    );
    check(
        "bad signature",
        changed(|document| document["name"] = json!("Root")),
        7,
        "the document was changed after it was signed",
    );
    let old = header(5, "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
    let expired = signed::sign(Kind::Persona, &old, &body, &setup::key()).expect("a document");
    check("expired", expired, 7, "the persona expired at 2021-01-01T00:00:00Z");
    let manifest = setup::sign(Kind::Manifest, &json!({ "capabilities": [] }), &setup::key());
    check(
        "wrong kind",
        manifest,
        7,
        "the document is `aral.manifest/v1`, not `aral.persona/v1`",
    );
    check(
        "lower serial",
        signed_by(&setup::key(), 4, &body),
        7,
        "the persona `tester` has serial 4, and was admitted before with serial 5",
    );
    configure(&desk, |config| config["trust"][0]["kinds"] = json!(["manifest"]));
    check(
        "key not trusted for personas",
        signed(),
        7,
        "which is not trusted for this kind of document",
    );
    configure(&desk, |config| {
        config["trust"][0]["not_after"] = json!("2025-06-01T00:00:00Z")
    });
    invoke(&desk).assert("key expired", 7, &["which is not trusted since 2025-06-01T00:00:00Z"]);
    configure(&desk, |config| {
        config["trust"][0]["not_before"] = json!("2099-06-01T00:00:00Z")
    });
    invoke(&desk).assert(
        "key not valid yet",
        7,
        &["which is not trusted before 2099-06-01T00:00:00Z"],
    );
    configure(&desk, |config| {
        config["revoked"] = json!({ "keys": [setup::key().public().id()] })
    });
    invoke(&desk).assert("revoked key", 7, &["which is revoked"]);
    configure(&desk, |_| ());
    invoke(&desk).assert("as it should be, again", 0, &[]);
}

#[test]
fn personas_of_the_configuration_are_verified_before_anything_starts() {
    let desk = desk();
    configure(&desk, |config| {
        config["personas"] = json!({ "files": ["agents/one.json"] })
    });
    invoke(&desk).assert(
        "absent",
        2,
        &["[personas] there is no persona at `", "agents/one.json`"],
    );
    let body = json!({ "id": "one", "name": "One" });
    let stranger = PrivateKey::from_seed(&Zeroizing::new([43; 32]));
    desk.write("agents/one.json", signed_by(&stranger, 1, &body).to_string().as_bytes());
    invoke(&desk).assert("unknown key", 7, &["[personas] `", "which is not trusted"]);
    desk.write(
        "agents/one.json",
        signed_by(&setup::key(), 1, &body).to_string().as_bytes(),
    );
    invoke(&desk).assert("signed", 0, &[]);
}

#[test]
fn nobody_is_served_without_a_persona() {
    let desk = desk();
    configure(&desk, |config| {
        config["serve"] = json!({ "listener": [{ "address": "127.0.0.1:0" }] });
    });
    let words = ["there is no verified persona", "aral.toml, [[serve.caller]]: name = "];
    desk.aral(&["serve"]).assert("no persona", 2, &words);
}

#[test]
fn a_persona_of_the_command_line_that_is_refused_is_on_record() {
    let desk = desk();
    let refusals = || {
        let found = desk.aral(&["audit", "query", "--json"]).object();
        let records = found["records"].as_array().expect("records").clone();
        let events = records.into_iter().map(|record| record["event"].clone());
        let refused = |event: &Value| {
            (event["type"] == "authentication" && event["success"] == false)
                || (event["type"] == "security"
                    && event["subject"]
                        .as_str()
                        .is_some_and(|text| text.starts_with("persona")))
        };
        events.filter(refused).collect::<Vec<_>>()
    };
    let id = RUNTIME_ECHO_TOOL.id();
    desk.aral(&["invoke", &id, "--persona", "none.json"]).assert(
        "absent",
        2,
        &["there is no persona at `none.json`", "aral persona new"],
    );
    let absent = refusals();
    assert_eq!(absent.len(), 2, "{absent:?}");
    assert_eq!(absent[0]["subject"], "persona in `none.json`");
    desk.write(
        "evil.json",
        signed_by(
            &PrivateKey::from_seed(&Zeroizing::new([43; 32])),
            1,
            &json!({ "id": "evil", "name": "E" }),
        )
        .to_string()
        .as_bytes(),
    );
    desk.aral(&["invoke", &id, "--persona", "evil.json"])
        .assert("unknown key", 7, &["which is not trusted"]);
    let refused = refusals().split_off(2);
    assert_eq!(
        (&refused[0]["subject"], &refused[1]["agent"]),
        (&json!("persona evil in `evil.json`"), &json!("evil")),
        "{refused:?}"
    );
}

#[test]
fn each_process_counts_what_the_others_used() {
    let desk = desk();
    let limited = |constraints: Value| {
        let mut body = setup::persona();
        let members = body["constraints"].as_object_mut().expect("an object");
        members.extend(constraints.as_object().expect("an object").clone());
        put(&desk, &signed_by(&setup::key(), 1, &body));
    };
    limited(json!({ "rate_limits": { "requests_per_hour": 2 } }));
    invoke(&desk).assert("first", 0, &[]);
    invoke(&desk).assert("second", 0, &[]);
    let third = invoke(&desk);
    third.assert(
        "third",
        5,
        &[
            "requests_per_hour 2, and they are used up (limit.rate)",
            "hint: call again in ",
        ],
    );
    let object = desk.aral(&["invoke", &RUNTIME_ECHO_TOOL.id(), "--json"]).object();
    let wait = object["error"]["retry_after_ms"].as_u64().expect("a time");
    assert!((3_500_000..=3_600_000).contains(&wait), "{object}");
    limited(json!({ "max_cost_per_hour": 9 }));
    configure(&desk, |config| config["policy"]["price"] = json!({ "call_micro": 5 }));
    invoke(&desk).assert("paid for", 0, &[]);
    invoke(&desk).assert("not paid for", 5, &["4 are left, and the call can cost 5 (limit.cost)"]);
}

#[test]
fn explain_says_no_where_every_call_is_refused_and_what_would_do() {
    let desk = desk();
    let id = RUNTIME_ECHO_TOOL.id();
    configure(&desk, |config| {
        config["policy"]["price"] = json!({ "call_micro": 50 });
        config["policy"]["agent"] = json!({ "cost_per_hour_micro": 49, "requests_per_hour": 0 });
    });
    let shown = desk.aral(&["explain", &id, "--why-not"]);
    assert_eq!(shown.code, 3, "{shown:#?}");
    for part in [
        "denied\n  the policy lets no call through: `requests_per_hour` is 0, and a call can take 1\n",
        "    hint: aral.toml, [policy.agent]: cost_per_hour_micro = 50\n",
        "nothing was changed:\n  aral.toml, [policy.agent]: requests_per_hour = 1\n  aral.toml, [policy.agent]: cost_per_hour_micro = 50\n",
    ] {
        assert!(shown.stdout.contains(part), "`{part}` is not in {shown:#?}");
    }
    let object = desk.aral(&["explain", &id, "--json"]).object();
    assert_eq!(
        (&object["granted"], &object["decision"]["never"][1]["wanted"]),
        (&json!(false), &json!(50))
    );
    assert_eq!(invoke(&desk).code, 5);
    // With exactly that, it is allowed.
    configure(&desk, |config| {
        config["policy"]["agent"] = json!({ "cost_per_hour_micro": 50, "requests_per_hour": 1 });
    });
    desk.aral(&["explain", &id]).assert("granted", 0, &[]);
    assert_eq!(invoke(&desk).code, 0);
}

#[test]
fn explain_shows_numbers_clearance_and_the_smallest_change() {
    let desk = desk();
    let id = RUNTIME_ECHO_TOOL.id();
    let shown = desk.aral(&["explain", &id]);
    shown.assert("granted", 0, &[]);
    for part in [
        "│ requests_per_minute",
        "│ reasoning_depth",
        "clearance secret; a call costs 0 millionths at most",
    ] {
        assert!(shown.stdout.contains(part), "`{part}` is not in {shown:#?}");
    }
    let nothing = desk.aral(&["explain", &id, "--why-not"]);
    assert!(nothing.stdout.ends_with("no permission has to change\n"), "{nothing:?}");
    let more = desk.aral(&["explain", &id, "--why-not", "--allow", "secret:write=token"]);
    assert_eq!(more.code, 3, "{more:?}");
    let line = "capability.toml, [permissions.\"secret:write\"]: names = [\"token\"]\n";
    assert!(
        more.stdout.contains(line) && more.stdout.contains("`aral manifest build FOLDER… --out NEW.json`"),
        "{more:#?}"
    );
    // Two lacks: the persona's capability, and the policy's permission.
    desk.guest(ISOLATION_EXEC, |entry| {
        entry["permissions"] = json!({ "exec": { "programs": [{ "path": "/usr/bin/head", "args": [] }] } });
    });
    put(
        &desk,
        &signed_by(
            &setup::key(),
            2,
            &json!({
                "id": "tester", "name": "Tester", "constraints": { "allowed_permissions": ["exec"] },
            }),
        ),
    );
    configure(&desk, |config| {
        config["policy"]["permissions"] = json!([]);
        config["policy"]["exec"] = json!({ "programs": [{ "path": "/usr/bin/head", "args": [] }] });
    });
    let before = std::fs::read(desk.path("aral.toml")).expect("a file");
    let denied = desk.aral(&["explain", "isolation-exec", "--why-not"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    let expected = "the smallest change that would allow it; nothing was changed:\n  \
                    persona, constraints: \"allowed_capabilities\": [\"isolation-exec\"]\n  \
                    aral.toml, [policy]: permissions = [\"exec\"]\n\
                    then sign the persona again: `aral persona sign FILE --key KEY.pem`\n";
    assert!(denied.stdout.ends_with(expected), "{denied:#?}");
    assert_eq!(std::fs::read(desk.path("aral.toml")).expect("a file"), before);
    let object = desk.aral(&["explain", "isolation-exec", "--why-not", "--json"]);
    let object: Value = serde_json::from_str(&object.stdout).expect("one object");
    let documents: Vec<&Value> = object["why_not"]["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .collect();
    assert_eq!(
        (&documents[0]["document"], &documents[1]["document"]),
        (&json!("persona"), &json!("policy"))
    );
    // With exactly that, it is allowed.
    put(
        &desk,
        &signed_by(
            &setup::key(),
            3,
            &json!({
                "id": "tester", "name": "Tester",
                "constraints": { "allowed_permissions": ["exec"], "allowed_capabilities": ["isolation-exec"] },
            }),
        ),
    );
    configure(&desk, |config| {
        config["policy"]["permissions"] = json!(["exec"]);
        config["policy"]["exec"] = json!({ "programs": [{ "path": "/usr/bin/head", "args": [] }] });
    });
    desk.aral(&["explain", "isolation-exec"]).assert("changed", 0, &[]);
}

#[test]
fn an_encrypted_key_signs_with_its_passphrase_alone() {
    let desk = desk();
    desk.write("passphrase", b"several easy words\n");
    desk.private("passphrase");
    desk.write("other", b"several other words\n");
    desk.private("other");
    let made = desk.aral(&["keygen", "locked", "--encrypt", "--passphrase-file", "passphrase"]);
    made.assert("keygen", 0, &[]);
    let pem = std::fs::read_to_string(desk.path("locked.pem")).expect("a file");
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
    let sign = |more: &[&str]| desk.aral(&[&["persona", "sign", "persona.json", "--key", "locked.pem"], more].concat());
    sign(&[]).assert(
        "no passphrase",
        2,
        &["nobody is there to type it", "`--passphrase-file FILE`"],
    );
    sign(&["--passphrase-file", "other"]).assert("another one", 2, &["that this passphrase does not open"]);
    sign(&["--passphrase-file", "passphrase"]).assert("the right one", 0, &[]);
    let by_variable = |name: &str| {
        let output = desk
            .command(&[
                "persona",
                "sign",
                "persona.json",
                "--key",
                "locked.pem",
                "--passphrase-variable",
                name,
            ])
            .env("KEY_PASSPHRASE", "several easy words")
            .output()
            .expect("the program starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(by_variable("KEY_PASSPHRASE").0, Some(0));
    let (code, words) = by_variable("OTHER");
    assert!(
        code == Some(2) && words.contains("the variable `OTHER` is not set"),
        "{words}"
    );
    desk.aral(&["persona", "verify", "persona.json", "--trust", "locked.pub.pem"])
        .assert("verify", 0, &[]);
    desk.aral(&["keygen", "plain", "--passphrase-file", "passphrase"])
        .assert("nothing to encrypt", 2, &["`--encrypt`"]);
}
