//! Starting and ending: what is refused at the start with the line that repairs it, and how the program ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::reload::until;
use crate::support::desk::program;
use crate::support::guests::*;
use crate::support::server::{Server, desk};

/// A name, what is changed, how the program exits, and what it says.
type Case = (&'static str, Box<dyn FnOnce(&mut Value)>, i32, &'static [&'static str]);

#[test]
fn what_cannot_be_served_is_refused_with_the_line_to_write() {
    let listener = |change: Value| {
        move |config: &mut Value| {
            let listener = config["serve"]["listener"][0].as_object_mut().expect("a table");
            listener.extend(change.as_object().expect("a table").clone());
        }
    };
    let cases: Vec<Case> = vec![
        (
            "no [serve]",
            Box::new(|config| drop(config.as_object_mut().map(|config| config.remove("serve")))),
            2,
            &[
                "the configuration has no [serve]",
                "[[serve.listener]]: address = \"127.0.0.1:8080\"",
            ],
        ),
        (
            "no listener",
            Box::new(|config| config["serve"]["listener"] = json!([])),
            2,
            &["there is no listener", "[[serve.listener]]: address"],
        ),
        (
            "an address that others reach",
            Box::new(listener(json!({ "address": "0.0.0.0:8443" }))),
            2,
            &[
                "`0.0.0.0:8443` is not of the loopback",
                "[serve.listener.tls]: certificate_file = \"chain.pem\" and key_file = \"key.pem\"",
                "[[serve.listener]] without `anonymous`",
                "[[serve.caller]]: keys = [",
            ],
        ),
        (
            "a caller that is none",
            Box::new(listener(json!({ "anonymous": "ghost" }))),
            2,
            &["there is no such caller", "[[serve.caller]]: name = \"ghost\""],
        ),
        (
            "a name twice",
            Box::new(|config| {
                let one = config["serve"]["caller"][0].clone();
                config["serve"]["caller"] = json!([one, one]);
            }),
            2,
            &["two callers `tester`"],
        ),
        (
            "a key twice",
            Box::new(|config| config["serve"]["caller"][0]["keys"] = json!(["00".repeat(32), "00".repeat(32)])),
            2,
            &["is listed twice", "make a key for each caller"],
        ),
        (
            "a key in clear",
            Box::new(|config| config["serve"]["caller"][0]["keys"] = json!(["aral_secret"])),
            2,
            &["[[serve.caller]] `tester`: `keys` has what is not shown", "sha256sum"],
        ),
        (
            "no persona",
            Box::new(|config| config["serve"]["caller"][0]["persona"] = json!("none.json")),
            2,
            &[
                "the persona of the caller `tester`: there is no persona at `",
                "none.json",
            ],
        ),
        (
            "a persona that is something else",
            Box::new(|config| config["serve"]["caller"][0]["persona"] = json!("manifest.json")),
            7,
            &[
                "the persona of the caller `tester`: `",
                "manifest.json`: the document is `aral.manifest/v1`",
            ],
        ),
        (
            "a page that is all pages",
            Box::new(listener(json!({ "origins": ["*"] }))),
            2,
            &["`*` is not an origin", "`*` is none"],
        ),
        (
            "a host with a port",
            Box::new(listener(json!({ "hosts": ["a:80"] }))),
            2,
            &["`a:80` is not a host"],
        ),
        (
            "an unknown key",
            Box::new(listener(json!({ "tsl": true }))),
            2,
            &["unknown field `tsl`"],
        ),
        (
            "an unknown limit",
            Box::new(|config| config["serve"]["limits"] = json!({ "body_bytes": 1 })),
            2,
            &["unknown field `body_bytes`", "did you mean `body_bytes_max`?"],
        ),
        (
            "a rate without a count",
            Box::new(|config| config["serve"]["rates"] = json!({ "persona": { "burst": 5 } })),
            2,
            &[
                "[serve.rates] persona: must have exactly one of per_second and per_minute",
                "[serve.rates]: persona = { per_second = 10, burst = 20 }",
            ],
        ),
        (
            "a rate that is none",
            Box::new(|config| config["serve"]["rates"] = json!({ "tiers": { "gold": { "per_second": 0 } } })),
            2,
            &["[serve.rates.tiers] gold: 0 in a second or a minute is not between 1 and 1000000"],
        ),
        (
            "an unknown rate",
            Box::new(|config| config["serve"]["rates"] = json!({ "personas": { "per_second": 1 } })),
            2,
            &["unknown field `personas`", "did you mean `persona`?"],
        ),
        (
            "no room for keys",
            Box::new(|config| config["serve"]["rates"] = json!({ "keys_max": 0 })),
            2,
            &["[serve.rates] keys_max = 0 is not between 1 and 10000000"],
        ),
        (
            "limits that go over the network in clear",
            Box::new(|config| config["serve"]["rates"] = json!({ "redis": { "url": "redis://10.0.0.1" } })),
            2,
            &["write rediss://"],
        ),
        (
            "a password in the file",
            Box::new(|config| config["serve"]["rates"] = json!({ "redis": { "url": "rediss://:secret@a" } })),
            2,
            &["its password belongs into `password_file`"],
        ),
        (
            "two passwords",
            Box::new(|config| {
                config["serve"]["rates"] = json!({ "redis": {
                    "url": "rediss://a", "password_file": "a", "password_environment": "A",
                } });
            }),
            2,
            &["must have at most one"],
        ),
        (
            "certificates that are none",
            Box::new(|config| {
                config["serve"]["rates"] = json!({ "redis": { "url": "rediss://a", "ca_file": "aral.toml" } });
            }),
            2,
            &[
                "[serve.rates.redis] ca_file `",
                "aral.toml`: there is no certificate in PEM form",
                "[serve.rates.redis]: ca_file = \"ca.pem\"",
            ],
        ),
        (
            "a proxy that is no network",
            Box::new(|config| config["serve"]["trusted_proxies"] = json!(["proxy.example"])),
            2,
            &["`proxy.example` is no network"],
        ),
        (
            "everybody for a proxy",
            Box::new(|config| config["serve"]["trusted_proxies"] = json!(["0.0.0.0/0"])),
            2,
            &["everybody is a trusted proxy", "trusted_proxies = [\"10.0.0.0/8\"]"],
        ),
        (
            "a limit that is none",
            Box::new(|config| config["serve"]["limits"] = json!({ "header_bytes_max": 1 })),
            2,
            &["[serve.limits] header_bytes_max = 1 is not between 8192 and 1048576"],
        ),
    ];
    for (case, change, code, parts) in cases {
        let desk = desk(change);
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        desk.aral(&["serve"]).assert(case, code, parts);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let desk = desk(|config| config["serve"]["listener"][0]["address"] = json!(address));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.aral(&["serve"])
        .assert("taken", 8, &[&address, "another program listens there"]);
}

#[test]
fn an_unsigned_persona_needs_development_and_is_warned_about() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let persona = crate::support::setup::unsigned_persona();
    desk.write("persona.json", persona.to_string().as_bytes());
    desk.aral(&["serve"])
        .assert("unsigned", 7, &["the persona of the caller `tester`", "--development"]);
    let server = Server::start_with(&desk, &["--development"]);
    assert_eq!(server.invoke("runtime-echo-tool", "1").status, 200);
    server.signal(Signal::INT);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "ctrl-c is no failure");
    assert!(words.contains("only development allows this"), "{words}");
}

#[test]
fn a_limit_whose_name_is_misspelt_is_warned_of_with_the_name_that_was_meant() {
    let desk = desk(|config| {
        config["policy"]["capability"] = json!({ "runtime-echo-toll": { "limits": { "fuel": 1 } } });
        config["policy"]["tier"] = json!({ "gold": {} });
        config["serve"]["rates"] = json!({ "tiers": { "glod": { "per_second": 1 } } });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let mut persona = crate::support::setup::persona();
    persona["tier"] = json!("gold");
    desk.persona(&persona);
    let server = Server::start(&desk);
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    let doctor = desk.aral(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:#?}");
    for told in [words, doctor.stdout] {
        for part in [
            "[policy.capability.runtime-echo-toll]: no manifest",
            "did you mean `runtime-echo-tool`?",
            "[serve.rates.tiers] glod: no persona",
            "did you mean `gold`?",
        ] {
            assert!(told.contains(part), "`{part}` is not in {told}");
        }
        assert!(!told.contains("[policy.tier.gold]"), "{told}");
    }
}

#[test]
fn too_few_descriptors_for_the_connections_are_warned_of_with_the_line_to_write() {
    let desk = desk(|config| config["process"] = json!({ "open_files_max": 1000 }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    let doctor = desk.aral(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:#?}");
    for told in [words, doctor.stdout] {
        for part in ["may have 1000 descriptors", "[process]: open_files_max = 15385"] {
            assert!(told.contains(part), "`{part}` is not in {told}");
        }
    }
    desk.configure_more(|config| config["serve"]["limits"] = json!({ "connections_max": 100 }));
    let doctor = desk.aral(&["doctor"]);
    assert!(doctor.stdout.contains("ok    serve"), "{doctor:#?}");
    assert!(!doctor.stdout.contains("may have 1000 descriptors"), "{doctor:#?}");
}

#[test]
fn a_persona_that_expired_is_refused_at_the_start() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let header = aral_contract::document::signed::Header {
        schema: "aral.persona/v1".to_owned(),
        serial: 1,
        issued_at: "2025-01-01T00:00:00Z".parse().expect("a time"),
        expires_at: "2025-01-02T00:00:00Z".parse().expect("a time"),
    };
    let kind = aral_contract::document::signed::Kind::Persona;
    let body = crate::support::setup::persona();
    let old = aral_contract::document::signed::sign(kind, &header, &body, &crate::support::setup::key());
    desk.write("persona.json", old.expect("a document").to_string().as_bytes());
    desk.aral(&["serve"])
        .assert("expired", 7, &["the persona of the caller `tester`"]);
}

#[test]
fn the_process_has_the_limits_of_the_file() {
    let limits = |process: Value| {
        let desk = desk(|config| config["process"] = process);
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        let server = Server::start(&desk);
        let text = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("it runs");
        ["Max open files", "Max address space"].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
            line.split_whitespace().next().expect("a number").to_owned()
        })
    };
    let [files, space] = limits(json!({ "open_files_max": 1000, "address_space_bytes_max": 1_u64 << 44 }));
    assert_eq!((files.as_str(), space), ("1000", (1_u64 << 44).to_string()));
    let [files, space] = limits(json!({}));
    assert_ne!(files, "1000");
    assert_ne!(space, (1_u64 << 44).to_string());
}

/// Whoever renews a certificate does not know whether the server has started.
#[test]
fn a_hangup_while_a_server_starts_has_its_file_read_again_once_it_listens() {
    let desk = desk(|config| config["policy"]["capabilities"] = json!([]));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    // Makes the log, which another process has then.
    let denied = desk.invoke(RUNTIME_ECHO_TOOL, "1");
    assert_ne!(denied.code, 0, "{denied:#?}");
    let held = File::open(desk.path("audit/lock")).expect("a file");
    held.lock().expect("nobody has it");
    let mut command = desk.command(&["serve", "--quiet", "--json"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut words = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while words.read_line(&mut line).is_ok_and(|count| count > 0) && !line.contains("waiting for the end of that") {
        line.clear();
    }
    desk.configure_more(|config| config["policy"]["capabilities"] = json!(["*"]));
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let told = kill_process(id.expect("a process id"), Signal::HUP);
    drop(held);
    let server = Server::from(child);
    told.expect("it runs");
    until("the signal is heard", || {
        server.invoke("runtime-echo-tool", "1").status == 200
    });
}

/// As a package manager does it: the new file takes the place of the one that runs.
#[test]
fn a_server_whose_program_is_replaced_compiles_with_the_one_that_runs() {
    // Its cache is its own, and empty.
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let [copy, other] = ["aral", "other"].map(|name| desk.path(name));
    for (from, to) in [(program().as_path(), &copy), (Path::new("/bin/false"), &other)] {
        // Not copied by this process: a child that another test forks would hold the file open for writing, which then cannot be run.
        assert!(
            Command::new("/bin/cp")
                .arg(from)
                .arg(to)
                .status()
                .expect("it runs")
                .success()
        );
    }
    let server = Server::from(desk.command_of(copy.as_ref(), &["serve", "--quiet", "--json"]));
    std::fs::rename(&other, &copy).expect("files of ours");
    let reply = server.invoke("runtime-echo-tool", "1");
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// As systemd starts it: the socket is in the environment, and the service is there once it says so.
#[test]
fn a_manager_of_services_is_told_how_the_server_stands_and_no_program_is_told_of_the_manager() {
    let programs = json!([{ "path": "/usr/bin/env", "args": [] }]);
    let desk = desk(|config| config["policy"]["exec"] = json!({ "programs": programs }));
    desk.guest(ISOLATION_EXEC, |entry| {
        entry["permissions"] = json!({ "exec": { "programs": programs } });
    });
    let socket = desk.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    let told = || {
        let mut words = [0; 256];
        let length = manager.recv(&mut words).expect("it is told");
        String::from_utf8_lossy(&words[..length]).into_owned()
    };
    let server = Server::start_in(&desk, &[], &[("NOTIFY_SOCKET", &socket)]);
    assert_eq!(told(), "READY=1");
    let reply = server.invoke(
        "isolation-exec",
        r#"{"runs":[{"program":"/usr/bin/env","arguments":[]}]}"#,
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()[0]["stdout"], "", "a program has no environment");
    server.signal(Signal::HUP);
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), "READY=1");
    // A file that is refused changes nothing, and the server is ready as before.
    desk.write("aral.toml", b"state_dir = 1");
    server.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "READY=1");
    server.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(server.wait().0, Some(0));
}
