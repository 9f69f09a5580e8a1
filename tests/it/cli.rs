//! The command line as people and scripts meet it: keys, documents, inspection, comparison, forms of output, where things are
//! found.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use aral_contract::document::PrivateKey;
use serde_json::{Value, json};

use crate::support::desk::{Desk, Run, program};
use crate::support::guests::*;
use crate::support::setup;
use crate::support::tls::Authority;

fn object(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
}

/// The verbs that a help lists.
fn verbs(help: &str) -> Vec<&str> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // What goes on in the next line stands further to the right.
    let lines = lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names = lines.filter_map(|line| line.split(' ').next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn help_of_every_verb() {
    let desk = Desk::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(verb) = open.pop() {
        let words: Vec<&str> = verb.iter().map(String::as_str).collect();
        let run = desk.aral(&[&words[..], &["--help"]].concat());
        run.assert("help", 0, &[]);
        let below = verbs(&run.stdout);
        if words.is_empty() || below.is_empty() {
            let name = [&["help"][..], &words[..]].concat().join("_");
            insta::assert_snapshot!(name, run.stdout.as_str());
            seen += 1;
        }
        open.extend(below.iter().map(|one| [&verb[..], &[(*one).to_owned()]].concat()));
    }
    assert!(seen > 40, "only {seen} verbs are listed");
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let desk = Desk::new();
    let made = desk.aral(&["keygen", "dev", "--json"]);
    made.assert("keygen", 0, &[]);
    let mode = |name: &str| std::fs::metadata(desk.path(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode("dev.pem"), mode("dev.pub.pem")), (0o600, 0o644));
    let public = std::fs::read_to_string(desk.path("dev.pub.pem")).expect("a file");
    let key = aral_contract::document::PublicKey::from_pem(&public).expect("a key");
    assert_eq!(object(&made)["key_id"], key.id().to_string());
    let private = std::fs::read(desk.path("dev.pem")).expect("a file");
    desk.aral(&["keygen", "dev"])
        .assert("again", 2, &["exists already", "hint: "]);
    std::fs::remove_file(desk.path("dev.pub.pem")).expect("a file");
    desk.aral(&["keygen", "dev"])
        .assert("with one of two", 2, &["dev.pem", "exists already"]);
    assert_eq!(std::fs::read(desk.path("dev.pem")).expect("a file"), private);
    desk.aral(&["keygen", "nowhere/dev"])
        .assert("no folder", 2, &["nowhere"]);
}

#[test]
fn the_wrong_half_of_a_pair_is_named_and_no_other_pair() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for (arguments, part) in [
        (
            &["manifest", "sign", "manifest.json", "--key", "key.pub.pem"][..],
            "`key.pub.pem` is a public key, where the private one",
        ),
        (
            &["manifest", "verify", "manifest.json", "--trust", "key.pem"],
            "`key.pem`: a private key, where the public one",
        ),
    ] {
        let run = desk.aral(arguments);
        run.assert(part, 2, &[part]);
        assert!(
            !run.stderr.contains("keygen") && !run.stderr.contains("chmod"),
            "{run:?}"
        );
    }
}

#[test]
fn a_file_that_is_something_else_is_named() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.write("echo.wasm", &RUNTIME_ECHO_TOOL.bytes());
    desk.write("empty.wasm", b"");
    desk.write("marked.json", "\u{feff}{}".as_bytes());
    for (arguments, code, parts) in [
        (
            &["diff", "echo.wasm", "empty.wasm"][..],
            7,
            &["`empty.wasm`: the file is empty"][..],
        ),
        (
            &["diff", "aral.toml", "echo.wasm"],
            7,
            &["`aral.toml`: this is not WebAssembly"],
        ),
        (&["diff", "marked.json", "echo.wasm"], 7, &["`marked.json`: "]),
        (&["inspect", "empty.wasm"], 7, &["`empty.wasm`: the file is empty"]),
        (
            &["run", "empty.wasm", "--development"],
            7,
            &["`empty.wasm`: the file is empty"],
        ),
        (
            &["manifest", "sign", "aral.toml", "--key", "key.pem"],
            7,
            &["`aral.toml`: the manifest is not"],
        ),
        (
            &["manifest", "verify", "marked.json"],
            7,
            &["`marked.json`: ", "byte order mark"],
        ),
        (
            &["persona", "sign", "empty.wasm", "--key", "key.pem"],
            7,
            &["`empty.wasm`: the persona is not"],
        ),
        (
            &["persona", "verify", "manifest.json"],
            7,
            &["`manifest.json`: the document is `aral.manifest/v1`"],
        ),
        (
            &["persona", "show", "aral.toml"],
            7,
            &["`aral.toml`: the persona is not"],
        ),
        (
            &["manifest", "build", "echo.wasm", "--out", "new.json"],
            2,
            &[
                "`echo.wasm`",
                "hint: name a folder with a capability.toml, or that file",
            ],
        ),
        (
            &["persona", "new", "--id", "me", "--clearance", "top"],
            2,
            &["`--clearance`: "],
        ),
    ] {
        desk.aral(arguments).assert(&arguments.join(" "), code, parts);
    }
}

#[test]
fn inspect_reads_what_others_built() {
    let desk = Desk::new();
    // A program of the standard library alone, that knows nothing of this host.
    let plain = std::fs::read(concat!(env!("ARAL_CAPABILITIES"), "/word-count.wasm")).expect("a component");
    desk.write("plain.wasm", &plain);
    let seen = object(&desk.aral(&["inspect", "plain.wasm", "--json"]));
    assert_eq!(
        (&seen["inspection"]["shape"], &seen["inspection"]["permissions"]),
        (&json!("command"), &json!([])),
        "{seen}"
    );
    desk.write("it.wasm", &ISOLATION_EXEC.bytes());
    let seen = object(&desk.aral(&["inspect", "it.wasm", "--json"]));
    let inspection = &seen["inspection"];
    assert_eq!(inspection["digest"], setup::entry(ISOLATION_EXEC)["component"]);
    assert_eq!(inspection["shape"], "command");
    assert_eq!(inspection["size_bytes"], ISOLATION_EXEC.bytes().len());
    let permissions = inspection["permissions"].as_array().expect("a list");
    assert!(permissions.contains(&json!("exec")), "{inspection}");
    let run = desk.aral(&["inspect", "it.wasm"]);
    run.assert("for a person", 0, &[]);
    assert!(
        run.stdout.contains("aral:capability/exec@1.0.0") && run.stdout.contains("needs exec"),
        "{run:?}"
    );
}

#[test]
fn diff_says_by_its_exit_code_whether_authority_grew() {
    let desk = Desk::new();
    desk.write("plain.wasm", &RUNTIME_ECHO_COMMAND.bytes());
    desk.write("exec.wasm", &ISOLATION_EXEC.bytes());
    let grew = desk.aral(&["diff", "plain.wasm", "exec.wasm"]);
    assert_eq!(grew.code, 10, "{grew:?}");
    assert!(
        grew.stdout.contains("! import added") && grew.stdout.contains("authority grew"),
        "{grew:?}"
    );
    desk.aral(&["diff", "exec.wasm", "plain.wasm"])
        .assert("it shrank", 0, &[]);
    let same = desk.aral(&["diff", "exec.wasm", "exec.wasm", "--json"]);
    same.assert("nothing changed", 0, &[]);
    assert_eq!(object(&same)["diff"], json!({"authority_grew": false, "changes": []}));

    let hosts = |hosts: Value| {
        desk.guest(NETWORK_HTTP, |entry| {
            entry["permissions"] = json!({ "network:read": { "hosts": hosts } })
        });
        std::fs::rename(desk.path("manifest.json"), desk.path("one.json")).expect("a manifest");
    };
    hosts(json!(["https://a.example", "https://b.example"]));
    std::fs::rename(desk.path("one.json"), desk.path("two.json")).expect("a manifest");
    hosts(json!(["https://a.example"]));
    let grew = desk.aral(&["diff", "one.json", "two.json"]);
    assert_eq!(grew.code, 10, "{grew:?}");
    assert!(
        grew.stdout.contains("network:read") && grew.stdout.contains("https://b.example"),
        "{grew:?}"
    );
    desk.aral(&["diff", "two.json", "one.json"])
        .assert("a host less", 0, &[]);
    desk.aral(&["diff", "one.json", "exec.wasm"])
        .assert("two kinds", 2, &["cannot be compared", "hint: "]);
}

#[test]
fn with_json_there_is_one_object_whatever_happens() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.write("echo.wasm", &RUNTIME_ECHO_TOOL.bytes());
    let answer = object(&desk.aral(&["invoke", "runtime-echo-tool", "--input", r#"{"a":1}"#, "--json"]));
    assert_eq!(answer["answer"], json!({"a": 1}));
    assert_eq!(answer["version"], "1.0.0");
    assert!(
        answer["usage"]["fuel"].as_u64().is_some_and(|fuel| fuel > 0),
        "{answer}"
    );
    assert_eq!(answer["trace_id"].as_str().map(str::len), Some(32));
    for (arguments, code, error) in [
        (&["invoke", "no-such-thing"][..], 6, "capability.unknown"),
        (&["invoke", "runtime-echo-tool", "--input", "{"], 6, "input.invalid"),
        (&["invoke", "NO"], 2, "config.invalid"),
        (&["no-such-verb"], 2, "config.invalid"),
        (&["run", "echo.wasm"], 2, "config.invalid"),
        (&["inspect", "aral.toml"], 7, "component.invalid"),
        (&["inspect", "nowhere.wasm"], 2, "config.invalid"),
        (&["manifest", "verify", "aral.toml"], 7, "document.invalid"),
        (&["explain", "no-such-thing"], 6, "capability.unknown"),
        (&["--config", "nowhere.toml", "explain"], 2, "config.invalid"),
        (&["build", "components"], 2, "config.invalid"),
        (&["new", "UPPER"], 2, "config.invalid"),
        (&["keygen", "key"], 2, "config.invalid"),
    ] {
        let run = desk.aral(&[arguments, &["--json"]].concat());
        assert_eq!(run.code, code, "{arguments:?}: {run:#?}");
        let error_object = &object(&run)["error"];
        assert_eq!(error_object["code"], error, "{arguments:?}: {run:#?}");
        let members: Vec<&String> = error_object.as_object().expect("an object").keys().collect();
        let expected = ["code", "hint", "message", "retry_after_ms", "trace_id"];
        assert_eq!(members, expected, "{arguments:?}");
    }
    let missing = object(&desk.aral(&["memory", "rotate-key", "--json"]))["error"].clone();
    assert!(
        missing["message"].as_str().is_some_and(|text| text.contains("--to")),
        "{missing}"
    );
    assert_eq!(missing["hint"], "`aral memory rotate-key --help`");
    for arguments in [
        &["explain"][..],
        &["doctor"],
        &["completions", "fish"],
        &["inspect", "echo.wasm"],
        &["manifest", "verify", "manifest.json"],
        &["manifest", "sign", "manifest.json", "--key", "key.pem"],
        &["run", "echo.wasm", "--development"],
        &["persona", "new", "--id", "me", "--out", "me.json"],
        &["new", "fresh", "--shape", "command"],
    ] {
        let run = desk.aral(&[arguments, &["--json"]].concat());
        assert_eq!(run.code, 0, "{arguments:?}: {run:#?}");
        assert!(object(&run).is_object(), "{arguments:?}: {run:#?}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colour_and_no_spinner() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for arguments in [
        &["invoke", "runtime-echo-tool"][..],
        &["invoke", "no-such-thing"],
        &["doctor"],
        &["explain"],
    ] {
        let run = desk.aral(arguments);
        assert!(
            !run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'),
            "{arguments:?}: {run:#?}"
        );
    }
}

#[test]
fn input_comes_from_the_command_line_a_file_or_a_pipe() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.write("in.json", br#"{"from":"file"}"#);
    let file = desk.invoke(RUNTIME_ECHO_TOOL, "@in.json");
    assert_eq!(file.stdout, "{\"from\":\"file\"}\n");
    let mut child = Command::new(program())
        .args(["invoke", "runtime-echo-tool", "--input", "-", "--quiet"])
        .current_dir(desk.root())
        .stdin(std::fs::File::open(desk.path("in.json")).expect("a file"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut answer = String::new();
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut answer)
        .expect("text");
    assert!(child.wait().expect("an end").success());
    assert_eq!(answer, "{\"from\":\"file\"}\n");
}

#[test]
fn a_reader_who_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(program())
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("the program starts");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_full_disk_behind_standard_output_is_no_fault_of_the_configuration() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    let output = Command::new(program())
        .args(["completions", "bash"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("standard output cannot be written: "), "{said}");
    assert!(said.contains("make room where it goes"), "{said}");
}

#[test]
fn what_a_verb_found_is_its_exit_code_though_nobody_reads_it() {
    let desk = Desk::new();
    desk.write("aral.toml", b"half = [");
    for more in [&["doctor"][..], &["doctor", "--json"]] {
        assert_eq!(desk.unread(more), Some(2), "{more:?}");
    }
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for verb in [
        &["invoke", "nothing"][..],
        &["invoke", "runtime-echo-tool", "--input", "["],
    ] {
        for more in [&[][..], &["--json"]] {
            let arguments = [verb, more].concat();
            let read = desk.aral(&arguments).code;
            assert_ne!(read, 0, "{arguments:?}");
            assert_eq!(desk.unread(&arguments), Some(read), "{arguments:?}");
        }
    }
}

#[test]
fn a_call_whose_answer_nobody_takes_says_where_it_is_on_record() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let call = |more: &[&str], stdout: Stdio| {
        let arguments = [&["invoke", "runtime-echo-tool"][..], more].concat();
        let output = desk.command(&arguments).stdout(stdout).stderr(Stdio::piped()).output();
        let output = output.expect("the program starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let plain: &[&str] = &[];
    for more in [plain, &["--json"], &["--quiet"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, closed) = call(more, writer.into());
        assert_eq!(code, Some(0), "{more:?}: {closed}");
        let device = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let (code, full) = call(more, device.expect("a device").into());
        assert_eq!(code, Some(8), "{more:?}: {full}");
        for said in [closed, full] {
            for part in ["the call was made", "receipt   record ", "trace     "] {
                assert!(said.contains(part), "{more:?}: `{part}` is not in {said}");
            }
        }
    }
}

#[test]
fn doctor_names_the_fix_of_each_fault() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let status = |name: &str| {
        let run = desk.aral(&["doctor", "--json"]);
        let checks = object(&run)["checks"].clone();
        let check = checks
            .as_array()
            .expect("checks")
            .iter()
            .find(|check| check["name"] == name)
            .cloned();
        (run.code, check.unwrap_or_else(|| panic!("{name}: {run:#?}")))
    };
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("a call", 0, &[]);
    for name in ["configuration", "trust", "manifest", "state", "pool", "audit"] {
        assert_eq!(status(name).1["status"], "ok", "{name}");
    }
    let stranger = PrivateKey::from_seed(&zeroize::Zeroizing::new([9; 32]));
    desk.write("stranger.pem", stranger.to_pem().expect("a key").as_bytes());
    desk.private("stranger.pem");
    desk.configure(|config| config["audit"]["key_file"] = json!("stranger.pem"));
    let (code, audit) = status("audit");
    assert_eq!(
        (code, &audit["status"]),
        (2, &json!("fail")),
        "nobody trusts the key: {audit}"
    );
    desk.configure(|config| config["manifests"]["files"] = json!(["nowhere.json"]));
    let (code, manifest) = status("manifest");
    assert_eq!((code, &manifest["status"]), (2, &json!("fail")), "{manifest}");
    let build = "`aral manifest build`";
    assert!(
        manifest["fix"].as_str().is_some_and(|fix| fix.contains(build)),
        "{manifest}"
    );
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert(
        "no manifest",
        2,
        &["[manifests] `", "nowhere.json`: there is no manifest", build],
    );
    desk.configure(|config| config["personas"] = json!({ "files": ["persona.json"] }));
    assert_eq!(status("persona").1["status"], "ok");
    desk.configure(|config| config["personas"] = json!({ "files": ["nowhere.json"] }));
    let (code, persona) = status("persona");
    assert_eq!((code, &persona["status"]), (2, &json!("fail")), "{persona}");
    desk.configure(|config| config["trust"][0]["not_after"] = json!("2020-01-01T00:00:00Z"));
    assert_eq!(status("trust").1["status"], "warn", "its time is over");
    desk.configure(|config| config["trust"] = json!([]));
    assert_eq!(status("trust").1["status"], "warn");
    desk.write("open/x", b"");
    std::fs::set_permissions(desk.path("open"), std::fs::Permissions::from_mode(0o755)).expect("a folder of ours");
    desk.configure(|config| config["state_dir"] = json!("open"));
    let (code, state) = status("state");
    assert_eq!((code, &state["status"]), (2, &json!("fail")), "{state}");
    desk.configure(|config| config["runtime"] = json!({ "allocation": "on-demand" }));
    assert_eq!(status("pool").1["status"], "warn");
    desk.write("aral.toml", b"polcy = 1\n");
    let (code, configuration) = status("configuration");
    assert_eq!(
        (code, &configuration["fix"]),
        (2, &json!("did you mean `policy`?")),
        "{configuration}"
    );
}

#[test]
fn doctor_says_of_a_signed_document_that_is_not_taken_what_to_change_in_it() {
    let desk = Desk::new();
    let fix = |name: &str| {
        let run = desk.aral(&["doctor", "--json"]);
        let checks = object(&run)["checks"].clone();
        let mut checks = checks.as_array().expect("checks").clone().into_iter();
        let check = checks.find(|check| check["name"] == name).expect("a check");
        assert_eq!((run.code, &check["status"]), (2, &json!("fail")), "{check}");
        check["fix"].as_str().expect("a fix").to_owned()
    };
    let secret = json!({ "name": "k", "hosts": ["https://api.example.test"], "header": "baggage" });
    desk.guest(RUNTIME_ECHO_TOOL, |entry| {
        entry["permissions"] = json!({ "secret:read": { "secrets": [secret] } });
    });
    let hint = "write another header into capability.toml";
    assert!(fix("manifest").starts_with(hint), "{}", fix("manifest"));
    desk.aral(&["manifest", "verify", "manifest.json"])
        .assert("the same", 7, &["`baggage`", hint]);
    desk.invoke(RUNTIME_ECHO_TOOL, "1")
        .assert("a start", 7, &["`baggage`", hint]);
    // Where the failure tells no fix, that of the check is a step onward, and not to the same words elsewhere.
    desk.write("manifest.json", b"{}");
    desk.write("persona.json", b"{}");
    desk.configure(|config| config["personas"] = json!({ "files": ["persona.json"] }));
    let build = format!(
        "`aral manifest build FOLDER… --out {}`, `aral manifest sign ",
        desk.path("NEW.json")
    );
    assert!(fix("manifest").contains(&build), "{}", fix("manifest"));
    assert!(fix("persona").contains("`aral persona sign "), "{}", fix("persona"));
}

#[test]
fn doctor_warns_of_what_manifests_ask_for_and_the_configuration_has_no_place_for() {
    let desk = Desk::new();
    let warned = || {
        let checks = object(&desk.aral(&["doctor", "--json"]))["checks"].clone();
        let checks = checks.as_array().expect("checks").clone().into_iter();
        let warned = checks.filter(|check| check["name"] == "memory" || check["name"] == "secrets");
        let warned = warned.filter(|check| check["status"] == "warn");
        warned
            .map(|check| check["detail"].as_str().expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    let permissions = json!({
        "memory:read": { "namespaces": ["notes"] },
        "secret:read": { "secrets": [{ "name": "one", "use": "reveal" }, { "name": "two", "use": "reveal" }] },
        "secret:write": { "names": ["two"] },
    });
    desk.guest(ISOLATION_MEMORY_STEPS, |entry| entry["permissions"] = permissions);
    let records = format!(
        "there is no [memory], and these ask for records: {}",
        ISOLATION_MEMORY_STEPS.id()
    );
    let secrets = "manifests ask for these, and there is no place for them: one, two".to_owned();
    assert_eq!(warned(), [records.clone(), secrets]);
    desk.configure(|config| config["secrets"] = json!({ "names": { "one": "env://ONE" } }));
    let secrets = "manifests ask for these, and there is no place for them: two".to_owned();
    assert_eq!(warned(), [records.clone(), secrets]);
    // A variable is a place of what is read alone.
    desk.configure(|config| config["secrets"] = json!({ "names": { "one": "env://ONE", "two": "env://TWO" } }));
    let fixed = "manifests ask to store these, and a variable takes no new value: two".to_owned();
    assert_eq!(warned(), [records, fixed]);
    desk.guest(ISOLATION_MEMORY_STEPS, |_| ());
    assert_eq!(warned(), <[String; 0]>::default(), "nothing asks for any");
}

#[test]
fn doctor_refuses_a_manifest_beside_a_newer_issue_of_it_as_a_start_does() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    std::fs::copy(desk.path("manifest.json"), desk.path("newer.json")).expect("a copy");
    desk.aral(&["manifest", "sign", "newer.json", "--key", "key.pem", "--serial", "2"])
        .assert("a newer issue", 0, &[]);
    for files in [["manifest.json", "newer.json"], ["newer.json", "manifest.json"]] {
        desk.configure(|config| config["manifests"]["files"] = json!(files));
        let run = desk.aral(&["doctor"]);
        assert_eq!(run.code, 2, "{run:#?}");
        for part in [
            "manifest.json`: it has serial 1, and `",
            "newer.json`, which has `",
            "name one of them",
        ] {
            assert!(run.stdout.contains(part), "`{part}` is not in {run:#?}");
        }
        desk.invoke(RUNTIME_ECHO_TOOL, "1")
            .assert("a start", 7, &["it has serial 1, and `"]);
    }
    desk.configure(|config| config["manifests"]["files"] = json!(["newer.json"]));
    let run = desk.aral(&["doctor"]);
    assert_eq!(run.code, 0, "{run:#?}");
}

#[test]
fn a_manifest_may_be_a_link_that_leaves_its_folder() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (link, target) = (desk.path("manifest.json"), elsewhere.path().join("signed.json"));
    std::fs::copy(&link, &target).expect("a copy");
    std::fs::remove_file(&link).expect("a file");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert("behind a link", 0, &[]);
    let shown = desk.aral(&["doctor"]).stdout;
    assert!(shown.contains("capabilities in it: 1"), "{shown}");
    std::fs::remove_file(&target).expect("a file");
    desk.invoke(RUNTIME_ECHO_TOOL, "1").assert(
        "a link to nothing",
        2,
        &["there is no manifest", "hint: make and sign it"],
    );
    let shown = desk.aral(&["doctor"]).stdout;
    assert!(shown.contains("there is no manifest"), "{shown}");
}

#[test]
fn a_document_is_signed_where_its_link_leads_and_stays_as_closed_as_it_was() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    for (kind, file) in [("manifest", "manifest.json"), ("persona", "persona.json")] {
        desk.private(file);
        let link = desk.path(&format!("link-{file}"));
        std::os::unix::fs::symlink(file, &link).expect("a link");
        let signed = desk.aral(&[kind, "sign", &link, "--key", "key.pem", "--serial", "7", "--json"]);
        signed.assert(kind, 0, &[]);
        assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink(), "{file}");
        let metadata = std::fs::metadata(desk.path(file)).expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
        let document: Value = serde_json::from_slice(&std::fs::read(desk.path(file)).expect("a file")).expect("JSON");
        assert_eq!(document["serial"], 7, "{file}");
    }
}

#[test]
fn doctor_refuses_what_a_server_would_refuse_at_its_start() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let checked = |change: &dyn Fn(&mut Value)| {
        desk.configure(|config| {
            config["serve"] = json!({
                "listener": [{ "address": "127.0.0.1:0", "anonymous": "tester" }],
                "caller": [{ "name": "tester", "persona": "persona.json" }],
            });
            change(config);
        });
        let run = desk.aral(&["doctor"]);
        (run.code, run.stdout)
    };
    let refused = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let (code, shown) = checked(change);
        assert_eq!(code, 2, "{shown}");
        for part in parts {
            assert!(shown.contains(part), "`{part}` is not in {shown}");
        }
    };
    let (code, shown) = checked(&|_| ());
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("personas, callers, issuers and listeners are"),
        "{shown}"
    );
    let (code, shown) = checked(&|config| {
        config["serve"]["caller"] = json!([
            { "name": "tester", "persona": "persona.json" }, { "name": "forgotten", "persona": "persona.json" },
        ]);
    });
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("who asks for `forgotten`: such a caller") && shown.contains("[[serve.caller]]: keys = "),
        "{shown}"
    );
    let listener =
        |key: &'static str, value: Value| move |config: &mut Value| config["serve"]["listener"][0][key] = value.clone();
    refused(
        &|config| config["serve"]["caller"][0]["persona"] = json!("nowhere.json"),
        &[
            "the persona of the caller `tester`: there is no persona",
            "aral persona sign",
        ],
    );
    refused(
        &listener("address", json!("0.0.0.0:8781")),
        &[
            "`0.0.0.0:8781` is not of the loopback",
            "without TLS",
            "[serve.listener.tls]",
        ],
    );
    refused(
        &|config| {
            let tls = json!({ "certificate_file": "none.pem", "key_file": "none.pem" });
            config["serve"]["listener"][0]["address"] = json!("127.0.0.1:8782");
            config["serve"]["listener"][0]["tls"] = tls;
        },
        &["the listener of `127.0.0.1:8782`"],
    );
    refused(
        &listener("anonymous", json!("nobody")),
        &["for `nobody`, and there is no such caller"],
    );
    let twice = |port: u16| {
        move |config: &mut Value| {
            let one = json!({ "address": format!("127.0.0.1:{port}"), "anonymous": "tester" });
            config["serve"]["listener"] = json!([one, one]);
        }
    };
    refused(
        &twice(8443),
        &["`127.0.0.1:8443` is listened on twice", "a port of its own"],
    );
    // The system gives each a port of its own.
    let (code, shown) = checked(&twice(0));
    assert_eq!(code, 0, "{shown}");
    // A server that runs has its port, and is none of doctor's business.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, shown) = checked(&listener("address", json!(&address)));
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = checked(&|config| config["policy"]["file"]["read_roots"] = json!(["/nowhere"]));
    assert!(
        code == 0 && shown.contains("read_roots: `/nowhere` is no folder"),
        "{shown}"
    );
    let (code, shown) = checked(&|config| {
        config["policy"]["network"]["networks"] = json!(["10.1.0.1/16"]);
        config["policy"]["exec"] = json!({ "programs": [{ "path": "/usr/bin/gitt", "args": [] }] });
        config["serve"]["limits"] = json!({ "requests_max": 10, "requests_per_caller_max": 500 });
    });
    assert_eq!(code, 0, "{shown}");
    for part in [
        "`10.1.0.1/16` is all of the network `10.1.0.0/16`",
        "`/usr/bin/gitt` is not there",
        "requests_per_caller_max = 500 bounds nothing",
    ] {
        assert!(shown.contains(part), "`{part}` is not in {shown}");
    }
}

#[test]
fn doctor_warns_of_a_certificate_that_ends_soon() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.configure(|config| {
        let tls = json!({ "certificate_file": "chain.pem", "key_file": "key.pem" });
        config["serve"] = json!({
            "listener": [{ "address": "127.0.0.1:0", "anonymous": "tester", "tls": tls }],
            "caller": [{ "name": "tester", "persona": "persona.json" }],
        });
    });
    let authority = Authority::new();
    authority.install(&desk);
    let run = desk.aral(&["doctor"]);
    assert!(run.code == 0 && !run.stdout.contains("the certificate is"), "{run:#?}");
    let end = jiff::Timestamp::now() + Duration::from_secs(3 * 24 * 3600);
    let day = end.to_zoned(jiff::tz::TimeZone::UTC).date();
    authority.install_changed(&desk, |params| {
        let (month, day_of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        params.not_after = rcgen::date_time_ymd(day.year().into(), month, day_of_month);
    });
    let run = desk.aral(&["doctor"]);
    let told = format!("chain.pem`: the certificate is in its time until {day}T00:00:00Z");
    assert!(
        run.code == 0 && run.stdout.contains("warn  tls") && run.stdout.contains(&told),
        "{run:#?}"
    );
}

#[test]
fn a_candidate_policy_that_is_not_there_is_told_of_with_its_own_option() {
    let run = Desk::new().aral(&["policy", "simulate", "--policy", "nope.toml"]);
    let parts = [
        "there is no configuration at `nope.toml`",
        "hint: name a file that is there: `--policy FILE`",
    ];
    run.assert("no candidate", 2, &parts);
}

#[test]
fn whoever_stands_where_no_configuration_is_is_told_so_first() {
    let desk = Desk::new();
    std::fs::rename(desk.path("aral.toml"), desk.path("other.toml")).expect("it is there");
    let none = "hint: there is no aral.toml here, and ARAL_CONFIG names no file: `aral --config FILE …`\nor else: ";
    for (verb, code, hint) in [
        (&["status"][..], 8, "`aral serve`"),
        (&["reload"], 8, "`aral serve`"),
        (&["policy", "show"], 8, "`aral serve`"),
        (&["top", "--once"], 8, "`aral serve`"),
        (&["serve"], 2, "[[serve.listener]]"),
        (&["audit", "verify"], 2, "--dir"),
        (&["memory", "list", "space"], 2, "[memory"),
    ] {
        desk.aral(verb).assert("no file", code, &[none, hint]);
        let named = desk.aral(&[&["--config", "other.toml"][..], verb].concat());
        named.assert("a file", code, &[hint]);
        assert!(!named.stderr.contains("there is no aral.toml"), "{named:#?}");
    }
    // What is named on the command line has nothing to do with it.
    for verb in [
        &["top", "--once", "--socket", "none.sock"][..],
        &["audit", "verify", "--dir", "none"],
    ] {
        let run = desk.aral(verb);
        assert!(
            run.code != 0 && !run.stderr.contains("there is no aral.toml"),
            "{run:#?}"
        );
    }
}

#[test]
fn manifests_and_configurations_are_found_where_they_are_named() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk.configure(|config| config["manifests"]["files"] = json!([]));
    let id = RUNTIME_ECHO_TOOL.id();
    desk.aral(&["invoke", &id])
        .assert("not registered", 6, &["there is no capability"]);
    desk.aral(&["invoke", &id, "--manifest", "manifest.json"])
        .assert("named", 0, &[]);

    std::fs::rename(desk.path("aral.toml"), desk.path("other.toml")).expect("it is there");
    let invoke = ["invoke", &id, "--manifest", "manifest.json"];
    desk.aral(&invoke).assert(
        "nothing is trusted by default",
        7,
        &["which is not trusted", "(signature.invalid)"],
    );
    desk.aral(&[&["--config", "other.toml"], &invoke[..]].concat())
        .assert("by option", 0, &[]);
    let with = |name: &str, value: &str| {
        let output = Command::new(program())
            .args(invoke)
            .current_dir(desk.root())
            .env(name, value)
            .output();
        let output = output.expect("the program starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(with("ARAL_CONFIG", "other.toml").0, Some(0));
    assert_eq!(with("ARAL_CONFIG", "nowhere.toml").0, Some(2));
    std::fs::rename(desk.path("other.toml"), desk.path("aral.toml")).expect("it is there");
    let (code, words) = with("ARAL_LOG", "info");
    assert!(code == Some(0) && words.contains("INFO"), "{words}");
    let (code, words) = with("ARAL_LOG", "loud");
    assert!(code == Some(2) && words.contains("is no log level"), "{words}");
    let verbose = desk.aral(&[&invoke[..], &["-v"]].concat());
    verbose.assert("verbose", 0, &["INFO"]);
    assert!(!desk.aral(&invoke).stderr.contains("INFO"));
}

#[test]
fn versions_stand_side_by_side_and_the_newest_that_is_asked_for_answers() {
    let desk = Desk::new();
    desk.component(&RUNTIME_ECHO_TOOL.bytes());
    desk.component(&RUNTIME_TOOL_ERROR.bytes());
    let entry = |guest, version: &str| {
        let mut entry = setup::entry(guest);
        entry["id"] = json!("versioned");
        entry["version"] = json!(version);
        entry
    };
    // The second is another component, which answers this input otherwise.
    desk.manifest(&[
        entry(RUNTIME_ECHO_TOOL, "1.0.0"),
        entry(RUNTIME_TOOL_ERROR, "2.0.0"),
        entry(RUNTIME_ECHO_TOOL, "1.3.0"),
        entry(RUNTIME_ECHO_TOOL, "2.1.0-beta.1"),
    ]);
    for (id, version, answer) in [
        ("versioned", "2.0.0", json!(7)),
        ("versioned@2", "2.0.0", json!(7)),
        ("versioned@^1", "1.3.0", json!("number")),
        ("versioned@1.0", "1.3.0", json!("number")),
        ("versioned@1.0.0", "1.0.0", json!("number")),
        ("versioned@=1.0.0", "1.0.0", json!("number")),
        ("versioned@<1.2", "1.0.0", json!("number")),
        ("versioned@>=1.2, <2", "1.3.0", json!("number")),
        ("versioned@=2.1.0-beta.1", "2.1.0-beta.1", json!("number")),
    ] {
        let found = object(&desk.aral(&["invoke", id, "--input", "\"number\"", "--json"]));
        assert_eq!(
            (&found["version"], &found["answer"]),
            (&json!(version), &answer),
            "{id}: {found}"
        );
    }
    desk.aral(&["invoke", "versioned@^3", "--input", "{}"]).assert(
        "no such version",
        6,
        &[
            "there is no version `^3` of `versioned`",
            "1.0.0",
            "1.3.0",
            "2.0.0",
            "(capability.unknown)",
        ],
    );
    desk.aral(&["invoke", "versioned@newest", "--input", "{}"]).assert(
        "no requirement",
        2,
        &["`newest` names no versions", "hint: write it like"],
    );
}

#[test]
fn what_is_signed_for_some_days_is_valid_for_those() {
    let desk = Desk::new();
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    let days = |more: &[&str]| {
        let signed = desk.aral(
            &[
                &["manifest", "sign", "manifest.json", "--key", "key.pem", "--json"],
                more,
            ]
            .concat(),
        );
        let object = object(&signed);
        let time = |name: &str| {
            object[name]
                .as_str()
                .and_then(|text| text.parse::<jiff::Timestamp>().ok())
                .expect("a time")
        };
        (
            time("expires_at").duration_since(time("issued_at")).as_hours() / 24,
            object["serial"].as_u64().expect("a number"),
        )
    };
    assert_eq!(days(&["--valid-days", "3", "--serial", "7"]), (3, 7));
    let (default, serial) = days(&[]);
    assert!(default == 90 && serial > 1_700_000_000, "{default} {serial}");
    for bad in [
        &["--valid-days", "0"][..],
        &["--valid-days", "4000"],
        &["--serial", "9007199254740992"],
    ] {
        let run = desk.aral(&[&["manifest", "sign", "manifest.json", "--key", "key.pem"], bad].concat());
        assert_eq!(run.code, 2, "{bad:?}: {run:#?}");
    }
}
