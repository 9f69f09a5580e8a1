//! `aral new` to `aral invoke`: what a newcomer types, with real builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::desk::{Desk, Run, program};

/// Where the example capabilities are built: what they need is compiled there already.
fn target() -> PathBuf {
    Path::new(env!("ARAL_CAPABILITIES")).join("../..")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository")
}

/// Runs a program that builds, in the environment of a developer.
fn build(desk: &Desk, program: &Path, arguments: &[&str]) -> Run {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(desk.root())
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_NET_OFFLINE", "true")
        // What cargo tells the tests is not meant for another package.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("the program starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Puts what `aral build` made where the `capability.toml` of the scaffold looks for it.
fn put_component(desk: &Desk, id: &str, report: &serde_json::Value) {
    let component = Path::new(report["component"].as_str().expect("a path"));
    let name = component.file_name().and_then(|name| name.to_str()).expect("a name");
    let bytes = std::fs::read(component).expect("a component");
    desk.write(&format!("{id}/target/wasm32-wasip2/release/{name}"), &bytes);
}

/// The steps of the README that `aral new` writes.
fn walk(id: &str, options: &[&str]) {
    let desk = Desk::new();
    desk.aral(&[&["new", id], options].concat())
        .assert("new", 0, &["hint: "]);
    desk.aral(&[&["new", id], options].concat())
        .assert("new, twice", 2, &["exists already"]);
    // The versions of the repository, so that nothing has to be downloaded.
    let lock = std::fs::read(repository().join("capabilities/Cargo.lock")).expect("a lock file");
    desk.write(&format!("{id}/Cargo.lock"), &lock);

    let manifest = format!("{id}/Cargo.toml");
    let tested = build(&desk, Path::new("cargo"), &["test", "--manifest-path", &manifest]);
    assert_eq!(tested.code, 0, "{tested:#?}");
    assert!(tested.stdout.contains("words_are_counted ... ok"), "{tested:#?}");

    let built = build(&desk, &program(), &["build", id, "--json"]);
    assert_eq!(built.code, 0, "{built:#?}");
    let report: serde_json::Value = serde_json::from_str(&built.stdout).expect("one object");
    assert_eq!(report["inspection"]["permissions"], serde_json::json!([]), "{report}");
    put_component(&desk, id, &report);

    desk.aral(&["manifest", "build", id]).assert("manifest build", 0, &[]);
    desk.aral(&["manifest", "sign", "manifest.json", "--key", "key.pem"])
        .assert("manifest sign", 0, &[]);
    let called = desk.aral(&["invoke", id, "--input", r#"{"text":"one two\nthree"}"#]);
    called.assert("invoke", 0, &[]);
    assert_eq!(called.stdout, "{\"words\":3}\n");
    desk.aral(&["invoke", id, "--input", r#"{"word":"one"}"#])
        .assert("its schema holds", 6, &["(input.invalid)"]);
}

#[test]
fn a_new_tool_builds_passes_its_test_and_runs() {
    let sdk = repository().join("guest-sdk");
    walk("scaffold-tool", &["--sdk", sdk.to_str().expect("UTF-8")]);
}

#[test]
fn a_new_command_builds_passes_its_test_and_runs() {
    walk("scaffold-command", &["--shape", "command"]);
}

#[test]
fn a_tool_that_panics_while_it_describes_itself_is_quoted() {
    let desk = Desk::new();
    let sdk = repository().join("guest-sdk");
    desk.aral(&["new", "scaffold-panic", "--sdk", sdk.to_str().expect("UTF-8")])
        .assert("new", 0, &[]);
    let lock = std::fs::read(repository().join("capabilities/Cargo.lock")).expect("a lock file");
    desk.write("scaffold-panic/Cargo.lock", &lock);
    let source = desk.path("scaffold-panic/src/lib.rs");
    let code = std::fs::read_to_string(&source).expect("a file");
    let field = "    text: String,\n";
    assert!(code.contains(field), "{code}");
    let code = code.replacen(field, &format!("    #[serde(default = \"text\")]\n{field}"), 1);
    let code = format!("{code}\nfn text() -> String {{\n    panic!(\"no default today\")\n}}\n");
    desk.write("scaffold-panic/src/lib.rs", code.as_bytes());
    let built = build(&desk, &program(), &["build", "scaffold-panic", "--json"]);
    assert_eq!(built.code, 0, "{built:#?}");
    let report = serde_json::from_str(&built.stdout).expect("one object");
    put_component(&desk, "scaffold-panic", &report);
    let described = desk.aral(&["manifest", "build", "scaffold-panic"]);
    assert_ne!(described.code, 0, "{described:#?}");
    for part in ["no default today", "while it described itself: the guest trapped"] {
        assert!(described.stderr.contains(part), "{described:#?}");
    }
}

#[test]
fn without_the_sdk_the_error_says_where_it_comes_from() {
    let desk = Desk::new();
    desk.aral(&["new", "lonely"]).assert(
        "no SDK around",
        2,
        &[
            "the guest SDK was not found",
            "hint: add `--sdk PATH/TO/aral/guest-sdk`",
        ],
    );
    desk.aral(&["new", "lonely", "--sdk", "."])
        .assert("not the SDK", 2, &["is not the guest SDK"]);
    assert!(!Path::new(&desk.path("lonely")).exists(), "nothing was written");
    desk.write("guest-sdk/Cargo.toml", b"[package]\nname = \"aral-guest\"\n");
    desk.aral(&["new", "found"]).assert("an SDK beside it", 0, &[]);
    let text = std::fs::read_to_string(desk.path("found/Cargo.toml")).expect("a file");
    assert!(text.contains(r#"aral-guest = { path = "../guest-sdk" }"#), "{text}");
    let again = desk.aral(&["new", "found"]);
    again.assert("twice", 2, &["found` exists already", "hint: choose another name"]);
    let sdk = desk.aral(&["new", "aral-guest"]);
    sdk.assert(
        "like the SDK",
        2,
        &["`aral-guest` is the name of the guest SDK", "hint: choose another name"],
    );
}

#[test]
fn build_says_what_is_missing() {
    let desk = Desk::new();
    desk.aral(&["build", "components"]).assert(
        "no package",
        2,
        &["there is no Cargo.toml in `components`", "hint: `aral new"],
    );
    desk.aral(&["new", "broken", "--shape", "command"])
        .assert("new", 0, &[]);
    desk.write("broken/src/main.rs", b"fn main() { this is not Rust }\n");
    std::fs::copy(
        repository().join("capabilities/Cargo.lock"),
        desk.path("broken/Cargo.lock"),
    )
    .expect("a lock file");
    let run = build(&desk, &program(), &["build", "broken", "--quiet"]);
    run.assert(
        "does not compile",
        2,
        &["expected one of", "error: cargo could not build the capability"],
    );
    desk.write(
        "broken/capability.toml",
        b"id = \"broken\"\nversion = \"1.0.0\"\nshape = \"tool\"\ncomponent = \"x.wasm\"\n",
    );
    desk.write("broken/src/main.rs", b"fn main() {}\n");
    let run = build(&desk, &program(), &["build", "broken"]);
    run.assert(
        "the other shape",
        7,
        &[
            "does not export `aral:capability/tool@1.0.0`",
            "hint: write in capability.toml: shape = \"command\"",
        ],
    );
}
