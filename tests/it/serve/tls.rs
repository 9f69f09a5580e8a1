//! TLS of the program: what is refused at the start, calls over it, and files that are replaced while it runs.

use std::io::Write as _;
use std::time::{Duration, Instant};

use aral_fuzzing::http2;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::tls::{Authority, Client, INSTALLED, ocsp};
use crate::support::wire::frame;

const ECHO: &str = "runtime-echo-tool";
const KEY: &str = "aral_a-key-of-the-test";
const NAME: &str = "spiffe://example/agent";

fn digest() -> String {
    aral_contract::Digest::of(KEY.as_bytes()).to_string()
}

/// A desk with files of TLS, where nobody is anonymous, changed as the test wants.
fn secured(authority: &Authority, change: impl FnOnce(&mut Value)) -> Desk {
    let desk = desk(|config| {
        config["serve"]["listener"][0] = json!({
            "address": "127.0.0.1:0",
            "tls": { "certificate_file": "chain.pem", "key_file": "key.pem" },
        });
        config["serve"]["caller"][0]["keys"] = json!([digest()]);
        change(config);
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    authority.install(&desk);
    desk
}

fn tls(config: &mut Value) -> &mut Value {
    &mut config["serve"]["listener"][0]["tls"]
}

#[test]
fn what_cannot_be_secured_is_refused_with_the_line_to_write() {
    let authority = Authority::new();
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, &[&str])] = &[
        (
            "a file that is not there",
            |config| tls(config)["certificate_file"] = json!("none.pem"),
            &["there is no TLS for the listener", "none.pem", "[serve.listener.tls]"],
        ),
        (
            "roots that are not there",
            |config| tls(config)["client_ca_file"] = json!("none.pem"),
            &["none.pem"],
        ),
        (
            "an OCSP response that is none",
            |config| tls(config)["ocsp_file"] = json!("chain.pem"),
            &["chain.pem` is no OCSP response", "openssl ocsp"],
        ),
        (
            "a list that is none",
            |config| {
                tls(config)["client_ca_file"] = json!("clients.pem");
                tls(config)["crl_files"] = json!(["key.pem"]);
            },
            &["key.pem` has no list of revoked certificates"],
        ),
        (
            "lists without roots",
            |config| tls(config)["crl_files"] = json!(["revoked.pem"]),
            &[
                "has `crl_files` and no `client_ca_file`",
                "client_ca_file = \"clients.pem\"",
            ],
        ),
        (
            "certificates of callers without roots",
            |config| tls(config)["client_auth"] = json!("optional"),
            &["has `client_auth` and no `client_ca_file`"],
        ),
        (
            "a word that is none",
            |config| tls(config)["client_auth"] = json!("never"),
            &["unknown variant `never`"],
        ),
        (
            "a name of a certificate without a kind",
            |config| config["serve"]["caller"][0]["certificates"] = json!(["agent"]),
            &["`agent` names no certificate", "`sha256:`"],
        ),
        (
            "a certificate twice",
            |config| config["serve"]["caller"][0]["certificates"] = json!(["dns:a", "dns:A"]),
            &["the certificate `dns:a` is listed twice", "[[serve.caller]]"],
        ),
    ];
    for (case, change, parts) in cases {
        secured(&authority, change).aral(&["serve"]).assert(case, 2, parts);
    }
    let desk = secured(&authority, |_| ());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(desk.path("key.pem"), mode).expect("a file of ours");
    desk.aral(&["serve"])
        .assert("a key that others read", 2, &["has mode 0644", "chmod 600"]);
}

#[test]
fn an_address_that_others_reach_needs_both_tls_and_authentication() {
    let authority = Authority::new();
    let reachable = |change: fn(&mut Value)| {
        secured(&authority, |config| {
            config["serve"]["listener"][0]["address"] = json!("0.0.0.0:0");
            config["serve"]["listener"][0]["hosts"] = json!(["aral.example"]);
            change(config);
        })
    };
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str, &str); 4] = [
        (
            "no TLS",
            |config| {
                let listener = config["serve"]["listener"][0].as_object_mut().expect("a table");
                listener.remove("tls");
            },
            "without TLS whoever is on the way",
            "[serve.listener.tls]: certificate_file",
        ),
        (
            "anybody",
            |config| config["serve"]["listener"][0]["anonymous"] = json!("tester"),
            "with `anonymous` whoever reaches it may call",
            "without `anonymous`",
        ),
        (
            "nobody",
            |config| config["serve"]["caller"][0]["keys"] = json!([]),
            "no caller can show there who it is",
            "[[serve.caller]]: keys = [",
        ),
        (
            "certificates that nobody asks for",
            |config| {
                config["serve"]["caller"][0] =
                    json!({"name": "tester", "persona": "persona.json", "certificates": ["dns:a"]})
            },
            "no caller can show there who it is",
            "[[serve.caller]]: keys = [",
        ),
    ];
    for (case, change, message, line) in cases {
        reachable(change)
            .aral(&["serve"])
            .assert(case, 2, &["is not of the loopback", message, line]);
    }
    let certificates: fn(&mut Value) = |config| {
        config["serve"]["caller"][0] = json!({
            "name": "tester", "persona": "persona.json", "certificates": [format!("uri:{NAME}")],
        });
        tls(config)["client_ca_file"] = json!("clients.pem");
    };
    for (change, client, key) in [
        ((|_| ()) as fn(&mut Value), authority.client(), Some(KEY)),
        (certificates, authority.client_named(NAME), None),
    ] {
        let desk = reachable(change);
        let server = Server::start(&desk);
        let address = (std::net::Ipv4Addr::LOCALHOST, server.address().port()).into();
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut fields = vec![("Host", "aral.example")];
        fields.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        assert_eq!(
            client.invoke(address, ECHO, &fields, "1").expect("an answer").status,
            200
        );
        let stranger = authority
            .client()
            .invoke(address, ECHO, &[("Host", "aral.example")], "1");
        assert!(stranger.is_err() || stranger.is_ok_and(|reply| reply.status == 401));
    }
}

#[test]
fn who_listens_on_all_addresses_is_asked_under_each() {
    let authority = Authority::new();
    let desk = secured(&authority, |config| {
        let listener = &mut config["serve"]["listener"][0];
        listener["address"] = json!("0.0.0.0:0");
        listener["mcp"] = json!(true);
    });
    let server = Server::start(&desk);
    let port = server.address().port();
    let (address, client) = ((std::net::Ipv4Addr::LOCALHOST, port).into(), authority.client());
    let ready = |host: &str| {
        let reply = client.ask(address, "GET", "/ready", &[("Host", host)], "");
        reply.expect("an answer").status
    };
    let host = format!("127.0.0.1:{port}");
    assert_eq!(ready(&host), 200);
    assert_eq!(ready("192.0.2.7"), 200, "whatever a balancer leads here");
    assert_eq!(ready("evil.example"), 421);
    let key = format!("Bearer {KEY}");
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } });
    let begin = |fields: &[(&str, &str)]| {
        let mut all = vec![
            ("Authorization", key.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        all.extend_from_slice(fields);
        let reply = client.ask(address, "POST", "/mcp", &all, &initialize.to_string());
        reply.expect("an answer").status
    };
    assert_eq!(begin(&[("Host", &host)]), 200);
    assert_eq!(begin(&[("Host", &host), ("Origin", "https://evil.example")]), 403);
    assert_eq!(begin(&[("Host", "evil.example")]), 421);
}

#[test]
fn calls_over_tls_are_those_of_the_key_or_the_certificate() {
    let authority = Authority::new();
    let desk = secured(&authority, |config| {
        tls(config)["client_ca_file"] = json!("clients.pem");
        tls(config)["client_auth"] = json!("optional");
        config["serve"]["caller"][0]["certificates"] = json!([format!("uri:{NAME}")]);
    });
    let server = Server::start(&desk);
    let address = server.address();
    let named = authority.client_named(NAME);
    let reply = named.invoke(address, ECHO, &[], "[1]").expect("an answer");
    assert_eq!((reply.status, reply.body.as_str()), (200, "[1]"));
    assert_eq!(reply.field("strict-transport-security"), Some("max-age=31536000"));
    let key = format!("Bearer {KEY}");
    let with_key = authority
        .client()
        .invoke(address, ECHO, &[("Authorization", &key)], "1");
    assert_eq!(with_key.expect("an answer").status, 200);
    let nobody = authority.client_named("spiffe://example/nobody");
    nobody
        .invoke(address, ECHO, &[], "1")
        .expect("an answer")
        .assert_problem("nobody", 401, "authentication.failed");
    let foreign = Authority::new().client_named(NAME);
    assert!(foreign.invoke(address, ECHO, &[], "1").is_err());
}

#[test]
fn where_listeners_believe_several_authorities_a_caller_says_whose_word_its_names_are() {
    let (authority, partner) = (Authority::new(), Authority::new());
    let caller = |config: &mut Value, files: Value| config["serve"]["caller"][0]["client_ca_files"] = files;
    let two = |files: Value| {
        let desk = secured(&authority, |config| {
            tls(config)["client_ca_file"] = json!("clients.pem");
            let mut other = config["serve"]["listener"][0].clone();
            other["tls"]["client_ca_file"] = json!("partner.pem");
            let listeners = config["serve"]["listener"].as_array_mut();
            listeners.expect("a list").push(other);
            config["serve"]["caller"][0]["certificates"] = json!([format!("uri:{NAME}")]);
            caller(config, files);
        });
        desk.write("partner.pem", partner.pem().as_bytes());
        desk.private("partner.pem");
        desk
    };
    let nobody_says = [
        "the caller `tester` goes by `uri:spiffe://example/agent`",
        "partner.pem`",
        "[[serve.caller]] `tester`: client_ca_files = [",
    ];
    two(json!([]))
        .aral(&["serve"])
        .assert("nobody says whose", 2, &nobody_says);
    two(json!(["none.pem"])).aral(&["serve"]).assert(
        "authorities of no listener",
        2,
        &["none.pem` among its client_ca_files", "client_ca_file = "],
    );
    let desk = two(json!(["clients.pem"]));
    let server = Server::start(&desk);
    let named = authority.client_named(NAME);
    let call = || {
        named
            .invoke(server.address(), ECHO, &[], "1")
            .expect("an answer")
            .status
    };
    assert_eq!(call(), 200);
    desk.configure_more(|config| caller(config, json!([])));
    desk.aral(&["reload"])
        .assert("nobody says whose any more", 2, &nobody_says);
    assert_eq!(call(), 200, "and nothing has changed");
}

#[test]
fn nobody_comes_in_without_a_certificate_unless_the_file_says_so() {
    let authority = Authority::new();
    let key = format!("Bearer {KEY}");
    for (auth, may_come) in [(None, false), (Some("required"), false), (Some("optional"), true)] {
        let desk = secured(&authority, |config| {
            tls(config)["client_ca_file"] = json!("clients.pem");
            if let Some(auth) = auth {
                tls(config)["client_auth"] = json!(auth);
            }
        });
        let server = Server::start(&desk);
        let ask = |client: Client| client.invoke(server.address(), ECHO, &[("Authorization", &key)], "1");
        // One that is nobody's is the way in.
        let with = ask(authority.client_named(NAME)).expect("an answer");
        assert_eq!(with.status, 200, "{auth:?}: {with:?}");
        let without = ask(authority.client()).map(|reply| reply.status);
        assert_eq!(without.ok(), may_come.then_some(200), "{auth:?}");
    }
}

#[test]
fn who_was_revoked_does_not_come_in() {
    let authority = Authority::new();
    for (listed, may_come) in [(true, false), (false, true)] {
        let desk = secured(&authority, |config| {
            tls(config)["client_ca_file"] = json!("clients.pem");
            if listed {
                tls(config)["crl_files"] = json!(["revoked.pem"]);
            }
            config["serve"]["caller"][0]["certificates"] = json!([format!("uri:{NAME}")]);
        });
        desk.write("revoked.pem", authority.revoked(&[7]).as_bytes());
        desk.private("revoked.pem");
        let server = Server::start(&desk);
        let status = |serial: u64| {
            let client = authority.client_numbered(NAME, serial);
            client
                .invoke(server.address(), ECHO, &[], "1")
                .ok()
                .map(|reply| reply.status)
        };
        assert_eq!(status(8), Some(200), "{listed}");
        assert_eq!(status(7), may_come.then_some(200), "{listed}");
    }
}

#[test]
fn the_ocsp_response_of_the_file_goes_out_with_the_certificate() {
    let authority = Authority::new();
    let response = ocsp(INSTALLED);
    for (named, shown) in [(true, response.clone()), (false, Vec::new())] {
        let desk = secured(&authority, |config| {
            if named {
                tls(config)["ocsp_file"] = json!("ocsp.der");
            }
        });
        desk.write("ocsp.der", &response);
        desk.private("ocsp.der");
        let server = Server::start(&desk);
        assert_eq!(authority.client().stapled(server.address()), shown);
    }
}

#[test]
fn files_that_are_replaced_are_taken_by_a_server_that_runs() {
    let authority = Authority::new();
    let desk = secured(&authority, |config| {
        config["serve"]["limits"] = json!({ "tls_look_ms": 50 })
    });
    let server = Server::start(&desk);
    let client = authority.client();
    let before = client.shown(server.address());
    authority.install(&desk);
    let begun = Instant::now();
    while client.shown(server.address()) == before {
        assert!(begun.elapsed() < Duration::from_secs(30), "the old certificate stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whoever_has_the_configuration_read_again_is_told_which_files_were_not_taken() {
    let authority = Authority::new();
    let desk = secured(&authority, |_| ());
    let server = Server::start(&desk);
    let reload = || {
        let run = desk.aral(&["reload", "--json"]);
        run.assert("it holds", 0, &[]);
        (run.object()["warnings"].clone(), run.stderr)
    };
    assert_eq!(reload().0, json!([]));
    std::fs::remove_file(desk.path("key.pem")).expect("a file of ours");
    let (warnings, words) = reload();
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    let warning = warnings[0].as_str().expect("a text");
    for part in [&*server.address().to_string(), "key.pem"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(words.contains("warning:") && words.contains("key.pem"), "{words}");
    authority.install(&desk);
    assert_eq!(reload().0, json!([]));
}

#[test]
fn a_stranger_who_sends_what_http2_warns_of_writes_no_line_into_the_log() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let authority = Authority::new();
    let desk = secured(&authority, |_| ());
    let server = Server::start(&desk);
    let mut stream = authority.client().http2(server.address());
    (stream.sock.set_read_timeout(Some(Duration::from_secs(30)))).expect("a timeout");
    let ping = |flags: u8, data: &[u8; 8]| [&[0, 0, 8, PING, flags, 0, 0, 0, 0][..], data].concat();
    let answers_to_nothing = ping(ACK, b"unasked!").repeat(1_000);
    let said = [http2::PREFACE, &answers_to_nothing, &ping(0, b"question")].concat();
    stream.write_all(&said).expect("it takes it");
    // Its answer comes after everything before it was read.
    loop {
        let (kind, flags, payload) = frame(&mut stream);
        if (kind, flags) == (PING, ACK) {
            assert_eq!(payload, b"question");
            break;
        }
    }
    drop(stream);
    server.signal(Signal::TERM);
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    assert!(!log.contains("PING"), "{} lines: {log:.200}", log.lines().count());
}

/// What a scanner that nobody here wrote finds.
#[cfg(feature = "services")]
#[test]
fn sslyze_finds_tls_1_3_alone_without_sessions_or_early_data() {
    const SCRIPT: &str = include_str!("../python/tls.py");
    let authority = Authority::new();
    let desk = secured(&authority, |_| ());
    let server = Server::start(&desk);
    let output = std::process::Command::new(crate::support::python::program())
        .args(["-I", "-c", SCRIPT])
        .arg(server.address().port().to_string())
        .arg(desk.path("clients.pem"))
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["versions"], json!(["tls_1_3"]), "{found}");
    let suites = found["suites"].as_array().expect("a list");
    assert_eq!(suites.len(), 3, "{found}");
    for suite in suites {
        let name = suite.as_str().expect("a name");
        assert!(
            name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_"),
            "{name}"
        );
    }
    assert_eq!(found["early_data"], json!(false), "{found}");
    assert_eq!(found["compression"], json!(false), "{found}");
    assert_eq!(found["client_renegotiation"], json!(false), "{found}");
    assert_eq!(found["resumed_by_id"], json!(0), "{found}");
    assert_eq!(found["resumed_by_ticket"], json!(0), "{found}");
    let session = json!({ "version": "TLSv1.3", "ticket": false });
    assert_eq!(found["session"], session, "{found}");
    assert_eq!(found["path_validates"], json!(true), "{found}");
    assert_eq!(found["heartbleed"], json!(false), "{found}");
}
