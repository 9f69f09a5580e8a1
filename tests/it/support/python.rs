//! Python, with the packages that `cargo xtask test --services` installs.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Where it is.
pub(crate) fn program() -> OsString {
    std::env::var_os("ARAL_SERVICE_PYTHON").expect("ARAL_SERVICE_PYTHON: run `cargo xtask test --services`")
}

/// What a script makes of this: JSON in, JSON out.
pub(crate) fn ask(script: &str, asked: &Value) -> Value {
    let mut child = Command::new(program())
        .args(["-I", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(asked.to_string().as_bytes()).expect("Python reads");
    drop(stdin);
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
