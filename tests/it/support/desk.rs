//! The command line as a shell would use it: a folder with configuration, keys, manifest and persona, and the program
//! `aral` beside this test binary.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use aral_contract::Digest;
use aral_contract::document::signed::Kind;
use serde_json::{Value, json};

use super::guests::Guest;
use super::setup;

/// The program. Cargo builds it with the rest of the workspace; a test that cannot find it fails.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let program = folder.join("aral");
    assert!(
        program.is_file(),
        "{} is not built: run `cargo xtask test`, or `cargo build --bin aral`",
        program.display()
    );
    program
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// With `--json`: the one object on standard output.
    pub(crate) fn object(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Fails the test unless the program ended with this code and said each of these parts on standard error.
    pub(crate) fn assert(&self, case: &str, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{case}: {self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{case}: `{part}` is not in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{case}: {self:#?}");
        // What failed leaves nothing that a script could take for an answer.
        assert!(code == 0 || self.stdout.is_empty(), "{case}: {self:#?}");
    }
}

/// The folder.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

/// A policy that allows everything, below this folder.
pub(crate) fn open_policy(root: &str) -> Value {
    json!({
        "permissions": ["*"],
        "capabilities": ["*"],
        "network": { "hosts": ["*"] },
        "file": { "read_roots": [root], "write_roots": [root] },
        "memory": { "namespaces": ["*"] },
        "secret": { "names": ["*"] },
        "agent": { "requests_per_minute": 1_u64 << 50, "requests_per_hour": 1_u64 << 50 },
    })
}

impl Desk {
    /// Everything is allowed and in order; a test breaks one thing.
    pub(crate) fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        setup::state(desk.folder.path());
        let key = setup::key();
        desk.write("key.pem", key.to_pem().expect("a key").as_bytes());
        desk.private("key.pem");
        desk.write("key.pub.pem", key.public().to_pem().expect("a key").as_bytes());
        desk.configure(|_| ());
        desk.persona(&setup::persona());
        desk
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let folder = self.folder.path().canonicalize().expect("the folder is there");
        folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn root(&self) -> String {
        self.path("").trim_end_matches('/').to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }

    /// Nobody else may read it.
    pub(crate) fn private(&self, name: &str) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.folder.path().join(name), mode).expect("a file of ours");
    }

    /// Writes `aral.toml`, changed as the test wants.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = json!({
            "state_dir": setup::STATE,
            "runtime": { "cache_dir": setup::CACHE },
            "audit": { "dir": "audit", "reserve_bytes": 65536 },
            "trust": [{ "public_key": "key.pub.pem", "kinds": ["manifest", "persona"] }],
            "manifests": { "files": ["manifest.json"] },
            "policy": open_policy(&self.root()),
        });
        change(&mut config);
        self.write("aral.toml", toml::to_string(&config).expect("TOML").as_bytes());
    }

    /// Changes what stands in `aral.toml`.
    pub(crate) fn configure_more(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        change(&mut config);
        self.replace_config(&config);
    }

    /// What stands in `aral.toml`.
    pub(crate) fn config(&self) -> Value {
        let text = std::fs::read_to_string(self.path("aral.toml")).expect("a file");
        toml::from_str(&text).expect("TOML")
    }

    /// Puts a new `aral.toml` in the place of the old one, so that nobody reads half of it.
    pub(crate) fn replace_config(&self, config: &Value) {
        self.write("next.toml", toml::to_string(config).expect("TOML").as_bytes());
        std::fs::rename(self.path("next.toml"), self.path("aral.toml")).expect("a file");
    }

    /// Signs and writes `persona.json`.
    pub(crate) fn persona(&self, body: &Value) {
        self.write(
            "persona.json",
            setup::sign(Kind::Persona, body, &setup::key()).to_string().as_bytes(),
        );
    }

    /// Signs and writes `manifest.json`.
    pub(crate) fn manifest(&self, entries: &[Value]) {
        let body = json!({ "capabilities": entries });
        self.write(
            "manifest.json",
            setup::sign(Kind::Manifest, &body, &setup::key()).to_string().as_bytes(),
        );
    }

    /// Puts a component where the manifest's reader looks for it, and returns its digest.
    pub(crate) fn component(&self, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        self.write(&format!("components/{digest}.wasm"), bytes);
        digest
    }

    /// A manifest with this one guest, changed as the test wants.
    pub(crate) fn guest(&self, guest: Guest, change: impl FnOnce(&mut Value)) {
        self.component(&guest.bytes());
        let mut entry = setup::entry(guest);
        change(&mut entry);
        self.manifest(&[entry]);
    }

    /// How it ends where nobody reads its standard output.
    pub(crate) fn unread(&self, arguments: &[&str]) -> Option<i32> {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(arguments);
        let status = command.stdout(writer).stderr(Stdio::null()).status();
        status.expect("the program starts").code()
    }

    /// The program here, in an environment that says nothing.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&program(), arguments)
    }

    /// The same with a copy of the program.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            // Whoever debugs the host tells its guests and callers no more than others do.
            .env("RUST_BACKTRACE", "1")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program here.
    pub(crate) fn aral(&self, arguments: &[&str]) -> Run {
        Run::of(&self.command(arguments).output().expect("the program starts"))
    }

    /// The same with something on standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // A program that refuses its arguments reads nothing.
        let _not_read = child.stdin.take().expect("a pipe").write_all(input);
        Run::of(&child.wait_with_output().expect("an end"))
    }

    /// The audit log as it lies on the disk.
    pub(crate) fn audit(&self) -> String {
        let files = std::fs::read_dir(self.folder.path().join("audit")).expect("a log");
        let texts = files.map(|file| std::fs::read(file.expect("a file").path()).expect("a file"));
        texts
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// `aral invoke ID --input INPUT`.
    pub(crate) fn invoke(&self, guest: Guest, input: &str) -> Run {
        self.aral(&["invoke", &guest.id(), "--input", input])
    }
}

/// A program. It ends with this, however the test does.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _gone = self.0.wait();
    }
}
