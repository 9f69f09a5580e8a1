//! What `serve` refuses, `doctor` refuses: an operator asks it before a restart.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::desk;
use crate::support::setup;

/// What is done to a desk on which a host has run.
type Breaks = Box<dyn Fn(&Desk)>;
/// A name, what is broken, how `serve` ends, and what both say.
type Case = (&'static str, Breaks, i32, &'static str);

/// A desk that is in order, and on which a host has run.
fn used() -> Desk {
    let desk = desk(|config| config["runtime"]["cache_dir"] = json!(setup::CACHE));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.write("empty.pem", b"nothing\n");
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("a call", 0, &[]);
    desk
}

fn line(change: impl Fn(&mut Value) + 'static) -> Breaks {
    Box::new(move |desk| desk.configure_more(&change))
}

/// A private file below the folder of state, emptied.
fn empty(name: &'static str) -> Breaks {
    Box::new(move |desk| {
        let name = format!("{}/{name}", setup::STATE);
        desk.write(&name, b"");
        desk.private(&name);
    })
}

/// A second issue was taken, and the first one stands there again.
fn replaced(kind: &'static str) -> Breaks {
    Box::new(move |desk| {
        let file = format!("{kind}.json");
        let old = std::fs::read(desk.path(&file)).expect("a document");
        desk.aral(&[kind, "sign", &file, "--key", "key.pem", "--serial", "2"])
            .assert(kind, 0, &[]);
        desk.invoke(RUNTIME_ECHO_TOOL, "1").assert(kind, 0, &[]);
        desk.write(&file, &old);
    })
}

fn cases() -> Vec<Case> {
    let key = "00".repeat(32);
    vec![
        (
            "a management without a key",
            line(|config| config["serve"]["admin"] = json!({ "address": "127.0.0.1:9191" })),
            2,
            "`127.0.0.1:9191` needs a key",
        ),
        (
            "a management that others reach",
            line(move |config| config["serve"]["admin"] = json!({ "address": "0.0.0.0:9191", "keys": [key] })),
            2,
            "`0.0.0.0:9191` is not of the loopback",
        ),
        (
            "copies in clear",
            line(|config| config["audit"]["elasticsearch"] = json!({ "address": "http://10.0.0.1:9200" })),
            2,
            "[audit.elasticsearch] `http://10.0.0.1:9200` is of no use",
        ),
        (
            "copies to no address",
            line(|config| config["audit"]["otlp"] = json!({ "address": "otel.example:4318" })),
            2,
            "[audit.otlp] `otel.example:4318` is of no use",
        ),
        (
            "traces in clear",
            line(|config| config["telemetry"] = json!({ "otlp": { "address": "http://10.0.0.1:4318" } })),
            2,
            "[telemetry.otlp] `http://10.0.0.1:4318` is of no use",
        ),
        (
            "copies by no authority",
            line(|config| {
                let copies = json!({ "address": "https://127.0.0.1:1", "ca_file": "empty.pem" });
                config["audit"]["elasticsearch"] = copies;
            }),
            2,
            "empty.pem`: there is no certificate in PEM form",
        ),
        (
            "guests by no authority",
            line(|config| config["egress"] = json!({ "ca_file": "empty.pem" })),
            2,
            "[egress] ca_file `",
        ),
        (
            "a password that others read",
            Box::new(|desk| {
                desk.write("redis.password", b"secret");
                let open = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(desk.path("redis.password"), open).expect("a file of ours");
                desk.configure_more(|config| {
                    let redis = json!({ "url": "redis://127.0.0.1:1", "password_file": "redis.password" });
                    config["serve"]["rates"] = json!({ "redis": redis });
                });
            }),
            2,
            "[serve.rates.redis] password_file: `",
        ),
        (
            "a copy that stands in no log",
            Box::new(|desk| {
                desk.write("audit/sink-otlp.json", b"{}");
                desk.configure_more(|config| config["audit"]["otlp"] = json!({ "address": "http://127.0.0.1:1" }));
            }),
            2,
            "`sink-otlp.json` is not the position of a sink in this log",
        ),
        (
            "a log where no folder can be made",
            line(|config| config["audit"]["dir"] = json!("/proc/aral/audit")),
            2,
            "the audit log: cannot make `/proc/aral",
        ),
        (
            "a log that is gone",
            Box::new(|desk| std::fs::rename(desk.path("audit"), desk.path("gone")).expect("a log")),
            8,
            "is not the one that this host signed for",
        ),
        (
            "a log that was put back from a copy",
            Box::new(|desk| {
                let copied = std::process::Command::new("/bin/cp")
                    .args(["-a", &desk.path("audit"), &desk.path("copy")])
                    .status();
                assert!(copied.expect("it runs").success());
                desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("a call", 0, &[]);
                std::fs::rename(desk.path("audit"), desk.path("gone")).expect("a log");
                std::fs::rename(desk.path("copy"), desk.path("audit")).expect("a copy");
            }),
            8,
            "is not the one that this host signed for",
        ),
        (
            "no serials of manifests",
            empty("serials.json"),
            1,
            "serials.json` is damaged",
        ),
        (
            "no serials of personas",
            empty("personas.json"),
            1,
            "personas.json` is damaged",
        ),
        (
            "no word of what is used up",
            empty("used.json"),
            1,
            "used.json` is damaged",
        ),
        (
            "no key of the cache",
            empty("cache.key"),
            2,
            "cache.key` does not hold a key of 32 bytes",
        ),
        ("no key of the log", empty("audit.pem"), 2, "audit.pem`: "),
        (
            "no key that hides",
            empty("audit.blind"),
            2,
            "audit.blind` does not hold a key",
        ),
        ("an older manifest", replaced("manifest"), 7, "manifest.json`: "),
        ("an older persona", replaced("persona"), 7, "persona.json`: "),
    ]
}

#[test]
fn what_serve_refuses_doctor_refuses_in_the_same_words() {
    for (case, breaks, code, part) in cases() {
        let desk = used();
        let doctor = desk.aral(&["doctor"]);
        assert_eq!(doctor.code, 0, "{case}, before: {doctor:#?}");
        breaks(&desk);
        let doctor = desk.aral(&["doctor", "--json"]);
        assert_eq!(doctor.code, 2, "{case}: {doctor:#?}");
        let checks = doctor.object()["checks"].as_array().expect("checks").clone();
        let failed = checks.iter().filter(|check| check["status"] == "fail");
        let told = |check: &&Value| check["detail"].as_str().is_some_and(|detail| detail.contains(part));
        assert!(failed.clone().any(|check| told(&check)), "{case}: {doctor:#?}");
        for check in failed {
            let fix = check["fix"].as_str().unwrap_or_default();
            assert!(!fix.is_empty(), "{case}: {check}");
        }
        desk.aral(&["serve"]).assert(case, code, &[part]);
    }
}

#[test]
fn a_credential_of_a_copy_that_cannot_be_read_is_told_of_though_the_server_starts() {
    let desk = used();
    desk.configure_more(|config| {
        let copies = json!({ "address": "http://127.0.0.1:1", "authorization_file": "nowhere" });
        config["audit"]["elasticsearch"] = copies.clone();
        config["telemetry"] = json!({ "otlp": copies });
    });
    let doctor = desk.aral(&["doctor"]);
    assert_eq!(doctor.code, 2, "{doctor:#?}");
    for table in ["[audit.elasticsearch]", "[telemetry.otlp]"] {
        let told = format!(
            "{table} authorization_file: cannot open `{}`: No such file",
            desk.path("nowhere")
        );
        assert!(doctor.stdout.contains(&told), "`{told}` is not in {doctor:#?}");
    }
}
