//! The management of a server: who gets in, what it answers, and that nobody else sees it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;

use aral_contract::Digest;
use aral_contract::document::PrivateKey;
use aral_contract::document::signed::Kind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::desk::Desk;
#[cfg(feature = "services")]
use crate::support::desk::{Run, program};
use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::setup;
use crate::support::wire::{Wire, request};

const ECHO: &str = "runtime-echo-tool";
const KEY: &str = "aral_the-key-of-the-operator";
const AGENT: &str = "aral_a-key-of-an-agent";

/// Everything that can be asked, with a body that it would take.
const ADDRESSES: [(&str, &str, &str); 21] = [
    ("GET", "/metrics", ""),
    ("GET", "/v1/status", ""),
    ("GET", "/v1/policy", ""),
    ("GET", "/v1/capabilities", ""),
    (
        "POST",
        "/v1/capabilities/withdraw",
        r#"{"id":"runtime-echo-tool","version":"1.0.0"}"#,
    ),
    ("POST", "/v1/manifests", r#"{"path":"/none"}"#),
    ("POST", "/v1/reload", "{}"),
    (
        "POST",
        "/v1/memory/get",
        r#"{"namespace":"n","name":"a","reveal":true}"#,
    ),
    (
        "POST",
        "/v1/memory/put",
        r#"{"namespace":"n","name":"a","value":"AA==","ttl_seconds":null,"classification":"public","if_absent":false,"if_version":null}"#,
    ),
    (
        "POST",
        "/v1/memory/delete",
        r#"{"namespace":"n","name":"a","if_version":null}"#,
    ),
    (
        "POST",
        "/v1/memory/list",
        r#"{"namespace":"n","prefix":"","cursor":null}"#,
    ),
    ("POST", "/v1/memory/stats", "{}"),
    (
        "POST",
        "/v1/memory/check",
        r#"{"delete_damaged":true,"delete_nameless":true}"#,
    ),
    ("POST", "/v1/memory/rotate-key", r#"{"key":{"text":"AA=="}}"#),
    ("POST", "/v1/memory/rotate-epoch", "{}"),
    ("POST", "/v1/memory/export", r#"{"to":"-"}"#),
    ("POST", "/v1/memory/import", "{}"),
    ("POST", "/v1/secrets/get", r#"{"name":"s","reveal":true}"#),
    (
        "POST",
        "/v1/secrets/put",
        r#"{"name":"s","value":"AA==","rotate":false}"#,
    ),
    ("POST", "/v1/secrets/delete", r#"{"name":"s"}"#),
    ("POST", "/v1/secrets/list", r#"{"cursor":null}"#),
];

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// A server with a port for operators, and one for agents that want a key.
fn closed() -> Desk {
    let desk = desk(|config| {
        let digest = |key: &str| Digest::of(key.as_bytes()).to_string();
        config["serve"]["listener"][0] = json!({ "address": "127.0.0.1:0" });
        config["serve"]["caller"][0]["keys"] = json!([digest(AGENT)]);
        config["serve"]["admin"] = json!({ "address": "127.0.0.1:0", "keys": [digest(KEY)] });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

/// Status and body over the socket.
pub(super) fn over(socket: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let text = request(method, path, &[("Connection", "close")], body);
    stream.write_all(text.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn the_socket_is_private_and_goes_with_the_server() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let socket = desk.path("state/admin.sock");
    let server = Server::start(&desk);
    let metadata = std::fs::symlink_metadata(&socket).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let (status, answer) = over(&socket, "GET", "/v1/status", "");
    assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{answer}");
    let checks: Vec<&Value> = answer["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(checks, ["audit", "store", "disk", "memory"]);
    assert_eq!(answer["listening"][0], server.address().to_string());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    assert!(std::fs::symlink_metadata(&socket).is_err(), "it is gone");
    // One that a process left behind is no obstacle.
    let killed = Server::start(&desk);
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait().0, None);
    assert!(std::fs::symlink_metadata(&socket).is_ok());
    let _again = Server::start(&desk);
    assert_eq!(over(&socket, "GET", "/v1/status", "").0, 200);
}

#[test]
fn where_it_listens_is_what_the_file_says() {
    let desk = desk(|config| config["serve"]["admin"] = json!({ "socket": "run/manage" }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let _server = Server::start(&desk);
    assert_eq!(over(&desk.path("run/manage"), "GET", "/v1/status", "").0, 200);
    assert!(std::fs::symlink_metadata(desk.path("state/admin.sock")).is_err());
    let mode = std::fs::symlink_metadata(desk.path("run"))
        .expect("a folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_cannot_be_is_refused_at_the_start() {
    let key = Digest::of(KEY.as_bytes()).to_string();
    for (case, admin, parts) in [
        (
            "an address that others reach",
            json!({ "address": "0.0.0.0:9000", "keys": [key] }),
            &[
                "`0.0.0.0:9000` is not of the loopback",
                "[serve.admin]: address = \"127.0.0.1:9000\"",
            ][..],
        ),
        (
            "no key",
            json!({ "address": "127.0.0.1:0" }),
            &["needs a key", "[serve.admin]: keys"],
        ),
        (
            "a key in clear",
            json!({ "keys": ["aral_secret"] }),
            &["[serve.admin]: `keys` has what is not shown", "sha256sum"],
        ),
        (
            "an unknown key",
            json!({ "sockets": "a" }),
            &["unknown field `sockets`", "did you mean `socket`?"],
        ),
        (
            "a link",
            json!({ "socket": "link" }),
            &["exists already", "[serve.admin]: socket"],
        ),
        ("a file", json!({ "socket": "key.pem" }), &["exists already"]),
    ] {
        let desk = desk(|config| config["serve"]["admin"] = admin);
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        symlink(desk.path("elsewhere"), desk.path("link")).expect("a link");
        desk.aral(&["serve"]).assert(case, 2, parts);
        assert!(std::fs::symlink_metadata(desk.path("elsewhere")).is_err(), "{case}");
    }
}

#[test]
fn nobody_manages_without_the_key_of_an_operator() {
    let desk = closed();
    let server = Server::start(&desk);
    let ask = |method: &str, path: &str, fields: &[(&str, &str)], body: &str| {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(fields);
        Wire::open(server.admin()).ask(method, path, &all, body)
    };
    let (operator, agent) = (bearer(KEY), bearer(AGENT));
    for (method, path, body) in ADDRESSES {
        for (case, fields) in [
            ("no key", &[][..]),
            ("the key of an agent", &[("Authorization", &*agent)]),
            ("an unknown key", &[("Authorization", "Bearer aral_another")]),
            ("another scheme", &[("Authorization", "Basic YTpi")]),
        ] {
            let case = format!("{method} {path}, {case}");
            ask(method, path, fields, body).assert_problem(&case, 401, "authentication.failed");
        }
        let page = [("Authorization", &*operator), ("Origin", "http://localhost")];
        ask(method, path, &page, body).assert_problem(path, 403, "request.invalid");
        let rebound = [("Authorization", &*operator), ("Host", "evil.example")];
        ask(method, path, &rebound, body).assert_problem(path, 421, "request.invalid");
    }
    assert_eq!(
        ask("GET", "/v1/status", &[("Authorization", &operator)], "").status,
        200
    );
    // Nothing was done by any of those.
    assert_eq!(
        server.wire().invoke(ECHO, &[("Authorization", &agent)], "1").status,
        200
    );
    let refused = desk.aral(&["audit", "query", "--type", "authentication", "--json"]);
    assert!(refused.stdout.contains("management: an unknown key"), "{refused:?}");
    assert!(!refused.stdout.contains("aral_another"));
}

#[test]
fn agents_and_operators_see_nothing_of_each_other() {
    let desk = closed();
    let server = Server::start(&desk);
    let (operator, agent) = (bearer(KEY), bearer(AGENT));
    // On the listener of agents, with either key: no such address, and no such key.
    for (method, path, body) in ADDRESSES.into_iter().filter(|(_, path, _)| *path != "/v1/capabilities") {
        let ask = |key: &str| server.wire().ask(method, path, &[("Authorization", key)], body).status;
        assert!([404, 405].contains(&ask(&agent)), "{path}");
        assert_ne!(ask(&operator), 200, "{path}");
    }
    let reply = server
        .wire()
        .ask("GET", "/v1/capabilities", &[("Authorization", &operator)], "");
    reply.assert_problem("the operator's key", 401, "authentication.failed");
    let socket = desk.path("state/admin.sock");
    for path in [
        "/v1/invoke/runtime-echo-tool",
        "/v1/receipts/1",
        "/health",
        "/openapi.json",
        "/mcp",
    ] {
        assert_eq!(over(&socket, "GET", path, "").0, 404, "{path}");
        assert_eq!(over(&socket, "POST", path, "1").0, 404, "{path}");
    }
}

/// The program as a user who is nobody.
#[cfg(feature = "services")]
fn as_nobody(desk: &Desk, arguments: &[&str]) -> Run {
    use std::os::unix::process::CommandExt as _;

    // Where the program was built may be closed to others.
    let copy = desk.path("aral-for-all");
    if std::fs::hard_link(program(), &copy).is_err() {
        std::fs::copy(program(), &copy).expect("a copy of the program");
    }
    let output = desk
        .command_of(copy.as_ref(), arguments)
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("the program starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[cfg(feature = "services")]
#[test]
fn a_process_of_another_user_is_refused_and_on_record() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can be somebody else: run this test as root"
    );
    let desk = desk(|config| config["serve"]["admin"] = json!({ "socket": "run/manage" }));
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let _server = Server::start(&desk);
    let open = |path: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(desk.path(path), mode).expect("a path of ours");
    };
    // As wide open as somebody could make it by mistake.
    open("", 0o755);
    open("run", 0o755);
    open("run/manage", 0o666);
    let refused = as_nobody(&desk, &["reload"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    let recorded = desk.aral(&["audit", "query", "--type", "authentication", "--json"]);
    assert!(
        recorded.stdout.contains("management: a process of another user"),
        "{recorded:?}"
    );
    desk.aral(&["reload"]).assert("ours", 0, &[]);
}

#[test]
fn large_bodies_and_nonsense_are_refused() {
    let desk = closed();
    let server = Server::start(&desk);
    let socket = desk.path("state/admin.sock");
    let (key, length) = (bearer(KEY), (25 << 20).to_string());
    let fields = [("Authorization", &*key), ("Content-Length", &*length)];
    let reply = Wire::open(server.admin()).ask("POST", "/v1/manifests", &fields, "");
    reply.assert_problem("too large", 413, "request.invalid");
    for (_, path, _) in ADDRESSES.into_iter().filter(|(method, _, _)| *method == "POST") {
        for body in ["nonsense", "{\"unknown\":1}"] {
            let (status, problem) = over(&socket, "POST", path, body);
            let is_unknown_store = path == "/v1/memory/import" && status == 400;
            assert!(
                is_unknown_store || (status, &problem["code"]) == (400, &json!("request.invalid")),
                "{path} {body}: {status} {problem}"
            );
        }
    }
    assert_eq!(over(&socket, "GET", "/v1/status", "").0, 200);
}

#[test]
fn capabilities_come_and_go_while_it_runs() {
    let desk = desk(|_| ());
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    desk.manifest(&[]);
    let server = Server::start(&desk);
    let socket = desk.path("state/admin.sock");
    server
        .invoke(ECHO, "1")
        .assert_problem("none", 404, "capability.unknown");
    let manifest = json!({ "capabilities": [setup::entry(RUNTIME_ECHO_TOOL)] });
    let signed = setup::sign(Kind::Manifest, &manifest, &setup::key());
    desk.write("more.json", signed.to_string().as_bytes());
    let register = |path: &str| over(&socket, "POST", "/v1/manifests", &json!({ "path": path }).to_string());
    assert_eq!(register("more.json").0, 400, "relative to what?");
    assert_eq!(register(&desk.path("none.json")).0, 400);
    let (status, answer) = register(&desk.path("more.json"));
    assert_eq!(
        (status, &answer["registered"][0]["id"]),
        (200, &json!(ECHO)),
        "{answer}"
    );
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    // What was registered by hand stays when the file is read again.
    desk.aral(&["reload"]).assert("reload", 0, &[]);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    assert_eq!(
        over(&socket, "GET", "/v1/capabilities", "").1["capabilities"][0]["id"],
        ECHO
    );
    let withdraw = json!({ "id": ECHO, "version": "1.0.0" }).to_string();
    let withdraw = || over(&socket, "POST", "/v1/capabilities/withdraw", &withdraw).1;
    assert_eq!(
        (withdraw(), withdraw()),
        (
            json!({ "withdrawn": true, "warnings": [] }),
            json!({ "withdrawn": false, "warnings": [] })
        )
    );
    server
        .invoke(ECHO, "1")
        .assert_problem("withdrawn", 404, "capability.unknown");
}

#[test]
fn reloading_answers_what_came_of_it() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let file = std::fs::read_to_string(desk.path("aral.toml")).expect("a file");
    let socket = desk.path("state/admin.sock");
    let policy = || over(&socket, "GET", "/v1/policy", "").1;
    let before = policy();
    desk.configure_more(|config| config["policy"]["capabilities"] = json!([]));
    let told = desk.aral(&["reload", "--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    let after = policy();
    assert_ne!(before["digest"], after["digest"]);
    assert_eq!(told.object()["policy"], after["digest"]);
    assert_eq!(after["policy"]["capabilities"], json!([]));
    server
        .invoke(ECHO, "1")
        .assert_problem("closed", 403, "permission.denied");
    // A file that cannot be: the same words as at the start, the exit code of a bad file, and nothing has changed.
    desk.write(
        "aral.toml",
        file.replace("concurrent_calls_max = 8", "concurrent_calls_max = 9")
            .as_bytes(),
    );
    desk.aral(&["reload"]).assert(
        "fixed",
        2,
        &["[runtime] cannot change while the host runs", "restart it"],
    );
    assert_eq!(policy(), after);
}

#[test]
fn reloading_with_another_file_than_that_of_the_server_is_refused() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let _server = Server::start(&desk);
    let (socket, own) = (desk.path("state/admin.sock"), desk.path("aral.toml"));
    let policy = || over(&socket, "GET", "/v1/policy", "").1;
    let before = policy();
    // The same socket, and a policy that never came to hold.
    let mut other = desk.config();
    other["policy"]["capabilities"] = json!([]);
    desk.write("other.toml", toml::to_string(&other).expect("TOML").as_bytes());
    let other = desk.path("other.toml");
    desk.aral(&["--config", "other.toml", "reload"]).assert(
        "another file",
        2,
        &[&*format!("was started with `{own}`, and not with `{other}`")],
    );
    assert_eq!(policy(), before);
    let status = desk.aral(&["--config", "other.toml", "status", "--json"]);
    assert_eq!((status.code, &status.object()["file"]), (0, &json!(own)), "{status:?}");
    // Verbs that do not read it say whose server they were done in.
    let told = format!("was started with `{own}`, and not with `other.toml`");
    let manifest = desk.path("none.json");
    for verb in [
        &["withdraw", "x@1.0.0"][..],
        &["register", &manifest],
        &["status"],
        &["policy", "show"],
    ] {
        let other = desk.aral(&[&["--config", "other.toml"], verb].concat());
        assert!(other.stderr.contains(&told), "{verb:?}: {other:?}");
        let own = desk.aral(&[&["--config", "aral.toml"], verb].concat());
        assert!(!own.stderr.contains("was started with"), "{verb:?}: {own:?}");
    }
    // One file under other names is one file, and who names none means that of the server.
    symlink(&own, desk.path("link.toml")).expect("a link");
    for name in ["aral.toml", own.as_str(), "link.toml"] {
        desk.aral(&["--config", name, "reload"]).assert(name, 0, &[]);
    }
    for body in ["", "{}"] {
        assert_eq!(over(&socket, "POST", "/v1/reload", body).0, 200, "{body}");
    }
}

#[test]
fn verbs_register_and_withdraw_while_it_runs() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let withdraw = format!("{ECHO}@1.0.0");
    let withdraw = || desk.aral(&["withdraw", &withdraw]);
    let told = withdraw();
    assert_eq!(
        (told.code, &*told.stdout),
        (0, "withdrawn runtime-echo-tool 1.0.0\n"),
        "{told:?}"
    );
    server
        .invoke(ECHO, "1")
        .assert_problem("withdrawn", 404, "capability.unknown");
    withdraw().assert(
        "again",
        6,
        &["has no capability `runtime-echo-tool`", "(capability.unknown)"],
    );
    // What the configuration names comes back with it.
    desk.aral(&["reload"]).assert("reload", 0, &[]);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    for (wanted, parts) in [
        (
            "runtime-echo-tool@1.0.1",
            &["no version `1.0.1` of `runtime-echo-tool`: there is 1.0.0"],
        ),
        ("none@1.0.0", &["has no capability `none`"]),
    ] {
        desk.aral(&["withdraw", wanted]).assert(wanted, 6, parts);
    }
    for wanted in [ECHO, "runtime-echo-tool@^1", "NO@1.0.0"] {
        desk.aral(&["withdraw", wanted])
            .assert(wanted, 2, &["hint: write it like `text-grep@1.0.0`"]);
    }
    assert_eq!(server.invoke(ECHO, "1").status, 200, "none of those did anything");

    // A path is one of the folder in which the verb is typed.
    let mut another = setup::entry(RUNTIME_ECHO_TOOL);
    another["id"] = json!("another");
    let body = json!({ "capabilities": [another] });
    let signed = |key: &PrivateKey| setup::sign(Kind::Manifest, &body, key).to_string();
    desk.write("more.json", signed(&setup::key()).as_bytes());
    let stranger = PrivateKey::from_seed(&zeroize::Zeroizing::new([9; 32]));
    desk.write("stranger.json", signed(&stranger).as_bytes());
    desk.write("nonsense.json", b"nonsense");
    desk.aral(&["register", "none.json"])
        .assert("no manifest", 2, &["none.json", "(config.invalid)"]);
    desk.aral(&["register", "stranger.json"]).assert(
        "a stranger's",
        7,
        &["which is not trusted", "(signature.invalid)"],
    );
    desk.aral(&["register", "nonsense.json"])
        .assert("nonsense", 7, &["(document.invalid)"]);
    server
        .invoke("another", "1")
        .assert_problem("refused", 404, "capability.unknown");
    let told = desk.aral(&["register", "more.json"]);
    assert_eq!(
        (told.code, &*told.stdout),
        (0, "registered another 1.0.0\n"),
        "{told:?}"
    );
    assert_eq!(server.invoke("another", "1").status, 200);
    let told = desk.aral(&["withdraw", "another@1.0.0", "--json"]);
    assert_eq!(
        (told.code, told.object()),
        (0, json!({ "withdrawn": true, "warnings": [] })),
        "{told:?}"
    );
    server
        .invoke("another", "1")
        .assert_problem("withdrawn", 404, "capability.unknown");
    let told = desk.aral(&["register", "more.json", "--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(told.object()["registered"][0]["id"], "another");
}

#[test]
fn registering_over_what_the_configuration_names_says_that_the_next_start_fails_and_how_to_go_back() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    std::fs::copy(desk.path("manifest.json"), desk.path("newer.json")).expect("a copy");
    let sign = |file: &str, more: &[&str]| {
        let sign = ["manifest", "sign", file, "--key", "key.pem"];
        desk.aral(&[&sign[..], more].concat()).assert(file, 0, &[]);
    };
    sign("newer.json", &["--serial", "2"]);
    let told = [
        "manifest.json`, which [manifests] names, has serial 1, and serial 2 was registered",
        "the next start fails",
        "`aral manifest sign ",
    ];
    desk.aral(&["register", "newer.json"]).assert("register", 0, &told);
    let doctor = desk.aral(&["doctor"]);
    assert_eq!(doctor.code, 2, "{doctor:?}");
    for part in ["was admitted before with serial 2", "sign this one again"] {
        assert!(doctor.stdout.contains(part), "`{part}` is not in {doctor:?}");
    }
    desk.aral(&["withdraw", "runtime-echo-tool@1.0.0"])
        .assert("withdraw", 0, &told);
    // It comes back under a serial that is the highest again.
    sign("manifest.json", &[]);
    desk.aral(&["reload"]).assert("reload", 0, &[]);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    let told = desk.aral(&["withdraw", "runtime-echo-tool@1.0.0"]);
    assert!(told.code == 0 && !told.stderr.contains("[manifests]"), "{told:?}");
}

#[test]
fn verbs_say_how_it_is_and_which_policy_holds() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    let socket = desk.path("state/admin.sock");
    let status = desk.aral(&["status", "--json"]);
    assert_eq!(status.code, 0, "{status:?}");
    let status = status.object();
    assert_eq!(status["listening"], json!([server.address().to_string()]));
    let words = desk.aral(&["status"]);
    words.assert("status", 0, &[]);
    let text = |name: &str| status[name].as_str().expect("a text").to_owned();
    for part in [
        "status         ok\n".to_owned(),
        format!("file           {}\n", desk.path("aral.toml")),
        format!("configuration  {}\n", text("configuration")),
        format!("policy         {}\n", text("policy")),
        format!("listening      {}\n", server.address()),
        "store          none\n".to_owned(),
        "  audit   ok\n".to_owned(),
    ] {
        assert!(words.stdout.contains(&part), "`{part}` is not in {words:?}");
    }

    let before = desk.aral(&["policy", "show", "--json"]);
    assert_eq!(
        (before.code, before.object()),
        (0, over(&socket, "GET", "/v1/policy", "").1),
        "{before:?}"
    );
    // It is the server that says it, and not the file.
    desk.configure_more(|config| config["policy"]["capabilities"] = json!([]));
    assert_eq!(desk.aral(&["policy", "show", "--json"]).object(), before.object());
    desk.aral(&["reload"]).assert("reload", 0, &[]);
    let after = desk.aral(&["policy", "show", "--json"]).object();
    assert_eq!(after["policy"]["capabilities"], json!([]));
    let words = desk.aral(&["policy", "show"]);
    words.assert("policy", 0, &[]);
    let (digest, policy) = words.stdout.split_once('\n').expect("two lines");
    assert_eq!(Some(digest.trim_start_matches("digest ")), after["digest"].as_str());
    assert_eq!(serde_json::from_str::<Value>(policy).expect("JSON"), after["policy"]);
}

#[test]
fn while_its_file_is_broken_a_server_is_found_by_another_one() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let server = Server::start(&desk);
    desk.write("aral.toml", b"x = ");
    desk.write("socket.toml", b"state_dir = \"state\"\n");
    let withdraw = ["withdraw", "runtime-echo-tool@1.0.0"];
    desk.aral(&withdraw).assert("half an edit", 2, &["(config.invalid)"]);
    assert_eq!(server.invoke(ECHO, "1").status, 200);
    desk.aral(&[&["--config", "socket.toml"][..], &withdraw].concat())
        .assert("another file", 0, &[]);
    server
        .invoke(ECHO, "1")
        .assert_problem("withdrawn", 404, "capability.unknown");
    for verb in [
        &["status"][..],
        &["policy", "show"],
        &["top", "--once", "--interval-ms", "50"],
    ] {
        desk.aral(&[&["--config", "socket.toml"][..], verb].concat())
            .assert("another file", 0, &[]);
    }
}

#[test]
fn verbs_for_a_server_say_that_none_runs() {
    let desk = desk(|_| ());
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for verb in [
        &["register", "manifest.json"][..],
        &["withdraw", "runtime-echo-tool@1.0.0"],
        &["status"],
        &["policy", "show"],
        &["reload"],
    ] {
        desk.aral(verb).assert(
            "no server",
            8,
            &["no server of this configuration runs", "`aral serve`"],
        );
        let told = desk.aral(&[verb, &["--json"]].concat());
        assert_eq!(
            (told.code, &told.object()["error"]["code"]),
            (8, &json!("host.unavailable")),
            "{verb:?}"
        );
    }
}
